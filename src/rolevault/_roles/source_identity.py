"""Who assumes the role, as the configuration tells it, before any credentials are
resolved.

The identity is part of the key under which a role's session stands in the vault. A warm
start needs no more of the source: while the vault serves, no process is started and no
network is asked. No secret is part of an identity.
"""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import botocore.session
from botocore.credentials import BotoProvider, CredentialResolver, OriginalEC2Provider
from botocore.exceptions import BotoCoreError

from rolevault._roles.profile import chosen_profile, settings
from rolevault._roles.source_rules import CREDENTIAL_SOURCES
from rolevault._vault.canonical_json import digest

Identity = Mapping[str, Any]

#: The settings that tell one profile from another, beside static keys.
_SETTINGS = (
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


def of_chain(session: botocore.session.Session, chain: CredentialResolver) -> Identity:
    """The identity of whatever the whole chain finds."""
    identity = before_profiles(chain)
    if "access_key_id" not in identity:
        # A provider that somebody added may find nothing, and then the profile decides.
        identity |= of_profile(session, chosen_profile(session))
        if "access_key_id" not in identity:
            identity |= _boto2_files() | _container() | _instance(session)
        if any(provider.METHOD == "env" for provider in chain.providers):
            identity |= _set_in_environment(*_WEB_IDENTITY)
    return identity


def before_profiles(chain: CredentialResolver) -> dict[str, Any]:
    """The identity of what the chain asks before every profile: the environment's keys, and
    providers that somebody added. Empty where there are none of these.
    """
    key = os.environ.get("AWS_ACCESS_KEY_ID")
    added = [
        str(provider.METHOD)
        for provider in chain.providers
        if not type(provider).__module__.startswith("botocore.")
    ]
    identity: dict[str, Any] = {}
    if added:
        # Only the names of these providers are known. They may ask botocore's providers.
        environment = _set_in_environment("AWS_ACCESS_KEY_ID", *_WEB_IDENTITY)
        identity = {"providers": added, "environment": environment}
    if key and any(provider.METHOD == "env" for provider in chain.providers):
        identity["access_key_id"] = key
    return identity


def of_profile(session: botocore.session.Session, profile: str) -> dict[str, Any]:
    """The identity of a profile that is entered by no AssumeRole."""
    found = settings(session, profile)
    identity = {name: found[name] for name in _SETTINGS if name in found}
    if "web_identity_token_file" in found:
        identity["role_arn"] = found.get("role_arn")
    if name := found.get("sso_session"):
        identity["sso"] = session.full_config.get("sso_sessions", {}).get(name, {})
    # botocore decides whether static keys or other sources beside them answer, so all of
    # them are part of the identity.
    if key := found.get("aws_access_key_id"):
        return {**identity, "access_key_id": key}
    return {**identity, "profile": profile}


def of_credential_source(session: botocore.session.Session, name: str) -> Identity:
    """The identity of a ``credential_source``."""
    method = CREDENTIAL_SOURCES[name]
    if method == "env":
        return {"access_key_id": os.environ.get("AWS_ACCESS_KEY_ID")}
    identity = _container() if method == "container-role" else _instance(session)
    return {"credential_source": name, **identity}


def _boto2_files() -> dict[str, Any]:
    """The keys in boto 2's files, which botocore still reads, after every profile."""
    for provider in (OriginalEC2Provider(), BotoProvider()):
        # As in botocore, a broken file is no error where its keys are not used.
        with contextlib.suppress(BotoCoreError, KeyError, ValueError):
            if found := provider.load():
                return {provider.METHOD: found.access_key}
    return {}


def _container() -> dict[str, Any]:
    """The identity of a container's role. One address can serve several containers, which
    it tells apart by their tokens.
    """
    identity = _set_in_environment(*_CONTAINER)
    if token := os.environ.get(_CONTAINER_TOKEN):
        identity[_CONTAINER_TOKEN] = digest(token)
    return identity


def _instance(session: botocore.session.Session) -> dict[str, Any]:
    """The identity of an EC2 instance's role."""
    endpoint = session.get_config_variable("ec2_metadata_service_endpoint")
    return {"endpoint": endpoint} if endpoint else {}


def _set_in_environment(*names: str) -> dict[str, Any]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}
