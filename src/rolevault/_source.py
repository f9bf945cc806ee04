"""Who assumes the role: the source credentials, and who they are before they
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
from botocore.exceptions import InvalidConfigError, NoCredentialsError

from rolevault import _private

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

#: What tells one profile's identity from another's. Secrets are not among them.
_IDENTITY_FIELDS = (
    "role_arn",
    "credential_source",
    "external_id",
    "mfa_serial",
    "web_identity_token_file",
    "credential_process",
    "login_session",
    "sso_start_url",
    "sso_session",
    "sso_account_id",
    "sso_role_name",
)

_ENVIRONMENT_FIELDS = (
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

#: What a source profile does not fall back to: the machine's own role, or an
#: unrelated file, would answer for a profile without keys.
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
        """:raises NoCredentialsError: nothing in the chain has any; and whatever
        botocore's providers raise.
        """
        with self._loading:
            if self._credentials is None:
                self._credentials = self._load()
            if self._credentials is None:
                raise NoCredentialsError
            return self._credentials


def rest_of_chain(session: botocore.session.Session, rest: CredentialResolver) -> Source:
    """The source of a role given by its ARN: what the session would use without us."""
    profile = session.get_config_variable("profile") or "default"
    explicit = session.instance_variables().get("profile") is not None
    return Source(_identity(session, profile, environment=not explicit), rest.load_credentials)


def of_profile(session: botocore.session.Session, profile: str) -> Source:
    """The source in a profile that is no role itself.

    :raises InvalidConfigError: when resolved, if the profile has no credentials.
    """

    def load() -> Credentials:
        child = botocore.session.Session(profile=profile)
        region = session.get_config_variable("region") or _private.last_region(session)
        resolver = botocore.credentials.create_credential_resolver(child, region_name=region)
        for method in _NOT_A_PROFILES:
            resolver.remove(method)
        credentials: Credentials | None = resolver.load_credentials()
        if credentials is None:
            raise InvalidConfigError(
                error_msg=f'The source profile "{profile}" must have credentials.'
            )
        return credentials

    return Source(_identity(session, profile, environment=False), load)


def _identity(
    session: botocore.session.Session, profile: str, *, environment: bool
) -> Mapping[str, Any]:
    if environment and (key := os.environ.get("AWS_ACCESS_KEY_ID")):
        return {"access_key_id": key}
    config = session.full_config
    fields = config.get("profiles", {}).get(profile, {})
    if "role_arn" not in fields and (key := fields.get("aws_access_key_id")):
        return {"access_key_id": key}
    identity: dict[str, Any] = {name: fields[name] for name in _IDENTITY_FIELDS if fields.get(name)}
    if sso := fields.get("sso_session"):
        identity["sso"] = config.get("sso_sessions", {}).get(sso, {}).get("sso_start_url")
    if "role_arn" in fields and (source := fields.get("source_profile")):
        # A loop is botocore's to report: here it only must not hang.
        identity["source_profile"] = (
            source if source == profile else _chain(config["profiles"], source, {profile})
        )
    if environment:
        identity |= {name: os.environ[name] for name in _ENVIRONMENT_FIELDS if os.environ.get(name)}
    return {"profile": profile, **identity}


def _chain(profiles: Mapping[str, Any], name: str, seen: set[str]) -> list[Any]:
    fields = profiles.get(name, {})
    hop = [name, fields.get("aws_access_key_id"), fields.get("role_arn")]
    source = fields.get("source_profile")
    if source is None or source in seen or hop[1]:
        return hop
    return [*hop, _chain(profiles, source, seen | {name})]
