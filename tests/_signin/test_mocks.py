"""What a mock answers is never stored: neither moto's ``mock_aws`` nor botocore's ``Stubber`` nor
a patched function puts anything into the user's vault.
"""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

import rolevault
from conftest import PASSPHRASE, Alice, Enter, account_of, key_of, later
from local_iam import Role
from local_sts import LocalSts
from rolevault import MfaRequest, Vault
from rolevault._signin.sts_client import StsClientFactory

ROLE = "arn:aws:iam::111122223333:role/Deploy"
OTHER_ROLE = "arn:aws:iam::444455556666:role/Audit"
SERIAL = "arn:aws:iam::999988887777:mfa/alice"


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own passphrase and vault, and the keys that moto's documentation sets."""
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


class Person:
    """Types the same code each time, as a test's callback does."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, request: MfaRequest) -> str:
        self.asked += 1
        return "123456"


def session(role: str = ROLE, **options: Any) -> boto3.Session:
    return rolevault.session(role, mfa_serial=SERIAL, **options)


def test_a_session_of_moto_signs_and_is_not_stored() -> None:
    """Under ``mock_aws`` one code serves both roles, as in earnest, and the vault stays empty."""
    Vault()["mine"] = {"kind": "other"}
    person = Person()
    with mock_aws():
        assert account_of(session(mfa_callback=person)) == "111122223333"
        assert account_of(session(OTHER_ROLE, mfa_callback=person)) == "444455556666"
        assert account_of(session(mfa_callback=person)) == "111122223333"
    assert person.asked == 1
    assert [entry["kind"] for entry in Vault().entries()] == ["other"]


def test_moto_takes_the_same_code_again(tmp_path: Path) -> None:
    """A code that no connection carried is not used: two tests may type the same one."""
    for name in ("one", "two"):
        with mock_aws():
            account_of(session(mfa_callback=Person(), vault_path=tmp_path / name / "vault"))


class Mocked:
    """Answers the STS calls of a session before they reach a connection."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, session: boto3.Session) -> boto3.Session:
        events: Any = session.events
        events.register("before-send.sts", self.answer)
        return session

    def answer(self, request: Any, **_: Any) -> AWSResponse:
        body = request.body if isinstance(request.body, str) else request.body.decode()
        action = dict(parse_qsl(body))["Action"]
        self.calls.append(action)
        key = f"ASIAMOCK{len(self.calls):012d}"
        answer = (
            f"<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId>"
            "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            f"<Expiration>{later(minutes=50)}</Expiration></Credentials></{action}Result>"
            f"</{action}Response>"
        )
        return AWSResponse(request.url, 200, HTTPHeaders(), _Raw(answer.encode()))


class _Raw:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.body


def test_a_mock_leaves_the_users_sessions(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """What the vault holds of the same role and device is neither replaced nor deleted."""
    first = key_of(enter(role_a))
    stored, calls = Vault().copy(), len(sts.calls)
    mocked = Mocked()
    session = mocked(enter(role_a))
    rolevault.ensure(session, refresh=True)
    assert mocked.calls == ["GetSessionToken", "AssumeRole"]
    assert key_of(session) == key_of(enter(role_a)) == "ASIAMOCK000000000002"
    assert Vault().copy() == stored
    assert first in str(stored)
    assert len(sts.calls) == calls


def test_a_mocks_session_does_not_outlive_a_refusal(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """The test has ended, and the process goes on: AWS refuses the mock's keys, and then the
    user's own session signs again.
    """
    first = key_of(enter(role_a))
    rolevault.ensure(Mocked()(enter(role_a)), refresh=True)
    session = enter(role_a)
    assert account_of(session) == role_a.account
    assert key_of(session) == first
    assert sts.count("AssumeRole") == 1


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Stubber]]:
    """Every client of STS that rolevault makes has a ``Stubber``."""
    stubbers: list[Stubber] = []
    create = StsClientFactory.create_client

    def create_stubbed(self: StsClientFactory, *args: Any, **options: Any) -> Any:
        client = create(self, *args, **options)
        stubber = Stubber(client)
        _responses[len(stubbers)](stubber)
        stubbers.append(stubber)
        stubber.activate()
        return client

    monkeypatch.setattr(StsClientFactory, "create_client", create_stubbed)
    yield stubbers
    _responses.clear()


_responses: list[Any] = []


def credentials(key: str) -> dict[str, Any]:
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    return {
        "Credentials": {
            "AccessKeyId": key,
            "SecretAccessKey": "secret",
            "SessionToken": "token",
            "Expiration": end,
        }
    }


def test_an_answer_of_a_stubber_is_not_stored(stubbed: list[Stubber]) -> None:
    """botocore's ``Stubber`` answers before a request is made."""
    _responses.append(
        lambda stub: stub.add_response("get_session_token", credentials("ASIAMFA0000000000000"))
    )
    _responses.append(
        lambda stub: stub.add_response("assume_role", credentials("ASIAROLE000000000000"))
    )
    assert key_of(session(mfa_callback=Person())) == "ASIAROLE000000000000"
    assert len(stubbed) == 2
    assert Vault().entries() == []


@pytest.mark.parametrize("seconds", [43200, 0])
def test_a_denial_of_a_stubber_is_not_stored(stubbed: list[Stubber], seconds: int) -> None:
    """No later run is told that a role or GetSessionToken was denied."""
    message = "User is not authorized to perform: sts:GetSessionToken"
    if seconds:
        _responses.append(
            lambda stub: stub.add_client_error("get_session_token", "AccessDenied", message)
        )
    _responses.append(lambda stub: stub.add_client_error("assume_role", "AccessDenied", "no"))
    with pytest.raises(ClientError, match="AccessDenied"):
        key_of(session(mfa_callback=Person(), mfa_session_seconds=seconds))
    assert len(stubbed) == len(_responses)
    assert Vault().entries() == []


def test_an_answer_of_a_patched_client_is_not_stored() -> None:
    """``patch("botocore.client.BaseClient._make_api_call")``, as many tests have it."""
    answer = credentials("ASIAROLE000000000000")
    with mock.patch.object(BaseClient, "_make_api_call", return_value=answer):
        assert key_of(rolevault.session(ROLE)) == "ASIAROLE000000000000"
    assert Vault().entries() == []


def test_an_answer_of_a_handler_is_not_stored() -> None:
    """A handler of ``before-send`` that makes the answer itself."""
    assert key_of(Mocked()(rolevault.session(ROLE))) == "ASIAMOCK000000000001"
    assert Vault().entries() == []


def test_what_a_connection_brought_is_stored(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """The same code path, with a server at the other end."""
    account_of(enter(role_a))
    assert sorted(entry["kind"] for entry in Vault().entries()) == ["codes", "mfa", "role"]
