"""
Roles that stand in ``~/.aws/config``: ``install()`` takes them over and changes
nothing else, neither which source credentials are used nor which error is raised.
"""

import hashlib
import json
import logging
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    ConfigParseError,
    CredentialRetrievalError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    PartialCredentialsError,
    ProfileNotFound,
)

import rolevault
from conftest import Alice, Python, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError

Config = Callable[[str], Path]


@pytest.fixture
def config(empty_home: Path, alice: Alice, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Writes ``~/.aws/config``. Alice's keys stand in its profile ``base``, not in
    the environment.
    """
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    def write(text: str) -> Path:
        path = empty_home / ".aws" / "config"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"[profile base]\n{keys(alice)}\n{text}\n")
        return path

    return write


def keys(alice: Alice) -> str:
    return (
        f"aws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\n"
    )


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
    with pytest.raises(ConfigurationError, match="source_profile='nowhere'"):
        rolevault.install(role_a.arn, source_profile="nowhere")


def test_unreadable_configuration_is_botocores_error(config: Config) -> None:
    """What botocore cannot parse raises its own error."""
    config("").write_text("[profile prod\nrole_arn")
    with pytest.raises(ConfigParseError):
        rolevault.install()


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


def test_web_identity_is_left_to_botocore(config: Config, role_a: Role, tmp_path: Path) -> None:
    """A role that is entered with a web identity renews itself without us; as a
    source it is botocore's too.
    """
    config(f"[profile web]\nrole_arn={role_a.arn}\nweb_identity_token_file={tmp_path / 'token'}")
    with pytest.raises(ConfigurationError, match="web identity"):
        rolevault.install(profile="web")
    theirs = boto3.Session(profile_name="web").get_credentials()
    assert theirs is not None
    assert theirs.method == "assume-role-with-web-identity"


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


def test_credential_source_environment(
    config: Config, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Environment``, also where the profile is explicit and its chain has no such
    provider.
    """
    role_a.mfa = False
    config(f"[profile prod]\nrole_arn={role_a.arn}\ncredential_source=Environment\n")
    session = rolevault.session(profile="prod")
    with pytest.raises(CredentialRetrievalError, match="prod"):
        account_of(session)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    assert account_of(rolevault.session(profile="prod")) == "111122223333"


class _Web:
    """A server on loopback that answers what a test says, and counts."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                web.requests.append(path)
                answer = web.answers.get(path)
                body = answer if isinstance(answer, str) else json.dumps(answer)
                self.send_response(404 if answer is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_PUT = do_POST = _serve  # noqa: N815  names of http.server

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def web() -> Iterator[_Web]:
    server = _Web()
    yield server
    server.stop()


def _temporary(sts: LocalSts, alice: Alice, role: Role) -> dict[str, str]:
    """What a machine's endpoint hands out: a session of ``role``."""
    client = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=sts.url,
        aws_access_key_id=alice.user.access_key_id,
        aws_secret_access_key=alice.user.secret_access_key,
    )
    boto3.DEFAULT_SESSION = None
    answer = client.assume_role(RoleArn=role.arn, RoleSessionName="machine")["Credentials"]
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": answer["AccessKeyId"],
        "SecretAccessKey": answer["SecretAccessKey"],
        "Token": answer["SessionToken"],
        "Expiration": (datetime.now(timezone.utc) + timedelta(hours=1)).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        ),
        "LastUpdated": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize("source", ["EcsContainer", "Ec2InstanceMetadata"])
