"""
``install``, ``uninstall``, ``is_installed``, ``session`` and ``ensure``: what
changes in boto3's sessions, and that all of it comes back.
"""

import gc
import weakref
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import botocore
import botocore.session
import pytest
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials

import rolevault
from conftest import Alice, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError, _private

Options = dict[str, Any]


@pytest.fixture
def options(alice: Alice, role_a: Role) -> Options:
    return {"role_arn": role_a.arn, "mfa_serial": alice.serial, "mfa_callback": alice}


def provider_of(session: boto3.Session) -> Any:
    return session._session.get_component("credential_provider")


def test_plain_clients_have_the_role(options: Options, alice: Alice) -> None:
    """After ``install()`` a plain ``boto3.client()`` signs with the role."""
    returned = rolevault.install(**options)
    assert returned is boto3.DEFAULT_SESSION
    assert rolevault.is_installed()
    assert account_of() == "111122223333"
    assert len(alice.requests) == 1


def test_install_calls_nothing_and_asks_nothing(options: Options, sts: LocalSts) -> None:
    """``install()`` asks nobody, calls nothing, and makes no vault."""
    rolevault.install(**options)
    boto3.client("s3", region_name="eu-west-1")
    assert sts.calls == []
    assert not (Path.home() / ".aws").exists()


def test_uninstall_before_any_session_leaves_none(options: Options) -> None:
    """No default session before, none after."""
    rolevault.install(**options)
    account_of()
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is None
    assert not rolevault.is_installed()
    assert account_of() == "999988887777"


@pytest.mark.parametrize("state", ["made", "chain", "resolved", "clients"])
@pytest.mark.parametrize("used", [False, True])
def test_uninstall_restores_the_same_objects(options: Options, state: str, used: bool) -> None:
    """An existing default session keeps its identity; its resolved credentials and
    its chain are set aside, and the same objects come back.
    """
    boto3.setup_default_session(region_name="eu-west-1")
    before = boto3.DEFAULT_SESSION
    assert before is not None
    chain = credentials = None
    if state != "made":
        chain = provider_of(before)
    if state in ("resolved", "clients"):
        credentials = before.get_credentials()
    if state == "clients":
        assert account_of() == "999988887777"
    rolevault.install(**options)
    assert boto3.DEFAULT_SESSION is before
    if used:
        assert account_of() == "111122223333"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is before
    assert _private.resolved(before._session) is credentials
    if chain is not None:
        assert provider_of(before) is chain
        assert [each.METHOD for each in chain.providers].count("rolevault") == 0
    assert account_of() == "999988887777"


def test_uninstall_restores_what_shadowed_the_role(empty_home: Path, role_a: Role) -> None:
    """Also where the environment's keys beat the profile's role, the credentials
    and the chain that come back are the same objects.
    """
    config = empty_home / ".aws" / "config"
    config.parent.mkdir()
    config.write_text(f"[default]\nrole_arn={role_a.arn}\ncredential_source=Environment\n")
    boto3.setup_default_session()
    before = boto3.DEFAULT_SESSION
    assert before is not None
    chain, credentials = provider_of(before), before.get_credentials()
    rolevault.install()
    shadow = before.get_credentials()
    assert shadow is not None
    assert shadow.method == "env"
    assert shadow is not credentials
    rolevault.uninstall()
    assert _private.resolved(before._session) is credentials
    assert provider_of(before) is chain


def test_keys_given_meanwhile_stay(options: Options) -> None:
    """What somebody sets with ``set_credentials()`` while the role is installed is
    theirs, and ``uninstall()`` leaves it.
    """
    session = rolevault.install(session=boto3.Session(), **options)
    session._session.set_credentials("AKIAOTHER", "secret")
    rolevault.uninstall()
    credentials = session.get_credentials()
    assert credentials is not None
    assert credentials.access_key == "AKIAOTHER"


def test_clients_made_in_between_keep_the_role(options: Options) -> None:
    """``uninstall()`` takes the role from the session, not from its clients."""
    rolevault.install(**options)
    client = boto3.client("sts", region_name="eu-west-1")
    rolevault.uninstall()
    assert client.get_caller_identity()["Account"] == "111122223333"
    assert account_of() == "999988887777"


