"""``install`` and its exact inverse: the only module with global state, and the
only one that imports boto3.

Scripts and applications install; libraries never do.
"""

import inspect
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import boto3
import botocore
import botocore.credentials
import botocore.session
from botocore.credentials import CredentialResolver, Credentials

from rolevault import _private, _profile
from rolevault._provider import resolver_with
from rolevault._role import Options, Role
from rolevault.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass
class _Installation:
    """What ``install`` was called with and what ``uninstall`` puts back."""

    arguments: tuple[Any, ...]
    role: Role
    all_sessions: bool
    target: boto3.Session
    default_before: boto3.Session | None
    # Of each session that was served: its credentials and its resolver, where
    # it had resolved them before.
    before: "WeakKeyDictionary[botocore.session.Session, tuple[Credentials, Any] | None]" = field(
        default_factory=WeakKeyDictionary
    )


_lock = threading.RLock()
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

    :param role_arn: the role to assume.
    :param session: a boto3 session to use instead of the default one.
    :param all_sessions: also serve sessions that others make later, for
        libraries that do; never one with another explicit profile, keys of its
        own, or async credentials.
    :param options: the fields of ``Options``.
    :raises ConfigurationError: a bad value, naming option, value and rule.
    """
    global _installed
    with _lock:
        arguments = (role_arn, session, all_sessions, options)
        if _installed is not None and _installed.arguments == arguments:
            return session or _default_session()
        found = session or boto3.DEFAULT_SESSION
        role = _role(role_arn, options, _private.botocore_session(found) if found else None)
        uninstall()
        default_before = boto3.DEFAULT_SESSION
        target = session or _default_for(options.get("profile"), role.region_name)
        if _is_async(_private.botocore_session(target)):
            raise ConfigurationError(
                option="session", value=repr(target), rule="its credentials are async."
            )
        _installed = _Installation(arguments, role, all_sessions, target, default_before)
        _serve(_installed, _private.botocore_session(target))
        botocore.register_initializer(_initialize)
        return target


def uninstall() -> None:
    """Undo ``install``: the default session object and the credentials it had
    are back. Clients made in between keep the role. Does nothing when nothing
    is installed.
    """
    global _installed
    with _lock:
        installation, _installed = _installed, None
        if installation is None:
            return
        botocore.unregister_initializer(_initialize)
        for served, before in list(installation.before.items()):
            _restore(served, before)
        if boto3.DEFAULT_SESSION is installation.target:
            boto3.DEFAULT_SESSION = installation.default_before


def is_installed() -> bool:
    """Whether ``install`` is in force."""
    return _installed is not None


def session(role_arn: str | None = None, **options: "Unpack[Options]") -> boto3.Session:
    """A boto3 session of its own for a role; nothing global changes. Options as
    for ``install``. Several side by side share a vault, and one MFA code.

    :raises ConfigurationError: a bad value, naming option, value and rule.
    """
    made = boto3.Session(
        profile_name=options.get("profile"), region_name=options.get("region_name")
    )
    inner = _private.botocore_session(made)
    role = _role(role_arn, options, inner)
    _own.add(inner)
    inner.lazy_register_component("credential_provider", _once(lambda: resolver_with(role, inner)))
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
    from rolevault._credentials import RoleCredentials

    seconds = _parse_ttl(min_ttl)
    credentials = _private.botocore_session(session or _default_session()).get_credentials()
    if not isinstance(credentials, RoleCredentials):
        found = "none" if credentials is None else f"those of {credentials.method!r}"
        raise ConfigurationError(
            option="session",
            value=repr(session),
            rule=f"its credentials are not rolevault's but {found}. Call install() first, and give "
            "neither the session nor its environment keys or a profile of their own.",
        )
    return credentials.ensure(seconds, refresh=refresh)


def _role(
    role_arn: str | None, options: "Options", session: botocore.session.Session | None
) -> Role:
    """
    The role that the options name, with the values of a profile where one is
    named, or where there is no ``role_arn``.

    :param session: whose configuration to read.
    """
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")
    named = options.get("profile")
    values: dict[str, Any] = {}
    if named is not None or role_arn is None:
        # Checked before boto3 is asked for it, for the sake of the message.
        Role("arn:aws:iam::000000000000:role/any", profile=named)
        session = session or botocore.session.Session(profile=named)
        profile = named or _profile.chosen(session)
        values = _profile.role_values(session, profile)
        if role_arn is None:
            _profile.require_role(session, profile)
    return Role.given(role_arn, options, values, explicit=named is not None)


def _default_session() -> boto3.Session:
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    found: boto3.Session | None = boto3.DEFAULT_SESSION
    if found is None:  # for the type checker: it was set above
        raise RuntimeError("boto3 made no default session")
    return found


def _default_for(profile: str | None, region_name: str | None) -> boto3.Session:
    """The default session, or a new one where the old has another profile or region."""
    default = boto3.DEFAULT_SESSION
    if (
        default is not None
        and profile in (None, default.profile_name)
        and region_name in (None, default.region_name)
    ):
        return default
    boto3.setup_default_session(profile_name=profile, region_name=region_name)
    return _default_session()


def _initialize(session: botocore.session.Session) -> None:
    # Called inside every new session's constructor: whether the session is
    # ours to serve is known only when it resolves its credentials.
    if type(session) is botocore.session.Session:
        session.lazy_register_component("credential_provider", _once(lambda: _resolver(session)))


def _resolver(session: botocore.session.Session) -> CredentialResolver:
    with _lock:
        installation = _installed
        if installation is not None and _concerns(installation, session):
            installation.before.setdefault(session, None)
            return resolver_with(installation.role, session)
    return _standard_resolver(session)


def _concerns(installation: _Installation, session: botocore.session.Session) -> bool:
    if session in _own:
        return False
    if session is _private.botocore_session(installation.target):
        return True
    explicit = session.instance_variables().get("profile")
    role = installation.role
    if explicit is not None and not (role.profile_is_explicit and explicit == role.profile):
        return False
    default = boto3.DEFAULT_SESSION
    is_default = default is not None and _private.botocore_session(default) is session
    return installation.all_sessions or is_default


def _serve(installation: _Installation, session: botocore.session.Session) -> None:
    resolved = _private.resolved(session)
    if resolved is not None and resolved.method == "explicit":
        logger.warning("The session was made with keys of its own, and they win over the role.")
        return
    before = None
    if resolved is not None:
        before = (resolved, session.get_component("credential_provider"))
    installation.before[session] = before
    _private.set_resolved(session, None)
    session.lazy_register_component("credential_provider", _once(lambda: _resolver(session)))


def _restore(session: botocore.session.Session, before: tuple[Credentials, Any] | None) -> None:
    from rolevault._credentials import RoleCredentials
    from rolevault._healing import Healer

    now = _private.resolved(session)
    if now is not None and not isinstance(now, RoleCredentials):
        return  # given by somebody else meanwhile
    Healer.unregister(session)
    if before is None:
        _private.set_resolved(session, None)
        session.lazy_register_component(
            "credential_provider", _once(lambda: _standard_resolver(session))
        )
    else:
        _private.set_resolved(session, before[0])
        session.register_component("credential_provider", before[1])


def _standard_resolver(session: botocore.session.Session) -> CredentialResolver:
    return botocore.credentials.create_credential_resolver(
        session, region_name=_private.last_region(session)
    )


def _once(make: Callable[[], CredentialResolver]) -> Callable[[], CredentialResolver]:
    """The same chain for threads that resolve at once: botocore has no lock there."""
    lock = threading.Lock()
    made: list[CredentialResolver] = []

    def factory() -> CredentialResolver:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return factory


def _is_async(session: botocore.session.Session) -> bool:
    return inspect.iscoroutinefunction(session.get_credentials)


def _parse_ttl(value: float | timedelta | str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)):
        return float(match[1]) * _UNITS[match[2]]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    raise ConfigurationError(
        option="min_ttl",
        value=repr(value),
        rule='must be seconds, a timedelta, or text as "90s", "15m" or "2h".',
    )
