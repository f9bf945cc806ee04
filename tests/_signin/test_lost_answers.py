"""Answers that STS does not give count as lost: none is used or stored, and the code in the
request counts as used.
"""

import datetime
import re
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError, CredentialRetrievalError
from botocore.parsers import ResponseParserError

import rolevault
from aws_wire import NAMESPACE, Answer, Request, query_params
from conftest import PASSPHRASE, Web, later
from rolevault import MfaRequest, Vault
from rolevault._signin.sts_answer import session_from_answer

ROLE = "arn:aws:iam::111122223333:role/Deploy"
SERIAL = "arn:aws:iam::999988887777:mfa/alice"
SECRET = "SECRETsecretSECRETsecretSECRETsecretSECR"

#: The parts of the credentials in an answer, as XML.
PARTS = {
    "AccessKeyId": "<AccessKeyId>ASIAEXAMPLEEXAMPLE00</AccessKeyId>",
    "SecretAccessKey": f"<SecretAccessKey>{SECRET}</SecretAccessKey>",
    "SessionToken": "<SessionToken>IQoJTOKEN==</SessionToken>",
    "Expiration": "",  # an hour from now
}


def expiration(text: str) -> str:
    return f"<Expiration>{text}</Expiration>"


#: What takes the place of a part.
BAD_PARTS = {
    "no key id": {"AccessKeyId": ""},
    "an empty key id": {"AccessKeyId": "<AccessKeyId/>"},
    "an empty secret": {"SecretAccessKey": "<SecretAccessKey></SecretAccessKey>"},
    "an empty token": {"SessionToken": "<SessionToken/>"},
    "a secret twice": {"SecretAccessKey": PARTS["SecretAccessKey"] * 2},
    "a line end in a token": {"SessionToken": "<SessionToken>IQoJ&#10;TOKEN</SessionToken>"},
    "a token that is not ASCII": {"SessionToken": "<SessionToken>IQoJ\u00e9</SessionToken>"},
    "an end that is never": {"Expiration": expiration("never")},
    "an empty end": {"Expiration": expiration("")},
    "two ends": {"Expiration": expiration("2030-01-01T00:00:00Z") * 2},
    "a huge end": {"Expiration": expiration("9" * 20)},
    "an end without a zone": {"Expiration": expiration("2030-01-01T00:30:00")},
    "the year 9999": {"Expiration": expiration("9999-12-31T23:59:59Z")},
    "the year 9999 and a zone": {"Expiration": expiration("9999-12-31T23:59:59-01:00")},
}


def answer(action: str, user: str = "", **parts: str) -> Answer:
    """A successful answer of ``action``."""
    filled = {**PARTS, "Expiration": expiration(later(seconds=3600)), **parts}
    body = (
        f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>'
        f"<Credentials>{''.join(filled.values())}</Credentials>{user}</{action}Result>"
        f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    )
    return Answer(200, "text/xml", body.encode())


def refusal(details: str) -> Answer:
    body = f'<ErrorResponse xmlns="{NAMESPACE}">{details}<RequestId>r</RequestId></ErrorResponse>'
    return Answer(403, "text/xml", body.encode())


class Bad:
    """A server that answers what a test says, and a person who counts her codes."""

    def __init__(self, web: Web) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[str] = []
        self.told: list[str | None] = []
        web.answers["/"] = self.serve

    def serve(self, request: Request) -> Answer:
        action = query_params(request)["Action"]
        self.calls.append(action)
        return self.answers.get(action) or answer(action)

    def code(self, request: MfaRequest) -> str:
        self.told.append(request.last_error)
        return f"{next(_codes):06d}"

    def sign_in(self, **options: Any) -> None:
        options = {"mfa_serial": SERIAL, "mfa_callback": self.code, **options}
        rolevault.ensure(rolevault.session(ROLE, region_name="eu-west-1", **options))


#: No two tests send the same code, since a process remembers what it has sent.
_codes = iter(range(100_000, 999_999))


@pytest.fixture
def bad(web: Web, monkeypatch: pytest.MonkeyPatch, clock: time_machine.Traveller) -> Iterator[Bad]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", web.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLEEXAMPLE00")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    yield Bad(web)
    kinds = {entry["kind"] for entry in Vault().entries()}
    assert kinds <= {"codes", "mfa"}


@pytest.mark.parametrize("parts", BAD_PARTS.values(), ids=list(BAD_PARTS))
def test_a_session_that_sts_does_not_issue_is_a_lost_answer(
    bad: Bad, parts: dict[str, str]
) -> None:
    """The code may be spent: another one is asked for, and after three the error says what the
    answer lacks. Nothing of the answer is shown.
    """
    bad.answers["GetSessionToken"] = answer("GetSessionToken", **parts)
    with pytest.raises(ResponseParserError, match="STS's answer") as caught:
        bad.sign_in()
    assert bad.calls == ["GetSessionToken"] * 3
    lost = "STS's answer was lost. The code counts as used."
    assert bad.told == [None, lost, lost]
    (codes,) = [entry["codes"] for entry in Vault().values()]
    assert len(codes) == 3
    assert not re.search(r"SECRET|TOKEN|IQoJ", str(caught.value))


