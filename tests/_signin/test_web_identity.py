"""Source credentials that are got with a web identity, from a profile or the environment. A local
provider signs the tokens.
"""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError

import rolevault
from conftest import Alice, Config, account_of
from local_iam import Role
from local_oidc import IdentityProvider
from local_sts import LocalSts
from rolevault import ConfigurationError

HOME, A = "999988887777", "111122223333"
SERIAL = f"arn:aws:iam::{HOME}:mfa/alice"


@pytest.fixture
def provider(sts: LocalSts) -> IdentityProvider:
    return sts.add_identity_provider(account=HOME)


@pytest.fixture
def token_file(tmp_path: Path, provider: IdentityProvider) -> Path:
    path = tmp_path / "token"
    path.write_text(provider.token())
    return path


@pytest.fixture
def pod(sts: LocalSts, provider: IdentityProvider) -> Role:
    return sts.add_role("Pod", account=HOME, trusts=[provider.arn])


@pytest.fixture
def deploy(sts: LocalSts, config: Config, pod: Role, token_file: Path) -> Role:
    """The role of the profile ``prod``. It is entered from ``web``, the role of a web identity."""
    role = sts.add_role("Deploy", account=A, trusts=[pod])
    config(
        f"[profile web]\nrole_arn={pod.arn}\nweb_identity_token_file={token_file}\n"
        f"[profile prod]\nrole_arn={role.arn}\nsource_profile=web\nmfa_serial={SERIAL}\n"
    )
    return role


@pytest.mark.parametrize("where", ["profile", "environment"])
def test_web_identity_as_source(
    sts: LocalSts,
    alice: Alice,
    pod: Role,
    deploy: Role,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """The source credentials are a role's, so STS is told of no MFA device. While the vault holds a
    session, no token is read and nothing is called.
    """
    options: dict[str, Any] = {"profile": "prod", "mfa_callback": alice}
    if where == "environment":
        monkeypatch.setenv("AWS_ROLE_ARN", pod.arn)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token_file))
        options = {"role_arn": deploy.arn, "mfa_serial": SERIAL, "mfa_callback": alice}
    session = rolevault.session(**options)
    assert account_of(session) == A
    calls = ["AssumeRoleWithWebIdentity", "AssumeRole", "GetCallerIdentity"]
    assert [each.action for each in sts.calls] == calls
    token_file.unlink()
    warm: Any = rolevault.session(**options).get_credentials()
    assert warm.get_frozen_credentials().token == sts.sessions[-1].session_token
    assert len(sts.calls) == 3
    deploy.mfa = True
    with pytest.raises(ClientError, match="AccessDenied"):
        rolevault.ensure(session, refresh=True)
    assert not any("SerialNumber" in each.params for each in sts.calls)
    assert alice.requests == []


def test_a_named_profile_leaves_the_environments_web_identity_out(
    config: Config,
    sts: LocalSts,
    alice: Alice,
    pod: Role,
    deploy: Role,
    token_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in botocore, the profile's user enters the role, in every session that gets the role, and
    there is one entry.
    """
    deploy.trusts = ["*"]
    config("")
    monkeypatch.setenv("AWS_ROLE_ARN", pod.arn)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("AWS_PROFILE", "base")
    theirs: Any = boto3.Session(profile_name="base").get_credentials()
    assert theirs.access_key == alice.user.access_key_id
    for session in (boto3.Session(), None, boto3.Session(profile_name="base")):
        assert account_of(rolevault.install(deploy.arn, profile="base", session=session)) == A
    assert sts.count("AssumeRole") == 1
    assert sts.count("AssumeRoleWithWebIdentity") == 0


def test_a_web_identity_is_shown_in_the_first_clients_region(
    deploy: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is botocore's choice if the session has no region. Clients that are made later do not
    change it.
    """
    for name in ("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_STS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "regional")
    asked: list[str] = []

    def stop(request: Any, **event: Any) -> None:
        asked.append(request.url)
        raise ConnectionError

    for session in (boto3.Session(profile_name="web"), rolevault.session(profile="prod")):
        session.events.register("before-send.sts", stop)
        first = session.client("sts", region_name="eu-west-1")
        session.client("s3", region_name="cn-north-1")
        with pytest.raises(ConnectionError):
            first.get_caller_identity()
    assert asked == ["https://sts.eu-west-1.amazonaws.com/"] * 2


def test_web_identity_is_read_anew(
    sts: LocalSts,
    provider: IdentityProvider,
    deploy: Role,
    token_file: Path,
    clock: time_machine.Traveller,
) -> None:
    """The token file is replaced before the token expires. The script signs on with the new
    token.
    """
    token_file.write_text(provider.token())
    session = rolevault.session(profile="prod")
    assert account_of(session) == A
    clock.shift(2 * 3600)
    token_file.write_text(provider.token())
    assert account_of(session) == A
    assert sts.count("AssumeRoleWithWebIdentity", "OK") == 2


@pytest.mark.parametrize(
    ("claims", "code"),
    [({"seconds": -1}, "ExpiredTokenException"), ({"aud": "x"}, "InvalidIdentityToken")],
)
def test_a_bad_web_identity_is_stss_error(
    provider: IdentityProvider, deploy: Role, token_file: Path, claims: dict[str, Any], code: str
) -> None:
    """STS's error is the same as for botocore's own credentials."""
    token_file.write_text(provider.token(**claims))
    told = []
    for session in (boto3.Session(profile_name="web"), rolevault.session(profile="prod")):
        with pytest.raises(ClientError) as raised:
            account_of(session)
        told.append((type(raised.value).__name__, re.sub(r"\d{10}", "", str(raised.value))))
    assert told[0] == told[1]
    assert f"({code}) when calling the AssumeRoleWithWebIdentity" in told[0][1]


def test_web_identity_alone_is_botocores(
    sts: LocalSts, deploy: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore enters and renews the role of a web identity itself. Its profile signs with
    botocore's credentials, whatever role is installed for other sessions.
    """
    with pytest.raises(ConfigurationError, match="web identity"):
        rolevault.install(profile="web")
    rolevault.install(deploy.arn, all_sessions=True)
    theirs = boto3.Session(profile_name="web")
    assert account_of(theirs) == HOME
    credentials: Any = theirs.get_credentials()
    assert credentials.method == "assume-role-with-web-identity"
    assert sts.count("AssumeRole") == 0
    # A profile of the environment is the source of the role that is installed.
    monkeypatch.setenv("AWS_PROFILE", "web")
    assert account_of(boto3.Session()) == A
    rolevault.uninstall()
    assert account_of(boto3.Session()) == HOME
