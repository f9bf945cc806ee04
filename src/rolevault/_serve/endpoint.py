"""The public function ``endpoint()``, and what it yields."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3

from rolevault import _botocore_private
from rolevault._boto.default_session import shown
from rolevault._boto.install import role_credentials
from rolevault._serve import child_environment
from rolevault._serve.credentials_server import CredentialsServer
from rolevault.errors import ConfigurationError

logger = logging.getLogger(__name__)


class Endpoint:
    """A credentials endpoint that is open. ``endpoint()`` makes it."""

    def __init__(self, session: boto3.Session, server: CredentialsServer, directory: Path) -> None:
        self._full_config = _botocore_private.botocore_session(session).full_config
        self._variables = {
            child_environment.URI: server.url,
            child_environment.TOKEN_FILE: _write_token(directory, server.token),
        }
        if session.region_name is not None:
            self._variables["AWS_REGION"] = session.region_name
            self._variables["AWS_DEFAULT_REGION"] = session.region_name
        self._files: dict[str, str] = {}
        if child_environment.has_credentials(self._profiles.get("default", {})):
            self._files = child_environment.write_files(directory, self._full_config)
        self._installed: dict[str, str | None] | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self._variables[child_environment.URI].rpartition('/')[0]!r})"

    def env(self) -> dict[str, str]:
        """Return the environment for a child: that of this process, with the endpoint, and without
        other credentials and the passphrase of the vault. Where the profile ``default`` has
        credentials, which SDKs would take first, the child sees no profile of ``~/.aws``.

        Example::

            subprocess.run(["terraform", "apply"], env=endpoint.env())
        """
        environment = child_environment.without_other_credentials(os.environ)
        return {**environment, **self._files, **self._variables}

    def install(self) -> None:
        """Set the variables in this process, for the libraries in it that bring an SDK of their
        own. The end of the endpoint takes them back. A warning names other credentials that such
        libraries take first.

        :raises ConfigurationError: this process has a container endpoint already.
        """
        if self._installed is not None:
            return
        for name in (child_environment.RELATIVE_URI, child_environment.URI):
            if os.environ.get(name):
                rule = "this process has a container endpoint already. Start a child with env()."
                raise ConfigurationError(option=name, value=repr(os.environ[name]), rule=rule)
        shadows = child_environment.shadows(os.environ, self._profiles)
        if shadows:
            logger.warning(
                "Libraries of this process that know %s sign with it, and not with the endpoint.",
                " or ".join(shadows),
            )
        self._installed = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)

    def uninstall(self) -> None:
        """Take the variables back, except for those that have another value by now."""
        for name, before in (self._installed or {}).items():
            if os.environ.get(name) == self._variables[name]:
                del os.environ[name]
                if before is not None:
                    os.environ[name] = before
        self._installed = None

    @property
    def _profiles(self) -> dict[str, child_environment.Settings]:
        profiles: dict[str, child_environment.Settings] = self._full_config.get("profiles", {})
        return profiles


@contextlib.contextmanager
def endpoint(session: boto3.Session | None = None) -> Iterator[Endpoint]:
    """Serve the keys of a role to programs in any language, for as long as the ``with`` block
    runs. Their SDKs know the protocol as that of a container.

    The sign-in happens here, so that a person is asked now. A request asks nobody: it renews
    the session silently, or fails and says why.

    Example::

        with rolevault.endpoint() as endpoint:
            subprocess.run(["node", "report.js"], env=endpoint.env())

    :param session: a boto3 session with a role; by default the default session.
    :raises ConfigurationError: the session signs with other credentials than a role's. The MFA
        session of a user is not handed on either, because every role can be entered with it.
    :raises RoleVaultError: why the sign-in failed.
    :raises BotoCoreError: the same, where botocore failed.
    :raises ClientError: the same, where STS refused.
    """
    session, credentials = role_credentials(session)
    renewal = credentials.renewal
    if renewal.role.role_arn is None:
        rule = (
            "it signs with the MFA session of a user, with which every role can be entered. An "
            "endpoint serves the keys of a role: pass a session with a role_arn."
        )
        raise ConfigurationError(option="session", value=shown(session), rule=rule)
    renewal.session(ask=True)
    pid = os.getpid()
    server = CredentialsServer(renewal)
    made: Endpoint | None = None
    try:
        # mkdtemp() gives the directory the mode 0700.
        directory = Path(tempfile.mkdtemp(prefix="rolevault-"))
        try:
            made = Endpoint(session, server, directory)
            server.start()
            yield made
        finally:
            if made is not None:
                made.uninstall()
            # The directory and the server are the parent's, if this is a child that was forked.
            if pid == os.getpid():
                shutil.rmtree(directory, ignore_errors=True)
    finally:
        if pid == os.getpid():
            server.stop()


def _write_token(directory: Path, token: str) -> str:
    path = directory / "token"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return str(path)