def test_credential_source_of_a_machine(
    config: Config,
    sts: LocalSts,
    alice: Alice,
    web: _Web,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    """Containers and instances: asked on the first miss, and not again while the
    vault serves. A device's serial is not sent for them.
    """
    machine = sts.add_role("Machine", account="999988887777", trusts=[alice.user])
    role = sts.add_role("Deploy", trusts=[machine.arn])
    credentials = _temporary(sts, alice, machine)
    if source == "EcsContainer":
        web.answers["/role"] = credentials
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{web.url}/role")
    else:
        web.answers["/latest/api/token"] = "token"
        web.answers["/latest/meta-data/iam/security-credentials/"] = "Machine"
        web.answers["/latest/meta-data/iam/security-credentials/Machine"] = credentials
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", web.url)
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    config(
        f"[profile prod]\nrole_arn={role.arn}\ncredential_source={source}\n"
        f"mfa_serial={alice.serial}\n"
    )
    rolevault.install(profile="prod", mfa_callback=alice)
    assert web.requests == []
    assert account_of() == "111122223333"
    asked = len(web.requests)
    assert asked > 0
    assert account_of(rolevault.session(profile="prod", mfa_callback=alice)) == "111122223333"
    assert len(web.requests) == asked
    assert alice.requests == []


def test_a_process_as_source_runs_on_a_miss_only(
    config: Config, sts: LocalSts, role_a: Role, alice: Alice, tmp_path: Path
) -> None:
    """A warm start resolves no source: no process runs while the vault serves."""
    log = tmp_path / "runs"
    script = tmp_path / "source.py"
    answer = {
        "Version": 1,
        "AccessKeyId": alice.user.access_key_id,
        "SecretAccessKey": alice.user.secret_access_key,
    }
    script.write_text(f"open({str(log)!r}, 'a').write('run')\nprint({json.dumps(answer)!r})\n")
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=tool\nmfa_serial={alice.serial}\n"
        f"[profile tool]\ncredential_process={shlex.join([sys.executable, '-I', str(script)])}\n"
    )
    rolevault.install(profile="prod", mfa_callback=alice)
    boto3.client("s3", region_name="eu-west-1")
    assert not log.exists()
    assert account_of() == "111122223333"
    assert log.read_text() == "run"
    assert account_of(rolevault.session(profile="prod", mfa_callback=alice)) == "111122223333"
    assert log.read_text() == "run"
    assert sts.count("AssumeRole") == 1


def test_a_process_that_fails_is_botocores_error(config: Config, role_a: Role) -> None:
    """botocore's own error, at the signature that needs the source."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=tool\n"
        f"[profile tool]\ncredential_process={sys.executable} -c 'raise SystemExit(3)'\n"
    )
    rolevault.install(profile="prod")
    with pytest.raises(CredentialRetrievalError, match="custom-process"):
        account_of()


def test_a_source_without_credentials_is_botocores_error(
    config: Config, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source profile that holds nothing; neither the environment's keys and web
    identity nor the machine's role answer for it.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    monkeypatch.setenv("AWS_ROLE_ARN", role_a.arn)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=empty\n"
        "[profile empty]\nregion=eu-west-1\n"
        f"[profile half]\nrole_arn={role_a.arn}\nsource_profile=partial\n"
        "[profile partial]\naws_access_key_id=AKIAEXAMPLE\n"
    )
    with pytest.raises(InvalidConfigError, match='"empty" must have credentials'):
        account_of(rolevault.session(profile="prod"))
    with pytest.raises(PartialCredentialsError):
        account_of(rolevault.session(profile="half"))


def test_sso_as_source(
    config: Config,
    sts: LocalSts,
    alice: Alice,
    web: _Web,
    python: Python,
    empty_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SSO's cached token buys the source credentials, once; they are a role's, so no
    device is asked for.
    """
    machine = sts.add_role("Sso", account="999988887777", trusts=[alice.user])
    role = sts.add_role("Deploy", trusts=[machine.arn])
    found = _temporary(sts, alice, machine)
    web.answers["/federation/credentials"] = {
        "roleCredentials": {
            "accessKeyId": found["AccessKeyId"],
            "secretAccessKey": found["SecretAccessKey"],
            "sessionToken": found["Token"],
            "expiration": int((datetime.now(timezone.utc).timestamp() + 3600) * 1000),
        }
    }
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", web.url)
    start = "https://example.awsapps.com/start"
    cache = empty_home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    name = hashlib.sha1(start.encode(), usedforsecurity=False).hexdigest()
    later = (datetime.now(timezone.utc) + timedelta(hours=4)).strftime("%Y-%m-%dT%H:%M:%SZ")
    token = {"startUrl": start, "region": "eu-west-1", "accessToken": "t", "expiresAt": later}
    (cache / f"{name}.json").write_text(json.dumps(token))
    config(
        f"[profile prod]\nrole_arn={role.arn}\nsource_profile=sso\nmfa_serial={alice.serial}\n"
        f"[profile sso]\nsso_start_url={start}\nsso_region=eu-west-1\n"
        "sso_account_id=999988887777\nsso_role_name=Sso\n"
    )
    script = (
        "import rolevault, conftest\n"
        "for _ in range(2):\n"
        "    print(conftest.account_of(rolevault.session(profile='prod')))\n"
    )
    # Another process: botocore looks where the token is when it is imported.
    output, errors = python(script).communicate(timeout=60)
    assert output.split() == ["111122223333"] * 2, errors
    assert web.requests == ["/federation/credentials"]
    assert sts.count("GetSessionToken") == 0


