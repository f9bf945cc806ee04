"""Running a user's command that prints a secret: a passphrase or a code.

The command gets 30 seconds, and an environment without the passphrase. No shell runs it,
except for a profile's ``mfa_process``.
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
from rolevault._prompt.prompt_errors import NobodyThereError

TIMEOUT_SECONDS = 30.0
#: The longest output that is read, in bytes.
_OUTPUT_LIMIT = 64 * 1024


class CommandFailedError(Exception):
    """The command gave nothing. The text says why, and quotes the command's stderr."""


def split(command: str) -> list[str]:
    """The words of a command line, as the system's shell would split the line.

    :raises CommandFailedError: the line cannot be split: a quote is not closed, for example.
    """
    if os.name == "posix":
        try:
            return shlex.split(command)
        except ValueError as error:
            raise CommandFailedError(f"it cannot be read as a command line: {error}") from None
    # shlex would remove the backslashes of Windows paths.
    words = re.findall(r'"([^"]*)"|(\S+)', command)
    return [quoted or plain for quoted, plain in words]


def environment() -> dict[str, str]:
    """The environment of a command: without the passphrase, and with the mark that
    rolevault must not ask a person there.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ROLEVAULT_PASSPHRASE")}
    return {**inherited, "ROLEVAULT_NESTED": "1"}


def run(argv: Sequence[str], *, shell: bool = False) -> bytes:
    """The bytes that the command prints on its stdout.

    In the foreground of a terminal, the command reads the terminal, and its stderr is shown
    there at once. The case: the tool of a hardware key asks for a touch. Elsewhere the stdin
    of the command is empty.

    :param shell: have the shell run ``argv[0]``.
    :raises CommandFailedError: the command was not found, failed, printed nothing or too much,
        or took more than 30 s.
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
        # Another thread starts the command, because Ctrl-C reaches only the main thread. In
        # Popen(), a KeyboardInterrupt could lose the id of a command that runs already.
        worker = threading.Thread(target=work)
        try:
            worker.start()
            while not outcome.done():
                wait([outcome], 0.1)  # on Windows, Ctrl-C does not end a wait
            return outcome.result()
        finally:
            stop.set()
            with contextlib.suppress(RuntimeError):  # the thread was not started
                worker.join()


def _output(
    argv: Sequence[str], shell: bool, terminal: FileIO | None, stop: threading.Event
) -> bytes:
    try:
        process = subprocess.Popen(  # noqa: S603  the user's own command
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
    """Reads one pipe of the command in a thread, so that the command never waits for a reader.

    ``Popen.communicate()`` does not serve. It waits for a daemon that the command started, for
    as long as the daemon holds the pipe open, and it keeps an endless output in memory.

    :param limited: too much output ends the command. Otherwise only the end of it is kept.
    :param shown_on: the terminal that shows the output at once.
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
        # finish() can close the pipe, and the terminal can be closed.
        with contextlib.suppress(OSError, ValueError):
            while not self.overflowed and (chunk := self._pipe.read(4096)):
                self.data += chunk
                if self._limited:
                    self.overflowed = len(self.data) > _OUTPUT_LIMIT
                else:
                    del self.data[:-_OUTPUT_LIMIT]
                if self._shown_on is not None:
                    self._shown_on.write(chunk)
        # A command that goes on printing is ended by SIGPIPE.
        self._pipe.close()

    def finish(self) -> None:
        """Read what is left in the pipe after the command's end. A daemon can hold the pipe
        open, and is waited for one second at most.
        """
        self.join(1)
        self._pipe.close()

    def said(self) -> str:
        """The end of the output, as the end of a sentence."""
        text = self.data.decode(errors="replace").strip()[-500:]
        return f" and said: {text}" if text else ""


def _kill(pid: int) -> None:
    """Kill the command and the processes that it started, which would go on reading the
    terminal. Where there is no ``/proc``, only the command is killed.
    """
    if os.name != "posix":
        os.kill(pid, signal.SIGTERM)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # A stopped process starts no other processes. It does not collect its children either,
        # so their ids are not given to new processes.
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
