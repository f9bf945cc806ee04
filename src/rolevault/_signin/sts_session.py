"""A session that STS issued: its keys, its lifetime, and when it is renewed."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NoReturn

from botocore.exceptions import CredentialRetrievalError
from botocore.parsers import ResponseParserError

from rolevault._vault.entry import expiry

#: How far, in seconds, this machine's clock may be behind that of STS. With more, STS refuses
#: the signature.
_SKEW_SECONDS = 900

#: Access key id, secret access key, session token.
Keys = tuple[str, str, str | None]


@dataclass(frozen=True)
class StsSession:
    """Credentials that STS issued, in the form in which the vault stores them.

    The windows of renewal depend on the lifetime. botocore's windows begin 15 and 10 minutes
    before the end, so a session of 900 seconds would never be fresh. Times are POSIX
    timestamps in seconds, unless they are ``datetime``.
    """

    value: dict[str, Any] = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an StsSession holds secrets: it cannot be pickled or copied")

    @classmethod
    def from_answer(
        cls,
        kind: str,
        about: Mapping[str, Any],
        answer: Mapping[str, Any],
        *,
        seconds: int,
        account_id: str | None = None,
    ) -> "StsSession":
        """The session in STS's answer. Every answer is judged here, and nowhere else.

        :param kind: ``role`` or ``mfa``.
        :param about: what ``Vault.entries()`` may show of the session.
        :param seconds: how long a session was asked for.
        :param account_id: the account of the role that was asked for.
        :raises ResponseParserError: the answer holds no credentials, or others than were
            asked for.
        :raises CredentialRetrievalError: they have ended, by this machine's clock.
        """
        credentials, now = _credentials(answer), time.time()
        end = credentials["Expiration"]
        if end.timestamp() > now + seconds + _SKEW_SECONDS:
            raise ResponseParserError(f"STS's session ends at {end}, which was not asked for.")
        if account_id not in (None, _account_of(answer, account_id)):
            raise ResponseParserError("STS's answer is for a role of another account.")
        if end.timestamp() <= now:
            # A service would refuse these keys later, with a message that explains less.
            raise CredentialRetrievalError(
                provider="rolevault",
                error_msg=f"STS's session ended at {end}, before it came: try again, and look "
                "at the clock",
            )
        credentials["Expiration"] = end.astimezone(timezone.utc).isoformat()
        return cls(
            {
                "kind": kind,
                "about": {name: text for name, text in about.items() if text is not None},
                "issued": now,
                "Credentials": credentials,
            }
        )

    @property
    def keys(self) -> tuple[str, str, str]:
        """Access key id, secret access key, session token."""
        credentials = self.value["Credentials"]
        return (
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials["SessionToken"],
        )

    @property
    def expires(self) -> datetime:
        """The end of the session, aware UTC."""
        return expiry(self.value) or datetime.fromtimestamp(0, timezone.utc)

    @property
    def end(self) -> float:
        return self.expires.timestamp()

    @property
    def issued(self) -> float:
        return float(self.value.get("issued", 0.0))

    @property
    def lifetime(self) -> float:
        return max(0.0, self.end - self.issued)

    @property
    def advisory(self) -> float:
        """The time from which a renewal that asks nobody is tried: the last third of the
        lifetime begins, or the last 15 minutes if these are shorter.
        """
        return self.end - min(900.0, self.lifetime / 3)

    @property
    def mandatory(self) -> float:
        """The time from which a person is asked if need be: the last sixth of the lifetime
        begins, or the last 5 minutes if these are shorter.
        """
        return self.end - min(300.0, self.lifetime / 6)


def _credentials(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The credentials of an answer, each part of the type that it should have."""
    found = answer.get("Credentials")
    credentials = dict(found) if isinstance(found, Mapping) else {}
    texts = [credentials.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    # Printable: a line break would make a header of its own.
    complete = all(isinstance(text, str) and re.fullmatch("[!-~]+", text) for text in texts)
    end = credentials.get("Expiration")
    if not complete or not isinstance(end, datetime) or end.tzinfo is None:
        raise ResponseParserError("STS's answer holds no credentials. Try again.")
    return credentials


def _account_of(answer: Mapping[str, Any], otherwise: str | None) -> str | None:
    """The account in the answer's ``AssumedRoleUser``. Other implementations of STS leave it
    out.
    """
    user = answer.get("AssumedRoleUser")
    arn = user.get("Arn") if isinstance(user, Mapping) else None
    parts = arn.split(":") if isinstance(arn, str) else []
    return parts[4] if len(parts) > 5 else otherwise
