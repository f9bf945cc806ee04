"""Data keys that the Linux kernel holds for a limited time, for all processes of a user.

A key stands in the user keyring (``user-keyring(7)``), named after the hash of the vault's
header. So a key dies with a rotation. It also ends with the last process of the user. Only a
process that possesses the key may read it, that is a process of the same user.
"""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator

from rolevault._concurrency.fork_lock import IMPORT_LOCK
from rolevault.errors import UnsupportedPlatformError

_PREFIX = "rolevault:"
_THREAD_KEYRING, _USER_KEYRING = -1, -4  # linux/keyctl.h
_REVOKE, _SETPERM, _DESCRIBE, _LINK, _UNLINK, _SEARCH, _READ = 3, 5, 6, 8, 9, 10, 11
_SET_TIMEOUT = 15
_POSSESSOR_ALL = 0x3F000000
#: The numbers of add_key(2) and keyctl(2) for a process of 64 bits.
_NUMBERS = {
    "x86_64": (248, 250),
    "aarch64": (217, 219),
    "riscv64": (217, 219),
    "loongarch64": (217, 219),
    "ppc64le": (269, 271),
    "s390x": (278, 280),
}
_REASONS = {
    errno.ENOSYS: "the kernel has none, or the container's seccomp profile hides it",
    errno.EPERM: "the container's seccomp profile, or a policy of the system, refuses it",
    errno.EACCES: "this process may not use the keyring of its user",
    errno.EDQUOT: "the user's quota of keys is used up (/proc/sys/kernel/keys/maxkeys)",
}


class ExposedKeyError(Exception):
    """Others than the processes of the user could read a key. The key was dropped."""


def hold(name: str, data_key: bytes, seconds: int) -> None:
    """Have the kernel hold a data key. A key that is held under the same name is replaced.

    :param name: the hash of the vault's header.
    :param seconds: how long, from 1 on.
    :raises UnsupportedPlatformError: the kernel refuses; the error says why.
    """
    with _refusals(), _possession():
        # The key gets its permissions and its time limit in the keyring of this thread. So no
        # kill leaves a key in the user keyring that has no time limit.
        description = (_PREFIX + name).encode()
        key = _add_key(b"user", description, data_key, len(data_key), _THREAD_KEYRING)
        try:
            _keyctl(_SETPERM, key, _POSSESSOR_ALL)
            _keyctl(_SET_TIMEOUT, key, seconds)
            _keyctl(_LINK, key, _USER_KEYRING)
        finally:
            _keyctl(_UNLINK, key, _THREAD_KEYRING)


def find(name: str) -> bytes | None:
    """The data key that the kernel holds under a name; None where there is none, where its
    time is over, and where the kernel has no keyring for this process.

    :raises ExposedKeyError: others could read the key. It was dropped.
    """
    with contextlib.suppress(OSError, UnsupportedPlatformError), _possession():
        key = _search(name)
        if not _is_private(key):
            _drop(key)
            raise ExposedKeyError
        return _text(_READ, key)
    return None


def drop(name: str) -> bool:
    """Revoke the key of a name. Return whether one was held."""
    with contextlib.suppress(OSError, UnsupportedPlatformError), _possession():
        _drop(_search(name))
        return True
    return False


def refusal() -> UnsupportedPlatformError | None:
    """Why the kernel can hold no key for this process; None where it can."""
    try:
        with _refusals(), _possession():
            key = _add_key(b"user", b"rolevault?", b"?", 1, _THREAD_KEYRING)
            _keyctl(_UNLINK, key, _THREAD_KEYRING)
    except UnsupportedPlatformError as error:
        return error
    return None


def _search(name: str) -> int:
    return _keyctl(_SEARCH, _USER_KEYRING, b"user", (_PREFIX + name).encode(), 0)


@contextlib.contextmanager
def _possession() -> Iterator[None]:
    """Have this thread possess the keys in the user keyring: only a possessor may read them.

    A session keyring often leads to the user keyring, but not for cron and not everywhere
    (``pam_keyinit(8)``). And a process that sudo started can have the session keyring of another
    user: a link there would give that user the keys. The keyring of a thread has no other reader.
    """
    _keyctl(_LINK, _USER_KEYRING, _THREAD_KEYRING)
    try:
        yield
    finally:
        _keyctl(_UNLINK, _USER_KEYRING, _THREAD_KEYRING)


def _is_private(key: int) -> bool:
    _, owner, _, permissions, _ = _describe(key)
    return int(owner) == os.getuid() and int(permissions, 16) & ~_POSSESSOR_ALL == 0


def _describe(key: int) -> list[str]:
    """Type, owner, group, permissions and name (keyctl_describe(3))."""
    return _text(_DESCRIBE, key).rstrip(b"\0").decode(errors="replace").split(";", 4)


def _drop(key: int) -> None:
    # Revoked first: another keyring may have a link to the key.
    _keyctl(_REVOKE, key)
    _keyctl(_UNLINK, key, _USER_KEYRING)


def _text(operation: int, key: int) -> bytes:
    with IMPORT_LOCK:
        import ctypes

    size = _keyctl(operation, key, None, 0)
    buffer = ctypes.create_string_buffer(size)
    written = _keyctl(operation, key, buffer, size)
    return buffer.raw[: min(size, written)]


def _add_key(*arguments: object) -> int:
    return _system_calls()[0](*arguments)


def _keyctl(*arguments: object) -> int:
    return _system_calls()[1](*arguments)


@functools.lru_cache(maxsize=1)
def _system_calls() -> tuple[Callable[..., int], Callable[..., int]]:
    """add_key(2) and keyctl(2), which the C library does not have. Each raises OSError."""
    numbers = None
    if sys.platform == "linux" and sys.maxsize > 2**32:
        numbers = _NUMBERS.get(os.uname().machine)
    if numbers is None:
        raise _unsupported("only Linux on a processor of 64 bits has one")
    # A script that has no vault does not wait for this import.
    try:
        with IMPORT_LOCK:
            import ctypes
    except ImportError:
        raise _unsupported("this Python was built without ctypes") from None

    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long

    def caller(number: int) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            # syscall(2) takes longs; ctypes would pass the int of Python as a C int.
            longs = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
            result = int(syscall(ctypes.c_long(number), *longs))
            if result < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return result

        return call

    add_key, keyctl = numbers
    return caller(add_key), caller(keyctl)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unsupported(_REASONS.get(error.errno or 0, error.strerror or "")) from None


def _unsupported(reason: str) -> UnsupportedPlatformError:
    return UnsupportedPlatformError(
        feature="The kernel's keyring",
        reason=reason,
        remedy="Set ROLEVAULT_PASSPHRASE_COMMAND to your password manager's command instead.",
    )
