"""
The vault's locks: who holds them, how long, and what is done under them.
"""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import OTHER, PASSPHRASE, Python
from rolevault import Vault, VaultLockedError, rotate_passphrase
from rolevault._vault import file as _files
from rolevault._vault import kdf
from rolevault._vault.lock_files import BusyError


@pytest.fixture
def vault(vault: Vault) -> Vault:
    vault["a"] = {"n": 1}
    return vault


def rotate(path: Path) -> int:
    return rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)


def hold(python: Python, path: Path) -> "subprocess.Popen[str]":
    holder = python("import processes, sys; processes.main('hold_lock', sys.argv[1])", str(path))
    assert holder.stdout is not None
    assert int(holder.stdout.readline()) == holder.pid
    return holder


def test_a_killed_holder_frees_the_lock(vault: Vault, python: Python) -> None:
    """The lock is the kernel's (check 33)."""
    holder = hold(python, vault.file.path)
    holder.kill()
    holder.wait()
    vault["b"] = {"n": 2}


def test_a_hung_holder_is_named(
    vault: Vault, python: Python, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VaultLockedError with the process, and the file as it was; readers go on (check 33)."""
    holder = hold(python, vault.file.path)
    monkeypatch.setattr(_files, "LOCK_SECONDS", 0.05)
    before = vault.file.path.read_bytes()
    for act in (lambda: vault.update(b={}), lambda: rotate(vault.file.path), vault.clear):
        with pytest.raises(VaultLockedError) as caught:
            act()
        assert caught.value.holder == f"process {holder.pid}"
        assert caught.value.seconds == 0.05
    assert vault["a"] == {"n": 1}
    assert vault.file.path.read_bytes() == before


def test_nothing_is_asked_under_the_write_lock(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is asked, or derives a key, keeps nobody from writing: for a new vault,
    for one that another process made or rotated meanwhile, and in a rotation.
    """
    path = vault.file.path
    monkeypatch.setattr(_files, "LOCK_SECONDS", 0.0)
    asked: list[str] = []

    def free(what: str) -> None:
        with _files.VaultFile(path).write_lock():
            asked.append(what)

    def passphrase(text: str = PASSPHRASE) -> Callable[[], str]:
        return lambda: free("source") or text  # type: ignore[func-returns-value]

    derive = kdf.Kdf.key

    def derived(*arguments: Any) -> bytes:
        free("KDF")
        return derive(*arguments)

    monkeypatch.setattr(kdf.Kdf, "key", derived)
    Vault(path, passphrase())["b"] = {"n": 2}
    assert asked == ["source", "KDF"]
    other = Vault(path, passphrase())
    path.unlink()
    other["a"] = {"n": 1}
    assert asked[2:] == ["source", "KDF"]
    assert rotate_passphrase(passphrase(OTHER), old=passphrase(), vault_path=path) == 1
    assert asked[4:] == ["source", "KDF", "source", "KDF", "KDF"]


def test_a_vault_made_meanwhile_is_opened_and_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes make the vault at once: the second finds the first's and adds to
    it.
    """
    second = Vault(path, PASSPHRASE)
    second.open()
    first = Vault(path, lambda: PASSPHRASE)
    first["a"] = {"n": 1}
    second["b"] = {"n": 2}
    assert first == second == {"a": {"n": 1}, "b": {"n": 2}}


def test_sign_in_locks_exclude_and_say_who(vault: Vault) -> None:
    """A waiter learns whom it waits for, once, and gives up in time; other slots are
    free.
    """
    told: list[str] = []
    file = vault.file
    with file.sign_in_lock(3, 1.0, told.append):
        assert told == []
        with file.sign_in_lock(4, 1.0, told.append):
            pass
        with (
            pytest.raises(BusyError),
            _files.VaultFile(file.path).sign_in_lock(3, 0.05, told.append),
        ):
            pass
    assert told == [f"process {os.getpid()}"]


def test_an_unreadable_lock_names_nobody(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock file that says nothing is still a lock."""
    monkeypatch.setattr(_files, "LOCK_SECONDS", 0.0)
    with vault.file.write_lock():
        os.truncate(vault.file.path.with_name("lock"), 0)
        with pytest.raises(VaultLockedError, match="another process"):
            vault["b"] = {}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The error says that locks are missing and what to do; the file is as it was."""
    vault["a"] = {"n": 1}
    before = vault.file.path.read_bytes()

    def missing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.raises(OSError, match=r"has no locks .*ROLEVAULT_FILE"):
        vault["b"] = {"n": 2}
    assert vault.file.path.read_bytes() == before
    assert dict(vault) == {"a": {"n": 1}}
