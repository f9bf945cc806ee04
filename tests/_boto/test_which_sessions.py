"""
Which sessions have the role: the default one, those of others, and those with a
profile, keys or a chain of their own.
"""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import botocore
import botocore.session
import pytest
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    create_credential_resolver,
)

import rolevault
from conftest import Alice, Options, account_of
from local_iam import Role
from rolevault import ConfigurationError, _botocore_private


def provider_of(session: boto3.Session) -> Any:
    return session._session.get_component("credential_provider")


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


@pytest.mark.parametrize("used", [False, True])
def test_install_again_means_its_region(options: Options, used: bool) -> None:
    """The same where a later default session is served, and has another region."""
    rolevault.install(region_name="eu-west-1", **options)
    boto3.setup_default_session(region_name="us-west-2")
    if used:
        boto3.client("s3")
    assert rolevault.install(region_name="eu-west-1", **options).region_name == "eu-west-1"
    assert boto3.client("s3").meta.region_name == "eu-west-1"


@pytest.mark.parametrize("seen", [False, True])
def test_install_again_serves_a_session_that_was_there_first(options: Options, seen: bool) -> None:
    """The same for one that was made before ``install()``, or looked at before it came
    into the default one's place.
    """
    there = boto3.Session(region_name="eu-west-1")
    rolevault.install(**options)
    if seen:
        there = boto3.Session(region_name="eu-west-1")
        provider_of(there).get_provider("assume-role").cache = {}
    boto3.DEFAULT_SESSION = there
    assert account_of() == "999988887777"
    rolevault.install(**options)
    assert account_of() == "111122223333"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is there
    assert account_of() == "999988887777"


def test_install_again_mends_a_lost_race(options: Options) -> None:
    """A thread that was resolving during ``install()`` has put its find there."""
    boto3.setup_default_session(region_name="eu-west-1")
    session = _botocore_private.botocore_session(boto3._get_default_session())
    late = create_credential_resolver(session).load_credentials()
    rolevault.install(**options)
    _botocore_private.set_resolved(session, late)
    with pytest.raises(ConfigurationError, match=r"'env'.*Call install\(\) again"):
        rolevault.ensure()
    rolevault.install(**options)
    assert account_of() == "111122223333"


def test_threads_may_make_the_default_session(options: Options, alice: Alice) -> None:
    """Whichever of them is the default one in the end: each has the role."""
    rolevault.install(**options)
    together = threading.Barrier(16)

    def work(_: int) -> str:
        together.wait()
        boto3.setup_default_session(region_name="eu-west-1")
        return account_of()

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(16))) == {"111122223333"}
    assert len(alice.requests) == 1


def test_a_former_default_session_keeps_the_role(options: Options) -> None:
    """Made by ``setup_default_session()``, and replaced by another one."""
    rolevault.install(**options)
    boto3.setup_default_session(region_name="eu-west-1")
    former = boto3.DEFAULT_SESSION
    boto3.setup_default_session(region_name="us-west-2")
    assert account_of(former) == account_of() == "111122223333"
    rolevault.uninstall()
    assert account_of(former) == account_of() == "999988887777"


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


def test_all_sessions_may_come_later(options: Options) -> None:
    """Only ``all_sessions`` differs between the two calls, and the second one counts."""
    rolevault.install(**options)
    rolevault.install(all_sessions=True, **options)
    assert account_of(boto3.Session()) == "111122223333"


def test_all_sessions_serves_sessions_of_the_roles_profile(
    options: Options, other_profile: str
) -> None:
    """The profile that ``install()`` names is not another one, although the session that was
    given has none.
    """
    session = boto3.Session()
    rolevault.install(session=session, profile=other_profile, all_sessions=True, **options)
    assert account_of(boto3.Session(profile_name=other_profile)) == "111122223333"


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
    rolevault.uninstall()
    boto3.setup_default_session(botocore_session=AsyncSession())
    for session in (None, boto3.DEFAULT_SESSION):
        with pytest.raises(ConfigurationError, match="session="):
            rolevault.install(session=session, **options)
        with pytest.raises(ConfigurationError, match=r"must be a boto3\.Session"):
            rolevault.ensure(session)
    assert not rolevault.is_installed()


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
    assert _botocore_private.resolved(session._session) is credentials
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


