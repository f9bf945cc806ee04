"""
A new passphrase: everything new, nothing lost, and the old one never again.
"""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CHEAP, OTHER, PASSPHRASE, Alice, Python, account_of
from local_iam import Role
from local_sts import LocalSts
from processes import quick_place, run
from rolevault import (
    ConfigurationError,
    PassphraseRequiredError,
    PassphraseRotatedError,
    RoleVaultError,
    Vault,
    VaultTamperedError,
    WrongPassphraseError,
    rotate_passphrase,
    session,
)
from rolevault._vault import envelope as _envelope
from rolevault._vault import kdf as _kdf


@pytest.fixture
def vault(vault: Vault) -> Vault:
    vault.update({"a": {"n": 1}, "b": {"n": 2}})
    return vault


def parse(path: Path) -> _envelope.Envelope:
    return _envelope.parse(path.read_bytes(), "")


def test_everything_is_new_and_nothing_is_lost(vault: Vault) -> None:
    """Salt, slot and data key differ; the old data key fails; the entries are there,
    and counted (check 24).
    """
    path = vault.file.path
    old = parse(path)
    old_key = _envelope.unlock(old.header, PASSPHRASE, "")
    assert rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path) == 2
    new = parse(path)
    new_key = _envelope.unlock(new.header, OTHER, "")
    assert old.header.kdf.salt != new.header.kdf.salt
    assert old.header.slot != new.header.slot
    assert old_key != new_key
    with pytest.raises(VaultTamperedError):
        _envelope.read(new, old_key, "")
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, PASSPHRASE))
    assert Vault(path, OTHER) == {"a": {"n": 1}, "b": {"n": 2}}
    assert _envelope.read(new, new_key, "").generation == 2
    assert {each.name for each in path.parent.iterdir()} == {"vault", "lock"}


def test_expired_entries_are_not_carried_over(vault: Vault) -> None:
    """A rotation is a write."""
    vault["gone"] = {"Expiration": "2001-01-01T00:00:00Z"}
    assert rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=vault.file.path) == 2


@pytest.mark.parametrize(
    ("before", "default", "after"),
    [
        ((19456, 1, 1), (20480, 2, 2), (20480, 2, 2)),
        ((20480, 4, 1), (19456, 1, 2), (20480, 4, 2)),
    ],
)
def test_weak_parameters_are_raised_and_strong_ones_kept(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, int, int],
    default: tuple[int, int, int],
    after: tuple[int, int, int],
) -> None:
    """Each cost at least today's default, and never lower than it was (check 25)."""
    monkeypatch.setattr(_kdf, "DEFAULT_COSTS", _kdf.Costs(*before))
    Vault(path, PASSPHRASE)["a"] = {}
    monkeypatch.setattr(_kdf, "DEFAULT_COSTS", _kdf.Costs(*default))
    rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)
    assert tuple(parse(path).header.kdf.costs) == after


def test_a_wrong_old_passphrase_changes_nothing(vault: Vault) -> None:
    """WrongPassphraseError, byte for byte the same, also where this process has the
    vault open (check 26).
    """
    path = vault.file.path
    before = path.read_bytes()
    with pytest.raises(WrongPassphraseError):
        rotate_passphrase(OTHER, old="not this one", vault_path=path)
    assert path.read_bytes() == before
    assert vault["a"] == {"n": 1}


@pytest.mark.parametrize("new", ["", lambda: "", "\ud800 lone"])
def test_a_bad_new_passphrase_changes_nothing(vault: Vault, new: str) -> None:
    """ConfigurationError (check 16)."""
    before = vault.file.path.read_bytes()
    with pytest.raises(ConfigurationError):
        rotate_passphrase(new, old=PASSPHRASE, vault_path=vault.file.path)
    assert vault.file.path.read_bytes() == before


