"""A session that STS issued: its keys, its lifetime, and when it is renewed."""

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NoReturn

from rolevault._vault.entry import expiry

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