def test_clients_made_before_keep_what_they_had(options: Options) -> None:
    """A client that exists keeps its credentials when the role comes."""
    client = boto3.client("sts", region_name="eu-west-1")
    rolevault.install(**options)
    assert client.get_caller_identity()["Account"] == "999988887777"


def test_uninstall_without_install_does_nothing() -> None:
    """There is nothing to undo."""
    rolevault.uninstall()
    assert not rolevault.is_installed()
    assert boto3.DEFAULT_SESSION is None


def test_a_second_equal_call_does_nothing(options: Options) -> None:
    """Equal options: the same session, the same credentials."""
    first = rolevault.install(**options)
    credentials = first.get_credentials()
    assert rolevault.install(**options) is first
    assert first.get_credentials() is credentials


def test_another_call_replaces_the_first(options: Options, role_b: Role, alice: Alice) -> None:
    """Other options replace; one ``uninstall()`` undoes all."""
    boto3.setup_default_session()
    before = boto3.DEFAULT_SESSION
    rolevault.install(**options)
    assert account_of() == "111122223333"
    rolevault.install(**{**options, "role_arn": role_b.arn})
    assert account_of() == "444455556666"
    assert len(alice.requests) == 1
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is before
    assert account_of() == "999988887777"


def test_a_replaced_installation_leaves_nothing(options: Options, role_b: Role) -> None:
    """The session that the first call had made is not what the second gives back."""
    rolevault.install(**options)
    rolevault.install(**{**options, "role_arn": role_b.arn})
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is None


def test_a_chain_is_built_once(options: Options) -> None:
    """Whichever thread of several builds it, all of them get that one: botocore has
    no lock there.
    """
    session = rolevault.install(**options)
    _, make = _private.credential_provider(session._session)
    assert make is not None
    assert make() is make() is provider_of(session)


def test_options_changed_in_place_are_others(options: Options) -> None:
    """What a caller passed and changed later counts as it was when passed."""
    tags = {"team": "blue"}
    session = rolevault.install(tags=tags, **options)
    credentials = session.get_credentials()
    tags["team"] = "red"
    assert rolevault.install(tags=tags, **options).get_credentials() is not credentials


def test_a_notebook_cell_run_again_asks_nobody(options: Options, alice: Alice) -> None:
    """A cell that makes its callback anew replaces the installation; the vault
    still serves.
    """
    for _ in range(3):
        rolevault.install(**{**options, "mfa_callback": lambda request: alice(request)})
        assert account_of() == "111122223333"
    assert len(alice.requests) == 1


def test_a_bad_call_leaves_the_first_in_force(options: Options) -> None:
    """An ``install()`` that raises changes nothing."""
    session = rolevault.install(**options)
    credentials = session.get_credentials()
    with pytest.raises(ConfigurationError):
        rolevault.install("no arn")
    with pytest.raises(ConfigurationError, match="no role_arn"):
        rolevault.install()
    assert boto3.DEFAULT_SESSION is session
    assert session.get_credentials() is credentials


def test_a_bad_first_call_makes_no_session() -> None:
    """An ``install()`` that raises leaves no default session behind."""
    with pytest.raises(ConfigurationError):
        rolevault.install()
    assert boto3.DEFAULT_SESSION is None
    assert not rolevault.is_installed()


def test_a_later_default_session_is_served(options: Options) -> None:
    """``setup_default_session()`` after ``install()`` makes a session that has the
    role; with ``uninstall()`` it stays, without the role.
    """
    rolevault.install(**options)
    boto3.setup_default_session(region_name="us-west-2")
    later = boto3.DEFAULT_SESSION
    assert account_of() == "111122223333"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is later
    assert account_of() == "999988887777"


def test_the_default_session_may_be_dropped(options: Options) -> None:
    """``boto3.DEFAULT_SESSION = None`` makes boto3 make another, which is served."""
    rolevault.install(**options)
    boto3.DEFAULT_SESSION = None
    assert account_of() == "111122223333"
    assert rolevault.install(**options) is boto3.DEFAULT_SESSION


