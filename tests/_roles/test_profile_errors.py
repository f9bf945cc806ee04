"""
What is wrong with a profile is found at ``install()``: with botocore's own error
where it has one, else with ours, which names file, section and key.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ConfigParseError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    PartialCredentialsError,
    ProfileNotFound,
)

import rolevault
from conftest import Alice, Config, account_of, keys
from local_iam import Role
from rolevault import ConfigurationError


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
        # Its own keys make no source of it for another.
        (
            "source_profile=loop\naws_access_key_id=x\naws_secret_access_key=x",
            InfiniteLoopConfigError,
            "loop",
        ),
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


@pytest.mark.parametrize(
    "text",
    [
        "source_profile=empty\n[profile empty]\nregion=eu-west-1",
        "source_profile=half\n[profile half]\naws_access_key_id=AKIAX",
        "source_profile=half\n[profile half]\naws_secret_access_key=x",
        "source_profile=token\n[profile token]\naws_session_token=x",
        "credential_source=EcsContainer",
        "credential_source=Environment",
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_sources_without_credentials_are_botocores_errors(
    config: Config, role_a: Role, text: str, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same exceptions at the first signature, and the same words."""
    config(f"[profile prod]\nrole_arn={role_a.arn}\n{text}\n")
    if half:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    told = []
    for session in (boto3.Session(profile_name="prod"), rolevault.session(profile="prod")):
        with pytest.raises(BotoCoreError) as raised:
            account_of(session)
        told.append((type(raised.value), str(raised.value)))
    assert told[0] == told[1]


