"""Locks between processes, in files beside the vault: one for writes, sixteen
for sign-ins.

A lock is the kernel's, on an open file: a killed holder frees it. Its file is
never deleted, which would split its waiters over two files of one name.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from rolevault._concurrency.fork_lock import IMPORT_LOCK
from rolevault.errors import InsecureVaultError

WRITE = "lock"
SIGN_IN = tuple(f"lock.{digit:x}" for digit in range(16))

_OPEN_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class BusyError(Exception):
    """A lock did not become free in time. ``holder`` says who has it."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


Adopt = Callable[[int], object]
"""Gives a new file, by its descriptor, to the owner of its directory."""


@contextlib.contextmanager
def hold(
    path: Path,
    seconds: float,
    adopt: Adopt,
    waiting: Callable[[str], object] = lambda holder: None,
) -> Iterator[None]:
    """Hold the lock at ``path``.

    :param waiting: told once who holds the lock, where it is not free.
    :raises BusyError: after ``seconds``.
    :raises InsecureVaultError: something that is no lock file stands there.
    """
    with IMPORT_LOCK.lock:
        from filelock import FileLock, Timeout

    lock = FileLock(
        path,
        mode=0o600,
        # A soft lock outlives a killed holder.
        fallback_to_soft=False,
        preserve_lock_file=True,
        # A write takes milliseconds.
        poll_interval=0.01,
        on_acquired=lambda descriptor: _sign(path, descriptor, adopt),
    )
    with contextlib.suppress(FileNotFoundError):
        _judge(path, os.lstat(path))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting(_holder(path))
            lock.acquire(timeout=seconds)
    except Timeout:
        raise BusyError(_holder(path)) from None
    try:
        yield
    finally:
        lock.release()


def make_sign_in_locks(directory: Path, adopt: Adopt) -> None:
    """Make all sixteen at once, so that they do not tell how many roles there are."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _OPEN_SAFELY
    for name in SIGN_IN:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(directory / name, flags, 0o600)
            try:
                adopt(descriptor)
            finally:
                os.close(descriptor)


def _sign(path: Path, descriptor: int, adopt: Adopt) -> None:
    _judge(path, os.fstat(descriptor))
    adopt(descriptor)
    # So that whoever waits can be told for whom. A full disk does not stop us.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | _OPEN_SAFELY)
        try:
            return f"process {int(os.read(descriptor, 20))}"
        finally:
            os.close(descriptor)
    return "another process"


def _judge(path: Path, status: os.stat_result) -> None:
    """Refuse what was planted: another user could hold it for ever, and a link's
    target would be emptied and, by root in a user's directory, given away.
    """
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        reason = "it is no lock file"
    elif os.name == "posix" and status.st_uid not in (os.geteuid(), os.stat(path.parent).st_uid):
        reason = f"it belongs to uid {status.st_uid}"
    else:
        return
    remedy = "Find out who put it there, and remove it."
    raise InsecureVaultError(path=str(path), reason=reason, remedy=remedy)
