"""The names that boto3 and botocore do not promise, each with the reason why no
public one will do. A test fails, naming it, when one goes.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import boto3
import botocore.session
from botocore.credentials import (
    CredentialResolver,
    Credentials,
    ProfileProviderBuilder,
    RefreshableCredentials,
)


def botocore_session(session: boto3.Session) -> botocore.session.Session:
    """``boto3.Session._session``: a boto3 session that was made without
    ``botocore_session=`` shows its botocore session nowhere else.
    """
    return session._session


def resolved(session: botocore.session.Session) -> Credentials | None:
    """``Session._credentials``: the public ``get_credentials()`` would resolve
    them, from the network where need be.
    """
    found: Credentials | None = cast(Any, session)._credentials
    return found


def set_resolved(session: botocore.session.Session, credentials: Credentials | None) -> None:
    """``Session._credentials`` again: the public ``set_credentials()`` can make
    new static ones only, and cannot clear them.
    """
    cast(Any, session)._credentials = credentials


def credential_provider(
    session: botocore.session.Session,
) -> tuple[CredentialResolver | None, Callable[[], CredentialResolver] | None]:
    """``Session._components``, and of it ``_components`` and ``_deferred``: the
    chain, if it was built, else what will build it. The public
    ``get_component()`` builds it, for good and before the first client's region
    is known.
    """
    locator = cast(Any, session)._components
    name = "credential_provider"
    return locator._components.get(name), locator._deferred.get(name)


def last_region(session: botocore.session.Session) -> str | None:
    """``Session._last_client_region_used``: the region of
    ``client(…, region_name=…)``, by which botocore itself chooses its STS
    endpoint where the session has no region.
    """
    region: str | None = cast(Any, session)._last_client_region_used
    return region


def profile_chain(
    session: botocore.session.Session, profile: str, region: str | None
) -> CredentialResolver:
    """``credentials.ProfileProviderBuilder``, public by name and internal by its
    docstring: what botocore itself asks for a source profile's credentials, in
    its order and with the session's own settings, without the environment's.

    :param region: where a web identity is shown, if the session has none.
    """
    builder = ProfileProviderBuilder(session, region_name=region)
    return CredentialResolver(builder.providers(profile_name=profile, disable_env_vars=True))


def set_expiry(credentials: RefreshableCredentials, expiry: datetime) -> None:
    """``RefreshableCredentials._expiry_time``: other tools read it, because
    botocore has no public name for when credentials end.
    """
    cast(Any, credentials)._expiry_time = expiry
