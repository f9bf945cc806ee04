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

from rolevault import _private
from rolevault._forks import LATE, ForkLock
from rolevault._role import METHOD, Role
from rolevault._session import NEW, Before, is_async, put_back, take_over, wait_in

logger = logging.getLogger(__name__)

#: Who is served by whom. Nothing is logged while it is held: a handler of logs may
#: be making a client.
_lock = ForkLock()
_current: "Installation | None" = None

#: Sessions of ``session()``: they have their own role.
_own: "WeakSet[botocore.session.Session]" = WeakSet()
#: Those that ``setup_default_session()`` has made since ``install``. Threads that
#: each make one sign with one that another thread has replaced meanwhile.
_defaults: "WeakSet[botocore.session.Session]" = WeakSet()
_MAKES_DEFAULT = boto3.setup_default_session.__code__


@dataclass(eq=False, repr=False)
class Installation:
    """What ``install`` was called with and what ``uninstall`` puts back."""

    asked: tuple[Any, ...]
    role: Role
    target: boto3.Session
    given: bool  # target is not the default session, and that is left alone
    all_sessions: bool
    default_before: boto3.Session | None
    # Of each session that was served.
    before: "WeakKeyDictionary[botocore.session.Session, Before]" = field(
        default_factory=WeakKeyDictionary
    )
    in_force: bool = True

    def begin(self) -> None:
        """Nothing is in force before it."""
        global _current
        _listen(True)
        _current = self
        self._serve(_private.botocore_session(self.target))
        if not self.given:
            boto3.DEFAULT_SESSION = self.target

    def end(self) -> None:
        """What Ctrl-C interrupts here, another call finishes."""
        global _current
        _listen(False)
        with _lock.lock:
            self.in_force = False
            for served, before in list(self.before.items()):
                # A session that had nothing may be served by the next installation.
                put_back(served, before, partial(_chain, served, NEW))
        if not self.given and boto3.DEFAULT_SESSION is self.target:
            boto3.DEFAULT_SESSION = self.default_before
        _current = None

    def concerns(self, session: botocore.session.Session) -> bool:
        """Whether a session is to have the role."""
        target = _private.botocore_session(self.target)
        if session is target or not self.in_force:
            return self.in_force
        if session in _own:
            return False
        profile = session.instance_variables().get("profile")
        if profile not in (None, self.role.profile, target.instance_variables().get("profile")):
            return False
        default = boto3.DEFAULT_SESSION
        is_default = default is not None and _private.botocore_session(default) is session
        return self.all_sessions or (not self.given and (is_default or session in _defaults))

    def serves(self, session: boto3.Session, asked: tuple[Any, ...]) -> bool:
        """Whether nothing is left to do for a session: it is not one that was there
        first, and no thread that began before us has put its find there.
        """
        inner = _private.botocore_session(session)
        found = _private.resolved(inner)
        has_role = inner in self.before and (found is None or found.method == METHOD)
        return self.asked == asked and (has_role or Before.of(inner).has_own_keys)

    def _serve(self, session: botocore.session.Session) -> None:
        before = Before.of(session)
        if before.has_own_keys:
            logger.warning(
                "The session has keys of its own, or from a provider that does not say its "
                "method, and they win over the role."
            )
            return
        with _lock.lock:
            self.before[session] = before
            take_over(session, lambda: _chain(session, before))


def current() -> Installation | None:
    """The one in force."""
    return _current


def give(role: Role, session: botocore.session.Session) -> None:
    """Give a session a role of its own, whatever is installed."""
    _own.add(session)
    before = Before.of(session)
    take_over(session, lambda: _with_role(role, session, before.build(session)))


def _listen(on: bool) -> None:
    """Have every session that is made from now on initialized by us, or none."""
    with contextlib.suppress(ValueError):  # it is not there, or somebody cleared the list
        botocore.unregister_initializer(_initialize)
    if on:
        botocore.register_initializer(_initialize)


def _initialize(session: botocore.session.Session) -> None:
    # Called inside every new session's constructor: whether the session is
    # ours to serve is known only when it resolves its credentials.
    if not is_async(session):
        wait_in(session, partial(_chain, session, NEW))
        if _is_made_as_default():
            _defaults.add(session)


def _is_made_as_default() -> bool:
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not _MAKES_DEFAULT:
        frame = frame.f_back
    return frame is not None


def _chain(session: botocore.session.Session, before: Before) -> CredentialResolver:
    chain = before.build(session)
    with _lock.lock:
        installation = _current
        if installation is None or not installation.concerns(session):
            return chain
        installation.before.setdefault(session, NEW)
        return _with_role(installation.role, session, chain, lambda: installation.in_force)


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
