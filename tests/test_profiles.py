"""
Roles that stand in ``~/.aws/config``: ``install()`` takes them over and changes
nothing else, neither which source credentials are used nor which error is raised.
What else than keys can be a source stands in ``test_sources.py``.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import (
    ConfigParseError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    PartialCredentialsError,
    ProfileNotFound,
)

import rolevault
from conftest import Alice, Config, account_of, keys
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError


def test_install_takes_the_default_profile(config: Config, role_a: Role, alice: Alice) -> None:
    """``install()`` with no role: ``[default]`` says all of it."""
    config(
        f"[default]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"mfa_serial={alice.serial}\nregion=eu-west-3"
    )
    session = rolevault.install(mfa_callback=alice)
    assert session.region_name == "eu-west-3"
    assert account_of() == "111122223333"
    assert [each.serial for each in alice.requests] == [alice.serial]


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_the_environment_chooses_the_profile(
    config: Config, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """``AWS_PROFILE`` and ``AWS_DEFAULT_PROFILE``, as botocore reads them."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
    )
    monkeypatch.setenv(variable, "prod")
    rolevault.install(mfa_callback=alice)
    assert account_of() == "111122223333"


def test_a_named_profile(config: Config, role_a: Role, alice: Alice) -> None:
    """``profile=`` in ``install`` and ``session``; the default session is another
    one, and the old object comes back.
    """
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"mfa_serial={alice.serial}\nregion=eu-west-3"
    )
    boto3.setup_default_session()
    before = boto3.DEFAULT_SESSION
    session = rolevault.install(profile="prod", mfa_callback=alice)
    assert (session.profile_name, session.region_name) == ("prod", "eu-west-3")
    assert account_of() == "111122223333"
    assert account_of(rolevault.session(profile="prod", mfa_callback=alice)) == "111122223333"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is before
    assert len(alice.requests) == 1


def test_installing_without_a_profile_after_one(config: Config, role_a: Role, role_b: Role) -> None:
    """The second ``install()`` is judged by the session that it serves, not by the
    one that the first had made.
    """
    config(
        f"[default]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"[profile b]\nrole_arn={role_b.arn}\nsource_profile=base"
    )
    role_a.mfa = role_b.mfa = False
    rolevault.install(profile="b")
    assert account_of() == "444455556666"
    rolevault.install()
    assert account_of() == "111122223333"


