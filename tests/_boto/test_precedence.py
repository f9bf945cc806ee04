"""
Who wins: a test for each row of the table in ``docs/compatibility.md``. Alice's
keys stand in the environment, Bob's in the profile ``bob``; who entered a role
tells which of them were used.
"""

import re
from pathlib import Path
from typing import Any

import boto3
import botocore.credentials
import botocore.session
import pytest
from botocore.credentials import CredentialResolver

import rolevault
from conftest import Alice, account_of
from local_iam import Role, User
from local_sts import LocalSts
from rolevault import ConfigurationError

HOME, A, B = "999988887777", "111122223333", "444455556666"


@pytest.fixture
def bob(sts: LocalSts, alice: Alice, role_a: Role, role_b: Role, empty_home: Path) -> User:
    """Two role profiles, ``a`` and ``b``, that are entered with Bob's keys."""
    bob = sts.add_user("bob")
    role_a.mfa = role_b.mfa = False
    role_a.trusts = role_b.trusts = ["*"]
    config = empty_home / ".aws" / "config"
    config.parent.mkdir()
    config.write_text(
        f"[profile a]\nrole_arn={role_a.arn}\nsource_profile=bob\n"
        f"[profile b]\nrole_arn={role_b.arn}\nsource_profile=bob\n"
        f"[profile bob]\naws_access_key_id={bob.access_key_id}\n"
        f"aws_secret_access_key={bob.secret_access_key}\n"
    )
    return bob


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, alice: Alice) -> None:
    """Nobody's keys are in the environment."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def who_entered(sts: LocalSts) -> list[str]:
    """The users whose keys AssumeRole was signed with, in order; roles as "role"."""
    names = {key.access_key_id: user.arn.split("/")[-1] for user in sts.users for key in user.keys}
    calls = [each for each in sts.calls if each.action == "AssumeRole"]
    return [names.get(each.access_key_id or "", "role") for each in calls]


def test_environment_keys_beat_a_profile_of_the_environment(
    bob: User, sts: LocalSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 1: ``AWS_ACCESS_KEY_ID`` beats the role of ``AWS_PROFILE``, as in botocore;
    ``ensure()`` says so.
    """
    monkeypatch.setenv("AWS_PROFILE", "a")
    rolevault.install()
    assert account_of() == HOME
    assert who_entered(sts) == []
    with pytest.raises(ConfigurationError, match="'env'"):
        rolevault.ensure()


