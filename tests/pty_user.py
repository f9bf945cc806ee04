"""A person at a terminal: a real pseudo-terminal, and a process for which it is the controlling
terminal. ``screen`` is all that the process has shown. What the person types arrives as from a
keyboard, Ctrl-C and Ctrl-Z included.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence

CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x04", "\x1a", "\x1c"

#: Makes its stdin the controlling terminal, then becomes the program. ``pty.fork()`` does not
#: serve, because the process of the tests has threads.
_GETTY = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class PtyUser:
    """A program at a terminal, and the person who uses it. The end of the ``with`` block ends the
    program.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        # The terminal stays open after the program's end, so that a test can read its modes.
        self._keyboard, self._terminal = pty.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        self.name = os.ttyname(self._terminal)
        self._open = [self._keyboard, self._terminal]
        self._shown = b""
        self._seen = 0
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", _GETTY, *argv],
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            env=None if env is None else dict(env),
            start_new_session=True,
        )

    def __enter__(self) -> PtyUser:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.hang_up()
        self.process.wait()

    @property
    def screen(self) -> str:
        """All that the terminal has shown."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def type(self, keys: str | bytes) -> None:
        """Press keys. ``\\r`` is Enter; bytes are the keys of a terminal with another encoding."""
        os.write(self._keyboard, keys.encode() if isinstance(keys, str) else keys)

    def sees(self, text: str, timeout: float = 30.0) -> str:
        """Wait until ``text`` is shown, after all that was seen before. Return what was shown
        before it.
        """
        until = time.monotonic() + timeout
        while (at := self.screen.find(text, self._seen)) < 0:
            over = self.process.poll() is not None or time.monotonic() > until
            if not self._read(0.05) and over:
                raise AssertionError(f"{text!r} did not come up; the screen:\n{self.screen}")
        before = self.screen[self._seen : at]
        self._seen = at + len(text)
        return before

    def leaves(self, timeout: float = 30.0) -> int:
        """Wait for the program's end; return its exit status."""
        until = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.02)
        while self._read(0):
            pass
        return self.process.wait(0)

    @property
    def modes(self) -> list[object]:
        """The modes of the terminal, as ``termios.tcgetattr()`` returns them."""
        return list(termios.tcgetattr(self._terminal))

    @property
    def echo(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._terminal)[3] & termios.ECHO)

    def hang_up(self) -> None:
        """Close the terminal's window."""
        while self._open:
            os.close(self._open.pop())

    def _read(self, seconds: float) -> bool:
        """Read what the terminal shows within some seconds. False when nothing came."""
        if not select.select([self._keyboard], [], [], max(0.0, seconds))[0]:
            return False
        data = os.read(self._keyboard, 65536)
        self._shown += data
        return bool(data)
