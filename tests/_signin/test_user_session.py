"""A user's own MFA session: there is a device and no role, and the session signs itself."""

import time
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import CredentialRetrievalError

import rolevault
from conftest import Alice, Config, Enter, Python, account_of, key_of
from local_sts import LocalSts, Role
from rolevault import ConfigurationError, MfaRequiredError

HOME = "999988887777"


def arn_of(session: boto3.Session | None = None) -> str:
    """Who signs, as STS sees it."""
    client = (session or boto3).client("sts", region_name="eu-west-1")
    return str(client.get_caller_identity()["Arn"])


def signer(sts: LocalSts) -> str:
    """The access key id of the last call."""
    return sts.calls[-1].access_key_id or ""


@pytest.fixture
def own(alice: Alice) -> boto3.Session:
    """The role-less session of an option: Alice's keys are in the environment."""
    return rolevault.session(mfa_serial=alice.serial, mfa_callback=alice)


def test_the_session_signs(sts: LocalSts, alice: Alice) -> None:
    """Requests are the user's, and the keys of GetSessionToken sign them in the default session."""
    rolevault.install(mfa_serial=alice.serial, mfa_callback=alice)
    assert arn_of().endswith(":user/alice")
    assert signer(sts).startswith("ASIA")
    assert [call.action for call in sts.calls] == ["GetSessionToken", "GetCallerIdentity"]
    assert len(alice.requests) == 1
    assert alice.requests[0].reason == "to open the MFA session of a user"


def test_a_profile_without_a_role_is_served(
    sts: LocalSts, alice: Alice, config: Config, python: Python
) -> None:
    """A profile with keys and a device, as aws-vault serves it; the next process asks
    nobody. Settings of a role do not matter, nor whether they are good.
    """
    config(
        f"[profile me]\naws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\nmfa_serial={alice.serial}\n"
        "duration_seconds=129600\n"
    )
    rolevault.install(profile="me", mfa_callback=alice)
    assert arn_of().endswith(":user/alice")
    assert signer(sts).startswith("ASIA")
    script = (
        "import boto3, rolevault; rolevault.install(profile='me');"
        "print(boto3.client('sts', region_name='eu-west-1').get_caller_identity()['Account'])"
    )
    output, errors = python(script, start_new_session=True).communicate(timeout=60)
    assert (output, errors) == (HOME + "\n", "")
    assert sts.count("GetSessionToken") == 1


def test_a_profile_with_a_source_profile_is_served(
    sts: LocalSts, alice: Alice, config: Config
) -> None:
    """The keys may be in a source profile, as for boto-source-profile-mfa."""
    config(f"[default]\nsource_profile=base\nmfa_serial={alice.serial}\n")
    rolevault.install(mfa_callback=alice)
    assert arn_of().endswith(":user/alice")
    assert signer(sts).startswith("ASIA")


def test_roles_are_entered_with_the_same_session(
    sts: LocalSts, alice: Alice, role_a: Role, own: boto3.Session
) -> None:
    """One code serves the user's own requests and every role, whichever comes first."""
    assert account_of(own) == HOME
    role = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice)
    assert account_of(role) == role_a.account
    chained = rolevault.session(role_a.arn, source_session=own, role_session_name="chained")
    assert account_of(chained) == role_a.account
    assert len(alice.requests) == 1
    assert sts.count("GetSessionToken") == 1


def test_a_person_is_asked_in_the_mandatory_window_only(
    alice: Alice, clock: time_machine.Traveller, own: boto3.Session
) -> None:
    """A renewal always needs a code, so the session signs on as long as it can."""
    first = key_of(own)
    clock.shift(12 * 3600 - 600)
    assert key_of(own) == first
    assert len(alice.requests) == 1
    clock.shift(400)
    assert key_of(own) != first
    assert len(alice.requests) == 2


def test_a_shorter_wish_uses_a_longer_session_for_its_own_length(
    alice: Alice, clock: time_machine.Traveller, own: boto3.Session
) -> None:
    """Expired keys do not sign."""
    key_of(own)
    short = rolevault.session(mfa_serial=alice.serial, mfa_callback=alice, mfa_session_seconds=3600)
    assert key_of(short) == key_of(own)
    clock.shift(3500)
    assert key_of(short) != key_of(own)
    assert len(alice.requests) == 2


