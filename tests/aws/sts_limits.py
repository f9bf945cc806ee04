"""The schema that STS checks parameters against before anything else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping

from aws_wire import AwsError, invalid

_LIMITS: Mapping[str, tuple[int, int, str]] = {
    "RoleArn": (20, 2048, ""),
    "RoleSessionName": (2, 64, r"[\w+=,.@-]*"),
    "ExternalId": (2, 1224, r"[\w+=,.@:\/-]*"),
    "SourceIdentity": (2, 64, r"[\w+=,.@-]*"),
    "SerialNumber": (9, 256, r"[\w+=/:,.@-]*"),
    "TokenCode": (6, 6, r"[\d]*"),
    "Policy": (1, 2048, ""),
}
"""Shortest, longest, pattern: from the API reference and botocore's model."""


def validate(
    params: Mapping[str, str], required: Iterable[str], shortest: int, longest: int
) -> int | None:
    """Check ``params`` against the schema.

    :return: the DurationSeconds that the call asks for, if any.
    :raises AwsError: a parameter breaks the schema.
    """
    faults: list[str] = []

    def fault(name: str, value: str, rule: str) -> None:
        member = name[0].lower() + name[1:]
        faults.append(
            f"Value {value} at '{member}' failed to satisfy constraint: Member must {rule}"
        )

    for name in required:
        if name not in params:
            fault(name, "null", "not be null")
    for name, (least, most, pattern) in _LIMITS.items():
        value = params.get(name)
        if value is None:
            continue
        if len(value) < least:
            fault(name, f"'{value}'", f"have length greater than or equal to {least}")
        if len(value) > most:
            fault(name, f"'{value}'", f"have length less than or equal to {most}")
        if pattern and not re.fullmatch(pattern, value, re.ASCII):
            fault(name, f"'{value}'", f"satisfy regular expression pattern: {pattern}")
    for name, most in (("Tags", 50), ("TransitiveTagKeys", 50), ("PolicyArns", 10)):
        count = len({each.split(".")[2] for each in params if each.startswith(f"{name}.member.")})
        if count > most:
            fault(name, f"'[{count} members]'", f"have length less than or equal to {most}")
    for name, value in params.items():
        most = {"Key": 128, "Value": 256}.get(name.rpartition(".")[2], 0)
        if name.startswith("Tags.member.") and most and len(value) > most:
            fault(name, f"'{value}'", f"have length less than or equal to {most}")
    seconds = params.get("DurationSeconds")
    if seconds is not None:
        try:
            if int(seconds) < shortest:
                fault(
                    "DurationSeconds",
                    f"'{seconds}'",
                    f"have value greater than or equal to {shortest}",
                )
            if int(seconds) > longest:
                fault(
                    "DurationSeconds", f"'{seconds}'", f"have value less than or equal to {longest}"
                )
        except ValueError:
            raise AwsError(400, "MalformedInput", "") from None
    if faults:
        errors = "error" if len(faults) == 1 else "errors"
        raise invalid(f"{len(faults)} validation {errors} detected: {'; '.join(faults)}")
    return None if seconds is None else int(seconds)


def packed_percent(params: Mapping[str, str]) -> int:
    """The PackedPolicySize of a response. AWS does not publish how it packs policies; this number
    only grows with their size.
    """
    policy = params.get("Policy", "")
    try:
        json.loads(policy or "{}")
    except ValueError:
        message = "The policy is not in the valid JSON format."
        raise AwsError(400, "MalformedPolicyDocument", message) from None
    extra = [v for n, v in params.items() if n.startswith(("PolicyArns.", "Tags."))]
    return math.ceil(len(policy + "".join(extra)) / 40)
