"""The fake is held to STS's rules before anything is tested against it."""

from __future__ import annotations

import calendar
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.parsers import ResponseParserError

from local_iam import STEP, totp
from local_oidc import IdentityProvider
from local_sts import Device, Failure, Key, LocalSts, Role, User

ONCE = Config(retries={"total_max_attempts": 1})
UNCHECKED = ONCE.merge(Config(parameter_validation=False))


@pytest.fixture
def sts() -> Iterator[LocalSts]:
    with LocalSts() as server:
        yield server


@pytest.fixture
def alice(sts: LocalSts) -> User:
    return sts.add_user("alice")


@pytest.fixture
def device(alice: User) -> Device:
    return alice.add_mfa_device()


@cache
def session() -> boto3.Session:
    """One for all, because loading a service's model is most of a client's cost."""
    return boto3.Session()


def client(sts: LocalSts, key: Key | User, service: str = "sts", config: Config = ONCE) -> Any:
    """A real boto3 client that signs with ``key``."""
    if isinstance(key, User):
        key = key.keys[0]
    make: Any = session().client
    return make(
        service,
        endpoint_url=sts.url,
        region_name="eu-west-1",
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        aws_session_token=key.session_token,
        config=config,
    )


def post(url: str, path: str, body: str) -> tuple[int, str]:
    """A bare POST, signed by nobody."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def refused(call: Callable[[], Any]) -> tuple[str, str, int]:
    """The code, text and status of the refusal that ``call`` meets."""
    with pytest.raises(ClientError) as caught:
        call()
    response: Any = caught.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return response["Error"]["Code"], response["Error"].get("Message", ""), status


def assume(sts: LocalSts, key: Key | User, role: Role, **more: Any) -> dict[str, Any]:
    """AssumeRole under a plain session name, unless ``more`` says otherwise."""
    params: dict[str, Any] = {"RoleArn": role.arn, "RoleSessionName": "test", **more}
    answer: dict[str, Any] = client(sts, key).assume_role(**params)
    return answer


def mfa_session(sts: LocalSts, alice: User, device: Device) -> Key:
    """A session of ``alice`` with MFA, from GetSessionToken."""
    client(sts, alice).get_session_token(SerialNumber=device.serial, TokenCode=device.next_code())
    return sts.sessions[-1]


def role_session(sts: LocalSts, alice: User, role: Role, **more: Any) -> Key:
    """A session of ``role`` that ``alice`` assumed."""
    assume(sts, alice, role, **more)
    return sts.sessions[-1]


# Codes


def test_codes_are_rfc_6238s(device: Device) -> None:
    """The device computes what RFC 6238, appendix B says (its last six digits)."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    vectors = {59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"}
    assert {at: totp(secret, at) for at in vectors} == vectors
    assert device.code(0) == totp(device.secret, 29.9)


def test_a_code_works_once(sts: LocalSts, alice: User, device: Device) -> None:
    """The same code sent again is a wrong code, in whichever call."""
    code = device.code()
    mfa: dict[str, Any] = {"SerialNumber": device.serial, "TokenCode": code}
    client(sts, alice).get_session_token(**mfa)
    wrong = (
        "AccessDenied",
        "MultiFactorAuthentication failed with invalid MFA one time pass code. ",
        403,
    )
    assert refused(lambda: client(sts, alice).get_session_token(**mfa)) == wrong
    assert refused(lambda: assume(sts, alice, sts.add_role(), **mfa)) == wrong


@pytest.mark.parametrize(("steps", "taken"), [(-2, False), (-1, True), (1, True), (2, False)])
def test_the_next_steps_codes_work_too(
    sts: LocalSts, alice: User, device: Device, steps: int, taken: bool
) -> None:
    """A code is taken from one step before its own to one step after."""
    with time_machine.travel(datetime(2026, 11, 22, 9, 0, 10, tzinfo=timezone.utc)):
        code = device.code(time.time() + steps * STEP)

        def sign_in() -> Any:
            return client(sts, alice).get_session_token(SerialNumber=device.serial, TokenCode=code)

        if taken:
            assert sign_in()
        else:
            assert refused(sign_in)[0] == "AccessDenied"


def test_a_used_code_is_gone_for_every_key_of_the_user(
    sts: LocalSts, alice: User, device: Device
) -> None:
    """Codes are spent by the device, not by the access key."""
    mfa = {"SerialNumber": device.serial, "TokenCode": device.code()}
    client(sts, alice.add_access_key()).get_session_token(**mfa)
    assert refused(lambda: client(sts, alice).get_session_token(**mfa))[0] == "AccessDenied"


def test_a_denied_call_spends_its_code(sts: LocalSts, alice: User, device: Device) -> None:
    """A right code is gone even if the call is refused for another reason."""
    role = sts.add_role(trusts=[])
    mfa = {"SerialNumber": device.serial, "TokenCode": device.code()}
    assert "sts:AssumeRole" in refused(lambda: assume(sts, alice, role, **mfa))[1]
    assert "one time pass code" in refused(lambda: assume(sts, alice, role, **mfa))[1]


