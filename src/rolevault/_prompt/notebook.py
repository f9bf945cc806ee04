"""Asking a person in a Jupyter notebook, whose kernel has no terminal. A prompt lives
no longer than the cell that it stands in.
"""

import builtins
import getpass
import sys
import threading
from typing import Any

from rolevault._prompt.nobody_there import NobodyThereError


def is_here() -> bool:
    """Whether this process is a notebook's kernel."""
    # Only a process that runs IPython can be a kernel: nothing is imported to find out.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class _CellEndedError(BaseException):
    """No ``Exception``: ipykernel logs these and goes on waiting."""


#: The last cell that ended with a prompt in it: ipykernel can be asked a moment longer.
_ended = ""


def ask(prompt: str, hidden: bool) -> str:
    """One line from whoever sits before the cell that is running.

    :raises NobodyThereError: no cell is, or its frontend takes no input.
    """
    if threading.current_thread() is threading.main_thread():
        return _ask(prompt, hidden)
    # An interrupt reaches the main thread alone, and a cell can end with a timeout. In
    # another thread ipykernel would wait on, take the answers to later prompts for its
    # own, and crash where the next prompt's thread reads beside it.
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
        # Run by our thread alone, at each step of ipykernel's loop, which looks for
        # an answer a hundred times a second and has no other way in.
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
    # While a cell runs, ipykernel puts its own functions here, which ask in the browser.
    if builtins.input.__module__ == "builtins":
        raise NobodyThereError("no cell of this notebook is running")
    try:
        return getpass.getpass(prompt) if hidden else input(prompt)
    except NotImplementedError:  # IPython's StdinNotImplementedError
        raise NobodyThereError("this notebook's frontend takes no input") from None
    except EOFError:
        raise NobodyThereError("the prompt was closed") from None
