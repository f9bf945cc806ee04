"""The two files of profiles, ``~/.aws/config`` and ``~/.aws/credentials``: where a
setting stands, and whether they can be read. botocore merges them.
"""

import os
import shlex
from pathlib import Path

import botocore.session
from botocore.configloader import raw_config_parse
from botocore.exceptions import ConfigNotFound, ConfigParseError

from rolevault.errors import ConfigurationError

#: The two files, by botocore's names for them, and what says that one stands elsewhere.
_FILES = {"config_file": "AWS_CONFIG_FILE", "credentials_file": "AWS_SHARED_CREDENTIALS_FILE"}


def check_readable(session: botocore.session.Session) -> None:
    """Ask this before saying that something is not there: botocore takes a file that
    it may not read for an empty one.

    :raises ConfigurationError: there is such a file.
    """
    for option, variable in _FILES.items():
        path = session.get_config_variable(option)
        # As botocore does, which has no error for a home that nobody knows.
        expanded = os.path.expanduser(os.path.expandvars(path))
        try:
            if not Path(expanded).is_fifo():  # which would block
                with open(expanded, "rb"):
                    pass
        except FileNotFoundError:
            pass
        except OSError as error:
            rule = (
                f"it cannot be read: {error.strerror}. Let this user read it, or name another "
                f"file in {variable}."
            )
            raise ConfigurationError(option=option, value=path, rule=rule) from None


def sections(session: botocore.session.Session, profile: str) -> tuple[str, str]:
    """Where a profile stands, or would, in each of the two files."""
    # botocore reads a section's name as a shell would.
    section = profile if profile == "default" else f"profile {shlex.quote(profile)}"
    return (
        f"[{section}] of {session.get_config_variable('config_file')}",
        f"[{profile}] of {session.get_config_variable('credentials_file')}",
    )


def setting_location(session: botocore.session.Session, profile: str, key: str) -> str:
    """File and section of a setting: botocore merges the two files."""
    config, credentials = sections(session, profile)
    try:
        parsed = raw_config_parse(session.get_config_variable("credentials_file"))
    except (ConfigNotFound, ConfigParseError):
        return config
    return credentials if key in parsed.get(profile, {}) else config
