"""Who assumes the role: the source credentials, and who they are before they
are resolved.

A warm start needs only the latter, read from configuration alone: no process
is started and no network asked while the vault serves.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import botocore.credentials
import botocore.session
from botocore.credentials import (
    BotoProvider,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    EnvProvider,
    OriginalEC2Provider,
    ReadOnlyCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    CredentialRetrievalError,
    InvalidConfigError,
    NoCredentialsError,
)

from rolevault import _private, _profile
from rolevault._config_files import check_readable
from rolevault._forks import ForkLock
from rolevault._role import digest

#: Providers whose credentials are always a role's.
_ROLE_METHODS = frozenset(
    {
        "assume-role",
        "assume-role-with-web-identity",
        "container-role",
        "iam-role",
        "rolevault",
        "sso",
    }
)

#: What tells one profile from another beside static keys. No secret is among them.
_FIELDS = (
    "web_identity_token_file",
    "credential_process",
    "login_session",
    "sso_session",
    "sso_start_url",
    "sso_region",
    "sso_account_id",
    "sso_role_name",
)
_WEB_IDENTITY = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
_CONTAINER = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
_CONTAINER_TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105  the variable's name


@runtime_checkable
class Hop(Protocol):
    """Source credentials that are a role's of our own, with a sign-in of their own."""

    def frozen(self, *, ask: bool) -> ReadOnlyCredentials: ...

    def ensure(self, min_ttl: float, *, refresh: bool) -> datetime: ...

    def refused(self, access_key_id: str) -> bool: ...


class Source:
    """Source credentials, resolved once, on the first miss."""

    def __init__(self, identity: Mapping[str, Any], load: Callable[[], Credentials | None]) -> None:
        self.identity = identity
        self._load = load
        self._loading = ForkLock()
        self._credentials: Credentials | None = None

    def resolve(self) -> Credentials:
        """
        :raises NoCredentialsError: nothing in the chain has any; and whatever
            botocore's providers raise.
        """
        with self._loading.lock:
            if self._credentials is None:
                self._credentials = self._load()
            if self._credentials is None:
                raise NoCredentialsError
            return self._credentials

    def is_role(self) -> bool:
        """Whether the credentials are a role's, as far as botocore tells. A code could
        never work with them: the MFA device belongs to a user.
        """
        method = self.resolve().method
        if method == "login":
            # Of a console session, which is a user's or a role's.
            return ":assumed-role/" in self.identity.get("login_session", "")
        return method in _ROLE_METHODS

    def hop(self) -> Hop | None:
        """The role that the credentials belong to, where we are the one to enter it."""
        credentials: object = self.resolve()
        return credentials if isinstance(credentials, Hop) else None


def of_chain(session: botocore.session.Session, chain: CredentialResolver) -> Source:
    """What the session would use without us.

    :raises ConfigurationError: when resolved, if it finds nothing and a file cannot be read.
    """
    identity = ahead(chain)
    if "access_key_id" not in identity:
        # A stranger's provider may have nothing, and then the profile decides.
        identity |= _identity(session, _profile.chosen(session))
        if "access_key_id" not in identity:
            identity |= _old_files() | _container() | _machine(session)
        if any(provider.METHOD == "env" for provider in chain.providers):
            identity |= _set_in_environment(*_WEB_IDENTITY)

    def load() -> Credentials | None:
        credentials: Credentials | None = chain.load_credentials()
        if credentials is None:
            check_readable(session)
        return credentials

    return Source(identity, load)


def ahead(chain: CredentialResolver) -> dict[str, Any]:
    """What may answer ahead of every profile: the environment's keys, and providers
    that somebody put into the chain.
    """
    key = os.environ.get("AWS_ACCESS_KEY_ID")
    strangers = [
        str(provider.METHOD)
        for provider in chain.providers
        if not type(provider).__module__.startswith("botocore.")
    ]
    identity: dict[str, Any] = {}
    if strangers:
        # They are known by their names alone, and may ask botocore's providers.
        environment = _set_in_environment("AWS_ACCESS_KEY_ID", *_WEB_IDENTITY)
        identity = {"providers": strangers, "environment": environment}
    if key and any(provider.METHOD == "env" for provider in chain.providers):
        identity["access_key_id"] = key
    return identity


def of_profile(session: botocore.session.Session, profile: str) -> Source:
    """What a source profile holds that is no role itself.

    :raises InvalidConfigError: when resolved, if it holds no credentials.
    :raises ConfigurationError: the same, where a file cannot be read.
    """

    # Of the client for which they are looked for, not of one made meanwhile.
    region = _private.last_region(session)

    def load() -> Credentials:
        credentials: Credentials | None = _private.profile_chain(
            session, profile, region
        ).load_credentials()
        if credentials is None:
            check_readable(session)
            message = f'The source profile "{profile}" must have credentials.'
            raise InvalidConfigError(error_msg=message)
        return credentials

    return Source(_identity(session, profile), load)


def of_name(session: botocore.session.Session, credential_source: str, profile: str) -> Source:
    """``credential_source``, one of ``_profile.CREDENTIAL_SOURCES``.

    :raises CredentialRetrievalError: when resolved, if it has no credentials.
    """
    method = _profile.CREDENTIAL_SOURCES[credential_source]
    identity: dict[str, Any] = {"credential_source": credential_source}
    if method == "env":
        identity = {"access_key_id": os.environ.get("AWS_ACCESS_KEY_ID")}
    elif method == "container-role":
        identity |= _container()
    else:
        identity |= _machine(session)

    def load() -> Credentials:
        # A session with a profile of its own has no EnvProvider in its chain.
        provider: CredentialProvider = EnvProvider()
        if method != "env":
            provider = botocore.credentials.create_credential_resolver(session).get_provider(method)
        credentials: Credentials | None = provider.load()
        if credentials is None:
            raise CredentialRetrievalError(
                provider=credential_source,
                error_msg="No credentials found in credential_source referenced in profile "
                f"{profile}",
            )
        return credentials

    return Source(identity, load)


def _old_files() -> dict[str, Any]:
    """Of boto 2, which botocore still reads: files with keys, asked after every profile."""
    for provider in (OriginalEC2Provider(), BotoProvider()):
        # What is wrong with a file that nobody asks is no error, as in botocore.
        with contextlib.suppress(BotoCoreError, KeyError, ValueError):
            if found := provider.load():
                return {provider.METHOD: found.access_key}
    return {}


def _container() -> dict[str, Any]:
    """Who a container is: one address can serve several, by their tokens."""
    identity = _set_in_environment(*_CONTAINER)
    if token := os.environ.get(_CONTAINER_TOKEN):
        identity[_CONTAINER_TOKEN] = digest(token)
    return identity


def _machine(session: botocore.session.Session) -> dict[str, Any]:
    endpoint = session.get_config_variable("ec2_metadata_service_endpoint")
    return {"endpoint": endpoint} if endpoint else {}


def _set_in_environment(*names: str) -> dict[str, Any]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _identity(session: botocore.session.Session, profile: str) -> Mapping[str, Any]:
    found = _profile.fields(session, profile)
    identity = {name: found[name] for name in _FIELDS if name in found}
    if "web_identity_token_file" in found:
        identity["role_arn"] = found.get("role_arn")
    if name := found.get("sso_session"):
        identity["sso"] = session.full_config.get("sso_sessions", {}).get(name, {})
    # Which of them answers is botocore's affair: with static keys beside other
    # sources, all of them tell.
    if key := found.get("aws_access_key_id"):
        return {**identity, "access_key_id": key}
    return {**identity, "profile": profile}
