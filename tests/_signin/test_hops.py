"""
A role that is entered from another role: whatever one role does for itself, a
hop does for those above it.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError

import rolevault
from conftest import Alice, Config, account_of
from local_sts import LocalSts, Revocation
from rolevault import ConfigurationError, MfaRequest, MfaRequiredError

Enter = Callable[..., boto3.Session]

TOP = "444455556666"


@pytest.fixture
def enter(sts: LocalSts, alice: Alice, config: Config) -> Enter:
    """Sessions of the profile ``top``, which is entered from ``mid``, which needs
    Alice's device.
    """
    mid = sts.add_role("Mid", trusts=[alice.user], mfa=True)
    top = sts.add_role("Top", account=TOP, trusts=[mid.arn])
    config(
        f"[profile mid]\nrole_arn={mid.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
        f"[profile top]\nrole_arn={top.arn}\nsource_profile=mid\n"
    )

    def make(profile: str = "top", **options: Any) -> boto3.Session:
        return rolevault.session(
            profile=profile, region_name="eu-west-1", **{"mfa_callback": alice, **options}
        )

    return make


def key_of(session: boto3.Session) -> str:
    credentials = session.get_credentials()
    assert credentials is not None
    return str(credentials.get_frozen_credentials().access_key)


@pytest.mark.parametrize("how", ["invalid", "expired"])
def test_a_revoked_hop_is_renewed(
    sts: LocalSts, alice: Alice, enter: Enter, how: Revocation
) -> None:
    """STS no longer knows the hop's session: it is dropped, once, and entered anew."""
    session = enter()
    assert account_of(session) == TOP
    sts.revoke(how, key_of(enter("mid")))
    sts.revoke(how, key_of(session))
    assert account_of(session) == TOP
    # Two of the start; the top's that is refused, the hop's, the top's.
    assert sts.count("AssumeRole") == 5
    assert len(alice.requests) == 1


def test_everything_is_revoked(sts: LocalSts, alice: Alice, enter: Enter) -> None:
    """The MFA session as well: a code, and all three are new."""
    assert account_of(enter()) == TOP
    sts.revoke("invalid")
    assert account_of(enter()) == TOP
    assert len(alice.requests) == 2


def test_a_hop_that_is_refused_again(sts: LocalSts, enter: Enter) -> None:
    """STS's own error after one renewal, and no more of them within a minute."""
    session = enter()

    def revoke(params: Any, **_: Any) -> None:
        if "/Top" in str(params["body"]):
            sts.revoke("invalid", key_of(enter("mid")))

    session.events.register("before-call.sts.AssumeRole", revoke)
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        key_of(session)
    assert sts.count("AssumeRole") == 4
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        key_of(session)
    assert sts.count("AssumeRole") == 5


def test_ensure_asks_for_the_hop(
    sts: LocalSts, alice: Alice, enter: Enter, clock: time_machine.Traveller
) -> None:
    """Nobody is needed for as long as the hop's MFA session lasts; too short, it is renewed."""
    session = enter()
    until = rolevault.ensure(session).timestamp()
    assert until - time.time() == pytest.approx(43200, abs=60)
    clock.shift(11 * 3600 + 50 * 60)
    assert rolevault.ensure(session, min_ttl="5m").timestamp() == pytest.approx(until, abs=3060)
    assert len(alice.requests) == 1
    until = rolevault.ensure(session, min_ttl="2h").timestamp()
    assert until - time.time() == pytest.approx(43200, abs=60)
    assert len(alice.requests) == 2
    clock.shift(11 * 3600)
    assert account_of(session) == TOP
    assert len(alice.requests) == 2


def test_ensure_refreshes_the_hop(sts: LocalSts, alice: Alice, enter: Enter) -> None:
    """``refresh=True`` is a new code for the hop, and new sessions of both roles."""
    session = enter()
    before = key_of(session), key_of(enter("mid"))
    rolevault.ensure(session, refresh=True)
    assert len(alice.requests) == 2
    assert not {key_of(session), key_of(enter("mid"))} & set(before)
    assert sts.count("AssumeRole") == 4


def test_ensure_of_what_no_hop_can(enter: Enter) -> None:
    """A hop's sessions cannot last that long: the option is named before anybody is asked."""
    with pytest.raises(ConfigurationError, match="mfa_session_seconds"):
        rolevault.ensure(enter(mfa_session_seconds=3600), min_ttl="2h")


def test_a_silent_renewal_asks_nobody(
    alice: Alice, enter: Enter, clock: time_machine.Traveller
) -> None:
    """In the top's advisory window a hop that needs a code is left alone; from its
    mandatory window on somebody is asked.
    """
    options = {"mfa_session_seconds": 3600}
    key_of(enter("mid", **options))
    clock.shift(40 * 60)
    session = enter(**options)
    first = key_of(session)
    clock.shift(46 * 60)  # the hop and the MFA session have ended
    assert key_of(session) == first
    assert len(alice.requests) == 1
    clock.shift(10 * 60)
    assert key_of(session) != first
    assert len(alice.requests) == 2


def test_roles_that_want_young_codes_share_one(
    sts: LocalSts, alice: Alice, clock: time_machine.Traveller, caplog: pytest.LogCaptureFixture
) -> None:
    """``aws:MultiFactorAuthAge`` of four roles, entered at once: one question, also
    where nobody answers it.
    """
    caplog.set_level("INFO", "rolevault")
    roles = [
        sts.add_role(f"Strict{n}", trusts=[alice.user], mfa=True, max_mfa_age=600) for n in range(4)
    ]
    asked: list[MfaRequest] = []

    def nobody(request: MfaRequest) -> str:
        asked.append(request)
        until = time.monotonic() + 5
        while caplog.text.count("for another thread") < 3 and time.monotonic() < until:
            time.sleep(0.01)
        raise MfaRequiredError(serial=request.serial, purpose=request.reason, reason="closed")

    def make(role: Any, callback: Any) -> boto3.Session:
        return rolevault.session(
            role.arn, mfa_serial=alice.serial, mfa_callback=callback, region_name="eu-west-1"
        )

    key_of(make(roles[0], alice))
    clock.shift(2 * 3600)

    def work(session: boto3.Session) -> None:
        with pytest.raises(MfaRequiredError):
            key_of(session)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [make(role, nobody) for role in roles]))
    assert len(asked) == 1
