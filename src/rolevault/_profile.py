"""What a profile in ``~/.aws/config`` says about a role, read by botocore and
judged by the rules of its ``AssumeRoleProvider``.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import botocore.session
from botocore.exceptions import (
    InfiniteLoopConfigError,
    InvalidConfigError,
    PartialCredentialsError,
    ProfileNotFound,
)

from rolevault import _private
from rolevault._config_files import check_readable, place_of, sections
from rolevault._forks import LATE
from rolevault._role import ANY_ROLE, CHAINED_SECONDS, Options, Role
from rolevault.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: The values of ``credential_source``, and the METHOD of botocore's provider.
CREDENTIAL_SOURCES = {
    "Environment": "env",
    "Ec2InstanceMetadata": "iam-role",
    "EcsContainer": "container-role",
}

#: What botocore makes up, or does not know.
_NONE_IF_EMPTY = ("role_session_name", "mfa_process")

#: Options that also beat a setting of another name.
_REPLACED = {"source_profile": "credential_source", "mfa_callback": "mfa_process"}

_TEXTS = (
    "role_arn",
    "source_profile",
    "credential_source",
    "mfa_serial",
    "mfa_process",
    "external_id",
    "role_session_name",
)


def checked(role_arn: str | None, options: Options) -> Role:
    """The options as they were given, with any role where a profile names it.

    :raises ConfigurationError: a bad value.
    :raises TypeError: an option that there is not.
    """
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        with LATE.lock:
            import difflib

        name = min(unknown)
        near = difflib.get_close_matches(name, Options.__annotations__, 1)
        raise TypeError(f"no such option: {name}" + "".join(f"; did you mean {n}?" for n in near))
    return Role(**{"role_arn": ANY_ROLE, **_given(role_arn, options)})


def _given(role_arn: str | None, options: Options) -> dict[str, Any]:
    """Which fields of a ``Role`` the caller gives; None is as good as nothing."""
    return {k: v for k, v in {"role_arn": role_arn, **options}.items() if v is not None}


def role_for(role_arn: str | None, options: Options, session: botocore.session.Session) -> Role:
    """The role that the options name, with the values of a profile where one is
    named, or where there is no ``role_arn``.

    :param session: whose configuration to read.
    """
    checked(role_arn, options)
    own = _given(role_arn, options)
    named, source = own.get("profile"), own.get("source_profile")
    values: dict[str, Any] = {}
    if named is not None or role_arn is None:
        profile = named or chosen(session)
        if role_arn is None:
            require_role(session, profile)
        elif profile not in session.available_profiles:
            check_readable(session)
            raise ProfileNotFound(profile=profile)
        replaced = [_REPLACED[option] for option in own if option in _REPLACED]
        values = role_values(session, profile, (*own, *replaced))
    by = {"is_profiles": role_arn is None, "profile_is_explicit": named is not None}
    role = Role(**{**values, **own, **by})
    # Empty ones are none to botocore.
    keys = os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY")
    if role.is_profiles and keys and named is None and not _is_named(session):
        logger.warning(
            "AWS_ACCESS_KEY_ID is set and wins over profile %s in botocore's chain: requests are "
            "signed with that key and not with the role. Unset it, or name the profile with "
            "profile=.",
            role.profile,
        )
    if source is not None and source not in session.available_profiles:
        check_readable(session)
        config, credentials = sections(session, source)
        rule = (
            f"there is no such profile, neither {config} nor {credentials}. "
            "Add it, or name another profile."
        )
        raise ConfigurationError(option="source_profile", value=repr(source), rule=rule)
    has_source = role.source_profile is not None or role.credential_source is not None
    if role_arn is None:
        check_sources(session, vars(role), (role.profile or "default",))
    elif has_source or (role.profile is not None and is_role(fields(session, role.profile))):
        # Its own role is not entered: to meet it again is no loop.
        check_sources(session, vars(role), ())
    elif role.profile is None and _is_source(session):
        profile = chosen(session)
        check_sources(session, role_values(session, profile), (profile,))
    if role.duration_is_wish and role.mfa_serial and (role.duration_seconds or 0) > CHAINED_SECONDS:
        logger.info(
            "duration_seconds=%d of profile %s is served an hour at a time, renewed through the "
            "MFA session. Pass it to install() to have a session that long, for a code of its own.",
            role.duration_seconds,
            role.profile,
        )
    return role


def _is_source(session: botocore.session.Session) -> bool:
    """Whether the session's own chain would enter the role of its profile."""
    resolved, (chain, _) = _private.resolved(session), _private.credential_provider(session)
    if resolved is not None and resolved.method == "explicit":
        return False
    methods = [each.METHOD for each in getattr(chain, "providers", ())]
    if chain is not None and "assume-role" not in methods:
        return False
    keys_first = os.environ.get("AWS_ACCESS_KEY_ID") and not _is_named(session)
    return not keys_first and is_role(fields(session, chosen(session)))


