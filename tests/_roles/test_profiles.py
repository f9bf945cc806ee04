"""
Roles that stand in ``~/.aws/config``: ``install()`` takes them over and changes
nothing else, neither which source credentials are used nor which error is raised.
What else than keys can be a source stands in ``test_sources.py``, and what can be
wrong in ``test_profile_errors.py``.
"""

import logging
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import InvalidConfigError

import rolevault
from conftest import Alice, Config, account_of, keys
from local_iam import Role
from local_sts import LocalSts


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
    """``AWS_PROFILE`` and ``AWS_DEFAULT_PROFILE``, as botocore reads them: the latter
    first.
    """
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
    )
    if variable == "AWS_DEFAULT_PROFILE":
        monkeypatch.setenv("AWS_PROFILE", "gone")
    monkeypatch.setenv(variable, "prod")
    rolevault.install(mfa_callback=alice)
    assert account_of() == "111122223333"


def test_another_profile_in_the_environment_is_another_role(
    config: Config, role_a: Role, role_b: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``install()`` takes over what is chosen now, as in a notebook's next cell."""
    config(
        "".join(
            f"[profile {name}]\nrole_arn = {role.arn}\nsource_profile = base\n"
            f"mfa_serial = {alice.serial}\n"
            for name, role in (("a", role_a), ("b", role_b))
        )
    )
    for name, role in (("a", role_a), ("b", role_b)):
        monkeypatch.setenv("AWS_PROFILE", name)
        rolevault.install(mfa_callback=alice)
        assert account_of() == role.account


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


def test_the_credentials_file_beats_the_configuration(
    config: Config, sts: LocalSts, alice: Alice, empty_home: Path
) -> None:
    """Where a profile stands in both, setting by setting, keys included."""
    role = sts.add_role("Deploy", trusts=[alice.user], external_id="ticket")
    config(
        f"[profile prod]\nrole_arn={role.arn}\nsource_profile=base\nexternal_id=other\n"
        "role_session_name=nightly\n"
        "[profile keys]\naws_access_key_id=AKIAX\naws_secret_access_key=x\n"
    )
    credentials = empty_home / ".aws" / "credentials"
    credentials.write_text(
        f"[prod]\nsource_profile=keys\nexternal_id=ticket\n[keys]\n{keys(alice)}"
    )
    rolevault.install(profile="prod")
    assert account_of() == "111122223333"
    params = next(each.params for each in sts.calls if each.action == "AssumeRole")
    assert (params["ExternalId"], params["RoleSessionName"]) == ("ticket", "nightly")


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


@pytest.mark.parametrize("explicit", [False, True])
def test_each_option_overrides_its_setting(
    config: Config, sts: LocalSts, role_a: Role, alice: Alice, explicit: bool
) -> None:
    """Whether the role is the profile's or given besides."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\ncredential_source=Ec2InstanceMetadata\n"
        "duration_seconds=1800\nrole_session_name=theirs\nexternal_id=theirs\n"
        "mfa_serial=arn:aws:iam::999988887777:mfa/other\nregion=eu-west-1\n"
    )
    session = rolevault.session(
        role_a.arn if explicit else None,
        profile="prod",
        source_profile="base",
        duration_seconds=2700,
        role_session_name="ours",
        external_id="ours",
        mfa_serial=alice.serial,
        mfa_callback=alice,
        region_name="eu-west-3",
    )
    assert session.region_name == "eu-west-3"
    assert account_of(session) == "111122223333"
    params = next(each.params for each in sts.calls if each.action == "AssumeRole")
    assert params["DurationSeconds"] == "2700"
    assert params["RoleSessionName"] == params["ExternalId"] == "ours"


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


def test_a_role_that_is_not_entered_is_no_loop(
    config: Config, role_a: Role, role_b: Role, alice: Alice
) -> None:
    """An explicit role takes its profile's source, whose own source that profile may be."""
    role_a.mfa = role_b.mfa = False
    role_a.trusts = ["*"]
    config(
        f"[profile p]\nsource_profile=s\n{keys(alice)}"
        f"[profile s]\nrole_arn={role_b.arn}\nsource_profile=p\n"
    )
    assert account_of(rolevault.session(role_a.arn, profile="p")) == "111122223333"


def test_settings_that_botocore_takes_for_none_are_none(config: Config, role_a: Role) -> None:
    """An empty session name is made up, and ``mfa_process`` is not botocore's."""
    role_a.mfa = False
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        "role_session_name=\nmfa_process=\n"
    )
    assert account_of(rolevault.session(profile="prod")) == "111122223333"


def test_settings_that_an_option_overrides_are_not_judged(
    config: Config, role_a: Role, alice: Alice
) -> None:
    """Who passes the right value need not mend the file."""
    role_a.mfa = False
    config(
        "[profile prod]\nrole_arn=unset\nsource_profile=base\nmfa_serial=x\n"
        "duration_seconds=long\nexternal_id=\nmfa_process=\n  a=b\n"
    )
    session = rolevault.session(
        role_a.arn,
        profile="prod",
        mfa_serial=alice.serial,
        mfa_callback=alice,
        duration_seconds=900,
        external_id="ours",
    )
    assert session.profile_name == "prod"


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
    """Long-term keys and no device: the wish is no reason to renew hourly, and who asks
    for another duration is not served with this session.
    """
    role_a.mfa, role_a.max_session_duration = False, 43200
    config(f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\nduration_seconds=43200")
    account_of(rolevault.session(profile="prod"))
    account_of(rolevault.session(profile="prod", duration_seconds=3600))
    account_of(rolevault.session(profile="prod"))
    calls = [each for each in sts.calls if each.action == "AssumeRole"]
    assert [each.params["DurationSeconds"] for each in calls] == ["43200", "3600"]


def test_half_a_pair_of_keys_beats_a_role_too(config: Config, role_a: Role, role_b: Role) -> None:
    """botocore looks for static keys in such a source profile, and finds none."""
    config(
        f"[profile upper]\nrole_arn={role_a.arn}\nsource_profile=base\naws_secret_access_key=x\n"
        f"[profile prod]\nrole_arn={role_b.arn}\nsource_profile=upper\n"
    )
    with pytest.raises(InvalidConfigError, match="must have credentials"):
        account_of(rolevault.session(profile="prod"))


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


def test_a_wish_for_more_than_an_hour_is_told_of(
    config: Config, role_a: Role, alice: Alice, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that the role is served an hour at a time, where an MFA session renews it."""
    caplog.set_level(logging.INFO, "rolevault")
    common = f"role_arn={role_a.arn}\nsource_profile=base\n"
    config(
        f"[profile hour]\n{common}mfa_serial={alice.serial}\nduration_seconds=3600\n"
        f"[profile day]\n{common}mfa_serial={alice.serial}\nduration_seconds=43200\n"
        f"[profile alone]\n{common}duration_seconds=43200\n"
    )
    for profile in ("hour", "alone"):
        rolevault.session(profile=profile)
    assert "an hour at a time" not in caplog.text
    rolevault.session(profile="day")
    assert "duration_seconds=43200 of profile day is served an hour at a time" in caplog.text