def test_next_code_hands_out_each_code_once(sts: LocalSts, alice: User, device: Device) -> None:
    """Three codes are to be had in a step and none twice; the fourth must wait."""
    start = datetime(2026, 11, 22, 9, 0, 10, tzinfo=timezone.utc)
    with time_machine.travel(start, tick=False) as traveller:
        codes = [device.next_code() for _ in range(3)]
        for code in codes:
            client(sts, alice).get_session_token(SerialNumber=device.serial, TokenCode=code)
        with pytest.raises(LookupError, match="for another 20 s"):
            device.next_code()
        threading.Timer(0.2, lambda: traveller.shift(STEP)).start()
        assert device.fresh_code(timeout=10) not in codes


# MFA parameters


def test_a_serial_must_be_the_callers_own(sts: LocalSts, alice: User, device: Device) -> None:
    """Another's device, an unknown one, or any at all from a role's session: the
    same answer, and the code is not spent.
    """
    unknown = (
        "AccessDenied",
        "MultiFactorAuthentication failed, unable to validate MFA code.  "
        "Please verify your MFA serial number is valid and associated with this user.",
        403,
    )
    bob, role = sts.add_user("bob"), sts.add_role()
    mfa = {"SerialNumber": device.serial, "TokenCode": device.code()}
    absent = {**mfa, "SerialNumber": "arn:aws:iam::999988887777:mfa/nobody"}
    from_role = role_session(sts, bob, role)
    assert refused(lambda: client(sts, bob).get_session_token(**mfa)) == unknown
    assert refused(lambda: client(sts, alice).get_session_token(**absent)) == unknown
    assert refused(lambda: assume(sts, from_role, role, **mfa)) == unknown
    assert client(sts, alice).get_session_token(**mfa)


@pytest.mark.parametrize("code", ["1234567", "12345a", "\uff11\uff12\uff13\uff14\uff15\uff16"])
def test_a_code_has_six_digits(sts: LocalSts, alice: User, device: Device, code: str) -> None:
    """Anything but six ASCII digits is a ValidationError that names tokenCode."""
    mfa = {"SerialNumber": device.serial, "TokenCode": code}
    name, text, status = refused(lambda: client(sts, alice).get_session_token(**mfa))
    assert (name, status) == ("ValidationError", 400)
    assert f"Value '{code}' at 'tokenCode' failed to satisfy constraint: Member must" in text


@pytest.mark.parametrize("half", ["SerialNumber", "TokenCode"])
def test_serial_and_code_come_together(
    sts: LocalSts, alice: User, device: Device, half: str
) -> None:
    """Either without the other is refused."""
    mfa = {"SerialNumber": device.serial, "TokenCode": device.code()}
    name, text, _ = refused(lambda: client(sts, alice).get_session_token(**{half: mfa[half]}))
    assert name == "AccessDenied"
    assert "must provide both MFA serial number and one time pass code." in text


# GetSessionToken


def test_a_session_token_lasts_as_asked(sts: LocalSts, alice: User) -> None:
    """12 hours unless DurationSeconds says otherwise, told in whole seconds."""
    for more, seconds in (({}, 43200), ({"DurationSeconds": 129600}, 129600)):
        before = int(time.time())
        expires = client(sts, alice).get_session_token(**more)["Credentials"]["Expiration"]
        assert expires.microsecond == 0
        assert before <= expires.timestamp() - seconds <= time.time()


@pytest.mark.parametrize(
    ("seconds", "rule"), [(899, "greater than or equal to 900"), (129601, "less than or equal to")]
)
def test_session_tokens_have_limits(sts: LocalSts, alice: User, seconds: int, rule: str) -> None:
    """GetSessionToken takes 900 to 129600 seconds."""
    aws = client(sts, alice, config=UNCHECKED)
    name, text, _ = refused(lambda: aws.get_session_token(DurationSeconds=seconds))
    assert name == "ValidationError"
    assert text.startswith(f"1 validation error detected: Value '{seconds}' at 'durationSeconds'")
    assert rule in text


def test_sessions_get_no_session_tokens(sts: LocalSts, alice: User, device: Device) -> None:
    """GetSessionToken takes long-term keys only."""
    sessions = [mfa_session(sts, alice, device), role_session(sts, alice, sts.add_role())]
    for key in sessions:
        assert refused(client(sts, key).get_session_token) == (
            "AccessDenied",
            "Cannot call GetSessionToken with session credentials",
            403,
        )


def test_get_session_token_can_be_denied(sts: LocalSts) -> None:
    """A user's deny names sts:GetSessionToken in its message."""
    user = sts.add_user("carol", deny=["sts:GetSessionToken"])
    name, text, status = refused(client(sts, user).get_session_token)
    assert (name, status) == ("AccessDenied", 403)
    assert text.startswith(f"User: {user.arn} is not authorized to perform: sts:GetSessionToken ")


# AssumeRole


