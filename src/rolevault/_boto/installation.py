"""What is installed in this process, and which sessions have its role."""

import contextlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import boto3
import botocore
import botocore.session
from botocore.credentials import CredentialResolver

from rolevault import _botocore_private
from rolevault._boto.takeover import (
    UNRESOLVED,
    OriginalCredentials,
    defer_chain,
    replace_chain,
    restore_chain,
)
from rolevault._concurrency.fork_lock import IMPORT_LOCK, ForkLock
from rolevault._roles.role import METHOD, Role
from rolevault._roles.validation import is_async

logger = logging.getLogger(__name__)

#: Guards which installation serves which session. Nothing is logged under this lock, because a
#: logging handler may make a client, which would take the lock.
_state_lock = ForkLock()
_active: "Installation | None" = None

#: The sessions that were passed as ``source_session=``. ``all_sessions`` must not give them the
#: role, or the role would be entered with its own credentials.
_source_sessions: "WeakSet[botocore.session.Session]" = WeakSet()
#: The sessions that ``boto3.setup_default_session()`` made since ``install()``. If two threads
#: call ``boto3.client()`` first thing, both make a default session, and one of these is then no
#: longer ``boto3.DEFAULT_SESSION``. The clients of both must have the role: a client without it
#: would sign as the user, and nobody would notice.
_default_sessions: "WeakSet[botocore.session.Session]" = WeakSet()
_SETUP_CODE = getattr(boto3.setup_default_session, "__code__", None)


@dataclass(eq=False, repr=False)
class Installation:
    """One call of ``install()``, and all that ``uninstall()`` restores.

    :param request: the arguments of the call. An equal request is the same installation.
    :param target: the boto3 session that ``install()`` works on.
    :param target_is_default: whether the target is the default session, or becomes it. If not,
        the default session is left alone.
    :param default_before: ``boto3.DEFAULT_SESSION`` as it was before.
    :param originals: what each session that got the role had before.
    :param in_force: false as soon as ``uninstall()`` begins. A thread may be resolving
        credentials then.
    """

    request: tuple[Any, ...]
    role: Role
    target: boto3.Session
    target_is_default: bool
    all_sessions: bool
    default_before: boto3.Session | None
    originals: "WeakKeyDictionary[botocore.session.Session, OriginalCredentials]" = field(
        default_factory=WeakKeyDictionary
    )
    in_force: bool = True

    def begin(self) -> None:
        """Give the target the role. The caller has ended any other installation."""
        global _active
        _remember_source(self.role)
        _observe_new_sessions(True)
        _active = self
        self._replace_target()
        if self.target_is_default:
            boto3.DEFAULT_SESSION = self.target

    def end(self) -> None:
        """Restore everything. It is safe to call this again after a ``KeyboardInterrupt``."""
        global _active
        _observe_new_sessions(False)
        with _state_lock.lock:
            self.in_force = False
            for session, original in list(self.originals.items()):
                # A session that had nothing before may get the role of a later installation.
                restore_chain(session, original, partial(_chain_for, session, UNRESOLVED))
        if self.target_is_default and boto3.DEFAULT_SESSION is self.target:
            boto3.DEFAULT_SESSION = self.default_before
        _active = None

    def applies_to(self, session: botocore.session.Session) -> bool:
        """Return whether a session is to have the role."""
        target = _botocore_private.botocore_session(self.target)
        if session is target or not self.in_force:
            return self.in_force
        if session in _source_sessions:
            return False
        profile = session.instance_variables().get("profile")
        if profile not in (None, self.role.profile, target.instance_variables().get("profile")):
            return False
        default = boto3.DEFAULT_SESSION
        is_default = default is not None and _botocore_private.botocore_session(default) is session
        is_default = is_default or session in _default_sessions
        return self.all_sessions or (is_default and self.target_is_default)

    def is_up_to_date(self, session: boto3.Session, request: tuple[Any, ...]) -> bool:
        """Return whether a call of ``install()`` with this request has nothing left to do for the
        session.

        There is something left to do, for example, if the session was made before ``install()``
        and became the default session since then, or if a thread that was resolving credentials
        during ``install()`` has assigned what it found.
        """
        inner = _botocore_private.botocore_session(session)
        found = _botocore_private.resolved(inner)
        has_role = inner in self.originals and (found is None or found.method == METHOD)
        has_own_keys = OriginalCredentials.of(inner).has_own_keys
        return self.request == request and (has_role or has_own_keys)

    def _replace_target(self) -> None:
        session = _botocore_private.botocore_session(self.target)
        original = OriginalCredentials.of(session)
        if original.has_own_keys:
            logger.warning(
                "The session has keys of its own, or from a provider that does not say its "
                "method, and they win over the role. To enter the role with these keys, pass "
                "source_session= instead of session=."
            )
            return
        with _state_lock.lock:
            self.originals[session] = original
            replace_chain(session, lambda: _chain_for(session, original))


def active() -> Installation | None:
    """Return the installation that is in force."""
    return _active


def assign_role(role: Role, session: botocore.session.Session) -> None:
    """Give a session a role, whatever is installed."""
    _remember_source(role)
    original = OriginalCredentials.of(session)
    replace_chain(session, lambda: _with_role(role, session, original.build(session)))


def _remember_source(role: Role) -> None:
    if role.source_session is not None:
        _source_sessions.add(_botocore_private.botocore_session(role.source_session))


def _observe_new_sessions(on: bool) -> None:
    """Have botocore call ``_initialize`` with each session that is made from now on."""
    with contextlib.suppress(ValueError):  # it is not registered
        botocore.unregister_initializer(_initialize)
    if on:
        botocore.register_initializer(_initialize)


def _initialize(session: botocore.session.Session) -> None:
    # This runs inside the constructor of every new session, before its profile is set. So whether
    # the session gets the role can only be decided when it resolves its credentials.
    if not is_async(session):
        defer_chain(session, partial(_chain_for, session, UNRESOLVED))
        if _is_made_by_setup():
            _default_sessions.add(session)


def _is_made_by_setup() -> bool:
    """Return whether ``boto3.setup_default_session()`` is making a session in this thread.

    This is a dirty hack: it looks for that function on the stack. boto3 has no event for a new
    default session. To replace the function by a wrapper would change boto3 for everybody, and
    would miss the callers who imported the function before.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not _SETUP_CODE:
        frame = frame.f_back
    return frame is not None


def _chain_for(
    session: botocore.session.Session, original: OriginalCredentials
) -> CredentialResolver:
    """Return the session's own chain, with the role in it if an installation applies."""
    chain = original.build(session)
    with _state_lock.lock:
        installation = _active
        if installation is None or not installation.applies_to(session):
            return chain
        installation.originals.setdefault(session, UNRESOLVED)
        return _with_role(installation.role, session, chain, lambda: installation.in_force)


def _with_role(
    role: Role,
    session: botocore.session.Session,
    chain: CredentialResolver,
    is_wanted: Callable[[], bool] = lambda: True,
) -> CredentialResolver:
    # Every script waits for its imports, also a script that never signs. So the modules that sign
    # are imported with the first session that needs them.
    with IMPORT_LOCK:
        from rolevault._boto.provider import chain_with_provider

    return chain_with_provider(role, session, chain, is_wanted)
