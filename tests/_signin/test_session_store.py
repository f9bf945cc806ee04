"""What the processes and threads of a user share: MFA sessions of several lengths, sessions that
could not be stored at once, sign-in locks, and one question for a passphrase.
"""

import contextlib
import copy
import errno
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import time_machine

import rolevault
from conftest import PASSPHRASE, Alice, Enter, Typist, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import SignInTimeoutError, Vault, WrongPassphraseError
from rolevault._signin.session_store import SessionStore
from rolevault._signin.sts_session import StsSession
from rolevault._vault.passphrase import PassphraseSource


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can be written."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", full)
        yield


# MFA sessions of several lengths


def test_a_short_mfa_session_leaves_the_long_one(
    alice: Alice,
    sts: LocalSts,
    role_a: Role,
    role_b: Role,
    enter: Enter,
    clock: time_machine.Traveller,
) -> None:
    """A script that asks for a shorter session needs a code, and no other script needs another."""
    account_of(enter(role_a))
    clock.shift(3600)
    account_of(enter(role_b, mfa_session_seconds=900))
    assert len(alice.requests) == 2
    clock.shift(3600)
    account_of(enter(role_a))
    assert len(alice.requests) == 2
    assert sts.count("GetSessionToken") == 2


@pytest.mark.parametrize(("first", "then"), [(43200, 900), (900, 43200)])
def test_a_young_mfa_session_of_another_length_serves(
    alice: Alice, role_a: Role, role_b: Role, enter: Enter, first: int, then: int
) -> None:
    """One code serves two scripts, while its session is young enough for both."""
    account_of(enter(role_a, mfa_session_seconds=first))
    account_of(enter(role_b, mfa_session_seconds=then))
    assert len(alice.requests) == 1


# What could not be stored


def test_what_could_not_be_stored_is_stored_later(
    alice: Alice, role_a: Role, role_b: Role, enter: Enter
) -> None:
    """The next write that succeeds also stores what earlier writes could not."""
    Vault()["something"] = {}
    with full_disk():
        account_of(enter(role_a))
    assert [entry["kind"] for entry in Vault().entries()] == ["other"]
    account_of(enter(role_b))
    kinds = [entry["kind"] for entry in Vault().entries()]
    assert sorted(kinds) == ["codes", "mfa", "other", "role", "role"]
    assert len(alice.requests) == 1


def test_what_is_stored_later_replaces_nothing_newer() -> None:
    """A session that another process has renewed since is kept, and read."""
    ours, theirs = SessionStore(Vault(passphrase=PASSPHRASE)), Vault(passphrase=PASSPHRASE)
    theirs["other"] = {}
    with full_disk():
        ours.write({"a": {"issued": 1.0}, "b": {"issued": 3.0}})
    theirs.update({"a": {"issued": 2.0}, "b": {"issued": 2.0}})
    assert [ours.read()[key]["issued"] for key in "ab"] == [2.0, 3.0]
    ours.write({"c": {}})
    assert [theirs[key]["issued"] for key in "ab"] == [2.0, 3.0]
    theirs["b"] = {"issued": 1.0}
    # Ours stands in the vault now: it is not kept beside it.
    assert ours.read()["b"]["issued"] == 1.0


def test_what_could_not_be_taken_out_hides_nothing_newer() -> None:
    """An entry that could not be deleted is hidden from its process. A newer entry in its place is
    not hidden. The next write that succeeds deletes what is left.
    """
    ours, theirs = SessionStore(Vault(passphrase=PASSPHRASE)), Vault(passphrase=PASSPHRASE)
    theirs.update({"a": {"issued": 1.0}, "b": {"issued": 1.0}})
    with full_disk():
        ours.write({"a": None, "b": None})
    assert ours.read() == {}
    theirs["a"] = {"issued": 2.0}
    assert ours.read() == {"a": {"issued": 2.0}}
    ours.write({"c": {}})
    assert theirs.copy() == {"a": {"issued": 2.0}, "c": {}}


def test_a_deletion_that_fails_leaves_a_newer_entry() -> None:
    """A thread stores a session while another thread fails to delete the old one: the new one
    is kept.
    """
    ours = SessionStore(Vault(passphrase=PASSPHRASE))
    ours.write({"a": {"issued": 1.0}})
    storing = threading.Thread(target=ours.write, args=({"a": {"issued": 2.0}},), daemon=True)

    def full(*_: object) -> None:
        if not storing.ident:
            storing.start()
            while ours.read().get("a") != {"issued": 2.0}:
                time.sleep(0.01)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", full)
        ours.write({"a": None})
        storing.join(60)
    assert ours.read() == {"a": {"issued": 2.0}}


# One question for a passphrase


def in_threads(number: int, run: Callable[[], object]) -> list[Exception]:
    """Call ``run`` in threads that start together. Return what they raised."""
    errors: list[Exception] = []

    def go() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001  the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=go, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


