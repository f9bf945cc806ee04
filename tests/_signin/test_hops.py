"""A role that is entered from another role ("role chaining"): the upper role is renewed, dropped
and ensured for the role above it as it is for itself.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError

import rolevault
from conftest import PASSPHRASE, Alice, Config, account_of
from local_sts import LocalSts, Revocation
from rolevault import ConfigurationError, MfaRequest, MfaRequiredError, Vault

Enter = Callable[..., boto3.Session]

TOP = "444455556666"


@pytest.fixture
def enter(sts: LocalSts, alice: Alice, config: Config) -> Enter:
    """Makes sessions of the profile ``top``. Its role is entered from the role of ``mid``, which
    needs Alice's device.
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
    """STS no longer knows the upper role's session: it is dropped once, and the role is entered
    anew.
    """
    session = enter()
    assert account_of(session) == TOP
    sts.revoke(how, key_of(enter("mid")))
    sts.revoke(how, key_of(session))
    assert account_of(session) == TOP
    # Two of the start; the top's that is refused, the hop's, the top's.
    assert sts.count("AssumeRole") == 5
    assert len(alice.requests) == 1


def test_a_hop_is_kept_with_the_role_that_it_leads_to(
    enter: Enter, path: Path, vault_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of the vault hold for the roles of source profiles, too."""
    monkeypatch.delenv("ROLEVAULT_PASSPHRASE")
    assert account_of(enter(passphrase=PASSPHRASE, vault_path=path)) == TOP
    kinds = [entry["kind"] for entry in Vault(path, PASSPHRASE).entries()]
    assert kinds.count("role") == 2
    assert not vault_path.exists()


def test_everything_is_revoked(sts: LocalSts, alice: Alice, enter: Enter) -> None:
    """The MFA session is revoked as well: one code opens it again, and all three sessions are
    new.
    """
    assert account_of(enter()) == TOP
    sts.revoke("invalid")
    assert account_of(enter()) == TOP
    assert len(alice.requests) == 2


def test_a_hop_that_is_refused_again(sts: LocalSts, enter: Enter) -> None:
    """STS refuses the renewed upper role too: its error is raised, and no other renewal is tried
    within a minute.
    """
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
    """``ensure()`` returns the end of the upper role's MFA session, and renews it if it is too
    short.
    """
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
    """``refresh=True`` asks for a new code for the upper role, and both roles get new sessions."""
    session = enter()
    before = key_of(session), key_of(enter("mid"))
    rolevault.ensure(session, refresh=True)
    assert len(alice.requests) == 2
    assert not {key_of(session), key_of(enter("mid"))} & set(before)
    assert sts.count("AssumeRole") == 4


def test_ensure_of_what_no_hop_can(enter: Enter) -> None:
    """If the upper role's sessions cannot last that long, the error names the option, and nobody is
    asked.
    """
    with pytest.raises(ConfigurationError, match="mfa_session_seconds"):
        rolevault.ensure(enter(mfa_session_seconds=3600), min_ttl="2h")


def test_a_silent_renewal_asks_nobody(
    alice: Alice, enter: Enter, clock: time_machine.Traveller
) -> None:
    """In the role's advisory window no code is asked for, even if the upper role needs one. In its
    mandatory window a person is asked.
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
    """Four roles with ``aws:MultiFactorAuthAge`` are entered at once: a person is asked once, and
    all four fail if nobody answers.
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
