"""Source keys that STS refuses are read anew, once: tools rewrite ``~/.aws/credentials`` while a
script runs.
"""

import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import rolevault
from conftest import Alice, Config, account_of, key_of
from local_iam import Key, User
from local_sts import LocalSts, Revocation, Role
from rolevault import Vault

A = "111122223333"

Rewrite = Callable[[User], Key]


def temporary(sts: LocalSts, user: User) -> Key:
    """A session of the user's, as a tool writes it into the file."""
    return sts.issue(user, user.arn, "ID", 3600, None)


def lines(key: Key) -> str:
    return (
        f"aws_access_key_id={key.access_key_id}\naws_secret_access_key={key.secret_access_key}\n"
        + (f"aws_session_token={key.session_token}\n" if key.session_token else "")
    )


@pytest.fixture
def credentials_file(config: Config, empty_home: Path) -> Path:
    config("")
    return empty_home / ".aws" / "credentials"


@pytest.fixture
def role(sts: LocalSts, alice: Alice) -> Role:
    return sts.add_role("Deploy", account=A, trusts=[alice.user])


@pytest.fixture
def rewrite(sts: LocalSts, alice: Alice, credentials_file: Path) -> Rewrite:
    """Writes another session of the user's into the file, under ``default`` and ``tool``."""

    def write(user: User) -> Key:
        key = temporary(sts, user)
        credentials_file.write_text(f"[default]\n{lines(key)}[tool]\n{lines(key)}")
        return key

    return write


@pytest.mark.parametrize("how", ["expired", "invalid"])
@pytest.mark.parametrize("options", [{}, {"source_profile": "tool"}])
def test_a_file_that_was_rewritten_is_read_anew(
    sts: LocalSts, alice: Alice, role: Role, rewrite: Rewrite, how: Revocation, options: Any
) -> None:
    """From the session's chain, and from a source profile: the script lives on."""
    old = rewrite(alice.user)
    session = rolevault.session(role.arn, **options)
    assert account_of(session) == A
    rewrite(alice.user)
    sts.revoke(how, old.access_key_id)
    rolevault.ensure(session, refresh=True)
    assert account_of(session) == A
    assert [call.outcome for call in sts.calls if call.action == "AssumeRole"] == [
        "OK",
        {"expired": "ExpiredToken", "invalid": "InvalidClientTokenId"}[how],
        "OK",
    ]


def test_keys_that_are_still_the_same_are_tried_once(
    sts: LocalSts, alice: Alice, role: Role, rewrite: Rewrite
) -> None:
    """No loop: STS's error remains, and its text says where the keys come from."""
    old = rewrite(alice.user)
    session = rolevault.session(role.arn, source_profile="tool")
    sts.revoke("expired", old.access_key_id)
    with pytest.raises(ClientError, match="ExpiredToken") as caught:
        account_of(session)
    assert "source profile tool (shared-credentials-file)" in str(caught.value)
    assert caught.value.response["Error"]["Message"] == (
        "The security token included in the request is expired"
    )
    assert sts.count("AssumeRole") == 1


def test_keys_that_are_refused_again_are_not_read_a_third_time(
    sts: LocalSts, alice: Alice, role: Role, rewrite: Rewrite
) -> None:
    """The file has others, which STS does not know either."""
    old = rewrite(alice.user)
    session = rolevault.session(role.arn)
    account_of(session)
    new = rewrite(alice.user)
    for key in (old, new):
        sts.revoke("expired", key.access_key_id)
    with pytest.raises(ClientError, match=r"profile default \(shared-credentials-file\)"):
        rolevault.ensure(session, refresh=True)
    assert sts.count("AssumeRole", "ExpiredToken") <= 3


