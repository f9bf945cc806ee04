"""The console of Windows, even where stdin and stdout are redirected."""

import getpass
import math
from io import FileIO

from rolevault._prompt.nobody_there import NobodyThereError


def ask(prompt: str, hidden: bool) -> str:
    """One line from the person at the console, without its newline.

    :raises NobodyThereError: there is no console, or the person closed the prompt.
    """
    try:
        with open("CONIN$") as keyboard, open("CONOUT$", "w") as screen:
            if hidden:
                return getpass.getpass(prompt)
            print(prompt, end="", file=screen, flush=True)
            line = keyboard.readline()
    except OSError:
        raise NobodyThereError("there is no terminal") from None
    if not line:
        raise NobodyThereError("the prompt was closed")
    return line.rstrip("\r\n")


def interrupted_at() -> float:
    """Ctrl-C at a prompt raises ``KeyboardInterrupt`` here: no prompt is cancelled."""
    return -math.inf


def open_terminal() -> FileIO:
    """Commands get no terminal on Windows.

    :raises NobodyThereError: always.
    """
    raise NobodyThereError("there is no terminal")
