"""Where the vault is, and which other users could get at it there.

A user who can write to the directory can replace the file, and a user who can read the file
can try passphrases on it. So both must be the owner's alone. The directories above are not
judged, because group-writable homes are normal.
"""

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from rolevault._vault import lock_files
from rolevault.errors import ConfigurationError, InsecureVaultError

logger = logging.getLogger(__name__)

_POSIX = os.name == "posix"
_KINDS = (
    (stat.S_ISDIR, "it is a directory"),
    (stat.S_ISFIFO, "it is a FIFO"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)
_DEFAULT = "~/.aws/rolevault/vault"


class Location:
    """The path of a vault, and its directory. The constructor touches neither.

    :param path: by default ``ROLEVAULT_FILE``, else ``~/.aws/rolevault/vault``.
    :raises ConfigurationError: no vault can have this path.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        named = path if path is not None else _from_environment()
        self._by_default = named is None
        # How the user can name another file: an argument beats the variable.
        self._with = "with ROLEVAULT_FILE" if path is None else "as the path"
        try:
            expanded = Path(named if named is not None else _DEFAULT).expanduser()
        except RuntimeError:
            rule = "there is no home directory here. Name the file in full."
            raise _unusable(named or _DEFAULT, rule) from None
        # Made absolute now, because the process may change its directory later.
        self.named = expanded.absolute()
        if self.named.name.casefold() in (lock_files.WRITE, *lock_files.SIGN_IN):
            raise _unusable(self.named, "the locks beside the vault have that name.")
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The file, behind a link if there is one. The link is resolved once.

        :raises InsecureVaultError: the link is another user's.
        """
        # Not a cached_property: before Python 3.12 that has a lock, which a fork copies.
        if self._path is None:
            self._path = self._resolved()
        return self._path

    def _resolved(self) -> Path:
        if not os.path.islink(self.named):
            return self.named
        target = Path(os.path.realpath(self.named))
        self._check_link(self.named, target.parent)
        if target.name.casefold() in (lock_files.WRITE, *lock_files.SIGN_IN):
            raise _insecure(self.named, "it is a link to a lock", "Remove the link.")
        return target

    def owner(self) -> int | None:
        """The uid of the directory's owner: this user's, or for root anybody's. None where
        the directory does not exist.

        :raises InsecureVaultError: it is another user's, or others may enter it.
        """
        directory = self.path.parent
        if os.path.isdir(self.path):
            raise self._insecure("it is a directory", "Name a file in a directory of its own.")
        try:
            status = self._stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISDIR(status.st_mode):
            raise _insecure(directory, "it is no directory", self._elsewhere)
        if not _POSIX:
            return status.st_uid
        if os.geteuid() not in (0, status.st_uid):
            reason = f"the directory belongs to uid {status.st_uid}"
            raise _insecure(directory, reason, self._elsewhere)
        self._check_link(directory, directory)
        if status.st_mode & 0o077:
            self._close_directory(directory, status)
        elif status.st_mode & 0o700 != 0o700 and self._may_close(status):
            _make_enterable(directory)
        return status.st_uid

    def make(self) -> None:
        """Make the directory where it is missing.

        :raises InsecureVaultError: as ``owner``; or root would create a vault among another
            user's files.
        :raises OSError: it cannot be made.
        """
        directory = self.path.parent
        owner = self.owner()
        missing = [directory, *directory.parents] if owner is None else []
        missing = [path for path in missing if not os.path.lexists(path)]
        if _POSIX and os.geteuid() == 0 and not os.path.lexists(self.path):
            above = (missing[-1] if missing else self.path).parent
            if (owner := os.stat(above).st_uid) != 0:
                if not os.access(above, os.W_OK):
                    # A mount that is read-only: nothing can be made, so nothing is refused.
                    raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(above))
                raise _insecure(
                    self.path,
                    f"root would create it among the files of uid {owner}",
                    "Run as that user (in a container: docker run --user), use sudo -H, or name a "
                    f"file in a directory of root's {self._with}.",
                )
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
                # A umask of 177 takes away even this user's right to enter the directory.
                path.chmod(0o700)
        if missing:
            self.owner()  # another process may have made it at the same time

    def check_file(self, descriptor: int, owner: int) -> int:
        """Judge the open file; return its size in bytes.

        :raises InsecureVaultError: it is not a regular file, does not belong to the owner of
            the directory, or can be used by others.
        """
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = next((text for is_kind, text in _KINDS if is_kind(status.st_mode)), "no file")
            raise self._insecure(kind, f"Move it away, or name another file {self._with}.")
        if _POSIX and status.st_uid != owner:
            reason = f"it belongs to uid {status.st_uid} and its directory to uid {owner}"
            raise self._insecure(reason, "Find out who put it there, and delete it.")
        if _POSIX and status.st_mode & 0o077:
            reason = f"others may use it (mode {status.st_mode & 0o777:04o})"
            refusal = self._insecure(reason, f"Close it: chmod 600 '{self.path}'")
            if not self._may_close(status):
                raise refusal
            with _or_raise(refusal):
                os.fchmod(descriptor, 0o600)
            _check_closed(self.path, descriptor)
            logger.warning("Closed %s to others: its mode is 0600 now.", self.path)
        return status.st_size

    def adopt(self, descriptor: int) -> None:
        """Give a new file to the owner of the directory, so that root, with ``sudo -E``,
        writes to a user's vault without locking the user out.
        """
        if _POSIX and os.geteuid() == 0:
            os.fchown(descriptor, os.stat(self.path.parent).st_uid, -1)

    def _close_directory(self, directory: Path, status: os.stat_result) -> None:
        reason = f"others may enter the directory (mode {status.st_mode & 0o777:04o})"
        # The remedy must not make anybody close / or /tmp because of a mistyped path.
        remedy = (
            f"If it is the vault's alone, close it: chmod 700 '{directory}'. Else name a file in a "
            f"directory of its own {self._with}; it is made with mode 0700."
        )
        refusal = _insecure(directory, reason, remedy)
        if not self._may_close(status):
            raise refusal
        # O_NOFOLLOW: behind a link, another directory would be closed.
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        with _or_raise(refusal):
            descriptor = os.open(directory, flags)
            try:
                os.fchmod(descriptor, 0o700)
                _check_closed(directory, descriptor)
            finally:
                os.close(descriptor)
        logger.warning("Closed %s to others: its mode is 0700 now.", directory)

    def _stat(self, directory: Path) -> os.stat_result:
        try:
            return os.stat(directory)
        except PermissionError:
            # ~/.aws without x, where an earlier release ran under a umask of 177.
            if not self._by_default:
                raise
            _make_enterable(directory.parent)
            return os.stat(directory)

    def _may_close(self, status: os.stat_result) -> bool:
        """Only what is this user's, and only in the default place."""
        return self._by_default and self.path == self.named and status.st_uid == os.geteuid()

    def _check_link(self, link: Path, directory: Path) -> None:
        """Refuse ``link``, if it is a link, of a user who could not write to ``directory``."""
        if not _POSIX or not os.path.islink(link):
            return
        uid = os.lstat(link).st_uid
        trusted = {0, os.geteuid()}
        with contextlib.suppress(OSError):
            trusted.add(os.stat(directory).st_uid)
        if uid not in trusted:
            raise _insecure(link, f"it is a link that belongs to uid {uid}", "Remove the link.")

    @property
    def _elsewhere(self) -> str:
        return f"Name a file in a directory of your own {self._with}."

    def _insecure(self, reason: str, remedy: str) -> InsecureVaultError:
        return _insecure(self.path, reason, remedy)


