"""Asking a person in a Jupyter notebook, whose kernel has no terminal. A prompt ends at the
latest with its cell.
"""

import builtins
import getpass
import sys
import threading
from typing import Any

from rolevault._prompt.nobody_there import NobodyThereError


def is_here() -> bool:
    """Whether this process is a notebook's kernel."""
    # A kernel runs IPython, so nothing needs to be imported to find out.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class _CellEndedError(BaseException):
    """Not an ``Exception``: ipykernel would log it and go on waiting."""


#: The last cell that ended with a prompt in it. ipykernel takes prompts for a moment longer.
_ended = ""


def ask(prompt: str, hidden: bool) -> str:
    """One line from the person whose cell is running.

    :raises NobodyThereError: no cell is running, or its frontend takes no input.
    """
    if threading.current_thread() is threading.main_thread():
        return _ask(prompt, hidden)
    # The case is a prompt in another thread: of rolevault.aio and s3fs, always, and of a
    # ThreadPool. An interrupt of the cell reaches the main thread alone, and a cell can end
    # with a time-out. ipykernel would wait on in this thread, take the answers to later
    # prompts for this one's, and crash where the thread of the next prompt reads too.
    shell = sys.modules["IPython"].get_ipython()
    cell_ended, prompt_ended = threading.Event(), threading.Event()

    def end() -> None:
        global _ended
        message = shell.kernel.get_parent("shell")["header"]
        # The event follows a widget's messages, too.
        if message["msg_type"] == "execute_request":
            _ended = message["msg_id"]
            cell_ended.set()
            prompt_ended.wait(1)

    def trace(*_: object) -> Any:
        # A trace function, because ipykernel's loop has no other way in: it looks for an
        # answer a hundred times a second, and each of its steps comes here, in this thread
        # alone. An exception by PyThreadState_SetAsyncExc could arrive too late, when this
        # function has returned, in code that holds locks.
        if cell_ended.is_set():
            raise _CellEndedError
        return trace

    before = sys.gettrace()
    shell.events.register("post_execute", end)
    try:
        if shell.kernel.get_parent("shell")["header"]["msg_id"] == _ended:
            raise _CellEndedError
        sys.settrace(trace)
        return _ask(prompt, hidden)
    except _CellEndedError:
        raise NobodyThereError("the cell that asked has ended") from None
    finally:
        sys.settrace(before)
        prompt_ended.set()
        shell.events.unregister("post_execute", end)


def _ask(prompt: str, hidden: bool) -> str:
    # While a cell runs, ipykernel replaces these functions by its own, which ask in the
    # browser.
    if builtins.input.__module__ == "builtins":
        raise NobodyThereError("no cell of this notebook is running")
    try:
        return getpass.getpass(prompt) if hidden else input(prompt)
    except NotImplementedError:  # IPython's StdinNotImplementedError
        raise NobodyThereError("this notebook's frontend takes no input") from None
    except EOFError:
        raise NobodyThereError("the prompt was closed") from None
