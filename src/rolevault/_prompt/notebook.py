"""Asking a person in a Jupyter notebook, whose kernel has no terminal. A prompt ends at the
latest with its cell.
"""

import builtins
import getpass
import sys
import threading
from typing import Any

from rolevault._prompt.prompt_errors import NobodyThereError


def is_here() -> bool:
    """Whether this process is the kernel of a notebook."""
    # A kernel has imported IPython already, so it is enough to look for the module.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class _CellEndedError(BaseException):
    """The cell ended. ipykernel logs an ``Exception`` while it waits for an answer, and goes
    on waiting, so this error is a ``BaseException``.
    """


#: The message id of the last cell that ended during a prompt. After a cell has ended, ipykernel
#: still accepts its prompts for a moment.
_ended_cell = ""


def ask(prompt: str, hidden: bool) -> str:
    """The line that the person whose cell is running types.

    :raises NobodyThereError: no cell is running, the cell ended before an answer came, or the
        frontend takes no input.
    """
    if threading.current_thread() is threading.main_thread():
        return _ask(prompt, hidden)
    return _ask_until_cell_ends(prompt, hidden)


def _ask_until_cell_ends(prompt: str, hidden: bool) -> str:
    """Ask in a thread that is not the main one.

    The case: a user of s3fs interrupts a cell that waits for a code. s3fs, ``rolevault.aio``
    and thread pools ask in a thread of their own, but only the main thread is interrupted.
    ipykernel would go on waiting in this thread, would take the answer to a later prompt for
    the answer to this one, and would crash where both threads read at the same time.
    """
    shell = sys.modules["IPython"].get_ipython()
    cell_ended, prompt_ended = threading.Event(), threading.Event()

    def end_prompt() -> None:
        global _ended_cell
        message = shell.kernel.get_parent("shell")["header"]
        # IPython fires this event for the messages of widgets as well.
        if message["msg_type"] == "execute_request":
            _ended_cell = message["msg_id"]
            cell_ended.set()
            prompt_ended.wait(1)

    # A dirty trick: ipykernel offers no way to end its wait for an answer. Its loop looks for
    # an answer a hundred times a second, and Python calls the trace function at each line of
    # the loop, in this thread only. PyThreadState_SetAsyncExc would be no shorter, because it
    # needs a lock: the exception could arrive when the prompt has returned, in the code of the
    # caller. A debugger of this thread does not see the prompt.
    def trace(*_: object) -> Any:
        if cell_ended.is_set():
            raise _CellEndedError
        return trace

    trace_before = sys.gettrace()
    shell.events.register("post_execute", end_prompt)
    try:
        if shell.kernel.get_parent("shell")["header"]["msg_id"] == _ended_cell:
            raise _CellEndedError
        sys.settrace(trace)
        return _ask(prompt, hidden)
    except _CellEndedError:
        raise NobodyThereError("the cell that asked has ended") from None
    finally:
        sys.settrace(trace_before)
        prompt_ended.set()
        shell.events.unregister("post_execute", end_prompt)


def _ask(prompt: str, hidden: bool) -> str:
    # While a cell runs, ipykernel replaces ``input`` and ``getpass`` by functions that ask in
    # the frontend.
    if builtins.input.__module__ == "builtins":
        raise NobodyThereError("no cell of this notebook is running")
    try:
        return getpass.getpass(prompt) if hidden else input(prompt)
    except NotImplementedError:  # IPython's StdinNotImplementedError
        raise NobodyThereError("this notebook's frontend takes no input") from None
    except EOFError:
        raise NobodyThereError("the prompt was closed") from None
