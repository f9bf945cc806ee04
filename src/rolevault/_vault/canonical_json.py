"""JSON with one spelling for each value, so that it can be hashed, sealed, and read back in one
way only.
"""

import hashlib
import json
import math
from typing import Any


def dumps(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII, finite numbers.

    :raises ValueError, TypeError, RecursionError: JSON cannot hold the value.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def loads(text: bytes) -> Any:
    """The value of a JSON text.

    :raises ValueError: not JSON, not ASCII, a key twice, or an infinite number.
    :raises RecursionError: nested too deep for this process.
    """
    return json.loads(
        text.decode("ascii"),  # given bytes, json would guess the encoding
        object_pairs_hook=_unique,
        parse_float=_finite,
        parse_constant=_finite,
    )


def digest(*parts: object) -> str:
    """SHA-256 over canonical JSON, in hex: the name of an entry in the vault, or a key to
    compare by.
    """
    return hashlib.sha256(dumps(parts)).hexdigest()


def fits(value: object, depth: int) -> bool:
    """Whether containers in ``value`` are nested no more than ``depth`` deep."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return depth > 0 and all(fits(item, depth - 1) for item in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
