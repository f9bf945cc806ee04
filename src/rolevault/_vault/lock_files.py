"""Locks between processes, on files beside the vault: one for writes, sixteen for sign-ins.

The kernel holds a lock for as long as its file is open, so that a killed holder frees it. A
lock file is never deleted: else two processes could each hold a lock on a file of the same
name.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from rolevault._concurrency.fork_lock import IMPORT_LOCK
from rolevault.errors import InsecureVaultError

WRITE = "lock"
SIGN_IN = tuple(f"lock.{digit:x}" for digit in range(16))

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

_OPEN_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class BusyError(Exception):
    """A lock did not become free in time. ``holder`` says which process has it."""

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

    :param seconds: how long to wait for the lock.
    :param adopt: gives a new lock file to the owner of the directory.
    :param waiting: is told once which process holds the lock, where it is not free.
    :raises BusyError: the lock did not become free.
    :raises OSError: the file system has no locks, or the file cannot be opened.
    :raises InsecureVaultError: what is at ``path`` is not a lock file.
    """
    with IMPORT_LOCK:
        from filelock import FileLock, Timeout

    lock = FileLock(
        path,
        mode=0o600,
        # A soft lock would outlive a killed holder.
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
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        reason = (
            "this file system has no locks (flock), so nothing is written there. Name a file on "
            "another file system with ROLEVAULT_FILE"
        )
        raise OSError(error.errno, reason, str(path)) from None
    try:
        yield
    finally:
        lock.release()


def make_sign_in_locks(directory: Path, adopt: Adopt) -> None:
    """Make all sixteen at once, so that their number does not tell the number of roles."""
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
    # The number tells waiting processes for which one they wait. A full disk is no reason
    # to fail.
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
    """Refuse a file that another user has planted. That user could hold the lock for ever;
    and behind a link, the target would be emptied and, by root in a user's directory, given
    to that user.
    """
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        reason = "it is no lock file"
    elif os.name == "posix" and status.st_uid not in (os.geteuid(), os.stat(path.parent).st_uid):
        reason = f"it belongs to uid {status.st_uid}"
    else:
        return
    remedy = "Find out who put it there, and remove it."
    raise InsecureVaultError(path=str(path), reason=reason, remedy=remedy)
