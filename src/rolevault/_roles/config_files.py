"""The two files of profiles, ``~/.aws/config`` and ``~/.aws/credentials``: whether they can be
read, and which of them holds a setting. botocore merges the two.
"""

import os
import shlex
from pathlib import Path

import botocore.session
from botocore.configloader import raw_config_parse
from botocore.exceptions import ConfigNotFound

from rolevault.errors import ConfigurationError

#: botocore's name for each file, and the environment variable that names another place.
_FILES = {"config_file": "AWS_CONFIG_FILE", "credentials_file": "AWS_SHARED_CREDENTIALS_FILE"}


def check_readable(session: botocore.session.Session) -> None:
    """Call this before saying that a setting is missing: botocore takes a file that cannot
    be read for an empty one.

    :raises ConfigurationError: a file exists and cannot be read.
    """
    for option, variable in _FILES.items():
        path = session.get_config_variable(option)
        # As botocore expands it: without an error where no home directory is known.
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
    """The section of a profile in each of the two files, whether it exists or not."""
    # botocore splits the name of a section as a shell splits words.
    section = profile if profile == "default" else f"profile {shlex.quote(profile)}"
    return (
        f"[{section}] of {session.get_config_variable('config_file')}",
        f"[{profile}] of {session.get_config_variable('credentials_file')}",
    )


def setting_location(session: botocore.session.Session, profile: str, key: str) -> str:
    """The file and the section that hold a setting."""
    config, credentials = sections(session, profile)
    try:
        parsed = raw_config_parse(session.get_config_variable("credentials_file"))
    except ConfigNotFound:
        return config
    return credentials if key in parsed.get(profile, {}) else config
