"""Single flight: threads of a process that need the same work share one run of it.

The name comes from Go's ``golang.org/x/sync/singleflight``.

A ``concurrent.futures.Future`` would be shorter, but Ctrl-C can interrupt the thread that
does the work between any two instructions. The other threads would then wait for a result
that nobody sets. Here each call holds a lock while it runs, and the ``with`` statement
releases that lock however the call ends.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from rolevault._concurrency.fork_lock import ForkLock
from rolevault.errors import SignInTimeoutError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a thread or a process waits for another's sign-in, a person's typing included.
WAIT_SECONDS = 120.0


class _Call(Generic[T]):
    """One run of the work, and its outcome."""

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.lock = threading.Lock()  # locked until the run has ended
        self.result: T | None = None
        self.error: Exception | None = None
        self.succeeded = False


class SingleFlight(Generic[T]):
    """The calls that run in this process, by key.

    Threads that wait for a call get its result or its error. A call that begins later does
    the work again.
    """

    def __init__(self) -> None:
        self._state_lock = ForkLock()
        self._calls: dict[Hashable, _Call[T]] = {}
        _all.add(self)

    def run(self, key: Hashable, purpose: str, work: Callable[[], T]) -> T:
        """Return what ``work()`` returns, or raise what it raises. While one thread runs
        ``work()``, the other threads that call with an equal ``key`` wait for its outcome.

        :param purpose: what the work is for, as messages say it.
        :raises SignInTimeoutError: another thread's run took more than two minutes, or this
            thread would wait for itself: a callback needs the sign-in that calls it.
        """
        until = time.monotonic() + WAIT_SECONDS
        mine: _Call[T] = _Call()
        with mine.lock:
            while (current := self._current(key, mine)) is not mine:
                if current.owner == threading.get_ident():
                    raise deadlock_error(purpose)
                logger.info("Waiting for another thread, which is signing in (%s).", purpose)
                if not current.lock.acquire(timeout=max(0.0, until - time.monotonic())):
                    raise SignInTimeoutError(
                        purpose=purpose, holder="another thread", seconds=WAIT_SECONDS
                    )
                current.lock.release()
                if current.error is not None:
                    raise current.error
                if current.succeeded:
                    return current.result  # type: ignore[return-value]  # set by its owner
                # Ctrl-C ended the owner's run. Ctrl-C is for the owner alone, so try again.
            try:
                mine.result = work()
                mine.succeeded = True
            except Exception as error:
                mine.error = error
                raise
            finally:
                with self._state_lock.lock:
                    # A child that work() has forked has no calls yet.
                    self._calls.pop(key, None)
            return mine.result

    def _current(self, key: Hashable, mine: _Call[T]) -> _Call[T]:
        """The call that runs for ``key``. If there is none, ``mine`` becomes that call."""
        with self._state_lock.lock:
            call = self._calls.get(key)
            # A call that Ctrl-C ended can still be here, with its lock released.
            if call is None or not call.lock.locked():
                call = self._calls[key] = mine
            return call

    def forget(self) -> None:
        """Forget all calls in a forked child: the threads that run them are the parent's."""
        self._calls = {}


_all: "WeakSet[SingleFlight[Any]]" = WeakSet()


def deadlock_error(purpose: str) -> SignInTimeoutError:
    """The error for a thread that would wait for itself."""
    holder = "itself (a callback needs what it helps to get)"
    return SignInTimeoutError(purpose=purpose, holder=holder, seconds=0)


def _after_fork_in_child() -> None:
    for each in _all:
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