def test_a_given_session_and_those_of_libraries(options: Options) -> None:
    """``session=`` with ``all_sessions=True``: the given one and those made later, the
    default one among them.
    """
    boto3.setup_default_session(region_name="eu-west-1")
    mine = boto3.Session(region_name="eu-west-1")
    rolevault.install(session=mine, all_sessions=True, **options)
    assert account_of(mine) == account_of(boto3.Session()) == "111122223333"
    assert account_of() == "999988887777"
    boto3.DEFAULT_SESSION = None
    assert account_of() == "111122223333"


@pytest.mark.parametrize("again", [False, True])
def test_a_given_session_that_becomes_the_default_stays_it(options: Options, again: bool) -> None:
    """Whoever put it there: ``uninstall()`` has not, and does not take it away."""
    boto3.setup_default_session(region_name="us-west-2")
    mine = boto3.Session(region_name="eu-west-1")
    rolevault.install(session=mine, **options)
    boto3.DEFAULT_SESSION = mine
    if again:
        rolevault.install(**options)
    assert account_of() == "111122223333"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is mine
    assert account_of() == "999988887777"


def test_a_given_session_that_became_the_default_is_installed_as_such(options: Options) -> None:
    """The same call without ``session=`` means the default sessions that come later, too."""
    mine = boto3.Session(region_name="eu-west-1")
    rolevault.install(session=mine, **options)
    boto3.DEFAULT_SESSION = mine
    assert rolevault.install(**options) is mine
    boto3.setup_default_session()
    assert account_of() == "111122223333"


def test_a_given_session_that_is_the_default_is_no_other(options: Options, role_b: Role) -> None:
    """What ``install()`` returned, given to the next one: still the default session."""
    default = rolevault.install(**options)
    rolevault.install(session=default, **{**options, "role_arn": role_b.arn})
    assert boto3.DEFAULT_SESSION is default
    assert account_of() == "444455556666"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is None


def test_a_session_that_was_made_meanwhile_may_become_the_default(options: Options) -> None:
    """Put there by hand, where ``setup_default_session()`` would be the way."""
    rolevault.install(**options)
    boto3.DEFAULT_SESSION = boto3.Session(region_name="us-west-2")
    assert account_of() == "111122223333"


def test_a_provider_that_is_put_there_meanwhile_goes(options: Options, alice: Alice) -> None:
    """It stood in a chain that is ours; while it wins, ``ensure()`` names it."""

    class Desk(CredentialProvider):
        METHOD, CANONICAL_NAME = "custom-desk", "customDesk"

        def load(self) -> Credentials:
            user = alice.user
            return Credentials(user.access_key_id, user.secret_access_key, method=self.METHOD)

    session = rolevault.install(**options)
    provider_of(session).insert_before("rolevault", Desk())
    with pytest.raises(ConfigurationError, match="'custom-desk'"):
        rolevault.ensure()
    rolevault.uninstall()
    assert session.get_credentials().method == "env"  # type: ignore[union-attr]


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
    session = _botocore_private.botocore_session(rolevault.install(**options))
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


def test_a_default_session_with_keys_keeps_them(
    options: Options, alice: Alice, caplog: pytest.LogCaptureFixture
) -> None:
    """Its keys win, also where another region is asked for. One warning says so."""
    boto3.setup_default_session(
        aws_access_key_id=alice.user.access_key_id,
        aws_secret_access_key=alice.user.secret_access_key,
    )
    before = boto3.DEFAULT_SESSION
    for _ in range(2):
        assert rolevault.install(region_name="eu-north-1", **options) is before
    assert account_of() == "999988887777"
    assert [each.message[:31] for each in caplog.records] == ["The session has keys of its own"]


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
    _botocore_private.botocore_session(session).register_component("credential_provider", chain)
    for external_id in ("one", "two"):
        rolevault.install(session=session, external_id=external_id, **options)
        assert account_of(session) == "111122223333"
    rolevault.uninstall()
    assert provider_of(session) is chain


def test_another_region_keeps_the_sessions_profile(options: Options, other_profile: str) -> None:
    """A default session made anew for its region keeps its explicit profile."""
    boto3.setup_default_session(profile_name=other_profile)
    assert rolevault.install(region_name="eu-west-1", **options).profile_name == other_profile
