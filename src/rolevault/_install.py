"""``install`` and its exact inverse, and sessions that are made for a role.

Scripts and applications install; libraries never do.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import boto3
import botocore.session
from botocore.exceptions import ProfileNotFound

from rolevault import _limits, _private, _profile
from rolevault._config_files import check_readable
from rolevault._forks import LATE, ForkLock
from rolevault._installation import Installation, current, give
from rolevault._role import Options
from rolevault._session import Before, is_async
from rolevault.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: One ``install`` or ``uninstall`` at a time.
_installing = ForkLock()


def install(
    role_arn: str | None = None,
    *,
    session: boto3.Session | None = None,
    all_sessions: bool = False,
    **options: "Unpack[Options]",
) -> boto3.Session:
    """Put the role into the default boto3 session, or into ``session``; return
    that session. Call it once, at the top of a script.

    Nothing is called and nobody asked here: the first signed request signs in,
    from the vault where it can. A second call that comes to the same role, with
    equal options, does nothing; another one replaces the first.

    :param role_arn: the role to assume; without it, the profile's.
    :param session: a boto3 session to use instead of the default one.
    :param all_sessions: also serve sessions that others make later, for
        libraries that do; never one with another explicit profile, keys of its
        own, or async credentials.
    :param profile: of ``~/.aws/config``, where all that is left out here is read; as
        botocore chooses it. With ``role_arn``, only one that is named here.
    :param source_profile: whose credentials enter the role; without it, what the
        session would sign with otherwise.
    :param mfa_serial: the device's ARN or number; without one nobody is asked.
    :param mfa_callback: gets an ``MfaRequest`` and returns the code; or a command
        as a list of strings, that prints it within 30 s. Without it, a prompt.
    :param mfa_session_seconds: how long one code lasts, 900 to 129600, by default
        43200; with 0 each role asks for its own.
    :param duration_seconds: of each of the role's sessions, 900 to 43200; 3600 by default.
    :param role_session_name: what CloudTrail shows; by default the device's name,
        else the local user's.
    :param external_id, source_identity, policy, policy_arns, tags, transitive_tag_keys:
        passed to AssumeRole.
    :param region_name: of the session, as in boto3.
    :param passphrase: of the vault: a string, or a callable that returns one.
    :param vault_path: the encrypted file; ``ROLEVAULT_FILE``, else
        ``~/.aws/rolevault/vault``.
    :raises ConfigurationError: a bad value, naming option, value and rule.
    :raises BotoCoreError: botocore's own, for a profile that does not exist or
        whose sources contradict each other.
    """
    with _installing.lock:
        _check_session(session, options)
        _profile.checked(role_arn, options)
        installed, there = current(), session or boto3.DEFAULT_SESSION
        default_before = boto3.DEFAULT_SESSION
        given = session not in (None, default_before)
        if installed is not None and not installed.given and default_before is installed.target:
            default_before = installed.default_before
        target = session or _session_for(default_before, options)
        inner = _private.botocore_session(target)
        if is_async(inner):
            rule = "the default session is an async one: see rolevault.aio."
            raise ConfigurationError(option="session", value=_shown(target), rule=rule)
        role = _profile.role_for(role_arn, options, inner)
        asked = (session, all_sessions, role, *_callables(options))
        if (
            installed is not None
            and there is not None
            and installed.serves(there, asked)
            and (there is session or _suits(there, options))
        ):
            return there
        # Nothing below fails: what was installed stays until all of it is known.
        uninstall()
        Installation(asked, role, target, given, all_sessions, default_before).begin()
        return target


def uninstall() -> None:
    """Undo ``install``: the default session object and the credentials it had
    are back. Clients made in between keep the role. Does nothing when nothing
    is installed.
    """
    with _installing.lock:
        if (installed := current()) is not None:
            installed.end()


def is_installed() -> bool:
    """Whether ``install`` is in force."""
    return current() is not None


def session(role_arn: str | None = None, **options: "Unpack[Options]") -> boto3.Session:
    """A boto3 session of its own for a role; nothing global changes. Options as
    for ``install``. Several side by side share a vault, and one MFA code.

    :raises ConfigurationError: a bad value, naming option, value and rule.
    :raises BotoCoreError: as ``install``.
    """
    _profile.checked(role_arn, options)
    made = _session_for(None, options)
    inner = _private.botocore_session(made)
    role = _profile.role_for(role_arn, options, inner)
    give(role, inner)
    return made


def ensure(
    session: boto3.Session | None = None,
    *,
    min_ttl: float | timedelta | str = "15m",
    refresh: bool = False,
) -> datetime:
    """Sign in now, prompting now and not in the middle of the work; return until
    when nobody needs to be asked again, aware UTC.

    :param session: the default session when left out.
    :param min_ttl: how long that must be at least: seconds, a timedelta, or
        text as "90s", "15m", "2h".
    :param refresh: ask for a new code whatever the vault holds, and ignore
        remembered denials.
    :raises ConfigurationError: something shadows the provider, or no session
        of this role lasts that long.
    """
    with LATE.lock:
        from rolevault._credentials import RoleCredentials

    seconds = _limits.ttl(min_ttl)
    _check_session(session, {})
    credentials = _private.botocore_session(session or _default_session()).get_credentials()
    if not isinstance(credentials, RoleCredentials):
        found = (
            "has no credentials" if credentials is None else f"signs with {credentials.method!r}"
        )
        remedy = "call install() first."
        if is_installed():
            remedy = "take that away, pass role_arn=, or call install() again where it came first."
        raise ConfigurationError(
            option="session",
            value=_shown(session),
            rule=f"it {found} and not with the role: {remedy}",
        )
    return credentials.ensure(seconds, refresh=refresh)


def _check_session(session: Any, options: "Options") -> None:
    if session is None:
        return
    rule = "must be a boto3.Session."
    if isinstance(session, boto3.Session) and not is_async(_private.botocore_session(session)):
        if options.get("region_name") in (None, session.region_name):
            return
        rule = "it has a region already: leave region_name= out."
    raise ConfigurationError(option="session", value=_shown(session), rule=rule)


def _shown(session: Any) -> str:
    """With a line too far to the right, the keys below it are part of a profile's region."""
    region = getattr(session, "region_name", None)
    return "<not shown>" if isinstance(region, str) and "\n" in region else repr(session)


def _callables(options: "Options") -> list[object]:
    """Callables are equal where they are the same object, everything else by value."""
    given = (options.get("mfa_callback"), options.get("passphrase"))
    return [id(value) if callable(value) else value for value in given]


def _default_session() -> boto3.Session:
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    return cast("boto3.Session", boto3.DEFAULT_SESSION)


def _suits(default: boto3.Session, options: "Options") -> bool:
    """Whether it has the profile and region that are asked for; or keys of its own,
    which win, and a new session would not have them.
    """
    profile, region = options.get("profile"), options.get("region_name")
    has_own_keys = Before.of(_private.botocore_session(default)).has_own_keys
    as_asked = profile in (None, default.profile_name) and region in (None, default.region_name)
    return has_own_keys or as_asked


def _session_for(default: boto3.Session | None, options: "Options") -> boto3.Session:
    """``default``, or a new session where it does not suit."""
    profile, region = options.get("profile"), options.get("region_name")
    if default is not None:
        if _suits(default, options):
            return default
        own = _private.botocore_session(default).instance_variables()
        profile, region = profile or own.get("profile"), region or own.get("region")
    try:
        return boto3.Session(profile_name=profile, region_name=region)
    except ProfileNotFound:
        check_readable(botocore.session.Session())
        raise
