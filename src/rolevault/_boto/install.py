"""The public functions: ``install()`` and its exact inverse, ``session()`` and ``ensure()``.

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

    from rolevault._boto.credentials import RoleCredentials

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

    ``install()`` calls no service and asks nobody. The first signed request signs in: it uses
    the session in the vault, or else calls STS. A second call with an equal role and equal
    options does nothing. A second call with another role or other options replaces the first.

    Example::

        rolevault.install(
            role_arn="arn:aws:iam::111122223333:role/Deploy",
            mfa_serial="arn:aws:iam::999988887777:mfa/alice",
        )
        boto3.client("s3").list_buckets()

    :param role_arn: the ARN of the role to assume; by default the profile's. If the profile
        has no role either, but there is an ``mfa_serial``, the user's own MFA session signs.
    :param session: a boto3 session that gets the role instead of the default session.
    :param all_sessions: also put the role into the sessions that are made later, for libraries
        that make their own. A session with another explicit profile, with explicit keys or with
        async credentials never gets the role.
    :param profile: the profile in ``~/.aws/config`` that gives the options that are left out
        here; by default the profile that botocore chooses. If ``role_arn`` is passed, a profile
        gives options only if it is passed too.
    :param source_profile: the profile whose credentials enter the role; by default the
        credentials that the session would sign with otherwise.
    :param source_session: a boto3 session whose credentials enter the role, in the place of
        ``source_profile``: a session with keys that the script holds in memory, or the session
        of another role.
    :param mfa_serial: the ARN or the number of the MFA device. Without a device, nobody is asked.
    :param mfa_callback: returns the code: a callable that takes an ``MfaRequest`` or no
        argument, or a command as a list of strings that prints the code within 30 seconds. By
        default a person is asked.
    :param mfa_session_seconds: how long one code lasts: 900 to 129600 seconds, a ``timedelta``,
        or text such as ``"12h"``; by default 43200. With 0, each role asks for a code.
    :param duration_seconds: how long each session of the role lasts: 900 to 43200 seconds, a
        ``timedelta``, or text; by default 3600.
    :param role_session_name: the name that CloudTrail shows; by default the name of the MFA
        device, or else of the local user.
    :param external_id: AssumeRole's ``ExternalId``, if the owner of the role demands one.
    :param source_identity: AssumeRole's ``SourceIdentity``.
    :param policy: a session policy, as JSON text or a mapping.
    :param policy_arns: the ARNs of managed session policies.
    :param tags: session tags, as a mapping.
    :param transitive_tag_keys: the keys of the session tags that further roles inherit.
    :param region_name: the region of the boto3 session, as in boto3.
    :param passphrase: the passphrase of the vault: a string, or a callable that returns one.
    :param vault_path: the path of the encrypted file; by default ``ROLEVAULT_FILE``, else
        ``~/.aws/rolevault/vault``.
    :raises ConfigurationError: an option cannot be used, or the profile has no role. The message
        names the option, its value and the rule.
    :raises BotoCoreError: the profile does not exist, or its sources contradict each other.
    """
    with _install_lock.lock:
        check_session(session, options)
        check_options(role_arn, options)
        installed, candidate = active(), session or boto3.DEFAULT_SESSION
        default_before = boto3.DEFAULT_SESSION
        target_is_default = session in (None, default_before)
        if (
            installed is not None
            and installed.target_is_default
            and default_before is installed.target
        ):
            # An earlier install() set this default session. uninstall() restores the one before.
            default_before = installed.default_before
        target = session or session_for(default_before, options)
        inner = _botocore_private.botocore_session(target)
        if is_async(inner):
            rule = "the default session is an async one: see rolevault.aio."
            raise ConfigurationError(option="session", value=shown(target), rule=rule)
        role = resolve_role(role_arn, options, inner)
        request = (session, all_sessions, role, *_uncompared(options))
        if (
            installed is not None
            and candidate is not None
            and installed.is_up_to_date(candidate, request)
            and (candidate is session or suits(candidate, options))
        ):
            return candidate
        # Nothing below fails. An error above leaves the former installation in force.
        uninstall()
        Installation(request, role, target, target_is_default, all_sessions, default_before).begin()
        return target


def uninstall() -> None:
    """Undo ``install()``: the former default session object is back, with its former credentials.
    Clients that were made in between keep the role. Without an installation, do nothing.

    Example::

        rolevault.install()
        try:
            report()
        finally:
            rolevault.uninstall()
    """
    with _install_lock.lock:
        if (installed := active()) is not None:
            installed.end()


def is_installed() -> bool:
    """Return whether ``install()`` is in force.

    Example::

        if not rolevault.is_installed():
            rolevault.install()
    """
    return active() is not None


def session(role_arn: str | None = None, **options: "Unpack[Options]") -> boto3.Session:
    """Make a boto3 session that has a role. Nothing global changes. Several such sessions share
    a vault and one MFA code.

    Example::

        audit = rolevault.session(role_arn=ROLE, mfa_serial=MFA)
        audit.client("sts").get_caller_identity()["Account"]

    :param role_arn: the ARN of the role to assume; by default the profile's.
    :param options: the options of ``install()``.
    :raises ConfigurationError: an option cannot be used, or the profile has no role. The message
        names the option, its value and the rule.
    :raises BotoCoreError: the profile does not exist, or its sources contradict each other.
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
    """Sign in now, so that a person is asked now and not in the middle of the work. Return the
    time, aware UTC, until which nobody is asked again.

    Example::

        rolevault.ensure(min_ttl="8h")    # before a night's work

    :param session: a boto3 session with a role; by default the default session.
    :param min_ttl: how far away that time must be, at least: seconds, a ``timedelta``, or text
        such as ``"90s"``, ``"15m"`` or ``"2h"``.
    :param refresh: ask for a new code whatever the vault holds, and forget that STS has refused
        a code of this role before.
    :raises ConfigurationError: the session signs with other credentials than the role's, or no
        session of this role lasts that long.
    :raises RoleVaultError: why the sign-in failed.
    :raises BotoCoreError: the same, where botocore failed.
    :raises ClientError: the same, where STS refused.
    """
    seconds = validation.min_ttl("min_ttl", min_ttl)
    _, credentials = role_credentials(session)
    return credentials.renewal.ensure(seconds, refresh=refresh)


def role_credentials(
    session: boto3.Session | None,
) -> "tuple[boto3.Session, RoleCredentials]":
    """Return the session, by default the default one, and the credentials of its role.

    :raises ConfigurationError: the session signs with other credentials.
    """
    with IMPORT_LOCK:
        from rolevault._boto.credentials import RoleCredentials

    session = default_session() if session is None else session
    check_session(session, {})
    target = _botocore_private.botocore_session(session)
    credentials = target.get_credentials()
    if not isinstance(credentials, RoleCredentials):
        rule = f"{_described(credentials)}. {_remedy(target, credentials)}"
        raise ConfigurationError(option="session", value=shown(session), rule=rule)
    return session, credentials


def _described(credentials: Credentials | None) -> str:
    if credentials is None:
        return "it has no credentials, and so not the role's"
    return f"it signs with {credentials.method!r} credentials, and not with the role's"


def _remedy(session: botocore.session.Session, credentials: Credentials | None) -> str:
    """Return advice about a session that does not have the role."""
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


def _uncompared(options: "Options") -> list[object]:
    """Return the options that ``Role`` leaves out of its comparison. Callables are equal if they
    are the same object.
    """
    given = (options.get("mfa_callback"), options.get("passphrase"))
    return [id(value) if callable(value) else value for value in given]
