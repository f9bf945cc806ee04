"""What is accepted as an answer of STS. Everything that STS says is judged here, once, before it
is used or stored.

An answer that is not accepted counts as lost: STS may have done what it was asked, and a code in
the request may be spent.
"""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import ClientError, CredentialRetrievalError
from botocore.parsers import ResponseParserError

from rolevault._signin.sts_session import StsSession

#: How far this machine's clock may be from STS's, in seconds. AWS refuses signatures beyond that:
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html
CLOCK_SKEW_SECONDS = 900

#: The error codes of STS for keys that were revoked or have expired. STS looks at the keys before
#: it looks at a code, so a code in such a request is not spent.
KEY_REFUSALS = ("InvalidClientTokenId", "ExpiredToken")

#: What AWS's keys and tokens consist of, and what an HTTP header can carry as it is.
_KEY = re.compile(r"[!-~]+")


def is_printable(value: object) -> bool:
    """Return whether a key or a token is text of visible ASCII characters. A line end in a
    token would end the HTTP header that carries the token.
    """
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def session_from_answer(
    kind: str,
    about: Mapping[str, Any],
    answer: Mapping[str, Any],
    *,
    asked_seconds: int,
    time_fetcher: Callable[[], float] = time.time,
) -> StsSession:
    """Return the session in an answer of AssumeRole or GetSessionToken.

    :param kind: ``role`` or ``mfa``.
    :param about: what ``Vault.entries()`` may show of the session. If it has an
        ``account_id``, the session must be of that account.
    :param asked_seconds: how long the session was to last.
    :raises ResponseParserError: STS does not answer like that.
    :raises CredentialRetrievalError: the session has ended, by this machine's clock.
    """
    now = time_fetcher()
    credentials = answer.get("Credentials") if isinstance(answer, Mapping) else None
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    if not isinstance(credentials, Mapping) or not credentials.keys() >= {*names, "Expiration"}:
        raise _refusal("holds no credentials")
    for name in names:
        if not is_printable(credentials[name]):
            raise _refusal(f"holds a {name} that is not visible ASCII text")
    end = credentials["Expiration"]
    if not isinstance(end, datetime) or end.tzinfo is None:
        raise _refusal("holds an Expiration that is not a time")
    if end.timestamp() <= now:
        # A service would refuse these keys later, with a message that explains less.
        raise CredentialRetrievalError(
            provider="rolevault",
            error_msg=f"STS's session ended at {end}, before it came: try again, and look "
            "at the clock",
        )
    if end.timestamp() > now + asked_seconds + CLOCK_SKEW_SECONDS:
        raise _refusal(f"holds a session that lasts longer than the {asked_seconds} s asked for")
    _check_account(answer.get("AssumedRoleUser"), about.get("account_id"))
    return StsSession(
        {
            "kind": kind,
            "about": {name: text for name, text in about.items() if text is not None},
            "issued": now,
            "Credentials": {
                **{name: credentials[name] for name in names},
                "Expiration": end.astimezone(timezone.utc).isoformat(),
            },
        }
    )


def check_refusal(error: ClientError) -> None:
    """Judge a refusal of STS. A message that is missing or empty becomes "".

    :raises ResponseParserError: STS does not answer like that.
    """
    details = error.response.get("Error")
    if not isinstance(details, dict) or not is_printable(details.get("Code")):
        raise _refusal("holds no error code") from None
    message = details.get("Message")
    if message is None:
        details["Message"] = ""
    elif not isinstance(message, str):
        raise _refusal("holds an error whose message is not text") from None


def _check_account(user: object, account_id: str | None) -> None:
    """Judge whose session it is. Services that are like STS may leave the ARN out."""
    if user is None:
        return
    arn = user.get("Arn") or "" if isinstance(user, Mapping) else None
    if not isinstance(arn, str):
        raise _refusal("holds an AssumedRoleUser without an ARN")
    account = arn.split(":", 5)[4] if arn.count(":") >= 5 else ""
    if account_id and account and account != account_id:
        raise _refusal(f"holds a session of account {account!r} and not of {account_id}")


def _refusal(reason: str) -> ResponseParserError:
    return ResponseParserError(f"STS's answer {reason}. Try again.")