def test_a_role_trusts_whom_it_names(sts: LocalSts, alice: User) -> None:
    """A user, an account's root or anybody; others are denied, as is a role that
    does not exist, in the same words.
    """
    bob = sts.add_user("bob")
    mine, account = (
        sts.add_role("Mine", trusts=[alice]),
        sts.add_role("Account", trusts=["arn:aws:iam::999988887777:root"]),
    )
    absent = Role("arn:aws:iam::111122223333:role/Absent")
    assert assume(sts, alice, mine)
    assert assume(sts, bob, account)
    for role in (mine, absent):
        assert refused(lambda role=role: assume(sts, bob, role)) == (  # type: ignore[misc]
            "AccessDenied",
            f"User: {bob.arn} is not authorized to perform: sts:AssumeRole on resource: {role.arn}",
            403,
        )


def test_a_roles_mfa_condition(sts: LocalSts, alice: User, device: Device) -> None:
    """Met by a code in the call and by an MFA session; not by plain keys, a
    session without MFA, or another role's session.
    """
    role, open_role = sts.add_role(mfa=True), sts.add_role("Open")
    client(sts, alice).get_session_token()
    plain = sts.sessions[-1]
    chained = role_session(sts, alice, role, SerialNumber=device.serial, TokenCode=device.code())
    for key in (alice.keys[0], plain, chained, role_session(sts, alice, open_role)):
        assert refused(lambda key=key: assume(sts, key, role))[0] == "AccessDenied"  # type: ignore[misc]
    assert assume(sts, mfa_session(sts, alice, device), role)


def test_a_role_can_limit_the_age_of_mfa(sts: LocalSts, alice: User, device: Device) -> None:
    """``aws:MultiFactorAuthAge`` of an MFA session grows; of a code it is zero."""
    role = sts.add_role(mfa=True, max_mfa_age=300)
    with time_machine.travel(datetime.now(timezone.utc), tick=True) as traveller:
        key = mfa_session(sts, alice, device)
        assert assume(sts, key, role)
        traveller.shift(301)
        assert refused(lambda: assume(sts, key, role))[0] == "AccessDenied"
        assert assume(sts, alice, role, SerialNumber=device.serial, TokenCode=device.code())


def test_a_role_can_ask_for_an_external_id(sts: LocalSts, alice: User) -> None:
    """A missing or wrong external id is a plain denial."""
    role = sts.add_role(external_id="customer-17")
    assert refused(lambda: assume(sts, alice, role))[0] == "AccessDenied"
    assert refused(lambda: assume(sts, alice, role, ExternalId="customer-18"))[0] == "AccessDenied"
    assert assume(sts, alice, role, ExternalId="customer-17")


def test_a_role_session_is_named_after_role_and_session(sts: LocalSts, alice: User) -> None:
    """Its ARN leaves the role's path out, its user id is the role's id and the
    session's name, and its keys look like AWS's.
    """
    role = sts.add_role("team/Deploy")
    answer = assume(sts, alice, role, RoleSessionName="alice@work")
    user = answer["AssumedRoleUser"]
    assert user["Arn"] == "arn:aws:sts::111122223333:assumed-role/Deploy/alice@work"
    assert user["AssumedRoleId"] == f"{role.role_id}:alice@work"
    assert re.fullmatch(r"ASIA[A-Z2-7]{16}", answer["Credentials"]["AccessKeyId"])
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", alice.access_key_id)
    who = client(sts, sts.sessions[-1]).get_caller_identity()
    assert (who["Arn"], who["Account"]) == (user["Arn"], "111122223333")
    assert who["UserId"] == user["AssumedRoleId"]


@pytest.mark.parametrize(
    ("arn", "session", "account"),
    [
        ("arn:aws-cn:iam::111122223333:role/R", "arn:aws-cn:sts::111122223333:", "111122223333"),
        ("arn:aws-us-gov:iam::111122223333:role/R", "arn:aws-us-gov:sts::111122223333:", None),
        ("arn:aws:iam:::role/S3Access", "arn:aws:sts:::", ""),
    ],
)
def test_other_partitions_and_cephs_roles(
    sts: LocalSts, alice: User, arn: str, session: str, account: str | None
) -> None:
    """A session stays in its role's partition; Ceph's roles have no account."""
    answer = assume(sts, alice, sts.add_role(arn))
    assert answer["AssumedRoleUser"]["Arn"].startswith(f"{session}assumed-role/")
    if account is not None:
        assert client(sts, sts.sessions[-1]).get_caller_identity()["Account"] == account


def test_a_role_session_lasts_at_most_the_roles_maximum(sts: LocalSts, alice: User) -> None:
    """More than MaxSessionDuration is an error, not clamped; an hour by default."""
    role, long = sts.add_role(), sts.add_role("Long", max_session_duration=43200)
    assert refused(lambda: assume(sts, alice, role, DurationSeconds=3601)) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        400,
    )
    left = assume(sts, alice, long, DurationSeconds=43200)["Credentials"]["Expiration"]
    assert left.timestamp() - time.time() == pytest.approx(43200, abs=2)
    default = assume(sts, alice, long)["Credentials"]["Expiration"]
    assert default.timestamp() - time.time() == pytest.approx(3600, abs=2)


