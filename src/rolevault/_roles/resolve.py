"""From options and a profile to one role: the two are merged, then judged, and what will
surprise the user is logged.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import botocore.session
from botocore.exceptions import ProfileNotFound

from rolevault import _botocore_private
from rolevault._concurrency.fork_lock import IMPORT_LOCK
from rolevault._roles import validation
from rolevault._roles.config_files import check_readable, sections, setting_location
from rolevault._roles.profile import (
    chosen_profile,
    holds_other_settings,
    is_role,
    names_profile,
    require_role,
    role_values,
    settings,
)
from rolevault._roles.role import ANY_ROLE, CHAINED_SECONDS, Options, Role
from rolevault._roles.source_rules import check_sources
from rolevault.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: An option, and the settings of other names that it replaces too.
_REPLACED = {
    "source_profile": ("credential_source",),
    "source_session": ("source_profile", "credential_source"),
    "mfa_callback": ("mfa_process",),
}

#: Names of AssumeRole's arguments that an option has under another name.
_STS_NAMES = {"serial_number": "mfa_serial", "token_code": "mfa_callback"}

#: What only AssumeRole takes.
_ROLE_ONLY = {each.name for each in fields(Role) if each.metadata.get("role_only")}


def check_options(role_arn: str | None, options: Options) -> None:
    """Judge the options as they were given, before any profile is read.

    :raises ConfigurationError: a bad value.
    :raises TypeError: an unknown option.
    """
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        with IMPORT_LOCK:
            import difflib

        name, known = min(unknown), ["role_arn", *Options.__annotations__]
        # STS's spelling: RoleArn.
        spelled = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        spelled = _STS_NAMES.get(spelled, spelled)
        near = [spelled] if spelled in known else difflib.get_close_matches(name, known, 1)
        raise TypeError(f"no such option: {name}" + "".join(f"; did you mean {n}?" for n in near))
    Role(**{"role_arn": ANY_ROLE, **_given(role_arn, options)})


def resolve_role(role_arn: str | None, options: Options, session: botocore.session.Session) -> Role:
    """The role that the options name, with the values of a profile where one is named, or
    where there is no ``role_arn``.

    :param options: checked by ``check_options`` before.
    :param session: the session whose configuration is read.
    :raises ConfigurationError, BotoCoreError: what is wrong with the profile.
    """
    _check_region(session)
    role = _merge(role_arn, options, session)
    _check_source(role, session, options.get("source_profile"))
    _log_surprises(role, session)
    return role


def _given(role_arn: str | None, options: Options) -> dict[str, Any]:
    """The fields of a ``Role`` that the caller gives. None counts as not given."""
    return {k: v for k, v in {"role_arn": role_arn, **options}.items() if v is not None}


def _merge(role_arn: str | None, options: Options, session: botocore.session.Session) -> Role:
    """The options, and for all that they leave out the profile."""
    given = _given(role_arn, options)
    named: str | None = given.get("profile")
    profile = named
    ignored: set[str] = set()
    if role_arn is None:
        profile = named or chosen_profile(session)
        if _asks_for_user_session(given, settings(session, profile)):
            ignored = _ROLE_ONLY
            if "mfa_serial" in given:
                profile = named
        else:
            require_role(session, profile)
    if named is not None and named not in session.available_profiles:
        check_readable(session)
        raise ProfileNotFound(profile=named)
    values: dict[str, Any] = {}
    if profile is not None:
        replaced = [name for option in given for name in _REPLACED.get(option, ())]
        values = role_values(session, profile, {*given, *replaced, *ignored})
    return Role(
        **{**values, **given},
        is_from_profile="role_arn" in values or ("mfa_serial" in values and role_arn is None),
        profile_is_explicit=named is not None,
    )


def _asks_for_user_session(given: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether a user's own MFA session is asked for: there is a device and no role.

    :param given: the options, without a ``role_arn``.
    :param found: the settings of the profile.
    """
    has_device = "mfa_serial" in given or "mfa_serial" in found
    return has_device and "role_arn" not in found and not given.keys() & _ROLE_ONLY


def _check_region(session: botocore.session.Session) -> None:
    """Judge the session's region: botocore would do so at the first request, and not say where
    the region came from.

    :raises ConfigurationError: a comment behind the value, for example, or quotes around it.
    """
    region = session.get_config_variable("region")
    if not region:
        return
    try:
        validation.region_name("region", region)
    except ConfigurationError as error:
        where = "It was given to the session."
        if session.instance_variables().get("region") is None:
            variable = "AWS_DEFAULT_REGION"
            where = f"It stands in {setting_location(session, chosen_profile(session), 'region')}."
            if os.environ.get(variable) == region:
                where = f"It is the value of {variable}."
        value = "<not shown>" if holds_other_settings(region) else error.value
        rule = f"{error.rule} {where}"
        raise ConfigurationError(option="region", value=value, rule=rule) from None


def _check_source(role: Role, session: botocore.session.Session, option: str | None) -> None:
    """Judge where the source credentials come from, as far as the configuration tells.

    :param option: the ``source_profile`` that the caller gave. What a profile gives is
        judged by botocore's rules.
    """
    if option is not None and option not in session.available_profiles:
        check_readable(session)
        config, credentials = sections(session, option)
        rule = (
            f"there is no such profile, neither {config} nor {credentials}. "
            "Add it, or name another profile."
        )
        raise ConfigurationError(option="source_profile", value=repr(option), rule=rule)
    if role.source_session is not None:
        return
    has_source = role.source_profile is not None or role.credential_source is not None
    if role.role_arn is not None and role.is_from_profile:
        check_sources(session, vars(role), (role.profile or "default",))
    elif has_source or (role.profile is not None and is_role(settings(session, role.profile))):
        # The profile's own role is not entered: to meet it as a source is no loop.
        check_sources(session, vars(role), ())
    elif role.profile is None and _chain_enters_role(session):
        profile = chosen_profile(session)
        check_sources(session, role_values(session, profile), (profile,))


def _chain_enters_role(session: botocore.session.Session) -> bool:
    """Whether the session's own chain would enter the role of the session's profile."""
    resolved = _botocore_private.resolved(session)
    chain, _ = _botocore_private.credential_provider(session)
    if resolved is not None and resolved.method == "explicit":
        return False
    methods = [each.METHOD for each in getattr(chain, "providers", ())]
    if chain is not None and "assume-role" not in methods:
        return False
    keys_first = os.environ.get("AWS_ACCESS_KEY_ID") and not names_profile(session)
    return not keys_first and is_role(settings(session, chosen_profile(session)))


def _log_surprises(role: Role, session: botocore.session.Session) -> None:
    # botocore takes an empty variable for none.
    keys = os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY")
    profile_may_lose = role.is_from_profile and not role.profile_is_explicit
    if profile_may_lose and keys and not names_profile(session):
        logger.warning(
            "AWS_ACCESS_KEY_ID is set and wins over profile %s in botocore's chain: requests are "
            "signed with that key and not with the %s. Unset it, or name the profile with "
            "profile=.",
            role.profile,
            "role" if role.role_arn is not None else "MFA session",
        )
    is_wish = role.duration_from_profile and role.mfa_serial
    if is_wish and (role.duration_seconds or 0) > CHAINED_SECONDS:
        logger.info(
            "duration_seconds=%d of profile %s is served an hour at a time, renewed through the "
            "MFA session. Pass it to install() to have a session that long, for a code of its own.",
            role.duration_seconds,
            role.profile,
        )
