"""``source_session``: a role that is entered with the credentials of a boto3 session."""

from typing import Any

import boto3
import botocore.session
import pytest
from botocore.credentials import CredentialProvider, Credentials, RefreshableCredentials

import rolevault
from conftest import Alice, Options, account_of, key_of, later
from local_sts import LocalSts, Role
from rolevault import ConfigurationError, _botocore_private

HOME = "999988887777"


@pytest.fixture
def mine(alice: Alice, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """A session with Alice's keys, which are nowhere else."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return boto3.Session(alice.user.access_key_id, alice.user.secret_access_key)


def test_keys_in_memory_enter_the_role(
    sts: LocalSts, alice: Alice, options: Options, mine: boto3.Session
) -> None:
    """The role signs in the default session; the source session signs as before."""
    rolevault.install(**options, source_session=mine)
    assert account_of() == "111122223333"
    assert account_of(mine) == alice.user.account
    assert len(alice.requests) == 1


def test_another_role_of_rolevault_enters_the_role(
    sts: LocalSts, alice: Alice, options: Options
) -> None:
    """Role chaining in code: one code for both roles, and each has its own entry."""
    top = sts.add_role("Top", account="444455556666", trusts=[options["role_arn"]])
    first = rolevault.session(**options)
    second = rolevault.session(top.arn, source_session=first)
    assert account_of(second) == "444455556666"
    assert account_of(first) == "111122223333"
    assert len(alice.requests) == 1
    assert sts.count("AssumeRole") == 2
    account_of(rolevault.session(top.arn, source_session=rolevault.session(**options)))
    assert sts.count("AssumeRole") == 2


def test_two_upper_roles_share_no_entry(
    sts: LocalSts, alice: Alice, options: Options, role_b: Role
) -> None:
    """A role that is entered from two others has two sessions."""
    top = sts.add_role("Top", trusts=[options["role_arn"], role_b.arn])
    uppers = [rolevault.session(**{**options, "role_arn": arn}) for arn in top.trusts]
    assert len({key_of(rolevault.session(top.arn, source_session=each)) for each in uppers}) == 2


def test_the_default_session_with_the_role_enters_another(
    sts: LocalSts, alice: Alice, options: Options
) -> None:
    """A session that ``install()`` has given a role counts as that role."""
    top = sts.add_role("Top", account="444455556666", trusts=[options["role_arn"]])
    installed = rolevault.install(**options)
    second = rolevault.session(top.arn, source_session=installed)
    assert account_of(second) == "444455556666"
    assert sts.count("AssumeRole") == 2


def test_two_people_share_no_entry(
    sts: LocalSts, alice: Alice, role_a: Role, mine: boto3.Session
) -> None:
    """Their keys tell them apart, in the vault too."""
    bob = sts.add_user("bob")
    open_role = sts.add_role("Open", account="444455556666", trusts=[alice.user, bob])
    theirs = boto3.Session(bob.access_key_id, bob.secret_access_key)
    sessions = [rolevault.session(open_role.arn, source_session=each) for each in (mine, theirs)]
    assert len({key_of(each) for each in sessions}) == 2
    assert [call.access_key_id for call in sts.calls if call.action == "AssumeRole"] == [
        alice.user.access_key_id,
        bob.access_key_id,
    ]


class Desk(CredentialProvider):
    """A provider of the user's own."""

    METHOD = "custom-desk"

    def __init__(self, alice: Alice) -> None:
        super().__init__()
        self.alice, self.asked = alice, 0

    def load(self) -> Credentials:
        self.asked += 1
        user = self.alice.user
        return Credentials(user.access_key_id, user.secret_access_key, method=self.METHOD)


def test_a_provider_of_the_users_own_is_asked_on_a_miss_only(
    alice: Alice, options: Options, mine: boto3.Session
) -> None:
    """While the vault serves, the source session resolves nothing."""
    desk = Desk(alice)
    for _ in range(2):
        inner = botocore.session.Session()
        inner.get_component("credential_provider").providers.insert(0, desk)
        source = boto3.Session(botocore_session=inner)
        assert account_of(rolevault.session(**options, source_session=source)) == "111122223333"
        assert desk.asked == 1


def test_credentials_that_renew_themselves_enter_the_role(
    alice: Alice, options: Options, mine: boto3.Session
) -> None:
    """Other libraries put such credentials into a session. They are asked for keys at each
    sign-in.
    """
    user, asked = alice.user, []

    def refresh() -> dict[str, Any]:
        asked.append(1)
        return {
            "access_key": user.access_key_id,
            "secret_key": user.secret_access_key,
            "token": None,
            "expiry_time": later(hours=1),
        }

    source = boto3.Session()
    inner = _botocore_private.botocore_session(source)
    credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "a-peer")
    _botocore_private.set_resolved(inner, credentials)
    assert account_of(rolevault.session(**options, source_session=source)) == "111122223333"
    assert asked == [1]