def test_a_new_passphrase_is_never_taken_from_the_configured_source(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment gives the old one; without ``new`` a person is asked."""
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("ROLEVAULT_NESTED", "1")
    with pytest.raises(PassphraseRequiredError):
        rotate_passphrase(vault_path=vault.file.path)
    assert rotate_passphrase(OTHER, vault_path=vault.file.path) == 2


def test_a_short_new_passphrase_is_warned_about(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """Under twelve characters, as for a new vault; the old one is not judged."""
    rotate_passphrase("short", old=PASSPHRASE, vault_path=vault.file.path)
    assert "fewer than 12" in caplog.text
    caplog.clear()
    rotate_passphrase(OTHER, old="short", vault_path=vault.file.path)
    assert caplog.records == []


def test_nothing_to_rotate(path: Path) -> None:
    """FileNotFoundError, without a question; no vault is made."""
    with pytest.raises(FileNotFoundError, match="no vault"):
        rotate_passphrase(OTHER, old=lambda: pytest.fail("asked"), vault_path=path)
    assert not path.parent.exists()


def test_deleted_during_the_rotation(vault: Vault) -> None:
    """It is not brought back."""
    path = vault.file.path

    def new() -> str:
        path.unlink()
        return OTHER

    with pytest.raises(FileNotFoundError):
        rotate_passphrase(new, old=PASSPHRASE, vault_path=path)
    assert not path.exists()


def test_what_others_write_during_the_rotation_is_carried_over(vault: Vault) -> None:
    """The entries are read again under the lock."""

    def new() -> str:
        vault["late"] = {"n": 3}
        return OTHER

    assert rotate_passphrase(new, old=PASSPHRASE, vault_path=vault.file.path) == 3
    assert Vault(vault.file.path, OTHER)["late"] == {"n": 3}


def test_of_two_rotations_at_once_one_wins(vault: Vault) -> None:
    """The other gets PassphraseRotatedError, and its passphrase opens nothing (check 27)."""
    path = vault.file.path
    both = threading.Barrier(2)
    results: dict[str, object] = {}

    def rotate(name: str) -> None:
        def new() -> str:
            both.wait(60)  # each has proved the old passphrase by now
            return name

        try:
            results[name] = rotate_passphrase(new, old=PASSPHRASE, vault_path=path)
        except PassphraseRotatedError as error:
            results[name] = error

    names = ["first of the two", "second of the two"]
    threads = [threading.Thread(target=rotate, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [name for name in names if results[name] == 2]
    (loser,) = [name for name in names if name != winner]
    assert isinstance(results[loser], PassphraseRotatedError)
    assert len(Vault(path, winner)) == 2
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, loser))


def test_what_was_written_is_opened_before_it_takes_the_place(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that returns something else than it was given costs nothing."""
    path = vault.file.path
    before = path.read_bytes()
    real = os.fsync
    header, key = _envelope.new_header("another file's", costs=CHEAP)
    whole = _envelope.write(header, key, _envelope.Contents({}, 9))

    def altered(blob: bytes) -> bytes:
        envelope = _envelope.parse(blob, "")
        head, body = bytes(envelope.header), envelope.body[:-1] + bytes([envelope.body[-1] ^ 1])
        return head + _envelope._checksum(head, body) + body

    spoils: list[tuple[Callable[[bytes], bytes], str]] = [
        (lambda blob: b"ROLEVAULT" + blob[9:], "not a whole"),
        (lambda blob: whole, "not a whole"),
        (altered, "altered"),
    ]
    for spoil, said in spoils:
        spoiled: list[int] = []

        def sync(descriptor: int) -> None:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                blob = os.pread(descriptor, _envelope.MAX_FILE, 0)
                spoiled.append(os.pwrite(descriptor, spoil(blob), 0))
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", sync)
            with pytest.raises(RoleVaultError, match=said):
                rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)
        assert spoiled
        assert path.read_bytes() == before
        assert {each.name for each in path.parent.iterdir()} == {"vault", "lock"}


def test_the_old_passphrase_is_always_proved(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The KDF runs on it, though this process holds the key."""
    derived: list[str] = []
    real = _kdf.Kdf.key

    def key(kdf: _kdf.Kdf, passphrase: str) -> bytes:
        derived.append(passphrase)
        return real(kdf, passphrase)

    monkeypatch.setattr(_kdf.Kdf, "key", key)
    assert len(vault) == 2
    assert derived == []
    rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=vault.file.path)
    assert derived[0] == PASSPHRASE


def test_a_source_that_gives_the_new_passphrase_goes_on(path: Path) -> None:
    """The same Vault object reads and writes on after a rotation elsewhere."""
    current = [PASSPHRASE]
    vault = Vault(path, lambda: current[0])
    vault["a"] = {"n": 1}
    rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)
    current[0] = OTHER
    vault["b"] = {"n": 2}
    assert vault == {"a": {"n": 1}, "b": {"n": 2}}
    assert Vault(path, OTHER) == vault


def test_a_writer_between_reading_and_locking_never_brings_the_old_header_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rotation comes after the writer opened the vault and before it has the lock."""
    vault = Vault(path, PASSPHRASE)
    vault["a"] = {"n": 1}
    real = vault.file.write_lock
    rotated: list[int] = []

    def then_lock() -> object:
        if not rotated:
            rotated.append(rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path))
        return real()

    monkeypatch.setattr(vault.file, "write_lock", then_lock)
    with pytest.raises(PassphraseRotatedError):
        vault["b"] = {"n": 2}
    assert rotated == [1]
    assert Vault(path, OTHER) == {"a": {"n": 1}}


def test_among_ten_processes_that_read_and_write(python: Python) -> None:
    """Each goes on, where its source gives the new passphrase, or stops with
    PassphraseRotatedError; none brings the old one back.
    """
    with quick_place() as place:
        assert run(python, "rotate_among", place) == [0] * 10
        with pytest.raises(WrongPassphraseError):
            len(Vault(place, PASSPHRASE))
        entries = Vault(place, OTHER).copy()
        assert entries["start"] == {"n": 0}
        assert {key.partition(".")[0] for key in entries} == {"start", *"0123456789"}


def test_sessions_outlive_a_rotation(
    path: Path, alice: Alice, role_a: Role, sts: LocalSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it, a new process with the new passphrase needs no code."""

    def enter() -> str:
        made = session(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice, vault_path=path)
        return account_of(made)

    assert enter() == "111122223333"
    assert rotate_passphrase(OTHER, vault_path=path) >= 2
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", OTHER)
    assert enter() == "111122223333"
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 1)
