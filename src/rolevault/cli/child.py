"""A command that runs as a child, beside which this process has work to do."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Signals that are meant for the command. The keyboard sends the first two to the command, too.
_FROM_KEYBOARD = ("SIGINT", "SIGQUIT")
_FORWARDED = (*_FROM_KEYBOARD, "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")


def run(argv: list[str], env: dict[str, str]) -> int:
    """Run a command until its end. Signals that reach this process go to the command.

    :returns: the exit code of the command; where a signal has ended the command, 128 and the number
        of the signal, as a shell says it.
    :raises OSError: the command cannot be run.
    """
    early: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        elif not _comes_from_keyboard(number):
            process.send_signal(number)

    with _handled(forward):
        process = subprocess.Popen(argv, env=env)  # noqa: S603  the user named it
        for number in early:
            process.send_signal(number)
        code = process.wait()
    return 128 - code if code < 0 else code


@contextmanager
def _handled(handler: "signal._HANDLER") -> Iterator[None]:
    """Have the handler get the signals. Those that are ignored, as under nohup, stay ignored, also
    in the command.
    """
    before = {}
    for name in _FORWARDED:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, each in before.items():
            signal.signal(number, each)


def _comes_from_keyboard(number: int) -> bool:
    """Whether the command has probably got the signal itself: the keyboard sends it to each process
    in the foreground of the terminal. Some programs take a second Ctrl-C for an order to give up
    their work.
    """
    if signal.Signals(number).name not in _FROM_KEYBOARD:
        return False
    if os.name != "posix":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
