"""``install`` and its exact inverse, and sessions that are made for a role.

Scripts and applications install; libraries never do.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import boto3

from rolevault import _botocore_private
from rolevault._boto.default_session import (
    check_session,
    default_session,
    session_for,
    shown,
    suits,
)
from rolevault._boto.installation import Installation, active, assign_role
from rolevault._concurrency.fork_lock import IMPORT_LOCK, ForkLock
from rolevault._roles import durations
from rolevault._roles.resolve import check_options, resolve_role
from rolevault._roles.role import Options
from rolevault._roles.validation import is_async
from rolevault.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: One ``install`` or ``uninstall`` at a time.
_install_lock = ForkLock()


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

    :param role_arn: the role to assume; without it, the profile's. Where there is none but
        an ``mfa_serial``, the user's own MFA session signs.
    :param session: a boto3 session to use instead of the default one.
    :param all_sessions: also serve sessions that others make later, for
        libraries that do; never one with another explicit profile, keys of its
        own, or async credentials.
    :param profile: of ``~/.aws/config``, where all that is left out here is read; as
        botocore chooses it. With ``role_arn``, only one that is named here.
    :param source_profile: whose credentials enter the role; without it, what the
        session would sign with otherwise.
    :param source_session: a boto3 session whose credentials enter the role, instead of
        ``source_profile``: keys that a script holds in memory, or another role's session.
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
    with _install_lock.lock:
        check_session(session, options)
        check_options(role_arn, options)
        installed, there = active(), session or boto3.DEFAULT_SESSION
        default_before = boto3.DEFAULT_SESSION
        target_was_given = session not in (None, default_before)
        own_default = installed is not None and not installed.target_was_given
        if installed is not None and own_default and default_before is installed.target:
            default_before = installed.default_before
        target = session or session_for(default_before, options)
        inner = _botocore_private.botocore_session(target)
        if is_async(inner):
            rule = "the default session is an async one: see rolevault.aio."
            raise ConfigurationError(option="session", value=shown(target), rule=rule)
        role = resolve_role(role_arn, options, inner)
        request = (session, all_sessions, role, *_callables(options))
        if (
            installed is not None
            and there is not None
            and installed.is_up_to_date(there, request)
            and (there is session or suits(there, options))
        ):
            return there
        # Nothing below fails: what was installed stays until all of it is known.
        uninstall()
        Installation(request, role, target, target_was_given, all_sessions, default_before).begin()
        return target


def uninstall() -> None:
    """Undo ``install``: the default session object and the credentials it had
    are back. Clients made in between keep the role. Does nothing when nothing
    is installed.
    """
    with _install_lock.lock:
        if (installed := active()) is not None:
            installed.end()


def is_installed() -> bool:
    """Whether ``install`` is in force."""
    return active() is not None


def session(role_arn: str | None = None, **options: "Unpack[Options]") -> boto3.Session:
    """A boto3 session of its own for a role; nothing global changes. Options as
    for ``install``. Several side by side share a vault, and one MFA code.

    :raises ConfigurationError: a bad value, naming option, value and rule.
    :raises BotoCoreError: as ``install``.
    """
    check_options(role_arn, options)
    made = session_for(None, options)
    inner = _botocore_private.botocore_session(made)
    assign_role(resolve_role(role_arn, options, inner), inner)
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
    with IMPORT_LOCK.lock:
        from rolevault._boto.credentials import RoleCredentials

    seconds = durations.seconds("min_ttl", min_ttl)
    check_session(session, {})
    credentials = _botocore_private.botocore_session(session or default_session()).get_credentials()
    if not isinstance(credentials, RoleCredentials):
        found = (
            "has no credentials" if credentials is None else f"signs with {credentials.method!r}"
        )
        remedy = "call install() first."
        if is_installed():
            remedy = "take that away, pass role_arn=, or call install() again where it came first."
        raise ConfigurationError(
            option="session",
            value=shown(session),
            rule=f"it {found} and not with the role: {remedy}",
        )
    return credentials.renewal.ensure(seconds, refresh=refresh)


def _callables(options: "Options") -> list[object]:
    """Callables are equal where they are the same object, everything else by value."""
    given = (options.get("mfa_callback"), options.get("passphrase"))
    return [id(value) if callable(value) else value for value in given]
