"""Blocking calls for asyncio tasks: each runs in a thread, and tasks that need the same call share
one run of it.
"""

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from rolevault._concurrency import single_flight
from rolevault.errors import SignInTimeoutError, UnsupportedPlatformError

T = TypeVar("T")


def run_in_thread(call: Callable[[], T]) -> "Future[T]":
    """Run ``call`` in a new thread; return its future.

    The event loop's executor would not do. Its few threads also resolve host names, and a person
    may type for minutes. The thread is a daemon, so that a program can end although nobody
    answers its prompt.
    """
    future: Future[T] = Future()
    # From here on the future cannot be cancelled: a cancelled task leaves it to the other tasks.
    future.set_running_or_notify_cancel()
    # A prompt in this thread belongs to the cell whose task has called: ipykernel keeps the
    # parent message of a cell in a context variable.
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(call)
        except StopIteration as error:
            # An asyncio future refuses StopIteration (PEP 479), and its task would wait for ever.
            stopped = RuntimeError("a callback raised StopIteration")
            stopped.__cause__ = error
            future.set_exception(stopped)
        except BaseException as error:  # noqa: BLE001  the waiting tasks raise it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="rolevault", daemon=True).start()
    return future


def _check_asyncio() -> None:
    """Check that asyncio runs the task, before anybody is asked.

    :raises UnsupportedPlatformError: another event loop runs it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UnsupportedPlatformError(
            feature="rolevault.aio",
            reason="no asyncio event loop runs this task",
            remedy="Run it under asyncio: trio is not supported.",
        ) from None


class SharedCall(Generic[T]):
    """A call that runs in a thread. Tasks that need it while it runs wait for the same thread,
    whichever event loop they belong to.

    :param purpose: what the call is for, for the message of ``SignInTimeoutError``.
    """

    def __init__(self, call: Callable[[], T], purpose: str) -> None:
        self._call = call
        self._purpose = purpose
        self._running: Future[T] | None = None
        self._pid = 0

    async def __call__(self) -> T:
        """Return what the call returns, or raise what it raises.

        :raises UnsupportedPlatformError: the event loop is not asyncio's.
        :raises SignInTimeoutError: another task's call took more than ``WAIT_SECONDS``.
        """
        _check_asyncio()
        running = self._running
        limit: float | None = single_flight.WAIT_SECONDS
        # A forked child does not have the parent's thread. There is no lock here: if two loops
        # start a thread each, ``single_flight`` lets the two threads share one sign-in.
        if running is None or running.done() or self._pid != os.getpid():
            self._pid = os.getpid()
            running = self._running = run_in_thread(self._call)
            limit = None  # the task that causes a prompt waits for as long as the person takes
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), limit)
        except asyncio.TimeoutError:
            if running.done():
                return running.result()  # it has just ended, or raised a TimeoutError itself
            raise SignInTimeoutError(
                purpose=self._purpose, holder="another task", seconds=single_flight.WAIT_SECONDS
            ) from None
        finally:
            if running.done() and self._running is running:
                self._running = None