def test_temporary_callers_get_an_hour(sts: LocalSts, alice: User, device: Device) -> None:
    """From a role's session or a session token, more than 3600 is an error; the
    role's own maximum is complained of first.
    """
    long, short = sts.add_role("Long", max_session_duration=43200), sts.add_role("Short")
    for key in (mfa_session(sts, alice, device), role_session(sts, alice, long)):
        call = lambda role, key=key: assume(sts, key, role, DurationSeconds=3601)  # noqa: E731
        assert refused(lambda call=call: call(long)) == (  # type: ignore[misc]
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit "
            "for roles assumed by role chaining.",
            400,
        )
        assert "MaxSessionDuration" in refused(lambda call=call: call(short))[1]  # type: ignore[misc]
        assert assume(sts, key, long, DurationSeconds=3600)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"RoleSessionName": "a b"}, r"'roleSessionName' failed .* pattern: \[\\w\+=,\.@-\]\*$"),
        ({"RoleSessionName": "x" * 65}, "'roleSessionName' failed .* less than or equal to 64$"),
        ({"DurationSeconds": 899}, "'durationSeconds' failed .* greater than or equal to 900$"),
        ({"DurationSeconds": 43201}, "'durationSeconds' failed .* less than or equal to 43200$"),
        ({"Policy": json.dumps({"S": "x" * 2048})}, "'policy' failed .* or equal to 2048$"),
        ({"ExternalId": "a b"}, "'externalId' failed"),
        ({"SourceIdentity": "a b"}, "'sourceIdentity' failed"),
        ({"Tags": [{"Key": f"k{i}", "Value": ""} for i in range(51)]}, "'tags' failed"),
        ({"Tags": [{"Key": "k" * 129, "Value": ""}]}, "or equal to 128$"),
        ({"Tags": [{"Key": "k", "Value": "v" * 257}]}, "or equal to 256$"),
        (
            {"PolicyArns": [{"arn": f"arn:aws:iam::aws:policy/P{i}"} for i in range(11)]},
            "policyArns",
        ),
        ({"RoleArn": "arn:aws:iam::12:user/alice"}, "^arn:aws:iam::12:user/alice is invalid$"),
    ],
)
def test_assume_role_holds_its_parameters_to_the_schema(
    sts: LocalSts, alice: User, more: dict[str, Any], text: str
) -> None:
    """Each limit of the API reference is a ValidationError that names the member."""
    params = {"RoleArn": sts.add_role().arn, "RoleSessionName": "test", **more}
    name, message, status = refused(
        lambda: client(sts, alice, config=UNCHECKED).assume_role(**params)
    )
    assert (name, status) == ("ValidationError", 400)
    assert re.search(text, message)


def test_faults_are_told_together(sts: LocalSts, alice: User) -> None:
    """Two faults make one answer, in STS's form."""
    _, text, _ = refused(
        lambda: client(sts, alice, config=UNCHECKED).assume_role(
            RoleArn=sts.add_role().arn, TokenCode="12345a7"
        )
    )
    assert text == (
        "3 validation errors detected: Value null at 'roleSessionName' failed to satisfy "
        "constraint: Member must not be null; Value '12345a7' at 'tokenCode' failed to satisfy "
        "constraint: Member must have length less than or equal to 6; Value '12345a7' at "
        r"'tokenCode' failed to satisfy constraint: Member must satisfy regular expression "
        r"pattern: [\d]*"
    )


# Signatures and keys


def test_an_unknown_key(sts: LocalSts, alice: User) -> None:
    """A key that was never issued, or was withdrawn: InvalidClientTokenId."""
    unknown = (
        "InvalidClientTokenId",
        "The security token included in the request is invalid.",
        403,
    )
    with LocalSts() as other:
        stranger = other.add_user("mallory")
        assert refused(client(sts, stranger).get_caller_identity) == unknown
    sts.revoke("invalid", alice.access_key_id)
    assert refused(client(sts, alice).get_caller_identity) == unknown


@pytest.mark.parametrize("token", [None, "IQoJwrong"])
def test_a_missing_or_wrong_token(sts: LocalSts, alice: User, token: str | None) -> None:
    """A session's key without its own token is not known."""
    key = role_session(sts, alice, sts.add_role())
    forged = Key(
        key.access_key_id, key.secret_access_key, token, key.arn, key.user_id, alice, key.issued
    )
    assert refused(client(sts, forged).get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_wrong_signature(sts: LocalSts, alice: User) -> None:
    """Another secret signs nothing here."""
    forged = sts.add_user("bob").keys[0]
    forged.secret_access_key, genuine = alice.secret_access_key, forged.secret_access_key
    call = client(sts, forged).get_caller_identity
    forged.secret_access_key = genuine
    name, text, status = refused(call)
    assert (name, status) == ("SignatureDoesNotMatch", 403)
    assert text.startswith("The request signature we calculated does not match the signature you")


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda r: setattr(r, "body", r.body.replace("2011", "2012")), id="body"),
        pytest.param(lambda r: setattr(r, "url", r.url + "?a=b"), id="query"),
        pytest.param(lambda r: setattr(r, "url", r.url + "x"), id="path"),
        pytest.param(lambda r: setattr(r, "method", "PUT"), id="method"),
        pytest.param(lambda r: r.headers.update({"Content-Type": "text/plain"}), id="header"),
        pytest.param(lambda r: r.headers.update({"X-Amz-Extra": "1"}), id="unsigned"),
    ],
)
def test_whatever_was_signed_counts(
    sts: LocalSts, alice: User, alter: Callable[[Any], None]
) -> None:
    """Body, query, path, method or a signed header changed after signing, or an
    ``x-amz-`` header added: refused.
    """
    aws = client(sts, alice)
    aws.meta.events.register_last("before-send.sts", lambda request, **_: alter(request))
    name, text, _ = refused(aws.get_caller_identity)
    assert name == "SignatureDoesNotMatch"
    assert text.startswith("The request signature we calculated does not match")


