"""Asking a person: in a notebook, at the controlling terminal even where stdin and stdout
are redirected, or at the console of Windows. One prompt at a time, and never where nobody
can answer.
"""

import os
import sys
import time

from rolevault._concurrency.fork_lock import ForkLock
from rolevault._prompt import notebook
from rolevault._prompt.nobody_there import NobodyThereError

if sys.platform == "win32":
    from rolevault._prompt import console as terminal
else:
    from rolevault._prompt import tty as terminal

open_terminal = terminal.open_terminal

#: How long, in seconds, a prompt waits for another one of this process.
PATIENCE_SECONDS = 120.0

_prompt_lock = ForkLock()


def ask(prompt: str, *, hidden: bool) -> str:
    """One line from a person, without its newline.

    :param hidden: do not show what is typed.
    :raises NobodyThereError: no terminal, not in its foreground, a process that
        rolevault itself started, or the person closed the prompt.
    """
    if os.environ.get("ROLEVAULT_NESTED"):
        # The parent holds the terminal and waits for this process: asking would deadlock.
        raise NobodyThereError("this process was started by rolevault itself")
    # A text from STS, or a path, must not steer the terminal.
    prompt = "".join(c if c.isprintable() or c == "\n" else "?" for c in prompt)
    began = time.monotonic()
    if not _prompt_lock.lock.acquire(timeout=PATIENCE_SECONDS):
        raise NobodyThereError("another prompt of this process is not answered")
    try:
        if began < terminal.interrupted_at():
            raise NobodyThereError("it was interrupted")
        if notebook.is_here():
            return notebook.ask(prompt, hidden)
        return terminal.ask(prompt, hidden)
    finally:
        _prompt_lock.lock.release()