def test_a_refused_session_is_opened_anew(sts: LocalSts, alice: Alice, own: boto3.Session) -> None:
    """A service no longer knows the key: one code, and the request is sent once more."""
    assert account_of(own) == HOME
    old = key_of(own)
    sts.revoke("invalid", old)
    assert account_of(own) == HOME
    assert len(alice.requests) == 2
    again = rolevault.session(mfa_serial=alice.serial, mfa_callback=alice)
    assert key_of(again) == key_of(own) != old
    assert len(alice.requests) == 2


def test_only_the_refused_session_is_forgotten(
    sts: LocalSts, alice: Alice, own: boto3.Session
) -> None:
    """Another MFA session in the vault signs on."""
    short = rolevault.session(mfa_serial=alice.serial, mfa_callback=alice, mfa_session_seconds=3600)
    kept = key_of(short)
    rolevault.ensure(own, min_ttl="2h")
    assert len(alice.requests) == 2
    sts.revoke("invalid", key_of(own))
    assert account_of(own) == HOME
    assert key_of(own) == kept
    assert len(alice.requests) == 2


def test_ensure_signs_in(alice: Alice, clock: time_machine.Traveller, own: boto3.Session) -> None:
    """``ensure()`` returns the end of the session, and raises an error if no session lasts as
    long.
    """
    end = rolevault.ensure(own, min_ttl="11h")
    assert abs(end.timestamp() - time.time() - 12 * 3600) < 60
    assert len(alice.requests) == 1
    clock.shift(7200)
    assert rolevault.ensure(own, min_ttl="9h") == end
    assert rolevault.ensure(own, min_ttl="11h") > end
    assert len(alice.requests) == 2
    rolevault.ensure(own, refresh=True)
    assert len(alice.requests) == 3
    with pytest.raises(ConfigurationError, match="mfa_session_seconds"):
        rolevault.ensure(own, min_ttl="13h")


def test_a_user_who_may_not(sts: LocalSts, alice: Alice, own: boto3.Session) -> None:
    """STS denies GetSessionToken: a sentence that names the permission. Nobody is asked for
    another code for a day, unless ``ensure(refresh=True)`` says so.
    """
    alice.user.deny.add("sts:GetSessionToken")
    for _ in range(2):
        with pytest.raises(CredentialRetrievalError, match="Allow sts:GetSessionToken"):
            account_of(own)
    assert len(alice.requests) == 1
    alice.user.deny.clear()
    rolevault.ensure(own, refresh=True)
    assert account_of(own) == HOME


def test_temporary_source_keys_cannot_open_one(
    alice: Alice, own: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GetSessionToken takes long-term keys. Nobody is asked for a code."""
    answer = boto3.Session().client("sts", "eu-west-1").get_session_token()
    credentials = answer["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", credentials["SessionToken"])
    with pytest.raises(CredentialRetrievalError, match="takes a user's long-term keys"):
        account_of(own)
    assert alice.requests == []


def test_a_role_as_source_is_refused_before_it_is_entered(
    alice: Alice, role_a: Role, enter: Enter
) -> None:
    """The session of a role cannot open an MFA session. Nobody is asked for the role's code."""
    session = rolevault.session(mfa_serial=alice.serial, source_session=enter(role_a))
    with pytest.raises(CredentialRetrievalError, match="takes a user's long-term keys"):
        account_of(session)
    assert alice.requests == []


def test_the_environments_keys_win_over_a_profiles_device(
    sts: LocalSts,
    alice: Alice,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The environment's keys win over the profile, and a warning says so."""
    config(f"[default]\nsource_profile=base\nmfa_serial={alice.serial}\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    rolevault.install(mfa_callback=alice)
    assert "not with the MFA session" in caplog.text
    arn_of()
    assert signer(sts) == alice.user.access_key_id


def test_nobody_there(alice: Alice) -> None:
    """The error names the device."""
    with pytest.raises(MfaRequiredError, match=alice.serial):
        account_of(rolevault.session(mfa_serial=alice.serial))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"mfa_session_seconds": 0}, "must not be 0 without a role"),
        ({"duration_seconds": 7200}, "there is no role_arn"),
        ({"external_id": "x1"}, "there is no role_arn"),
        ({"mfa_serial": None}, "there is no role_arn"),
    ],
)
def test_what_makes_no_session_is_refused(alice: Alice, options: dict[str, Any], rule: str) -> None:
    """An option that only AssumeRole takes is an error if there is no role."""
    with pytest.raises(ConfigurationError, match=rule):
        rolevault.session(**{"mfa_serial": alice.serial, **options})
