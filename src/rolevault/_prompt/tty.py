"""The controlling terminal of a POSIX system, even where stdin and stdout are redirected.

However a prompt ends, the terminal gets its modes back. A prompt hides what the person types,
and without this care a signal or Ctrl-C would leave the shell without echo.
"""

import atexit
import contextlib
import fcntl
import os
import signal
import termios
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from types import FrameType

from rolevault._prompt.prompt_errors import InterruptedPromptError, NobodyThereError

#: How long a prompt waits for a prompt of another process at the same terminal, in seconds.
PATIENCE_SECONDS = 120.0

#: Signals that end or stop a process. A prompt in the main thread restores the modes first.
#: SIGINT is missing here, because Python turns it into ``KeyboardInterrupt``.
_SIGNALS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)


def open_terminal() -> FileIO:
    """The controlling terminal, for a process in its foreground. A process in the background
    would be stopped when it reads the terminal, with the locks that it holds.

    :raises NobodyThereError: there is no terminal, or this is a background job.
    """
    try:
        tty = FileIO("/dev/tty", "r+")
    except OSError:
        raise NobodyThereError("there is no terminal") from None
    try:
        _check_foreground(tty)
    except NobodyThereError:
        tty.close()
        raise
    return tty


def ask(prompt: str, hidden: bool) -> str:
    """The line that the person at the terminal types, without its newline.

    :raises NobodyThereError: there is no terminal, this process is not in its foreground, or
        the person closed the prompt.
    :raises InterruptedPromptError: the person pressed Ctrl-C, and this is not the main thread.
        In the main thread, Ctrl-C raises ``KeyboardInterrupt``.
    """
    # SIGTTIN and SIGTTOU stop a process that uses the terminal from the background. While a
    # thread blocks them, its read fails with EIO instead (POSIX, General Terminal Interface).
    with (
        open_terminal() as tty,
        _terminal_lock(),
        _blocked_signals(signal.SIGTTIN, signal.SIGTTOU),
    ):
        # The shell may have put the process into the background while it waited for the lock.
        _check_foreground(tty)
        terminal_prompt = _TerminalPrompt(tty, prompt.encode(errors="replace"), hidden)
        try:
            with terminal_prompt.shown():
                line = terminal_prompt.read_line()
        except InterruptedPromptError:
            _interrupt_process_group()
            raise
        except (OSError, termios.error):
            _check_foreground(tty)
            raise NobodyThereError("the terminal was closed") from None
    return os.fsdecode(line).rstrip("\r\n")


def _check_foreground(tty: FileIO) -> None:
    try:
        in_foreground = os.tcgetpgrp(tty.fileno()) == os.getpgrp()
    except OSError:
        raise NobodyThereError("the terminal was closed") from None
    if not in_foreground:
        raise NobodyThereError("this is a background job of its terminal")


def _is_in_foreground(tty: FileIO) -> bool:
    with contextlib.suppress(NobodyThereError):
        _check_foreground(tty)
        return True
    return False


