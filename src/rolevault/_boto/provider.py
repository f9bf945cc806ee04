"""The provider in botocore's credential chain, and where in the chain it stands."""

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

    :param rest: the chain without this provider, where the source credentials of a role
        given by its ARN come from.
    :param is_wanted: whether the session still has the role. A thread may resolve
        credentials while another one uninstalls.
    """

    METHOD = METHOD
    #: botocore demands "custom" of providers that are not its own.
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
        """The credentials, the same object for every thread. Nobody is asked before they
        sign. None where the role was uninstalled meanwhile: the chain goes on.

        :raises BotoCoreError: the profile's sources contradict each other.
        :raises ConfigurationError: a ``source_session`` leads back to this session.
        """
        with self._load_lock.lock:
            if self._is_loading:
                raise ConfigurationError(
                    option="source_session",
                    value=repr(self._role.source_session),
                    rule="its credentials come from the role that it enters. Enter one of the "
                    "two roles from another session.",
                )
            if self._credentials is None:
                self._is_loading = True
                try:
                    credentials = RoleCredentials(self._chain.renewal(self._role))
                finally:
                    self._is_loading = False
                if not self._is_wanted():
                    return None
                self._credentials = credentials
                RefusedKeyRetry(credentials.renewal).register(self._session)
            return self._credentials if self._is_wanted() else None


class _WholeChain(CredentialProvider):
    """A resolver of somebody's own making, asked as a whole: it need not ask its providers
    one by one.
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
    """A copy of the session's own chain, with the provider in it."""
    rest = _providers(chain)
    ours = CredentialResolver(list(rest))
    provider = RoleVaultProvider(role, session, CredentialResolver(rest), is_wanted)
    insert_provider(provider, role, ours)
    return ours


def insert_provider(provider: CredentialProvider, role: Role, chain: CredentialResolver) -> None:
    """Put the provider first for a role given by its ARN, else where botocore would enter
    the profile's role. Keys given to a client or a session beat every chain, as boto3 users
    expect.
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
    """What the chain asks, without a provider of ours: a chain holds at most one."""
    if getattr(chain.load_credentials, "__func__", None) is CredentialResolver.load_credentials:
        return [each for each in chain.providers if not isinstance(each, RoleVaultProvider)]
    return [_WholeChain(chain)]