def _from_environment() -> str | None:
    """The path in ``ROLEVAULT_FILE``, expanded as botocore expands ``AWS_CONFIG_FILE``.

    :raises ConfigurationError: a variable in it is not set, or it is in quotes. systemd and
        ``docker --env-file`` expand nothing and keep quotes: a directory called ``$HOME``
        would be made in each working directory.
    """
    given = os.environ.get("ROLEVAULT_FILE")
    if not given:
        return None
    expanded, option = os.path.expandvars(given), "ROLEVAULT_FILE"
    rule = None
    if re.search(r"\$(\w+|\{)", expanded):
        rule = "a variable in it is not set here. Set it, or write the path in full."
    elif given[0] in "\"'" and given[-1] == given[0]:
        rule = "the quotes are part of the value. Write the path without them."
    if rule is not None:
        raise ConfigurationError(option=option, value=repr(given), rule=rule)
    return expanded


@contextlib.contextmanager
def _or_raise(refusal: InsecureVaultError) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise refusal from None


def _make_enterable(directory: Path) -> None:
    """Give this user all rights to a directory of their own."""
    status = os.lstat(directory)
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        os.chmod(directory, stat.S_IMODE(status.st_mode) | 0o700)
        logger.warning("%s could not be entered: its owner has all rights to it now.", directory)


def _check_closed(path: Path, descriptor: int) -> None:
    """Refuse a file system that ignores modes, as those of WSL, CIFS and vfat can: there
    ``chmod`` succeeds and changes nothing (https://github.com/microsoft/WSL/issues/81).
    """
    mode = os.fstat(descriptor).st_mode & 0o777
    if mode & 0o077:
        reason = f"others may use it: chmod leaves its mode at {mode:04o} on this file system"
        remedy = "Name a file on a file system that keeps modes with ROLEVAULT_FILE."
        raise _insecure(path, reason, remedy)


def _insecure(path: Path, reason: str, remedy: str) -> InsecureVaultError:
    return InsecureVaultError(path=str(path), reason=reason, remedy=remedy)


def _unusable(path: object, rule: str) -> ConfigurationError:
    return ConfigurationError(option="vault_path", value=repr(str(path)), rule=rule)
