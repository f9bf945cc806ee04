"""Lengths of time as people write them."""

import re
from datetime import timedelta

from rolevault._roles.validation import refusal

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(option: str, value: object) -> float:
    """The length of time in seconds.

    :raises ConfigurationError: no length of time, a negative one, or one above 30 years.
    """
    found: float = -1
    if isinstance(value, timedelta):
        found = value.total_seconds()
    elif isinstance(value, str) and (
        match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", value)
    ):
        found = float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = value
    if 0 <= found < 1e9:
        return float(found)
    raise refusal(option, value, 'must be seconds, a timedelta, or text as "90s", "15m" or "2h".')
