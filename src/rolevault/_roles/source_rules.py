"""Where a role profile may take its source credentials from: the rules of botocore's
``AssumeRoleProvider``, with its own errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import botocore.session
from botocore.exceptions import (
    InfiniteLoopConfigError,
    InvalidConfigError,
    PartialCredentialsError,
)

from rolevault._roles.config_files import check_readable
from rolevault._roles.profile import has_keys, is_upper_role, role_values, settings

#: The values of ``credential_source``, and the METHOD of botocore's provider for each.
CREDENTIAL_SOURCES = {
    "Environment": "env",
    "Ec2InstanceMetadata": "iam-role",
    "EcsContainer": "container-role",
}


def check_sources(
    session: botocore.session.Session, values: Mapping[str, Any], visited: Sequence[str]
) -> None:
    """Judge a role's profile, and every profile that its credentials come from.

    :param values: the fields of the role that its profile and options gave.
    :param visited: the profile, if its own role is the one that is entered.
    :raises BotoCoreError: as ``check_source``.
    :raises ConfigurationError: as ``role_values``.
    """
    while True:
        source = check_source(session, values, visited)
        if source is None or not is_upper_role(session, source):
            return
        values, visited = role_values(session, source), (*visited, source)


def check_source(
    session: botocore.session.Session, values: Mapping[str, Any], visited: Sequence[str]
) -> str | None:
    """Judge where one role profile takes its credentials from; return the source profile,
    or None where a ``credential_source`` is named.

    :param visited: the profiles whose roles are entered through the profile, and the
        profile itself.
    :raises InvalidConfigError: both kinds of source, or an unknown one.
    :raises PartialCredentialsError: no source.
    :raises InfiniteLoopConfigError: the source was visited before.
    """
    profile = values["profile"]
    source: str | None = values.get("source_profile")
    named: str | None = values.get("credential_source")
    if named is not None and source is not None:
        raise InvalidConfigError(
            error_msg=f'The profile "{profile}" contains both source_profile and credential_source.'
        )
    if named is not None:
        if named not in CREDENTIAL_SOURCES:
            raise InvalidConfigError(
                error_msg=f'The credential source "{named}" referenced in profile "{profile}" '
                "is not valid."
            )
        return None
    if source is None:
        check_readable(session)
        raise PartialCredentialsError(
            provider="assume-role", cred_var="source_profile or credential_source"
        )
    if source not in session.full_config.get("profiles", {}):
        check_readable(session)
        raise InvalidConfigError(
            error_msg=f'The source_profile "{source}" referenced in the profile "{profile}" '
            "does not exist."
        )
    # A profile may name itself as the source of its static keys.
    itself = source == profile and has_keys(settings(session, profile))
    if source in visited and not itself:
        raise InfiniteLoopConfigError(source_profile=source, visited_profiles=list(visited))
    return source