@pytest.mark.parametrize("exists", [True, False])
def test_waiting_threads_share_a_failed_passphrase(
    exists: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One thread asks for the passphrase, of a vault that exists and of a new one. All threads that
    waited fail with it, and a later call asks again.
    """
    caplog.set_level("INFO", "rolevault")
    if exists:
        Vault(passphrase=PASSPHRASE)["a"] = {}
    asked: list[int] = []

    def wrong() -> str:
        asked.append(1)
        while caplog.text.count("Waiting for another thread") < 7 and len(asked) == 1:
            time.sleep(0.01)
        return "something else" if exists else ""

    vault = Vault(passphrase=wrong)
    errors = in_threads(8, vault.open)
    assert len(errors) == 8
    assert len(asked) == 1
    expected = WrongPassphraseError if exists else rolevault.RoleVaultError
    assert all(isinstance(error, expected) for error in errors)
    with pytest.raises(expected):
        vault.open()
    assert len(asked) == 2


@pytest.mark.parametrize("exists", [True, False])
def test_who_is_asked_for_one_passphrase_keeps_nobody_from_another_vault(
    tmp_path: Path, exists: bool
) -> None:
    """A vault whose passphrase is known opens while a person types the passphrase of another
    vault.
    """
    asked, answered = threading.Event(), threading.Event()

    def slow() -> str:
        asked.set()
        assert answered.wait(60)
        return PASSPHRASE

    paths = tmp_path / "a" / "vault", tmp_path / "b" / "vault"
    if exists:
        for path in paths:
            Vault(path, PASSPHRASE)["x"] = {}
    typing = threading.Thread(target=Vault(paths[0], slow).open, daemon=True)
    typing.start()
    assert asked.wait(60)
    other = threading.Thread(target=Vault(paths[1], PASSPHRASE).open, daemon=True)
    other.start()
    other.join(30)
    waits = other.is_alive()
    answered.set()
    typing.join(60)
    assert not waits


@pytest.mark.parametrize("exists", [True, False])
def test_a_passphrase_callback_that_needs_the_vault(exists: bool) -> None:
    """The error says so, and the callback is not called until the stack overflows."""
    asked: list[int] = []

    def circular() -> str:
        asked.append(1)
        vault.open()
        return PASSPHRASE

    if exists:
        Vault(passphrase=PASSPHRASE)["x"] = {}
    vault = Vault(passphrase=circular)
    with pytest.raises(SignInTimeoutError, match="a callback needs what it helps to get"):
        vault.open()
    assert len(asked) == 1


def test_a_passphrase_callback_that_uses_the_session(alice: Alice, role_a: Role) -> None:
    """The callback needs boto3's default session, which needs the passphrase: an error."""
    asked: list[int] = []

    def circular() -> str:
        asked.append(1)
        return account_of()

    rolevault.install(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice, passphrase=circular)
    with pytest.raises(SignInTimeoutError):
        account_of()
    assert len(asked) == 1
    assert alice.requests == []


# Sources


@dataclass
class Unhashable:
    """Is equal to another one with the same name, and has no hash, as a dataclass has none."""

    name: str

    def __call__(self) -> str:
        return PASSPHRASE

    def method(self) -> str:
        return PASSPHRASE


def test_callables_are_told_apart_by_identity() -> None:
    """Callables that are equal are still two callables, and need no hash. A bound method is the
    same callable each time it is named.
    """
    one, other = Unhashable("x"), Unhashable("x")
    assert one == other
    Vault(passphrase=one)["a"] = {"n": 1}
    assert Vault(passphrase=other)["a"] == {"n": 1}
    identity = PassphraseSource(one).identity
    assert identity == PassphraseSource(one).identity
    assert identity != PassphraseSource(other).identity
    assert PassphraseSource(one.method).identity == PassphraseSource(one.method).identity
    assert PassphraseSource(one.method).identity != PassphraseSource(other.method).identity
    assert PassphraseSource(one.method).identity != identity


def test_a_callable_that_is_gone_leaves_its_key_to_nobody() -> None:
    """Another callable may get the same address in memory, but not the key that the first
    opened.
    """
    Vault(passphrase=PASSPHRASE)["a"] = {}

    def opens(passphrase: str) -> bool:
        try:
            return len(Vault(passphrase=lambda: passphrase)) == 1
        except WrongPassphraseError:
            return False

    assert [opens(PASSPHRASE if n % 2 else "something else") for n in range(20)] == [
        False,
        True,
    ] * 10


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_holds_secrets_is_not_pickled(duplicate: Callable[[object], object]) -> None:
    """Neither a source of the passphrase nor a session can be pickled, and no error shows a
    secret.
    """
    keys = {"AccessKeyId": "A", "SecretAccessKey": "SENTINEL", "SessionToken": "T"}
    for holder in (PassphraseSource("SENTINEL"), StsSession({"Credentials": keys})):
        with pytest.raises(TypeError, match="cannot be pickled or copied") as caught:
            duplicate(holder)
        assert "SENTINEL" not in str(caught.value)


# Sign-ins of several processes


def test_the_locks_of_roles_and_devices_are_apart() -> None:
    """A sign-in that needs no code never waits for a person who types one, whatever the names
    of the role and the device are.
    """
    store = SessionStore(Vault(passphrase=PASSPHRASE))
    for digit in "0123456789abcdef":
        for other in "0123456789abcdef":
            with store.sign_in_lock("device", digit, "x"), store.sign_in_lock("role", other, "y"):
                pass


def test_a_process_waits_for_the_code_that_another_one_asks_for(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the code goes to AssumeRole itself. Two stores, as two processes have them."""
    caplog.set_level("INFO", "rolevault")
    typist = Typist(alice)
    options = {"mfa_session_seconds": 0, "mfa_callback": typist}
    sessions = [enter(role_a, passphrase=lambda: PASSPHRASE, **options) for _ in range(2)]
    credentials = [session.get_credentials() for session in sessions]
    keys: list[object] = []
    threads = [
        threading.Thread(target=lambda c=each: keys.append(c.get_frozen_credentials()), daemon=True)
        for each in credentials
    ]
    threads[0].start()
    assert typist.asked.wait(60)
    threads[1].start()
    until = time.monotonic() + 10
    while "Waiting for" not in caplog.text and time.monotonic() < until:
        time.sleep(0.01)
    typist.may_answer.set()
    for thread in threads:
        thread.join(60)
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert len(alice.requests) == 1