def test_files_elsewhere(
    config: Config, role_a: Role, alice: Alice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``AWS_CONFIG_FILE`` and ``AWS_SHARED_CREDENTIALS_FILE``, as botocore reads them."""
    role_a.mfa = False
    elsewhere = tmp_path / "config"
    elsewhere.write_text(f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=keys\n")
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[keys]\n{keys(alice)}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(elsewhere))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    rolevault.install(profile="prod")
    assert account_of() == "111122223333"


def test_settings_reach_sts(config: Config, sts: LocalSts, alice: Alice) -> None:
    """``external_id``, ``role_session_name`` and ``duration_seconds`` of the profile."""
    role = sts.add_role("Deploy", trusts=[alice.user], external_id="ticket")
    config(
        f"[profile prod]\nrole_arn={role.arn}\nsource_profile=base\nexternal_id=ticket\n"
        "role_session_name=nightly\nduration_seconds=1800\n"
    )
    rolevault.install(profile="prod")
    account_of()
    params = next(each.params for each in sts.calls if each.action == "AssumeRole")
    assert params["ExternalId"] == "ticket"
    assert params["RoleSessionName"] == "nightly"
    assert params["DurationSeconds"] == "1800"


def test_explicit_options_override_the_profile(config: Config, sts: LocalSts, alice: Alice) -> None:
    """Each option that is given wins over the profile's; the rest is the profile's."""
    role = sts.add_role("Deploy", trusts=[alice.user])
    config(
        f"[profile prod]\nrole_arn={role.arn}\ncredential_source=Environment\nexternal_id=theirs\n"
        "role_session_name=theirs\nduration_seconds=1800\n"
    )
    rolevault.install(profile="prod", external_id="ours", source_profile="base")
    account_of()
    params = next(each.params for each in sts.calls if each.action == "AssumeRole")
    assert (params["ExternalId"], params["RoleSessionName"]) == ("ours", "theirs")


def test_a_role_for_a_profile_that_has_another(config: Config, role_a: Role, role_b: Role) -> None:
    """An explicit ``role_arn`` with ``profile=``: the profile's source and settings,
    the other role.
    """
    role_a.mfa = False
    config(f"[profile prod]\nrole_arn={role_b.arn}\nsource_profile=base\n")
    rolevault.install(role_a.arn, profile="prod")
    assert account_of() == "111122223333"


def test_an_explicit_role_reads_nothing_of_a_role_profile(
    config: Config, sts: LocalSts, alice: Alice
) -> None:
    """Without ``profile=`` nothing role-specific is read from any profile."""
    role = sts.add_role("Deploy", trusts=[alice.user])
    config(f"[default]\n{keys(alice)}external_id=theirs\nrole_session_name=theirs\n")
    rolevault.install(role.arn)
    account_of()
    params = next(each.params for each in sts.calls if each.action == "AssumeRole")
    assert "ExternalId" not in params
    assert params["RoleSessionName"] != "theirs"


@pytest.mark.parametrize("hops", [2, 12])
def test_chains_are_cached_a_hop_at_a_time(
    config: Config, sts: LocalSts, alice: Alice, hops: int
) -> None:
    """``source_profile`` through roles, as many as there are: one AssumeRole each,
    and the next process's worth of sessions none.
    """
    roles = [sts.add_role("Hop0", trusts=[alice.user])]
    for n in range(1, hops):
        roles.append(sts.add_role(f"Hop{n}", account=f"{n:012}", trusts=[roles[-1].arn]))
    config(
        "".join(
            f"[profile hop{n}]\nrole_arn={role.arn}\n"
            f"source_profile={f'hop{n - 1}' if n else 'base'}\n"
            for n, role in enumerate(roles)
        )
    )
    for _ in range(2):
        rolevault.session(profile=f"hop{hops - 1}").client("s3", region_name="eu-west-1")
        assert account_of(rolevault.session(profile=f"hop{hops - 1}")) == f"{hops - 1:012}"
    assert sts.count("AssumeRole") == hops
    assert account_of(rolevault.session(profile="hop0")) == "111122223333"
    assert sts.count("AssumeRole") == hops


def test_a_chain_asks_for_the_users_device_only(
    config: Config, sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """The device of a hop that is entered by a user is asked for; the same serial
    on a role above it is not sent: a role has no device.
    """
    upper = sts.add_role("Upper", account="555566667777", trusts=[role_a.arn])
    config(
        f"[profile lower]\nrole_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
        f"[profile upper]\nrole_arn={upper.arn}\nsource_profile=lower\nmfa_serial={alice.serial}\n"
    )
    rolevault.install(profile="upper", mfa_callback=alice)
    assert account_of() == "555566667777"
    assert len(alice.requests) == 1


def test_a_profile_may_name_itself(config: Config, role_a: Role, alice: Alice) -> None:
    """With static keys beside its role a profile is its own source."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=prod\n"
        f"mfa_serial={alice.serial}\n{keys(alice)}"
    )
    rolevault.install(profile="prod", mfa_callback=alice)
    assert account_of() == "111122223333"


def test_static_keys_of_a_source_beat_its_role(
    config: Config, sts: LocalSts, role_a: Role, role_b: Role, alice: Alice
) -> None:
    """A source profile with keys is those keys, whatever role stands beside them."""
    role_a.mfa = False
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=both\n"
        f"[profile both]\nrole_arn={role_b.arn}\nsource_profile=base\n{keys(alice)}"
    )
    rolevault.install(profile="prod")
    assert account_of() == "111122223333"
    assert sts.count("AssumeRole") == 1


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("source_profile=nowhere", InvalidConfigError, 'source_profile "nowhere"'),
        ("source_profile=", InvalidConfigError, 'source_profile ""'),
        ("credential_source=", InvalidConfigError, 'credential source ""'),
        ("source_profile=\ncredential_source=", InvalidConfigError, "both"),
        ("source_profile=base\ncredential_source=Environment", InvalidConfigError, "both"),
        ("", PartialCredentialsError, "source_profile or credential_source"),
        ("credential_source=Elsewhere", InvalidConfigError, '"Elsewhere"'),
        ("credential_source=environment", InvalidConfigError, '"environment"'),
        ("source_profile=prod", InfiniteLoopConfigError, "prod"),
        ("source_profile=loop", InfiniteLoopConfigError, "loop"),
    ],
)
def test_bad_references_are_botocores_errors(
    config: Config, role_a: Role, text: str, error: type[Exception], match: str
) -> None:
    """The same exceptions as botocore's for the same profile; at ``install()``, not
    at the first request.
    """
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\n{text}\n"
        f"[profile loop]\nrole_arn={role_a.arn}\nsource_profile=prod\n"
    )
    with pytest.raises(error) as theirs:
        boto3.Session(profile_name="prod").get_credentials()
    for call in (rolevault.install, rolevault.session):
        with pytest.raises(error, match=match) as ours:
            call(profile="prod")
        assert str(ours.value) == str(theirs.value)
    assert boto3.DEFAULT_SESSION is None


