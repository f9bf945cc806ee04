"""STS's limits, from the API reference of AssumeRole and GetSessionToken, checked
where options are given: a typing error is found by ``install()`` and not by the
first request, after somebody was asked for a code.

Each check returns what it was given, in a form that nobody changes later.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from rolevault._forks import LATE
from rolevault.errors import ConfigurationError

# Patterns are text, compiled when they are first needed: not by each import.
_ROLE_ARN = (
    # By its form only. Ceph's STS has roles of no account, and of tenants with names.
    r"arn:[a-z][a-z0-9-]*:iam::([0-9]{12}|(?![0-9]+:)[\w$-]*)"
    r":role/(?:[!-~]{0,511}/)?[\w+=,.@-]{1,64}"
)
_POLICY_ARN = r"arn:[a-z][a-z0-9-]*:iam::(?:aws|[0-9]{12}|):policy/[!-~]{1,2000}"
_NAME = (r"[\w+=,.@-]{2,64}", "must be 2 to 64 letters, digits or any of _+=,.@-")
_PROFILE = (r"(?s:.+)", "must be the name of a profile in ~/.aws/config.")

_TEXTS = {
    "role_arn": (_ROLE_ARN, "must have the form arn:aws:iam::<12 digits>:role/<name>."),
    "mfa_serial": (
        # An ARN of anything else, the user's own above all, would cost a code.
        r"(?=.{9,256}$)(?:(?!arn:)[\w+=/:,.@-]+|arn:[^:]+:iam::[^:]*:(?:sms-)?mfa/[\w+=/,.@-]+)",
        "must be the device's ARN, arn:aws:iam::<account>:mfa/<name>, or its number.",
    ),
    "role_session_name": _NAME,
    "source_identity": _NAME,
    "external_id": (
        r"[\w+=,.@:/-]{2,1224}",
        "must be 2 to 1224 letters, digits or any of _+=,.@:/-",
    ),
    "region_name": (
        r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
        "must be a region's name, as eu-west-1.",
    ),
    "profile": _PROFILE,
    # That there is none of this name is found where the sources are judged.
    "source_profile": (r".*", _PROFILE[1]),
    "credential_source": (
        r".*",
        "must be Environment, Ec2InstanceMetadata or EcsContainer.",
    ),
    "mfa_process": (r"[^\0]*[^\0\s][^\0]*", "must be a command that prints a code."),
}
_SECONDS = {"mfa_session_seconds": (900, 129600), "duration_seconds": (900, 43200)}

_POLICY = r"[\t\n\r\x20-\xff]{1,2048}"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def bad(option: str, value: object, rule: str) -> ConfigurationError:
    return ConfigurationError(option=option, value=repr(value), rule=rule)


def hidden(option: str, rule: str) -> ConfigurationError:
    """For values that can hold a secret, as a device's seed among a command's arguments."""
    return ConfigurationError(option=option, value="<not shown>", rule=rule)


def text(option: str, value: object) -> None:
    form, rule = _TEXTS[option]
    if not isinstance(value, str) or re.fullmatch(form, value, re.ASCII) is None:
        raise hidden(option, rule) if option == "mfa_process" else bad(option, value, rule)


def seconds(option: str, value: object, *, or_none: bool = False) -> None:
    low, high = _SECONDS[option]
    # bool is an int to Python and a mistake to everyone else.
    if type(value) is int and (low <= value <= high or (or_none and value == 0)):
        return
    also = ", or 0 for none" if or_none else ""
    raise bad(option, value, f"must be a whole number of seconds from {low} to {high}{also}.")


def strings(option: str, value: object, most: int, rule: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > most:
        raise bad(option, value, rule)
    if not all(isinstance(item, str) and "\0" not in item for item in value):
        raise bad(option, value, rule)
    return tuple(value)


def command(option: str, value: object) -> tuple[str, ...]:
    rule = "must be a callable, or a command as a list of strings."
    try:
        argv = strings(option, value, 1000, rule)
    except ConfigurationError:
        argv = ()
    if not argv or not argv[0]:
        raise hidden(option, rule)
    return argv


def policy(option: str, value: object) -> None:
    rule = "must be the text of a JSON policy, up to 2048 characters of Latin-1."
    if not isinstance(value, str) or re.fullmatch(_POLICY, value) is None:
        raise bad(option, value, rule)
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise bad(option, value, rule)


def policy_arns(option: str, value: object) -> tuple[str, ...]:
    rule = "must be a list of up to 10 managed policies' ARNs."
    arns = strings(option, value, 10, rule)
    if not all(re.fullmatch(_POLICY_ARN, arn) for arn in arns):
        raise bad(option, value, rule)
    return arns


def tags(option: str, value: object) -> dict[str, str]:
    rule = (
        "must map up to 50 keys of 1 to 128 characters to values of up to 256: letters, "
        "digits, spaces or any of _.:/=+-@"
    )
    if not isinstance(value, Mapping) or len(value) > 50:
        raise bad(option, value, rule)
    for key, content in value.items():
        if not (_is_tag(key, 1, 128) and _is_tag(content, 0, 256)):
            raise bad(option, {key: content}, rule)
    if len({key.casefold() for key in value}) < len(value):
        raise bad(option, value, "must not have keys that differ in upper and lower case only.")
    return dict(value)


def tag_keys(option: str, value: object) -> tuple[str, ...]:
    rule = "must be a list of up to 50 tag keys."
    keys = strings(option, value, 50, rule)
    if not all(_is_tag(key, 1, 128) for key in keys):
        raise bad(option, value, rule)
    return keys


def secret(option: str, value: object) -> None:
    """The value is in no message, and in no cause of one."""
    legal = callable(value)
    if isinstance(value, str):
        legal = bool(value) and not any("\ud800" <= each <= "\udfff" for each in value)
    if not legal:
        raise ConfigurationError(
            option=option,
            value="<not shown>",
            rule="must be a non-empty string, or a callable that returns one.",
        )


def path(option: str, value: object) -> None:
    name = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise bad(option, value, "must be a path.")


def ttl(value: object) -> float:
    """``min_ttl`` in seconds."""
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
    raise bad("min_ttl", value, 'must be seconds, a timedelta, or text as "90s", "15m" or "2h".')


def _is_tag(value: object, least: int, most: int) -> bool:
    with LATE.lock:
        import unicodedata

    return (
        isinstance(value, str)
        and least <= len(value) <= most
        and all(each in "_.:/=+-@" or unicodedata.category(each)[0] in "LNZ" for each in value)
    )
