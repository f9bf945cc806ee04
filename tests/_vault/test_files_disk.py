"""
What a failing disk does to the vault: each system call of a write refused in
turn.
"""

import errno
import itertools
import logging
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import OTHER, PASSPHRASE, Alice, Python, account_of
from local_iam import Role
from local_sts import LocalSts
from processes import system_calls
from rolevault import (
    InsecureVaultError,
    Vault,
    rotate_passphrase,
    session,
)
from rolevault._signin.session_store import SessionStore

FAULTS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EBUSY]


@pytest.fixture
def vault(vault: Vault) -> Vault:
    vault["a"] = {"n": 1}
    return vault


def rotate(path: Path) -> int:
    return rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)


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
    store = SessionStore(vault)
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
    assert [each.name for each in warnings] == ["rolevault._signin.session_store"]
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
