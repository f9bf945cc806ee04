"""STS fails. botocore retries, and then its error is raised; keys that are still valid sign, and
nothing is lost or half-written.
"""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import time_machine
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
)
from botocore.parsers import ResponseParserError

import rolevault
from conftest import PASSPHRASE, Alice, Enter, account_of, key_of
from local_iam import Role
from local_sts import Failure, LocalSts
from rolevault import PassphraseRotatedError, Vault
from rolevault._signin.sts_answer import session_from_answer


@pytest.fixture(autouse=True)
def two_attempts(clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore makes two attempts, so that its retries can be counted."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")


#: What STS does, what its caller gets, and how often botocore asks in two attempts.
FAULTS: list[tuple[Failure, type[Exception], int]] = [
    ("throttle", ClientError, 2),
    ("error", ClientError, 2),
    ("drop", ConnectionClosedError, 2),
    ("lose", ConnectionClosedError, 2),
    ("garbage", ResponseParserError, 1),
    ("page", ResponseParserError, 1),
]


@pytest.mark.parametrize(("fault", "error", "attempts"), FAULTS)
def test_a_renewal_that_fails(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
    fault: Failure,
    error: type[Exception],
    attempts: int,
) -> None:
    """botocore retries. While the keys are valid they sign, and the vault is unchanged; then
    botocore's error is raised. Once STS works again, the next call does too.
    """
    session = enter(role_a)
    first = key_of(session)
    before = dict(Vault())
    clock.shift(3400)
    sts.fail_next(fault, 1000, action="AssumeRole")
    assert key_of(session) == first
    assert sts.count("AssumeRole") == 1 + attempts
    assert "could not be renewed" in caplog.text
    clock.shift(300)
    with pytest.raises(error):
        key_of(session)
    assert {key: value for key, value in before.items() if value["kind"] == "mfa"}.items() <= (
        dict(Vault()).items()
    )
    assert all(value in before.values() for value in Vault().values())
    sts._planned.clear()
    assert key_of(session) != first
    assert len(alice.requests) == 1


def test_a_fault_that_botocore_gets_over(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """botocore repeats an AssumeRole that failed once, and the user sees nothing of it."""
    sts.fail_next("throttle", action="AssumeRole")
    assert account_of(enter(role_a)) == role_a.account
    assert len(alice.requests) == 1


def test_a_slow_answer_is_waited_for(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """A slow answer is not a lost one: one call and one code."""
    sts.fail_next("slow", 2, seconds=0.5)
    assert account_of(enter(role_a)) == role_a.account
    assert (sts.count("GetSessionToken"), sts.count("AssumeRole")) == (1, 1)


@pytest.mark.parametrize("options", [{}, {"mfa_session_seconds": 0}])
@pytest.mark.parametrize("fault", ["throttle", "error", "drop", "lose", "garbage", "page"])
def test_a_code_is_sent_once(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    options: dict[str, int],
    fault: Failure,
) -> None:
    """botocore does not repeat a call that carries a code. If the answer is lost, the code counts
    as used, and the prompt for the next code says so.
    """
    sts.fail_next(fault, 1)
    assert account_of(enter(role_a, **options)) == role_a.account
    codes = [call.params["TokenCode"] for call in sts.calls if call.has_code]
    assert len(codes) == len(set(codes)) == len(alice.requests) == 2
    assert "counts as used" in str(alice.requests[1].last_error)


def test_a_used_code_is_known_to_other_processes(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, vault_path: Path
) -> None:
    """The vault holds each code that was sent, whether STS accepted it or not."""
    sts.fail_next("lose", 3)
    with pytest.raises(ConnectionClosedError):
        account_of(enter(role_a))
    (codes,) = [entry["codes"] for entry in Vault().values() if entry["kind"] == "codes"]
    assert set(codes) == {call.params["TokenCode"] for call in sts.calls}


def test_nobody_listens(
    alice: Alice, role_a: Role, enter: Enter, monkeypatch: pytest.MonkeyPatch, sts: LocalSts
) -> None:
    """If no connection can be made, botocore's error is raised and the code is not used."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(EndpointConnectionError):
            account_of(enter(role_a))
    assert len(alice.requests) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    assert account_of(enter(role_a)) == role_a.account


@pytest.mark.parametrize("answer", [{}, {"Credentials": {"AccessKeyId": "ASIAEXAMPLE"}}])
def test_an_answer_without_credentials(answer: dict[str, Any]) -> None:
    """The error says that the answer holds no credentials."""
    with pytest.raises(ResponseParserError, match="holds no credentials"):
        session_from_answer("role", {}, answer, asked_seconds=3600)


# The vault fails after STS has answered.


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    role_b: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    vault_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    """The sessions sign from memory, for every role. One warning says so, and no file is left."""
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, broken, full)
        session = enter(role_a)
        for _ in range(3):
            assert account_of(session) == role_a.account
            assert account_of(enter(role_b)) == role_b.account
            clock.shift(3601)
    assert len(alice.requests) == 1
    warnings = [each for each in caplog.messages if "could not be written" in each]
    assert len(warnings) == 1
    assert not vault_path.exists()
    assert list(vault_path.parent.glob("*.tmp")) == list(vault_path.parent.glob(".*.tmp")) == []
    # And into the vault once there is room.
    assert account_of(session) == role_a.account
    assert vault_path.exists()


def test_a_rotation_while_a_person_types(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The passphrase changes during the prompt, so the session cannot be stored. It signs from
    memory, and the next sign-in raises the error.
    """
    Vault()["something"] = {}

    def rotate(request: Any) -> str:
        rolevault.rotate_passphrase("another long passphrase", old=PASSPHRASE)
        return alice(request)

    session = enter(role_a, mfa_callback=rotate, passphrase=PASSPHRASE)
    assert account_of(session) == role_a.account
    assert len([each for each in caplog.messages if "could not be written" in each]) == 1
    clock.shift(3601)
    with pytest.raises(PassphraseRotatedError):
        account_of(session)
    assert len(alice.requests) == 1


def test_the_vault_is_settled_before_a_code_is_asked_for(
    alice: Alice,
    role_a: Role,
    enter: Enter,
    vault_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody is asked for a code if the vault does not open or the passphrase is missing."""
    Vault(passphrase="some other passphrase")["something"] = {}
    with pytest.raises(rolevault.WrongPassphraseError):
        account_of(enter(role_a))
    vault_path.write_bytes(vault_path.read_bytes()[:-10])
    with pytest.raises(rolevault.VaultDamagedError):
        account_of(enter(role_a))
    vault_path.unlink()
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", "/nowhere")
    with pytest.raises(BotoCoreError, match="ROLEVAULT_PASSPHRASE_FILE"):
        account_of(enter(role_a))
    assert alice.requests == []
