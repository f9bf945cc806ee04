"""
Where the vault may stand, and who may reach it there.
"""

import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import OTHER, PASSPHRASE
from rolevault import (
    ConfigurationError,
    InsecureVaultError,
    Vault,
    VaultDamagedError,
    rotate_passphrase,
)
from rolevault._vault import envelope

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def vault(vault: Vault) -> Vault:
    vault["a"] = {"n": 1}
    return vault


@pytest.fixture
def default(empty_home: Path) -> Vault:
    vault = Vault(None, PASSPHRASE)
    vault["a"] = {"n": 1}
    return vault


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tree(directory: Path) -> dict[str, int]:
    return {each.name: mode(each) for each in directory.iterdir()}


@pytest.fixture(params=[0o000, 0o002, 0o077, 0o177])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def hold_every_lock(vault: Vault) -> None:
    with vault.file.sign_in_lock(3, 1.0, lambda holder: None):
        pass


def rotate(path: Path) -> int:
    return rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(path.name)
    os.chdir(here)


# Made so that only its owner gets in.


def test_made_closed_from_the_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can enter a directory between its making and the next call."""
    seen, chmod, before = [], Path.chmod, os.umask(0)

    def look(path: Path, mode: int) -> None:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", look)
    try:
        Vault(tmp_path / "new" / "vault", PASSPHRASE)["a"] = {}
    finally:
        os.umask(before)
    assert seen == [0o700]


@pytest.mark.usefixtures("umask")
def test_made_closed_whatever_the_umask(path: Path) -> None:
    """Files 0600, each directory we make 0700 (check 32)."""
    deep = path.parent / "x" / "y" / "vault"
    vault = Vault(deep, PASSPHRASE)
    vault["a"] = {"n": 1}
    hold_every_lock(vault)
    for directory in (path.parent, path.parent / "x", deep.parent):
        assert mode(directory) == 0o700
    locks = {"lock", *(f"lock.{digit:x}" for digit in range(16))}
    assert tree(deep.parent) == dict.fromkeys({"vault", *locks}, 0o600)


@pytest.mark.usefixtures("umask")
def test_temporary_file_is_closed_from_its_creation(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0600 before the first byte is in it."""
    modes: list[int] = []

    def look(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            modes.append(mode(Path(f"/proc/self/fd/{descriptor}")))

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("no /proc here")
    monkeypatch.setattr(os, "fsync", look)
    vault["b"] = {"n": 2}
    assert modes == [0o600]


def test_lock_files_stay_and_tell_nothing(vault: Vault) -> None:
    """The sixteen are made together, and no lock file is ever deleted or replaced."""
    hold_every_lock(vault)
    directory = vault.file.path.parent
    before = {each.name: each.stat().st_ino for each in directory.glob("lock*")}
    assert len(before) == 17
    for _ in range(3):
        hold_every_lock(vault)
        vault["b"] = {"n": 2}
    assert before == {each.name: each.stat().st_ino for each in directory.glob("lock*")}


# Where it may not stand.


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o602, 0o620])
def test_a_file_open_to_others_is_refused(vault: Vault, bits: int) -> None:
    """InsecureVaultError naming the chmod, which helps; nothing is written (check 30)."""
    path = vault.file.path
    path.chmod(bits)
    before = path.read_bytes()
    for act in (lambda: len(vault), lambda: vault.update(b={}), lambda: rotate(path)):
        with pytest.raises(InsecureVaultError, match=f"chmod 600 '{path}'"):
            act()
    assert (path.read_bytes(), mode(path)) == (before, bits)
    path.chmod(0o600)
    vault["b"] = {}


@pytest.mark.parametrize("bits", [0o777, 0o755, 0o710, 0o701, 0o720])
def test_a_directory_open_to_others_is_refused(vault: Vault, bits: int) -> None:
    """InsecureVaultError naming the chmod, which helps; nothing is written (check 30)."""
    path = vault.file.path
    path.parent.chmod(bits)
    before = path.read_bytes()
    for act in (
        lambda: len(vault),
        lambda: vault.update(b={}),
        lambda: vault.clear(),
        lambda: hold_every_lock(vault),
        lambda: rotate(path),
    ):
        with pytest.raises(InsecureVaultError, match=f"chmod 700 '{path.parent}'"):
            act()
    assert (path.read_bytes(), mode(path.parent)) == (before, bits)
    path.parent.chmod(0o700)
    vault["b"] = {}


