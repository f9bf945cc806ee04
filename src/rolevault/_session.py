"""The credentials of one botocore session: what stands there, taking it over, and
putting it back. Several threads may resolve at once; botocore has no lock there.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import botocore.credentials
import botocore.session
from botocore.credentials import CredentialResolver, Credentials

from rolevault import _private
from rolevault._flight import ForkLock

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
        return cls(_private.resolved(session), *_private.credential_provider(session))

    @property
    def has_own_keys(self) -> bool:
        """Keys given to the session itself, which win over every chain."""
        return self.credentials is not None and self.credentials.method == "explicit"

    def build(self, session: botocore.session.Session) -> CredentialResolver:
        """The chain that the session would have without us."""
        if self.chain is not None:
            return self.chain
        return self.make() if self.make is not None else standard_chain(session)


#: A session that had nothing yet. To remember what would build its chain would
#: keep it alive: that is a method of the session itself.
NEW = Before(None, None, None)


def take_over(session: botocore.session.Session, make: MakeChain) -> None:
    """``make`` builds the chain at the first resolution, once."""
    made: list[CredentialResolver] = []
    making = ForkLock()

    def once() -> CredentialResolver:
        with making:
            if not made:
                made.append(make())
            return made[0]

    _private.set_resolved(session, None)
    session.lazy_register_component("credential_provider", once)


def put_back(session: botocore.session.Session, before: Before, make: MakeChain) -> None:
    """The exact inverse of ``take_over``, unless somebody gave the session keys of
    its own meanwhile: these stay.

    :param make: builds the chain of a session that had nothing yet.
    """
    from rolevault._credentials import RoleCredentials
    from rolevault._healing import Healer

    Healer.unregister(session)
    own_keys = _private.resolved(session) if Before.of(session).has_own_keys else None
    if before.chain is not None:
        session.register_component("credential_provider", before.chain)
    elif before.make is not None:
        session.lazy_register_component("credential_provider", before.make)
    else:
        take_over(session, make)
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
