"""The credentials of a boto3 session as the source of a role: keys that a script holds in
memory, a provider that the user has added, or another role of rolevault.
"""

from collections.abc import Callable
from typing import Any

import boto3
from botocore.credentials import CredentialResolver, Credentials

from rolevault import _botocore_private
from rolevault._roles import source_identity
from rolevault._roles.role import METHOD
from rolevault._roles.source_identity import Identity
from rolevault._signin.renewal import Renewal
from rolevault._signin.source_credentials import SourceCredentials
from rolevault._signin.source_lookup import from_chain


def from_session(session: boto3.Session) -> SourceCredentials:
    """Return the credentials with which the session signs.

    :raises BotoCoreError: the session has a role of rolevault, and the sources of that role
        contradict each other.
    """
    inner = _botocore_private.botocore_session(session)
    chain = inner.get_component("credential_provider")
    providers = list(getattr(chain, "providers", ()))
    methods = [each.METHOD for each in providers]
    resolved = _botocore_private.resolved(inner)
    if resolved is None and not providers:
        # The user has put in a resolver that shows no providers.
        resolved = inner.get_credentials()
    if resolved is not None and resolved.method not in methods:
        # No provider has found these credentials: they were given to the session.
        return _given(resolved)
    if METHOD not in methods:
        return from_chain(inner, chain)
    index = methods.index(METHOD)
    role_credentials = providers[index].load()
    if role_credentials is None:  # its role was uninstalled a moment ago
        del providers[index]
        return from_chain(inner, CredentialResolver(providers))
    before = CredentialResolver(providers[:index])
    return from_role(before, lambda: role_credentials.renewal)


def from_role(before: CredentialResolver, enter: Callable[[], Renewal]) -> SourceCredentials:
    """Return the credentials of an upper role in a chain of providers.

    :param before: the part of the chain that is asked before the upper role.
    :param enter: returns the renewal of the upper role.
    """
    identity: Identity = source_identity.before_profiles(before)
    origin = "boto3's credential chain, before its profiles"
    if "access_key_id" in identity:
        # The environment's keys will probably be used. As in botocore, a fault in the upper
        # role's profile is an error only if the upper role is used.
        return SourceCredentials(
            lambda: identity,
            before.load_credentials,
            enter,
            origin=origin,
            read_anew=lambda: from_role(before, enter),
        )
    upper = enter()
    return SourceCredentials(
        # The key of the upper role changes if its source credentials change.
        lambda: {**identity, "hop": upper.fetcher.key},
        before.load_credentials,
        lambda: upper,
        origin=origin,
        read_anew=lambda: from_role(before, lambda: upper),
    )


def _given(credentials: Credentials) -> SourceCredentials:
    """Return credentials that were given to a session."""
    identity = _identity(credentials)
    return SourceCredentials(
        lambda: identity,
        lambda: credentials,
        origin="the session passed as source_session",
        read_anew=lambda: _given(credentials),
    )


def _identity(credentials: Credentials) -> dict[str, Any]:
    """Return the identity of credentials that were given to a session: their access key id.

    Credentials that renew themselves are asked for their key now, because nothing else tells
    two people apart. Their next key is another identity and costs another sign-in, but nobody
    gets the session of another person.
    """
    frozen = credentials.get_frozen_credentials()
    return {"access_key_id": frozen.access_key}
