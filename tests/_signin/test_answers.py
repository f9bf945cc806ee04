"""Answers of STS that no STS gives: each is judged, and none is believed or shown."""

import logging
import pickle
import traceback
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

import rolevault
from aws_wire import Answer
from conftest import Alice, Web, later
from rolevault import ConfigurationError, Vault, _botocore_private

ROLE = "arn:aws:iam::111122223333:role/Deploy"
SENTINEL = "SENTINELtokenSENTINEL"
PARTS = {
    "AccessKeyId": "ASIAEXAMPLE123456789",
    "SecretAccessKey": "secret",
    "SessionToken": SENTINEL,
    "Expiration": "<now>",
}
USER = (
    "<Arn>arn:aws:sts::111122223333:assumed-role/Deploy/x</Arn><AssumedRoleId>A:x</AssumedRoleId>"
)


def answer(user: str = USER, action: str = "AssumeRole", **changes: str) -> str:
    """STS's answer in XML; each change replaces the inner text of one part."""
    parts = {**PARTS, "Expiration": later(minutes=50), **changes}
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in parts.items())
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<{action}Result><Credentials>{inner}</Credentials>"
        f"<AssumedRoleUser>{user}</AssumedRoleUser></{action}Result>"
        f"<ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></{action}Response>"
    )


def error(details: str) -> Answer:
    body = f"<ErrorResponse><Error>{details}</Error><RequestId>x</RequestId></ErrorResponse>"
    return Answer(403, "text/xml", body.encode())


@pytest.fixture
def session(alice: Alice, web: Web, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """Of a role whose STS is ``web``."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", web.url)
    return rolevault.session(ROLE, region_name="eu-west-1")


def sign(session: boto3.Session) -> Any:
    credentials = session.get_credentials()
    assert credentials is not None
    return credentials.get_frozen_credentials()


def test_a_good_answer_is_believed(session: boto3.Session, web: Web) -> None:
    """Also where ``AssumedRoleUser`` is missing, as with other implementations of STS."""
    for user in (USER, ""):
        web.answers["/"] = answer(user)
        assert sign(session).token == SENTINEL
        Vault().clear()


@pytest.mark.parametrize(
    "wrong",
    [
        answer(AccessKeyId=""),
        answer(SecretAccessKey=""),
        answer(SessionToken=""),
        answer(SessionToken=f"{SENTINEL}\nX-Evil: 1"),
        answer(SecretAccessKey="one</SecretAccessKey><SecretAccessKey>two"),
        answer(Expiration="9999-12-31T23:59:59Z"),
        answer(Expiration="9999-12-31T23:59:59-01:00"),
        answer(Expiration="never"),
        answer(Expiration=""),
        answer(Expiration="1" + "0" * 30),
        answer(Expiration="2030-01-01T00:00:00Z</Expiration><Expiration>2031-01-01T00:00:00Z"),
        answer(USER.replace("111122223333", "444455556666")),
        error("<Code>A</Code><Code>B</Code><Message>x</Message>"),
        error("<Message>x</Message>"),
        "<html>a proxy's own page</html>",
    ],
)
def test_a_wrong_answer_is_not_believed(session: boto3.Session, web: Web, wrong: Any) -> None:
    """One kind of error, nothing of the answer in it, and nothing in the vault."""
    web.answers["/"] = wrong
    with pytest.raises(ResponseParserError) as caught:
        sign(session)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert SENTINEL not in shown
    assert not [each for each in Vault().entries() if each["kind"] == "role"]


def test_a_refusal_without_a_message_is_a_refusal(session: boto3.Session, web: Web) -> None:
    """``<Message/>`` is nobody's ``TypeError``."""
    web.answers["/"] = error("<Code>AccessDenied</Code><Message/>")
    with pytest.raises(ClientError, match="AccessDenied"):
        sign(session)


def test_a_wrong_answer_to_a_code_counts_as_lost(
    alice: Alice, web: Web, session: boto3.Session
) -> None:
    """The code may have been used: the next attempt is told so, and the error comes at last."""
    web.answers["/"] = answer(action="GetSessionToken", Expiration="never")
    with_device = rolevault.session(
        ROLE, region_name="eu-west-1", mfa_serial=alice.serial, mfa_callback=alice
    )
    with pytest.raises(ResponseParserError):
        sign(with_device)
    assert [each.attempt for each in alice.requests] == [1, 2, 3]
    assert "counts as used" in str(alice.requests[1].last_error)


@pytest.mark.parametrize("end", ["\r", "\n"])
@pytest.mark.parametrize(
    ("variable", "name"),
    [("AWS_SESSION_TOKEN", "session token"), ("AWS_SECRET_ACCESS_KEY", "secret key")],
)
def test_keys_with_a_control_character_are_refused(
    alice: Alice,
    web: Web,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: str,
    variable: str,
    name: str,
) -> None:
    """A ``.env`` of Windows: named by its source, shown nowhere, and sent nowhere."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", web.url)
    monkeypatch.setenv(variable, SENTINEL + end)
    caplog.set_level(logging.DEBUG, "rolevault")
    with pytest.raises(ConfigurationError, match=rf"\(env\).*{name}") as caught:
        sign(rolevault.session(ROLE, region_name="eu-west-1"))
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert SENTINEL not in shown
    assert web.requests == []


def test_an_error_of_the_http_library_shows_no_header(session: boto3.Session) -> None:
    """botocore wraps what the library raises, and http.client shows the header that it
    refuses.
    """
    inner = _botocore_private.botocore_session(session)

    def break_header(**event: Any) -> None:
        event["request"].headers["X-Amz-Security-Token"] = f"{SENTINEL}\n"

    inner.register("before-send.sts", break_header)
    with pytest.raises(HTTPClientError) as caught:
        sign(session)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert SENTINEL not in shown
    assert SENTINEL.encode() not in pickle.dumps(caught.value)
