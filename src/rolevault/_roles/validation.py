"""STS's limits, from the API reference of AssumeRole and GetSessionToken.

Options are checked where they are given, so that ``install()`` finds a typing error, and
not the first request, after a person was asked for a code.

A check takes an option's name and value, and returns the value in a form that nobody can
change later. It raises ``ConfigurationError``.
"""

import inspect
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import boto3
import botocore.session

from rolevault import _botocore_private
from rolevault._concurrency.fork_lock import IMPORT_LOCK
from rolevault._vault import durations
from rolevault.errors import ConfigurationError

Check = Callable[[str, Any], Any]


def refusal(option: str, value: object, rule: str) -> ConfigurationError:
    """The error for a value that may be shown."""
    return ConfigurationError(option=option, value=repr(value), rule=rule)


def refusal_of_secret(option: str, rule: str) -> ConfigurationError:
    """The error for a value that can hold a secret: a passphrase, or the seed of an MFA
    device among the arguments of a command.
    """
    return ConfigurationError(option=option, value="<not shown>", rule=rule)


def _text(pattern: str, rule: str, *, is_secret: bool = False) -> Check:
    # The pattern is compiled at its first use, and not at each import.
    def check(option: str, value: object) -> object:
        if not isinstance(value, str) or re.fullmatch(pattern, value, re.ASCII) is None:
            raise refusal_of_secret(option, rule) if is_secret else refusal(option, value, rule)
        return value

    return check


def _seconds(least: int, most: int, *, or_zero: bool = False) -> Check:
    def check(option: str, value: object) -> object:
        found = None if isinstance(value, float) else durations.seconds(value)
        legal = found is not None and (least <= found <= most or (or_zero and found == 0))
        if found is not None and legal and found == int(found):
            return int(found)
        also = ", or 0 for none" if or_zero else ""
        rule = f"must be a whole number of seconds from {least} to {most}{also}."
        raise refusal(option, value, rule)

    return check


role_arn = _text(
    # An ARN is judged by its form only. The STS of Ceph has roles without an account, and
    # roles of tenants that have names.
    r"arn:[a-z][a-z0-9-]*:iam::([0-9]{12}|(?![0-9]+:)[\w$-]*)"
    r":role/(?:[!-~]{0,511}/)?[\w+=,.@-]{1,64}",
    "must have the form arn:aws:iam::<12 digits>:role/<name>.",
)
mfa_serial = _text(
    # The ARN of something else, above all of the user, would cost a code.
    r"(?=.{9,256}$)(?:(?!arn:)[\w+=/:,.@-]+|arn:[^:]+:iam::[^:]*:(?:sms-)?mfa/[\w+=/,.@-]+)",
    "must be the device's ARN, arn:aws:iam::<account>:mfa/<name>, or its number.",
)
name = _text(r"[\w+=,.@-]{2,64}", "must be 2 to 64 letters, digits or any of _+=,.@-")
external_id = _text(
    r"[\w+=,.@:/-]{2,1224}", "must be 2 to 1224 letters, digits or any of _+=,.@:/-"
)
region_name = _text(
    r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
    "must be a region's name, as eu-west-1.",
)
_PROFILE_RULE = "must be the name of a profile in ~/.aws/config."
profile = _text(r"(?s:.+)", _PROFILE_RULE)
# Whether these two name something is judged with the other rules of sources.
source_profile = _text(r".*", _PROFILE_RULE)
credential_source = _text(r".*", "must be Environment, Ec2InstanceMetadata or EcsContainer.")
mfa_process = _text(r"[^\0]*[^\0\s][^\0]*", "must be a command that prints a code.", is_secret=True)
mfa_session_seconds = _seconds(900, 129600, or_zero=True)
duration_seconds = _seconds(900, 43200)

_POLICY_ARN = r"arn:[a-z][a-z0-9-]*:iam::(?:aws|[0-9]{12}|):policy/[!-~]{1,2000}"
_POLICY = r"[\t\n\r\x20-\xff]{1,2048}"


def mfa_callback(option: str, value: object) -> object:
    """A callable that takes the request or nothing, or a command in its words."""
    if callable(value):
        return _with_request(option, value)
    rule = "must be a callable, or a command as a list of strings."
    try:
        argv = _strings(option, value, 1000, rule)
    except ConfigurationError:
        argv = ()
    if not argv or not argv[0]:
        raise refusal_of_secret(option, rule)
    return argv


