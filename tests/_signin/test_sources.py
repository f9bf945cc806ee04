"""Where source credentials come from: every source that botocore knows. A source is asked when the
vault holds no session of the role, and botocore's errors pass unchanged. ``test_login.py`` has
``aws login``.
"""

import hashlib
import json
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import botocore.credentials
import botocore.session
import pytest
import time_machine
from botocore.credentials import CredentialProvider, CredentialResolver
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    InvalidConfigError,
    PartialCredentialsError,
)

import rolevault
from conftest import Alice, Config, Python, Web, account_of, keys, later
from local_iam import Role
from local_sts import LocalSts

HOME, A = "999988887777", "111122223333"
SERIAL = f"arn:aws:iam::{HOME}:mfa/alice"


def _temporary(sts: LocalSts, role: Role) -> dict[str, str | None]:
    """A session of ``role``, as the endpoint of a machine or a container gives it."""
    key = sts.issue(role, role.arn, role.role_id, 3600, None)
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "Token": key.session_token,
        "Expiration": later(hours=1),
        "LastUpdated": "2026-01-01T00:00:00Z",
    }


def test_credential_source_environment(
    config: Config, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Environment`` works, even if the profile is explicit and its chain has no provider for the
    environment.
    """
    role_a.mfa = False
    config(f"[profile prod]\nrole_arn={role_a.arn}\ncredential_source=Environment\n")
    session = rolevault.session(profile="prod")
    with pytest.raises(CredentialRetrievalError, match="prod"):
        account_of(session)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    assert account_of(rolevault.session(profile="prod")) == A


@pytest.mark.parametrize("source", ["EcsContainer", "Ec2InstanceMetadata"])
def test_credential_source_of_a_machine(
    config: Config,
    sts: LocalSts,
    alice: Alice,
    web: Web,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    """A container or an instance is asked when the vault has no session, with the settings of the
    boto3 session. Its credentials are a role's, so nobody is asked for a code.
    """
    machine = sts.add_role("Machine", account=HOME, trusts=[alice.user])
    role = sts.add_role("Deploy", trusts=[machine.arn])
    credentials = _temporary(sts, machine)
    if source == "EcsContainer":
        web.answers["/role"] = credentials
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{web.url}/role")
    else:
        web.answers["/latest/api/token"] = "token"
        web.answers["/latest/meta-data/iam/security-credentials/"] = "Machine"
        web.answers["/latest/meta-data/iam/security-credentials/Machine"] = credentials
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    config(
        f"[profile prod]\nrole_arn={role.arn}\ncredential_source={source}\n"
        f"mfa_serial={alice.serial}\nec2_metadata_service_endpoint={web.url}\n"
    )
    rolevault.install(profile="prod", mfa_callback=alice)
    assert web.requests == []
    assert account_of() == A
    asked = len(web.requests)
    assert asked > 0
    assert account_of(rolevault.session(profile="prod", mfa_callback=alice)) == A
    assert len(web.requests) == asked
    role.mfa = True
    with pytest.raises(ClientError, match="AccessDenied"):
        rolevault.ensure(refresh=True)
    assert alice.requests == []


def test_a_named_profile_without_credentials_goes_on_to_the_container(
    config: Config, sts: LocalSts, role_a: Role, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is as in botocore. In a session of another profile the container is not asked."""
    machine = sts.add_role("Machine", account=HOME, trusts=["*"])
    role_a.mfa, role_a.trusts = False, [machine.arn]
    web.answers["/role"] = _temporary(sts, machine)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{web.url}/role")
    config("[profile empty]\nregion=eu-west-1\n[profile other]\nregion=eu-west-1\n")
    assert account_of(boto3.Session(profile_name="empty")) == HOME
    assert account_of(rolevault.session(role_a.arn, profile="empty")) == A
    asked = len(web.requests)
    other = boto3.Session(profile_name="other")
    rolevault.install(role_a.arn, profile="empty", session=other)
    with pytest.raises(InvalidConfigError, match='"empty" must have credentials'):
        account_of(other)
    assert len(web.requests) == asked


def test_a_process_as_source_runs_on_a_miss_only(
    config: Config, sts: LocalSts, role_a: Role, alice: Alice, tmp_path: Path
) -> None:
    """No process runs while the vault holds a session of the role."""
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
    assert account_of() == A
    assert log.read_text() == "run"
    assert account_of(rolevault.session(profile="prod", mfa_callback=alice)) == A
    assert log.read_text() == "run"
    assert sts.count("AssumeRole") == 1


def test_a_process_is_run_again_when_its_credentials_end(
    config: Config, sts: LocalSts, role_a: Role, tmp_path: Path, clock: time_machine.Traveller
) -> None:
    """botocore renews the source credentials, for as long as the script runs."""
    machine = sts.add_role("Machine", account=HOME, trusts=["*"])
    role_a.mfa, role_a.trusts = False, [machine.arn]
    answer = tmp_path / "answer"
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=tool\n"
        f"[profile tool]\ncredential_process=cat {answer}\n"
    )
    session = rolevault.session(profile="prod")
    for _ in range(2):
        found = _temporary(sts, machine)
        answer.write_text(json.dumps({**found, "Version": 1, "SessionToken": found["Token"]}))
        assert account_of(session) == A
        clock.shift(7200)


