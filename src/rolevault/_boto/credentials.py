"""The credentials object that botocore's signer asks before each request."""

from datetime import datetime, timezone
from typing import Any, NoReturn

from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from rolevault import _botocore_private
from rolevault._roles.role import METHOD
from rolevault._signin.renewal import Renewal

_PAST = datetime(1970, 1, 1, tzinfo=timezone.utc)


class RoleCredentials(RefreshableCredentials):
    """``RefreshableCredentials`` whose keys come from a ``Renewal``.

    botocore's own refresh does not decide: today's swallows errors in its advisory window
    and repeats the attempt at every signature, and the coming one swallows all errors and
    backs off for minutes. So every public member is overridden. Only ``_expiry_time`` is
    kept up, for tools that look at it.
    """

    def __init__(self, renewal: Renewal) -> None:
        super().__init__("", "", "", _PAST, self._metadata, METHOD)
        self.renewal = renewal
        renewal.on_renewed = self._show_expiry

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Keys that sign now.

        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in failed. The next
            call tries again.
        """
        return self.renewal.frozen(ask=True)

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Whether less than ``refresh_in`` seconds are left, or the advisory window is
        reached.
        """
        return self.renewal.refresh_needed(refresh_in)

    # Read-only: nothing may put other keys in. botocore's own refresh writes to its members.
    access_key: Any = property(lambda self: self.get_frozen_credentials().access_key)
    secret_key: Any = property(lambda self: self.get_frozen_credentials().secret_key)
    token: Any = property(lambda self: self.get_frozen_credentials().token)
    #: Known from the role's ARN, without signing in.
    account_id: Any = property(lambda self: self.renewal.role.account_id)

    def __repr__(self) -> str:
        return f"RoleCredentials({self.renewal.role.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("role credentials cannot be pickled or copied; make a session there")

    def _show_expiry(self, expires: datetime) -> None:
        _botocore_private.set_expiry(self, expires)

    def _metadata(self) -> dict[str, Any]:
        """What botocore's own refresh would ask for, should it ever run."""
        signing = self.get_frozen_credentials()
        return {
            "access_key": signing.access_key,
            "secret_key": signing.secret_key,
            "token": signing.token,
            "expiry_time": (self.renewal.expires or _PAST).isoformat(),
            "account_id": self.account_id,
        }
