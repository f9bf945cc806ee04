"""One code for every role: the shared MFA session, and each exception to it."""

import logging
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError, CredentialRetrievalError, NoRegionError

import rolevault
from conftest import Alice, Config, Enter, Python, account_of, key_of
from local_iam import Role
from local_sts import LocalSts

DAY = 24 * 3600


def test_one_code_for_five_roles_and_the_next_process(
    sts: LocalSts, alice: Alice, enter: Enter, python: Python
) -> None:
    """GetSessionToken is called once. Its session enters every role, in other processes too."""
    roles = [
        sts.add_role("Deploy", account=f"{n}" * 12, trusts=[alice.user], mfa=True) for n in range(5)
    ]
    assert [account_of(enter(role)) for role in roles] == [f"{n}" * 12 for n in range(5)]
    assert len(alice.requests) == 1
    assert sts.count("GetSessionToken") == 1
    assert sts.count("AssumeRole") == 5
    new = sts.add_role("Deploy", account="5" * 12, trusts=[alice.user], mfa=True)
    script = (
        "import rolevault, sys; from conftest import account_of;"
        "print(account_of(rolevault.session(sys.argv[1], mfa_serial=sys.argv[2])))"
    )
    # Nobody could be asked there: no terminal, no callback.
    output, errors = python(script, new.arn, alice.serial, start_new_session=True).communicate()
    assert (output, errors) == ("5" * 12 + "\n", "")
    assert sts.count("GetSessionToken") == 1


def test_turned_off(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    role_b: Role,
    enter: Enter,
) -> None:
    """With ``mfa_session_seconds=0`` each role needs a code, which goes to AssumeRole itself."""
    for role in (role_a, role_b, role_a):
        assert account_of(enter(role, mfa_session_seconds=0)) == role.account
    assert len(alice.requests) == 2
    assert sts.count("GetSessionToken") == 0
    assert [call.has_code for call in sts.calls if call.action == "AssumeRole"] == [True, True]


def test_as_long_as_asked_for(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
) -> None:
    """STS is asked for ``mfa_session_seconds``. A script that asks for less uses the longer session
    of another script for that time only.
    """
    account_of(enter(role_a, mfa_session_seconds=129600))
    assert sts.calls[0].params["DurationSeconds"] == "129600"
    clock.shift(2 * 3600)
    account_of(enter(role_a, mfa_session_seconds=129600))
    assert len(alice.requests) == 1
    clock.shift(2 * 3600)
    account_of(enter(role_a, mfa_session_seconds=3600))
    assert len(alice.requests) == 2