class _TerminalPrompt:
    """One prompt on the terminal.

    The modes are restored after an exception, at a signal that ends or stops the process, and
    at the exit of the interpreter, which does not wait for a daemon thread. There is one gap.
    Python handles signals in the main thread only, so a signal that ends the process while
    another thread asks leaves the modes of the prompt.
    """

    def __init__(self, tty: FileIO, prompt: bytes, hidden: bool) -> None:
        self._tty = tty
        self._prompt = prompt
        self._is_main_thread = threading.current_thread() is threading.main_thread()
        self._modes_before = termios.tcgetattr(tty)
        self._modes = termios.tcgetattr(tty)
        # Another program may have left the terminal raw. Enter must end a line, and Ctrl-C
        # must interrupt.
        self._modes[0] |= termios.ICRNL
        self._modes[1] |= termios.OPOST
        self._modes[3] |= termios.ICANON | termios.ISIG | termios.ECHO | termios.ECHOE
        if hidden:
            self._modes[3] = self._modes[3] & ~termios.ECHO | termios.ECHONL
        self._interrupt = b"" if self._is_main_thread else self._let_ctrl_c_end_the_line()

    def _let_ctrl_c_end_the_line(self) -> bytes:
        """Have the terminal hand over Ctrl-C as a character; return that character.

        The case: a thread asks while the main thread waits at Python's ``>>>``. A SIGINT would
        interrupt ``>>>`` and not this prompt, which would then take the next line that the
        user types to Python.
        """
        characters = self._modes[6]
        interrupt: bytes = characters[termios.VINTR]
        characters[termios.VEOL] = interrupt
        characters[termios.VINTR] = bytes([os.fpathconf(self._tty.fileno(), "PC_VDISABLE")])
        return interrupt

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The prompt is on the terminal, and the terminal has the modes of the prompt."""
        handled: list[signal.Signals] = []
        atexit.register(self._restore_modes)
        try:
            if self._is_main_thread:
                for number in _SIGNALS:
                    # A signal that the application handles is left to the application.
                    if signal.getsignal(number) is signal.SIG_DFL:
                        signal.signal(number, self._on_signal)
                        handled.append(number)
            self._show()
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                self._tty.write(b"\n")
            raise
        finally:
            self._restore_modes()
            for number in handled:
                signal.signal(number, signal.SIG_DFL)
            atexit.unregister(self._restore_modes)

    def read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (key := self._tty.read(1)):
            if key == self._interrupt:
                raise InterruptedPromptError("it was interrupted")
            line += key
        if not line:
            raise NobodyThereError("the prompt was closed")
        return line

    def _show(self) -> None:
        # TCSAFLUSH discards what was typed before: it was not meant for this prompt.
        termios.tcsetattr(self._tty, termios.TCSAFLUSH, self._modes)
        self._tty.write(self._prompt)

    def _restore_modes(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            # In the background, the modes are those of the shell.
            if _is_in_foreground(self._tty):
                # TCSAFLUSH: half a passphrase must not reach the shell.
                termios.tcsetattr(self._tty, termios.TCSAFLUSH, self._modes_before)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._restore_modes()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        # Only SIGTSTP (Ctrl-Z) comes back: the shell has continued the job.
        signal.signal(number, self._on_signal)
        if _is_in_foreground(self._tty):
            self._show()


def _interrupt_process_group() -> None:
    """Send SIGINT to all processes in the foreground, as the terminal does for Ctrl-C.

    This thread blocks the signal until another thread has taken it. If this thread took it,
    the main thread would sleep on.
    """
    with _blocked_signals(signal.SIGINT):
        os.killpg(os.getpgrp(), signal.SIGINT)
        until = time.monotonic() + 1
        while signal.SIGINT in signal.sigpending() and time.monotonic() < until:
            time.sleep(0.001)


@contextlib.contextmanager
def _blocked_signals(*numbers: signal.Signals) -> Iterator[None]:
    """Block signals in this thread alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _terminal_lock() -> Iterator[None]:
    """Keep other processes from asking at this terminal, by a lock on its device.

    Prompts can still mix where the name of the device is unknown, or where the device belongs
    to another user (``su``).
    """
    flags = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            device = os.open(_device_name(), flags)
            stack.callback(os.close, device)
            _lock(device)
            # A child that was forked since then has the file open too, so that closing the
            # file here would not unlock it.
            stack.callback(fcntl.flock, device, fcntl.LOCK_UN)
        yield


def _lock(device: int) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise NobodyThereError("another process is asking at this terminal") from None
            time.sleep(0.05)


def _device_name() -> str:
    """The name of the terminal's device. ``/dev/tty`` does not serve, because all terminals
    share that file.
    """
    with contextlib.suppress(OSError):
        # Linux tells the device even where all three streams are redirected
        # (proc_pid_stat(5)).
        number = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4])
        if os.major(number) == 136:  # Unix98 pseudo-terminals
            return f"/dev/pts/{os.minor(number)}"
    return next((os.ttyname(stream) for stream in (2, 1, 0) if os.isatty(stream)), "")
