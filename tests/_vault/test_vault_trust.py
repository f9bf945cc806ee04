"""
What the vault believes: no answer mixed up, nothing overwritten that does not
open, and a warning where an older file comes back.
"""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import CHEAP, OTHER, PASSPHRASE, Derivations, Python
from rolevault import (
    Vault,
    VaultDamagedError,
    VaultTamperedError,
    VaultVersionError,
    WrongPassphraseError,
    rotate_passphrase,
)
from rolevault._vault import envelope as _envelope
from rolevault.errors import RoleVaultError


def spoiled(blob: bytes, how: str) -> bytes:
    if how == "empty":
        return b""
    if how == "no vault":
        return b"{}"
    if how == "cut":
        return blob[:-1]
    if how == "newer":
        return blob.replace(b"rolevault/1\n", b"rolevault/2\n", 1)
    envelope = _envelope.parse(blob, "")
    body = envelope.body[:-1] + bytes([envelope.body[-1] ^ 1])
    header = bytes(envelope.header)
    return header + _envelope._checksum(header, body) + body


ANSWERS = [
    ("empty", VaultDamagedError),
    ("no vault", VaultDamagedError),
    ("cut", VaultDamagedError),
    ("newer", VaultVersionError),
    ("body", VaultTamperedError),
    ("passphrase", WrongPassphraseError),
]


# Answers never mixed up.


@pytest.mark.parametrize(("how", "error"), ANSWERS)
def test_what_does_not_open_is_never_overwritten(
    vault: Vault, how: str, error: type[RoleVaultError]
) -> None:
    """Reader, writer and rotation refuse with the file's own error, byte for byte
    as it was; ``clear()`` starts anew, without the passphrase.
    """
    vault["a"] = {"n": 1}
    path = vault.file.path
    if how != "passphrase":
        path.write_bytes(spoiled(path.read_bytes(), how))
    before = path.read_bytes()
    passphrase = OTHER if how == "passphrase" else PASSPHRASE
    for known in (vault, Vault(path, passphrase)):
        if known is vault and how == "passphrase":
            continue
        for act in (
            lambda: len(known),
            lambda: known.update(b={"n": 2}),
            lambda: known.pop("a"),
            lambda: known.open(),
            lambda: rotate_passphrase(OTHER, old=passphrase, vault_path=path),
        ):
            with pytest.raises(error):
                act()
            assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} <= {"vault", "lock"}
    Vault(path, OTHER).clear()
    again = Vault(path, OTHER)
    again["b"] = {"n": 2}
    assert again == {"b": {"n": 2}}


def test_damage_costs_no_key_derivation(vault: Vault, derivations: Derivations) -> None:
    """Accidents are found before the passphrase is asked for (checks 2, 3)."""
    vault["a"] = {"n": 1}
    del derivations[:]
    for how in ("empty", "no vault", "cut", "newer"):
        path = vault.file.path.with_name(how)
        path.touch(mode=0o600)
        path.write_bytes(spoiled(vault.file.path.read_bytes(), how))
        with pytest.raises(RoleVaultError):
            len(Vault(path, lambda: pytest.fail("asked")))
    assert derivations == []


def test_a_deleted_file_is_a_new_vault(vault: Vault) -> None:
    """New salt and data key; the old one opens nothing of it."""
    vault["a"] = {"n": 1}
    path = vault.file.path
    old = _envelope.parse(path.read_bytes(), "").header
    old_key = _envelope.unlock(old, PASSPHRASE, "")
    path.unlink()
    assert vault == {}
    vault["b"] = {"n": 2}
    assert vault == {"b": {"n": 2}}
    new = _envelope.parse(path.read_bytes(), "")
    assert new.header.kdf.salt != old.kdf.salt
    with pytest.raises(VaultTamperedError):
        _envelope.read(new, old_key, "")


