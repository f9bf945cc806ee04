"""What the vault's entries are: dicts that JSON can hold, which may end."""

import contextlib
import json
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

Value = dict[str, Any]


def expiry(value: Mapping[str, Any]) -> datetime | None:
    """When an entry ends, aware UTC: the ``Expiration`` that STS gave, where
    botocore's caches have it too.
    """
    credentials = value.get("Credentials")
    text = (credentials if isinstance(credentials, dict) else value).get("Expiration")
    if not isinstance(text, str):
        return None
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment.astimezone(timezone.utc) if moment.tzinfo else None
    return None


def description(value: Mapping[str, Any]) -> Value:
    """What an entry of ours says of itself: no secret."""
    said = value.get("about")
    return said if isinstance(said, dict) else {}


def without_expired(entries: Mapping[str, Value], before: Mapping[str, Value]) -> dict[str, Value]:
    """``entries`` without those of ``before`` that have expired."""
    now = time.time()

    def ended(value: Value) -> bool:
        end = expiry(value)
        return end is not None and end.timestamp() <= now

    return {k: v for k, v in entries.items() if before.get(k) is not v or not ended(v)}


def checked_key(key: object) -> str:
    """The key, if it is one.

    :raises TypeError: it is not.
    """
    if not isinstance(key, str):
        raise TypeError(f"a vault's keys are str, not {type(key).__name__}")
    return key


def jsonable(value: object) -> Value:
    """The value as it will be read back.

    :raises ValueError: it cannot be stored. It does not carry the value.
    """
    if isinstance(value, Mapping):
        # Not raised from the handler: the encoder's message can show what it failed on.
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            text = json.dumps(dict(value), default=_iso, allow_nan=False)
            return dict(json.loads(text))
    raise ValueError("a vault's values are dicts that JSON can hold")


def copy(value: Any) -> Any:
    """A value's own copy. ``copy.deepcopy`` takes three times as long."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    return [copy(item) for item in value] if isinstance(value, list) else value


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError
