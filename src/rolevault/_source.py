"""
Who assumes the role: the source credentials, and who they are before they
are resolved.

A warm start needs only the latter, read from configuration alone: no process
is started and no network asked while the vault serves.
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import botocore.credentials
import botocore.session
from botocore.credentials import CredentialResolver, Credentials
from botocore.exceptions import CredentialRetrievalError, InvalidConfigError, NoCredentialsError

from rolevault import _private, _profile

#: Providers whose credentials are a role's. A code could never work with them:
#: the MFA device belongs to a user.
ROLE_METHODS = frozenset(
    {
        "assume-role",
        "assume-role-with-web-identity",
        "container-role",
        "iam-role",
        "rolevault",
        "sso",
    }
)

#: What tells one source from another. Secrets are not among them.
_FIELDS = (
    "role_arn",
    "web_identity_token_file",
    "credential_process",
    "login_session",
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "sso_role_name",
)
_VARIABLES = (
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

#: Not a source profile's own: the environment, the machine's role or an
#: unrelated file would answer for a profile without keys.
_NOT_A_PROFILES = (
    "env",
    "assume-role",
    "ec2-credentials-file",
    "boto-config",
    "container-role",
    "iam-role",
)


class Source:
    """Source credentials, resolved once, on the first miss."""

    def __init__(self, identity: Mapping[str, Any], load: Callable[[], Credentials | None]) -> None:
        self.identity = identity
        self._load = load
        self._loading = threading.Lock()
        self._credentials: Credentials | None = None

    def resolve(self) -> Credentials:
        """
        :raises NoCredentialsError: nothing in the chain has any; and whatever
            botocore's providers raise.
        """
        with self._loading:
            if self._credentials is None:
                self._credentials = self._load()
            if self._credentials is None:
                raise NoCredentialsError
            return self._credentials


def of_chain(session: botocore.session.Session, chain: CredentialResolver) -> Source:
    """What the session would use without us."""
    identity: dict[str, Any] = {}
    profile = _profile.chosen(session)
    if any(provider.METHOD == "env" for provider in chain.providers):
        if key := os.environ.get("AWS_ACCESS_KEY_ID"):
            return Source({"access_key_id": key}, chain.load_credentials)
        identity = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    return Source({**identity, **_identity(session, profile)}, chain.load_credentials)


def of_profile(session: botocore.session.Session, profile: str) -> Source:
    """
    What a source profile holds that is no role itself.

    :raises InvalidConfigError: when resolved, if it holds no credentials.
    """

    def load() -> Credentials:
        child = botocore.session.Session(profile=profile)
        chain = _standard_chain(child, _region(session))
        for method in _NOT_A_PROFILES:
            chain.remove(method)
        credentials: Credentials | None = chain.load_credentials()
        if credentials is None:
            message = f'The source profile "{profile}" must have credentials.'
            raise InvalidConfigError(error_msg=message)
        return credentials

    return Source(_identity(session, profile), load)


def of_name(session: botocore.session.Session, credential_source: str, profile: str) -> Source:
    """
    ``credential_source``: Environment, Ec2InstanceMetadata or EcsContainer.

    :raises InvalidConfigError: when resolved, if it is none of these.
    :raises CredentialRetrievalError: when resolved, if it has no credentials.
    """
    identity: dict[str, Any] = {"credential_source": credential_source}
    if credential_source.lower() == "environment":
        identity = {"access_key_id": os.environ.get("AWS_ACCESS_KEY_ID")}

    def load() -> Credentials:
        # A session without a profile of its own, so that its chain has them all.
        chain = _standard_chain(botocore.session.Session(), _region(session))
        found = [
            provider
            for provider in chain.providers
            if provider.METHOD in ("env", "container-role", "iam-role")
            and str(provider.CANONICAL_NAME).lower() == credential_source.lower()
        ]
        if not found:
            raise InvalidConfigError(
                error_msg=f'The credential source "{credential_source}" referenced in profile '
                f'"{profile}" is not valid.'
            )
        credentials: Credentials | None = found[0].load()
        if credentials is None:
            raise CredentialRetrievalError(
                provider=credential_source,
                error_msg="No credentials found in credential_source referenced in profile "
                f"{profile}",
            )
        return credentials

    return Source(identity, load)


def _standard_chain(child: botocore.session.Session, region: str | None) -> CredentialResolver:
    return botocore.credentials.create_credential_resolver(child, region_name=region)


def _region(session: botocore.session.Session) -> str | None:
    region: str | None = session.get_config_variable("region") or _private.last_region(session)
    return region


def _identity(session: botocore.session.Session, profile: str) -> Mapping[str, Any]:
    found = _profile.fields(session, profile)
    if key := found.get("aws_access_key_id"):
        return {"access_key_id": key}
    identity = {name: found[name] for name in _FIELDS if name in found}
    if name := found.get("sso_session"):
        sso = session.full_config.get("sso_sessions", {}).get(name, {})
        identity["sso_start_url"] = sso.get("sso_start_url")
    return {"profile": profile, **identity}
