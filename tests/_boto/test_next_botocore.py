"""
The refresh that botocore prepares swallows every error, serves what it has even
when that is expired or a placeholder, and does not try again for minutes. No
release has it, so a subclass of ``RefreshableCredentials`` emulates it here, and
each rule holds on today's and on that one.
"""

import copy
import datetime
import pickle
from collections.abc import Callable
from typing import Any

import boto3
import pytest
import time_machine
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import ClientError

from conftest import Alice, Enter, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault._boto import provider
from rolevault._boto.credentials import RoleCredentials

UTC = datetime.timezone.utc


class NextRefreshableCredentials(RefreshableCredentials):
    """botocore's coming refresh path, as far as it is public knowledge."""

    _not_before = 0.0

    def _refresh(self) -> None:
        now = datetime.datetime.now(UTC)
        left = (self._expiry_time - now).total_seconds()  # type: ignore[attr-defined]
        if left > 900 or now.timestamp() < self._not_before:
            return
        try:
            metadata = self._refresh_using()  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001  that is the point
            self._not_before = now.timestamp() + 300
            return
        self._set_from_data(metadata)  # type: ignore[attr-defined]
        self._frozen_credentials = ReadOnlyCredentials(
            metadata["access_key"], metadata["secret_key"], metadata["token"]
        )

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        self._refresh()
        return self._frozen_credentials

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        return False


class OnNextBotocore(RoleCredentials, NextRefreshableCredentials):
    """Ours, with the coming path in the place of today's."""


@pytest.fixture(params=["today", "next"], autouse=True)
def botocores_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    if request.param == "next":
        monkeypatch.setattr(provider, "RoleCredentials", OnNextBotocore)


def of(session: boto3.Session) -> Any:
    return session.get_credentials()


def test_the_emulation_does_what_it_must() -> None:
    """Alone it serves a placeholder, swallows the reason, and backs off."""
    calls: list[int] = []

    def fail() -> dict[str, Any]:
        calls.append(1)
        raise RuntimeError

    past = datetime.datetime(1970, 1, 1, tzinfo=UTC)
    credentials = NextRefreshableCredentials("", "", "", past, fail, "test")
    assert [credentials.get_frozen_credentials().access_key for _ in range(3)] == [""] * 3
    assert len(calls) == 1


def test_a_failed_sign_in_raises_and_can_be_tried_again(
    sts: LocalSts, role_a: Role, enter: Enter
) -> None:
    """Its own reason at each call, never a placeholder; the next call works once STS does."""
    session = enter(role_a)
    trusts, role_a.trusts = role_a.trusts, []
    reads: list[Callable[[], object]] = [
        lambda: of(session).get_frozen_credentials(),
        lambda: of(session).access_key,
        lambda: of(session).secret_key,
        lambda: of(session).token,
        lambda: account_of(session),
    ]
    for read in reads:
        with pytest.raises(ClientError, match="not authorized"):
            read()
    assert sts.count("AssumeRole") == len(reads)
    role_a.trusts = trusts
    assert account_of(session) == role_a.account


def test_expired_credentials_are_never_given(
    sts: LocalSts, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """After the end: new ones or the error, from every public member."""
    session = enter(role_a)
    first = of(session).get_frozen_credentials()
    clock.shift(3601)
    sts.fail_next("error", 4)
    for name in ("access_key", "secret_key", "token"):
        with pytest.raises(ClientError, match="InternalFailure"):
            getattr(of(session), name)
    with pytest.raises(ClientError, match="InternalFailure"):
        of(session).get_frozen_credentials()
    second = of(session).get_frozen_credentials()
    assert not set(first[:3]) & set(second[:3])
    assert (of(session).access_key, of(session).secret_key, of(session).token) == second[:3]


def test_renewals_are_ours(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
) -> None:
    """900-second sessions through real requests: our windows, one code."""
    session = enter(role_a, duration_seconds=900)
    client = session.client("sts")
    for _ in range(12):
        client.get_caller_identity()
        clock.shift(600)
    assert sts.count("AssumeRole") == 12
    assert len(alice.requests) == 1


def test_what_is_public_tells_the_truth(
    sts: LocalSts, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """
    ``refresh_needed`` and the expiry other tools look at follow our sessions;
    ``account_id`` needs no sign-in; ``method`` names us.
    """
    credentials = of(enter(role_a))
    assert credentials.account_id == role_a.account
    assert credentials.method == "rolevault"
    assert credentials.refresh_needed()
    assert sts.calls == []
    credentials.get_frozen_credentials()
    assert not credentials.refresh_needed()
    assert not credentials.refresh_needed(3000)
    assert credentials.refresh_needed(3601)
    expiry = credentials._expiry_time - datetime.datetime.now(UTC)
    assert expiry.total_seconds() == pytest.approx(3600, abs=30)
    clock.shift(2701)
    assert credentials.refresh_needed()


def test_no_copies(role_a: Role, enter: Enter) -> None:
    """Deepcopy and pickle raise TypeError, before and after a sign-in, as botocore's do."""
    credentials = of(enter(role_a))
    for _ in range(2):
        for copier in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                copier(credentials)
        credentials.get_frozen_credentials()


def test_botocores_own_refresh_would_get_ours(role_a: Role, enter: Enter) -> None:
    """Should it ever run, it is given what signs, with its true end."""
    credentials = of(enter(role_a))
    metadata = credentials._refresh_using()
    frozen = credentials.get_frozen_credentials()
    assert (metadata["access_key"], metadata["token"]) == (frozen.access_key, frozen.token)
    end = datetime.datetime.fromisoformat(metadata["expiry_time"])
    assert end > datetime.datetime.now(UTC)
