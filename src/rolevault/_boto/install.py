"""The public functions: ``install`` and its exact inverse, and sessions made for a role.

Scripts and applications call ``install()``. Libraries never do, because it changes the default
session of the whole process.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.credentials import Credentials

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
from rolevault._roles import validation
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
    """Put the role into the default boto3 session, or into ``session``; return that session.
    Call it once, at the top of a script.

    ``install()`` calls no service and asks nobody. The first signed request signs in, from
    the vault where that serves. A second call that comes to the same role, with equal
    options, does nothing. A call that comes to another role replaces the first.

    Example::

        rolevault.install(
            role_arn="arn:aws:iam::111122223333:role/Deploy",
            mfa_serial="arn:aws:iam::999988887777:mfa/alice",
        )
        boto3.client("s3").list_buckets()

    :param role_arn: the role to assume; without it, the profile's. Where there is none but
        an ``mfa_serial``, the user's own MFA session signs.
    :param session: a boto3 session to use instead of the default one.
    :param all_sessions: also serve sessions that are made later, for libraries that make
        their own; never a session with another explicit profile, with keys of its own, or
        with async credentials.
    :param profile: the profile in ``~/.aws/config`` that gives what is left out here; by
        default the one that botocore chooses. With ``role_arn``, only a profile that is
        named here gives anything.
    :param source_profile: the profile whose credentials enter the role; by default the
        credentials that the session would sign with otherwise.
    :param source_session: a boto3 session whose credentials enter the role, instead of
        ``source_profile``: keys that a script holds in memory, or another role's session.
    :param mfa_serial: the ARN or number of the MFA device; without one, nobody is asked.
    :param mfa_callback: a callable that gets an ``MfaRequest``, or nothing, and returns the
        code; or a command as a list of strings that prints the code within 30 s; by default
        a person is asked.
    :param mfa_session_seconds: how long one code lasts, 900 to 129600 seconds, by default
        43200. With 0, each role asks for a code.
    :param duration_seconds: the length of each of the role's sessions, 900 to 43200 seconds,
        by default 3600.
    :param role_session_name: what CloudTrail shows; by default the name of the device, else
        of the local user.
    :param external_id, source_identity, policy, policy_arns, tags, transitive_tag_keys:
        passed to AssumeRole.
    :param region_name: of the session, as in boto3.
    :param passphrase: of the vault: a string, or a callable that returns one.
    :param vault_path: the encrypted file; by default ``ROLEVAULT_FILE``, else
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
        # Nothing below fails. Until here, the former installation stays in force.
        uninstall()
        Installation(request, role, target, target_was_given, all_sessions, default_before).begin()
        return target


def uninstall() -> None:
    """Undo ``install()``: the default session object of before is back, with the credentials
    of before. Clients that were made in between keep the role. Where nothing is installed,
    this does nothing.
    """
    with _install_lock.lock:
        if (installed := active()) is not None:
            installed.end()


def is_installed() -> bool:
    """Whether ``install()`` is in force."""
    return active() is not None


def session(role_arn: str | None = None, **options: "Unpack[Options]") -> boto3.Session:
    """Make a boto3 session for a role. Nothing global changes. The options are those of
    ``install()``. Several such sessions share a vault and one MFA code.

    Example::

        audit = rolevault.session(role_arn=ROLE, mfa_serial=MFA)
        audit.client("sts").get_caller_identity()["Account"]

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
    """Sign in now, so that a person is asked now and not in the middle of the work. Return
    the time until which nobody needs to be asked again, aware UTC.

    Example::

        rolevault.ensure(min_ttl="8h")    # before a night's work

    :param session: a boto3 session with a role; by default the default session.
    :param min_ttl: how long nobody must be asked, at least: seconds, a timedelta, or a text
        such as "90s", "15m", "2h".
    :param refresh: ask for a new code whatever the vault holds, and ignore remembered
        denials.
    :raises ConfigurationError: something shadows the provider, or no session of this role
        lasts that long.
    :raises RoleVaultError: why nobody could sign in; botocore's errors and STS's own
        ``ClientError`` pass through.
    """
    with IMPORT_LOCK:
        from rolevault._boto.credentials import RoleCredentials

    seconds = validation.min_ttl("min_ttl", min_ttl)
    check_session(session, {})
    target = _botocore_private.botocore_session(session or default_session())
    credentials = target.get_credentials()
    if not isinstance(credentials, RoleCredentials):
        rule = f"{_described(credentials)}. {_remedy(target, credentials)}"
        raise ConfigurationError(option="session", value=shown(session), rule=rule)
    return credentials.renewal.ensure(seconds, refresh=refresh)


def _described(credentials: Credentials | None) -> str:
    if credentials is None:
        return "it has no credentials, and so not the role's"
    return f"it signs with {credentials.method!r} credentials, and not with the role's"


def _remedy(session: botocore.session.Session, credentials: Credentials | None) -> str:
    """What to do about a session that does not have the role."""
    installed = active()
    if credentials is not None and credentials.method == "explicit":
        return (
            "Keys that were given to a session win over its role. To enter the role with them, "
            "pass that session as source_session=."
        )
    if installed is None:
        return "Call install() first."
    if not installed.applies_to(session):
        return "install() put the role into another session: pass the session that it returned."
    if installed.role.is_from_profile and credentials is not None:
        return "Remove these credentials, pass role_arn=, or call install() again."
    return "Call install() again."


def _callables(options: "Options") -> list[object]:
    """What tells two calls apart beside the role: callables are compared by identity."""
    given = (options.get("mfa_callback"), options.get("passphrase"))
    return [id(value) if callable(value) else value for value in given]
