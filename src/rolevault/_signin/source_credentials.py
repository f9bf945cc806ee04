"""The credentials that assume a role: a user's, a machine's, or those of another role."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import botocore.credentials
import botocore.session
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    EnvProvider,
    ReadOnlyCredentials,
)
from botocore.exceptions import CredentialRetrievalError, InvalidConfigError, NoCredentialsError

from rolevault import _botocore_private
from rolevault._concurrency.fork_lock import ForkLock
from rolevault._roles import source_identity
from rolevault._roles.config_files import check_readable
from rolevault._roles.role import METHOD
from rolevault._roles.source_identity import Identity
from rolevault._roles.source_rules import CREDENTIAL_SOURCES
from rolevault._signin.sts_session import Keys

#: The METHODs of providers whose credentials are always a role's.
_ROLE_METHODS = frozenset(
    {
        "assume-role",
        "assume-role-with-web-identity",
        "container-role",
        "iam-role",
        "sso",
        METHOD,
    }
)


class UpperRole(Protocol):
    """A role of ours from which another role is entered ("role chaining")."""

    def frozen(self, *, ask: bool) -> ReadOnlyCredentials: ...

    def ensure(self, min_ttl: float, *, refresh: bool) -> datetime: ...

    def drop_refused_key(self, access_key_id: str) -> bool: ...


class SourceCredentials:
    """Source credentials, resolved once, when the vault holds no session of the role.

    :param identity: who they are, as the configuration tells.
    :param load: finds them, or returns None.
    :param enter: gives the upper role, where ``load`` finds nothing.
    """

    def __init__(
        self,
        identity: Identity,
        load: Callable[[], Credentials | None],
        enter: Callable[[], UpperRole] | None = None,
    ) -> None:
        self.identity = identity
        self._load = load
        self._enter = enter
        self._state_lock = ForkLock()
        self._found: Credentials | None = None
        self._upper_role: UpperRole | None = None

    @property
    def method(self) -> str:
        """The METHOD of the provider that found them.

        :raises NoCredentialsError: nothing has any; and whatever botocore's providers raise.
        """
        if self.upper_role() is not None:
            return METHOD
        return str(self._credentials().method)

    def upper_role(self) -> UpperRole | None:
        """The role that the credentials belong to, where rolevault is the one to enter it.

        :raises BotoCoreError: whatever botocore's providers raise.
        """
        with self._state_lock.lock:
            if self._found is None and self._upper_role is None:
                self._found = self._load()
                if self._found is None and self._enter is not None:
                    self._upper_role = self._enter()
            return self._upper_role

    def keys(self, *, ask: bool) -> Keys:
        """Keys that sign now.

        :param ask: whether a person may be asked for a code, to enter the upper role.
        :raises NoCredentialsError: as ``method``; and why an upper role cannot be entered.
        """
        upper_role = self.upper_role()
        if upper_role is not None:
            frozen = upper_role.frozen(ask=ask)
        else:
            frozen = self._credentials().get_frozen_credentials()
        return frozen.access_key or "", frozen.secret_key or "", frozen.token

    def is_role(self) -> bool:
        """Whether they are a role's, as far as botocore tells. A code could never work with
        them: an MFA device belongs to a user.

        :raises NoCredentialsError: as ``method``.
        """
        method = self.method
        if method == "login":
            # A console session's credentials are a user's or a role's.
            return ":assumed-role/" in self.identity.get("login_session", "")
        return method in _ROLE_METHODS

    def _credentials(self) -> Credentials:
        if self._found is None:
            raise NoCredentialsError
        return self._found


def from_chain(session: botocore.session.Session, chain: CredentialResolver) -> SourceCredentials:
    """What the session would sign with without rolevault.

    :raises ConfigurationError: when resolved, if the chain finds nothing and a file of
        profiles cannot be read.
    """

    def load() -> Credentials | None:
        credentials: Credentials | None = chain.load_credentials()
        if credentials is None:
            check_readable(session)
        return credentials

    return SourceCredentials(source_identity.of_chain(session, chain), load)


def from_profile(session: botocore.session.Session, profile: str) -> SourceCredentials:
    """The credentials of a source profile that is entered by no AssumeRole.

    :raises InvalidConfigError: when resolved, if the profile holds no credentials.
    :raises ConfigurationError: the same, where a file of profiles cannot be read.
    """
    # Now, because the session's next client may be for another region before they are
    # resolved.
    region = _botocore_private.last_region(session)

    def load() -> Credentials:
        chain = _botocore_private.profile_chain(session, profile, region)
        credentials: Credentials | None = chain.load_credentials()
        if credentials is None:
            check_readable(session)
            message = f'The source profile "{profile}" must have credentials.'
            raise InvalidConfigError(error_msg=message)
        return credentials

    return SourceCredentials(source_identity.of_profile(session, profile), load)


def from_credential_source(
    session: botocore.session.Session, name: str, profile: str
) -> SourceCredentials:
    """The credentials of a ``credential_source``.

    :param name: one of ``CREDENTIAL_SOURCES``.
    :param profile: the profile that names the source.
    :raises CredentialRetrievalError: when resolved, if the source has no credentials.
    """
    method = CREDENTIAL_SOURCES[name]

    def load() -> Credentials:
        # A session with a profile of its own has no EnvProvider in its chain.
        provider: CredentialProvider = EnvProvider()
        if method != "env":
            provider = botocore.credentials.create_credential_resolver(session).get_provider(method)
        credentials: Credentials | None = provider.load()
        if credentials is None:
            raise CredentialRetrievalError(
                provider=name,
                error_msg="No credentials found in credential_source referenced in profile "
                f"{profile}",
            )
        return credentials

    return SourceCredentials(source_identity.of_credential_source(session, name), load)