def test_no_signature_at_all(sts: LocalSts) -> None:
    """An anonymous request is told what it lacks."""
    status, body = post(sts.url, "/", "Action=GetCallerIdentity")
    assert status == 403
    assert "<Code>MissingAuthenticationToken</Code>" in body
    assert "<Message>Request is missing Authentication Token</Message>" in body


def test_an_expired_session(sts: LocalSts, alice: User) -> None:
    """At its Expiration a session ends, and not before."""
    with time_machine.travel(datetime.now(timezone.utc), tick=False) as traveller:
        answer = assume(sts, alice, sts.add_role(), DurationSeconds=900)
        key, expires = sts.sessions[-1], answer["Credentials"]["Expiration"]
        traveller.move_to(expires - timedelta(seconds=1))
        assert client(sts, key).get_caller_identity()
        traveller.move_to(expires)
        assert refused(client(sts, key).get_caller_identity) == (
            "ExpiredToken",
            "The security token included in the request is expired",
            403,
        )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (901, r"Signature expired: \d{8}T\d{6}Z is now earlier than \S+ \(\S+ - 15 min\.\)"),
        (-902, r"Signature not yet current: \S+ is still later than \S+ \(\S+ \+ 15 min\.\)"),
    ],
)
def test_a_wrong_clock(sts: LocalSts, alice: User, seconds: int, text: str) -> None:
    """A signature may be 15 minutes off STS's clock, which its Date header tells."""
    sts.advance(seconds / 2)
    date = client(sts, alice).get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]["date"]
    told = calendar.timegm(parsedate_to_datetime(date).utctimetuple())
    assert told == pytest.approx(time.time() + seconds / 2, abs=2)
    sts.clock_offset = seconds
    name, message, status = refused(client(sts, alice).get_caller_identity)
    assert (name, status) == ("SignatureDoesNotMatch", 403)
    assert re.fullmatch(text, message)


# Revocation


def test_revoked_in_iam(sts: LocalSts, alice: User, device: Device) -> None:
    """ "Revoke active sessions" is a deny policy: AccessDenied everywhere but in
    GetCallerIdentity; later sessions are untouched.
    """
    role = sts.add_role()
    key = mfa_session(sts, alice, device)
    assert sts.revoke("denied") == 1
    name, text, _ = refused(lambda: assume(sts, key, role))
    assert name == "AccessDenied"
    assert text.endswith("with an explicit deny in an identity-based policy")
    assert client(sts, key).get_caller_identity()
    assert refused(client(sts, key, "s3").list_buckets)[0] == "AccessDenied"
    assert assume(sts, alice, role)


@pytest.mark.parametrize(
    ("how", "code"), [("invalid", "InvalidClientTokenId"), ("expired", "ExpiredToken")]
)
def test_revoked_otherwise(sts: LocalSts, alice: User, how: Any, code: str) -> None:
    """A session can end before its time; others live on."""
    role = sts.add_role()
    ended, other = role_session(sts, alice, role), role_session(sts, alice, role)
    assert sts.revoke(how, ended.access_key_id) == 1
    assert refused(client(sts, ended).get_caller_identity)[0] == code
    assert client(sts, other).get_caller_identity()


# Trouble


def test_throttling(sts: LocalSts, alice: User) -> None:
    """The next N calls of one action are throttled, and botocore tries again."""
    sts.fail_next("throttle", 2, action="GetCallerIdentity")
    client(sts, alice).get_session_token()
    call = client(sts, alice).get_caller_identity
    assert refused(call) == ("Throttling", "Rate exceeded", 400)
    retrying = client(sts, alice, config=Config(retries={"total_max_attempts": 2}))
    assert retrying.get_caller_identity()["ResponseMetadata"]["RetryAttempts"] == 1
    assert sts.count("GetCallerIdentity", "Throttling") == 2
    assert sts.count("GetCallerIdentity", "OK") == 1


def test_a_lost_answer_spends_the_code(sts: LocalSts, alice: User, device: Device) -> None:
    """The call is done, its answer never comes; botocore sends the same code
    again and is told that it is wrong.
    """
    sts.fail_next("lose")
    mfa = {"SerialNumber": device.serial, "TokenCode": device.next_code()}
    retrying = client(sts, alice, config=Config(retries={"total_max_attempts": 2}))
    assert "one time pass code" in refused(lambda: retrying.get_session_token(**mfa))[1]
    assert [(each.outcome, each.answered) for each in sts.calls] == [
        ("OK", False),
        ("AccessDenied", True),
    ]
    assert len(sts.sessions) == 1