def test_a_loop_further_down_is_found(config: Config, role_a: Role) -> None:
    """A loop that does not lead back to the start is one too."""
    config(
        f"[profile a]\nrole_arn={role_a.arn}\nsource_profile=b\n"
        f"[profile b]\nrole_arn={role_a.arn}\nsource_profile=c\n"
        f"[profile c]\nrole_arn={role_a.arn}\nsource_profile=b\n"
    )
    with pytest.raises(InfiniteLoopConfigError):
        rolevault.install(profile="a")


def test_a_missing_profile_is_botocores_error(config: Config, role_a: Role) -> None:
    """``ProfileNotFound``, for a profile that is named or chosen."""
    config("")
    with pytest.raises(ProfileNotFound):
        rolevault.install(profile="nowhere")
    with pytest.raises(ProfileNotFound):
        rolevault.install(role_a.arn, profile="nowhere", session=boto3.Session())
    for name in ("nowhere", ""):
        with pytest.raises(ConfigurationError, match=f"source_profile='{name}': there is no such"):
            rolevault.install(role_a.arn, source_profile=name)


def test_unreadable_configuration_is_botocores_error(config: Config) -> None:
    """What botocore cannot parse raises its own error."""
    config("").write_text("[profile prod\nrole_arn")
    with pytest.raises(ConfigParseError):
        rolevault.install()


@pytest.mark.parametrize("file", ["config", "credentials"])
@pytest.mark.parametrize("call", [rolevault.install, rolevault.session])
def test_a_file_that_cannot_be_read_is_named(
    config: Config,
    empty_home: Path,
    role_a: Role,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    call: Callable[..., boto3.Session],
) -> None:
    """botocore takes it for one that is not there, and says no word: instead of what
    is missing, we say why.
    """
    elsewhere = empty_home / "elsewhere"
    elsewhere.write_text(f"[profile orphan]\nrole_arn={role_a.arn}\nsource_profile=gone\n")
    config("").unlink()
    (empty_home / ".aws" / file).mkdir()
    named = rf"config=.*{file}: it cannot be read: Is a dir"
    options: dict[str, str]
    for options in (
        {},
        {"profile": "prod"},
        {"role_arn": role_a.arn, "profile": "prod"},
        {"role_arn": role_a.arn, "source_profile": "prod"},
    ):
        with pytest.raises(ConfigurationError, match=named):
            call(**options)
    with pytest.raises(ConfigurationError, match=named):
        rolevault.install(role_a.arn, profile="prod", session=boto3.Session())
    monkeypatch.setenv("AWS_PROFILE", "prod")
    with pytest.raises(ConfigurationError, match=named):
        call()
    if file == "credentials":
        monkeypatch.setenv("AWS_CONFIG_FILE", str(elsewhere))
        with pytest.raises(ConfigurationError, match=named):
            call(profile="orphan")


def test_a_profile_behind_an_explicit_role_is_judged(config: Config, role_a: Role) -> None:
    """Whatever its sources are, a mistake among them is found at ``install()``."""
    config(
        f"[profile wrong]\nrole_arn={role_a.arn}\ncredential_source=environment\n"
        f"[profile both]\nsource_profile=base\ncredential_source=Environment\n"
        f"[profile gone]\nsource_profile=nowhere\n"
        f"[profile none]\nrole_arn={role_a.arn}\n"
        f"[profile loop]\nrole_arn={role_a.arn}\nsource_profile=pool\n"
        f"[profile pool]\nrole_arn={role_a.arn}\nsource_profile=loop\n"
    )
    for call in (rolevault.install, rolevault.session):
        for profile in ("wrong", "both", "gone"):
            with pytest.raises(InvalidConfigError):
                call(role_a.arn, profile=profile)
        for profile, error in (
            ("loop", InfiniteLoopConfigError),
            ("none", PartialCredentialsError),
        ):
            with pytest.raises(error):
                call(role_a.arn, profile=profile)
            with pytest.raises(error):
                call(role_a.arn, source_profile=profile)


