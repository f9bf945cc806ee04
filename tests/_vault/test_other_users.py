"""
Other people on the machine: what they can do to somebody's vault, which is
nothing, and what root does in a user's, which is no more than the user would.

Alice and Mallory are two users without an entry anywhere: processes that root
forks and that then give root up.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Python

if not hasattr(os, "geteuid") or os.geteuid() != 0:
    pytest.skip("only root can become other users", allow_module_level=True)

ALICE, MALLORY = 61001, 65534

PRELUDE = f"""
import errno, fcntl, json, os, stat, sys
from pathlib import Path
from processes import be_patient_and_cheap, fork, wait, CHEAP, FIRST, SECOND
be_patient_and_cheap()
from rolevault import InsecureVaultError, Vault, rotate_passphrase
from rolevault._vault.file import VaultFile
ALICE, MALLORY = {ALICE}, {MALLORY}
top = Path(sys.argv[1])
home, commons = top / "alice", top / "commons"
path = home / "rolevault" / "vault"

def become(user, work):
    def act():
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        os.environ["HOME"] = str(home)
        work()
    return fork(act)

def as_user(user, work):
    assert wait(become(user, work)) == 0

def alice(work): as_user(ALICE, work)
def mallory(work): as_user(MALLORY, work)

def refused(act, *words):
    try: act()
    except InsecureVaultError as error:
        assert all(word in str(error) for word in words), error
    else: raise AssertionError("not refused")

def denied(act, *args):
    try: act(*args)
    except PermissionError: return
    raise AssertionError((act, args))

def owners(directory): return {{each.name: each.lstat().st_uid for each in directory.iterdir()}}

def make(): Vault(path, FIRST)["a"] = {{"n": 1}}
def sign_in(path=path):
    with VaultFile(path).sign_in_lock(3, 0.05, lambda holder: None): pass

# Once as root, who can import everything that is imported when it is needed.
warm = top / "warm" / "vault"
Vault(warm, FIRST)["a"] = {{"n": 1}}
rotate_passphrase(SECOND, old=FIRST, vault_path=warm)
sign_in(warm)
for each in warm.parent.iterdir(): each.unlink()
warm.parent.rmdir()
"""


@pytest.fixture
def top() -> Iterator[Path]:
    """Alice's home, which anybody may enter, and a place like /tmp."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    (directory / "alice").mkdir(mode=0o755)
    os.chown(directory / "alice", ALICE, ALICE)
    (directory / "commons").mkdir()
    (directory / "commons").chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def scene(python: Python, top: Path) -> Any:
    def play(script: str) -> None:
        process = python(PRELUDE + script, str(top))
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert (output, errors) == ("", "")

    return play


def test_nobody_else_gets_at_the_vault(scene: Any) -> None:
    """Another user can neither list, read, replace, remove, lock nor link into it."""
    scene("""
alice(make)
alice(sign_in)
def work():
    held = home / "rolevault"
    denied(os.listdir, held)
    denied(os.stat, path)
    for name in ("vault", "lock", "lock.3"):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            denied(os.open, held / name, flags)
        denied(os.unlink, held / name)
        denied(os.link, held / name, commons / name)
        denied(os.rename, held / name, commons / name)
        denied(os.replace, commons, held / name)
    for name in ("new", ".vault.x.tmp"):
        denied(os.symlink, commons, held / name)
        denied(os.mkfifo, held / name)
        denied(os.mkdir, held / name)
    denied(os.rename, held, home / "other")
    denied(os.chmod, held, 0o777)
    refused(lambda: Vault(path, FIRST).copy(), "belongs to uid 61001")
    refused(lambda: Vault(path, FIRST).update(b={}), "belongs to uid 61001")
    refused(lambda: Vault(path, FIRST).clear(), "belongs to uid 61001")
    refused(lambda: rotate_passphrase(SECOND, old=FIRST, vault_path=path), "belongs to uid 61001")
mallory(work)
def still():
    assert Vault(path, FIRST) == {"a": {"n": 1}}
    make()
alice(still)
assert set(owners(path.parent).values()) == {ALICE}
""")


def test_a_planted_directory_is_refused(scene: Any) -> None:
    """Where somebody else made the directory first, nothing is put in it."""
    scene("""
planted = commons / "rolevault"
def plant():
    planted.mkdir()
    planted.chmod(0o777)
mallory(plant)
def work():
    vault = Vault(planted / "vault", FIRST)
    for act in (vault.copy, vault.clear, lambda: vault.update(a={}), vault.file.usable):
        refused(act, "belongs to uid 65534")
alice(work)
assert list(planted.iterdir()) == []
""")


