"""One sign-in at a time: the threads of a process that need the same one share
its outcome, and processes take turns. No lock crosses a fork.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from rolevault.errors import SignInTimeoutError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long one waits for another's sign-in, a person's typing included.
WAIT_SECONDS = 120.0


class ForkLock:
    """A reentrant lock that is free in a forked child, where the thread that held
    it does not exist.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.lock.release()


_locks: "WeakSet[ForkLock]" = WeakSet()


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.pilot = threading.get_ident()
        self.landed = threading.Event()
        self.result: T | None = None
        self.error: Exception | None = None
        self.abandoned = False


class Flights(Generic[T]):
    """The sign-ins under way in this process, by key.

    A failure is shared by those who were waiting for it, and by nobody later:
    the next call tries again.
    """

    def __init__(self) -> None:
        self._guard = ForkLock()
        self._flights: dict[Hashable, _Flight[T]] = {}
        _all_flights.add(self)

    def share(self, key: Hashable, purpose: str, call: Callable[[], T]) -> T:
        """What ``call()`` returns or raises, called by one thread for all that
        come while it runs.

        :raises SignInTimeoutError: it took more than two minutes, or it is this
            thread's own: a callback that needs what it is asked to help with.
        """
        until = time.monotonic() + WAIT_SECONDS
        while True:
            with self._guard:
                flight = self._flights.get(key)
                if flight is None:
                    mine = self._flights[key] = _Flight()
                    break
            if flight.pilot == threading.get_ident():
                raise waits_for_itself(purpose)
            logger.info("Waiting for another thread, which is signing in (%s).", purpose)
            if not flight.landed.wait(max(0.0, until - time.monotonic())):
                raise SignInTimeoutError(
                    purpose=purpose, holder="another thread", seconds=WAIT_SECONDS
                )
            if flight.error is not None:
                raise flight.error
            if not flight.abandoned:
                return flight.result  # type: ignore[return-value]  # set by the pilot
            # Ctrl-C is its thread's own affair: the next one flies.
        try:
            mine.result = call()
        except Exception as error:
            mine.error = error
            raise
        except BaseException:
            mine.abandoned = True
            raise
        finally:
            with self._guard:
                if self._flights.get(key) is mine:
                    del self._flights[key]
            mine.landed.set()
        return mine.result

    def forget(self) -> None:
        """In a forked child: the pilots are threads of the parent."""
        self._flights = {}


_all_flights: "WeakSet[Flights[Any]]" = WeakSet()


def waits_for_itself(purpose: str) -> SignInTimeoutError:
    """Instead of a deadlock."""
    holder = "itself (a callback needs what it helps to get)"
    return SignInTimeoutError(purpose=purpose, holder=holder, seconds=0)


def _after_fork() -> None:
    for lock in _locks:
        lock.lock = threading.RLock()
    for flights in _all_flights:
        flights.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
