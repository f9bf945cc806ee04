"""The provider in botocore's credential chain, and how a role's credentials are
put together: hop by hop, down to the keys of a user or a machine.
"""

from collections.abc import Callable, Sequence

import botocore.credentials
import botocore.session
from botocore.credentials import (
    AssumeRoleWithWebIdentityProvider,
    CredentialProvider,
    CredentialResolver,
    Credentials,
)

from rolevault import _private, _profile, _source
from rolevault._credentials import RoleCredentials
from rolevault._fetcher import Fetcher
from rolevault._forks import ForkLock
from rolevault._healing import Healer
from rolevault._role import METHOD, Role
from rolevault._source import Source
from rolevault._store import store_for
from rolevault._sts import Sts
from rolevault.vault import Vault


class RoleVaultProvider(CredentialProvider):
    """Gives a session the credentials of one role.

    :param rest: the chain without us, where the source credentials of a role
        given by its ARN come from.
    :param wanted: whether the role still is the session's: a thread may resolve
        while another one uninstalls.
    """

    METHOD = METHOD
    #: botocore demands "custom" of providers that are not its own.
    CANONICAL_NAME = "customRoleVault"

    def __init__(
        self,
        role: Role,
        session: botocore.session.Session,
        rest: CredentialResolver,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(session)
        self._hops = _Hops(session, rest)
        self._role = role
        self._session = session
        self._wanted = wanted
        self._loading = ForkLock()
        self._credentials: RoleCredentials | None = None

    def load(self) -> RoleCredentials | None:
        """The same object for every thread; nothing is asked before it signs. None
        where the role was uninstalled meanwhile: the chain goes on.

        :raises BotoCoreError: the profile's sources contradict each other.
        """
        with self._loading.lock:
            if self._credentials is None:
                credentials = self._hops.credentials(self._role, ())
                if not self._wanted():
                    return None
                self._credentials = credentials
                Healer(credentials).register(self._session)
            return self._credentials if self._wanted() else None


class _Hops:
    """Credentials of roles that are entered from other roles; each hop has its entry."""

    def __init__(self, session: botocore.session.Session, rest: CredentialResolver) -> None:
        self._session = session
        self._rest = rest

    def credentials(self, role: Role, visited: Sequence[str]) -> RoleCredentials:
        """
        :param visited: the profiles whose roles are entered through this one.
        """
        store = store_for(Vault(role.vault_path, role.passphrase))
        sts = Sts(self._session, role.partition)
        return RoleCredentials(Fetcher(role, self._source(role, visited), store, sts))

    def _source(self, role: Role, visited: Sequence[str]) -> Source:
        if role.is_profiles:
            visited = (*visited, role.profile or "default")
            _profile.check_source(self._session, vars(role), visited)
        if role.credential_source is not None:
            return _source.of_name(self._session, role.credential_source, role.profile or "default")
        if role.source_profile is not None:
            return self._of_profile(role, role.source_profile, visited)
        profile = _profile.chosen(self._session)
        if role.profile not in (None, profile):
            # Named together with a role_arn, and put into a session of another one.
            return self._of_profile(role, role.profile, visited)
        rest = CredentialResolver(list(self._rest.providers))
        if role.profile is not None:
            self._leave_environment_out(rest, role.profile)
        methods = [provider.METHOD for provider in rest.providers]
        if _profile.is_role(_profile.fields(self._session, profile)) and "assume-role" in methods:
            before = CredentialResolver(rest.providers[: methods.index("assume-role")])
            return self._of_role_chain(role, profile, before)
        return _source.of_chain(self._session, rest)

    def _leave_environment_out(self, rest: CredentialResolver, profile: str) -> None:
        """A named profile beats the environment's keys and web identity, as in botocore."""
        rest.remove("env")
        chain = _private.profile_chain(self._session, profile, _private.last_region(self._session))
        for place, each in enumerate(rest.providers):
            if isinstance(each, AssumeRoleWithWebIdentityProvider):
                rest.providers[place] = chain.get_provider(each.METHOD)

    def _of_profile(self, role: Role, profile: str, visited: Sequence[str]) -> Source:
        if _profile.is_hop(self._session, profile):
            return self._hop(role, profile, visited)
        return _source.of_profile(self._session, profile)

    def _hop(self, role: Role, profile: str, visited: Sequence[str]) -> Source:
        values = _profile.role_values(self._session, profile)
        hop = self.credentials(role.hop(values), visited)
        return Source({"hop": hop.fetcher.key}, lambda: hop)

    def _of_role_chain(self, role: Role, profile: str, before: CredentialResolver) -> Source:
        """The session's own chain, with our hop where botocore would assume the role.

        :param before: what botocore asks first.
        """
        identity = _source.ahead(before)
        hop: Source | None = None
        if "access_key_id" not in identity:
            hop = self._hop(role, profile, ())
            identity = {**identity, **hop.identity}

        def load() -> Credentials:
            # What is wrong with a profile that nobody asks is no error, as in botocore.
            return before.load_credentials() or (hop or self._hop(role, profile, ())).resolve()

        return Source(identity, load)


def resolver_with(
    role: Role,
    session: botocore.session.Session,
    chain: CredentialResolver,
    wanted: Callable[[], bool] = lambda: True,
) -> CredentialResolver:
    """The session's own chain, which is left as it is, with our provider in it."""
    rest = _providers(chain)
    ours = CredentialResolver(list(rest))
    place(RoleVaultProvider(role, session, CredentialResolver(rest), wanted), role, ours)
    return ours


def _providers(chain: CredentialResolver) -> list[CredentialProvider]:
    """What the chain asks; of ours, at most one stands in it."""
    if getattr(chain.load_credentials, "__func__", None) is CredentialResolver.load_credentials:
        return [each for each in chain.providers if not isinstance(each, RoleVaultProvider)]
    return [_Chain(chain)]


class _Chain(CredentialProvider):
    """Somebody's own resolver, which need not ask providers one by one: it is asked
    as a whole.
    """

    def __init__(self, chain: CredentialResolver) -> None:
        super().__init__()
        self.METHOD = type(chain).__qualname__
        self._chain = chain

    def load(self) -> Credentials | None:
        found: Credentials | None = self._chain.load_credentials()
        return found


def place(provider: CredentialProvider, role: Role, chain: CredentialResolver) -> None:
    """Put the provider first for a role given by its ARN, else where botocore would
    assume the profile's role. Keys given to a client or a session never come here:
    they win, as boto3 users expect.
    """
    methods = [each.METHOD for each in chain.providers]
    if not role.is_profiles or "assume-role" not in methods:
        chain.providers.insert(0, provider)
        return
    if role.profile_is_explicit:
        # A named profile beats the environment's keys, as in botocore.
        chain.remove("env")
    chain.insert_before("assume-role", provider)
