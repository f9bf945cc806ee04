"""The controlling terminal of a POSIX system, even where stdin and stdout are redirected.

Ctrl-C, signals and job control leave the terminal as the shell knows it: a prompt that hides
what is typed must not leave a silent shell behind.
"""

import atexit
import contextlib
import fcntl
import math
import os
import signal
import termios
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from types import FrameType

from rolevault._prompt.nobody_there import NobodyThereError

#: How long, in seconds, a prompt waits for one of another process at the same terminal.
PATIENCE_SECONDS = 120.0

#: Signals that end or stop a process. A prompt in the main thread restores the terminal first.
_SIGNALS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP)

_interrupted_at = -math.inf


def interrupted_at() -> float:
    """When Ctrl-C last ended a prompt of a thread, on ``time.monotonic()``'s clock. Prompts
    that were already waiting at that time are cancelled as well.
    """
    return _interrupted_at


def open_terminal() -> FileIO:
    """The controlling terminal, for a process in its foreground. Reading the terminal from
    the background would stop the process, with the locks that it holds.

    :raises NobodyThereError: there is none, or this is a background job.
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
    """One line from the person at the terminal, without its newline.

    :raises NobodyThereError: no terminal, not in its foreground, or the person closed the
        prompt.
    """
    with open_terminal() as tty, _alone_at_terminal(), _without_job_control():
        # Once more: the process may have been put into the background while it waited for
        # another prompt.
        _check_foreground(tty)
        prompting = _Prompting(tty, prompt.encode(errors="replace"), hidden)
        try:
            with prompting.shown():
                line = prompting.read_line()
        except _InterruptedError:
            _interrupt_process_group()
            raise NobodyThereError("it was interrupted") from None
        except (OSError, termios.error):
            # EIO: the process was put into the background while it read, or the terminal
            # was closed.
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


class _InterruptedError(Exception):
    """Ctrl-C was typed at the prompt of a thread."""


class _Prompting:
    """One prompt on the terminal.

    However it ends, the modes of the terminal are restored: by an exception, at the exit of
    the interpreter (which does not wait for a daemon thread), or by a signal. Python handles
    signals in the main thread only, so a signal that ends the process restores nothing where
    another thread prompts: the shell then has no Ctrl-C, and no echo if the prompt was hidden.
    """

    def __init__(self, tty: FileIO, prompt: bytes, hidden: bool) -> None:
        self._tty = tty
        self._prompt = prompt
        self._is_main_thread = threading.current_thread() is threading.main_thread()
        self._before = termios.tcgetattr(tty)
        self._modes = termios.tcgetattr(tty)
        # Another program may have left the terminal raw. Enter must end a line, and Ctrl-C
        # must interrupt.
        self._modes[0] |= termios.ICRNL
        self._modes[1] |= termios.OPOST
        self._modes[3] |= termios.ICANON | termios.ISIG | termios.ECHO | termios.ECHOE
        if hidden:
            self._modes[3] = self._modes[3] & ~termios.ECHO | termios.ECHONL
        self._ends = [b"\n"]
        if not self._is_main_thread:
            self._ends.append(self._turn_ctrl_c_into_line_end())

    def _turn_ctrl_c_into_line_end(self) -> bytes:
        """At the prompt of a thread, have Ctrl-C end the line; return its character.

        The case is a thread's prompt in Python's interactive mode. Ctrl-C would reach the
        main thread alone, which lives on there, and this prompt would take what the user
        types to Python next.
        """
        characters = self._modes[6]
        interrupt: bytes = characters[termios.VINTR]
        characters[termios.VEOL] = interrupt
        characters[termios.VINTR] = bytes([os.fpathconf(self._tty.fileno(), "PC_VDISABLE")])
        return interrupt

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The prompt is on the terminal, and the terminal has the modes for it."""
        handled: list[signal.Signals] = []
        atexit.register(self._end)
        try:
            if self._is_main_thread:
                for number in _SIGNALS:
                    # Only signals that the application does not handle.
                    if signal.getsignal(number) is signal.SIG_DFL:
                        signal.signal(number, self._on_signal)
                        handled.append(number)
            self._begin()
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                self._tty.write(b"\n")
            raise
        finally:
            self._end()
            for number in handled:
                signal.signal(number, signal.SIG_DFL)
            atexit.unregister(self._end)

    def read_line(self) -> bytes:
        line = b""
        while not line.endswith(tuple(self._ends)) and (key := self._tty.read(1)):
            line += key
        if not line:
            raise NobodyThereError("the prompt was closed")
        if line.endswith(tuple(self._ends[1:])):
            raise _InterruptedError
        return line

    def _begin(self) -> None:
        # TCSAFLUSH: what was typed before the prompt was not meant for it.
        termios.tcsetattr(self._tty, termios.TCSAFLUSH, self._modes)
        self._tty.write(self._prompt)

    def _end(self) -> None:
        # TCSAFLUSH: half a passphrase must not reach the shell. In the background the modes
        # are the shell's.
        with contextlib.suppress(OSError, termios.error):
            if _is_in_foreground(self._tty):
                termios.tcsetattr(self._tty, termios.TCSAFLUSH, self._before)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._end()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        # The signal was Ctrl-Z, and now the job goes on.
        signal.signal(number, self._on_signal)
        if _is_in_foreground(self._tty):
            self._begin()


def _interrupt_process_group() -> None:
    """Send SIGINT to all processes in the foreground, as the terminal does for Ctrl-C. This
    thread must not take the signal, because that would not wake the main thread.
    """
    global _interrupted_at
    _interrupted_at = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.killpg(os.getpgrp(), signal.SIGINT)
    until = time.monotonic() + 1
    while signal.SIGINT in signal.sigpending() and time.monotonic() < until:
        time.sleep(0.001)


@contextlib.contextmanager
def _without_job_control() -> Iterator[None]:
    """Have a read in the background fail with EIO, instead of stopping a process that holds
    locks. The mask is the thread's own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _alone_at_terminal() -> Iterator[None]:
    """Hold the terminal against prompts of other processes, by a lock on its device. Where
    the device's name is unknown, or the device is another user's (``su``), prompts can
    interleave.
    """
    flags = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            device = os.open(_device_name(), flags)
            stack.callback(os.close, device)
            _lock(device)
            # Closing alone keeps the lock where a thread has forked since.
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
    """The name of the controlling terminal's device. ``/dev/tty`` is one file for all."""
    with contextlib.suppress(OSError):
        # Linux tells the device even where all three streams are redirected
        # (proc_pid_stat(5)).
        number = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4])
        if os.major(number) == 136:  # Unix98 pseudo-terminals
            return f"/dev/pts/{os.minor(number)}"
    return next((os.ttyname(stream) for stream in (2, 1, 0) if os.isatty(stream)), "")
