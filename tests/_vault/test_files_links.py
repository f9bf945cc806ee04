"""
Links and what others plant in the place of the vault, its locks and its
temporary files.
"""

import os
from pathlib import Path

import pytest

from conftest import OTHER, PASSPHRASE
from rolevault import InsecureVaultError, Vault, rotate_passphrase
from rolevault._vault import file


@pytest.fixture
def vault(vault: Vault) -> Vault:
    vault["a"] = {"n": 1}
    return vault


def hold_every_lock(vault: Vault) -> None:
    with vault.file.sign_in_lock(3, 1.0, lambda holder: None):
        pass


def rotate(path: Path) -> int:
    return rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)


def plant(kind: str, place: Path, victim: Path) -> None:
    victim.write_text("mine")
    if kind == "symlink":
        place.symlink_to(victim)
    elif kind == "hard link":
        place.hardlink_to(victim)
    elif kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)


def test_a_link_of_ours_is_followed_once(vault: Vault, tmp_path: Path) -> None:
    """The file behind it is replaced and not the link; lock and temporary file
    stand beside the target.
    """
    link = tmp_path / "home" / "link"
    link.symlink_to(vault.file.path)
    linked = Vault(link, PASSPHRASE)
    linked["b"] = {"n": 2}
    assert link.is_symlink()
    assert vault["b"] == {"n": 2}
    assert [each.name for each in link.parent.iterdir()] == ["link"]
    link.unlink()
    link.symlink_to(tmp_path / "home" / "other")
    assert linked["b"] == {"n": 2}


def test_a_dangling_link_is_a_vault_to_be_made(path: Path, tmp_path: Path) -> None:
    """It is made where the link leads."""
    link = tmp_path / "link"
    link.symlink_to(path)
    Vault(link, PASSPHRASE)["a"] = {"n": 1}
    assert link.is_symlink()
    assert Vault(path, PASSPHRASE)["a"] == {"n": 1}


def test_a_file_that_becomes_a_link_is_refused(vault: Vault, tmp_path: Path) -> None:
    """Once it was a file: O_NOFOLLOW (check 31)."""
    target = tmp_path / "target"
    vault.file.path.rename(target)
    vault.file.path.symlink_to(target)
    before = target.read_bytes()
    for act in (lambda: len(vault), lambda: vault.update(b={})):
        with pytest.raises(InsecureVaultError, match="link"):
            act()
    assert target.read_bytes() == before


@pytest.mark.parametrize("kind", ["symlink", "hard link", "directory", "FIFO"])
def test_what_is_planted_for_a_lock_is_refused(vault: Vault, tmp_path: Path, kind: str) -> None:
    """Links' targets stay as they are, and nothing hangs (check 31)."""
    victim = tmp_path / "victim"
    lock = vault.file.path.with_name("lock")
    lock.unlink()
    plant(kind, lock, victim)
    with pytest.raises(InsecureVaultError, match=f"{lock} cannot"):
        vault["b"] = {"n": 2}
    with pytest.raises(InsecureVaultError):
        rotate(vault.file.path)
    assert victim.read_text() == "mine"
    assert vault["a"] == {"n": 1}
    sign_in = lock.with_name("lock.3")
    plant(kind, sign_in, victim)
    with pytest.raises(InsecureVaultError, match=f"{sign_in} cannot"):
        hold_every_lock(vault)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("kind", ["symlink", "hard link", "directory", "FIFO"])
def test_what_is_planted_as_a_temporary_file_does_no_harm(
    vault: Vault, tmp_path: Path, kind: str
) -> None:
    """It is taken away where it can be, and its target stays (check 31)."""
    victim = tmp_path / "victim"
    place = vault.file.path.with_name(".vault.planted.tmp")
    plant(kind, place, victim)
    vault["b"] = {"n": 2}
    assert vault["b"] == {"n": 2}
    assert victim.read_text() == "mine"
    assert os.path.lexists(place) == (kind == "directory")


def test_a_temporary_name_is_never_written_through(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses it and plants a link there gets nothing: O_EXCL (check 31)."""
    victim = tmp_path / "victim"
    names = iter(["guessed", "other"])
    monkeypatch.setattr("tempfile._get_candidate_names", lambda: names)
    real = file.VaultFile._remove_leftovers

    def then_plant(self: file.VaultFile) -> None:
        real(self)
        plant("symlink", self.path.with_name(".vault.guessed.tmp"), victim)

    monkeypatch.setattr(file.VaultFile, "_remove_leftovers", then_plant)
    vault["b"] = {"n": 2}
    assert victim.read_text() == "mine"
    assert vault["b"] == {"n": 2}


def test_others_temporary_files_are_left_alone(vault: Vault) -> None:
    """Only our own go; of two vaults in one directory each keeps its entries."""
    names = ("notes.tmp", ".vault.txt", ".other.abc.tmp")
    for name in names:
        vault.file.path.with_name(name).touch()
    vault.file.path.with_name(".vault.abc.tmp").touch()
    neighbour = Vault(vault.file.path.with_name("second"), OTHER)
    neighbour["n"] = {"n": 9}
    vault["b"] = {"n": 2}
    assert {each.name for each in vault.file.path.parent.iterdir()} == {
        *names,
        "lock",
        "vault",
        "second",
    }
    assert neighbour["n"] == {"n": 9}


def test_clearing_what_is_gone_is_no_error(vault: Vault) -> None:
    """Nothing is left, not a killed writer's temporary file either."""
    vault.file.path.with_name(".vault.abc.tmp").touch()
    for _ in range(2):
        vault.clear()
        assert {each.name for each in vault.file.path.parent.iterdir()} == {"lock"}
