"""``install`` and its exact inverse: what is in force in this process.

Scripts and applications install; libraries never do.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary, WeakSet

import boto3
import botocore
import botocore.session
from botocore.credentials import CredentialResolver
from botocore.exceptions import ProfileNotFound

from rolevault import _limits, _private, _profile
from rolevault._config_files import check_readable
from rolevault._forks import LATE, ForkLock
from rolevault._role import Options, Role
from rolevault._session import NEW, Before, is_async, put_back, take_over, wait_in
from rolevault.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class _Installation:
    """What ``install`` was called with and what ``uninstall`` puts back."""

    asked: tuple[Any, ...]
    role: Role
    all_sessions: bool
    target: boto3.Session
    default_before: boto3.Session | None
    # Of each session that was served.
    before: "WeakKeyDictionary[botocore.session.Session, Before]" = field(
        default_factory=WeakKeyDictionary
    )


_lock = ForkLock()
_installed: _Installation | None = None
#: Sessions of ``session()``: they have their own role.
_own: "WeakSet[botocore.session.Session]" = WeakSet()


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
    from the vault where it can. A second call with equal options does nothing;
    with others it replaces the first.

    :param role_arn: the role to assume; without it, the profile's.
    :param session: a boto3 session to use instead of the default one.
    :param all_sessions: also serve sessions that others make later, for
        libraries that do; never one with another explicit profile, keys of its
        own, or async credentials.
    :param options: the fields of ``Options``.
    :raises ConfigurationError: a bad value, naming option, value and rule.
    :raises BotoCoreError: botocore's own, for a profile that does not exist or
        whose sources contradict each other.
    """
    global _installed
    with _lock.lock:
        _check_session(session, options)
        asked = (
            role_arn,
            session,
            all_sessions,
            _profile.checked(role_arn, options),
            *_callables(options),
        )
        if _installed is not None and _installed.asked == asked:
            current = session or _default_session()
            if _concerns(_installed, _private.botocore_session(current)):
                return current
        default_before = boto3.DEFAULT_SESSION
        if _installed is not None and default_before is _installed.target:
            default_before = _installed.default_before
        target = session or _session_for(default_before, options)
        role = _profile.role_for(role_arn, options, _private.botocore_session(target))
        # Nothing below fails: what was installed stays until all of it is known.
        uninstall()
        _installed = _Installation(asked, role, all_sessions, target, default_before)
        _serve(_installed, _private.botocore_session(target))
        if session is None:
            boto3.DEFAULT_SESSION = target
        botocore.register_initializer(_initialize)
        return target


def uninstall() -> None:
    """Undo ``install``: the default session object and the credentials it had
    are back. Clients made in between keep the role. Does nothing when nothing
    is installed.
    """
    global _installed
    with _lock.lock:
        installation, _installed = _installed, None
        if installation is None:
            return
        botocore.unregister_initializer(_initialize)
        for served, before in list(installation.before.items()):
            # A session that had nothing may be served by the next installation.
            put_back(served, before, partial(_chain, served, NEW))
        if boto3.DEFAULT_SESSION is installation.target:
            boto3.DEFAULT_SESSION = installation.default_before


def is_installed() -> bool:
    """Whether ``install`` is in force."""
    return _installed is not None


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
    _own.add(inner)
    before = Before.of(inner)
    take_over(inner, lambda: _with_role(role, inner, before.build(inner)))
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
        remedy = "take that away, or pass role_arn=." if _installed else "call install() first."
        raise ConfigurationError(
            option="session",
            value=repr(session),
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
        rule = f"it has a region already ({session.region_name}): leave region_name= out."
    raise ConfigurationError(option="session", value=repr(session), rule=rule)


def _callables(options: "Options") -> list[object]:
    """Callables are equal where they are the same object, everything else by value."""
    given = (options.get("mfa_callback"), options.get("passphrase"))
    return [id(value) if callable(value) else value for value in given]


def _default_session() -> boto3.Session:
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    return cast("boto3.Session", boto3.DEFAULT_SESSION)


def _session_for(default: boto3.Session | None, options: "Options") -> boto3.Session:
    """``default``, or a new session where it has another profile or region."""
    profile, region = options.get("profile"), options.get("region_name")
    if default is not None:
        if Before.of(_private.botocore_session(default)).has_own_keys:
            return default  # they win, and a new session would not have them
        if profile in (None, default.profile_name) and region in (None, default.region_name):
            return default
        own = _private.botocore_session(default).instance_variables()
        profile, region = profile or own.get("profile"), region or own.get("region")
    try:
        return boto3.Session(profile_name=profile, region_name=region)
    except ProfileNotFound:
        check_readable(botocore.session.Session())
        raise


def _initialize(session: botocore.session.Session) -> None:
    # Called inside every new session's constructor: whether the session is
    # ours to serve is known only when it resolves its credentials.
    if not is_async(session):
        wait_in(session, partial(_chain, session, NEW))


def _chain(session: botocore.session.Session, before: Before) -> CredentialResolver:
    chain = before.build(session)
    with _lock.lock:
        installation = _installed
        if installation is None or not _concerns(installation, session):
            return chain
        installation.before.setdefault(session, NEW)
        return _with_role(installation.role, session, chain, lambda: _installed is installation)


def _with_role(
    role: Role,
    session: botocore.session.Session,
    chain: CredentialResolver,
    wanted: Callable[[], bool] = lambda: True,
) -> CredentialResolver:
    # What signs is loaded with the first session that needs it: import and
    # install() are paid by every script, also by those that never sign.
    with LATE.lock:
        from rolevault._provider import resolver_with

    return resolver_with(role, session, chain, wanted)


def _concerns(installation: _Installation, session: botocore.session.Session) -> bool:
    target = _private.botocore_session(installation.target)
    if session is target:
        return True
    if session in _own:
        return False
    profile = session.instance_variables().get("profile")
    if profile not in (None, installation.role.profile, target.instance_variables().get("profile")):
        return False
    default = boto3.DEFAULT_SESSION
    given = installation.asked[1] is not None
    is_default = default is not None and _private.botocore_session(default) is session
    return installation.all_sessions or (is_default and not given)


def _serve(installation: _Installation, session: botocore.session.Session) -> None:
    before = Before.of(session)
    if before.has_own_keys:
        logger.warning("The session was made with keys of its own, and they win over the role.")
        return
    installation.before[session] = before
    take_over(session, lambda: _chain(session, before))
