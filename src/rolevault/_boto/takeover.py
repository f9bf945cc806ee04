"""Replacing the credential chain of one botocore session, and restoring it.

Several threads may resolve the credentials of a session at once, and botocore has no lock there.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import botocore.credentials
import botocore.session
from botocore.credentials import CredentialResolver, Credentials

from rolevault import _botocore_private
from rolevault._concurrency.fork_lock import IMPORT_LOCK, ForkLock

MakeChain = Callable[[], CredentialResolver]


class OriginalCredentials(NamedTuple):
    """The credentials of a session before rolevault.

    :param credentials: the credentials, if they were resolved.
    :param chain: the credential chain, if it was built.
    :param make: builds the chain, if it was not built.
    """

    credentials: Credentials | None
    chain: CredentialResolver | None
    make: MakeChain | None

    @classmethod
    def of(cls, session: botocore.session.Session) -> "OriginalCredentials":
        """Return the credentials that the session has now."""
        credentials = _botocore_private.resolved(session)
        chain, make = _botocore_private.credential_provider(session)
        if isinstance(make, _LazyChain) and make.is_deferred:
            # Its chain depends on what is installed when it is built, and so is not original.
            return cls(credentials, None, None)
        return cls(credentials, chain, make)

    @property
    def has_own_keys(self) -> bool:
        """Whether keys were given to the session itself. Such keys beat every chain."""
        return self.credentials is not None and self.credentials.method == "explicit"

    def build(self, session: botocore.session.Session) -> CredentialResolver:
        """Return the chain that the session would have without rolevault."""
        if self.chain is not None:
            return self.chain
        if self.make is not None:
            return self.make()
        first = _recall_original(session)
        return standard_chain(session) if first is None else first.build(session)


#: Of a session that had nothing yet. Whether it gets a role is decided when it first resolves its
#: credentials.
UNRESOLVED = OriginalCredentials(None, None, None)


class _LazyChain:
    """Builds the chain at the first resolution, once.

    :param is_deferred: true if ``make`` decides whether the session gets a role.
    """

    def __init__(self, make: MakeChain, *, is_deferred: bool) -> None:
        self._make = make
        self.is_deferred = is_deferred
        self._chain: CredentialResolver | None = None
        self._make_lock = ForkLock()

    def __call__(self) -> CredentialResolver:
        with self._make_lock.lock:
            if self._chain is None:
                self._chain = self._make()
            return self._chain


def replace_chain(session: botocore.session.Session, make: MakeChain) -> None:
    """Have ``make`` build the session's chain at the first resolution, once."""
    _replace(session, _LazyChain(make, is_deferred=False))


def defer_chain(session: botocore.session.Session, make: MakeChain) -> None:
    """Have ``make`` decide at the first resolution whether the session gets a role, and build its
    chain. This is for a session that was just made.
    """
    remember_original(session)
    _replace(session, _LazyChain(make, is_deferred=True))


def _replace(session: botocore.session.Session, chain: _LazyChain) -> None:
    # The order matters: a thread that resolves between the two lines finds the new chain.
    session.lazy_register_component("credential_provider", chain)
    _botocore_private.set_resolved(session, None)


def remember_original(session: botocore.session.Session) -> OriginalCredentials:
    """Return what the session had before rolevault first touched it. Note it at the first call."""
    original = _recall_original(session)
    if original is None:
        original = OriginalCredentials.of(session)
        # The note is in the session, because ``make`` may be a method of the session. A note
        # elsewhere would then keep the session alive.
        session.register_component(_ORIGINAL, original)
    return original


_ORIGINAL = "rolevault_original"


def _recall_original(session: botocore.session.Session) -> OriginalCredentials | None:
    with contextlib.suppress(ValueError):  # no such component
        found: OriginalCredentials = session.get_component(_ORIGINAL)
        return found
    return None


def restore_chain(
    session: botocore.session.Session, original: OriginalCredentials, make: MakeChain
) -> None:
    """Undo ``replace_chain()`` exactly. Keys that the session was given with
    ``set_credentials()`` since then are kept.

    :param make: builds the chain if the session had nothing before.
    """
    with IMPORT_LOCK:
        from rolevault._boto.credentials import RoleCredentials
        from rolevault._boto.refused_keys import RefusedKeyRetry

    RefusedKeyRetry.unregister(session)
    has_own_keys = OriginalCredentials.of(session).has_own_keys
    own_keys = _botocore_private.resolved(session) if has_own_keys else None
    if original.chain is not None:
        session.register_component("credential_provider", original.chain)
    elif original.make is not None:
        session.lazy_register_component("credential_provider", original.make)
    else:
        deferred = _LazyChain(make, is_deferred=True)
        session.lazy_register_component("credential_provider", deferred)
    _botocore_private.set_resolved(session, own_keys or original.credentials)
    if isinstance(original.credentials, RoleCredentials):
        RefusedKeyRetry(original.credentials.renewal).register(session)


def standard_chain(session: botocore.session.Session) -> CredentialResolver:
    """Return the chain that botocore builds for a session."""
    return botocore.credentials.create_credential_resolver(
        session, region_name=_botocore_private.last_region(session)
    )
