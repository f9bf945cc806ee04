"""What a profile in ``~/.aws/config`` says about a role, read by botocore and judged by
the rules of its ``AssumeRoleProvider``.
"""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import botocore.session
from botocore.exceptions import ProfileNotFound

from rolevault._roles.config_files import check_readable, sections, setting_location
from rolevault._roles.role import ANY_ROLE, Role
from rolevault.errors import ConfigurationError

#: Settings that are no setting when they are empty: botocore derives the first by itself,
#: and does not know the second, which is aws-vault's.
_NONE_IF_EMPTY = ("role_session_name", "mfa_process")

#: The fields of a ``Role`` that a profile can give.
_FIELDS = tuple(each.name for each in fields(Role) if each.metadata.get("profile"))


def chosen_profile(session: botocore.session.Session) -> str:
    """The session's own profile, ``AWS_PROFILE``, ``AWS_DEFAULT_PROFILE`` or ``default``."""
    return str(session.get_config_variable("profile") or "default")


def names_profile(session: botocore.session.Session) -> bool:
    """Whether the session was made for a profile, which beats the environment's keys."""
    return session.instance_variables().get("profile") is not None


def settings(session: botocore.session.Session, profile: str) -> Mapping[str, Any]:
    """A profile's settings; none where the profile does not exist."""
    found: Mapping[str, Any] = session.full_config.get("profiles", {}).get(profile, {})
    return found


def is_role(profile_settings: Mapping[str, Any]) -> bool:
    """Whether botocore would call AssumeRole for a profile. A role with a web identity is
    entered by a call of its own.
    """
    return "role_arn" in profile_settings and "web_identity_token_file" not in profile_settings


def has_keys(profile_settings: Mapping[str, Any]) -> bool:
    """Whether a profile holds static keys. In a source profile they beat its ``role_arn``."""
    return "aws_access_key_id" in profile_settings or "aws_secret_access_key" in profile_settings


def is_upper_role(session: botocore.session.Session, profile: str) -> bool:
    """Whether a source profile is itself entered by AssumeRole."""
    found = settings(session, profile)
    return is_role(found) and not has_keys(found)


def role_values(
    session: botocore.session.Session, profile: str, overridden: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of a ``Role`` that the profile gives.

    :param overridden: settings that an explicit option replaces. They are ignored, and
        not validated.
    :raises ConfigurationError: a bad value, naming file, section and key.
    """
    found = {
        name: value
        for name, value in settings(session, profile).items()
        if name not in overridden and (value != "" or name not in _NONE_IF_EMPTY)
    }
    values = {name: found[name] for name in _FIELDS if name in found}
    if (text := values.get("duration_seconds")) is not None:
        # A text that is no number stays, and is refused with the other bad values below.
        with contextlib.suppress(TypeError, ValueError):
            values["duration_seconds"] = int(text)
        values["duration_from_profile"] = True
    values["profile"] = profile
    try:
        Role(**{"role_arn": ANY_ROLE, **values})
    except ConfigurationError as error:
        where = setting_location(session, profile, error.option)
        text = found.get(error.option, "")
        raise ConfigurationError(
            option=error.option,
            value="<not shown>" if holds_other_settings(text) else error.value,
            rule=f"{error.rule} It stands in {where}.",
        ) from None
    return values


def holds_other_settings(value: object) -> bool:
    """Whether a value can show more than itself. In a file where a line begins too far to
    the right, that line is part of the setting above: a secret key, for example. botocore
    makes a mapping of such lines where the setting above is empty.
    """
    return not isinstance(value, str) or "\n" in value


def require_role(session: botocore.session.Session, profile: str) -> None:
    """Judge the profile whose role is to be entered.

    :raises ProfileNotFound: there is no such profile, and ``default`` was not meant.
    :raises ConfigurationError: the profile names no role that rolevault could enter.
    """
    found = settings(session, profile)
    if is_role(found):
        return
    check_readable(session)
    if profile != "default" and profile not in session.full_config.get("profiles", {}):
        raise ProfileNotFound(profile=profile)
    config, credentials = sections(session, profile)
    if "role_arn" in found:
        where = setting_location(session, profile, "web_identity_token_file")
        rule = f"its role is entered with a web identity ({where}), which botocore renews itself."
    else:
        rule = (
            f"there is no role_arn in {config}, nor in {credentials}. "
            "Add one, name another profile, or pass role_arn=."
        )
    raise ConfigurationError(option="profile", value=repr(profile), rule=rule)
