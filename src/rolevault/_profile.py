"""
What a profile in ``~/.aws/config`` says about a role, read by botocore and
judged by the rules of its ``AssumeRoleProvider``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import botocore.session
from botocore.exceptions import (
    InfiniteLoopConfigError,
    InvalidConfigError,
    PartialCredentialsError,
)

from rolevault.errors import ConfigurationError

_TEXTS = (
    "role_arn",
    "source_profile",
    "credential_source",
    "mfa_serial",
    "mfa_process",
    "external_id",
    "role_session_name",
)


def chosen(session: botocore.session.Session) -> str:
    """The session's own profile, ``AWS_PROFILE``, ``AWS_DEFAULT_PROFILE`` or ``default``."""
    return str(session.get_config_variable("profile") or "default")


def fields(session: botocore.session.Session, profile: str) -> Mapping[str, Any]:
    """A profile's settings; none where it does not exist."""
    found: Mapping[str, Any] = session.full_config.get("profiles", {}).get(profile, {})
    return found


def is_role(profile_fields: Mapping[str, Any]) -> bool:
    """Whether botocore would call AssumeRole for it. Web identity has a call of its own."""
    return "role_arn" in profile_fields and "web_identity_token_file" not in profile_fields


def has_keys(profile_fields: Mapping[str, Any]) -> bool:
    """Whether it holds static keys, which beat a ``role_arn`` beside them in a source."""
    return "aws_access_key_id" in profile_fields or "aws_secret_access_key" in profile_fields


def role_values(session: botocore.session.Session, profile: str) -> dict[str, Any]:
    """
    The fields of a ``Role`` that the profile gives.

    :raises ConfigurationError: its ``duration_seconds`` is no whole number.
    """
    found = fields(session, profile)
    values: dict[str, Any] = {name: found[name] for name in _TEXTS if name in found}
    if (text := found.get("duration_seconds")) is not None:
        try:
            values["duration_seconds"] = int(text)
        except (TypeError, ValueError):
            raise ConfigurationError(
                option="duration_seconds",
                value=repr(text),
                rule=f"must be a whole number of seconds in {_section(session, profile)}.",
            ) from None
        values["duration_is_wish"] = True
    return {**values, "profile": profile}


def require_role(session: botocore.session.Session, profile: str) -> None:
    """
    :raises ConfigurationError: the profile names no role that we could assume.
    """
    found = fields(session, profile)
    if is_role(found):
        return
    if "role_arn" in found:
        rule = "its role is entered with a web identity, which botocore does and renews itself."
    else:
        rule = (
            f"there is no role_arn in {_section(session, profile)}. "
            "Add one, name another profile, or pass role_arn=."
        )
    raise ConfigurationError(option="profile", value=repr(profile), rule=rule)


def check_source(session: botocore.session.Session, profile: str, visited: Sequence[str]) -> None:
    """
    Judge where the credentials of a role profile come from, with botocore's
    own errors.

    :param visited: the profiles that led here, this one included.
    :raises InvalidConfigError: both kinds of source, or an unknown profile.
    :raises PartialCredentialsError: no source.
    :raises InfiniteLoopConfigError: a profile was visited before.
    """
    found = fields(session, profile)
    source, named = found.get("source_profile"), found.get("credential_source")
    if named is not None and source is not None:
        raise InvalidConfigError(
            error_msg=f'The profile "{profile}" contains both source_profile and credential_source.'
        )
    if named is not None:
        return
    if source is None:
        raise PartialCredentialsError(
            provider="assume-role", cred_var="source_profile or credential_source"
        )
    if source not in session.full_config.get("profiles", {}):
        raise InvalidConfigError(
            error_msg=f'The source_profile "{source}" referenced in the profile "{profile}" '
            "does not exist."
        )
    # A profile may name itself as the source of its static keys.
    itself = source == profile and has_keys(found)
    if source in visited and not itself:
        raise InfiniteLoopConfigError(source_profile=source, visited_profiles=list(visited))


def _section(session: botocore.session.Session, profile: str) -> str:
    section = profile if profile == "default" else f"profile {profile}"
    return f"[{section}] of {session.get_config_variable('config_file')}"