class Resolver:
    """A resolver of the user's that has no list of providers."""

    def __init__(self, alice: Alice) -> None:
        self._desk = Desk(alice)

    def load_credentials(self) -> Credentials:
        return self._desk.load()


def test_a_resolver_of_the_users_own_enters_the_role(
    alice: Alice, options: Options, mine: boto3.Session
) -> None:
    """Such a resolver is asked as a whole."""
    inner = botocore.session.Session()
    inner.register_component("credential_provider", Resolver(alice))
    source = boto3.Session(botocore_session=inner)
    assert account_of(rolevault.session(**options, source_session=source)) == "111122223333"


def test_the_default_session_can_be_the_source(
    alice: Alice, options: Options, mine: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``install()`` makes another default session, and ``uninstall()`` brings it back."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", mine)
    made = rolevault.install(**options, source_session=mine)
    assert made is not mine
    assert boto3.DEFAULT_SESSION is made
    assert rolevault.install(**options, source_session=mine) is made
    assert account_of() == "111122223333"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is mine
    assert account_of() == alice.user.account


def test_all_sessions_leaves_the_source_alone(
    alice: Alice, options: Options, mine: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's own role cannot enter the role: an error."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    source = boto3.Session()
    made_before = rolevault.install(**options, source_session=source, all_sessions=True)
    assert account_of(made_before) == account_of(boto3.Session()) == "111122223333"
    assert account_of(source) == alice.user.account


def test_a_source_made_later_is_left_alone_too(
    alice: Alice, options: Options, role_b: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is raised for a session that is made under ``all_sessions``, too."""
    rolevault.install(**options, all_sessions=True)
    source = boto3.Session()
    other = rolevault.session(
        role_b.arn, mfa_serial=alice.serial, mfa_callback=alice, source_session=source
    )
    assert account_of(other) == "444455556666"
    assert account_of(source) == alice.user.account


def test_a_source_made_under_another_installation_is_left_alone_too(
    alice: Alice, options: Options, role_b: Role
) -> None:
    """The first installation would have given it the role, and the second one enters with it."""
    rolevault.install(**options, all_sessions=True)
    source = boto3.Session()
    other = {**options, "role_arn": role_b.arn}
    made = rolevault.install(**other, source_session=source, all_sessions=True)
    assert account_of(made) == "444455556666"
    assert account_of(source) == alice.user.account


def test_a_source_that_leads_back_is_an_error(alice: Alice, options: Options, role_b: Role) -> None:
    """The error is a sentence, and the stack does not overflow."""
    default = boto3.Session()
    boto3.DEFAULT_SESSION = default
    circle = rolevault.session(role_b.arn, source_session=default)
    rolevault.install(**options, source_session=circle)
    with pytest.raises(ConfigurationError, match="its credentials come from the role"):
        account_of()


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"source_profile": "base"}, "not both"),
        ({"session": "the source"}, "Put the role into another session"),
        ({"source_session": "keys"}, r"must be a boto3\.Session"),
        ({"source_session": botocore.session.Session()}, r"must be a boto3\.Session"),
    ],
)
def test_what_cannot_be_a_source_is_refused(
    options: Options, mine: boto3.Session, arguments: dict[str, Any], rule: str
) -> None:
    """``install()`` raises the error, which names the option."""
    given = {"source_session": mine, **options, **arguments}
    if given.get("session") == "the source":
        given["session"] = mine
    with pytest.raises(ConfigurationError, match=rule):
        rolevault.install(**given)
    assert not rolevault.is_installed()


def test_keys_of_the_session_itself_name_the_way(
    options: Options, mine: boto3.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """``install(session=<one with keys>)`` goes on signing with the keys, and says how to
    enter the role with them.
    """
    rolevault.install(**options, session=mine)
    assert "pass source_session=" in caplog.text
    assert account_of(mine) == HOME


def test_a_source_session_replaces_the_profiles_source(
    alice: Alice, role_a: Role, mine: boto3.Session, empty_home: Any
) -> None:
    """The profile's ``source_profile`` is not even judged."""
    path = empty_home / ".aws" / "config"
    path.parent.mkdir()
    path.write_text(
        f"[profile deploy]\nrole_arn={role_a.arn}\nsource_profile=gone\nmfa_serial={alice.serial}\n"
    )
    rolevault.install(profile="deploy", mfa_callback=alice, source_session=mine)
    assert account_of() == "111122223333"
    rolevault.uninstall()
    path.write_text(f"[default]\nrole_arn={role_a.arn}\nsource_profile=gone\n")
    rolevault.install(role_a.arn, source_session=mine)
