"""Lengths of time as people write them."""

import re
from datetime import timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: object) -> float | None:
    """The length of time in seconds; None for what is not one.

    :param value: seconds, a timedelta, or a text such as "90s", "15m", "2h" or "1d".
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", value)
        return float(match[1]) * _UNITS[match[2]] if match else None
    # bool is an int to Python, and a mistake to everyone else.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return None