def test_a_dropped_call_does_nothing(sts: LocalSts, alice: User, device: Device) -> None:
    """A connection closed before the work: the code is still good."""
    sts.fail_next("drop")
    mfa = {"SerialNumber": device.serial, "TokenCode": device.next_code()}
    with pytest.raises(ConnectionClosedError):
        client(sts, alice).get_session_token(**mfa)
    assert client(sts, alice).get_session_token(**mfa)
    assert [each.outcome for each in sts.calls] == ["dropped", "OK"]


def test_what_is_not_an_answer(sts: LocalSts, alice: User) -> None:
    """A network's sign-in page in STS's place, or a 500."""
    sts.fail_next("garbage")
    with pytest.raises(ResponseParserError):
        client(sts, alice).get_caller_identity()
    sts.fail_next("error")
    assert refused(client(sts, alice).get_caller_identity)[::2] == ("InternalFailure", 500)


@pytest.mark.parametrize("how", ["latency", "slow"])
def test_slow_answers(sts: LocalSts, alice: User, how: Failure | str) -> None:
    """Every answer, or the next one, comes late; callers wait side by side."""
    if how == "slow":
        sts.fail_next("slow", 4, seconds=0.5)
    else:
        sts.latency = 0.5
    calls = [client(sts, alice).get_caller_identity for _ in range(4)]
    start = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda call: call(), calls))
    assert 0.5 <= time.perf_counter() - start < 1.5


# What tests can see


def test_every_call_is_recorded(sts: LocalSts, alice: User, device: Device) -> None:
    """Action, outcome, parameters, key and user agent of each, in order."""
    config = ONCE.merge(Config(user_agent_extra="rolevault-test"))
    client(sts, alice, config=config).get_caller_identity()
    key = mfa_session(sts, alice, device)
    refused(lambda: assume(sts, key, sts.add_role(trusts=[])))
    identity, token, role = sts.calls
    assert (identity.action, identity.outcome) == ("GetCallerIdentity", "OK")
    assert "rolevault-test" in identity.user_agent
    assert (token.has_code, token.params["SerialNumber"]) == (True, device.serial)
    assert (role.outcome, role.has_code) == ("AccessDenied", False)
    assert role.access_key_id == key.access_key_id
    assert (sts.count(), sts.count("AssumeRole"), sts.count(outcome="OK")) == (3, 1, 2)


def test_keys_do_not_print_secrets(sts: LocalSts, alice: User) -> None:
    """A failing test's output shows no secret."""
    key = role_session(sts, alice, sts.add_role())
    assert key.secret_access_key not in repr(key)
    assert str(key.session_token) not in repr(key)


def test_many_threads_at_once(sts: LocalSts, alice: User) -> None:
    """64 connections at once are all served, and counted exactly."""
    role = sts.add_role()
    pooled = client(sts, alice, config=Config(max_pool_connections=64))
    with ThreadPoolExecutor(64) as pool:
        answers = pool.map(
            lambda i: pooled.assume_role(RoleArn=role.arn, RoleSessionName=f"s{i}"), range(256)
        )
        assert len({each["Credentials"]["AccessKeyId"] for each in answers}) == 256
    assert sts.count("AssumeRole", "OK") == 256


# Other services


def test_other_services_check_signatures_too(sts: LocalSts, alice: User) -> None:
    """S3 (awkward keys, streams), EC2, DynamoDB and Query services are answered."""
    key = role_session(sts, alice, sts.add_role())
    s3 = client(sts, key, "s3")
    name = "a b/ü+~/x//../y"
    assert s3.list_buckets()
    assert s3.head_object(Bucket="bucket", Key=name)
    assert s3.list_objects_v2(Bucket="bucket", Prefix="ü &=+/", Delimiter="/")
    for body in (b"x" * 5000, io.BytesIO(b"y" * 100_000)):
        assert s3.put_object(Bucket="bucket", Key=name, Body=body)
        unsigned = client(sts, key, "s3", ONCE.merge(Config(s3={"payload_signing_enabled": False})))
        assert unsigned.put_object(Bucket="bucket", Key=name, Body=body)
    assert client(sts, key, "ec2").describe_regions()
    assert client(sts, key, "dynamodb").list_tables()
    assert client(sts, key, "sns").list_topics()
    assert sts.calls[-1].service == "sns"
    sts.fail_next("throttle")
    assert s3.list_buckets()


def test_a_signed_body_is_checked_against_its_hash(sts: LocalSts, alice: User) -> None:
    """An S3 upload changed on its way is refused, for its hash was signed."""
    s3 = client(sts, alice, "s3")
    s3.meta.events.register_last(
        "before-send.s3", lambda request, **_: setattr(request, "body", b"hellO")
    )
    call = lambda: s3.put_object(Bucket="bucket", Key="key", Body=b"hello")  # noqa: E731
    assert refused(call)[0] == "SignatureDoesNotMatch"


