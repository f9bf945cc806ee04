"""
Rules that botocore's published test-suite holds botocore to, for its JSON cache
and its refresh: ours are kept to them. ``docs/compatibility.md`` lists all of
them, those of profiles, sources and precedence too, and every difference.
"""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
import time_machine
from botocore.credentials import AssumeRoleCredentialFetcher
from botocore.exceptions import ClientError, CredentialRetrievalError
from botocore.utils import JSONFileCache

import rolevault
from conftest import PASSPHRASE, Alice, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import Vault

Cache = Any


@pytest.fixture(params=["JSONFileCache", "Vault"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    """botocore's cache and ours: one set of rules."""
    if request.param == "JSONFileCache":
        return JSONFileCache(str(tmp_path / "not" / "yet" / "there"))
    (tmp_path / "private").mkdir(mode=0o700)
    return Vault(tmp_path / "private" / "vault", PASSPHRASE)


def test_a_cache_is_a_mapping(cache: Cache) -> None:
    """Contained, got, replaced by something shorter, deleted; two keys at once."""
    assert "a" not in cache
    cache["a"] = {"long": "value" * 100}
    cache["b"] = {"other": 1}
    cache["a"] = {"x": "y"}
    assert "a" in cache
    assert (cache["a"], cache["b"]) == ({"x": "y"}, {"other": 1})
    del cache["a"]
    assert "a" not in cache
    with pytest.raises(KeyError):
        cache["a"]
    with pytest.raises(KeyError):
        del cache["a"]
    assert cache["b"] == {"other": 1}


def test_a_cache_takes_json_only(cache: Cache) -> None:
    """What is not JSON is a ``ValueError``, and nothing is stored."""
    with pytest.raises(ValueError):  # noqa: PT011  the rule is the type
        cache["a"] = {"x": {1, 2}}
    assert "a" not in cache


def test_a_cache_takes_datetimes(cache: Cache) -> None:
    """Times come back as text that botocore parses."""
    cache["a"] = {"Expiration": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)}
    assert str(cache["a"]["Expiration"]).startswith("2030-01-02T03:04:05")


def test_a_cache_keeps_its_files_to_itself(cache: Cache, tmp_path: Path) -> None:
    """Mode 0600, and no temporary file is left."""
    cache["a"] = {"x": "y"}
    files = [each for each in tmp_path.rglob("*") if each.is_file() and "lock" not in each.name]
    assert len(files) == 1
    assert files[0].stat().st_mode & 0o777 == 0o600


def test_botocores_fetcher_takes_a_vault(
    sts: LocalSts, alice: Alice, role_a: Role, vault_path: Path
) -> None:
    """A ``Vault`` where botocore takes a cache: the second fetcher calls nothing."""
    role_a.mfa = False
    session = botocore.session.get_session()
    session.set_config_variable("region", "eu-west-1")
    source = session.get_credentials()
    assert source is not None
    vaults: list[Any] = [Vault(vault_path, PASSPHRASE) for _ in range(2)]
    found = [
        AssumeRoleCredentialFetcher(
            session.create_client, source, role_a.arn, cache=vault
        ).fetch_credentials()
        for vault in vaults
    ]
    assert sts.count("AssumeRole") == 1
    assert found[0]["access_key"] == found[1]["access_key"]


@pytest.fixture
def role(role_a: Role) -> Role:
    role_a.mfa = False
    return role_a


def frozen(session: boto3.Session) -> Any:
    credentials: Any = session.get_credentials()
    return credentials.get_frozen_credentials()


def test_the_first_access_fetches_and_the_next_does_not(sts: LocalSts, role: Role) -> None:
    """Deferred until a key is read, by any member; then kept."""
    session = rolevault.session(role.arn)
    credentials: Any = session.get_credentials()
    assert credentials.refresh_needed()
    assert sts.calls == []
    assert credentials.access_key == frozen(session).access_key
    assert credentials.secret_key == frozen(session).secret_key
    assert credentials.token == frozen(session).token
    assert not credentials.refresh_needed()
    assert credentials.refresh_needed(refresh_in=3601)
    assert sts.count("AssumeRole") == 1


def test_a_refresh_that_fails_early_is_no_error(sts: LocalSts, role: Role) -> None:
    """In the advisory window the keys in hand serve on; after it, the reason is
    raised, and the next call tries again.
    """
    session = rolevault.session(role.arn)
    first = frozen(session)
    with time_machine.travel(sts.now() + 3600 - 600, tick=True) as clock:
        role.trusts = []
        assert frozen(session) == first
        assert sts.count("AssumeRole", "AccessDenied") == 1
        clock.shift(timedelta(minutes=11))
        with pytest.raises(ClientError, match="AccessDenied"):
            frozen(session)
        role.trusts = ["*"]
        assert frozen(session) != first


def test_a_refresh_in_the_advisory_window_is_taken(sts: LocalSts, role: Role) -> None:
    """Early enough that no request meets the end."""
    session = rolevault.session(role.arn)
    first = frozen(session)
    with time_machine.travel(sts.now() + 3600 - 600, tick=True):
        assert frozen(session) != first


def test_credentials_that_come_too_late_do_not_sign(
    sts: LocalSts, role: Role, clock: time_machine.Traveller
) -> None:
    """A laptop that sleeps while STS answers: an error, and not a signature that a
    service will refuse; the next request tries again.
    """
    session = rolevault.session(role.arn)

    def sleep(**event: Any) -> None:
        clock.shift(3601)

    session.events.register("after-call.sts.AssumeRole", sleep)
    credentials: Any = session.get_credentials()
    with pytest.raises(CredentialRetrievalError, match=r"ended at .*: try again"):
        credentials.get_frozen_credentials()
    session.events.unregister("after-call.sts.AssumeRole", sleep)
    assert account_of(session) == "111122223333"


@pytest.mark.parametrize("member", ["access_key", "secret_key", "token", "account_id"])
def test_nobody_puts_other_keys_in(role: Role, member: str) -> None:
    """A difference: botocore's have setters."""
    with pytest.raises(AttributeError):
        setattr(rolevault.session(role.arn).get_credentials(), member, "x")


@pytest.mark.parametrize("value", [[1], "text", None, {"x": float("nan")}])
def test_a_vault_holds_dicts(value: Any, vault_path: Path) -> None:
    """A difference: a ``JSONFileCache`` takes any JSON value."""
    with pytest.raises(ValueError, match="dicts that JSON can hold"):
        Vault(vault_path, PASSPHRASE)["a"] = value
    assert not vault_path.exists()


def test_credentials_with_a_device_refresh(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """A difference: botocore gives up (``RefreshWithMFAUnsupportedError``), we renew."""
    session = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice)
    first = frozen(session)
    with time_machine.travel(sts.now() + 7200, tick=True):
        assert frozen(session) != first
        assert account_of(session) == "111122223333"
    assert len(alice.requests) == 1


def test_a_short_session_is_used(sts: LocalSts, role: Role) -> None:
    """A difference: botocore's windows make 900 seconds stale at birth; ours follow
    the lifetime.
    """
    session = rolevault.session(role.arn, duration_seconds=900)
    first = frozen(session)
    with time_machine.travel(sts.now() + 590, tick=True):
        assert frozen(session) == first
    assert sts.count("AssumeRole") == 1
