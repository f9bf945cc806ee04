"""The vault's file: read without being tricked, replaced without being lost,
locked between processes.

Whoever can write the directory can replace the file, and whoever can read the
file can try passphrases on it. So both must be the user's alone; the
directories above are not judged, because group-writable homes are normal.
"""

import contextlib
import errno
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from rolevault.errors import InsecureVaultError, VaultDamagedError

logger = logging.getLogger(__name__)

_POSIX = os.name == "posix"
_SIGN_IN_LOCKS = tuple(f"lock.{digit:x}" for digit in range(16))
_KINDS = (
    (stat.S_ISDIR, "it is a directory"),
    (stat.S_ISFIFO, "it is a FIFO"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)


class BusyError(Exception):
    """A lock did not become free in time. ``holder`` says who has it."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def default_path() -> Path:
    """``ROLEVAULT_FILE``, else ``~/.aws/rolevault/vault``."""
    named = os.environ.get("ROLEVAULT_FILE")
    return Path(named) if named else Path("~/.aws/rolevault/vault")


class VaultFile:
    """One file, with its locks and temporary files beside it.

    Nothing is touched before the first read or write.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._ours_by_default = path is None and not os.environ.get("ROLEVAULT_FILE")
        # Absolute now: the process may change its directory later.
        self._named = Path(path if path is not None else default_path()).expanduser().absolute()

    def __str__(self) -> str:
        return str(self._named)

    @cached_property
    def path(self) -> Path:
        """The file behind a link, resolved once.

        :raises InsecureVaultError: the link is another user's.
        """
        try:
            link = os.lstat(self._named)
        except OSError:
            return self._named
        if not stat.S_ISLNK(link.st_mode):
            return self._named
        if _POSIX and link.st_uid not in (os.geteuid(), self._parent_owner(self._named)):
            raise InsecureVaultError(
                path=str(self._named),
                reason=f"it is a link that belongs to uid {link.st_uid}",
                remedy="Remove the link.",
            )
        return Path(os.path.realpath(self._named))

    def usable(self) -> bool:
        """Whether there is a file, or one can be made."""
        if os.path.lexists(self.path):
            return True
        try:
            self._make_directory()
        except OSError:
            return False
        return os.access(self.path.parent, os.W_OK | os.X_OK)

    def read(self, limit: int) -> bytes | None:
        """The file's bytes, or None where there is no file.

        :param limit: more bytes than that are not read.
        :raises InsecureVaultError: file or directory let others in, or it is
            no regular file.
        :raises VaultDamagedError: it is larger than the limit.
        """
        try:
            return self._read(limit)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # NFS: the file was replaced between look-up and read.
            return self._read(limit)

    def _read(self, limit: int) -> bytes | None:
        owner = self._check_directory()
        if owner is None:
            return None
        # O_NONBLOCK: a FIFO in its place must not hang us.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):
            flags |= getattr(os, name, 0)
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._insecure("it became a link", "Remove the link.") from None
            if error.errno in (errno.EACCES, errno.EPERM, errno.ENXIO):
                reason = f"it cannot be opened: {error.strerror}"
                raise self._insecure(reason, "Look at it with ls -l.") from None
            raise
        with open(descriptor, "rb") as file:
            self._check_file(file.fileno(), owner)
            data = file.read(limit + 1)
        if len(data) > limit:
            reason = f"it is larger than {limit // 1024**2} MiB"
            raise VaultDamagedError(path=str(self.path), reason=reason)
        return data

    def replace(self, data: bytes, check: Callable[[bytes], object] | None = None) -> None:
        """Put ``data`` in the file's place, whole or not at all. Call it under
        the write lock.

        :param check: looks at the temporary file's bytes, read back from the
            disk; what it raises keeps the old file.
        """
        owner = self._check_directory()
        self._remove_leftovers()
        # mkstemp creates with O_EXCL and 0600, whatever the umask.
        descriptor, temporary = tempfile.mkstemp(".tmp", self._temporary_prefix, self.path.parent)
        try:
            with open(descriptor, "wb") as file:
                if _POSIX and owner not in (None, os.geteuid()):
                    os.fchown(file.fileno(), owner, -1)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(Path(temporary).read_bytes())
            _replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._sync_directory()

    def delete(self) -> None:
        """Remove the file, whatever it is. Call it under the write lock."""
        self._check_directory()
        self._remove_leftovers()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._sync_directory()

    @contextlib.contextmanager
    def write_lock(self, seconds: float) -> Iterator[None]:
        """Hold the lock for writes. The directory is made where it is missing.

        :raises BusyError: after ``seconds``.
        """
        self._make_directory()
        with self._lock("lock", seconds):
            yield

    @contextlib.contextmanager
    def sign_in_lock(
        self, slot: int, seconds: float, waiting: Callable[[str], None]
    ) -> Iterator[None]:
        """Hold one of the sixteen locks for sign-ins.

        :param waiting: told once who holds the lock, where it is not free.
        :raises BusyError: after ``seconds``.
        """
        self._make_directory()
        # All at once, so that the directory does not tell how many roles there are.
        for name in _SIGN_IN_LOCKS:
            with contextlib.suppress(FileExistsError):
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
                descriptor = os.open(self.path.with_name(name), flags, 0o600)
                self._keep_owner(descriptor)
                os.close(descriptor)
        with self._lock(_SIGN_IN_LOCKS[slot % 16], seconds, waiting):
            yield

    @contextlib.contextmanager
    def _lock(
        self, name: str, seconds: float, waiting: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        from filelock import FileLock, Timeout

        path = self.path.with_name(name)
        lock = FileLock(
            path,
            mode=0o600,
            # A soft lock outlives a killed holder.
            fallback_to_soft=False,
            # A deleted lock file splits its waiters over two inodes.
            preserve_lock_file=True,
            on_acquired=self._sign,
        )
        try:
            if waiting is None:
                lock.acquire(timeout=seconds)
            else:
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

    def _sign(self, descriptor: int) -> None:
        # So that whoever waits can be told for whom.
        self._keep_owner(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())

    def _keep_owner(self, descriptor: int) -> None:
        # Root writes to a user's vault (sudo -E) without locking the user out.
        if _POSIX and os.geteuid() == 0:
            os.fchown(descriptor, os.stat(self.path.parent).st_uid, -1)

    def _make_directory(self) -> None:
        if self._check_directory() is not None:
            return
        directory = self.path.parent
        if _POSIX and os.geteuid() == 0 and (owner := self._parent_owner(directory)) != 0:
            raise InsecureVaultError(
                path=str(directory),
                reason=f"root would create it in a directory of uid {owner}",
                remedy="Run as that user, use sudo -H, or set ROLEVAULT_FILE.",
            )
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        self._check_directory()

    def _parent_owner(self, path: Path) -> int:
        """The owner of the nearest directory above that exists."""
        for parent in path.parents:
            with contextlib.suppress(OSError):
                return os.stat(parent).st_uid
        return 0

    def _check_directory(self) -> int | None:
        """The directory's owner, or None where it does not exist yet."""
        directory = self.path.parent
        try:
            status = os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not _POSIX:
            return status.st_uid
        user = os.geteuid()
        if user not in (0, status.st_uid):
            raise InsecureVaultError(
                path=str(directory),
                reason=f"the directory belongs to uid {status.st_uid}",
                remedy="Name a file in a directory of your own with ROLEVAULT_FILE.",
            )
        if status.st_mode & 0o077:
            if not self._ours_by_default:
                raise InsecureVaultError(
                    path=str(directory),
                    reason=f"others may enter the directory (mode {status.st_mode & 0o777:04o})",
                    remedy=f"Close it: chmod 700 '{directory}'",
                )
            os.chmod(directory, 0o700)
            logger.warning("Closed %s to others: its mode is 0700 now.", directory)
        return status.st_uid

    def _check_file(self, descriptor: int, owner: int) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            reason = next((text for is_kind, text in _KINDS if is_kind(status.st_mode)), "no file")
            raise self._insecure(reason, "Move it away, or name another file with ROLEVAULT_FILE.")
        if not _POSIX:
            return
        if status.st_uid != owner:
            reason = f"it belongs to uid {status.st_uid} and its directory to uid {owner}"
            raise self._insecure(reason, "Find out who put it there, and delete it.")
        if status.st_mode & 0o077:
            if not self._ours_by_default:
                reason = f"others may use it (mode {status.st_mode & 0o777:04o})"
                raise self._insecure(reason, f"Close it: chmod 600 '{self.path}'")
            os.fchmod(descriptor, 0o600)
            logger.warning("Closed %s to others: its mode is 0600 now.", self.path)

    def _insecure(self, reason: str, remedy: str) -> InsecureVaultError:
        return InsecureVaultError(path=str(self.path), reason=reason, remedy=remedy)

    @property
    def _temporary_prefix(self) -> str:
        return f".{self.path.name}."

    def _remove_leftovers(self) -> None:
        # The lock is ours, so nobody else is writing: these are of killed writers.
        prefix = self._temporary_prefix
        for path in self.path.parent.iterdir():
            if path.name.startswith(prefix) and path.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _sync_directory(self) -> None:
        if _POSIX:
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text()[:20])}"
    except (OSError, ValueError):
        return "another process"


def _replace(source: str, target: Path) -> None:
    for pause in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        try:
            os.replace(source, target)
        except PermissionError:
            # Windows refuses while a reader has the file open; readers are quick.
            if _POSIX:
                raise
            time.sleep(pause)
        else:
            return
    os.replace(source, target)
