"""Asking a person: at the controlling terminal, even where stdin and stdout are
redirected, or in a notebook; one prompt at a time, and never where nobody can
answer.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

#: How long a prompt waits for another one at the same terminal.
PATIENCE_SECONDS = 120.0

_one_prompt = threading.Lock()


def _after_fork() -> None:
    # A thread that does not exist in the child may have held it.
    global _one_prompt
    _one_prompt = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class NobodyThereError(Exception):
    """There is no one to ask; the text says why."""


def ask(prompt: str, *, hidden: bool) -> str:
    """One line from a person, without its newline.

    :param hidden: do not show what is typed.
    :raises NobodyThereError: no terminal, not in its foreground, a process that
        rolevault itself started, or the person closed the prompt.
    """
    if os.environ.get("ROLEVAULT_NESTED"):
        # The parent holds the terminal and waits for us: asking would deadlock.
        raise NobodyThereError("this process was started by rolevault itself")
    if not _one_prompt.acquire(timeout=PATIENCE_SECONDS):
        raise NobodyThereError("another prompt of this process is not answered")
    try:
        if _in_notebook():
            return _ask_notebook(prompt, hidden)
        if os.name == "posix":
            return _ask_posix(prompt, hidden)
        return _ask_windows(prompt, hidden)
    finally:
        _one_prompt.release()


def _in_notebook() -> bool:
    # Only a process that runs IPython can be a kernel: nothing is imported to find out.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _ask_notebook(prompt: str, hidden: bool) -> str:
    import builtins
    import getpass

    # ipykernel puts its own functions here, which ask in the browser.
    reader = getpass.getpass if hidden else builtins.input
    try:
        return reader(prompt)
    except EOFError:
        raise NobodyThereError("the prompt was closed") from None
    except Exception as error:
        # Defined in ipykernel, which need not be importable by that name.
        if type(error).__name__ != "StdinNotImplementedError":
            raise
        raise NobodyThereError("this notebook's frontend takes no input") from None


def _ask_posix(prompt: str, hidden: bool) -> str:
    import termios

    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise NobodyThereError("there is no terminal") from None
    with open(terminal, "r+b", buffering=0) as tty:
        # Reading from the background would stop this process while it holds a lock.
        if os.tcgetpgrp(terminal) != os.getpgrp():
            raise NobodyThereError("this is a background job of its terminal")
        with _alone_at_terminal():
            before = termios.tcgetattr(terminal)
            if hidden:
                silent = termios.tcgetattr(terminal)
                silent[3] &= ~termios.ECHO
                termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
            try:
                tty.write(prompt.encode(errors="replace"))
                line = tty.readline()
            finally:
                if hidden:
                    # Also after Ctrl-C: the shell must not stay silent.
                    termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
                    tty.write(b"\n")
    if not line:
        raise NobodyThereError("the prompt was closed")
    return os.fsdecode(line).rstrip("\r\n")


@contextlib.contextmanager
def _alone_at_terminal() -> Iterator[None]:
    """Hold the terminal against prompts of other processes: a lock on its device.

    ``/dev/tty`` itself is one device for all terminals, so the name is taken
    from a standard stream; where all three are redirected, prompts of two
    processes can interleave.
    """
    import fcntl

    name = next((os.ttyname(stream) for stream in (2, 1, 0) if os.isatty(stream)), None)
    if name is None:
        yield
        return
    device = os.open(name, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    reason = "another process is asking at this terminal"
                    raise NobodyThereError(reason) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(device)


def _ask_windows(prompt: str, hidden: bool) -> str:
    import getpass

    if not (sys.stdin and sys.stdin.isatty()):
        raise NobodyThereError("there is no terminal")
    try:
        if hidden:
            return getpass.getpass(prompt)
        print(prompt, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().rstrip("\r\n")
    except EOFError:
        raise NobodyThereError("the prompt was closed") from None
