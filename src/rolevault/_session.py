"""The credentials of one botocore session: what stands there, taking it over, and
putting it back. Several threads may resolve at once; botocore has no lock there.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import NamedTuple

import botocore.credentials
import botocore.session
from botocore.credentials import CredentialResolver, Credentials

from rolevault import _private
from rolevault._forks import LATE, ForkLock

MakeChain = Callable[[], CredentialResolver]


class Before(NamedTuple):
    """What stood in a session: its credentials and their chain, as far as they
    were resolved and built, and what builds the chain.
    """

    credentials: Credentials | None
    chain: CredentialResolver | None
    make: MakeChain | None

    @classmethod
    def of(cls, session: botocore.session.Session) -> "Before":
        credentials = _private.resolved(session)
        chain, make = _private.credential_provider(session)
        if isinstance(make, _Once) and make.asks:
            # What it would build depends on who is installed then.
            return cls(credentials, None, None)
        return cls(credentials, chain, make)

    @property
    def has_own_keys(self) -> bool:
        """Keys given to the session itself, which win over every chain."""
        return self.credentials is not None and self.credentials.method == "explicit"

    def build(self, session: botocore.session.Session) -> CredentialResolver:
        """The chain that the session would have without us."""
        if self.chain is not None:
            return self.chain
        if self.make is not None:
            return self.make()
        first = _first(session)
        return standard_chain(session) if first is None else first.build(session)


#: A session that waits for who is installed when it resolves.
NEW = Before(None, None, None)


class _Once:
    """Builds the chain at the first resolution, once.

    :param asks: whether the chain is ours is known only then.
    """

    def __init__(self, make: MakeChain, asks: bool) -> None:
        self._make = make
        self.asks = asks
        self._made: CredentialResolver | None = None
        self._making = ForkLock()

    def __call__(self) -> CredentialResolver:
        with self._making.lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def take_over(session: botocore.session.Session, make: MakeChain, *, asks: bool = False) -> None:
    """``make`` builds the chain at the first resolution, once.

    :param asks: it looks then whether the session is ours to serve.
    """
    # In this order: a thread that looks in between finds the new chain.
    session.lazy_register_component("credential_provider", _Once(make, asks))
    _private.set_resolved(session, None)


def wait_in(session: botocore.session.Session, make: MakeChain) -> None:
    """Take over a session that was just made, and may never be ours to serve."""
    keep_first(session)
    take_over(session, make, asks=True)


def keep_first(session: botocore.session.Session) -> Before:
    """What stood there before anything of ours, whenever it is asked."""
    # In the session itself: it may be a method of the session, and kept elsewhere
    # would keep that alive.
    first = _first(session)
    if first is None:
        first = Before.of(session)
        session.register_component(_FIRST, first)
    return first


_FIRST = "rolevault_first"


def _first(session: botocore.session.Session) -> Before | None:
    with contextlib.suppress(ValueError):  # no such component
        found: Before = session.get_component(_FIRST)
        return found
    return None


def put_back(session: botocore.session.Session, before: Before, make: MakeChain) -> None:
    """The exact inverse of ``take_over``, unless somebody gave the session keys of
    its own meanwhile: these stay.

    :param make: builds the chain of a session that had nothing yet.
    """
    with LATE.lock:
        from rolevault._credentials import RoleCredentials
        from rolevault._healing import Healer

    Healer.unregister(session)
    own_keys = _private.resolved(session) if Before.of(session).has_own_keys else None
    if before.chain is not None:
        session.register_component("credential_provider", before.chain)
    elif before.make is not None:
        session.lazy_register_component("credential_provider", before.make)
    else:
        session.lazy_register_component("credential_provider", _Once(make, asks=True))
    _private.set_resolved(session, own_keys or before.credentials)
    if isinstance(before.credentials, RoleCredentials):
        Healer(before.credentials).register(session)


def standard_chain(session: botocore.session.Session) -> CredentialResolver:
    """As botocore's own sessions build theirs."""
    return botocore.credentials.create_credential_resolver(
        session, region_name=_private.last_region(session)
    )


def is_async(session: botocore.session.Session) -> bool:
    """aiobotocore's sessions derive from botocore's, and want async credentials."""
    return inspect.iscoroutinefunction(session.get_credentials)
