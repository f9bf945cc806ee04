"""Asking a person: in a notebook, at the controlling terminal, or at the console of Windows.

One thread of the process asks at a time, and no thread asks where nobody can answer.
"""

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from io import FileIO

from rolevault._concurrency.fork_lock import ForkLock
from rolevault._prompt import notebook
from rolevault._prompt.prompt_errors import InterruptedPromptError, NobodyThereError, NotTextError

if sys.platform == "win32":
    from rolevault._prompt import console as terminal
else:
    from rolevault._prompt import tty as terminal

#: How long a prompt waits for another prompt of this process, in seconds.
PATIENCE_SECONDS = 120.0

_prompt_lock = ForkLock()

#: When Ctrl-C last ended the prompt of a thread, as ``time.monotonic()`` counts.
_interrupted_at = -math.inf

#: Why the current thread asks nobody, in its attribute ``reason``.
_silence = threading.local()


@contextlib.contextmanager
def nobody_asked(reason: str) -> Iterator[None]:
    """In the ``with`` block, this thread asks neither a person nor a callback of the user.

    :param reason: the text of the ``NobodyThereError``.
    """
    before = why_nobody_is_asked()
    _silence.reason = reason
    try:
        yield
    finally:
        _silence.reason = before


def why_nobody_is_asked() -> str | None:
    """The reason that ``nobody_asked`` was given, or None outside its block."""
    reason: str | None = getattr(_silence, "reason", None)
    return reason


def open_terminal() -> FileIO:
    """The controlling terminal, for a command that may ask the person there.

    :raises NobodyThereError: there is no terminal, this is a background job, or this thread
        asks nobody.
    """
    _check_asking()
    return terminal.open_terminal()


def _check_asking() -> None:
    if reason := why_nobody_is_asked():
        raise NobodyThereError(reason)


def ask(*lines: str, label: str, hidden: bool) -> str:
    """The line that a person types, without its newline.

    :param lines: what the person must read. Each one is shown as a line of its own, above the
        line on which the person types: a spinner wipes the line of the cursor again and again.
    :param label: what the person must type, in a few words.
    :param hidden: do not show what the person types.
    :raises NobodyThereError: there is no terminal, this process is not in its foreground,
        rolevault itself started this process, this thread asks nobody, or the person closed the
        prompt.
    :raises NotTextError: what the person typed is not text.
    """
    global _interrupted_at
    _check_asking()
    if os.environ.get("ROLEVAULT_NESTED"):
        # The parent holds the terminal and waits for this process: asking would deadlock.
        raise NobodyThereError("this process was started by rolevault itself")
    prompt = "".join(f"{_printable(line)}\n" for line in lines) + f"{_printable(label)}: "
    began = time.monotonic()
    if not _prompt_lock.lock.acquire(timeout=PATIENCE_SECONDS):
        raise NobodyThereError("another prompt of this process is not answered")
    try:
        # One Ctrl-C ends all prompts: the prompt on the terminal, and those that waited for it.
        if began < _interrupted_at:
            raise NobodyThereError("it was interrupted")
        host = notebook if notebook.is_here() else terminal
        answer: str = host.ask(prompt, hidden)
    except InterruptedPromptError:
        _interrupted_at = time.monotonic()
        raise
    finally:
        _prompt_lock.lock.release()
    # Bytes that the terminal's encoding does not know have become lone surrogates (PEP 383).
    # UnicodeEncodeError holds the answer, so the error is raised outside the handler.
    with contextlib.suppress(UnicodeEncodeError):
        answer.encode()
        return answer
    raise NotTextError


def _printable(text: str) -> str:
    """The text with a "?" for each character that steers a terminal. A path or an answer of
    STS can hold such characters; a newline in it would look like a line of rolevault.
    """
    return "".join(c if c.isprintable() else "?" for c in text)