def test_planted_links_are_refused(scene: Any) -> None:
    """A link of somebody else, at the file or at the directory, leads nowhere, even
    into a directory of one's own.
    """
    scene("""
alice(make)
before = path.read_bytes()
def plant():
    (commons / "vault").symlink_to(path)
    (commons / "new").symlink_to(path.with_name("new"))
    (commons / "directory").symlink_to(path.parent)
mallory(plant)
def work():
    for name in ("vault", "new", "directory/vault"):
        vault = Vault(commons / name, FIRST)
        for act in (vault.copy, vault.clear, lambda: vault.update(b={})):
            refused(act, "link that belongs to uid 65534")
alice(work)
assert path.read_bytes() == before
assert set(owners(path.parent)) == {"vault", "lock"}
""")


def test_a_directory_that_was_open_keeps_nothing_planted(scene: Any) -> None:
    """While it is open it is refused; and once it is closed, what others have left in
    it is refused by its owner: vault, locks held for ever, FIFOs, links.
    """
    scene("""
def opened():
    path.parent.mkdir()
    path.parent.chmod(0o777)
alice(opened)
keep = {}
def plant():
    for name in ("vault", "lock", "lock.3"):
        (path.parent / name).write_bytes(b"")
        (path.parent / name).chmod(0o666)
    os.mkfifo(path.parent / "fifo")
    (path.parent / "link").symlink_to("/etc/passwd")
    (path.parent / ".vault.x.tmp").symlink_to(home / "precious")
mallory(plant)
def held():
    for name in ("lock", "lock.3"):
        keep[name] = open(path.parent / name, "r+b")
        fcntl.flock(keep[name], fcntl.LOCK_EX)
    os.write(tell, b".")
    os.close(tell)
    os.read(done, 1)
told, tell = os.pipe()
done, finish = os.pipe()
holder = become(MALLORY, lambda: (os.close(finish), held()))
os.read(told, 1)
(home / "precious").write_text("mine")
os.chown(home / "precious", ALICE, ALICE)
def work():
    os.close(finish)
    vault = Vault(path, FIRST)
    for act in (vault.copy, vault.clear, lambda: vault.update(a={}), sign_in):
        refused(act, "chmod 700")
    path.parent.chmod(0o700)
    refused(vault.copy, "belongs to uid 65534")
    refused(vault.clear, "lock", "belongs to uid 65534")
    refused(sign_in, "lock.3", "belongs to uid 65534")
    for name in ("vault", "lock", "lock.3"):
        (path.parent / name).unlink()
    refused(lambda: Vault(path.with_name("fifo"), FIRST).copy(), "FIFO")
    refused(lambda: Vault(path.with_name("link"), FIRST).copy(), "link that belongs to uid 65534")
    make()
    sign_in()
    assert Vault(path, FIRST) == {"a": {"n": 1}}
alice(work)
os.close(finish)
assert wait(holder) == 0
assert (home / "precious").read_text() == "mine"
assert not os.path.lexists(path.parent / ".vault.x.tmp")
""")


def test_a_file_put_in_ones_directory_is_refused(scene: Any) -> None:
    """Whose file it is counts, not only whose directory: by root or by anybody."""
    scene("""
alice(make)
for owner in (0, MALLORY):
    os.chown(path, owner, owner)
    def work():
        vault = Vault(path, FIRST)
        for act in (vault.copy, lambda: vault.update(b={})):
            refused(act)
    alice(work)
    refused(lambda: Vault(path, FIRST).copy(), f"belongs to uid {owner}")
assert os.stat(path).st_uid == MALLORY
""")


def test_root_keeps_the_owner(scene: Any) -> None:
    """``sudo -E``: what root writes to a user's vault stays the user's: the file, the
    locks, after a rotation too.
    """
    scene("""
alice(make)
path.with_name("lock").unlink()
Vault(path, FIRST)["b"] = {"n": 2}
sign_in()
rotate_passphrase(SECOND, old=FIRST, vault_path=path)
assert set(owners(path.parent).values()) == {ALICE}
assert len(owners(path.parent)) == 18
assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
def work():
    vault = Vault(path, SECOND)
    vault["c"] = {"n": 3}
    sign_in()
    assert set(vault) == {"a", "b", "c"}
alice(work)
""")


def test_root_makes_no_vault_among_a_users_files(scene: Any) -> None:
    """Not in a home without the directory, not in one with it, not by ``sudo -E``."""
    scene("""
os.environ["HOME"] = str(home)
def attempt(where):
    vault = Vault(where, FIRST)
    for act in (vault.file.usable, lambda: vault.update(a={}), vault.clear):
        refused(act, "root would create it among the files of uid 61001", "sudo -H")
    assert vault == {}
attempt(None)
attempt(path)
attempt(home / "x" / "y" / "vault")
assert list(home.iterdir()) == []
alice(lambda: path.parent.mkdir(mode=0o700))
attempt(path)
assert list(path.parent.iterdir()) == []
""")


