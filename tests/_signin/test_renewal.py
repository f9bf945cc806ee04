"""When a session is renewed, and when a person is asked: the windows depend on the lifetime. And
``ensure()``.
"""

import datetime
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import time_machine
from botocore.exceptions import ClientError

import rolevault
from conftest import Alice, Enter, account_of, key_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError, MfaRequest, MfaRequiredError, Vault
from rolevault._boto.credentials import RoleCredentials
from rolevault._signin.assume_role import CodeNeededError
from rolevault._signin.session_store import SessionStore


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore does not retry here, so that each attempt of rolevault is counted."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def left(until: datetime.datetime) -> float:
    return (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


@pytest.mark.parametrize(
    ("seconds", "advisory", "mandatory"),
    [(900, 300, 150), (1800, 600, 300), (3600, 900, 300), (43200, 900, 300)],
)
def test_windows_follow_the_lifetime(
    sts: LocalSts,
    alice: Alice,
    enter: Enter,
    clock: time_machine.Traveller,
    seconds: int,
    advisory: int,
    mandatory: int,
) -> None:
    """The advisory window is a third of the lifetime, at most 15 minutes; the mandatory window a
    sixth, at most 5 minutes.
    """
    role = sts.add_role("Long", trusts=[alice.user], mfa=True, max_session_duration=43200)
    # Without an MFA session each renewal needs a person, who is asked in the mandatory window.
    session = enter(role, duration_seconds=seconds, mfa_session_seconds=0)
    first = key_of(session)
    clock.shift(seconds - mandatory - 5)
    assert key_of(session) == first
    assert len(alice.requests) == 1
    clock.shift(10)
    assert key_of(session) != first
    assert len(alice.requests) == 2
    # With one they are silent, in the advisory window.
    silent = enter(role, duration_seconds=min(seconds, 3600), external_id="other-entry")
    first = key_of(silent)
    clock.shift(min(seconds, 3600) - advisory - 5)
    assert key_of(silent) == first
    clock.shift(10)
    assert key_of(silent) != first


def test_fifteen_minute_sessions_are_used_for_their_life(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """In an hour of 900-second sessions that sign every 30 s there are six sessions and one code. A
    new process does not renew the session that another one has just got.
    """
    session = enter(role_a, duration_seconds=900)
    for second in range(0, 3600, 30):
        key_of(session)
        if second % 600 == 0:
            key_of(enter(role_a, duration_seconds=900))
        clock.shift(30)
    assert sts.count("AssumeRole") == 6
    assert len(alice.requests) == 1


def test_another_process_may_have_renewed(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """The vault is read again before STS is called."""
    session = enter(role_a)
    key_of(session)
    clock.shift(2800)
    other = key_of(enter(role_a))
    assert key_of(session) == other
    assert sts.count("AssumeRole") == 2


def test_silent_renewals_are_tried_once_a_minute(
    sts: LocalSts, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """If renewals fail in the advisory window, one is tried a minute, however many requests there
    are.
    """
    session = enter(role_a)
    first = key_of(session)
    clock.shift(2710)
    sts.fail_next("error", 1000)
    for _ in range(30):  # 5 minutes, a request every second of ten
        for _ in range(10):
            assert key_of(session) == first
        clock.shift(10)
    assert sts.count("AssumeRole", "InternalFailure") == 5


def test_a_code_is_not_asked_for_before_it_must_be(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """In the advisory window the old keys sign if a renewal would need a code. In the mandatory
    window a person is asked.
    """
    session = enter(role_a, mfa_session_seconds=900)
    first = key_of(session)
    clock.shift(2710)
    assert key_of(session) == first
    clock.shift(500)
    assert key_of(session) == first
    assert len(alice.requests) == 1
    clock.shift(100)
    assert key_of(session) != first
    assert len(alice.requests) == 2
    assert sts.count("AssumeRole") == 2


def test_whole_session_is_given_without_a_question(
    alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """``session()`` returns the keys that sign with their own expiry, and renews as ``frozen()``
    does. Where a code is needed, it asks nobody if it may not.
    """
    credentials = enter(role_a, mfa_session_seconds=900).get_credentials()
    assert isinstance(credentials, RoleCredentials)
    renewal = credentials.renewal
    with pytest.raises(CodeNeededError):
        renewal.session(ask=False)
    assert alice.requests == []
    first = renewal.session(ask=True)
    assert first.keys[0] == credentials.get_frozen_credentials().access_key
    clock.shift(600)
    assert renewal.session(ask=False) is first
    clock.shift(3000)
    with pytest.raises(CodeNeededError):
        renewal.session(ask=False)
    assert renewal.session(ask=True).expires == renewal.expires != first.expires
    assert len(alice.requests) == 2


def test_requests_are_served_while_a_person_types(
    alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """In the mandatory window one thread asks, and the other threads sign with the old keys."""
    asked, go = threading.Event(), threading.Event()

    def slow(request: MfaRequest) -> str:
        if alice.requests:
            asked.set()
            assert go.wait(60)
        return alice(request)

    session = enter(role_a, mfa_session_seconds=0, mfa_callback=slow)
    first = key_of(session)
    clock.shift(3400)
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(key_of, session)
        assert asked.wait(30)
        for _ in range(3):
            assert [key_of(session) for _ in range(5)] == [first] * 5
            clock.shift(61)
        go.set()
        assert renewing.result() != first
    assert len(alice.requests) == 2


def test_failing_renewals_serve_on_until_the_end(
    sts: LocalSts,
    role_a: Role,
    alice: Alice,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the mandatory window a renewal that fails is a warning, once a minute. When the keys have
    expired, each call raises the error, until a renewal works.
    """

    def nobody(request: MfaRequest) -> str:
        if alice.requests and not back:
            asked.append(request)
            raise MfaRequiredError(serial=request.serial, purpose=request.reason, reason="away")
        return alice(request)

    asked: list[MfaRequest] = []
    back: list[bool] = []
    session = enter(role_a, mfa_session_seconds=0, mfa_callback=nobody)
    first = key_of(session)
    clock.shift(3310)
    for _ in range(4):
        assert [key_of(session) for _ in range(5)] == [first] * 5
        clock.shift(61)
    assert len(asked) == 4
    warnings = [each for each in caplog.messages if "could not be renewed" in each]
    assert len(warnings) == 4
    assert "nobody to ask: away" in warnings[0]
    clock.shift(100)
    for _ in range(2):
        with pytest.raises(MfaRequiredError):
            key_of(session)
    assert len(asked) == 6
    back.append(True)
    assert key_of(session) != first


def test_what_ended_during_the_prompt_is_not_served(
    alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """The keys expire during the prompt, and the person gives up: the error is raised, and the
    expired keys do not sign.
    """

    def slow(request: MfaRequest) -> str:
        if alice.requests:
            clock.shift(300)
            asked.append(request)
            raise MfaRequiredError(serial=request.serial, purpose=request.reason, reason="away")
        return alice(request)

    asked: list[MfaRequest] = []
    session = enter(role_a, mfa_session_seconds=0, mfa_callback=slow)
    key_of(session)
    clock.shift(3400)
    with pytest.raises(MfaRequiredError):
        key_of(session)
    assert len(asked) == 1


def test_expired_in_the_vault(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """If nobody can renew it, a session in the vault signs in a new process until it expires."""
    first = key_of(enter(role_a, mfa_session_seconds=0))
    clock.shift(3500)

    def nobody(request: MfaRequest) -> str:
        raise MfaRequiredError(serial=request.serial, purpose=request.reason, reason="away")

    session = enter(role_a, mfa_session_seconds=0, mfa_callback=nobody)
    assert key_of(session) == first
    clock.shift(101)
    with pytest.raises(MfaRequiredError):
        key_of(session)


# ensure()


def test_ensure_asks_now_and_says_until_when(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """``ensure()`` returns the end of the MFA session, however short the role's sessions are."""
    session = enter(role_a)
    until = rolevault.ensure(session)
    assert until.tzinfo == datetime.timezone.utc
    assert left(until) == pytest.approx(43200, abs=30)
    clock.shift(11 * 3600)
    assert rolevault.ensure(session, min_ttl="15m") == until
    assert len(alice.requests) == 1
    again = rolevault.ensure(session, min_ttl="2h")
    assert len(alice.requests) == 2
    assert left(again) > 7200
    for _ in range(11):
        clock.shift(3600)
        account_of(session)
    assert len(alice.requests) == 2


def test_ensure_with_a_code_of_its_own(
    sts: LocalSts, alice: Alice, enter: Enter, clock: time_machine.Traveller
) -> None:
    """If each session of the role needs a code, ``ensure()`` returns the end of the role's
    session.
    """
    role = sts.add_role("Long", trusts=[alice.user], mfa=True, max_session_duration=43200)
    session = enter(role, duration_seconds=14400)
    until = rolevault.ensure(session, min_ttl=datetime.timedelta(hours=2))
    assert left(until) == pytest.approx(14400, abs=30)
    clock.shift(3 * 3600)
    assert rolevault.ensure(session, min_ttl=3000) == until
    assert left(rolevault.ensure(session, min_ttl="2h")) > 7200
    assert len(alice.requests) == 2


@pytest.mark.parametrize(
    ("options", "min_ttl", "option"),
    [
        ({"mfa_session_seconds": 3600}, "2h", "mfa_session_seconds"),
        ({"mfa_session_seconds": 0}, "2h", "duration_seconds"),
        ({"duration_seconds": 7200}, "3h", "duration_seconds"),
    ],
)
def test_ensure_says_what_cannot_be(
    alice: Alice, role_a: Role, enter: Enter, options: dict[str, int], min_ttl: str, option: str
) -> None:
    """If no session lasts that long, ConfigurationError names the option to raise, and nobody is
    asked.
    """
    with pytest.raises(ConfigurationError, match=f"min_ttl.*Raise {option}"):
        rolevault.ensure(enter(role_a, **options), min_ttl=min_ttl, refresh=True)
    assert alice.requests == []


def test_ensure_where_get_session_token_is_denied(alice: Alice, role_a: Role, enter: Enter) -> None:
    """The role's own session has to last then. The error says so if it cannot."""
    alice.user.deny.add("sts:GetSessionToken")
    with pytest.raises(ConfigurationError, match="Raise duration_seconds"):
        rolevault.ensure(enter(role_a), min_ttl="2h")
    assert len(alice.requests) == 1
    assert left(rolevault.ensure(enter(role_a), min_ttl="30m")) == pytest.approx(3600, abs=60)


def test_ensure_without_mfa(
    sts: LocalSts, alice: Alice, enter: Enter, clock: time_machine.Traveller
) -> None:
    """No code is needed: ``ensure()`` returns the end of the role's session, renewed if it is too
    short.
    """
    session = enter(sts.add_role("Open", trusts=[alice.user]), mfa_serial=None)
    first = rolevault.ensure(session)
    clock.shift(1800)
    assert rolevault.ensure(session) == first
    assert left(rolevault.ensure(session, min_ttl="45m")) > 2700
    assert left(rolevault.ensure(session, min_ttl="5h")) > 3000
    assert alice.requests == []


def test_refresh_starts_anew(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """``refresh=True`` asks for a new code, and opens a new MFA session and a new role session."""
    session = enter(role_a)
    first = key_of(session)
    rolevault.ensure(session)
    assert key_of(session) == first
    clock.shift(60)
    rolevault.ensure(session, refresh=True)
    assert key_of(session) != first
    assert key_of(enter(role_a)) == key_of(session)
    assert (sts.count("GetSessionToken"), sts.count("AssumeRole")) == (2, 2)


def test_refresh_after_a_revocation_in_iam(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter
) -> None:
    """ "Revoke active sessions" in IAM looks like any AccessDenied. Only ``refresh=True`` helps."""
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb", endpoint_url=sts.url)
    dynamodb.list_tables()
    sts.revoke("denied")
    with pytest.raises(ClientError, match="AccessDenied"):
        dynamodb.list_tables()
    assert sts.count("AssumeRole") == 1
    rolevault.ensure(session, refresh=True)
    dynamodb.list_tables()


# Keys that a service refuses


def test_a_clock_that_is_set_back_keeps_no_key_alive(
    sts: LocalSts, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """Keys are dropped once a minute at most. A last time that is in the future does not count."""
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb", endpoint_url=sts.url)
    dynamodb.list_tables()
    for _ in range(2):
        sts.revoke("invalid", key_of(session))
        dynamodb.list_tables()
        clock.shift(-1800)
    assert sts.count("AssumeRole") == 3


def test_a_key_that_another_process_has_replaced_is_not_deleted(
    sts: LocalSts, role_a: Role, enter: Enter
) -> None:
    """The vault holds a newer session by then, which signs."""
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb", endpoint_url=sts.url)
    dynamodb.list_tables()
    old = key_of(session)
    other = enter(role_a)
    rolevault.ensure(other, refresh=True)
    sts.revoke("invalid", old)
    dynamodb.list_tables()
    assert key_of(session) == key_of(other) != old
    assert sts.count("AssumeRole") == 2


def test_a_session_that_is_adopted_while_a_key_is_dropped_stays(
    sts: LocalSts, role_a: Role, enter: Enter
) -> None:
    """To drop a key waits for a lock. Keys that another thread adopts at that time sign on."""
    session = enter(role_a)
    old = key_of(session)
    rolevault.ensure(enter(role_a), refresh=True)
    credentials: Any = session.get_credentials()
    renewal = credentials.renewal
    with ThreadPoolExecutor(1) as pool:
        with SessionStore(Vault()).sign_in_lock("role", renewal.fetcher.key, "x"):
            dropping = pool.submit(renewal.drop_refused_key, old)
            while not renewal._dropped_at:
                time.sleep(0.01)
            rolevault.ensure(session)
        assert dropping.result(60) is True
    assert renewal.keys_in_memory().access_key != old


def test_a_failed_attempt_does_not_bring_back_old_keys(
    alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller, tmp_path: Path
) -> None:
    """While a person is asked, another process renews the session and this one adopts it. Then
    the person gives up: the new keys sign.
    """
    made: list[str] = []

    def gives_up(request: MfaRequest) -> str:
        if not alice.requests:
            return alice(request)
        elsewhere = tmp_path / "elsewhere" / "vault"
        other = enter(role_a, mfa_session_seconds=0, vault_path=elsewhere)
        made.append(key_of(other))
        roles = {key: each for key, each in Vault(elsewhere).items() if each["kind"] == "role"}
        Vault().update(roles)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(rolevault.ensure, session).result(60)
        raise MfaRequiredError(serial=request.serial, purpose=request.reason, reason="away")

    session = enter(role_a, mfa_session_seconds=0, mfa_callback=gives_up)
    key_of(session)
    clock.shift(3400)
    key_of(session)
    assert [key_of(session)] == made
