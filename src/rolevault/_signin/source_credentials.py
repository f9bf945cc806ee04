"""Source credentials: the credentials of a user, a machine or another role that assume a role."""

import re
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
from rolevault.errors import ConfigurationError

#: The METHODs of botocore's providers whose credentials always belong to a role.
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
    """A role of rolevault from which another role is entered ("role chaining")."""

    def frozen(self, *, ask: bool) -> ReadOnlyCredentials: ...

    def ensure(self, min_ttl: float, *, refresh: bool) -> datetime: ...

    def drop_refused_key(self, access_key_id: str) -> bool: ...


class SourceCredentials:
    """Source credentials. They are resolved when they are first used, which is when the vault
    holds no session of the role.

    :param identity: whose credentials they are, as far as the configuration tells.
    :param load: resolves the credentials; returns None if there are none.
    :param enter: returns the upper role, if ``load`` has returned None.
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
        """The METHOD of the provider that found the credentials.

        :raises NoCredentialsError: there are no credentials.
        :raises BotoCoreError: one of botocore's providers failed.
        """
        if self.upper_role() is not None:
            return METHOD
        return str(self._credentials().method)

    def upper_role(self) -> UpperRole | None:
        """Return the role that the credentials belong to, if rolevault enters that role.

        :raises BotoCoreError: one of botocore's providers failed.
        """
        with self._state_lock.lock:
            if self._found is None and self._upper_role is None:
                self._found = self._load()
                if self._found is None and self._enter is not None:
                    self._upper_role = self._enter()
            return self._upper_role

    def keys(self, *, ask: bool) -> Keys:
        """Return keys that sign now.

        :param ask: whether a person may be asked for a code, to enter the upper role.
        :raises BotoCoreError, ClientError: as ``method``, and why the upper role cannot be
            entered.
        :raises ConfigurationError: a key or the token holds a control character.
        """
        upper_role = self.upper_role()
        if upper_role is not None:
            frozen = upper_role.frozen(ask=ask)
        else:
            frozen = self._credentials().get_frozen_credentials()
        keys = (frozen.access_key or "", frozen.secret_key or "", frozen.token)
        for name, text in zip(("access key id", "secret key", "session token"), keys, strict=True):
            if text is not None and re.search(r"[\x00-\x1f\x7f]", text):
                # Sent, it would break a header, and the error would show it.
                raise ConfigurationError(
                    option=f"source credentials ({self.method})",
                    value="<not shown>",
                    rule=f"the {name} holds a line break or another control character. Look "
                    "for a CR at its end, as files of Windows have it.",
                )
        return keys

    def is_role(self) -> bool:
        """Return whether the credentials belong to a role, as far as botocore tells. No code
        can work with them, because an MFA device belongs to a user.

        :raises BotoCoreError: as ``method``.
        """
        method = self.method
        if method == "login":
            # "aws login" gives the credentials of a console session: a user's or a role's.
            return ":assumed-role/" in self.identity.get("login_session", "")
        return method in _ROLE_METHODS

    def _credentials(self) -> Credentials:
        if self._found is None:
            raise NoCredentialsError
        return self._found


def from_chain(session: botocore.session.Session, chain: CredentialResolver) -> SourceCredentials:
    """Return the credentials with which the session would sign without rolevault.

    :raises ConfigurationError: when they are resolved, if the chain finds none and a file of
        profiles cannot be read.
    """

    def load() -> Credentials | None:
        credentials: Credentials | None = chain.load_credentials()
        if credentials is None:
            check_readable(session)
        return credentials

    return SourceCredentials(source_identity.of_chain(session, chain), load)


def from_profile(session: botocore.session.Session, profile: str) -> SourceCredentials:
    """Return the credentials of a source profile that is not a role entered by AssumeRole.

    :raises InvalidConfigError: when they are resolved, if the profile has no credentials.
    :raises ConfigurationError: then, if a file of profiles cannot be read.
    """
    # Read now: a client for another region may be made before the credentials are resolved.
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
    """Return the credentials of a ``credential_source``.

    :param name: one of ``CREDENTIAL_SOURCES``.
    :param profile: the profile that names the source.
    :raises CredentialRetrievalError: when they are resolved, if the source has none.
    """
    method = CREDENTIAL_SOURCES[name]

    def load() -> Credentials:
        # The chain of a session with an explicit profile has no EnvProvider.
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