def test_root_with_a_users_home_mounted_read_only(scene: Any) -> None:
    """In a container: nothing can be made there, so nothing is refused, and what STS answers
    serves from memory.
    """
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("this root may not mount")
    scene("""
import ctypes, logging, subprocess
logging.getLogger("rolevault").setLevel(logging.ERROR)  # of the warning, another test tells
from rolevault._signin.session_store import SessionStore
def work():
    assert ctypes.CDLL(None).unshare(0x00020000) == 0  # CLONE_NEWNS
    for words in ("--make-rprivate /", f"--bind {home} {home}", f"-o remount,bind,ro {home}"):
        subprocess.run(["mount", *words.split()], check=True)
    os.environ["HOME"] = str(home)
    store = SessionStore(Vault(None, lambda: sys.exit("asked")))
    assert not store.vault.file.usable()
    store.ensure_openable()
    store.write({"b": {"n": 1}})
    assert store.read() == {"b": {"n": 1}}
assert wait(fork(work)) == 0
assert list(home.iterdir()) == []
""")


def test_root_is_not_tricked_by_a_users_links(scene: Any) -> None:
    """A user's link into root's files is refused, and nothing there is touched,
    tightened or given away.
    """
    scene("""
own = top / "root"
own.mkdir(mode=0o700)
(own / "precious").write_text("mine")
(own / "open").mkdir(mode=0o755)
os.environ["HOME"] = str(home)
def plant():
    (home / "file").symlink_to(own / "precious")
    (home / "new").symlink_to(own / "new")
    (home / ".aws").mkdir()
    (home / ".aws" / "rolevault").symlink_to(own / "open")
alice(plant)
for where in (home / "file", home / "new", None):
    vault = Vault(where, FIRST)
    for act in (vault.copy, vault.clear, lambda: vault.update(a={})):
        refused(act, "link that belongs to uid 61001")
assert stat.S_IMODE((own / "open").stat().st_mode) == 0o755
assert (own / "precious").read_text() == "mine"
assert set(owners(own)) == {"precious", "open"}

# What a user plants in the place of a lock, root neither empties nor gives away.
alice(make)
path.with_name("lock").unlink()
os.link(own / "precious", path.with_name("lock"))
refused(lambda: Vault(path, FIRST).update(b={}), "no lock file")
assert (own / "precious").read_text() == "mine"
assert (own / "precious").stat().st_uid == 0
""")


def test_root_refuses_what_a_user_left_open(scene: Any) -> None:
    """The default place is closed for its owner only by its owner."""
    scene("""
os.environ["HOME"] = str(home)
alice(lambda: Vault(None, FIRST).update(a={}))
default = home / ".aws" / "rolevault"
default.chmod(0o755)
refused(lambda: Vault(None, FIRST).copy(), "chmod 700")
default.chmod(0o700)
(default / "vault").chmod(0o644)
refused(lambda: Vault(None, FIRST).copy(), "chmod 600")
assert stat.S_IMODE((default / "vault").stat().st_mode) == 0o644
""")


def test_a_read_only_place_is_read(scene: Any) -> None:
    """Reads work, writes raise the system's error, the store warns once, nothing is
    asked for twice (check 20).
    """
    scene("""
import logging
from rolevault._signin.session_store import SessionStore
alice(make)
def work():
    path.parent.chmod(0o500)
    path.with_name("lock").chmod(0o400)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("rolevault").addHandler(handler)
    vault = Vault(path, FIRST)
    assert vault == {"a": {"n": 1}}
    denied(lambda: vault.update(b={}))
    denied(lambda: rotate_passphrase(SECOND, old=FIRST, vault_path=path))
    store = SessionStore(vault)
    store.ensure_openable()
    for n in range(3):
        with store.sign_in_lock("role", "ab", "to test"):
            store.write({"b": {"n": n}})
            assert store.read() == {"a": {"n": 1}, "b": {"n": n}}
    assert [each.levelname for each in records] == ["WARNING"], records

    # Root's directory, and one of ours without write permission: none can be made.
    (home / "closed").mkdir(mode=0o500)
    for number, where in enumerate((top / "rolevault", home / "closed"), 2):
        nowhere = SessionStore(Vault(where / "vault", lambda: sys.exit("asked")))
        nowhere.ensure_openable()
        with nowhere.sign_in_lock("role", "ab", "to test"):
            nowhere.write({"b": {"n": 1}})
        assert nowhere.read() == {"b": {"n": 1}}
        assert len(records) == number
alice(work)
assert set(owners(path.parent)) == {"vault", "lock"}
""")


def test_the_scene_reports_what_fails(scene: Any) -> None:
    """An error in a child is an error of the test."""
    with pytest.raises(AssertionError, match="not refused"):
        scene("alice(lambda: refused(make))")
