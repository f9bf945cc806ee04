"""The local STS: the test-suite's one fake, at the network's edge.

A real HTTP server on loopback that real boto3 clients reach through
``AWS_ENDPOINT_URL_STS`` or ``endpoint_url``. It is strict: every signature is
recomputed with botocore's own signer, every MFA code works once, sessions expire,
and a call that STS forbids is refused in STS's words.

Start at :class:`LocalSts`: its public methods are all that a test needs.
``local_iam.py`` has the users, MFA devices and roles, ``local_oidc.py`` the web
identities, ``sts_limits.py`` the schema, ``aws_wire.py`` HTTP and signatures. As a
script, this file serves other processes, and prints its address as one line of JSON.

A request that is signed for another service passes the same checks. Its answer is an
empty success, or a refusal in that service's form.

The sources of the rules: the STS API reference and botocore's service model
(limits); RFC 6238 (codes); error texts from traces of the real service in
public issue threads (aws/aws-cli#4648, #6325, #6676, 99designs/aws-vault#263,
#676, kreuzwerker/awsu#27, y13i/sgviz#9, jlevers/selling-partner-api#278,
boto/boto3#2598, sentry-kubernetes/charts#514, d2a4u/sqs4s#270). A rule
that none of them shows is called assumed in its place.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import math
import os
import re
import secrets
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aws_wire import (
    AUTHORIZATION,
    NAMESPACE,
    Answer,
    AwsError,
    Request,
    Server,
    denied,
    echo,
    invalid,
    query_params,
    refusal,
    verify,
    xml,
)
from local_iam import Device, Key, Role, User, identifier
from local_oidc import IdentityProvider, identify
from sts_limits import packed_percent, validate

__all__ = ["AwsError", "Call", "Device", "Failure", "Key", "LocalSts", "Revocation", "Role", "User"]

Failure = Literal["throttle", "error", "drop", "lose", "cut", "garbage", "page", "slow"]
"""
What :meth:`LocalSts.fail_next` can do to a call: answer ``Throttling`` or a
500, hang up before doing anything (``drop``), do everything and then hang up
(``lose``: the answer is lost, a code in it is spent) or leave out the answer's
end (``cut``), answer with a network's sign-in page (``garbage``; ``page``: one
that is well-formed XML), or answer late (``slow``).
"""

Revocation = Literal["denied", "invalid", "expired"]
"""
How :meth:`LocalSts.revoke` ends a session early: as the console's "Revoke
active sessions" does (a deny policy: AccessDenied), as a deleted key or role
(InvalidClientTokenId), or by its expiry, brought forward.
"""

_INVALID_TOKEN = "The security token included in the request is invalid."
_FAILURE = "The request processing has failed because of an unknown error, exception or failure."
_MFA_UNKNOWN = (
    "MultiFactorAuthentication failed, unable to validate MFA code.  "
    "Please verify your MFA serial number is valid and associated with this user."
)
_MFA_HALF = (
    "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
)
_ROLE_ARN = re.compile(r"arn:[\w-]+:iam::(\d{12})?:role/[\w+=,.@/-]+", re.ASCII)


@dataclass(frozen=True)
class Call:
    """One request that reached the server. ``LocalSts.calls`` has them in the order of the
    responses.

    ``outcome`` is ``"OK"``, the error code of the response, ``"dropped"`` or ``"garbage"``. Where
    the response was lost, ``outcome`` is what the server did, and ``answered`` is False.
    """

    service: str
    action: str
    outcome: str
    access_key_id: str | None
    params: Mapping[str, str]
    user_agent: str
    at: float
    answered: bool = True

    @property
    def has_code(self) -> bool:
        """Whether the call carried an MFA code."""
        return "TokenCode" in self.params


@dataclass
class _Planned:
    how: Failure
    times: int
    action: str | None
    seconds: float


class LocalSts:
    """The service. Its time is ``time.time() + clock_offset``: time_machine moves the clocks of the
    service and of its clients together, ``clock_offset`` moves the clock of the service alone.

    Every method may be called from any thread.
    """

    def __init__(self, *, latency: float = 0.0, control: str | None = None) -> None:
        """Start the server.

        :param latency: seconds before each response of STS.
        """
        self.latency = latency
        self.clock_offset = 0.0
        self.calls: list[Call] = []
        self.sessions: list[Key] = []
        self.users: list[User] = []
        self.providers: list[IdentityProvider] = []
        self.lock = threading.RLock()
        self.control = control
        self._keys: dict[str, Key] = {}
        self._roles: dict[str, Role] = {}
        self._planned: list[_Planned] = []
        self._stopping = threading.Event()
        self._server = Server(self._serve, self.now)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.002,), name="local-sts", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> LocalSts:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close all connections and free the port.

        :raises RuntimeError: a request made the fake itself fail.
        """
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.stop()
        if self._server.crashes:
            raise RuntimeError("LocalSts failed") from self._server.crashes[0]

    def now(self) -> float:
        """STS's clock, in seconds since 1970."""
        return time.time() + self.clock_offset

    def advance(self, seconds: float) -> None:
        """Move STS's clock, but not the clocks of its clients. Beyond 15 minutes STS refuses their
        signatures, as the real service does.
        """
        self.clock_offset += seconds

    def add_user(
        self,
        name: str = "alice",
        *,
        account: str = "999988887777",
        partition: str = "aws",
        deny: Iterable[str] = (),
    ) -> User:
        """A new user with one access key and without an MFA device."""
        user = User(self, f"arn:{partition}:iam::{account}:user/{name}", deny)
        self.users.append(user)
        return user

    def add_role(
        self,
        arn_or_name: str = "Deploy",
        *,
        account: str = "111122223333",
        partition: str = "aws",
        trusts: Iterable[User | Role | str] = ("*",),
        mfa: bool = False,
        max_mfa_age: float | None = None,
        external_id: str | None = None,
        max_session_duration: int = 3600,
    ) -> Role:
        """A new role; :class:`Role` explains its trust policy."""
        arn = arn_or_name
        if not arn.startswith("arn:"):
            arn = f"arn:{partition}:iam::{account}:role/{arn_or_name}"
        trusted = [each if isinstance(each, str) else each.arn for each in trusts]
        role = Role(arn, trusted, mfa, max_mfa_age, external_id, max_session_duration)
        self._roles[arn] = role
        return role

    def add_identity_provider(
        self,
        host: str = "oidc.example.com",
        *,
        account: str = "111122223333",
        audience: str = "sts.amazonaws.com",
    ) -> IdentityProvider:
        """A new OpenID Connect provider. A role that trusts its ARN admits its tokens."""
        self.providers.append(IdentityProvider(account, host, audience))
        return self.providers[-1]

    def fail_next(
        self, how: Failure, times: int = 1, *, action: str | None = None, seconds: float = 0.0
    ) -> None:
        """Let the next ``times`` calls of STS fail, of ``action`` only if it is given. ``seconds``
        is the delay of ``"slow"``.
        """
        with self.lock:
            self._planned.append(_Planned(how, times, action, seconds))

    def revoke(self, how: Revocation, access_key_id: str | None = None) -> int:
        """End one key, or every session that was issued so far.

        :return: how many ended.
        """
        with self.lock:
            keys = [self._keys[access_key_id]] if access_key_id else list(self.sessions)
            for key in keys:
                key.denied = key.denied or how == "denied"
                key.invalid = key.invalid or how == "invalid"
                if how == "expired":
                    key.expires = min(key.expires, self.now())
            return len(keys)

    def count(self, action: str | None = None, outcome: str | None = None) -> int:
        """How many calls there were with this action and this outcome."""
        with self.lock:
            return sum(
                action in (None, each.action) and outcome in (None, each.outcome)
                for each in self.calls
            )

    def issue(
        self, owner: User | Role, arn: str, user_id: str, seconds: int | None, mfa_at: float | None
    ) -> Key:
        """A new access key, or the key of a new session where ``seconds`` is given. A session
        begins at a whole second, because its expiry is a whole second.
        """
        with self.lock:
            issued = math.floor(self.now())
            key = Key(
                identifier("AKIA" if seconds is None else "ASIA"),
                base64.b64encode(secrets.token_bytes(30)).decode(),
                None,
                arn,
                user_id,
                owner,
                issued,
                mfa_at=mfa_at,
            )
            if seconds is not None:
                opaque = base64.b64encode(secrets.token_bytes(300)).decode()
                key.session_token = f"IQoJb3JpZ2luX2Vj{opaque}"
                key.expires = issued + seconds
                self.sessions.append(key)
            self._keys[key.access_key_id] = key
            return key

    def _serve(self, request: Request) -> Answer | None:
        """Answer one request. None closes the connection without an answer."""
        scope = AUTHORIZATION.match(request.headers.get("Authorization", ""))
        service = scope[4] if scope else "sts"
        params = query_params(request)
        if self.control and request.target == "/_control":
            return self._control(json.loads(request.body))
        target = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        action = target or params.get("Action") or request.method
        planned = self._take(action) if service == "sts" else None
        how = planned.how if planned else None
        pause = planned.seconds if planned and how == "slow" else 0.0
        request_id = str(uuid.uuid4())
        answer: Answer | None
        with self.lock:
            try:
                answer = self._answer(how, request, scope, action, params, request_id)
                outcome = {"drop": "dropped", "garbage": "garbage", "page": "garbage"}.get(
                    how or "", "OK"
                )
            except AwsError as error:
                outcome, answer = error.code, refusal(service, error, request, request_id)
            self.calls.append(
                Call(
                    service,
                    action,
                    outcome,
                    scope[1] if scope else None,
                    params,
                    request.headers.get("User-Agent", ""),
                    self.now(),
                    answered=how not in ("drop", "lose"),
                )
            )
        self._stopping.wait(pause + (self.latency if service == "sts" else 0.0))
        return None if how == "lose" else answer

    def _take(self, action: str) -> _Planned | None:
        with self.lock:
            for each in self._planned:
                if each.times > 0 and each.action in (None, action):
                    each.times -= 1
                    return each
        return None

    def _authenticate(self, request: Request, scope: re.Match[str] | None) -> Key:
        """The key that signed the request, if the key, its token and the signature are valid.

        Key, token, expiry and revocation are checked before the signature, as in the real service.
        That the date is checked between them is assumed.
        """
        if scope is None:
            if request.headers.get("Authorization"):
                raise AwsError(400, "IncompleteSignature", "The Authorization header is malformed.")
            raise AwsError(
                403, "MissingAuthenticationToken", "Request is missing Authentication Token"
            )
        key = self._keys.get(scope[1])
        token = request.headers.get("X-Amz-Security-Token")
        if key is None or token != key.session_token:
            raise AwsError(403, "InvalidClientTokenId", _INVALID_TOKEN)
        if self.now() >= key.expires:
            message = "The security token included in the request is expired"
            raise AwsError(403, "ExpiredToken", message)
        if key.invalid:
            raise AwsError(403, "InvalidClientTokenId", _INVALID_TOKEN)
        verify(request, scope, key.secret_access_key, self.now())
        return key

    def _answer(
        self,
        how: Failure | None,
        request: Request,
        scope: re.Match[str] | None,
        action: str,
        params: Mapping[str, str],
        request_id: str,
    ) -> Answer | None:
        if how == "drop":
            return None
        if how in ("garbage", "page"):
            rest = b"<br>" if how == "garbage" else b"</body></html>"
            return Answer(200, "text/html", b"<html><body>Sign in to Free-WiFi" + rest)
        if how == "throttle":
            raise AwsError(400, "Throttling", "Rate exceeded")
        if how == "error":
            raise AwsError(500, "InternalFailure", _FAILURE)
        if action == "AssumeRoleWithWebIdentity":
            # The call needs no signature. It is assumed that STS ignores a signature.
            result = self._assume_role_with_web_identity(params)
            return _success(how, action, result, request_id)
        key = self._authenticate(request, scope)
        service = scope[4] if scope else "sts"
        if service != "sts":
            if key.denied:
                raise _forbidden(key, f"{service}:{action}", "*")
            return echo(service, action, request, request_id)
        actions: dict[str, Callable[[Key, Mapping[str, str]], dict[str, Any]]] = {
            "AssumeRole": self._assume_role,
            "GetSessionToken": self._get_session_token,
            "GetCallerIdentity": self._get_caller_identity,
        }
        if action not in actions:
            version = params.get("Version", "NO_VERSION_SPECIFIED")
            message = f"Could not find operation {action} for version {version}"
            raise AwsError(400, "InvalidAction", message)
        return _success(how, action, actions[action](key, params), request_id)

    def _get_caller_identity(self, key: Key, _: Mapping[str, str]) -> dict[str, Any]:
        """The call needs no permission, so a policy that denies it has no effect."""
        return {"Arn": key.arn, "UserId": key.user_id, "Account": key.owner.account}

    def _get_session_token(self, key: Key, params: Mapping[str, str]) -> dict[str, Any]:
        """It is assumed that a code is spent before policies are evaluated: policies can demand
        MFA, so STS must know about MFA by then.
        """
        seconds = validate(params, (), 900, 129600) or 43200
        if key.session_token is not None:
            raise denied("Cannot call GetSessionToken with session credentials")
        mfa_at = self._mfa(key, params)
        if self._denies(key, "sts:GetSessionToken"):
            raise _forbidden(key, "sts:GetSessionToken", key.arn)
        session = self.issue(key.owner, key.arn, key.user_id, seconds, mfa_at)
        return {"Credentials": _credentials(session)}

    def _assume_role(self, key: Key, params: Mapping[str, str]) -> dict[str, Any]:
        """Checked in the real service's order: the schema, the maximum of the role, the hour for
        callers with temporary credentials. It is assumed that the code and the trust policy are
        checked between the schema and the maximum.
        """
        seconds = validate(params, ("RoleArn", "RoleSessionName"), 900, 43200) or 3600
        packed = packed_percent(params)
        arn = params["RoleArn"]
        if not _ROLE_ARN.fullmatch(arn):
            raise invalid(f"{arn} is invalid")
        mfa_at = self._mfa(key, params)
        if mfa_at is None:
            mfa_at = key.mfa_at
        mfa_age = None if mfa_at is None else self.now() - mfa_at
        role = self._roles.get(arn)
        if self._denies(key, "sts:AssumeRole"):
            raise _forbidden(key, "sts:AssumeRole", arn)
        if role is None or not role.admits(key, params.get("ExternalId"), mfa_age):
            message = f"User: {key.arn} is not authorized to perform: sts:AssumeRole on resource: "
            raise denied(message + arn)
        result = self._role_session(role, params, seconds, chained=key.session_token is not None)
        if packed:
            result["PackedPolicySize"] = packed
        if "SourceIdentity" in params:
            result["SourceIdentity"] = params["SourceIdentity"]
        return result

    def _assume_role_with_web_identity(self, params: Mapping[str, str]) -> dict[str, Any]:
        """It is assumed that the token is judged before the role is looked up."""
        required = ("RoleArn", "RoleSessionName", "WebIdentityToken")
        seconds = validate(params, required, 900, 43200) or 3600
        arn = params["RoleArn"]
        if not _ROLE_ARN.fullmatch(arn):
            raise invalid(f"{arn} is invalid")
        token, account = params["WebIdentityToken"], arn.split(":")[4]
        provider, claims = identify(token, account, self.providers, self.now())
        role = self._roles.get(arn)
        if role is None or provider.arn not in role.trusts:
            raise denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
        return {
            **self._role_session(role, params, seconds, chained=False),
            "SubjectFromWebIdentityToken": claims["sub"],
            "Audience": provider.audience,
            "Provider": provider.issuer,
        }

    def _role_session(
        self, role: Role, params: Mapping[str, str], seconds: int, *, chained: bool
    ) -> dict[str, Any]:
        """The result of both ways to assume a role. The session carries no MFA context."""
        if seconds > role.max_session_duration:
            raise invalid(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        if chained and seconds > 3600:
            raise invalid(
                "The requested DurationSeconds exceeds the 1 hour session limit "
                "for roles assumed by role chaining."
            )
        prefix = role.arn.partition(":role/")[0].replace(":iam:", ":sts:", 1)
        name, session_name = role.arn.rpartition("/")[2], params["RoleSessionName"]
        session_arn = f"{prefix}:assumed-role/{name}/{session_name}"
        user_id = f"{role.role_id}:{session_name}"
        session = self.issue(role, session_arn, user_id, seconds, mfa_at=None)
        return {
            "AssumedRoleUser": {"AssumedRoleId": user_id, "Arn": session_arn},
            "Credentials": _credentials(session),
        }

    def _mfa(self, key: Key, params: Mapping[str, str]) -> float | None:
        """Spend the code of a call and return the time of that, or None for a call without a code.
        Only a device of the calling user is accepted, and a role has no device. It is assumed that
        the session of a user can send a code.
        """
        serial, code = params.get("SerialNumber"), params.get("TokenCode")
        if serial is None and code is None:
            return None
        if serial is None or code is None:
            raise denied(_MFA_HALF)
        for device in key.owner.devices if isinstance(key.owner, User) else ():
            if device.serial == serial:
                device.spend(code)
                return self.now()
        raise denied(_MFA_UNKNOWN)

    def _denies(self, key: Key, action: str) -> bool:
        return key.denied or (isinstance(key.owner, User) and action in key.owner.deny)

    def _control(self, order: Mapping[str, Any]) -> Answer:
        """Answer an order from another process to a standalone server: ``advance`` (the clock, by
        seconds), ``code`` (a fresh one), ``counts`` (of calls, by action).
        """
        if not hmac.compare_digest(str(order.get("token")), str(self.control)):
            return Answer(403, "application/json", b"{}")
        result: dict[str, Any] = {}
        if "advance" in order:
            self.advance(float(order["advance"]))
            result["clock_offset"] = self.clock_offset
        if "code" in order:
            result["code"] = self.users[0].devices[0].fresh_code()
        if "counts" in order:
            names = {each.action for each in list(self.calls)}
            result["counts"] = {name: self.count(name) for name in sorted(names)}
        return Answer(200, "application/json", json.dumps(result).encode())


def _success(how: str | None, action: str, result: dict[str, Any], request_id: str) -> Answer:
    inner = xml(f"{action}Result", result) + xml("ResponseMetadata", {"RequestId": request_id})
    body = f'<{action}Response xmlns="{NAMESPACE}">{inner}</{action}Response>'
    end = -30 if how == "cut" else None
    return Answer(200, "text/xml", body.encode()[:end])


def _forbidden(key: Key, action: str, resource: str) -> AwsError:
    return denied(
        f"User: {key.arn} is not authorized to perform: {action} on resource: {resource} "
        "with an explicit deny in an identity-based policy"
    )


def _credentials(key: Key) -> dict[str, Any]:
    return {
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "SessionToken": key.session_token,
        "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(key.expires)),
    }


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM, Ctrl-C, or the end of the process that started this one. One line of
    JSON on stdout gives the address and the credentials. Nothing else is written.
    """
    parser = argparse.ArgumentParser(description="A local STS for demos and tests.")
    parser.add_argument(
        "--accounts",
        nargs=2,
        metavar=("A", "B"),
        default=["111122223333", "444455556666"],
        help="the two accounts that hold a role",
    )
    parser.add_argument("--user", default="alice", help="the user's name")
    parser.add_argument("--role", default="Deploy", help="the roles' name, in both accounts")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--control", action="store_true", help="serve POST /_control as well")
    options = parser.parse_args(argv)
    parent, ended = os.getppid(), threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    token = secrets.token_hex(16) if options.control else None
    with LocalSts(latency=options.latency, control=token) as sts:
        user = sts.add_user(options.user)
        device = user.add_mfa_device()
        names = ("A", "B")
        facts = {
            "url": sts.url,
            "access_key_id": user.access_key_id,
            "secret_access_key": user.secret_access_key,
            "mfa_serial": device.serial,
            "totp_secret": device.secret,
            "roles": {
                name: sts.add_role(options.role, account=account, trusts=[user], mfa=True).arn
                for name, account in zip(names, options.accounts, strict=True)
            },
        }
        if token:
            facts["control"] = token
        print(json.dumps(facts), flush=True)
        while not ended.wait(0.2) and os.getppid() == parent:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
