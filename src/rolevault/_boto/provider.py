"""The provider of a role in botocore's credential chain, and its place in the chain."""

from collections.abc import Callable

import botocore.session
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials

from rolevault._boto.credentials import RoleCredentials
from rolevault._boto.refused_keys import RefusedKeyRetry
from rolevault._concurrency.fork_lock import ForkLock
from rolevault._roles.role import METHOD, Role
from rolevault._signin.role_chain import RoleChain
from rolevault.errors import ConfigurationError


class RoleVaultProvider(CredentialProvider):
    """Gives a session the credentials of one role.

    :param rest: the chain without this provider. The source credentials of a role that was given
        by its ARN come from this chain.
    :param is_wanted: returns whether the session is still to have the role. A thread may resolve
        credentials while another thread calls ``uninstall()``.
    """

    METHOD = METHOD
    #: botocore's ``CredentialProvider`` asks that the name of other people's providers begins
    #: with "custom".
    CANONICAL_NAME = "customRoleVault"

    def __init__(
        self,
        role: Role,
        session: botocore.session.Session,
        rest: CredentialResolver,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(session)
        self._chain = RoleChain(session, rest)
        self._role = role
        self._session = session
        self._is_wanted = is_wanted
        self._load_lock = ForkLock()
        self._credentials: RoleCredentials | None = None
        self._is_loading = False

    def load(self) -> RoleCredentials | None:
        """Return the credentials, the same object for every thread. Nobody is asked before these
        credentials sign a request. Return None if the role was uninstalled since: botocore asks
        the next provider.

        :raises BotoCoreError: the profile's sources contradict each other.
        :raises ConfigurationError: the credentials of the ``source_session`` come from this
            session.
        """
        with self._load_lock.lock:
            if self._is_loading:
                # The lock is reentrant: this thread looked for the source credentials, and the
                # search came back here.
                raise ConfigurationError(
                    option="source_session",
                    value=repr(self._role.source_session),
                    rule="its credentials come from the role that it enters. Enter one of the "
                    "two roles from another session.",
                )
            if self._credentials is None:
                self._is_loading = True
                try:
                    self._credentials = RoleCredentials(self._chain.renewal(self._role))
                finally:
                    self._is_loading = False
            if not self._is_wanted():
                return None
            RefusedKeyRetry(self._credentials.renewal).register(self._session)
            return self._credentials


class _WholeChain(CredentialProvider):
    """A whole chain as one provider. It stands for a ``CredentialResolver`` whose
    ``load_credentials()`` somebody has overridden, which may not ask its providers at all.
    """

    def __init__(self, chain: CredentialResolver) -> None:
        super().__init__()
        self.METHOD = type(chain).__qualname__
        self._chain = chain

    def load(self) -> Credentials | None:
        found: Credentials | None = self._chain.load_credentials()
        return found


def chain_with_provider(
    role: Role,
    session: botocore.session.Session,
    chain: CredentialResolver,
    is_wanted: Callable[[], bool] = lambda: True,
) -> CredentialResolver:
    """Return a copy of the session's own chain, with a provider of the role in it."""
    rest = _providers(chain)
    ours = CredentialResolver(list(rest))
    provider = RoleVaultProvider(role, session, CredentialResolver(rest), is_wanted)
    insert_provider(provider, role, ours)
    return ours


def insert_provider(provider: CredentialProvider, role: Role, chain: CredentialResolver) -> None:
    """Put the provider into the chain: first, if the role was given by its ARN; else where
    botocore would enter the profile's role. Keys that were given to a client or a session beat
    every chain, as users of boto3 expect.
    """
    methods = [each.METHOD for each in chain.providers]
    if not role.is_from_profile or "assume-role" not in methods:
        chain.providers.insert(0, provider)
        return
    if role.profile_is_explicit:
        # A named profile beats the environment's keys, as in botocore.
        chain.remove("env")
    chain.insert_before("assume-role", provider)


def _providers(chain: CredentialResolver) -> list[CredentialProvider]:
    """Return the providers of the chain without rolevault's own: one chain has one role."""
    if getattr(chain.load_credentials, "__func__", None) is CredentialResolver.load_credentials:
        return [each for each in chain.providers if not isinstance(each, RoleVaultProvider)]
    return [_WholeChain(chain)]