def test_a_process_that_fails_is_botocores_error(config: Config, role_a: Role) -> None:
    """botocore's own error is raised at the signature that needs the source."""
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
    """If a source profile holds no credentials, neither the environment nor the machine is asked in
    its place.
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


@pytest.mark.parametrize("sso_session", [None, "corp"])
def test_sso_as_source(
    sso_session: str | None,
    config: Config,
    sts: LocalSts,
    alice: Alice,
    web: Web,
    python: Python,
    empty_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The source credentials are got with SSO's cached token, once. They are a role's, so nobody is
    asked for a code. Both forms of an SSO profile work.
    """
    machine = sts.add_role("Sso", account=HOME, trusts=[alice.user])
    role = sts.add_role("Deploy", trusts=[machine.arn])
    strict = sts.add_role("Strict", trusts=[machine.arn], mfa=True)
    found = _temporary(sts, machine)
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
    portal = f"sso_start_url={start}\nsso_region=eu-west-1"
    cache = empty_home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    name = hashlib.sha1((sso_session or start).encode(), usedforsecurity=False).hexdigest()
    token = {"startUrl": start, "region": "eu-west-1", "accessToken": "t"}
    (cache / f"{name}.json").write_text(json.dumps({**token, "expiresAt": later(hours=4)}))
    config(
        f"[profile prod]\nrole_arn={role.arn}\nsource_profile=sso\nmfa_serial={alice.serial}\n"
        "[profile sso]\nsso_account_id=999988887777\nsso_role_name=Sso\n"
        f"{f'sso_session={sso_session}' if sso_session else portal}\n"
        f"[profile strict]\nrole_arn={strict.arn}\nsource_profile=sso\nmfa_serial={SERIAL}\n"
        f"[sso-session corp]\n{portal}\n"
    )
    script = (
        "import rolevault, conftest\n"
        "for profile in ('prod', 'prod', 'strict'):\n"
        "    try:\n"
        "        print(conftest.account_of(rolevault.session(profile=profile)))\n"
        "    except Exception as error:\n"
        "        print(str(error).split(' when ')[0])\n"
    )
    # Another process: botocore looks where the token is when it is imported.
    output, errors = python(script).communicate(timeout=60)
    assert output.splitlines() == [A, A, "An error occurred (AccessDenied)"], errors
    assert web.requests == ["/federation/credentials"] * 2
    assert sts.count("GetSessionToken") == 0


def key_of(**options: Any) -> str:
    credentials: Any = rolevault.session(**options).get_credentials()
    return str(credentials.renewal.fetcher.key)


def test_two_people_and_two_sources_never_share(
    config: Config, sts: LocalSts, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way to enter a role has its own entry. botocore's cache key leaves out whose source
    credentials are used.
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
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "https://elsewhere.example")
    found["base-elsewhere"] = key_of(profile="by-base")
    assert len(set(found.values())) == len(found), found
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    # The same keys are the same person, wherever they stand.
    assert key_of(profile="by-base2") == found["base"]
    assert key_of(role_arn=role_a.arn, source_profile="base") == found["base"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", alice.user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", alice.user.secret_access_key)
    assert key_of(profile="by-Environment") == found["base"]
    assert key_of(role_arn=role_a.arn) == found["base"]
    assert sts.calls == []


