"""
The real keyring of the kernel: who opens the vault with it, and what ends that.
"""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import OTHER, PASSPHRASE, Derivations, Python
from processes import fork, quick_place, wait
from pty_user import PtyUser
from rolevault import (
    ConfigurationError,
    PassphraseRequiredError,
    UnsupportedPlatformError,
    Vault,
    WrongPassphraseError,
    lock,
    rotate_passphrase,
    unlock,
)
from rolevault._vault import envelope, held_key, kernel_keyring
from rolevault._vault.key_cache import data_keys

if kernel_keyring.refusal() is not None:
    pytest.skip("no kernel keyring", allow_module_level=True)


@pytest.fixture
def path(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a vault with one entry; nobody is there to ask. No key outlives the test."""
    Vault(path, PASSPHRASE)["a"] = {"n": 1}
    monkeypatch.setenv("ROLEVAULT_NESTED", "1")
    name = name_of(path)
    yield path
    kernel_keyring.drop(name)


def name_of(path: Path) -> str:
    return envelope.parse(path.read_bytes(), "").header.id


def unlock_by_environment(path: Path, seconds: float = 60, passphrase: str = PASSPHRASE) -> None:
    """Unlock, and forget what this process knows, as if it were the next one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLEVAULT_PASSPHRASE", passphrase)
        unlock(seconds, vault_path=path, force=True)
    data_keys._keys.clear()


def assert_is_locked(path: Path) -> None:
    data_keys._keys.clear()
    with pytest.raises(PassphraseRequiredError):
        len(Vault(path))


def test_no_process_asks_or_derives(path: Path, python: Python, derivations: Derivations) -> None:
    """Reads and writes, in this process, in a fork and in one that starts anew."""
    unlock_by_environment(path)
    assert len(derivations) == 1
    Vault(path)["b"] = {"n": 2}
    assert wait(fork(lambda: Vault(path).__setitem__("c", {}))) == 0
    script = (
        "import sys, rolevault; from rolevault._vault import kdf; del kdf.Argon2id; "
        "print(sorted(rolevault.Vault(sys.argv[1])))"
    )
    out, err = python(script, str(path)).communicate()
    assert (out, err) == ("['a', 'b', 'c']\n", "")
    assert len(derivations) == 1
    assert lock(path)
    assert not lock(path)
    assert_is_locked(path)


def test_the_option_comes_before_the_held_key_and_the_environment_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the held key has opened, a wrong passphrase still does not open."""
    unlock_by_environment(path)
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", OTHER)
    Vault(path)["b"] = {}
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, OTHER))


def test_unlock_needs_the_right_passphrase_also_where_a_key_is_held(path: Path) -> None:
    """The key that is held stays held."""
    unlock_by_environment(path)
    with pytest.raises(WrongPassphraseError):
        unlock_by_environment(path, passphrase=OTHER)
    data_keys._keys.clear()
    assert len(Vault(path)) == 1


def test_a_second_unlock_replaces_the_first(path: Path) -> None:
    """One key is held, with the time of the second, and one lock ends both."""
    unlock_by_environment(path)
    first = kernel_keyring._search(name_of(path))
    unlock_by_environment(path)
    second = kernel_keyring._search(name_of(path))
    assert second != first
    assert lock(path)
    assert_is_locked(path)


def test_a_rotation_locks_the_vault(path: Path) -> None:
    """The key of the old header is gone, and the new one is not held."""
    unlock_by_environment(path)
    old = name_of(path)
    rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)
    assert kernel_keyring.find(old) is None
    assert_is_locked(path)


def test_a_vault_that_was_deleted_is_not_locked_and_the_next_one_is(path: Path) -> None:
    """The next one has another header, so that the held key does not open it."""
    unlock_by_environment(path)
    path.unlink()
    assert not lock(path)
    Vault(path, OTHER)["a"] = {}
    assert_is_locked(path)


@pytest.mark.parametrize("wrong", [bytes(32), b"short"])
def test_a_held_key_that_opens_nothing_is_dropped_first(path: Path, wrong: bytes) -> None:
    """Then the vault is locked, and no seal is said to be broken."""
    kernel_keyring.hold(name_of(path), wrong, 60)
    assert_is_locked(path)
    assert kernel_keyring.find(name_of(path)) is None


def test_a_key_that_others_can_read_is_dropped(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that says what to do."""
    unlock_by_environment(path)
    with kernel_keyring._possession():
        key = kernel_keyring._search(name_of(path))
        kernel_keyring._keyctl(kernel_keyring._SETPERM, key, 0x3F000002)
    assert_is_locked(path)
    assert "Change the passphrase" in caplog.text
    assert kernel_keyring.find(name_of(path)) is None


def test_lock_revokes_the_key_for_whoever_has_a_link(path: Path) -> None:
    """A link in another keyring keeps a key alive."""
    unlock_by_environment(path)
    process_keyring = -2
    key = kernel_keyring._search(name_of(path))
    kernel_keyring._keyctl(kernel_keyring._LINK, key, process_keyring)
    assert lock(path)
    with pytest.raises(OSError, match=os.strerror(errno.EKEYREVOKED)):
        kernel_keyring._text(kernel_keyring._READ, key)
    kernel_keyring._keyctl(kernel_keyring._UNLINK, key, process_keyring)


def test_the_kernel_limits_the_time_and_the_readers(path: Path) -> None:
    """What /proc/keys shows: the time that is left, and rights of the possessor alone."""
    unlock_by_environment(path, 8 * 3600)
    name = kernel_keyring._PREFIX + name_of(path)
    line = next(line for line in Path("/proc/keys").read_text().splitlines() if name in line)
    assert line.split()[3:5] in (["8h", "3f000000"], ["7h", "3f000000"])


def test_a_key_whose_time_is_over_opens_nothing(path: Path) -> None:
    """It is as if none were held."""
    unlock_by_environment(path)
    with kernel_keyring._possession():
        key = kernel_keyring._search(name_of(path))
        kernel_keyring._keyctl(kernel_keyring._REVOKE, key)
    assert_is_locked(path)


TYPED = """
import os, sys
from rolevault import Vault
from rolevault import lock
from rolevault._vault import kdf, kernel_keyring
from rolevault._vault.key_cache import data_keys
kernel_keyring.refusal()  # imports what another user may not be able to read
if os.getuid() == 0:
    os.setgroups([]); os.setgid(61001); os.setuid(61001)
path = sys.argv[1]
def check():
    data_keys._keys.clear()
    print("holds", sorted(Vault(path)), flush=True)
check()
os.environ["ROLEVAULT_NESTED"] = "1"
del kdf.Argon2id
check()
print("was held", lock(path))
"""


@pytest.mark.slow
def test_a_typed_passphrase_unlocks_for_as_long_as_the_environment_says() -> None:
    """At a real terminal, for a user who is not root: asked once, derived once."""
    with quick_place() as path:
        Vault(path, PASSPHRASE)["a"] = {}
        if os.getuid() == 0:
            for each in (path.parent.parent, path.parent, *path.parent.iterdir()):
                os.chown(each, 61001, 61001)
        environment = {**os.environ, "ROLEVAULT_UNLOCK": "8h", "HOME": str(path.parent.parent)}
        with PtyUser([sys.executable, "-c", TYPED, str(path)], environment) as user:
            user.sees("Passphrase: ")
            user.type(f"{PASSPHRASE}\r")
            user.sees("holds ['a']")
            user.sees("holds ['a']")
            user.sees("was held True")
            assert user.leaves() == 0


def test_the_first_prompt_names_unlock_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for root, not where it is done already, and not where the kernel refuses."""
    monkeypatch.setattr(held_key, "_is_hinted", False)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert held_key.hint() == ()
    monkeypatch.setattr(os, "getuid", lambda: 61001)
    monkeypatch.setenv("ROLEVAULT_UNLOCK", "8h")
    assert held_key.hint() == ()
    monkeypatch.delenv("ROLEVAULT_UNLOCK")
    assert held_key.hint() == ("To type it once a day, use `rolevault unlock`.",)
    assert held_key.hint() == ()


def test_root_must_insist(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ConfigurationError, before anybody is asked."""
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(ConfigurationError, match="force=True"):
        unlock(vault_path=path)


@pytest.mark.parametrize("seconds", [0, -1, True, "8 h", "31d", None, float("nan")])
def test_what_is_no_length_of_time_is_refused(path: Path, seconds: object) -> None:
    """ConfigurationError, before anybody is asked."""
    with pytest.raises(ConfigurationError, match="seconds="):
        unlock(seconds, vault_path=path, force=True)  # type: ignore[arg-type]


def test_digits_alone_are_seconds() -> None:
    """An environment variable is always a text."""
    assert held_key.seconds_to_hold("ROLEVAULT_UNLOCK", "28800") == 28800


def test_there_must_be_a_vault(path: Path) -> None:
    """FileNotFoundError, before anybody is asked."""
    path.unlink()
    with pytest.raises(FileNotFoundError):
        unlock(vault_path=path, force=True)


@pytest.mark.parametrize("refused", ["ENOSYS", "EPERM", "EDQUOT"])
def test_a_refusal_of_the_kernel_is_a_typed_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """It says what to use instead. A vault whose passphrase is known opens all the same."""

    def refuse(*_: object) -> int:
        raise OSError(getattr(errno, refused), "refused")

    monkeypatch.setattr(kernel_keyring, "_system_calls", lambda: (refuse, refuse))
    with pytest.raises(UnsupportedPlatformError, match="ROLEVAULT_PASSPHRASE_COMMAND"):
        unlock(vault_path=path, force=True)
    assert not lock(path)
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    data_keys._keys.clear()
    assert len(Vault(path)) == 1
