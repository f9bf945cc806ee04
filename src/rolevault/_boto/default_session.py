"""The boto3 session that ``install()`` works on: the default one, or one that suits the
options.
"""

from typing import Any, cast

import boto3
import botocore.session
from botocore.exceptions import ProfileNotFound

from rolevault import _botocore_private
from rolevault._boto.takeover import OriginalCredentials
from rolevault._roles.config_files import check_readable
from rolevault._roles.profile import holds_other_settings
from rolevault._roles.role import Options
from rolevault._roles.validation import is_async
from rolevault.errors import ConfigurationError


def check_session(session: Any, options: Options) -> None:
    """Judge the ``session`` argument of a public function.

    :raises ConfigurationError: it is not a synchronous boto3 session, it is the
        ``source_session`` too, or it has another region than the options name.
    """
    if session is None:
        return
    rule = "must be a boto3.Session."
    if session is options.get("source_session"):
        rule = "it is the source_session too. Put the role into another session."
        raise ConfigurationError(option="session", value=shown(session), rule=rule)
    if isinstance(session, boto3.Session):
        inner = _botocore_private.botocore_session(session)
        if not is_async(inner):
            if options.get("region_name") in (None, session.region_name):
                return
            rule = "it has a region already: leave region_name= out."
    raise ConfigurationError(option="session", value=shown(session), rule=rule)


def shown(session: Any) -> str:
    """Return the session as text for a message. Where lines of a configuration file ran together,
    its region may hold a secret, and the session is not shown.
    """
    region = getattr(session, "region_name", None)
    hidden = region is not None and holds_other_settings(region)
    return "<not shown>" if hidden else repr(session)


def default_session() -> boto3.Session:
    """Return boto3's default session. Make it if there is none, as ``boto3.client()`` does."""
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    return cast("boto3.Session", boto3.DEFAULT_SESSION)


def suits(session: boto3.Session, options: Options) -> bool:
    """Return whether a session has the profile and the region that the options name.

    A session that was given keys always suits: the keys win over the role, and a new session
    would not have them. The session that is the source of the role never suits.
    """
    if session is options.get("source_session"):
        return False
    profile, region = options.get("profile"), options.get("region_name")
    has_own_keys = OriginalCredentials.of(_botocore_private.botocore_session(session)).has_own_keys
    as_asked = profile in (None, session.profile_name) and region in (None, session.region_name)
    return has_own_keys or as_asked


def session_for(default: boto3.Session | None, options: Options) -> boto3.Session:
    """Return ``default`` if it suits the options, else a new session.

    :raises ProfileNotFound: the profile does not exist.
    :raises ConfigurationError: the profile was not found, and a file that may hold it cannot be
        read.
    """
    profile, region = options.get("profile"), options.get("region_name")
    if default is not None:
        if suits(default, options):
            return default
        own = _botocore_private.botocore_session(default).instance_variables()
        profile, region = profile or own.get("profile"), region or own.get("region")
    try:
        return boto3.Session(profile_name=profile, region_name=region)
    except ProfileNotFound:
        check_readable(botocore.session.Session())
        raise
