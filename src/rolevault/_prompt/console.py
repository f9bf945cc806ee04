"""The console of Windows, even where stdin and stdout are redirected."""

import getpass
from io import FileIO

from rolevault._prompt.prompt_errors import NobodyThereError


def ask(prompt: str, hidden: bool) -> str:
    """The line that the person at the console types, without its newline.

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


def open_terminal() -> FileIO:
    """Nothing, because commands get no terminal on Windows.

    :raises NobodyThereError: always.
    """
    raise NobodyThereError("there is no terminal")