def test_a_profile_without_a_role_says_what_was_looked_at(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ConfigurationError`` with the profile, the sections and the files."""
    path = config("")
    with pytest.raises(ConfigurationError) as raised:
        rolevault.install(profile="base")
    message = str(raised.value)
    assert message.startswith("profile='base'")
    assert "[profile base] of " in message
    assert "[base] of " in message
    assert "credentials" in message
    with pytest.raises(ConfigurationError, match=r"\[default\] of "):
        rolevault.install()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    with pytest.raises(ConfigurationError, match=str(path)):
        rolevault.install()


@pytest.mark.parametrize("value", ["an hour", "3600.5", "", "899", "43201"])
@pytest.mark.parametrize("file", ["config", "credentials"])
def test_a_bad_integer_is_named(
    config: Config, role_a: Role, empty_home: Path, value: str, file: str
) -> None:
    """botocore has no error for it: ours names file, section and key."""
    line = f"duration_seconds={value}\n"
    path = config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        + (line if file == "config" else "")
    )
    section = "[profile prod]"
    if file == "credentials":
        path = empty_home / ".aws" / "credentials"
        path.write_text(f"[prod]\n{line}")
        section = "[prod]"
    with pytest.raises(ConfigurationError) as raised:
        rolevault.install(profile="prod")
    message = str(raised.value)
    assert message.startswith("duration_seconds=")
    assert f"{section} of ~/.aws/{file}" in message


@pytest.mark.parametrize("line", ["mfa_serial=short", "external_id=x", "role_session_name=a b"])
@pytest.mark.parametrize("where", ["prod", "upper"])
def test_bad_settings_name_their_section(
    config: Config, role_a: Role, line: str, where: str
) -> None:
    """A bad setting, of the profile or of one below it, names file and section."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n{line}\n"
        f"[profile upper]\nrole_arn={role_a.arn}\nsource_profile=prod\n"
    )
    with pytest.raises(ConfigurationError, match=r"\[profile prod\] of ~/.aws/config"):
        rolevault.install(profile=where)


def test_a_long_duration_is_served_an_hour_at_a_time(
    config: Config, sts: LocalSts, role_a: Role, alice: Alice, caplog: pytest.LogCaptureFixture
) -> None:
    """43200 in a profile is a wish to be asked less: an hour through the MFA
    session, and one log record that says so.
    """
    role_a.max_session_duration = 43200
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"mfa_serial={alice.serial}\nduration_seconds=43200\n"
    )
    with caplog.at_level(logging.INFO, "rolevault"):
        rolevault.install(profile="prod", mfa_callback=alice)
        account_of()
        account_of()
    params = next(each.params for each in sts.calls if each.action == "AssumeRole")
    assert params["DurationSeconds"] == "3600"
    assert sts.count("GetSessionToken") == 1
    assert caplog.text.count("duration_seconds=43200") == 1


def test_a_long_duration_is_honoured_where_sts_does(
    config: Config, sts: LocalSts, role_a: Role
) -> None:
    """Long-term keys and no device: the wish is no reason to renew hourly."""
    role_a.mfa, role_a.max_session_duration = False, 43200
    config(f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\nduration_seconds=43200")
    account_of(rolevault.session(profile="prod"))
    params = next(each.params for each in sts.calls if each.action == "AssumeRole")
    assert params["DurationSeconds"] == "43200"


def test_mfa_process_gives_the_code(
    config: Config, role_a: Role, alice: Alice, tmp_path: Path
) -> None:
    """aws-vault's ``mfa_process`` is run by the shell; a callback that is passed wins."""
    log = tmp_path / "runs"
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
        f"mfa_process=echo run >> {log}; printf ' %s\\n' {alice.device.next_code()}\n"
    )
    rolevault.install(profile="prod")
    assert account_of() == "111122223333"
    assert log.read_text() == "run\n"
    rolevault.ensure(rolevault.session(profile="prod", mfa_callback=alice), refresh=True)
    assert len(alice.requests) == 1
    assert log.read_text() == "run\n"
