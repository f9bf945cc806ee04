"""Roles that are entered from other roles ("role chaining"), down to the keys of a user or
a machine. The vault has a session for each role of the chain.
"""

import functools
from collections.abc import Sequence

import botocore.session
from botocore.credentials import AssumeRoleWithWebIdentityProvider, CredentialResolver

from rolevault import _botocore_private
from rolevault._roles.profile import chosen_profile, is_role, is_upper_role, role_values, settings
from rolevault._roles.role import Role
from rolevault._roles.source_rules import check_source
from rolevault._signin import source_lookup
from rolevault._signin.fetcher import Fetcher
from rolevault._signin.mfa_hint import mfa_hint
from rolevault._signin.renewal import Renewal
from rolevault._signin.session_store import store_for
from rolevault._signin.source_credentials import SourceCredentials
from rolevault._signin.source_session import from_role, from_session
from rolevault._signin.sts_client import StsClientFactory
from rolevault._signin.user_fetcher import UserFetcher
from rolevault._vault.vault import Vault


class RoleChain:
    """Builds the renewal of a role for one botocore session.

    :param session: the botocore session with whose settings STS is called.
    :param rest: the credential chain of the session without rolevault. The source credentials
        of a role that was given by its ARN come from this chain.
    """

    def __init__(self, session: botocore.session.Session, rest: CredentialResolver) -> None:
        self._session = session
        self._rest = rest

    def renewal(self, role: Role, visited: Sequence[str] = ()) -> Renewal:
        """Return the renewal of the role's session. Nobody is asked, and nothing is called.

        :param visited: the profiles whose roles are entered through this one.
        :raises BotoCoreError: the profile's sources contradict each other.
        """
        store = store_for(Vault(role.vault_path, role.passphrase))
        sts = StsClientFactory(self._session, role.partition)
        source = self._source(role, visited)
        if role.role_arn is None:
            return Renewal(UserFetcher(role, source, store, sts))
        hint = functools.partial(mfa_hint, self._session, role)
        return Renewal(Fetcher(role, source, store, sts, hint))

    def _source(self, role: Role, visited: Sequence[str]) -> SourceCredentials:
        session = self._session
        if role.source_session is not None:
            return from_session(role.source_session)
        if role.role_arn is not None and role.is_from_profile:
            visited = (*visited, role.profile or "default")
            check_source(session, vars(role), visited)
        if role.credential_source is not None:
            return source_lookup.from_credential_source(
                session, role.credential_source, role.profile or "default"
            )
        if role.source_profile is not None:
            return self._from_profile(role, role.source_profile, visited)
        profile = chosen_profile(session)
        if role.profile not in (None, profile):
            # install(role_arn, profile=…, session=…) was called, and the session has another
            # profile.
            return self._from_profile(role, role.profile, visited)
        rest = CredentialResolver(list(self._rest.providers))
        if role.profile is not None:
            self._leave_environment_out(rest, role.profile)
        methods = [provider.METHOD for provider in rest.providers]
        if is_role(settings(session, profile)) and "assume-role" in methods:
            before = CredentialResolver(rest.providers[: methods.index("assume-role")])
            return from_role(before, lambda: self._upper_role(role, profile, ()))
        return source_lookup.from_chain(session, rest)

    def _leave_environment_out(self, rest: CredentialResolver, profile: str) -> None:
        """Remove the environment's keys and web identity from the chain: a named profile beats
        both, as in botocore.
        """
        rest.remove("env")
        region = _botocore_private.last_region(self._session)
        chain = _botocore_private.profile_chain(self._session, profile, region)
        for index, each in enumerate(rest.providers):
            if isinstance(each, AssumeRoleWithWebIdentityProvider):
                rest.providers[index] = chain.get_provider(each.METHOD)

    def _from_profile(self, role: Role, profile: str, visited: Sequence[str]) -> SourceCredentials:
        if not is_upper_role(self._session, profile):
            return source_lookup.from_profile(self._session, profile)
        return from_role(CredentialResolver([]), lambda: self._upper_role(role, profile, visited))

    def _upper_role(self, role: Role, profile: str, visited: Sequence[str]) -> Renewal:
        values = role_values(self._session, profile)
        return self.renewal(role.upper_role(values), visited)