@pytest.mark.parametrize("when", ["before the first sign-in", "after it"])
def test_another_persons_keys_get_an_entry_of_their_own(
    sts: LocalSts, alice: Alice, rewrite: Rewrite, when: str
) -> None:
    """The file holds another person's keys by now. What they enter is stored as theirs."""
    bob = sts.add_user("bob")
    role = sts.add_role("Deploy", account=A, trusts=[alice.user, bob])
    old = rewrite(alice.user)
    session = rolevault.session(role.arn, source_profile="tool")
    credentials: Any = session.get_credentials()
    first = credentials.renewal.fetcher.key
    if when == "after it":
        account_of(session)
        Vault().pop(first)
    sts.revoke("expired", old.access_key_id)
    rewrite(bob)
    rolevault.ensure(session, refresh=True)
    assert credentials.renewal.fetcher.key != first
    theirs: Any = rolevault.session(role.arn, source_profile="tool").get_credentials()
    assert theirs.renewal.fetcher.key == credentials.renewal.fetcher.key
    assert first not in Vault()


def test_a_key_pair_that_was_rotated_costs_another_code(
    sts: LocalSts, alice: Alice, credentials_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With long-term keys the refusal comes from GetSessionToken. STS has not looked at the
    code, so a command may print the same one again.
    """
    role = sts.add_role("Deploy", account=A, trusts=[alice.user], mfa=True)
    old = sts.issue(alice.user, alice.user.arn, "ID", None, None)
    credentials_file.write_text(f"[default]\n{lines(old)}")
    code = alice.device.next_code()
    asked: list[str] = []

    def same(request: Any) -> str:
        asked.append(request.last_error)
        return code

    session = rolevault.session(role.arn, mfa_serial=alice.serial, mfa_callback=same)
    session.client("sts", region_name="eu-west-1")
    credentials: Any = session.get_credentials()
    credentials.renewal.fetcher._source.keys(ask=False)
    new = sts.issue(alice.user, alice.user.arn, "ID", None, None)
    credentials_file.write_text(f"[default]\n{lines(new)}")
    sts.revoke("invalid", old.access_key_id)
    assert account_of(session) == A
    assert asked == [None, None]


def test_a_process_that_the_file_names_by_now_is_run(
    sts: LocalSts, alice: Alice, role: Role, config: Config, tmp_path: Path
) -> None:
    """botocore reads ``~/.aws/config`` once a session. What it says now counts."""

    def tool(name: str, key: Key) -> str:
        answer = {
            "Version": 1,
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret_access_key,
            "SessionToken": key.session_token,
        }
        script = tmp_path / name
        script.write_text(f"import json; print(json.dumps({answer!r}))\n")
        return f"credential_process={shlex.join([sys.executable, '-I', str(script)])}\n"

    old, new = temporary(sts, alice.user), temporary(sts, alice.user)
    config(f"[profile tool]\n{tool('old.py', old)}")
    session = rolevault.session(role.arn, source_profile="tool")
    assert account_of(session) == A
    config(f"[profile tool]\n{tool('new.py', new)}")
    sts.revoke("expired", old.access_key_id)
    rolevault.ensure(session, refresh=True)
    assert sts.calls[-1].access_key_id == new.access_key_id


def test_keys_that_a_script_holds_are_not_read_anew(
    sts: LocalSts, alice: Alice, role: Role
) -> None:
    """They are in no file. The error says whose they are."""
    key = temporary(sts, alice.user)
    mine = boto3.Session(key.access_key_id, key.secret_access_key, key.session_token)
    session = rolevault.session(role.arn, source_session=mine)
    sts.revoke("invalid", key.access_key_id)
    with pytest.raises(ClientError, match="session passed as source_session"):
        key_of(session)
    assert sts.count("AssumeRole") == 1


def test_keys_of_the_environment_are_read_anew(
    sts: LocalSts, alice: Alice, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook sets ``os.environ`` to new keys."""

    def export(key: Key) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret_access_key)
        monkeypatch.setenv("AWS_SESSION_TOKEN", str(key.session_token))

    old = temporary(sts, alice.user)
    export(old)
    session = rolevault.session(role.arn)
    assert account_of(session) == A
    sts.revoke("expired", old.access_key_id)
    with pytest.raises(ClientError, match=r"the environment \(AWS_ACCESS_KEY_ID"):
        rolevault.ensure(session, refresh=True)
    export(temporary(sts, alice.user))
    rolevault.ensure(session, refresh=True)
    assert account_of(session) == A


