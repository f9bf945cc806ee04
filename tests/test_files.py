"""
Where the vault may stand, and what a failing disk does to it: places, links,
permissions, locks, and each system call of a write refused in turn.
"""

import errno
import itertools
import logging
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PASSPHRASE, Alice, Python, account_of
from local_iam import Role
from local_sts import LocalSts
from processes import system_calls
from rolevault import (
    ConfigurationError,
    InsecureVaultError,
    Vault,
    VaultDamagedError,
    VaultLockedError,
    _envelope,
    _files,
    _kdf,
    rotate_passphrase,
    session,
)
from rolevault._locks import BusyError
from rolevault._store import Store

OTHER = "twelve drummers drumming"
AS_ROOT = os.geteuid() == 0
FAULTS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EBUSY]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rolevault" / "vault"


@pytest.fixture
def vault(path: Path) -> Vault:
    vault = Vault(path, PASSPHRASE)
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


@pytest.fixture(params=[0o000, 0o002, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def hold_every_lock(vault: Vault) -> None:
    with vault.file.sign_in_lock(3, 1.0, lambda holder: None):
        pass


# Made so that only its owner gets in.


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


def rotate(path: Path) -> int:
    return rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)


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


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(path.name)
    os.chdir(here)


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
    os.truncate(path, _envelope.MAX_FILE + 1)
    real = open

    def opened(*args: Any, **kwargs: Any) -> Any:
        if isinstance(args[0], int):
            raise AssertionError("read")
        return real(*args, **kwargs)

    monkeypatch.setattr("builtins.open", opened)
    for act in (lambda: len(vault), lambda: vault.update(b={})):
        with pytest.raises(VaultDamagedError, match="64 MiB"):
            act()
    assert path.stat().st_size == _envelope.MAX_FILE + 1


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


# Links.


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
    real = _files.VaultFile._remove_leftovers

    def then_plant(self: _files.VaultFile) -> None:
        real(self)
        plant("symlink", self.path.with_name(".vault.guessed.tmp"), victim)

    monkeypatch.setattr(_files.VaultFile, "_remove_leftovers", then_plant)
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


# Locks.


def test_a_killed_holder_frees_the_lock(vault: Vault, python: Python) -> None:
    """The lock is the kernel's (check 33)."""
    holder = hold(python, vault.file.path)
    holder.kill()
    holder.wait()
    vault["b"] = {"n": 2}


def hold(python: Python, path: Path) -> "subprocess.Popen[str]":
    holder = python("import processes, sys; processes.hold_lock(sys.argv[1])", str(path))
    assert holder.stdout is not None
    assert int(holder.stdout.readline()) == holder.pid
    return holder


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

    derive = _kdf.Kdf.key

    def derived(*arguments: Any) -> bytes:
        free("KDF")
        return derive(*arguments)

    monkeypatch.setattr(_kdf.Kdf, "key", derived)
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


# A failing disk.


def fail(monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> None:
    """Let one step of a write fail: a system call, and for what it is called."""
    error = OSError(number, os.strerror(number))

    def is_temporary(argument: Any) -> bool:
        return str(argument).endswith(".tmp")

    def is_directory(argument: Any) -> bool:
        return stat.S_ISDIR(os.fstat(argument).st_mode)

    name, concerns = {
        "mkstemp": ("open", is_temporary),
        "fsync": ("fsync", lambda descriptor: not is_directory(descriptor)),
        "replace": ("replace", is_temporary),
        "lock": ("open", lambda argument: str(argument).endswith("/lock")),
        "directory fsync": ("fsync", is_directory),
    }[step]
    real = getattr(os, name)

    def failing(*args: Any, **kwargs: Any) -> Any:
        if concerns(args[0]):
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, failing)


STEPS = ["lock", "mkstemp", "fsync", "replace"]


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", STEPS)
def test_a_failing_step_keeps_the_old_file(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    """The system's own error, the old file, no temporary file, and a free lock
    (check 19).
    """
    path = vault.file.path
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        fail(patch, step, number)
        for act in (lambda: vault.update(b={}), lambda: rotate(path)):
            with pytest.raises(OSError, match=re.escape(os.strerror(number))):
                act()
        assert vault["a"] == {"n": 1}
    assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} == {"vault", "lock"}
    vault["b"] = {"n": 2}


def test_a_disk_that_fills_while_writing_keeps_the_old_file(vault: Vault, python: Python) -> None:
    """The kernel itself refuses the rest of the temporary file (check 19)."""
    path = vault.file.path
    before = path.read_bytes()
    script = (
        "import resource, signal, sys\n"
        "from rolevault import Vault, rotate_passphrase\n"
        "path, passphrase = sys.argv[1:]\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for act in (lambda: Vault(path, passphrase).update(b={}),\n"
        "            lambda: rotate_passphrase('x' * 12, old=passphrase, vault_path=path)):\n"
        "    try: act()\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    process = python(script, str(path), PASSPHRASE)
    assert process.communicate() == ("File too large\n" * 2, "")
    assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} == {"vault", "lock"}


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", STEPS)
def test_what_sts_answered_serves_from_memory(
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
    number: int,
) -> None:
    """One warning however often it fails; once the disk works again all is written
    (check 19).
    """
    store = Store(vault)
    with monkeypatch.context() as patch:
        fail(patch, step, number)
        for n in range(3):
            store.write({"b": {"n": n}})
            assert store.read() == {"a": {"n": 1}, "b": {"n": n}}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert os.strerror(number) in caplog.text
    assert vault == {"a": {"n": 1}}
    store.write({"b": {"n": 3}})
    assert vault == {"a": {"n": 1}, "b": {"n": 3}}


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EROFS, errno.ENOSPC])
def test_a_sign_in_outlives_a_full_disk(
    vault_path: Path,
    alice: Alice,
    role_a: Role,
    sts: LocalSts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """The code is not lost: credentials serve from memory, with one warning."""
    fail(monkeypatch, "replace", number)
    options: dict[str, Any] = {"mfa_serial": alice.serial, "mfa_callback": alice}
    made = session(role_a.arn, vault_path=vault_path, **options)
    for _ in range(3):
        assert account_of(made) == "111122223333"
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 1)
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.name for each in warnings] == ["rolevault._store"]
    assert not vault_path.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_a_directory_that_cannot_be_synced_is_no_failure(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """The file is in place by then: a warning where a power cut could undo it, none
    where the file system has no such call.
    """
    fail(monkeypatch, "directory fsync", number)
    vault["b"] = {"n": 2}
    assert vault["b"] == {"n": 2}
    assert len(caplog.records) == (1 if number == errno.EIO else 0)
    assert rotate(vault.file.path) == 2
    assert len(Vault(vault.file.path, OTHER)) == 2


@pytest.mark.parametrize("what", ["write", "rotate"])
def test_each_system_call_may_fail(path: Path, what: str) -> None:
    """Whichever call of a write or a rotation fails, by itself: the file is whole, old
    or new; no temporary file; the lock is free; the error is the system's or ours.
    """
    vault = Vault(path, PASSPHRASE)
    vault["a"] = {"n": 0}
    errors = itertools.cycle(FAULTS)
    passphrase, other = PASSPHRASE, OTHER
    failed = expected = 0
    for kth in itertools.count(1):
        seen = 0
        number = next(errors)

        def refuse(name: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            if name in ("close", "flock"):  # they free what they were called on, or never fail
                return
            seen += 1
            if seen == kth:
                raise OSError(number, os.strerror(number))

        try:
            with system_calls(refuse):
                if what == "write":
                    vault["a"] = {"n": kth}
                else:
                    rotate_passphrase(other, old=passphrase, vault_path=path)
        except (OSError, InsecureVaultError):
            failed += 1
        else:
            if what == "rotate":
                passphrase, other = other, passphrase
            expected = kth if what == "write" else 0
        vault = Vault(path, passphrase)
        assert vault["a"] == {"n": expected}
        assert list(path.parent.glob(".vault.*")) == []
        vault["b"] = {"n": kth}
        if seen < kth:
            break
    assert failed > 10


def test_stale_is_read_again_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """ESTALE, as NFS gives it after a replacement, is not shown; twice is."""
    real = os.open
    left = [1]

    def stale(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith("/vault") and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", stale)
    assert vault["a"] == {"n": 1}
    assert left == [0]
    left[0] = 2
    with pytest.raises(OSError, match="Stale"):
        len(vault)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux has them")
def test_a_bind_mounted_file_is_read_and_not_replaced(vault: Vault, python: Python) -> None:
    """A container's vault, mounted as one file: EBUSY, as the system says it."""
    path = vault.file.path
    before = path.read_bytes()
    script = (
        "import errno, subprocess, sys\n"
        "from rolevault import Vault\n"
        "path, passphrase = sys.argv[1:]\n"
        "mounted = subprocess.run(['mount', '--bind', path, path], capture_output=True)\n"
        "if mounted.returncode: sys.exit(77)\n"
        "vault = Vault(path, passphrase)\n"
        "assert vault['a'] == {'n': 1}\n"
        "try: vault['b'] = {'n': 2}\n"
        "except OSError as error: assert error.errno == errno.EBUSY, error\n"
        "else: sys.exit(1)\n"
    )
    wrapper = "import os, sys; os.execvp('unshare', ['unshare', '-rm', *sys.argv[1:]])"
    process = python(wrapper, sys.executable, "-c", script, str(path), PASSPHRASE)
    _, errors = process.communicate()
    if process.returncode == 77 or "unshare" in errors:
        pytest.skip("no mounts in this container")
    assert process.returncode == 0, errors
    assert path.read_bytes() == before
    assert list(path.parent.glob(".vault.*")) == []


def test_a_directory_is_named_as_one(tmp_path: Path) -> None:
    """
    A directory in place of the file is said to be one, whatever stands above it:
    nobody is told to close ``/`` because the path was ``/tmp``.
    """
    (tmp_path / "open").mkdir(mode=0o777)
    tmp_path.chmod(0o755)
    with pytest.raises(InsecureVaultError, match="it is a directory") as caught:
        Vault(tmp_path / "open", PASSPHRASE).copy()
    assert "chmod" not in str(caught.value)
