"""``aws login`` as a source of credentials: botocore reads its token, and AWS Sign-In renews it.
The credentials belong to a user and last for a quarter of an hour.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import boto3
import botocore.credentials
import botocore.exceptions
import pytest
import time_machine
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import rolevault
from aws_wire import Answer, Request
from conftest import Alice, Config, Web, account_of, later
from local_iam import Role, User
from local_oidc import decode, public_key
from local_sts import LocalSts

A = "111122223333"


class SignIn:
    """AWS Sign-In: the token that ``aws login`` writes, and its renewal. A refresh token is
    accepted once, and only with a proof of the token's key (RFC 9449).
    """

    def __init__(self, sts: LocalSts, who: User | Role, arn: str, url: str) -> None:
        self._sts, self._who, self._arn, self._url = sts, who, arn, url
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ended = False
        self.renewals = 0
        name = hashlib.sha256(arn.encode()).hexdigest()
        self.file = Path("~/.aws/login/cache", f"{name}.json").expanduser()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        token = {
            "accessToken": {
                **self._access_token(),
                "accountId": who.account,
                "expiresAt": later(minutes=15),
            },
            "tokenType": "aws_sigv4",
            "clientId": "arn:aws:signin:::devtools/same-device",
            "refreshToken": "refresh-0",
            "idToken": "e30.e30.e30",
            "dpopKey": pem.decode(),
            "signInRegion": "eu-west-1",
        }
        self.file.write_text(json.dumps(token))

    def _access_token(self) -> dict[str, str | None]:
        """A user's token is a session, as GetSessionToken without MFA gives it."""
        key = self._sts.issue(self._who, self._arn, "ID", 900, None)
        return {
            "accessKeyId": key.access_key_id,
            "secretAccessKey": key.secret_access_key,
            "sessionToken": key.session_token,
        }

    def renew(self, request: Request) -> Answer | dict[str, Any]:
        """Answer CreateOAuth2Token."""
        proof = request.headers["DPoP"]
        shown = public_key(decode(proof)[0]["jwk"])
        _, claims = decode(proof, shown)
        assert shown.public_numbers() == self._key.public_key().public_numbers()
        assert (claims["htm"], claims["htu"]) == ("POST", f"{self._url}/v1/token")
        assert abs(claims["iat"] - self._sts.now()) < 60
        asked = json.loads(request.body)
        assert asked["grantType"] == "refresh_token"
        assert asked["refreshToken"] == f"refresh-{self.renewals}"
        if self.ended:
            refusal = {"__type": "AccessDeniedException", "error": "TOKEN_EXPIRED", "message": ""}
            return Answer(403, "application/json", json.dumps(refusal).encode())
        self.renewals += 1
        return {
            "accessToken": self._access_token(),
            "tokenType": "aws_sigv4",
            "expiresIn": 900,
            "refreshToken": f"refresh-{self.renewals}",
        }


@pytest.fixture
def deploy(sts: LocalSts, alice: Alice) -> Role:
    return sts.add_role("Deploy", account=A, trusts=[alice.user])


@pytest.fixture
def sign_in(
    sts: LocalSts,
    alice: Alice,
    config: Config,
    deploy: Role,
    web: Web,
    monkeypatch: pytest.MonkeyPatch,
) -> SignIn:
    """Alice's login in the profile ``console``, from which ``prod`` is entered."""
    if not hasattr(botocore.credentials, "LoginProvider"):
        pytest.skip("this botocore knows no login")
    pytest.importorskip("awscrt", reason="botocore reads a login's token with awscrt only")
    config(
        f"[profile console]\nlogin_session={alice.user.arn}\n"
        f"[profile prod]\nrole_arn={deploy.arn}\nsource_profile=console\n"
        f"mfa_serial={alice.serial}\n"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_SIGNIN", web.url)
    sign_in = SignIn(sts, alice.user, alice.user.arn, web.url)
    web.answers["/v1/token"] = sign_in.renew
    return sign_in


def test_login_as_source(sts: LocalSts, alice: Alice, sign_in: SignIn) -> None:
    """The token holds temporary keys of a user. They need no code if the role demands none. While
    the vault holds a session, the token is not read.
    """
    assert account_of(rolevault.session(profile="prod", mfa_callback=alice)) == A
    sign_in.file.unlink()
    assert account_of(rolevault.session(profile="prod", mfa_callback=alice)) == A
    assert (sts.count("AssumeRole"), sts.count("GetSessionToken")) == (1, 0)
    assert (alice.requests, sign_in.renewals) == ([], 0)


def test_a_role_that_demands_mfa_of_a_login(
    sts: LocalSts, alice: Alice, deploy: Role, sign_in: SignIn
) -> None:
    """A user's temporary keys may carry MFA, so the first call has no code. If STS denies it, the
    second call has one.
    """
    deploy.mfa = True
    rolevault.install(profile="prod", mfa_callback=alice)
    assert account_of() == A
    calls = [each for each in sts.calls if each.action == "AssumeRole"]
    told = [(each.outcome, each.has_code) for each in calls]
    assert told == [("AccessDenied", False), ("OK", True)]
    assert [each.serial for each in alice.requests] == [alice.serial]


def test_a_login_of_a_role_asks_for_no_code(
    sts: LocalSts, alice: Alice, config: Config, deploy: Role, sign_in: SignIn, web: Web
) -> None:
    """A login as a role has no MFA device. No code could work, so none is asked for."""
    admin = sts.add_role("Admin", account="999988887777")
    arn = f"arn:aws:sts::{admin.account}:assumed-role/Admin/alice"
    SignIn(sts, admin, arn, web.url)
    deploy.trusts, deploy.mfa = [admin.arn], True
    config(
        f"[profile console]\nlogin_session={arn}\n"
        f"[profile prod]\nrole_arn={deploy.arn}\nsource_profile=console\n"
        f"mfa_serial={alice.serial}\n"
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        account_of(rolevault.session(profile="prod", mfa_callback=alice))
    assert alice.requests == []
    assert not any("SerialNumber" in each.params for each in sts.calls)


def test_a_login_without_a_token_is_botocores_error(sign_in: SignIn) -> None:
    """If nobody has logged in, botocore's own error is raised at the first signature."""
    sign_in.file.unlink()
    told = []
    for session in (boto3.Session(profile_name="console"), rolevault.session(profile="prod")):
        with pytest.raises(botocore.exceptions.LoginTokenLoadError, match="aws login") as raised:
            account_of(session)
        told.append(str(raised.value))
    assert told[0] == told[1]


def test_a_login_is_renewed(
    clock: time_machine.Traveller, sts: LocalSts, alice: Alice, sign_in: SignIn
) -> None:
    """A role is renewed for as long as AWS Sign-In renews the token. The new token is stored where
    ``aws`` finds it. When the login has ended, botocore's error says so.
    """
    session = rolevault.session(profile="prod", mfa_callback=alice)
    assert account_of(session) == A
    for renewals in (1, 2):
        clock.shift(2 * 3600)
        assert account_of(session) == A
        assert sign_in.renewals == renewals
    assert json.loads(sign_in.file.read_text())["refreshToken"] == "refresh-2"
    sign_in.ended = True
    clock.shift(2 * 3600)
    with pytest.raises(botocore.exceptions.LoginRefreshRequired):
        account_of(session)
    assert (sts.count("AssumeRole", "OK"), alice.requests) == (3, [])
