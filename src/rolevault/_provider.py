"""The provider in botocore's credential chain."""

import logging
import threading

import botocore.credentials
import botocore.session
from botocore.credentials import CredentialProvider, CredentialResolver

from rolevault import _private, _source
from rolevault._credentials import METHOD, RoleCredentials
from rolevault._fetcher import Fetcher
from rolevault._healing import Healer
from rolevault._role import Role
from rolevault._store import store_for
from rolevault._sts import Sts
from rolevault.vault import Vault

logger = logging.getLogger(__name__)


class RoleVaultProvider(CredentialProvider):
    """Gives a session the credentials of one role.

    ``rest`` is the chain without us: where the source credentials come from.
    """

    METHOD = METHOD
    #: botocore demands "custom" of providers that are not its own.
    CANONICAL_NAME = "customRoleVault"

    def __init__(
        self, role: Role, session: botocore.session.Session, rest: CredentialResolver
    ) -> None:
        super().__init__(session)
        self._role = role
        self._session = session
        self._rest = rest
        self._loading = threading.Lock()
        self._credentials: RoleCredentials | None = None

    def load(self) -> RoleCredentials:
        """The same object for every thread; nothing is asked before it signs."""
        with self._loading:
            if self._credentials is None:
                role, session = self._role, self._session
                if role.source_profile is not None:
                    source = _source.of_profile(session, role.source_profile)
                else:
                    source = _source.rest_of_chain(session, self._rest)
                store = store_for(Vault(role.vault_path, role.passphrase))
                fetcher = Fetcher(role, source, store, Sts(session, role.partition))
                self._credentials = RoleCredentials(fetcher)
                Healer(self._credentials).register(session)
            return self._credentials


def resolver_with(role: Role, session: botocore.session.Session) -> CredentialResolver:
    """Botocore's own chain with our provider first. Keys given to a client or a
    session never come here: they win, as boto3 users expect.
    """
    rest = botocore.credentials.create_credential_resolver(
        session, region_name=_private.last_region(session)
    )
    provider = RoleVaultProvider(role, session, rest)
    return CredentialResolver([provider, *rest.providers])
