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

#: Guards which installation serves which session. Nothing is logged while it is held: a
#: handler of logs may be making a client.
_state_lock = ForkLock()
_active: "Installation | None" = None

#: The sessions whose credentials enter a role. ``all_sessions`` leaves them alone: a role
#: would be entered from itself.
_source_sessions: "WeakSet[botocore.session.Session]" = WeakSet()
#: The sessions that ``boto3.setup_default_session()`` made since ``install()``. If two
#: threads call it at once, the session of one is no longer ``boto3.DEFAULT_SESSION``. Its
#: clients must still have the role: else they would sign as the user, without a word.
_default_sessions: "WeakSet[botocore.session.Session]" = WeakSet()
_SETUP_CODE = boto3.setup_default_session.__code__


@dataclass(eq=False, repr=False)
class Installation:
    """What ``install`` was called with, and what ``uninstall`` restores.

    :param request: what makes one call of ``install`` equal to another.
    :param target: the session that gets the role first.
    :param target_was_given: it is not the default session, which is left alone.
    """

    request: tuple[Any, ...]
    role: Role
    target: boto3.Session
    target_was_given: bool
    all_sessions: bool
    default_before: boto3.Session | None
    originals: "WeakKeyDictionary[botocore.session.Session, OriginalCredentials]" = field(
        default_factory=WeakKeyDictionary
    )
    in_force: bool = True

    def begin(self) -> None:
        """Put the role in force. No other installation is in force at that time."""
        global _active
        _remember_source(self.role)
        _observe_new_sessions(True)
        _active = self
        self._replace_target()
        if not self.target_was_given:
            boto3.DEFAULT_SESSION = self.target

    def end(self) -> None:
        """Restore everything. Safe to call again after a ``KeyboardInterrupt``."""
        global _active
        _observe_new_sessions(False)
        with _state_lock.lock:
            self.in_force = False
            for session, original in list(self.originals.items()):
                # The next installation may serve a session that had nothing.
                restore_chain(session, original, partial(_chain_for, session, UNRESOLVED))
        if not self.target_was_given and boto3.DEFAULT_SESSION is self.target:
            boto3.DEFAULT_SESSION = self.default_before
        _active = None

    def applies_to(self, session: botocore.session.Session) -> bool:
        """Whether a session is to have the role."""
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
        return self.all_sessions or (is_default and not self.target_was_given)

    def is_up_to_date(self, session: boto3.Session, request: tuple[Any, ...]) -> bool:
        """Whether an equal call of ``install`` for this session has nothing left to do. There
        is something left where the session was made before, or where a thread that began to
        resolve its credentials before has put them there since.
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
    """The installation in force."""
    return _active


def assign_role(role: Role, session: botocore.session.Session) -> None:
    """Give a session a role of its own, whatever is installed."""
    _remember_source(role)
    original = OriginalCredentials.of(session)
    replace_chain(session, lambda: _with_role(role, session, original.build(session)))


def _remember_source(role: Role) -> None:
    if role.source_session is not None:
        _source_sessions.add(_botocore_private.botocore_session(role.source_session))


def _observe_new_sessions(on: bool) -> None:
    """Have botocore call ``_initialize`` with each session that is made from now on."""
    with contextlib.suppress(ValueError):  # it is not there, or somebody cleared the list
        botocore.unregister_initializer(_initialize)
    if on:
        botocore.register_initializer(_initialize)


def _initialize(session: botocore.session.Session) -> None:
    # This runs inside the constructor of every new session, before its profile is set.
    # Whether the session gets the role is known only when it resolves its credentials.
    if not is_async(session):
        defer_chain(session, partial(_chain_for, session, UNRESOLVED))
        if _is_made_by_setup():
            _default_sessions.add(session)


def _is_made_by_setup() -> bool:
    """Whether ``boto3.setup_default_session()`` is making a session in this thread.

    A dirty hack: it looks for that function on the stack. A wrapper in its place would miss
    callers who imported the function before ``install()``.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not _SETUP_CODE:
        frame = frame.f_back
    return frame is not None


def _chain_for(
    session: botocore.session.Session, original: OriginalCredentials
) -> CredentialResolver:
    """The session's own chain, with the role in it where an installation applies."""
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
    # Every script pays for import and install(), also one that never signs. So the modules
    # that sign are imported with the first session that needs them.
    with IMPORT_LOCK:
        from rolevault._boto.provider import chain_with_provider

    return chain_with_provider(role, session, chain, is_wanted)
