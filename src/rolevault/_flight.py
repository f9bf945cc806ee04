"""One sign-in at a time: the threads of a process that need the same one share
its outcome, and processes take turns.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from rolevault._forks import ForkLock
from rolevault.errors import SignInTimeoutError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long one waits for another's sign-in, a person's typing included.
WAIT_SECONDS = 120.0


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.pilot = threading.get_ident()
        self.lock = threading.Lock()  # held until it has ended, however that is
        self.result: T | None = None
        self.error: Exception | None = None
        self.arrived = False


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
        mine: _Flight[T] = _Flight()
        with mine.lock:
            while (flight := self._under_way(key, mine)) is not mine:
                if flight.pilot == threading.get_ident():
                    raise waits_for_itself(purpose)
                logger.info("Waiting for another thread, which is signing in (%s).", purpose)
                if not flight.lock.acquire(timeout=max(0.0, until - time.monotonic())):
                    raise SignInTimeoutError(
                        purpose=purpose, holder="another thread", seconds=WAIT_SECONDS
                    )
                flight.lock.release()
                if flight.error is not None:
                    raise flight.error
                if flight.arrived:
                    return flight.result  # type: ignore[return-value]  # set by the pilot
                # Ctrl-C is its thread's own affair: the next one flies.
            try:
                mine.result = call()
                mine.arrived = True
            except Exception as error:
                mine.error = error
                raise
            finally:
                with self._guard.lock:
                    if self._flights.get(key) is mine:
                        del self._flights[key]
            return mine.result

    def _under_way(self, key: Hashable, mine: _Flight[T]) -> _Flight[T]:
        with self._guard.lock:
            flight = self._flights.get(key)
            # Ctrl-C at a bad moment leaves one here that is over.
            if flight is None or not flight.lock.locked():
                flight = self._flights[key] = mine
            return flight

    def forget(self) -> None:
        """In a forked child: the pilots are threads of the parent."""
        self._flights = {}


_all_flights: "WeakSet[Flights[Any]]" = WeakSet()


def waits_for_itself(purpose: str) -> SignInTimeoutError:
    """Instead of a deadlock."""
    holder = "itself (a callback needs what it helps to get)"
    return SignInTimeoutError(purpose=purpose, holder=holder, seconds=0)


def _in_child() -> None:
    for each in _all_flights:
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
