"""The names that boto3 and botocore do not promise, each with the reason why no public name
serves. When a release drops one, a test fails and names it.
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
    """``boto3.Session._session``. A boto3 session that was made without
    ``botocore_session=`` gives no other access to its botocore session.
    """
    return session._session


def resolved(session: botocore.session.Session) -> Credentials | None:
    """``Session._credentials``. The public ``get_credentials()`` would resolve the
    credentials, from the network if necessary.
    """
    found: Credentials | None = cast(Any, session)._credentials
    return found


def set_resolved(session: botocore.session.Session, credentials: Credentials | None) -> None:
    """``Session._credentials`` again. The public ``set_credentials()`` can only make new
    static credentials, and cannot clear them.
    """
    cast(Any, session)._credentials = credentials


def credential_provider(
    session: botocore.session.Session,
) -> tuple[CredentialResolver | None, Callable[[], CredentialResolver] | None]:
    """The credential chain, if it was built, and else what will build it: ``_components``
    and ``_deferred`` of ``Session._components``. The public ``get_component()`` builds the
    chain, for good, and before the region of the first client is known.
    """
    locator = cast(Any, session)._components
    name = "credential_provider"
    return locator._components.get(name), locator._deferred.get(name)


def last_region(session: botocore.session.Session) -> str | None:
    """``Session._last_client_region_used``: the region of ``client(…, region_name=…)``. By
    it botocore chooses its own STS endpoint where the session has no region.
    """
    region: str | None = cast(Any, session)._last_client_region_used
    return region


def profile_chain(
    session: botocore.session.Session, profile: str, region: str | None
) -> CredentialResolver:
    """``credentials.ProfileProviderBuilder``, whose name is public and whose docstring says
    that it is internal. It gives what botocore asks for the credentials of a source profile,
    in botocore's order and with the session's settings, without the environment.

    :param region: of the STS that takes a web identity, if the session has no region.
    """
    builder = ProfileProviderBuilder(session, region_name=region)
    return CredentialResolver(builder.providers(profile_name=profile, disable_env_vars=True))


def set_expiry(credentials: RefreshableCredentials, expiry: datetime) -> None:
    """``RefreshableCredentials._expiry_time``. Other tools read it, because botocore has no
    public name for the end of credentials.
    """
    cast(Any, credentials)._expiry_time = expiry
