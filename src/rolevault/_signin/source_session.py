"""The credentials of a boto3 session that the user gives as the source of a role: keys that
a script holds in memory, a provider of the user's, or another role of rolevault.
"""

from collections.abc import Callable
from typing import Any

import boto3
from botocore.credentials import CredentialResolver

from rolevault import _botocore_private
from rolevault._roles import source_identity
from rolevault._roles.role import METHOD
from rolevault._roles.source_identity import Identity
from rolevault._signin.renewal import Renewal
from rolevault._signin.source_credentials import SourceCredentials, from_chain


def from_session(session: boto3.Session) -> SourceCredentials:
    """What the session signs with.

    :raises BotoCoreError: the session has a role of rolevault, and the sources of that role
        contradict each other.
    """
    inner = _botocore_private.botocore_session(session)
    chain = inner.get_component("credential_provider")
    providers = list(getattr(chain, "providers", ()))
    methods = [each.METHOD for each in providers]
    resolved = _botocore_private.resolved(inner)
    if resolved is None and not providers:
        # A resolver of the user's own making, which shows no providers.
        resolved = inner.get_credentials()
    if resolved is not None and resolved.method not in methods:
        # No provider found them: they were given to the session.
        return SourceCredentials(_identity(resolved), lambda: resolved)
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
    """The credentials of an upper role in a chain of providers.

    :param before: the part of the chain that is asked before the upper role.
    :param enter: gives the renewal of the upper role.
    """
    identity: Identity = source_identity.before_profiles(before)
    if "access_key_id" in identity:
        # The upper role is probably not used. As in botocore, what is wrong with its profile
        # is an error only where it is.
        return SourceCredentials(identity, before.load_credentials, enter)
    upper = enter()
    identity = {**identity, "hop": upper.fetcher.key}
    return SourceCredentials(identity, before.load_credentials, lambda: upper)


def _identity(credentials: Any) -> dict[str, Any]:
    """The identity of credentials that were given to a session.

    Credentials that renew themselves are asked for a key, because nothing else tells one
    person's credentials from another's. Their next key is another identity, and costs
    another sign-in; but no session is ever served to the wrong person.
    """
    frozen = credentials.get_frozen_credentials()
    return {"access_key_id": frozen.access_key}