@pytest.mark.parametrize("parts", BAD_PARTS.values(), ids=list(BAD_PARTS))
def test_a_role_session_that_sts_does_not_issue_is_an_error(
    bad: Bad, parts: dict[str, str]
) -> None:
    """The same where no code was sent."""
    bad.answers["AssumeRole"] = answer("AssumeRole", **parts)
    with pytest.raises(ResponseParserError, match="STS's answer"):
        bad.sign_in(mfa_serial=None)
    assert bad.calls == ["AssumeRole"]


@pytest.mark.parametrize(
    ("account", "accepted"), [("111122223333", True), ("", True), ("444455556666", False)]
)
def test_a_session_of_another_account_is_refused(bad: Bad, account: str, accepted: bool) -> None:
    """AssumeRole's answer names the account. Services that are like STS may leave it empty."""
    user = f"<Arn>arn:aws:sts::{account}:assumed-role/Deploy/alice</Arn>"
    user = f"<AssumedRoleUser>{user}<AssumedRoleId>A:alice</AssumedRoleId></AssumedRoleUser>"
    bad.answers["AssumeRole"] = answer("AssumeRole", user)
    if accepted:
        bad.sign_in(mfa_serial=None)
        Vault().clear()
        return
    with pytest.raises(ResponseParserError, match="account '444455556666' and not of 1111"):
        bad.sign_in(mfa_serial=None)


@pytest.mark.parametrize("user", ["<Arn>x</Arn><Arn>x</Arn>", "<Arn/>", ""])
def test_whose_session_it_is_need_not_be_said(bad: Bad, user: str) -> None:
    """MinIO answers with an empty ARN, which is accepted; two ARNs are not."""
    user = f"<AssumedRoleUser>{user}</AssumedRoleUser>"
    bad.answers["AssumeRole"] = answer("AssumeRole", user)
    if "x" not in user:
        bad.sign_in(mfa_serial=None)
        Vault().clear()
        return
    with pytest.raises(ResponseParserError, match="STS's answer"):
        bad.sign_in(mfa_serial=None)


@pytest.mark.parametrize(
    "details",
    [
        "<Error><Code>AccessDenied</Code><Code>Throttling</Code></Error>",
        "<Error><Code/><Message>no</Message></Error>",
        "<Error><Message>no</Message></Error>",
        "<Error><Code>AccessDenied</Code><Message>a</Message><Message>b</Message></Error>",
        "<Error/>",
        "",
    ],
)
def test_a_refusal_that_sts_does_not_word_is_a_lost_answer(bad: Bad, details: str) -> None:
    """Nobody knows what was refused, so the code may be spent."""
    bad.answers["GetSessionToken"] = refusal(details)
    with pytest.raises(ResponseParserError, match="STS's answer"):
        bad.sign_in()
    assert bad.calls == ["GetSessionToken"] * 3
    assert len(set(bad.told)) == 2


@pytest.mark.parametrize("message", ["<Message/>", "<Message></Message>", ""])
def test_a_refusal_without_a_message_is_stss_own(bad: Bad, message: str) -> None:
    """The code of the error says enough: STS's error at once, and nobody is asked again."""
    bad.answers["GetSessionToken"] = refusal(f"<Error><Code>AccessDenied</Code>{message}</Error>")
    with pytest.raises(ClientError, match="AccessDenied"):
        bad.sign_in()
    assert bad.calls == ["GetSessionToken"]
    # The code is known to be used, by other processes too.
    assert [entry["kind"] for entry in Vault().entries()] == ["codes"]


def test_a_session_that_ended_before_it_came_is_a_lost_answer(bad: Bad) -> None:
    """The code in the request is spent, so another one is asked for; in the end the error is
    about the clock.
    """
    old = expiration("2029-12-31T00:00:00Z")
    bad.answers["GetSessionToken"] = answer("GetSessionToken", Expiration=old)
    with pytest.raises(CredentialRetrievalError, match="look at the clock"):
        bad.sign_in()
    assert bad.calls == ["GetSessionToken"] * 3


def test_the_clock_may_be_a_quarter_of_an_hour_wrong() -> None:
    """A session may end after the time that was asked for by as much as AWS lets clocks differ."""
    now = time.time()

    def accepts(seconds: float) -> bool:
        end = datetime.datetime.fromtimestamp(now + seconds, datetime.timezone.utc)
        keys = {"AccessKeyId": "A", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": end}
        try:
            session_from_answer(
                "role", {}, {"Credentials": keys}, asked_seconds=900, time_fetcher=lambda: now
            )
        except ResponseParserError:
            return False
        return True

    assert [accepts(seconds) for seconds in (1, 900, 1799, 1801)] == [True, True, True, False]


def test_an_error_of_a_users_handler_is_not_an_answer(bad: Bad) -> None:
    """What a handler of the user's raises before the request is sent passes unchanged."""

    def crash(**event: Any) -> None:
        raise ValueError("mine")

    session: boto3.Session = rolevault.session(ROLE, region_name="eu-west-1")
    session.events.register("before-send.sts", crash)
    with pytest.raises(ValueError, match="mine"):
        rolevault.ensure(session)
    assert bad.calls == []
