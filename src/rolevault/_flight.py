"""One sign-in at a time: the threads of a process that need the same one share
its outcome, and processes take turns.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from rolevault.errors import SignInTimeoutError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long one waits for another's sign-in, a person's typing included.
WAIT_SECONDS = 120.0


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
        self._after_fork()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # The pilots are threads of the parent.
        self._guard = threading.Lock()
        self._flights: dict[Hashable, _Flight[T]] = {}

    def share(self, key: Hashable, purpose: str, call: Callable[[], T]) -> T:
        """What ``call()`` returns or raises, called by one thread for all that
        come while it runs.

        :raises SignInTimeoutError: it took more than two minutes.
        """
        until = time.monotonic() + WAIT_SECONDS
        while True:
            with self._guard:
                flight = self._flights.get(key)
                if flight is None:
                    mine = self._flights[key] = _Flight()
                    break
            if flight.pilot == threading.get_ident():
                # A callback that needs the credentials it is asked to help with.
                raise SignInTimeoutError(
                    purpose=purpose, holder="itself: a callback needs these credentials", seconds=0
                )
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