def key_of(**options: Any) -> str:
    credentials: Any = rolevault.session(**options).get_credentials()
    return str(credentials.fetcher.key)


def test_two_people_and_two_sources_never_share(
    config: Config, sts: LocalSts, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One role, many ways to enter it: an entry each. botocore's own key leaves out
    who is asking.
    """
    bob = sts.add_user("bob")
    sso = "sso_start_url=https://{0}.example/start\nsso_region=eu-west-1\nsso_account_id=9\n"
    sources = {
        "bob": f"aws_access_key_id={bob.access_key_id}\naws_secret_access_key=x\n",
        "process": "credential_process=tool one\n",
        "process2": "credential_process=tool two\n",
        "sso": sso.format("one") + "sso_role_name=R\n",
        "sso2": sso.format("two") + "sso_role_name=R\n",
        "sso3": sso.format("one") + "sso_role_name=S\n",
        "new": "sso_session=s\nsso_account_id=9\nsso_role_name=R\n",
        "login": "login_session=arn:aws:sts::999988887777:assumed-role/Admin/alice\n",
        "web": f"role_arn={role_a.arn}\nweb_identity_token_file=/t\n",
        "hop": f"role_arn={role_a.arn}\nsource_profile=base\n",
        "process3": f"credential_process=tool one\n{keys(alice)}",
    }
    text = "[sso-session s]\nsso_start_url=https://three.example/start\nsso_region=eu-west-1\n"
    for name, source in {**sources, "base2": keys(alice)}.items():
        text += f"[profile {name}]\n{source}"
        text += f"[profile by-{name}]\nrole_arn={role_a.arn}\nsource_profile={name}\n"
    text += f"[profile by-base]\nrole_arn={role_a.arn}\nsource_profile=base\n"
    for each in ("Environment", "EcsContainer", "Ec2InstanceMetadata"):
        text += f"[profile by-{each}]\nrole_arn={role_a.arn}\ncredential_source={each}\n"
    config(text)
    found = {name: key_of(profile=f"by-{name}") for name in (*sources, "base")}
    found |= {
        each: key_of(profile=f"by-{each}") for each in ("EcsContainer", "Ec2InstanceMetadata")
    }
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/x")
    found["EcsContainer2"] = key_of(profile="by-EcsContainer")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/")
    found["Ec2InstanceMetadata2"] = key_of(profile="by-Ec2InstanceMetadata")
    assert len(set(found.values())) == len(found), found
    # The same keys are the same person, wherever they stand.
    assert key_of(profile="by-base2") == found["base"]
    assert key_of(role_arn=role_a.arn, source_profile="base") == found["base"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    assert key_of(profile="by-Environment") == found["base"]
    assert key_of(role_arn=role_a.arn) == found["base"]
    assert sts.calls == []


def test_a_role_from_a_role_profile_is_not_one_from_its_keys(
    config: Config, role_a: Role, role_b: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit role entered from the environment's profile: whether that is a
    role with keys beside it, or the keys, tells two entries.
    """
    config(
        f"[profile self]\nrole_arn={role_b.arn}\nsource_profile=self\n{keys(alice)}"
        f"[profile plain]\n{keys(alice)}"
    )
    found = []
    for profile in ("self", "plain"):
        monkeypatch.setenv("AWS_PROFILE", profile)
        found.append(key_of(role_arn=role_a.arn))
    assert found[0] != found[1]
