"""``ensure()``: signing in now."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import botocore
import botocore.session
import pytest

import rolevault
from conftest import Alice, Options, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError


@pytest.mark.parametrize("session", ["x", 5, botocore.session.Session()])
def test_ensure_wants_a_boto3_session(session: Any) -> None:
    """The error names what was given in the place of a boto3 session."""
    with pytest.raises(ConfigurationError, match=r"boto3\.Session"):
        rolevault.ensure(session)


def test_ensure_signs_in_now(options: Options, sts: LocalSts, alice: Alice) -> None:
    """``ensure()`` prompts now, and returns an aware UTC time at least ``min_ttl`` away. The work
    that follows asks nobody.
    """
    rolevault.install(**options)
    until = rolevault.ensure(min_ttl="2h")
    assert until.utcoffset() == timedelta(0)
    assert until > datetime.now(timezone.utc) + timedelta(hours=2)
    assert account_of() == "111122223333"
    assert len(alice.requests) == 1


def test_ensure_names_a_bad_duration(options: Options, sts: LocalSts) -> None:
    """Only seconds, a timedelta, or text with one of four units is accepted."""
    rolevault.install(**options)
    bad: list[Any] = [
        "1x",
        "",
        "h",
        "1h30m",
        -1,
        True,
        None,
        "1e3",
        timedelta(days=-1),
        float("nan"),
        1e9,
    ]
    for min_ttl in bad:
        with pytest.raises(ConfigurationError, match=r"min_ttl=.* must be seconds"):
            rolevault.ensure(min_ttl=min_ttl)
    assert sts.calls == []


def test_ensure_understands_durations(options: Options) -> None:
    """Seconds, a timedelta and text are accepted."""
    rolevault.install(**options)
    good: list[Any] = [900, 900.0, "900s", "15m", "0.25h", "0.01d", timedelta(minutes=15)]
    for min_ttl in good:
        assert rolevault.ensure(min_ttl=min_ttl) > datetime.now(timezone.utc)


def test_ensure_names_what_shadows_the_role(
    options: Options, alice: Alice, empty_home: Path, role_a: Role
) -> None:
    """If other credentials sign, ``ensure()`` says where they come from, and calls nothing."""
    with pytest.raises(ConfigurationError, match="'env'"):
        rolevault.ensure()
    mine = boto3.Session(alice.user.access_key_id, alice.user.secret_access_key)
    rolevault.install(session=mine, **options)
    with pytest.raises(ConfigurationError, match=r"'explicit'.*source_session="):
        rolevault.ensure(mine)


def test_ensure_says_what_beats_a_profile(
    options: Options, alice: Alice, empty_home: Path, role_a: Role
) -> None:
    """Keys of the environment beat a profile that ``install()`` does not name."""
    (empty_home / ".aws").mkdir()
    (empty_home / ".aws" / "config").write_text(
        f"[default]\nrole_arn={role_a.arn}\ncredential_source=Environment\n"
    )
    rolevault.install()
    with pytest.raises(ConfigurationError, match=r"'env'.*Remove these credentials"):
        rolevault.ensure()


def test_ensure_advises_nothing_that_was_done(options: Options, alice: Alice) -> None:
    """A session without the role, where ``role_arn=`` was passed: the role is elsewhere."""
    rolevault.install(session=boto3.Session(), **options)
    with pytest.raises(ConfigurationError, match=r"'env'.* into another session") as raised:
        rolevault.ensure(boto3.Session())
    assert "role_arn=" not in str(raised.value)


def test_ensure_says_when_there_are_no_credentials() -> None:
    """The error says that there are no credentials."""
    with pytest.raises(ConfigurationError, match="has no credentials"):
        rolevault.ensure()


def test_one_session_can_be_ensured(options: Options) -> None:
    """``ensure(session)`` signs in for the session that is given."""
    made = rolevault.session(**options)
    assert rolevault.ensure(made) > datetime.now(timezone.utc)
