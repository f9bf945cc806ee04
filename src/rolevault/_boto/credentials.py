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

    Every public member is overridden, so that botocore's own refresh has no cause to run. That
    refresh swallows errors in its advisory window, and tries again at every signature. Only
    ``_expiry_time`` is kept up to date, because other tools read it.
    """

    def __init__(self, renewal: Renewal) -> None:
        super().__init__("", "", "", _PAST, self._metadata, METHOD)
        self.renewal = renewal
        renewal.on_renewed = self._show_expiry

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return keys that sign now. Sign in or renew first if that is due.

        :raises RoleVaultError: why the sign-in failed. The next call tries again.
        :raises BotoCoreError: the same, where botocore failed.
        :raises ClientError: the same, where STS refused.
        """
        return self.renewal.frozen(ask=True)

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Return whether the keys end within ``refresh_in`` seconds; without a number, whether the
        advisory window has begun.
        """
        return self.renewal.refresh_needed(refresh_in)

    # Read-only, because keys from elsewhere would sign as somebody else. botocore's own refresh
    # assigns to these members.
    access_key: Any = property(lambda self: self.get_frozen_credentials().access_key)
    secret_key: Any = property(lambda self: self.get_frozen_credentials().secret_key)
    token: Any = property(lambda self: self.get_frozen_credentials().token)
    #: Known from the role's ARN, without signing in.
    account_id: Any = property(lambda self: self.renewal.role.account_id)

    def __repr__(self) -> str:
        return f"RoleCredentials({self.renewal.role.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "The credentials of a role cannot be pickled or copied. Call rolevault.session() "
            "where they are needed."
        )

    def _show_expiry(self, expires: datetime) -> None:
        _botocore_private.set_expiry(self, expires)

    def _metadata(self) -> dict[str, Any]:
        """Return what botocore's own refresh asks for. Every way to that refresh that is known is
        overridden. A later botocore may find another way, and then gets the same keys.
        """
        signing = self.get_frozen_credentials()
        return {
            "access_key": signing.access_key,
            "secret_key": signing.secret_key,
            "token": signing.token,
            "expiry_time": (self.renewal.expires or _PAST).isoformat(),
            "account_id": self.account_id,
        }
