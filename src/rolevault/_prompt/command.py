"""Running a user's command that prints a secret: a passphrase or a code.

The command gets no shell, a limited time, and an environment without the passphrase.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from io import FileIO
from pathlib import Path
from typing import IO

from rolevault._prompt import person
from rolevault._prompt.nobody_there import NobodyThereError

TIMEOUT_SECONDS = 30.0
_OUTPUT_LIMIT = 64 * 1024


class CommandFailedError(Exception):
    """The command gave nothing. The text says why, with its stderr."""


def split(command: str) -> list[str]:
    """The words of a command line, as the system's shell would split it.

    :raises CommandFailedError: it is no command line: a quote is open, for example.
    """
    if os.name == "posix":
        try:
            return shlex.split(command)
        except ValueError as error:
            raise CommandFailedError(f"it cannot be read as a command line: {error}") from None
    # shlex eats the backslashes of Windows paths.
    words = re.findall(r'"([^"]*)"|(\S+)', command)
    return [quoted or plain for quoted, plain in words]


def environment() -> dict[str, str]:
    """What children inherit: no passphrase, and the mark that they must not ask a person."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ROLEVAULT_PASSPHRASE")}
    return {**inherited, "ROLEVAULT_NESTED": "1"}


def run(argv: Sequence[str], *, shell: bool = False) -> bytes:
    """What the command prints on its standard output.

    In the foreground of a terminal, the terminal is its stdin, and its stderr is shown there
    at once: the tool of a hardware key asks for a touch. Elsewhere its stdin is empty.

    :raises CommandFailedError: not found, failed, silent, or slower than 30 s.
    """
    if not argv:
        raise CommandFailedError("it is empty")
    outcome: Future[bytes] = Future()
    stop = threading.Event()

    def work() -> None:
        try:
            outcome.set_result(_output(argv, shell, terminal, stop))
        except BaseException as error:  # noqa: BLE001  raised again by result()
            outcome.set_exception(error)

    with contextlib.ExitStack() as stack:
        terminal = None
        with contextlib.suppress(NobodyThereError):
            terminal = stack.enter_context(person.open_terminal())
        # The command is started in a thread of its own, because Ctrl-C reaches the main
        # thread alone. Inside Popen() it would lose the id of a command that already runs.
        worker = threading.Thread(target=work)
        try:
            worker.start()
            while not outcome.done():
                wait([outcome], 0.1)  # on Windows, Ctrl-C is noticed only between two waits
            return outcome.result()
        finally:
            stop.set()
            with contextlib.suppress(RuntimeError):  # the thread was not started
                worker.join()


def _output(
    argv: Sequence[str], shell: bool, terminal: FileIO | None, stop: threading.Event
) -> bytes:
    try:
        process = subprocess.Popen(  # noqa: S603  the user's own, from their own settings
            argv[0] if shell else list(argv),
            shell=shell,  # only a profile's mfa_process, which aws-vault runs this way
            stdin=terminal or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment(),
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandFailedError(f"it cannot be started: {reason}") from None
    output = _Reader(process.stdout, limited=True)
    errors = _Reader(process.stderr, shown_on=terminal)
    until = time.monotonic() + TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < until and not stop.wait(0.01):
        pass
    late = process.returncode is None
    if late:
        _kill(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
    output.finish()
    errors.finish()
    if late:
        raise CommandFailedError(f"it did not answer within {TIMEOUT_SECONDS:g} s" + errors.said())
    if output.overflowed:
        raise CommandFailedError("it printed too much")
    if process.returncode:
        raise CommandFailedError(f"it ended with {_status(process.returncode)}" + errors.said())
    if not output.data:
        raise CommandFailedError("it printed nothing" + errors.said())
    return bytes(output.data)


class _Reader(threading.Thread):
    """Reads one pipe of the command, so that the command never waits for a reader.

    A thread and not ``communicate()``, which waits for a daemon that the command has started
    and that holds the pipe open, and which has no limit.

    :param limited: too much output ends the command; otherwise only the end is kept.
    :param shown_on: the terminal on which the output is shown at once.
    """

    def __init__(
        self, pipe: IO[bytes] | None, *, limited: bool = False, shown_on: FileIO | None = None
    ) -> None:
        super().__init__(daemon=True)
        assert pipe is not None  # noqa: S101  Popen was asked for it
        self.data = bytearray()
        self.overflowed = False
        self._limited = limited
        self._pipe = pipe
        self._shown_on = shown_on
        self.start()

    def run(self) -> None:
        # The pipe can be closed by finish(), and the terminal by its end.
        with contextlib.suppress(OSError, ValueError):
            while not self.overflowed and (chunk := self._pipe.read(4096)):
                self.data += chunk
                if self._limited:
                    self.overflowed = len(self.data) > _OUTPUT_LIMIT
                else:
                    del self.data[:-_OUTPUT_LIMIT]
                if self._shown_on is not None:
                    self._shown_on.write(chunk)
        # SIGPIPE ends a command that prints without end.
        self._pipe.close()

    def finish(self) -> None:
        """Read the rest: all that the command printed is in the pipe. A daemon that holds the
        pipe open is not waited for.
        """
        self.join(1)
        self._pipe.close()

    def said(self) -> str:
        text = self.data.decode(errors="replace").strip()[-500:]
        return f" and said: {text}" if text else ""


def _kill(pid: int) -> None:
    """End the command and the processes that it started, which would go on reading the
    terminal. Where there is no ``/proc``, only the command is ended.
    """
    if os.name != "posix":
        os.kill(pid, signal.SIGTERM)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # A stopped process starts no others, and the ids of its children are not reused.
        os.kill(pid, signal.SIGSTOP)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    _kill(int(child))
        os.kill(pid, signal.SIGKILL)


def _status(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"status {code}"