def _with_request(option: str, callback: Callable[..., Any]) -> Callable[..., Any]:
    """The callback, called with a request although it may take none, as those of other
    libraries do.
    """
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # of a builtin: nothing tells
        return callback
    for arguments in ((object(),), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return callback if arguments else lambda request: callback()
    rule = "the callable must take an MfaRequest, or no argument."
    raise refusal_of_secret(option, rule)


def source_session(option: str, value: object) -> object:
    """A boto3 session whose credentials are not async."""
    if isinstance(value, boto3.Session) and not is_async(_botocore_private.botocore_session(value)):
        return value
    raise refusal(option, value, "must be a boto3.Session.")


def is_async(session: botocore.session.Session) -> bool:
    """Whether a botocore session wants async credentials, as aiobotocore's sessions do,
    which derive from botocore's.
    """
    return inspect.iscoroutinefunction(session.get_credentials)


def policy(option: str, value: object) -> object:
    rule = "must be a JSON policy, as text of up to 2048 characters of Latin-1 or as a mapping."
    if isinstance(value, Mapping):
        try:
            value = json.dumps(dict(value), separators=(",", ":"))
        except (TypeError, ValueError, RecursionError):
            raise refusal(option, value, rule) from None
    if not isinstance(value, str) or re.fullmatch(_POLICY, value) is None:
        raise refusal(option, value, rule)
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise refusal(option, value, rule)
    return value


def policy_arns(option: str, value: object) -> tuple[str, ...]:
    rule = "must be a list of up to 10 managed policies' ARNs."
    if isinstance(value, Sequence) and not isinstance(value, str):
        # As STS spells it: {"arn": …}.
        value = [each["arn"] if _has_keys(each, "arn") else each for each in value]
    arns = _strings(option, value, 10, rule)
    if not all(re.fullmatch(_POLICY_ARN, arn) for arn in arns):
        raise refusal(option, value, rule)
    return arns


def tags(option: str, value: object) -> dict[str, str]:
    rule = (
        "must map up to 50 keys of 1 to 128 characters to values of up to 256: letters, "
        "digits, spaces or any of _.:/=+-@"
    )
    if isinstance(value, Sequence) and all(_has_keys(each, "Key", "Value") for each in value):
        # As STS spells them.
        pairs = [(each["Key"], each["Value"]) for each in value]
        if len(dict(pairs)) < len(pairs):
            raise refusal(option, value, "must not have a key twice.")
        value = dict(pairs)
    if not isinstance(value, Mapping) or len(value) > 50:
        raise refusal(option, value, rule)
    for key, content in value.items():
        if not (_is_tag(key, 1, 128) and _is_tag(content, 0, 256)):
            raise refusal(option, {key: content}, rule)
    if len({key.casefold() for key in value}) < len(value):
        rule = "must not have keys that differ in upper and lower case only."
        raise refusal(option, value, rule)
    return dict(value)


def transitive_tag_keys(option: str, value: object) -> tuple[str, ...]:
    rule = "must be a list of up to 50 tag keys."
    keys = _strings(option, value, 50, rule)
    if not all(_is_tag(key, 1, 128) for key in keys):
        raise refusal(option, value, rule)
    return keys


def passphrase(option: str, value: object) -> object:
    """A text that can be encoded as UTF-8, or a callable. No message shows the value."""
    legal = callable(value)
    if isinstance(value, str):
        legal = bool(value) and not any("\ud800" <= each <= "\udfff" for each in value)
    if not legal:
        rule = "must be a non-empty string, or a callable that returns one."
        raise refusal_of_secret(option, rule)
    return value


def vault_path(option: str, value: object) -> object:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise refusal(option, value, "must be a path.")
    return value


def min_ttl(option: str, value: object) -> float:
    """A length of time of up to 30 years, in seconds."""
    found = durations.seconds(value)
    if found is not None and 0 <= found < 1e9:
        return float(found)
    raise refusal(option, value, 'must be seconds, a timedelta, or text as "90s", "15m" or "2h".')


def _has_keys(value: object, *keys: str) -> bool:
    """Whether a mapping has these keys, which are texts, and no others."""
    return isinstance(value, Mapping) and value.keys() == set(keys)


def _strings(option: str, value: object, most: int, rule: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > most:
        raise refusal(option, value, rule)
    if not all(isinstance(item, str) and "\0" not in item for item in value):
        raise refusal(option, value, rule)
    return tuple(value)


def _is_tag(value: object, least: int, most: int) -> bool:
    """Whether STS takes it for a tag's key or value: letters, spaces, digits, ``_.:/=+-@``."""
    with IMPORT_LOCK:
        import unicodedata

    return (
        isinstance(value, str)
        and least <= len(value) <= most
        and all(each in "_.:/=+-@" or unicodedata.category(each)[0] in "LNZ" for each in value)
    )
