"""Asking a person: in a notebook, at the controlling terminal, or at the console of Windows.

One thread of the process asks at a time, and no thread asks where nobody can answer.
"""

import math
import os
import sys
import time

from rolevault._concurrency.fork_lock import ForkLock
from rolevault._prompt import notebook
from rolevault._prompt.prompt_errors import InterruptedPromptError, NobodyThereError

if sys.platform == "win32":
    from rolevault._prompt import console as terminal
else:
    from rolevault._prompt import tty as terminal

open_terminal = terminal.open_terminal

#: How long a prompt waits for another prompt of this process, in seconds.
PATIENCE_SECONDS = 120.0

_prompt_lock = ForkLock()

#: When Ctrl-C last ended the prompt of a thread, as ``time.monotonic()`` counts.
_interrupted_at = -math.inf


def ask(prompt: str, *, hidden: bool) -> str:
    """The line that a person types, without its newline.

    :param hidden: do not show what the person types.
    :raises NobodyThereError: there is no terminal, this process is not in its foreground,
        rolevault itself started this process, or the person closed the prompt.
    """
    global _interrupted_at
    if os.environ.get("ROLEVAULT_NESTED"):
        # The parent holds the terminal and waits for this process: asking would deadlock.
        raise NobodyThereError("this process was started by rolevault itself")
    # The prompt can hold a text from STS or a path. Neither must steer the terminal.
    prompt = "".join(c if c.isprintable() or c == "\n" else "?" for c in prompt)
    began = time.monotonic()
    if not _prompt_lock.lock.acquire(timeout=PATIENCE_SECONDS):
        raise NobodyThereError("another prompt of this process is not answered")
    try:
        # One Ctrl-C ends all prompts: the prompt on the terminal, and those that waited for it.
        if began < _interrupted_at:
            raise NobodyThereError("it was interrupted")
        if notebook.is_here():
            return notebook.ask(prompt, hidden)
        return terminal.ask(prompt, hidden)
    except InterruptedPromptError:
        _interrupted_at = time.monotonic()
        raise
    finally:
        _prompt_lock.lock.release()