def test_a_later_default_session_with_keys_has_them(options: Options, alice: Alice) -> None:
    """Keys given to a session win."""
    rolevault.install(**options)
    boto3.setup_default_session(
        aws_access_key_id=alice.user.access_key_id,
        aws_secret_access_key=alice.user.secret_access_key,
    )
    assert account_of() == "999988887777"


@pytest.fixture
def other_profile(empty_home: Path, alice: Alice) -> str:
    """A profile that holds alice's keys, and no role."""
    directory = empty_home / ".aws"
    directory.mkdir(exist_ok=True)
    (directory / "config").write_text(
        f"[profile other]\naws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\n"
    )
    return "other"


@pytest.mark.parametrize("all_sessions", [False, True])
def test_a_session_of_another_profile_is_not_served(
    options: Options, other_profile: str, all_sessions: bool
) -> None:
    """Another explicit profile is never touched, as default session or else."""
    rolevault.install(all_sessions=all_sessions, **options)
    assert account_of(boto3.Session(profile_name=other_profile)) == "999988887777"
    boto3.setup_default_session(profile_name=other_profile)
    assert account_of() == "999988887777"


def test_install_again_serves_a_session_of_another_profile(
    options: Options, other_profile: str
) -> None:
    """``install()`` means the default session of now: an equal call does something
    where that one is not served.
    """
    rolevault.install(**options)
    boto3.setup_default_session(profile_name=other_profile)
    rolevault.install(**options)
    assert account_of() == "111122223333"


def test_a_default_session_of_the_same_profile_is_served(
    options: Options, other_profile: str
) -> None:
    """The profile that the installed session has is not another one."""
    boto3.setup_default_session(profile_name=other_profile)
    rolevault.install(**options)
    boto3.setup_default_session(profile_name=other_profile, region_name="eu-west-1")
    assert account_of() == "111122223333"


def test_fresh_sessions_are_left_alone(options: Options) -> None:
    """A fresh ``boto3.Session()`` has no role, unless ``all_sessions`` is given."""
    rolevault.install(**options)
    assert account_of(boto3.Session()) == "999988887777"


def test_all_sessions_serves_sessions_of_libraries(options: Options, alice: Alice) -> None:
    """``all_sessions=True``: sessions that others make later have the role, from
    the same vault, with the same code; after ``uninstall()`` they have not.
    """
    rolevault.install(all_sessions=True, **options)
    session, inner = boto3.Session(), botocore.session.get_session()
    assert account_of(session) == account_of() == "111122223333"
    credentials = inner.get_credentials()
    assert credentials is not None
    assert credentials.method == "rolevault"
    assert len(alice.requests) == 1
    rolevault.uninstall()
    assert account_of(session) == "999988887777"
    assert inner.get_credentials().method == "env"  # type: ignore[union-attr]


def test_sessions_that_were_there_first_are_left_alone(options: Options) -> None:
    """Whoever made them before ``install()`` did not ask for the role, also where one
    is put into the default's place later.
    """
    there = boto3.Session(region_name="eu-west-1")
    rolevault.install(all_sessions=True, **options)
    assert account_of(there) == "999988887777"
    rolevault.install(**options)
    boto3.DEFAULT_SESSION = there
    assert account_of() == "999988887777"


def test_all_sessions_spares_sessions_with_keys(options: Options, alice: Alice) -> None:
    """Keys given to a session win over the role."""
    rolevault.install(all_sessions=True, **options)
    session = boto3.Session(alice.user.access_key_id, alice.user.secret_access_key)
    assert account_of(session) == "999988887777"


def test_all_sessions_spares_async_sessions(options: Options) -> None:
    """Async sessions have credentials of another kind: they keep their chain."""

    class AsyncSession(botocore.session.Session):
        async def get_credentials(self) -> None:  # type: ignore[override]
            raise NotImplementedError

    rolevault.install(all_sessions=True, **options)
    chain = AsyncSession().get_component("credential_provider")
    assert "rolevault" not in [each.METHOD for each in chain.providers]
    with pytest.raises(ConfigurationError, match="session="):
        rolevault.install(session=boto3.Session(botocore_session=AsyncSession()), **options)