def test_uploads_in_chunks(sts: LocalSts, alice: User) -> None:
    """``Transfer-Encoding: chunked``, unsigned or with a checksum after the body
    (as botocore sends it over https), verifies, and the connection lives on.
    """
    url = f"{sts.url}/bucket/key"
    host = sts.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
    trailer = {"request_algorithm": {"in": "trailer", "algorithm": "crc32"}}
    signer = S3SigV4Auth(
        Credentials(alice.access_key_id, alice.secret_access_key), "s3", "eu-west-1"
    )
    hashes = []
    for context in (
        {"checksum": trailer},
        {"client_config": Config(s3={"payload_signing_enabled": False})},
    ):
        request = AWSRequest(method="PUT", url=url, data=body)
        request.headers["Content-Encoding"] = "aws-chunked"
        request.headers["X-Amz-Trailer"] = "x-amz-checksum-crc32"
        request.context.update(context)
        signer.add_auth(request)
        headers = dict(request.headers.items())
        hashes.append(headers["X-Amz-Content-SHA256"])
        chunks = [body[:7], body[7:]]
        connection.request("PUT", "/bucket/key", iter(chunks), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
    connection.close()
    assert hashes == ["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "UNSIGNED-PAYLOAD"]


@pytest.mark.parametrize(
    ("service", "call", "expired", "invalid"),
    [
        ("s3", "list_buckets", ("ExpiredToken", 400), ("InvalidAccessKeyId", 403)),
        ("s3", "head_bucket", ("400", 400), ("403", 403)),
        ("ec2", "describe_regions", ("RequestExpired", 400), ("AuthFailure", 401)),
        (
            "dynamodb",
            "list_tables",
            ("ExpiredTokenException", 400),
            ("UnrecognizedClientException", 400),
        ),
        ("sns", "list_topics", ("ExpiredToken", 403), ("InvalidClientTokenId", 403)),
    ],
)
def test_each_service_says_it_in_its_own_way(
    sts: LocalSts,
    alice: User,
    service: str,
    call: str,
    expired: tuple[str, int],
    invalid: tuple[str, int],
) -> None:
    """Expired and unknown keys, in the codes and shapes of each service."""
    more = {"Bucket": "bucket"} if call == "head_bucket" else {}
    for how, expected in (("expired", expired), ("invalid", invalid)):
        key = role_session(sts, alice, sts.add_role())
        aws = client(sts, key, service)
        assert getattr(aws, call)(**more)
        revocation: Any = how
        sts.revoke(revocation, key.access_key_id)
        assert refused(lambda aws=aws: getattr(aws, call)(**more))[::2] == expected  # type: ignore[misc]


# Web identities


def web_identity(sts: LocalSts, role: Role, token: str, **more: Any) -> dict[str, Any]:
    """AssumeRoleWithWebIdentity of a client that has no keys."""
    aws: Any = session().client("sts", endpoint_url=sts.url, region_name="eu-west-1", config=ONCE)
    answer: dict[str, Any] = aws.assume_role_with_web_identity(
        RoleArn=role.arn, RoleSessionName="test", WebIdentityToken=token, **more
    )
    return answer


@pytest.fixture
def provider(sts: LocalSts) -> IdentityProvider:
    return sts.add_identity_provider()


@pytest.fixture
def web_role(sts: LocalSts, provider: IdentityProvider) -> Role:
    return sts.add_role("Web", trusts=[provider.arn], max_session_duration=7200)


def test_a_web_identity_enters_a_role_unsigned(
    sts: LocalSts, provider: IdentityProvider, web_role: Role
) -> None:
    """A good token is all it takes; the keys are the role's, for an hour or what
    is asked for, up to the role's maximum.
    """
    answer = web_identity(sts, web_role, provider.token(sub="job-7"))
    arn = "arn:aws:sts::111122223333:assumed-role/Web/test"
    assert answer["AssumedRoleUser"]["Arn"] == arn
    assert answer["SubjectFromWebIdentityToken"] == "job-7"
    assert (answer["Provider"], answer["Audience"]) == (provider.issuer, "sts.amazonaws.com")
    assert (sts.calls[-1].access_key_id, sts.calls[-1].outcome) == (None, "OK")
    assert client(sts, sts.sessions[-1]).get_caller_identity()["Arn"] == arn
    assert sts.sessions[-1].expires - sts.sessions[-1].issued == 3600
    web_identity(sts, web_role, provider.token(), DurationSeconds=7200)
    assert sts.sessions[-1].expires - sts.sessions[-1].issued == 7200
    code, text, _ = refused(
        lambda: web_identity(sts, web_role, provider.token(), DurationSeconds=7201)
    )
    assert code == "ValidationError"
    assert "exceeds the MaxSessionDuration" in text


@pytest.mark.parametrize(
    ("claims", "code", "text"),
    [
        ({"seconds": -1}, "ExpiredTokenException", "Token expired: current date/time "),
        ({"aud": "another"}, "InvalidIdentityToken", "Incorrect token audience"),
        (
            {"iss": "https://other.example.com"},
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://other.example.com",
        ),
        ({"exp": None}, "InvalidIdentityToken", "could not be validated"),
    ],
)
def test_what_a_web_identity_must_say(
    sts: LocalSts,
    provider: IdentityProvider,
    web_role: Role,
    claims: dict[str, Any],
    code: str,
    text: str,
) -> None:
    """Issuer, audience and end are those that the account's provider stands for."""
    found = refused(lambda: web_identity(sts, web_role, provider.token(**claims)))
    assert found[::2] == (code, 400)
    assert text in found[1]
    assert sts.sessions == []


def test_a_web_identity_is_the_providers_own_word(
    sts: LocalSts, provider: IdentityProvider, web_role: Role
) -> None:
    """Signed by another key, changed after it was signed, signed by nobody, or no
    token at all.
    """
    good, another = provider.token(), IdentityProvider("111122223333", "oidc.example.com", "x")
    head, claims, signature = good.split(".")
    other_claims = provider.token(sub="root").split(".")[1]
    nobody = "eyJhbGciOiJub25lIn0"  # {"alg":"none"}
    forged = another.token(aud="sts.amazonaws.com")
    for token in (
        forged,
        f"{head}.{other_claims}.{signature}",
        f"{nobody}.{claims}.",
        f"{head}.{claims}.",
        "no token",
    ):
        found = refused(lambda token=token: web_identity(sts, web_role, token))  # type: ignore[misc]
        assert found[::2] == ("InvalidIdentityToken", 400)
    assert web_identity(sts, web_role, good)


def test_a_role_trusts_the_provider_it_names(
    sts: LocalSts, provider: IdentityProvider, alice: User
) -> None:
    """No other, no anybody, and no provider of another account; and who is named
    as a provider enters by no other call.
    """
    other = sts.add_identity_provider("other.example.com")
    for role in (
        sts.add_role("A", trusts=[other.arn]),
        sts.add_role("B"),
        Role("arn:aws:iam::111122223333:role/None"),
    ):
        found = refused(lambda role=role: web_identity(sts, role, provider.token()))  # type: ignore[misc]
        assert found == (
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            403,
        )
    elsewhere = sts.add_role("C", account="444455556666", trusts=[provider.arn])
    code, _, _ = refused(lambda: web_identity(sts, elsewhere, provider.token()))
    assert code == "InvalidIdentityToken"
    named = sts.add_role("D", trusts=[provider.arn])
    assert refused(lambda: assume(sts, alice, named))[0] == "AccessDenied"


# Beside a second, independent AWS


@pytest.mark.filterwarnings("default")
def test_answers_have_the_shape_of_motos(sts: LocalSts, alice: User, device: Device) -> None:
    """The three calls parse to the same keys and types as moto's answers."""
    from moto.server import ThreadedMotoServer

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: shape(v) for k, v in value.items() if k != "ResponseMetadata"}
        return type(value).__name__

    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        shapes = []
        for url in (sts.url, "http://{}:{}".format(*moto.get_host_and_port())):
            aws: Any = boto3.client(
                "sts",
                endpoint_url=url,
                region_name="eu-west-1",
                aws_access_key_id=alice.access_key_id,
                aws_secret_access_key=alice.secret_access_key,
            )
            answers = [
                aws.get_caller_identity(),
                aws.get_session_token(SerialNumber=device.serial, TokenCode=device.next_code()),
                # moto always tells PackedPolicySize, STS where there is a policy.
                aws.assume_role(
                    RoleArn=sts.add_role().arn,
                    RoleSessionName="test",
                    Policy='{"Version": "2012-10-17", "Statement": []}',
                ),
            ]
            shapes.append([shape(each) for each in answers])
        assert shapes[0] == shapes[1]
    finally:
        moto.stop()


# On its own


@contextmanager
def standalone(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The fake as a process of its own, and what it says of itself."""
    script = Path(__file__).with_name("local_sts.py")
    command = [sys.executable, str(script), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def control(facts: dict[str, Any], **order: Any) -> Any:
    """What ``POST /_control`` answers to ``order``."""
    body = json.dumps({"token": facts["control"], **order})
    status, answer = post(facts["url"], "/_control", body)
    return json.loads(answer) if status == 200 else status


def test_it_runs_on_its_own() -> None:
    """One line of JSON is enough to sign in to roles in both accounts; SIGTERM
    ends it.
    """
    options = ("--accounts", "111111111111", "222222222222", "--control")
    with standalone(*options) as (process, facts):
        aws: Any = boto3.client(
            "sts",
            endpoint_url=facts["url"],
            region_name="eu-west-1",
            aws_access_key_id=facts["access_key_id"],
            aws_secret_access_key=facts["secret_access_key"],
        )
        for name, account in (("A", "111111111111"), ("B", "222222222222")):
            answer = aws.assume_role(
                RoleArn=facts["roles"][name],
                RoleSessionName="demo",
                SerialNumber=facts["mfa_serial"],
                TokenCode=control(facts, code=True)["code"],
            )
            assert f":{account}:" in answer["AssumedRoleUser"]["Arn"]
        assert re.fullmatch(r"\d{6}", totp(facts["totp_secret"], time.time()))
        assert control(facts, counts=True) == {"counts": {"AssumeRole": 2}}
        assert control(facts, advance=60) == {"clock_offset": 60.0}
        assert control({**facts, "control": "guess"}, code=True) == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_it_ends_with_its_parent() -> None:
    """Nothing is left running when the process that started it has died."""
    script = Path(__file__).with_name("local_sts.py")
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, {str(script)!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True, timeout=30
    )
    for _ in range(100):
        try:
            os.kill(int(done.stdout), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("still running")