def test_a_file_that_cannot_be_read_now_leaves_stss_error(
    sts: LocalSts, alice: Alice, role: Role, rewrite: Rewrite, credentials_file: Path
) -> None:
    """A tool is in the middle of a rewrite: the refusal is what counts."""
    old = rewrite(alice.user)
    session = rolevault.session(role.arn)
    account_of(session)
    sts.revoke("expired", old.access_key_id)
    credentials_file.write_text("[default\n")
    with pytest.raises(ClientError, match="ExpiredToken"):
        rolevault.ensure(session, refresh=True)


# What a user of aws-vault misses


@pytest.mark.parametrize(
    ("text", "holder", "remedy"),
    [
        ("source_profile=user", "user", "to profile prod"),
        ("source_profile=base\ninclude_profile=user", "user", "to profile prod"),
        ("source_profile=base\ninclude_profile=team", "user", "to profile prod"),
    ],
)
def test_a_denial_names_the_profile_with_the_device(
    sts: LocalSts,
    alice: Alice,
    config: Config,
    caplog: pytest.LogCaptureFixture,
    text: str,
    holder: str,
    remedy: str,
) -> None:
    """aws-vault inherits ``mfa_serial``, botocore does not: the log says what to add."""
    role = sts.add_role("Deploy", account=A, trusts=[alice.user], mfa=True)
    config(
        f"[profile user]\nmfa_serial={alice.serial}\naws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\n"
        "[profile team]\ninclude_profile=user\n"
        f"[profile prod]\nrole_arn={role.arn}\n{text}\n"
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        account_of(rolevault.session(profile="prod", mfa_callback=alice))
    (warning,) = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert f"Profile {holder} has an mfa_serial" in warning
    assert f'add "mfa_serial = {alice.serial}" {remedy}' in warning
    assert role.arn in warning
    assert alice.requests == []


def test_a_denial_of_a_role_by_its_arn_says_what_to_pass(
    sts: LocalSts, alice: Alice, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no profile to add it to."""
    role = sts.add_role("Deploy", account=A, trusts=[alice.user], mfa=True)
    config(f"[profile user]\nmfa_serial={alice.serial}\nsource_profile=user\n")
    Path("~/.aws/credentials").expanduser().write_text(
        f"[user]\naws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\n"
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        account_of(rolevault.session(role.arn, source_profile="user"))
    assert f"demands MFA, pass mfa_serial='{alice.serial}'." in caplog.text


@pytest.mark.parametrize("what", ["no device", "a loop", "no name", "a role as source"])
def test_a_denial_that_no_device_explains_is_not_explained(
    sts: LocalSts, alice: Alice, config: Config, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """No profile has a device, or no code could work with a role's credentials."""
    mid = sts.add_role("Mid", trusts=[alice.user], mfa=True)
    role = sts.add_role("Deploy", account=A, trusts=["arn:aws:iam::999988887777:user/bob"])
    text = {
        "no device": "source_profile=base\n",
        "a loop": "source_profile=base\ninclude_profile=prod\n",
        "no name": "source_profile=base\ninclude_profile=\n  a=b\n",
        "a role as source": "source_profile=mid\n",
    }[what]
    config(
        f"[profile mid]\nrole_arn={mid.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
        f"[profile prod]\nrole_arn={role.arn}\n{text}"
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        account_of(rolevault.session(profile="prod", mfa_callback=alice))
    assert "has an mfa_serial" not in caplog.text