def _is_named(session: botocore.session.Session) -> bool:
    """Whether the session was made for a profile, which beats the environment's keys."""
    return session.instance_variables().get("profile") is not None


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


def role_values(
    session: botocore.session.Session, profile: str, overridden: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of a ``Role`` that the profile gives.

    :param overridden: those that it gives in vain, whatever they are.
    :raises ConfigurationError: one is no good, naming file, section and key.
    """
    found = {
        name: value
        for name, value in fields(session, profile).items()
        if name not in overridden and (value != "" or name not in _NONE_IF_EMPTY)
    }
    values = {name: found[name] for name in _TEXTS if name in found}
    if (text := found.get("duration_seconds")) is not None:
        try:
            values["duration_seconds"] = int(text)
        except (TypeError, ValueError):
            values["duration_seconds"] = text  # which is no good, as is found below
        values["duration_is_wish"] = True
    values["profile"] = profile
    try:
        Role(**{"role_arn": ANY_ROLE, **values})
    except ConfigurationError as error:
        where = place_of(session, profile, error.option)
        text = found.get(error.option, "")
        # With a line too far to the right, the keys below it are part of the value.
        shown = isinstance(text, str) and "\n" not in text
        raise ConfigurationError(
            option=error.option,
            value=error.value if shown else "<not shown>",
            rule=f"{error.rule} It stands in {where}.",
        ) from None
    return values


def require_role(session: botocore.session.Session, profile: str) -> None:
    """
    :raises ProfileNotFound: there is no such profile, and ``default`` was not meant.
    :raises ConfigurationError: the profile names no role that we could assume.
    """
    found = fields(session, profile)
    if is_role(found):
        return
    check_readable(session)
    if profile != "default" and profile not in session.full_config.get("profiles", {}):
        raise ProfileNotFound(profile=profile)
    config, credentials = sections(session, profile)
    if "role_arn" in found:
        where = place_of(session, profile, "web_identity_token_file")
        rule = f"its role is entered with a web identity ({where}), which botocore renews itself."
    else:
        rule = (
            f"there is no role_arn in {config}, nor in {credentials}. "
            "Add one, name another profile, or pass role_arn=."
        )
    raise ConfigurationError(option="profile", value=repr(profile), rule=rule)


def check_sources(
    session: botocore.session.Session, values: Mapping[str, Any], visited: Sequence[str]
) -> None:
    """Judge a role's profile and every profile that its credentials come from.

    :param values: the fields of the role that its profile and options gave.
    :param visited: the profile, if its own role is the one that is entered.
    :raises BotoCoreError: as ``check_source``.
    :raises ConfigurationError: as ``role_values``.
    """
    while True:
        source = check_source(session, values, visited)
        if source is None or not is_hop(session, source):
            return
        values, visited = role_values(session, source), (*visited, source)


def is_hop(session: botocore.session.Session, profile: str) -> bool:
    """Whether a source profile is itself entered by AssumeRole."""
    found = fields(session, profile)
    return is_role(found) and not has_keys(found)


def check_source(
    session: botocore.session.Session, values: Mapping[str, Any], visited: Sequence[str]
) -> str | None:
    """Judge where the credentials of a role profile come from, with botocore's own
    errors; the source profile, if it is one.

    :param visited: the profiles whose roles are entered through it, its own included.
    :raises InvalidConfigError: both kinds of source, or an unknown one.
    :raises PartialCredentialsError: no source.
    :raises InfiniteLoopConfigError: a profile was visited before.
    """
    profile = values["profile"]
    source: str | None = values.get("source_profile")
    named: str | None = values.get("credential_source")
    if named is not None and source is not None:
        raise InvalidConfigError(
            error_msg=f'The profile "{profile}" contains both source_profile and credential_source.'
        )
    if named is not None:
        if named not in CREDENTIAL_SOURCES:
            raise InvalidConfigError(
                error_msg=f'The credential source "{named}" referenced in profile "{profile}" '
                "is not valid."
            )
        return None
    if source is None:
        check_readable(session)
        raise PartialCredentialsError(
            provider="assume-role", cred_var="source_profile or credential_source"
        )
    if source not in session.full_config.get("profiles", {}):
        check_readable(session)
        raise InvalidConfigError(
            error_msg=f'The source_profile "{source}" referenced in the profile "{profile}" '
            "does not exist."
        )
    # A profile may name itself as the source of its static keys.
    itself = source == profile and has_keys(fields(session, profile))
    if source in visited and not itself:
        raise InfiniteLoopConfigError(source_profile=source, visited_profiles=list(visited))
    return source