@pytest.mark.usefixtures("no_keys")
def test_the_environments_profile(
    bob: User, sts: LocalSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 2: without keys there, ``AWS_PROFILE`` decides."""
    monkeypatch.setenv("AWS_PROFILE", "a")
    rolevault.install()
    assert account_of() == A
    assert who_entered(sts) == ["bob"]


def test_a_named_profile_beats_environment_keys(bob: User, sts: LocalSts) -> None:
    """Row 3: a profile that is named drops the environment's keys, as in botocore."""
    rolevault.install(profile="a")
    assert account_of() == A
    assert who_entered(sts) == ["bob"]


def test_a_named_profile_beats_the_environments(
    bob: User, sts: LocalSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 4: a profile that is named beats ``AWS_PROFILE``, and its keys."""
    monkeypatch.setenv("AWS_PROFILE", "b")
    rolevault.install(profile="a")
    assert account_of() == A
    assert account_of(rolevault.session(profile="a")) == A
    assert who_entered(sts) == ["bob"]


@pytest.fixture(params=["role_arn", "profile", "environment"])
def options(
    request: pytest.FixtureRequest, bob: User, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Each way to name the role ``a``."""
    if request.param == "environment":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_PROFILE", "a")
    return {"role_arn": {"role_arn": role_a.arn}, "profile": {"profile": "a"}}.get(
        request.param, {}
    )


def test_keys_given_to_a_client_win(bob: User, sts: LocalSts, options: Any) -> None:
    """Row 5: ``client(aws_access_key_id=…)`` signs with these keys."""
    rolevault.install(**options)
    client = boto3.client(
        "sts",
        region_name="eu-west-1",
        aws_access_key_id=bob.access_key_id,
        aws_secret_access_key=bob.secret_access_key,
    )
    assert client.get_caller_identity()["Arn"].endswith("user/bob")
    assert who_entered(sts) == []


@pytest.mark.parametrize("all_sessions", [False, True])
def test_keys_given_to_a_session_win(
    bob: User, sts: LocalSts, options: Any, all_sessions: bool
) -> None:
    """Row 6: ``Session(aws_access_key_id=…)`` has these keys, also where the role is
    put into that session.
    """
    rolevault.install(all_sessions=all_sessions, **options)
    session = boto3.Session(bob.access_key_id, bob.secret_access_key)
    assert account_of(session) == HOME
    rolevault.install(session=session, **options)
    assert account_of(session) == HOME
    assert who_entered(sts) == []


@pytest.mark.parametrize("all_sessions", [False, True])
def test_a_session_of_another_profile_wins(bob: User, options: Any, all_sessions: bool) -> None:
    """Row 7: ``Session(profile_name=…)`` is what its profile says."""
    rolevault.install(all_sessions=all_sessions, **options)
    session = boto3.Session(profile_name="bob")
    assert account_of(session) == HOME
    assert account_of(boto3.Session(profile_name="b")) == B
    credentials = session.get_credentials()
    assert credentials is not None
    assert credentials.access_key == bob.access_key_id


def test_an_explicit_role_beats_environment_keys(bob: User, sts: LocalSts, role_a: Role) -> None:
    """Row 8: the role is what signs, and the environment's keys enter it."""
    rolevault.install(role_a.arn)
    assert account_of() == A
    assert who_entered(sts) == ["alice"]


def test_an_explicit_role_beats_the_environments_profile(
    bob: User, sts: LocalSts, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 9: also with ``AWS_PROFILE``; the environment's keys stay the source."""
    monkeypatch.setenv("AWS_PROFILE", "b")
    rolevault.install(role_a.arn)
    assert account_of() == A
    assert who_entered(sts) == ["alice"]


@pytest.mark.usefixtures("no_keys")
def test_an_explicit_role_is_entered_from_the_environments_profile(
    bob: User, sts: LocalSts, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 10: without keys there, what ``AWS_PROFILE`` gives enters the role; that
    it is a role itself makes a hop of it.
    """
    monkeypatch.setenv("AWS_PROFILE", "b")
    rolevault.install(role_a.arn)
    assert account_of() == A
    assert who_entered(sts) == ["bob", "role"]
    monkeypatch.setenv("AWS_PROFILE", "bob")
    assert account_of(rolevault.session(role_a.arn)) == A
    assert who_entered(sts) == ["bob", "role", "bob"]


def test_an_explicit_role_with_a_profile(bob: User, sts: LocalSts, role_a: Role) -> None:
    """Row 11: ``role_arn`` beats the profile's role; the profile's source enters it,
    and not the environment's keys.
    """
    rolevault.install(role_a.arn, profile="b")
    assert account_of() == A
    assert who_entered(sts) == ["bob"]
    # A profile without a role is itself the source.
    assert account_of(rolevault.session(role_a.arn, profile="bob")) == A
    assert set(who_entered(sts)) == {"bob"}


def test_a_named_profile_of_a_session_that_chose_it_by_itself(
    bob: User, sts: LocalSts, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 11 once more: whether a default session was there already changes nothing."""
    monkeypatch.setenv("AWS_PROFILE", "bob")
    for install in (rolevault.install, rolevault.session):
        boto3.setup_default_session()
        assert account_of(install(role_a.arn, profile="bob", external_id=install.__name__)) == A
    assert who_entered(sts) == ["bob", "bob"]


def test_a_profile_that_nobody_asks_is_not_judged(
    bob: User, sts: LocalSts, role_a: Role, empty_home: Path
) -> None:
    """Rows 8 and 9: with keys in the environment an explicit role has its source,
    whatever is wrong with the default profile; as in botocore.
    """
    with (empty_home / ".aws" / "config").open("a") as config:
        config.write(f"[default]\nrole_arn={role_a.arn}\nsource_profile=gone\n")
    rolevault.install(role_a.arn)
    assert account_of() == A
    assert who_entered(sts) == ["alice"]


def test_a_resolver_of_ones_own(
    bob: User, sts: LocalSts, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 1 and 11 do not hold for one that is asked as a whole: the role is first,
    and whatever the resolver finds enters it.
    """

    class Logged(CredentialResolver):
        def load_credentials(self) -> Any:
            return super().load_credentials()

    def made() -> boto3.Session:
        inner = botocore.session.Session()
        chain = botocore.credentials.create_credential_resolver(inner)
        inner.register_component("credential_provider", Logged(chain.providers))
        return boto3.Session(botocore_session=inner)

    monkeypatch.setenv("AWS_PROFILE", "a")
    assert account_of(rolevault.install(session=made())) == A
    monkeypatch.setenv("AWS_PROFILE", "bob")
    assert account_of(rolevault.install(role_a.arn, profile="bob", session=made())) == A
    assert who_entered(sts) == ["bob", "alice"]


def test_a_profile_for_a_session_of_another(bob: User, sts: LocalSts, role_a: Role) -> None:
    """Row 11 again, put into a session that has another profile: the named one counts."""
    for options in ({"profile": "a"}, {"role_arn": role_a.arn, "profile": "bob"}):
        session = boto3.Session(profile_name="b")
        rolevault.install(session=session, **options)  # type: ignore[arg-type]
        assert account_of(session) == A
    assert set(who_entered(sts)) == {"bob"}


def test_an_explicit_role_with_a_source_profile(bob: User, sts: LocalSts, role_a: Role) -> None:
    """Row 12: ``source_profile`` beats the environment's keys."""
    rolevault.install(role_a.arn, source_profile="bob")
    assert account_of() == A
    assert who_entered(sts) == ["bob"]


def test_a_source_profile_that_is_a_role(bob: User, sts: LocalSts, role_a: Role) -> None:
    """Row 12 again: a role as the source is a hop."""
    rolevault.install(role_a.arn, source_profile="b")
    assert account_of() == A
    assert who_entered(sts) == ["bob", "role"]


def test_the_table_has_these_rows() -> None:
    """The document's table and these tests count the same rows."""
    document = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
    rows = re.findall(r"^\| (\d+) \|", document, re.MULTILINE)
    tested = {
        number
        for value in list(globals().values())
        for number in re.findall(r"Row (\d+)", getattr(value, "__doc__", None) or "")
    }
    assert rows == [str(number) for number in range(1, 13)]
    assert tested == set(rows)


def test_a_named_profile_in_sessions_of_libraries(bob: User, sts: LocalSts) -> None:
    """Row 3, for a session that names no profile: the installed one counts as named."""
    rolevault.install(profile="a", all_sessions=True)
    assert account_of(boto3.Session()) == A
    mine = boto3.Session()
    rolevault.install(profile="a", session=mine)
    assert account_of(mine) == A
    assert who_entered(sts) == ["bob"]


def test_no_other_default_is_made(bob: User) -> None:
    """Row 3, seen from boto3: the session of a named profile has that profile."""
    made: Any = rolevault.install(profile="a")
    assert made.profile_name == "a"


def test_keys_that_shadow_a_profile_are_told_of(
    alice: Alice, role_a: Role, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The environment's keys win over AWS_PROFILE, as in boto3: whoever signs with
    the wrong identity is told so at ``install()``, and nobody else.
    """
    config = Path("~/.aws/config").expanduser()
    config.parent.mkdir()
    config.write_text(f"[profile p]\nrole_arn={role_a.arn}\ncredential_source=Environment\n")
    rolevault.session(profile="p")
    boto3.setup_default_session()
    rolevault.install(profile="p", session=boto3.Session())
    rolevault.install(session=boto3.Session(profile_name="p"))
    monkeypatch.setenv("AWS_PROFILE", "p")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        with monkeypatch.context() as without:
            without.setenv(name, "")  # which is none
            rolevault.session()
            without.delenv(name)
            rolevault.session()
    assert "wins over" not in caplog.text
    rolevault.install()
    assert "AWS_ACCESS_KEY_ID is set and wins over profile p" in caplog.text
