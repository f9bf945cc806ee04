"""The controlling terminal of a POSIX system, even where stdin and stdout are redirected.

Ctrl-C, signals and job control leave the terminal as the shell knows it: a prompt that
hides what is typed must not leave a silent shell behind.
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

_interrupted_at = -math.inf


def interrupted_at() -> float:
    """When Ctrl-C last ended a prompt of a thread, on ``time.monotonic()``'s clock. Prompts
    that were already waiting at that time are cancelled as well.
    """
    return _interrupted_at


def open_terminal() -> FileIO:
    """The controlling terminal, for a process in its foreground. Reading it from
    the background would stop the process, with the locks it holds.

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


def _check_foreground(tty: FileIO) -> None:
    try:
        in_foreground = os.tcgetpgrp(tty.fileno()) == os.getpgrp()
    except OSError:
        raise NobodyThereError("the terminal was closed") from None
    if not in_foreground:
        raise NobodyThereError("this is a background job of its terminal")


def _in_foreground(tty: FileIO) -> bool:
    with contextlib.suppress(NobodyThereError):
        _check_foreground(tty)
        return True
    return False


def ask(prompt: str, hidden: bool) -> str:
    """One line from the person at the terminal, without its newline.

    :raises NobodyThereError: no terminal, not in its foreground, or the person closed
        the prompt.
    """
    with open_terminal() as tty, _alone_at_terminal(), _unstoppable():
        # Again: it may have been put there while another prompt was answered.
        _check_foreground(tty)
        try:
            with _prompting(tty, prompt.encode(errors="replace"), hidden) as interrupt:
                line = b""
                while not line.endswith((b"\n", interrupt)) and (key := tty.read(1)):
                    line += key
                if not line:
                    raise NobodyThereError("the prompt was closed")
                if line.endswith(interrupt) and not line.endswith(b"\n"):
                    raise _InterruptedError
        except _InterruptedError:
            _interrupt_others()
            raise NobodyThereError("it was interrupted") from None
        except (OSError, termios.error):
            # EIO: put into the background while it read, or closed.
            _check_foreground(tty)
            raise NobodyThereError("the terminal was closed") from None
    return os.fsdecode(line).rstrip("\r\n")


@contextlib.contextmanager
def _unstoppable() -> Iterator[None]:
    """Reading in the background fails with EIO here, instead of stopping a
    process that holds locks. Masks are a thread's own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _InterruptedError(Exception):
    pass


def _interrupt_others() -> None:
    """What the terminal would have done. Taken by this thread, the signal would not
    wake the main one.
    """
    global _interrupted_at
    _interrupted_at = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.killpg(os.getpgrp(), signal.SIGINT)
    until = time.monotonic() + 1
    while signal.SIGINT in signal.sigpending() and time.monotonic() < until:
        time.sleep(0.001)


@contextlib.contextmanager
def _prompting(tty: FileIO, prompt: bytes, hidden: bool) -> Iterator[bytes]:
    """The terminal in the modes that a prompt needs, the prompt on it; gives what
    ends its line beside Enter. However it ends, the shell is not left silent: by an
    exception, at the interpreter's exit (which does not wait for a daemon thread),
    or by a signal. Signals can be caught in the main thread only: one that ends the
    process leaves another thread's prompt without Ctrl-C, a hidden one without echo.
    """
    before = termios.tcgetattr(tty)
    modes = termios.tcgetattr(tty)
    # Another program may have left it raw: Enter must end a line, Ctrl-C interrupt.
    modes[0] |= termios.ICRNL
    modes[1] |= termios.OPOST
    modes[3] |= termios.ICANON | termios.ISIG | termios.ECHO | termios.ECHOE
    if hidden:
        modes[3] = modes[3] & ~termios.ECHO | termios.ECHONL
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread:
        # Ctrl-C would reach the main thread alone. That can live on (at Python's own
        # prompt), and we would take what is typed to it.
        modes[6][termios.VEOL] = modes[6][termios.VINTR]
        modes[6][termios.VINTR] = bytes([os.fpathconf(tty.fileno(), "PC_VDISABLE")])

    def begin() -> None:
        # What was typed before the prompt was not meant for it.
        termios.tcsetattr(tty, termios.TCSAFLUSH, modes)
        tty.write(prompt)

    def end() -> None:
        # In the background the modes are the shell's. Half a passphrase is flushed.
        with contextlib.suppress(OSError, termios.error):
            if _in_foreground(tty):
                termios.tcsetattr(tty, termios.TCSAFLUSH, before)

    def signalled(number: int, _: FrameType | None) -> None:
        end()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        # It was Ctrl-Z, and now the job goes on.
        signal.signal(number, signalled)
        if _in_foreground(tty):
            begin()

    caught: list[signal.Signals] = []
    atexit.register(end)
    try:
        if in_main_thread:
            for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, signalled)
                    caught.append(number)
        begin()
        yield b"\n" if in_main_thread else before[6][termios.VINTR]
    except BaseException:
        with contextlib.suppress(OSError):
            tty.write(b"\n")
        raise
    finally:
        end()
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
        atexit.unregister(end)


@contextlib.contextmanager
def _alone_at_terminal() -> Iterator[None]:
    """Hold the terminal against prompts of other processes: a lock on its device.
    Where its name is unknown or another user's (``su``), prompts can interleave.
    """
    flags = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            device = os.open(_device_name(), flags)
            stack.callback(os.close, device)
            _lock(device)
            # Closing is not enough where a thread has forked meanwhile.
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
    """The controlling terminal's own name: ``/dev/tty`` is one file for all."""
    with contextlib.suppress(OSError):
        # Linux tells it even where all three streams are redirected (proc_pid_stat(5)).
        number = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4])
        if os.major(number) == 136:  # Unix98 pseudo-terminals
            return f"/dev/pts/{os.minor(number)}"
    return next((os.ttyname(stream) for stream in (2, 1, 0) if os.isatty(stream)), "")
