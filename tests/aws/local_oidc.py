"""An OpenID Connect identity provider as STS sees it: it signs web identity tokens, and STS tells a
valid token from all others.

These refusals are in STS's own words, from public issue threads: an unknown issuer
(aws-actions/configure-aws-credentials#721, mozilla-iam/mozilla-aws-cli#127), a wrong audience
(aws-actions/configure-aws-credentials#1309), an expired token (awslabs/aws-orbit-workbench#771).
The API reference says that an unreadable token and a wrong signature are InvalidIdentityToken;
their texts are assumed, and so is the order of the checks.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from aws_wire import AwsError

_ES256 = ec.ECDSA(SHA256())
_INVALID = (
    "The web identity token that was passed could not be validated by Amazon Web Services. "
    "Get a new identity token from the identity provider and then retry the request."
)


class IdentityProvider:
    """A provider that is registered in ``account``, with its signing key."""

    def __init__(self, account: str, host: str, audience: str) -> None:
        self.arn = f"arn:aws:iam::{account}:oidc-provider/{host}"
        self.account, self.issuer, self.audience = account, f"https://{host}", audience
        self.key = ec.generate_private_key(ec.SECP256R1())

    def token(self, *, at: float | None = None, seconds: int = 3600, **claims: Any) -> str:
        """A new token.

        :param at: when it is issued, in seconds since 1970; now, if left out.
        :param seconds: how long it is valid.
        :param claims: replace the claims of a valid token.
        """
        issued = int(time.time() if at is None else at)
        good = {"iss": self.issuer, "aud": self.audience, "sub": "job-1", "iat": issued}
        return encode(self.key, {"typ": "JWT"}, {**good, "exp": issued + seconds, **claims})


def identify(
    token: str, account: str, providers: list[IdentityProvider], now: float
) -> tuple[IdentityProvider, dict[str, Any]]:
    """The provider that issued ``token`` for a role of ``account``, and the token's claims.

    :raises AwsError: the token is not valid.
    """
    try:
        _, claims = decode(token)
        issuer, expires, _ = claims["iss"], int(claims["exp"]), claims["sub"]
    except (ValueError, KeyError, TypeError):
        raise AwsError(400, "InvalidIdentityToken", _INVALID) from None
    for provider in providers:
        if (provider.account, provider.issuer) == (account, issuer):
            break
    else:
        text = f"No OpenIDConnect provider found in your account for {issuer}"
        raise AwsError(400, "InvalidIdentityToken", text)
    try:
        decode(token, provider.key.public_key())
    except ValueError:
        raise AwsError(400, "InvalidIdentityToken", _INVALID) from None
    if now >= expires:
        text = f"Token expired: current date/time {now:.0f} must be before the expiration date/time"
        raise AwsError(400, "ExpiredTokenException", f"{text}{expires}")
    if claims.get("aud") != provider.audience:
        raise AwsError(400, "InvalidIdentityToken", "Incorrect token audience")
    return provider, claims


def encode(
    key: ec.EllipticCurvePrivateKey, header: Mapping[str, Any], claims: Mapping[str, Any]
) -> str:
    """A JSON Web Token, signed with ES256 (RFC 7515, RFC 7518)."""
    parts = [json.dumps(each).encode() for each in ({**header, "alg": "ES256"}, claims)]
    text = ".".join(map(_base64url, parts))
    r, s = utils.decode_dss_signature(key.sign(text.encode(), _ES256))
    return f"{text}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def decode(
    token: str, key: ec.EllipticCurvePublicKey | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a token, with its signature checked where ``key`` is given.

    :raises ValueError: it is not a token, or another key signed it.
    """
    text, _, signature = token.rpartition(".")
    header, claims = (json.loads(_bytes(part)) for part in text.split("."))
    if key is not None:
        raw = _bytes(signature)
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        try:
            key.verify(utils.encode_dss_signature(r, s), text.encode(), _ES256)
        except InvalidSignature:
            raise ValueError("another key signed this token") from None
    return header, claims


def public_key(jwk: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    """The public key in a JSON Web Key (RFC 7517)."""
    x, y = (int.from_bytes(_bytes(jwk[name]), "big") for name in "xy")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