def test_people_without_a_profile_never_share(
    empty_home: Path, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources that botocore asks after every profile have entries of their own, too: a
    container's address and token, and the files of boto 2.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    found = [key_of(role_arn=role_a.arn)]
    for person in ("one", "two"):
        old, boto = empty_home / f"{person}.ec2", empty_home / f"{person}.boto"
        old.write_text(f"AWSAccessKeyId={person}\nAWSSecretKey=x\n")
        boto.write_text(f"[Credentials]\naws_access_key_id={person}\naws_secret_access_key=x\n")
        for name, value in [
            ("AWS_CREDENTIAL_FILE", str(old)),
            ("BOTO_CONFIG", str(boto)),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", person),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", f"/{person}"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1/{person}"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", person),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", person),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1/{person}"),
        ]:
            with monkeypatch.context() as there:
                there.setenv(name, value)
                found.append(key_of(role_arn=role_a.arn))
    assert len(set(found)) == len(found)
    # A file that nobody asks may be missing or broken.
    broken = empty_home / "broken"
    for name in ("AWS_CREDENTIAL_FILE", "BOTO_CONFIG"):
        for content in (None, b"\xff\xfe=\n", b"AWSAccessKeyId=x\n", b"[Credentials\n", b"x\n"):
            broken.unlink(missing_ok=True)
            if content is not None:
                broken.write_bytes(content)
            with monkeypatch.context() as there:
                there.setenv(name, str(broken))
                assert key_of(role_arn=role_a.arn) == found[0]
    broken.write_text("[Credentials]\naws_access_key_id=x\n")
    monkeypatch.setenv("BOTO_CONFIG", str(broken))
    assert key_of(role_arn=role_a.arn) == found[0]


def test_people_behind_a_resolver_never_share(
    empty_home: Path, sts: LocalSts, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for all that somebody's own resolver may ask, of which we see nothing."""

    class Logged(CredentialResolver):
        def load_credentials(self) -> Any:
            return super().load_credentials()

    def key() -> str:
        inner = botocore.session.Session()
        chain = botocore.credentials.create_credential_resolver(inner)
        inner.register_component("credential_provider", Logged(chain.providers))
        session = boto3.Session(botocore_session=inner)
        rolevault.install(role_a.arn, session=session)
        credentials: Any = session.get_credentials()
        return str(credentials.renewal.fetcher.key)

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = [key()]
    for person in ("one", "two"):
        old = empty_home / f"{person}.ec2"
        old.write_text(f"AWSAccessKeyId={person}\nAWSSecretKey=x\n")
        for name, value in [
            ("AWS_ACCESS_KEY_ID", person),
            ("AWS_ROLE_ARN", person),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", person),
            ("AWS_CREDENTIAL_FILE", str(old)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", person),
        ]:
            with monkeypatch.context() as there:
                there.setenv(name, value)
                found.append(key())
    assert len(set(found)) == len(found)
    assert sts.calls == []


@pytest.mark.parametrize("hop", [False, True])
def test_a_strangers_provider_hides_nobody(
    config: Config, sts: LocalSts, role_a: Role, role_b: Role, alice: Alice, hop: bool
) -> None:
    """A provider that somebody has added may find nothing. Then the profile tells two people
    apart.
    """

    class Stranger(CredentialProvider):
        METHOD, CANONICAL_NAME = "custom-stranger", "customStranger"

        def load(self) -> None:
            return None

    bob = sts.add_user("bob")
    bobs = f"aws_access_key_id={bob.access_key_id}\naws_secret_access_key=x\n"
    role = f"role_arn={role_b.arn}\n"
    config(
        f"[profile one]\n{keys(alice)}[profile two]\n{bobs}"
        f"[profile one-hop]\n{role}source_profile=one\n"
        f"[profile two-hop]\n{role}source_profile=two\n"
    )
    found = set()
    for name in ("one", "two"):
        session = boto3.Session(profile_name=f"{name}-hop" if hop else name)
        chain: Any = session._session.get_component("credential_provider")
        chain.providers.insert(0, Stranger())
        rolevault.install(role_a.arn, session=session)
        credentials: Any = session.get_credentials()
        found.add(credentials.renewal.fetcher.key)
    assert len(found) == 2


def test_a_role_from_a_role_profile_is_not_one_from_its_keys(
    config: Config, role_a: Role, role_b: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that is entered from a profile with a role and keys is another entry than a role that
    is entered from a profile with the same keys alone.
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