def test_all_sessions_does_not_keep_sessions(options: Options) -> None:
    """A served session that nobody holds is freed, as without us."""
    rolevault.install(all_sessions=True, **options)
    session = botocore.session.get_session()
    assert session.get_credentials() is not None
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None


def test_sessions_of_ours_keep_their_role(options: Options, role_b: Role, alice: Alice) -> None:
    """``session(B)`` under ``install(A, all_sessions=True)`` is B's, made before or after."""
    early = rolevault.session(**{**options, "role_arn": role_b.arn})
    rolevault.install(all_sessions=True, **options)
    late = rolevault.session(**{**options, "role_arn": role_b.arn})
    assert account_of(early) == account_of(late) == "444455556666"
    assert account_of() == "111122223333"
    assert len(alice.requests) == 1
    rolevault.uninstall()
    assert account_of(early) == account_of(late) == "444455556666"


@pytest.mark.parametrize("used", [False, True])
def test_a_session_of_ours_takes_another_role_and_gives_it_back(
    options: Options, role_b: Role, used: bool
) -> None:
    """``install(session=…)`` serves the session it is given, whatever it was."""
    session = rolevault.session(**{**options, "role_arn": role_b.arn})
    credentials = session.get_credentials() if used else None
    rolevault.install(session=session, **options)
    assert account_of(session) == "111122223333"
    rolevault.uninstall()
    assert _private.resolved(session._session) is credentials
    assert account_of(session) == "444455556666"


def test_a_given_session_is_the_one_that_is_served(options: Options) -> None:
    """
    ``session=`` puts the role there, and the default session stays out of it,
    whether it was there before or comes later.
    """
    mine = boto3.Session(region_name="eu-west-1")
    assert rolevault.install(session=mine, **options) is mine
    assert boto3.DEFAULT_SESSION is None
    assert account_of(mine) == "111122223333"
    assert account_of() == "999988887777"
    rolevault.uninstall()
    assert account_of(mine) == "999988887777"


def test_another_install_serves_the_sessions_of_libraries_on(
    options: Options, alice: Alice
) -> None:
    """A notebook cell that is run again takes the role from no session that had it."""
    rolevault.install(all_sessions=True, **options)
    library = boto3.Session(region_name="eu-west-1")
    assert account_of(library) == "111122223333"
    rolevault.install(
        all_sessions=True, **{**options, "mfa_callback": lambda request: alice(request)}
    )
    assert account_of(library) == "111122223333"
    rolevault.uninstall()
    assert account_of(library) == "999988887777"
    assert len(alice.requests) == 1


@pytest.mark.parametrize("how", ["default", "given", "again"])
def test_a_session_that_waited_is_given_back(
    options: Options, role_b: Role, alice: Alice, how: str
) -> None:
    """A session that was made under one installation, and first resolves under
    another one that is its own: after ``uninstall()`` it has no role.
    """
    rolevault.install(**options)
    session = boto3.Session(region_name="eu-west-1")
    if how != "given":
        boto3.DEFAULT_SESSION = session
    if how == "again":
        rolevault.uninstall()
    given = session if how == "given" else None
    rolevault.install(**{**options, "role_arn": role_b.arn}, session=given)
    assert account_of(session) == role_b.account
    rolevault.uninstall()
    assert account_of(session) == "999988887777"
    rolevault.install(**options, session=session)
    assert account_of(session) == "111122223333"


def test_a_chain_in_use_gives_the_role_back(options: Options) -> None:
    """A thread has the session's chain in hand while another one uninstalls."""
    session = _private.botocore_session(rolevault.install(**options))
    chain = session.get_component("credential_provider")
    rolevault.uninstall()
    found = chain.load_credentials()
    assert found is not None
    assert found.method == "env"


