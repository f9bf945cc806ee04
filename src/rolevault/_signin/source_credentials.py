"""Source credentials: the credentials of a user, a machine or another role that assume a role."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from botocore.credentials import (
    Credentials,
    EnvProvider,
    ReadOnlyCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
)

from rolevault._concurrency.fork_lock import ForkLock
from rolevault._roles.role import METHOD
from rolevault._roles.source_identity import Identity
from rolevault._signin.sts_answer import KEY_REFUSALS, is_printable
from rolevault._signin.sts_session import Keys
from rolevault.errors import ConfigurationError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The METHODs of botocore's providers whose credentials always belong to a role.
_ROLE_METHODS = frozenset(
    {
        "assume-role",
        "assume-role-with-web-identity",
        "container-role",
        "iam-role",
        "sso",
        METHOD,
    }
)

#: What messages call the three parts of ``Keys``.
_NAMES = ("access key id", "secret key", "session token")


class UpperRole(Protocol):
    """A role of rolevault from which another role is entered ("role chaining")."""

    def frozen(self, *, ask: bool) -> ReadOnlyCredentials: ...

    def ensure(self, min_ttl: float, *, refresh: bool) -> datetime: ...

    def drop_refused_key(self, access_key_id: str) -> bool: ...


class SourceCredentials:
    """Source credentials. They are resolved when they are first used, which is when the vault
    holds no session of the role.

    :param identity: returns whose credentials they are, as far as the configuration tells.
    :param load: resolves the credentials; returns None if there are none.
    :param enter: returns the upper role, if ``load`` has returned None.
    :param origin: where the credentials come from, as messages say it.
    :param read_anew: returns the same credentials, from files and environment as they are now.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        load: Callable[[], Credentials | None],
        enter: Callable[[], UpperRole] | None = None,
        *,
        origin: str,
        read_anew: "Callable[[], SourceCredentials]",
    ) -> None:
        self._identity = identity
        self._load = load
        self._enter = enter
        self._origin = origin
        self._read_anew = read_anew
        self._state_lock = ForkLock()
        self._found: Credentials | None = None
        self._upper_role: UpperRole | None = None

    @property
    def identity(self) -> Identity:
        """Whose credentials they are. It changes where other keys were read."""
        return self._identity()

    @property
    def method(self) -> str:
        """The METHOD of the provider that found the credentials.

        :raises NoCredentialsError: there are no credentials.
        :raises BotoCoreError: one of botocore's providers failed.
        """
        if self.upper_role() is not None:
            return METHOD
        return str(self._credentials().method)

    def upper_role(self) -> UpperRole | None:
        """Return the role that the credentials belong to, if rolevault enters that role.

        :raises BotoCoreError: one of botocore's providers failed.
        """
        with self._state_lock.lock:
            if self._found is None and self._upper_role is None:
                self._found = self._load()
                known = self._identity().get("access_key_id")
                if self._found is not None and known not in (None, self._found.access_key):
                    # The file was rewritten since the identity was read from it.
                    self._identity = self._read_anew()._identity
                if self._found is None and self._enter is not None:
                    self._upper_role = self._enter()
            return self._upper_role

    def keys(self, *, ask: bool) -> Keys:
        """Return keys that sign now.

        :param ask: whether a person may be asked for a code, to enter the upper role.
        :raises BotoCoreError, ClientError: as ``method``, and why the upper role cannot be
            entered.
        :raises ConfigurationError: a key holds a character that no key has.
        """
        upper_role = self.upper_role()
        if upper_role is not None:
            frozen = upper_role.frozen(ask=ask)
        else:
            frozen = self._credentials().get_frozen_credentials()
        keys = frozen.access_key or "", frozen.secret_key or "", frozen.token
        for name, value in zip(_NAMES, keys, strict=True):
            # http.client shows a header that it cannot send, in an error that is logged.
            if value and not is_printable(value):
                raise ConfigurationError(
                    option=f"source credentials ({self.method})",
                    value="<not shown>",
                    rule=f"the {name} holds a line break, a space or another character that no key "
                    f"has. It comes from {self._described_origin()}. Look for a CR at its end, as "
                    "files of Windows have it.",
                )
        return keys

    def is_role(self) -> bool:
        """Return whether the credentials belong to a role, as far as botocore tells. No code
        can work with them, because an MFA device belongs to a user.

        :raises BotoCoreError: as ``method``.
        """
        method = self.method
        if method == "login":
            # "aws login" gives the credentials of a console session: a user's or a role's.
            return ":assumed-role/" in self.identity.get("login_session", "")
        return method in _ROLE_METHODS

    def call_with_keys(self, call: Callable[[], T]) -> T:
        """Return ``call()``, which signs with these credentials. If STS does not know them or
        they have expired, read them anew, and call once more if they are others by now: tools
        rewrite ``~/.aws/credentials`` while a script runs.

        :raises ClientError: STS's refusal. If it is about these credentials, its text says where
            they come from.
        """
        try:
            return call()
        except ClientError as error:
            if not self._are_refused(error):
                raise
            if not self._read_others():
                self._name_origin(error)
                raise
        try:
            return call()
        except ClientError as error:
            if self._are_refused(error):
                self._name_origin(error)
            raise

    def _are_refused(self, error: ClientError) -> bool:
        """Return whether STS refused these credentials. An upper role renews its own."""
        code = error.response.get("Error", {}).get("Code")
        return code in KEY_REFUSALS and self._found is not None

    def _read_others(self) -> bool:
        """Read the credentials anew. Return whether they are others than before."""
        with self._state_lock.lock:
            before = self._credentials().get_frozen_credentials()
            try:
                new = self._read_anew()
                found = new._load()
            except BotoCoreError as error:
                # STS's refusal is what counts. A tool may be rewriting the file just now.
                logger.info("The source credentials could not be read again: %s", error)
                return False
            if found is None or found.get_frozen_credentials() == before:
                return False
            self._found, self._identity = found, new._identity
            return True

    def _name_origin(self, error: ClientError) -> None:
        text = f"The refused keys are the source credentials from {self._described_origin()}."
        if text not in str(error):
            # ``error.response`` stays as STS gave it.
            error.args = (f"{error}. {text} Put valid keys there.",)

    def _described_origin(self) -> str:
        found = self._found
        if found is None:
            return self._origin
        if found.method == EnvProvider.METHOD:
            return "the environment (AWS_ACCESS_KEY_ID and the variables beside it)"
        return f"{self._origin} ({found.method})"

    def _credentials(self) -> Credentials:
        if self._found is None:
            raise NoCredentialsError
        return self._found
