"""
One key derivation a process, however often and by whomever the vault is read.
"""

import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import OTHER, PASSPHRASE, Derivations, Python
from rolevault import Vault, WrongPassphraseError
from rolevault._vault import envelope


def test_one_key_derivation_however_often_others_write(
    path: Path, python: Python, derivations: Derivations
) -> None:
    """N rewrites elsewhere cost this process nothing (check 28)."""
    vault = Vault(path, PASSPHRASE)
    vault["a"] = {"n": 0}
    assert len(derivations) == 1
    other = python(
        "import sys; from rolevault import Vault\n"
        "vault = Vault(sys.argv[1], sys.argv[2])\n"
        "for n in range(1, 21):\n"
        "    vault['a'] = {'n': n}; print(flush=True); sys.stdin.readline()",
        str(path),
        PASSPHRASE,
        stdin=-1,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    for n in range(1, 21):
        other.stdout.readline()
        assert vault["a"] == {"n": n}
        vault[f"mine {n}"] = {}
        other.stdin.write("\n")
        other.stdin.flush()
    assert other.wait() == 0
    assert len(vault) == 21
    assert len(Vault(path, PASSPHRASE)) == 21
    assert len(derivations) == 1


def test_a_vault_that_does_not_exist_yet_is_settled_once(
    vault: Vault, derivations: Derivations
) -> None:
    """Its passphrase is asked for and its key derived before the first write."""
    for _ in range(3):
        vault.open()
    vault["a"] = {"n": 1}
    assert len(derivations) == 1


def test_sixteen_threads_derive_once(path: Path, derivations: Derivations) -> None:
    """Threads that open the vault at once ask once and derive once."""
    Vault(path, "made by another source")["a"] = {"n": 1}
    del derivations[:]
    asked: list[int] = []

    def passphrase() -> str:
        asked.append(1)
        return "made by another source"

    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(Vault(path, passphrase)["a"]))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(asked), len(derivations)) == (16, 1, 1)


def test_wrong_passphrase_never_opens_what_a_right_one_opened(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are held by source: also in this process, also by the same object whose
    environment changed.
    """
    vault["a"] = {"n": 1}
    path = vault.file.path
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, OTHER))
    assert len(Vault(path, lambda: PASSPHRASE)) == 1
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, lambda: OTHER))
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    free = Vault(path)
    assert len(free) == 1
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", OTHER)
    with pytest.raises(WrongPassphraseError):
        len(free)
    with pytest.raises(WrongPassphraseError):
        free["b"] = {}
    assert len(vault) == 1


def test_a_read_that_finds_the_same_bytes_opens_nothing(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed bytes are opened once, so that many looks at many roles stay cheap."""
    vault["a"] = {"n": 1}
    opened: list[int] = []
    read = envelope.read

    def counted(*arguments: Any) -> Any:
        opened.append(1)
        return read(*arguments)

    monkeypatch.setattr(envelope, "read", counted)
    for _ in range(5):
        assert vault["a"] == {"n": 1}
    assert opened == []
    Vault(vault.file.path, PASSPHRASE)["a"] = {"n": 2}
    del opened[:]
    for _ in range(5):
        assert vault["a"] == {"n": 2}
    assert opened == [1]