def test_another_initializers_chain_comes_back(options: Options, alice: Alice) -> None:
    """Whoever else puts a chain into new sessions: it is the source, and it is back
    after ``uninstall()``.
    """

    class Corporate(CredentialProvider):
        METHOD, CANONICAL_NAME = "custom-corporate", "customCorporate"

        def load(self) -> Credentials:
            user = alice.user
            return Credentials(user.access_key_id, user.secret_access_key, method=self.METHOD)

    def initialize(session: botocore.session.Session) -> None:
        session.lazy_register_component(
            "credential_provider", lambda: CredentialResolver([Corporate()])
        )

    botocore.register_initializer(initialize)
    try:
        rolevault.install(all_sessions=True, **options)
        session = boto3.Session(region_name="eu-west-1")
        assert account_of(session) == "111122223333"
        rolevault.uninstall()
        found: Any = session.get_credentials()
        assert found.method == "custom-corporate"
    finally:
        botocore.unregister_initializer(initialize)


def test_callables_are_compared_by_identity(options: Options) -> None:
    """Two that are equal are two; one that cannot be hashed is one like any other."""

    @dataclass
    class Ask:
        name: str

        def __call__(self, request: object = None) -> str:
            return "000000"

    first, second = Ask("same"), Ask("same")
    assert first == second
    rolevault.install(**{**options, "mfa_callback": first})
    installed = boto3.DEFAULT_SESSION
    credentials = _private.botocore_session(installed).get_credentials()  # type: ignore[arg-type]
    rolevault.install(**{**options, "mfa_callback": first})
    assert _private.botocore_session(installed).get_credentials() is credentials  # type: ignore[arg-type]
    rolevault.install(**{**options, "mfa_callback": second})
    assert _private.botocore_session(installed).get_credentials() is not credentials  # type: ignore[arg-type]


def test_a_default_session_with_keys_keeps_them(options: Options, alice: Alice) -> None:
    """Its keys win, also where another region is asked for."""
    boto3.setup_default_session(
        aws_access_key_id=alice.user.access_key_id,
        aws_secret_access_key=alice.user.secret_access_key,
    )
    before = boto3.DEFAULT_SESSION
    assert rolevault.install(region_name="eu-north-1", **options) is before
    assert account_of() == "999988887777"


@pytest.mark.parametrize("session", ["x", 5, botocore.session.Session()])
def test_ensure_wants_a_boto3_session(session: Any) -> None:
    """Anything else is named."""
    with pytest.raises(ConfigurationError, match=r"boto3\.Session"):
        rolevault.ensure(session)


