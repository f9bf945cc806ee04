"""The entries of the vault: dicts that JSON can hold, which may expire."""

import contextlib
import json
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

Value = dict[str, Any]


def expiry(value: Mapping[str, Any]) -> datetime | None:
    """When an entry expires, aware UTC; None where it does not say. It says so where
    botocore's caches do: in the ``Expiration`` that STS gave.
    """
    text = _expiration(value)
    # OverflowError: a time that no datetime in UTC can be, as 9999-12-31T23:59:59-01:00.
    # Reading must not depend on what an entry holds: one entry would block all.
    with contextlib.suppress(ValueError, OverflowError):
        return _moment(text)
    return None


def _expiration(value: Mapping[str, Any]) -> object:
    credentials = value.get("Credentials")
    return (credentials if isinstance(credentials, dict) else value).get("Expiration")


def _moment(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc) if moment.tzinfo else None


def description(value: Mapping[str, Any]) -> Value:
    """What an entry says about itself, without secrets."""
    said = value.get("about")
    return said if isinstance(said, dict) else {}


def without_expired(entries: Mapping[str, Value], before: Mapping[str, Value]) -> dict[str, Value]:
    """``entries`` without those of ``before`` that have expired. An entry that was put in since
    is kept, whatever it says.
    """
    now = time.time()

    def ended(value: Value) -> bool:
        end = expiry(value)
        return end is not None and end.timestamp() <= now

    return {k: v for k, v in entries.items() if before.get(k) is not v or not ended(v)}


def checked_key(key: object) -> str:
    """The key, if it is a str.

    :raises TypeError: it is not.
    """
    if not isinstance(key, str):
        raise TypeError(f"a vault's keys are str, not {type(key).__name__}")
    return key


def jsonable(value: object) -> Value:
    """The value as it will be read back.

    :raises ValueError: it cannot be stored. The error does not carry the value.
    """
    if isinstance(value, Mapping):
        # Raised outside the handler: the encoder's message can show a secret.
        with contextlib.suppress(TypeError, ValueError, OverflowError, RecursionError):
            text = json.dumps(dict(value), default=_iso, allow_nan=False)
            stored = dict(json.loads(text))
            _check_expiration(stored)
            return stored
    raise ValueError(
        "a vault's values are dicts that JSON can hold, and their Expiration a time that "
        "datetime can hold in UTC"
    )


def _check_expiration(value: Value) -> None:
    """Raise OverflowError for an ``Expiration`` that no datetime in UTC can be."""
    with contextlib.suppress(ValueError):  # any other text is no time at all
        _moment(_expiration(value))


def copy(value: Any) -> Any:
    """A deep copy. ``copy.deepcopy`` takes three times as long."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    return [copy(item) for item in value] if isinstance(value, list) else value


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError
