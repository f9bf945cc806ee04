"""
Who signs in an aiobotocore session, and with which settings.
"""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import InvalidConfigError, ProfileNotFound

import rolevault
from conftest import Alice, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError

pytest.importorskip("aiobotocore", reason="aiobotocore pins botocore: run `make aio`")

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

import rolevault.aio
from loops import REGION, aio_account_of, run, session_for
from rolevault._signin.source_lookup import twin


def write_config(home: Path, text: str) -> None:
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / "config").write_text(text)


@pytest.fixture
def profile(empty_home: Path, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch) -> str:
    """A role of ~/.aws/config, its source a profile with Alice's keys."""
    write_config(
        empty_home,
        f"""
[profile base]
aws_access_key_id = {alice.user.access_key_id}
aws_secret_access_key = {alice.user.secret_access_key}
[profile prod]
role_arn = {role_a.arn}
source_profile = base
mfa_serial = {alice.serial}
region = eu-central-1
""",
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return "prod"


def test_keys_given_to_a_client_win(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    Explicit keys of a client beat the role; so do keys given to the session.
    """
    user = alice.user
    keys = {
        "aws_access_key_id": user.access_key_id,
        "aws_secret_access_key": user.secret_access_key,
    }
    session = session_for(role_a, alice)
    assert run(lambda: aio_account_of(session, **keys)) == user.account
    explicit = AioSession()
    explicit.set_credentials(user.access_key_id, user.secret_access_key)
    assert rolevault.aio.install(explicit, role_a.arn) is explicit
    assert run(lambda: aio_account_of(explicit)) == user.account
    assert (alice.requests, sts.count("AssumeRole")) == ([], 0)


def test_profile_gives_the_role(
    sts: LocalSts, profile: str, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ``session(profile=…)`` takes role, source, serial and region from the
    profile; ``AWS_PROFILE`` and the profile of an installed session do too.
    """
    named = rolevault.aio.session(profile=profile, mfa_callback=alice)
    assert run(lambda: aio_account_of(named, region_name=None)) == role_a.account
    own = rolevault.aio.install(AioSession(profile=profile), mfa_callback=alice)
    assert run(lambda: aio_account_of(own, region_name=None)) == role_a.account
    monkeypatch.setenv("AWS_PROFILE", profile)
    chosen = rolevault.aio.session(mfa_callback=alice)
    assert run(lambda: aio_account_of(chosen, region_name=None)) == role_a.account
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 1)


def test_source_is_the_sessions_own_profile(profile: str, role_a: Role, alice: Alice) -> None:
    """
    A role given by its ARN is entered with what the session's own profile
    holds, as the session itself would use it.
    """
    session = rolevault.aio.install(
        AioSession(profile="base"), role_a.arn, mfa_serial=alice.serial, mfa_callback=alice
    )
    assert run(lambda: aio_account_of(session)) == role_a.account


def test_named_profile_beats_the_environment(
    profile: str, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As in aiobotocore: keys of the environment beat ``AWS_PROFILE``, and an
    explicit profile beats them.
    """
    user = alice.user
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_access_key)
    named = rolevault.aio.session(profile=profile, mfa_callback=alice)
    assert run(lambda: aio_account_of(named)) == role_a.account
    monkeypatch.setenv("AWS_PROFILE", profile)
    chosen = rolevault.aio.session(mfa_callback=alice)
    assert run(lambda: aio_account_of(chosen)) == user.account


def test_contradicting_sources_raise_botocores_error(
    profile: str, empty_home: Path, role_a: Role
) -> None:
    """
    A broken profile raises what botocore raises, at once.
    """
    write_config(empty_home, f"[profile prod]\nrole_arn = {role_a.arn}\nsource_profile = nobody\n")
    with pytest.raises(InvalidConfigError, match="nobody"):
        rolevault.aio.session(profile=profile)
    with pytest.raises(ProfileNotFound):
        rolevault.aio.session(role_a.arn, profile="nobody")


def test_bad_options_are_refused_at_once(role_a: Role) -> None:
    """
    Options are judged by ``install`` and ``session`` themselves.
    """
    with pytest.raises(ConfigurationError, match="duration_seconds=1:"):
        rolevault.aio.session(role_a.arn, duration_seconds=1)
    with pytest.raises(ConfigurationError, match="profile="):
        rolevault.aio.session()
    with pytest.raises(TypeError, match="no such option: colour"):
        rolevault.aio.session(role_a.arn, colour="red")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="AioSession"):
        rolevault.aio.install(rolevault.session(role_a.arn), role_a.arn)
    elsewhere = rolevault.aio.session(role_a.arn, region_name="us-west-2")
    with pytest.raises(ConfigurationError, match="region already"):
        rolevault.aio.install(elsewhere, role_a.arn, region_name=REGION)


def test_install_replaces(
    sts: LocalSts, role_a: Role, role_b: Role, alice: Alice, empty_home: Path
) -> None:
    """
    A second ``install`` into a session that has signed replaces the first, a
    third the second, and heals as they did; clients made before keep their role.
    """
    role_c = sts.add_role("Read", account="777788889999", trusts=[alice.user], mfa=True)
    write_config(
        empty_home,
        f"[profile third]\nrole_arn = {role_c.arn}\ncredential_source = Environment\n",
    )
    session = session_for(role_a, alice)
    options: dict[str, Any] = {"mfa_serial": alice.serial, "mfa_callback": alice}

    async def main() -> tuple[str, ...]:
        async with session.create_client("sts", region_name=REGION) as before:
            await before.get_caller_identity()
            rolevault.aio.install(session, role_b.arn, **options)
            second = await aio_account_of(session)
            sts.revoke("expired", sts.sessions[-1].access_key_id)
            healed = await aio_account_of(session)
            rolevault.aio.install(session, profile="third", **options)
            third = await aio_account_of(session)
            kept = str((await before.get_caller_identity())["Account"])
            return second, healed, third, kept

    accounts = (role_b.account, role_b.account, role_c.account, role_a.account)
    assert run(main) == accounts
    assert len(alice.requests) == 1


def test_install_again_starts_from_what_was_there_first(
    role_a: Role, alice: Alice, empty_home: Path
) -> None:
    """However often: a named profile drops the environment's keys for itself alone."""
    write_config(
        empty_home,
        f"[default]\nrole_arn = {role_a.arn}\ncredential_source = Environment\n"
        f"[profile prod]\nrole_arn = {role_a.arn}\ncredential_source = Environment\n",
    )
    options: dict[str, Any] = {"mfa_serial": alice.serial, "mfa_callback": alice}
    session = AioSession()
    for _ in range(1000):
        rolevault.aio.install(session, profile="prod", **options)
    assert run(lambda: aio_account_of(session)) == role_a.account
    rolevault.aio.install(session, **options)
    assert run(lambda: aio_account_of(session)) == alice.user.account


def test_sts_is_called_with_the_sessions_settings(
    sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """
    STS sees the session's default client configuration, and the region of its
    first client where it has none of its own.
    """
    session = session_for(role_a, alice)
    session.set_default_client_config(
        AioConfig(user_agent_appid="team-seven", connector_args={"keepalive_timeout": 5})
    )
    assert run(lambda: aio_account_of(session, region_name="ap-south-1")) == role_a.account
    assume = next(call for call in sts.calls if call.action == "AssumeRole")
    assert "app/team-seven" in assume.user_agent
    assert "rolevault/" in assume.user_agent
    assert twin(session).get_config_variable("region") == "ap-south-1"


def test_sync_install_leaves_async_sessions_alone(
    sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """
    ``rolevault.install(all_sessions=True)`` does not touch async sessions.
    """
    rolevault.install(role_a.arn, all_sessions=True, mfa_serial=alice.serial, mfa_callback=alice)
    assert run(lambda: aio_account_of(AioSession())) == alice.user.account
    assert account_of() == role_a.account