def test_half_a_pair_in_the_environment_is_botocores_error(
    config: Config, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no source, and nothing behind it is asked."""
    config("")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    with pytest.raises(PartialCredentialsError, match="AWS_SECRET_ACCESS_KEY"):
        account_of(rolevault.session(role_a.arn))


def test_a_loop_further_down_is_found(config: Config, role_a: Role) -> None:
    """A loop that does not lead back to the start is one too."""
    config(
        f"[profile a]\nrole_arn={role_a.arn}\nsource_profile=b\n"
        f"[profile b]\nrole_arn={role_a.arn}\nsource_profile=c\n"
        f"[profile c]\nrole_arn={role_a.arn}\nsource_profile=b\n"
    )
    with pytest.raises(InfiniteLoopConfigError):
        rolevault.install(profile="a")


def test_a_loop_that_was_made_later_is_found(
    config: Config, role_a: Role, role_b: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that are made after ``install()`` read the files anew: botocore's
    error, however the role was named.
    """
    role = f"role_arn={role_b.arn}\n"
    text = f"[profile x]\n{role}source_profile=y\n[profile y]\n{role}source_profile="
    monkeypatch.setenv("AWS_PROFILE", "x")
    for role_arn in (role_a.arn, None):
        config(f"{text}base\n")
        rolevault.install(role_arn, all_sessions=True)
        config(f"{text}x\n")
        with pytest.raises(InfiniteLoopConfigError) as raised:
            boto3.Session().get_credentials()
        assert "'x'" in str(raised.value)
        rolevault.uninstall()


def test_a_missing_profile_is_botocores_error(config: Config, role_a: Role) -> None:
    """``ProfileNotFound``, for a profile that is named or chosen."""
    config("")
    with pytest.raises(ProfileNotFound):
        rolevault.install(profile="nowhere")
    with pytest.raises(ProfileNotFound):
        rolevault.install(role_a.arn, profile="nowhere", session=boto3.Session())
    for name in ("nowhere", ""):
        rule = rf"there is no such profile, .*config nor \[{name}\] of .*credentials. Add it, or"
        with pytest.raises(ConfigurationError, match=f"^source_profile='{name}': {rule}"):
            rolevault.install(role_a.arn, source_profile=name)


def test_a_file_that_cannot_be_parsed_is_botocores_error(config: Config) -> None:
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
    named = rf"^{file}_file=.*{file}: it cannot be read: Is a dir.* in AWS_\w*{file.upper()}_FILE"
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


def test_keys_in_a_file_that_cannot_be_read(config: Config, empty_home: Path, role_a: Role) -> None:
    """The same at the first signature, where a source has settings in the one file
    and would have its keys in the other.
    """
    config("").write_text(
        "[default]\nregion=eu-west-1\n[profile base]\nregion=eu-west-1\n"
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"[profile half]\nrole_arn={role_a.arn}\n"
    )
    (empty_home / ".aws" / "credentials").mkdir()
    call: Callable[..., boto3.Session] = rolevault.session
    for options in (
        {"profile": "prod"},
        {"role_arn": role_a.arn, "source_profile": "base"},
        {"role_arn": role_a.arn, "profile": "base"},
        {"role_arn": role_a.arn},
    ):
        session = call(**options)
        with pytest.raises(ConfigurationError, match=r"^credentials_file=.*cannot be read"):
            account_of(session)
    with pytest.raises(ConfigurationError, match=r"^credentials_file=.*cannot be read"):
        rolevault.install(profile="half")


def test_a_file_is_looked_for_where_botocore_does(
    config: Config, empty_home: Path, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With variables in its path; a home that nobody knows is no error."""
    config("").rename(empty_home / "settings")
    (empty_home / "directory").mkdir()
    for path, found in (("$HOME/settings", True), ("~nosuchuser/settings", False)):
        monkeypatch.setenv("AWS_CONFIG_FILE", path)
        with pytest.raises(ConfigurationError, match="there is no role_arn"):
            rolevault.install()
        with pytest.raises(ConfigurationError if found else ProfileNotFound):
            rolevault.install(profile="base")
    monkeypatch.setenv("AWS_CONFIG_FILE", "$HOME/directory")
    with pytest.raises(ConfigurationError, match="it cannot be read: Is a dir"):
        rolevault.install()


def test_a_pipe_is_not_waited_for(config: Config, empty_home: Path) -> None:
    """botocore reads regular files only; to open another one could take for ever."""
    config("").unlink()
    os.mkfifo(empty_home / ".aws" / "config")
    with pytest.raises(ConfigurationError, match="there is no role_arn"):
        rolevault.install()


def test_a_profile_behind_an_explicit_role_is_judged(
    config: Config, role_a: Role, alice: Alice
) -> None:
    """Whatever its sources are, a mistake among them is found at ``install()``."""
    config(
        f"[profile wrong]\nrole_arn={role_a.arn}\ncredential_source=environment\n"
        f"[profile both]\nsource_profile=base\ncredential_source=Environment\n"
        f"[profile gone]\nsource_profile=nowhere\n"
        f"[profile none]\nrole_arn={role_a.arn}\n"
        f"[profile keys]\nrole_arn={role_a.arn}\n{keys(alice)}"
        f"[profile loop]\nrole_arn={role_a.arn}\nsource_profile=pool\n"
        f"[profile pool]\nrole_arn={role_a.arn}\nsource_profile=loop\n"
    )
    for call in (rolevault.install, rolevault.session):
        for profile in ("wrong", "both", "gone"):
            with pytest.raises(InvalidConfigError):
                call(role_a.arn, profile=profile)
        with pytest.raises(PartialCredentialsError):
            call(role_a.arn, profile="keys")
        for profile, error in (
            ("loop", InfiniteLoopConfigError),
            ("none", PartialCredentialsError),
        ):
            with pytest.raises(error):
                call(role_a.arn, profile=profile)
            with pytest.raises(error):
                call(role_a.arn, source_profile=profile)


@pytest.mark.parametrize("call", [rolevault.install, rolevault.session])
def test_the_chosen_profile_behind_an_explicit_role_is_judged(
    config: Config,
    role_a: Role,
    alice: Alice,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., boto3.Session],
) -> None:
    """Where the role is entered from ``AWS_PROFILE``, and nowhere else."""
    config(
        f"[profile gone]\nrole_arn={role_a.arn}\nsource_profile=nowhere\n"
        f"[profile long]\nrole_arn={role_a.arn}\nsource_profile=base\nduration_seconds=x\n"
        f"[profile deep]\nrole_arn={role_a.arn}\nsource_profile=long\n"
        f"[profile loop]\nrole_arn={role_a.arn}\nsource_profile=pool\n"
        f"[profile pool]\nrole_arn={role_a.arn}\nsource_profile=loop\n"
    )
    for profile, error in (
        ("gone", InvalidConfigError),
        ("long", ConfigurationError),
        ("deep", ConfigurationError),
        ("loop", InfiniteLoopConfigError),
    ):
        with pytest.raises(error):
            rolevault.install(role_a.arn, session=boto3.Session(profile_name=profile))
        monkeypatch.setenv("AWS_PROFILE", profile)
        with pytest.raises(error):
            call(role_a.arn)
        call(role_a.arn, source_profile="base")
        call(role_a.arn, profile="base")
        monkeypatch.delenv("AWS_PROFILE")
    call(role_a.arn)
    monkeypatch.setenv("AWS_PROFILE", "loop")
    own = boto3.Session(alice.user.access_key_id, alice.user.secret_access_key)
    rolevault.install(role_a.arn, session=own)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    call(role_a.arn)
    with pytest.raises(InfiniteLoopConfigError):
        rolevault.install(role_a.arn, session=boto3.Session(profile_name="loop"))


def test_a_profile_that_a_chain_leaves_out_is_not_judged(
    config: Config, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with a profile that nobody asks is no error, as in botocore."""
    config(f"[default]\nrole_arn={role_a.arn}\nsource_profile=nowhere\n")
    role_a.mfa = False
    session = botocore.session.Session()
    chain = session.get_component("credential_provider")
    chain.remove("assume-role")
    rolevault.install(role_a.arn, session=boto3.Session(botocore_session=session))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    assert account_of(boto3.Session(botocore_session=session)) == "111122223333"


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
    config("[profile 'b c']\n")
    with pytest.raises(ConfigurationError, match=r"in \[profile 'b c'\] of .* nor in \[b c\] of "):
        rolevault.install(profile="b c")
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


@pytest.mark.parametrize(
    "key", ["role_arn", "source_profile", "credential_source", "mfa_serial", "region"]
)
@pytest.mark.parametrize("value", ["", "x"])
def test_keys_that_slipped_into_a_setting_are_not_shown(
    config: Config, role_a: Role, alice: Alice, key: str, value: str
) -> None:
    """Lines that begin with a space belong to the setting above them."""
    role = f"role_arn={role_a.arn}\nsource_profile=base\n"
    slipped = "".join(f"  {line}\n" for line in keys(alice).splitlines())
    config(f"[profile prod]\n{role}".replace(f"\n{key}=", "\nx=") + f"{key}={value}\n{slipped}")
    with pytest.raises(ConfigurationError, match=rf"^{key}=<not shown>: ") as raised:
        rolevault.install(profile="prod")
    for shown in (str(raised.value), repr(raised.value), str(vars(raised.value))):
        assert alice.user.secret_access_key not in shown


@pytest.mark.parametrize("region", ["eu-west-1 # home", "'eu-west-1'", '"eu-west-1"', "eu west"])
@pytest.mark.parametrize("call", [rolevault.install, rolevault.session])
def test_a_profiles_region_is_judged(
    config: Config, role_a: Role, call: Callable[..., boto3.Session], region: str
) -> None:
    """A comment behind the value, quotes, a space: named with file and section."""
    path = config(
        f"[default]\nregion={region}\n[profile p]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"region={region}\n"
    )
    for options, section in (
        ({"profile": "p"}, "profile p"),
        ({"role_arn": role_a.arn}, "default"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(f"[{section}] of")) as caught:
            call(**options)
        assert caught.value.option == "region"
        assert str(path) in str(caught.value) or "~/.aws/config" in str(caught.value)


def test_the_environments_region_is_judged(
    config: Config, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor of Windows leaves a CR in a ``.env``."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1\r")
    with pytest.raises(ConfigurationError, match="the value of AWS_DEFAULT_REGION"):
        rolevault.install(role_a.arn)