def test_a_roles_credentials_send_no_serial_number(
    sts: LocalSts,
    alice: Alice,
    enter: Enter,
    config: Config,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A device belongs to a user. With a role's credentials no code is asked for, and the log says
    so.
    """
    hop = sts.add_role("Hop", trusts=[alice.user])
    target = sts.add_role("Target", account="444455556666", trusts=[hop])
    config(f"[default]\nrole_arn={hop.arn}\nsource_profile=base\nregion=eu-west-1\n")
    with caplog.at_level(logging.INFO, "rolevault"):
        assert account_of(enter(target)) == target.account
    assert alice.requests == []
    assert "is not sent" in caplog.text
    assert not any("SerialNumber" in call.params for call in sts.calls)


def _use_session_token(alice: Alice, monkeypatch: pytest.MonkeyPatch, **arguments: str) -> None:
    """Put the credentials of a session of Alice's into the environment, as people do."""
    answer = boto3.Session().client("sts", "eu-west-1").get_session_token(**arguments)
    credentials = answer["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", credentials["SessionToken"])


def test_temporary_keys_that_carry_mfa(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An MFA session in the environment enters the role without another code."""
    code = alice.device.next_code()
    _use_session_token(alice, monkeypatch, SerialNumber=alice.serial, TokenCode=code)
    assert account_of(enter(role_a)) == role_a.account
    assert alice.requests == []
    assert sts.count("GetSessionToken") == 1


def test_temporary_keys_without_mfa(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If STS denies temporary keys, a second call of AssumeRole carries a code."""
    _use_session_token(alice, monkeypatch)
    assert account_of(enter(role_a)) == role_a.account
    assert len(alice.requests) == 1
    calls = [(call.has_code, call.outcome) for call in sts.calls if call.action == "AssumeRole"]
    assert calls == [(False, "AccessDenied"), (True, "OK")]


def test_a_longer_session_by_a_code_of_its_own(
    sts: LocalSts,
    alice: Alice,
    role_b: Role,
    enter: Enter,
    clock: time_machine.Traveller,
) -> None:
    """STS grants temporary callers an hour, so a longer session that is asked for explicitly
    needs a code for that role.
    """
    long = sts.add_role("Long", trusts=[alice.user], mfa=True, max_session_duration=43200)
    account_of(enter(role_b))
    account_of(enter(long, duration_seconds=7200))
    assert len(alice.requests) == 2
    assert sts.count("GetSessionToken") == 1
    clock.shift(6000)
    account_of(enter(long, duration_seconds=7200))
    account_of(enter(role_b))
    assert len(alice.requests) == 2
    # An hour needs none.
    assert account_of(enter(long, duration_seconds=3600)) == long.account
    assert len(alice.requests) == 2


def test_get_session_token_denied(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    role_b: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If a user may not open an MFA session, each role asks for a code. The vault remembers that
    for a day, and a warning names the permission.
    """
    alice.user.deny.add("sts:GetSessionToken")
    account_of(enter(role_a))
    assert len(alice.requests) == 2
    assert "Allow sts:GetSessionToken" in caplog.text
    clock.shift(60)
    account_of(enter(role_b))
    assert len(alice.requests) == 3
    assert sts.count("GetSessionToken") == 1
    # Allowed again, and forgotten after a day.
    alice.user.deny.clear()
    clock.shift(DAY)
    account_of(enter(role_a))
    account_of(enter(role_b))
    assert len(alice.requests) == 4
    assert sts.count("GetSessionToken") == 2


def test_refresh_ignores_that_get_session_token_was_denied(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """``ensure(refresh=True)`` calls GetSessionToken again, although it was denied."""
    alice.user.deny.add("sts:GetSessionToken")
    session = enter(role_a)
    account_of(session)
    alice.user.deny.clear()
    rolevault.ensure(session, refresh=True)
    assert sts.count("GetSessionToken", "OK") == 1
    assert len(alice.requests) == 3


def test_a_limit_on_the_age_of_mfa(
    sts: LocalSts,
    alice: Alice,
    enter: Enter,
    clock: time_machine.Traveller,
) -> None:
    """A role that demands recent MFA (``aws:MultiFactorAuthAge``) denies an older MFA session. One
    fresh code opens another session, which enters all roles.
    """
    strict = sts.add_role("Strict", trusts=[alice.user], mfa=True, max_mfa_age=900)
    lax = sts.add_role("Lax", trusts=[alice.user], mfa=True)
    account_of(enter(strict))
    clock.shift(3600)
    account_of(enter(strict))
    assert len(alice.requests) == 2
    account_of(enter(lax))
    assert len(alice.requests) == 2
    assert sts.count("AssumeRole", "AccessDenied") == 1


def _denied(session: boto3.Session) -> None:
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole") as caught:
        account_of(session)
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_a_denial_that_no_code_helps_against(
    sts: LocalSts,
    alice: Alice,
    role_b: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One code is tried, and then STS's own error is raised. For an hour no run asks again, except
    ``ensure(refresh=True)``.
    """
    foreign = sts.add_role("Foreign", trusts=["arn:aws:iam::999988887777:user/bob"])
    account_of(enter(role_b))
    clock.shift(400)
    _denied(enter(foreign))
    assert len(alice.requests) == 2
    assert "look at its trust policy" in caplog.text
    for _ in range(3):
        clock.shift(1000)
        _denied(enter(foreign))
    assert len(alice.requests) == 2
    with pytest.raises(ClientError):
        rolevault.ensure(enter(foreign), refresh=True)
    assert len(alice.requests) == 3
    clock.shift(3601)
    _denied(enter(foreign))
    assert len(alice.requests) == 4
    # Let in at last: without a code, and the denial is forgotten.
    foreign.trusts = ["*"]
    account_of(enter(foreign))
    assert len(alice.requests) == 4


def test_a_young_mfa_session_is_not_doubted(
    sts: LocalSts, alice: Alice, role_b: Role, enter: Enter
) -> None:
    """If the MFA session is less than five minutes old, a denial is not about its age: no second
    code.
    """
    foreign = sts.add_role("Foreign", trusts=["arn:aws:iam::999988887777:user/bob"])
    account_of(enter(role_b))
    _denied(enter(foreign))
    assert len(alice.requests) == 1


@pytest.mark.parametrize("how", ["off", "ended"])
def test_a_remembered_denial_without_an_mfa_session(
    sts: LocalSts,
    alice: Alice,
    enter: Enter,
    clock: time_machine.Traveller,
    how: str,
) -> None:
    """No run asks again within the hour, even if the MFA session has ended or is turned off."""
    options = {"mfa_session_seconds": 0 if how == "off" else 900}
    foreign = sts.add_role("Foreign", trusts=["arn:aws:iam::999988887777:user/bob"])
    _denied(enter(foreign, **options))
    clock.shift(1000)
    _denied(enter(foreign, **options))
    assert len(alice.requests) == 1


@pytest.mark.parametrize("how", ["invalid", "expired"])
def test_a_revoked_mfa_session_is_opened_anew(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    role_b: Role,
    enter: Enter,
    how: Any,
) -> None:
    """STS no longer knows the MFA session: one code opens another session."""
    account_of(enter(role_a))
    assert sts.revoke(how) == 2
    account_of(enter(role_b))
    assert len(alice.requests) == 2
    assert sts.count("GetSessionToken") == 2


@pytest.mark.slow
def test_a_script_that_runs_for_days(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
) -> None:
    """Two days in one process: one code for each half day, asked for at the last moment."""
    client = enter(role_a).client("sts", "eu-west-1")
    for _ in range(2 * DAY // 600):
        client.get_caller_identity()
        clock.shift(600)
    assert sts.count(outcome="OK") == len(sts.calls)
    assert len(alice.requests) == 4
    assert sts.count("GetSessionToken") == 4
    # Silent renewals, each in the last quarter of its hour.
    assert 2 * DAY // 3600 <= sts.count("AssumeRole") <= 2 * DAY // 2700


def test_two_users_share_nothing(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An MFA session belongs to one user's key and one device."""
    account_of(enter(role_a))
    bob = sts.add_user("bob")
    device = bob.add_mfa_device()
    role_a.trusts = ["*"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bob.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bob.secret_access_key)
    account_of(
        enter(role_a, mfa_serial=device.serial, mfa_callback=lambda request: device.next_code())
    )
    assert sts.count("GetSessionToken", "OK") == 2
    assert sts.count("AssumeRole", "OK") == 2


def test_what_cannot_be_called_costs_no_code(alice: Alice, sts: LocalSts) -> None:
    """A missing region is found before anybody is asked for a code."""
    role = sts.add_role("arn:aws-unheard:iam::111122223333:role/Deploy")
    for seconds in (43200, 0):
        session = rolevault.session(
            role.arn, mfa_serial=alice.serial, mfa_callback=alice, mfa_session_seconds=seconds
        )
        credentials = session.get_credentials()
        assert credentials is not None
        with pytest.raises(NoRegionError):
            credentials.get_frozen_credentials()
    assert alice.requests == []


def test_the_log_tells_why_a_code_is_asked_for(
    alice: Alice, role_a: Role, caplog: pytest.LogCaptureFixture
) -> None:
    """At INFO the log says what the code is for, which role was entered, and until when."""
    caplog.set_level(logging.INFO, "rolevault")
    account_of(rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice))
    assert f"A code of {alice.serial} is needed to enter role Deploy" in caplog.text
    assert f"Entered {role_a.arn} until " in caplog.text


def test_a_person_is_never_asked_in_a_loop(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """STS refuses each MFA session that it has just issued: one code, and then an error."""
    session = enter(role_a)

    def revoke(**event: Any) -> None:
        sts.revoke("invalid")

    session.events.register("before-call.sts.AssumeRole", revoke)
    with pytest.raises(CredentialRetrievalError, match="an MFA session that it had just issued"):
        key_of(session)
    assert len(alice.requests) == 1


def test_refresh_asks_for_a_code_where_temporary_keys_carry_mfa(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``refresh=True`` means a new code, which goes to AssumeRole itself: GetSessionToken takes
    no temporary keys, and is not called with them.
    """
    code = alice.device.next_code()
    _use_session_token(alice, monkeypatch, SerialNumber=alice.serial, TokenCode=code)
    session = enter(role_a)
    rolevault.ensure(session)
    assert alice.requests == []
    rolevault.ensure(session, refresh=True)
    assert len(alice.requests) == 1
    assert sts.count("GetSessionToken") == 1
    assert [call.has_code for call in sts.calls if call.action == "AssumeRole"] == [False, True]