def test_our_default_place_is_closed_with_a_warning(
    default: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """What we chose ourselves we tighten, and say so."""
    path = default.file.path
    path.chmod(0o644)
    path.parent.chmod(0o755)
    assert default["a"] == {"n": 1}
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    del default["a"]
    assert len(caplog.records) == 2


def test_another_default_place_by_a_link_is_refused(default: Vault, tmp_path: Path) -> None:
    """A link where our default should be leads to a place that is not ours to tighten."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    directory = default.file.path.parent
    directory.rename(tmp_path / "away")
    directory.symlink_to(elsewhere)
    with pytest.raises(InsecureVaultError, match="chmod 700"):
        len(Vault(None, PASSPHRASE))
    assert mode(elsewhere) == 0o755
    directory.unlink()
    directory.mkdir(mode=0o700)
    (directory / "vault").symlink_to(elsewhere / "vault")
    with pytest.raises(InsecureVaultError, match="chmod 700"):
        len(Vault(None, PASSPHRASE))
    assert mode(elsewhere) == 0o755


def test_directories_above_are_not_judged(path: Path) -> None:
    """Group-writable homes are normal."""
    path.parent.parent.chmod(0o777)
    vault = Vault(path, PASSPHRASE)
    vault["a"] = {"n": 1}
    assert vault["a"] == {"n": 1}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "directory"),
        (lambda path: os.mkfifo(path, 0o600), "FIFO"),
        (make_socket, "cannot be opened"),
        (lambda path: path.symlink_to("/dev/null"), "/dev"),
        (lambda path: path.symlink_to(path.name), "link"),
    ],
    ids=["directory", "FIFO", "socket", "device", "loop"],
)
def test_what_is_no_file_is_refused_without_a_hang(
    path: Path, make: Callable[[Path], None], said: str
) -> None:
    """Each has its own words; nothing of it is touched (check 12)."""
    path.parent.mkdir(mode=0o700)
    make(path)
    before = path.lstat()
    vault = Vault(path, lambda: pytest.fail("asked"))
    for act in (lambda: len(vault), lambda: vault.update(b={}), lambda: rotate(path)):
        with pytest.raises(InsecureVaultError, match=said):
            act()
    after = path.lstat()
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert [each for each in path.parent.iterdir() if each.name.endswith(".tmp")] == []


@pytest.mark.skipif(not AS_ROOT, reason="only root can make devices")
def test_a_device_is_refused(path: Path) -> None:
    """It could answer anything, and for ever (check 12)."""
    path.parent.mkdir(mode=0o700)
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this container cannot make devices")
    with pytest.raises(InsecureVaultError, match=r"device|cannot be opened"):
        len(Vault(path, PASSPHRASE))


def test_a_directory_that_is_a_file_is_refused(path: Path) -> None:
    """A file stands where the directory should; it is left as it is."""
    path.parent.write_text("mine")
    path.parent.chmod(0o600)
    for act in (
        lambda: Vault(path, PASSPHRASE).copy(),
        lambda: Vault(path, PASSPHRASE).update(a={}),
    ):
        with pytest.raises(InsecureVaultError, match="no directory"):
            act()
    with pytest.raises(NotADirectoryError):
        Vault(path / "deeper" / "vault", PASSPHRASE)["a"] = {}
    assert (path.parent.read_text(), mode(path.parent)) == ("mine", 0o600)


def test_too_large_is_refused_before_reading(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB, judged by the size alone (check 15)."""
    path = vault.file.path
    os.truncate(path, envelope.MAX_FILE + 1)
    real = open

    def opened(*args: Any, **kwargs: Any) -> Any:
        if isinstance(args[0], int):
            raise AssertionError("read")
        return real(*args, **kwargs)

    monkeypatch.setattr("builtins.open", opened)
    for act in (lambda: len(vault), lambda: vault.update(b={})):
        with pytest.raises(VaultDamagedError, match="64 MiB"):
            act()
    assert path.stat().st_size == envelope.MAX_FILE + 1


@pytest.mark.parametrize("name", ["lock", "lock.0", "LOCK.F"])
def test_a_vault_is_not_named_as_a_lock(tmp_path: Path, name: str) -> None:
    """It would be emptied by whoever takes the lock."""
    with pytest.raises(ConfigurationError, match="lock"):
        Vault(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name)
    with pytest.raises(InsecureVaultError, match="lock"):
        len(Vault(tmp_path / "link", PASSPHRASE))


def test_no_home_is_said_where_it_is_needed() -> None:
    """A user who is in no list has none, and is told to name the file."""
    with pytest.raises(ConfigurationError, match="no home directory"):
        Vault("~no-such-user/rolevault/vault")


@pytest.mark.parametrize("bits", [0o700, 0o777])
def test_a_directory_that_another_process_makes_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    """It is as good as ours, if it is closed."""
    real = Path.mkdir

    def twice(self: Path, mode: int = 0o777, **settings: bool) -> None:
        if not self.exists():
            real(self)
            self.chmod(bits)
        real(self, mode, **settings)

    monkeypatch.setattr(Path, "mkdir", twice)
    vault = Vault(path, PASSPHRASE)
    if bits == 0o700:
        vault["a"] = {"n": 1}
    else:
        with pytest.raises(InsecureVaultError, match="chmod 700"):
            vault["a"] = {"n": 1}
        assert list(path.parent.iterdir()) == []


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """``ROLEVAULT_FILE``, which an argument overrules; empty is as unset."""
    monkeypatch.setenv("ROLEVAULT_FILE", str(path))
    assert Vault().file.path == path
    assert Vault("~/x/vault").file.path == Path.home() / "x" / "vault"
    monkeypatch.setenv("ROLEVAULT_FILE", "")
    assert Vault().file.path == Path.home() / ".aws" / "rolevault" / "vault"


def test_a_place_named_by_the_environment_is_refused_not_tightened(
    monkeypatch: pytest.MonkeyPatch, vault: Vault
) -> None:
    """Only our own default is ours to close."""
    monkeypatch.setenv("ROLEVAULT_FILE", str(vault.file.path))
    vault.file.path.parent.chmod(0o755)
    with pytest.raises(InsecureVaultError, match="chmod 700"):
        len(Vault(None, PASSPHRASE))
    assert mode(vault.file.path.parent) == 0o755


def test_a_process_that_changes_directory_keeps_its_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is meant where the Vault was made."""
    monkeypatch.chdir(tmp_path)
    vault = Vault("here/vault", PASSPHRASE)
    vault["a"] = {"n": 1}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert vault["a"] == {"n": 1}
    assert (tmp_path / "here" / "vault").exists()


def test_a_file_system_that_ignores_modes_is_refused(
    default: Vault, vault_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """chmod succeeds there and changes nothing: no claim that the place was closed, and a
    refusal that names ``ROLEVAULT_FILE``.
    """
    monkeypatch.setattr(os, "fchmod", lambda *_: None)
    for path, bits in ((vault_path, 0o666), (vault_path.parent, 0o777)):
        before = mode(path)
        path.chmod(bits)
        with pytest.raises(InsecureVaultError, match=r"chmod leaves its mode.*ROLEVAULT_FILE"):
            default.copy()
        path.chmod(before)
    assert "Closed" not in caplog.text
    assert default.copy() == {"a": {"n": 1}}


def test_a_directory_without_x_is_mended(vault_path: Path, default: Vault, caplog: Any) -> None:
    """An earlier umask of 177 left it so; a warning says that it has changed."""
    vault_path.parent.chmod(0o600)
    default["b"] = {"n": 2}
    assert mode(vault_path.parent) == 0o700
    assert "could not be entered" in caplog.text


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("$NOWHERE/vault", "a variable in it is not set"),
        ("${NOWHERE}/vault", "a variable in it is not set"),
        ('"/tmp/vault"', "the quotes are part of the value"),
        ("'/tmp/vault'", "the quotes are part of the value"),
    ],
)
def test_an_unexpanded_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, rule: str
) -> None:
    """``ROLEVAULT_FILE`` from systemd or ``docker --env-file``: no folder called ``$HOME``."""
    monkeypatch.setenv("ROLEVAULT_FILE", value)
    with pytest.raises(ConfigurationError, match=rule) as caught:
        Vault()
    assert caught.value.option == "ROLEVAULT_FILE"


def test_variables_in_the_path_are_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As botocore expands ``AWS_CONFIG_FILE``; a path that a program gives is taken as it is."""
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("ROLEVAULT_FILE", "$PLACE/own/vault")
    assert Vault().file.path == tmp_path / "own" / "vault"
    assert Vault(tmp_path / "$PLACE").file.path == tmp_path / "$PLACE"


def test_the_remedy_names_what_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument beats ``ROLEVAULT_FILE``, so where a path was given that is no remedy."""
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(InsecureVaultError) as caught:
        Vault(tmp_path / "open" / "vault", PASSPHRASE).copy()
    assert "ROLEVAULT_FILE" not in str(caught.value)
    monkeypatch.setenv("ROLEVAULT_FILE", str(tmp_path / "open" / "vault"))
    with pytest.raises(InsecureVaultError, match="ROLEVAULT_FILE"):
        Vault(None, PASSPHRASE).copy()