def test_a_customised_chain_is_the_source(
    options: Options, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Providers that somebody put into the session's chain are in its rest, where
    the source credentials come from.
    """

    class Desk(CredentialProvider):
        METHOD = "custom-desk"
        CANONICAL_NAME = "customDesk"

        def load(self) -> Credentials:
            return Credentials(alice.user.access_key_id, alice.user.secret_access_key)

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    session = boto3.Session()
    provider_of(session).providers.insert(0, Desk())
    rolevault.install(session=session, **options)
    assert account_of(session) == "111122223333"


@pytest.mark.parametrize("derives", [False, True])
def test_a_resolver_of_somebodys_own_is_asked_as_a_whole(
    derives: bool, options: Options, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that botocore wants of a chain is ``load_credentials()``: what it does there
    is kept, and it is the source.
    """

    class Corporate:
        def load_credentials(self) -> Credentials:
            return Credentials(alice.user.access_key_id, alice.user.secret_access_key)

    class Derived(Corporate, CredentialResolver):
        pass

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    session = boto3.Session()
    chain = Derived([]) if derives else Corporate()
    _private.botocore_session(session).register_component("credential_provider", chain)
    for external_id in ("one", "two"):
        rolevault.install(session=session, external_id=external_id, **options)
        assert account_of(session) == "111122223333"
    rolevault.uninstall()
    assert provider_of(session) is chain


def test_region_of_the_session(options: Options) -> None:
    """``region_name`` makes a default session of that region; the old one, of its
    own, comes back.
    """
    boto3.setup_default_session(region_name="us-west-2")
    before = boto3.DEFAULT_SESSION
    assert rolevault.install(region_name="eu-west-1", **options).region_name == "eu-west-1"
    assert boto3.DEFAULT_SESSION is not before
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is before


def test_another_region_keeps_the_sessions_profile(options: Options, other_profile: str) -> None:
    """A default session made anew for its region keeps its explicit profile."""
    boto3.setup_default_session(profile_name=other_profile)
    assert rolevault.install(region_name="eu-west-1", **options).profile_name == other_profile


def test_session_changes_nothing_global(options: Options) -> None:
    """``session()`` is a real boto3 session, and that is all."""
    made = rolevault.session(region_name="eu-west-3", **options)
    assert type(made) is boto3.Session
    assert made.region_name == "eu-west-3"
    assert boto3.DEFAULT_SESSION is None
    assert not rolevault.is_installed()
    assert account_of(made) == "111122223333"
    assert account_of() == "999988887777"


def test_sessions_of_two_accounts_share_a_code(
    options: Options, role_b: Role, alice: Alice
) -> None:
    """Several accounts at once: one vault, one code."""
    a = rolevault.session(**options)
    b = rolevault.session(**{**options, "role_arn": role_b.arn})
    assert (account_of(a), account_of(b)) == ("111122223333", "444455556666")
    assert len(alice.requests) == 1


def test_an_account_id_needs_no_sign_in(options: Options, sts: LocalSts) -> None:
    """``account_id`` comes from the role's ARN."""
    credentials: Any = rolevault.session(**options).get_credentials()
    assert credentials.account_id == "111122223333"
    assert sts.calls == []


def test_ensure_signs_in_now(options: Options, sts: LocalSts, alice: Alice) -> None:
    """``ensure()`` prompts now, and returns an aware UTC time that far away; the
    work that follows asks nobody.
    """
    rolevault.install(**options)
    until = rolevault.ensure(min_ttl="2h")
    assert until.utcoffset() == timedelta(0)
    assert until > datetime.now(timezone.utc) + timedelta(hours=2)
    assert account_of() == "111122223333"
    assert len(alice.requests) == 1


def test_ensure_names_a_bad_duration(options: Options, sts: LocalSts) -> None:
    """Seconds, a timedelta, or text with one of four units; nothing else."""
    rolevault.install(**options)
    bad: list[Any] = ["1x", "", "h", -1, True, None, "1e3", timedelta(days=-1), float("nan"), 1e9]
    for min_ttl in bad:
        with pytest.raises(ConfigurationError, match="min_ttl="):
            rolevault.ensure(min_ttl=min_ttl)
    assert sts.calls == []


def test_ensure_understands_durations(options: Options) -> None:
    """Seconds, a timedelta, or text."""
    rolevault.install(**options)
    good: list[Any] = [900, 900.0, "900s", "15m", "0.25h", "0.01d", timedelta(minutes=15)]
    for min_ttl in good:
        assert rolevault.ensure(min_ttl=min_ttl) > datetime.now(timezone.utc)


def test_ensure_names_what_shadows_the_role(
    options: Options, alice: Alice, empty_home: Path, role_a: Role
) -> None:
    """Where something else signs, ``ensure()`` says what, and calls nothing."""
    with pytest.raises(ConfigurationError, match="'env'"):
        rolevault.ensure()
    mine = boto3.Session(alice.user.access_key_id, alice.user.secret_access_key)
    rolevault.install(session=mine, **options)
    with pytest.raises(ConfigurationError, match="'explicit'"):
        rolevault.ensure(mine)


def test_ensure_says_when_there_are_no_credentials() -> None:
    """No credentials at all: said, not guessed."""
    with pytest.raises(ConfigurationError, match="has no credentials"):
        rolevault.ensure()


def test_one_session_can_be_ensured(options: Options) -> None:
    """``ensure(session)`` is about that one."""
    made = rolevault.session(**options)
    assert rolevault.ensure(made) > datetime.now(timezone.utc)
