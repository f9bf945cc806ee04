"""Where source credentials are found: in a chain of providers, a source profile, or the
``credential_source`` of a profile.
"""

import contextlib

import botocore.credentials
import botocore.session
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    EnvProvider,
)
from botocore.exceptions import CredentialRetrievalError, InvalidConfigError, UnknownCredentialError

from rolevault import _botocore_private
from rolevault._roles import source_identity
from rolevault._roles.config_files import check_readable
from rolevault._roles.profile import chosen_profile
from rolevault._roles.source_rules import CREDENTIAL_SOURCES
from rolevault._signin.source_credentials import SourceCredentials


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

    def read_anew() -> SourceCredentials:
        fresh = twin(session)
        return from_chain(fresh, _with_files_read_anew(chain, fresh))

    identity = source_identity.of_chain(session, chain)
    origin = f"boto3's credential chain, profile {chosen_profile(session)}"
    return SourceCredentials(lambda: identity, load, origin=origin, read_anew=read_anew)


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

    identity = source_identity.of_profile(session, profile)
    return SourceCredentials(
        lambda: identity,
        load,
        origin=f"the source profile {profile}",
        read_anew=lambda: from_profile(twin(session), profile),
    )


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

    identity = source_identity.of_credential_source(session, name)
    return SourceCredentials(
        lambda: identity,
        load,
        origin=f"credential_source {name} of profile {profile}",
        read_anew=lambda: from_credential_source(session, name, profile),
    )


def twin(session: botocore.session.Session) -> botocore.session.Session:
    """Return another botocore session with the same settings. A session reads the files of
    profiles once, and so the twin has what they hold now.
    """
    made = botocore.session.Session()
    for name, value in session.instance_variables().items():
        made.set_config_variable(name, value)
    if (region := _botocore_private.last_region(session)) and not session.get_config_variable(
        "region"
    ):
        made.set_config_variable("region", region)
    if (config := session.get_default_client_config()) is not None:
        made.set_default_client_config(config)
    return made


def _with_files_read_anew(
    chain: CredentialResolver, session: botocore.session.Session
) -> CredentialResolver:
    """Return a copy of the chain whose providers read the files of another session."""
    standard = botocore.credentials.create_credential_resolver(session)
    providers = []
    for each in chain.providers:
        provider: CredentialProvider = each
        if type(each).__module__.startswith("botocore."):
            with contextlib.suppress(UnknownCredentialError):
                provider = standard.get_provider(str(each.METHOD))
        providers.append(provider)
    return CredentialResolver(providers)