def test_after_clear_comes_a_new_vault(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    """As if the file had been deleted by hand; it is not taken for an older one."""
    headers = set()
    for _ in range(2):
        for n in range(3):
            vault["a"] = {"n": n}
        headers.add(_envelope.parse(vault.file.path.read_bytes(), "").header.kdf.salt)
        vault.clear()
        assert not vault.file.path.exists()
    assert len(headers) == 2
    assert caplog.records == []


def test_salts_never_repeat(path: Path) -> None:
    """10,000 writes of one entry, 10,000 salts: no key is used twice (check 29)."""
    header, key = _envelope.new_header(PASSPHRASE, costs=CHEAP)
    contents = _envelope.Contents({"a": {"n": 1}}, 1)
    end = len(_envelope.write(header, key, contents)) - len(
        _envelope.parse(_envelope.write(header, key, contents), "").body
    )
    salts = {_envelope.write(header, key, contents)[end : end + 24] for _ in range(10_000)}
    assert len(salts) == 10_000


# An older file put back.


def test_an_older_file_put_back_is_warned_about_once(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that sees fewer writes than it knew says so, once (check 37)."""
    path = vault.file.path
    vault["a"] = {"n": 1}
    old = path.read_bytes()
    vault["a"] = {"n": 2}
    new = path.read_bytes()
    assert caplog.records == []
    for blob in (old, new, old):
        path.write_bytes(blob)
        assert vault["a"]["n"] in (1, 2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "older" in caplog.text


def test_a_file_from_before_a_rotation_put_back_is_warned_about(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A restored copy under an older passphrase that this process knew is one too."""
    current = [PASSPHRASE]
    vault = Vault(path, lambda: current[0])
    vault["a"] = {"n": 1}
    old = path.read_bytes()
    rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)
    current[0] = OTHER
    assert len(vault) == 1
    path.write_bytes(old)
    assert len(vault) == 1
    assert "older" in caplog.text


def test_a_new_vault_is_not_taken_for_an_older_one(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleting is allowed: the count starts anew."""
    for n in range(3):
        vault["a"] = {"n": n}
    vault.file.path.unlink()
    vault["a"] = {"n": 9}
    assert len(vault) == 1
    assert caplog.records == []


def test_threads_are_not_taken_for_a_restored_file(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads that read and write one Vault at once see no rollback."""
    vault["a"] = {"n": 0}
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            len(vault)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    other = Vault(vault.file.path, PASSPHRASE)
    for n in range(100):
        (vault if n % 2 else other)["a"] = {"n": n}
    stop.set()
    for each in readers:
        each.join()
    assert caplog.records == []


# In botocore's place.


def test_keeps_its_checks_without_asserts(vault: Vault, python: Python) -> None:
    """Under ``python -O`` every check stands (check 39)."""
    vault["a"] = {"n": 1}
    path = vault.file.path
    cases = {"good": path.read_bytes()}
    cases |= {how: spoiled(cases["good"], how) for how, _ in ANSWERS if how != "passphrase"}
    for how, blob in cases.items():
        (path.parent / how).touch(mode=0o600)
        (path.parent / how).write_bytes(blob)
    (path.parent / "open").touch(mode=0o644)
    (path.parent / "open").chmod(0o644)
    script = (
        "import json, os, pathlib, subprocess, sys\n"
        "if __debug__:\n"
        "    os.execv(sys.executable, [sys.executable, '-O', '-c', sys.argv[2], *sys.argv[1:]])\n"
        "from rolevault import Vault\n"
        "seen = {}\n"
        "for each in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    for passphrase in (sys.argv[3], 'wrong'):\n"
        "        try: seen[each.name + ' ' + passphrase] = Vault(each, passphrase)['a']\n"
        "        except Exception as e: seen[each.name + ' ' + passphrase] = type(e).__name__\n"
        "print(json.dumps(seen))\n"
    )
    (path.parent / "lock").unlink()
    process = python(script, str(path.parent), script, PASSPHRASE)
    output, errors = process.communicate()
    assert not errors
    expected: dict[str, Any] = {}
    for name, error in [*ANSWERS, ("open", None), ("good", None), ("vault", None)]:
        known = {"open": "InsecureVaultError"}.get(name, error and error.__name__)
        if name != "passphrase":
            expected[f"{name} {PASSPHRASE}"] = known or {"n": 1}
            expected[f"{name} wrong"] = known or "WrongPassphraseError"
    expected["body wrong"] = "WrongPassphraseError"
    assert json.loads(output) == expected
