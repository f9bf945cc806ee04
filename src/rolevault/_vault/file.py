"""The vault's file: reading is not tricked by what others put there, and replacing loses
nothing.

The file is never written in place. A reader sees a whole file, before a replacement or
after it.
"""

import contextlib
import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rolevault._vault import lock_files
from rolevault._vault.location import Location
from rolevault.errors import InsecureVaultError, VaultDamagedError, VaultLockedError

logger = logging.getLogger(__name__)

#: How long, in seconds, a writer waits for other writers. A write takes milliseconds.
LOCK_SECONDS = 30.0

_POSIX = os.name == "posix"

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
# O_NONBLOCK: opening a FIFO in the place of the file must not hang.
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):
    _READ |= getattr(os, _name, 0)


class VaultFile:
    """One file, with its locks and temporary files beside it.

    Nothing is touched before the first read or write.

    :raises ConfigurationError: no vault can have this path.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._location = Location(path)

    def __str__(self) -> str:
        return str(self._location.named)

    @property
    def path(self) -> Path:
        """The file, behind a link if there is one.

        :raises InsecureVaultError: the link is another user's.
        """
        return self._location.path

    def usable(self) -> bool:
        """Whether the file exists or can be made."""
        if os.path.lexists(self.path):
            return True
        try:
            self._location.make()
        except OSError:
            return False
        return os.access(self.path.parent, os.W_OK | os.X_OK)

    def read(self, limit: int) -> bytes | None:
        """The file's bytes, or None where there is no file.

        :param limit: a file of more bytes is not read.
        :raises InsecureVaultError: other users can get at the file or its directory, or the
            file is not a regular file.
        :raises VaultDamagedError: the file is larger than the limit.
        """
        try:
            return self._read(limit)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # NFS: the file was replaced between look-up and read.
            return self._read(limit)

    def _read(self, limit: int) -> bytes | None:
        owner = self._location.owner()
        if owner is None:
            return None
        try:
            descriptor = os.open(self.path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._insecure("it became a link", "Remove the link.") from None
            if error.errno in (errno.EACCES, errno.EPERM, errno.ENXIO):
                reason = f"it cannot be opened: {error.strerror}"
                raise self._insecure(reason, "Look at it with ls -l.") from None
            raise
        try:
            size = self._location.check_file(descriptor, owner)
            if size > limit:
                reason = f"it is larger than {limit // 1024**2} MiB"
                raise VaultDamagedError(path=str(self.path), reason=reason)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(size)
        finally:
            os.close(descriptor)

    def replace(self, data: bytes, check: Callable[[bytes], object] | None = None) -> None:
        """Replace the file by one with ``data``, as a whole or not at all. Call this under
        the write lock.

        :param check: is called with the new file's bytes, read back. Where it raises, the old
            file is kept.
        """
        self._remove_leftovers()
        # mkstemp creates with O_EXCL and 0600, whatever the umask.
        descriptor, temporary = tempfile.mkstemp(".tmp", self._temporary_prefix, self.path.parent)
        try:
            with open(descriptor, "w+b") as file:
                self._location.adopt(descriptor)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
                if check is not None:
                    file.seek(0)
                    check(file.read())
            _replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._sync_directory()

    def delete(self) -> None:
        """Remove the file, whatever it holds. Call this under the write lock."""
        self._remove_leftovers()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._sync_directory()

    @contextlib.contextmanager
    def write_lock(self) -> Iterator[None]:
        """Hold the lock for writes. The directory is made where it is missing.

        :raises VaultLockedError: others held it for ``LOCK_SECONDS``.
        """
        self._location.make()
        lock = lock_files.hold(
            self.path.with_name(lock_files.WRITE), LOCK_SECONDS, self._location.adopt
        )
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock)
            except lock_files.BusyError as busy:
                raise VaultLockedError(
                    path=str(self), holder=busy.holder, seconds=LOCK_SECONDS
                ) from None
            yield

    @contextlib.contextmanager
    def sign_in_lock(
        self, slot: int, seconds: float, waiting: Callable[[str], None]
    ) -> Iterator[None]:
        """Hold one of the sixteen locks for sign-ins.

        :param waiting: told once who holds the lock, where it is not free.
        :raises BusyError: after ``seconds``.
        """
        self._location.make()
        lock_files.make_sign_in_locks(self.path.parent, self._location.adopt)
        path = self.path.with_name(lock_files.SIGN_IN[slot % 16])
        with lock_files.hold(path, seconds, self._location.adopt, waiting):
            yield

    @property
    def _temporary_prefix(self) -> str:
        return f".{self.path.name}."

    def _remove_leftovers(self) -> None:
        # This process holds the write lock, so these are of writers that were killed.
        prefix = self._temporary_prefix
        for path in self.path.parent.iterdir():
            if path.name.startswith(prefix) and path.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _sync_directory(self) -> None:
        """Make the replacement outlast a power cut. The replacement has happened, so this
        must not raise: a caller of a rotation would keep using the old passphrase.
        """
        if not _POSIX:
            return
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Some file systems cannot sync a directory, and need not.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                logger.warning("%s may be as before after a power cut: %s", self, error)

    def _insecure(self, reason: str, remedy: str) -> InsecureVaultError:
        return InsecureVaultError(path=str(self.path), reason=reason, remedy=remedy)


def _replace(source: str, target: Path) -> None:
    for pause in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        try:
            os.replace(source, target)
        except PermissionError:
            # Windows refuses while a reader has the file open. Readers are quick.
            if _POSIX:
                raise
            time.sleep(pause)
        else:
            return
    os.replace(source, target)
