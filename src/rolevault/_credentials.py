"""The credentials object that botocore's signer asks before each request."""

import logging
import time
from collections import deque
from datetime import datetime, timezone
from typing import Any, NoReturn

from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from rolevault import _private
from rolevault._fetcher import CodeNeededError, Fetcher
from rolevault._store import Session

logger = logging.getLogger(__name__)

METHOD = "rolevault"

#: Between two attempts that failed while the current credentials still serve.
_PAUSE_SECONDS = 60.0
_PAST = datetime(1970, 1, 1, tzinfo=timezone.utc)


class RoleCredentials(RefreshableCredentials):
    """``RefreshableCredentials`` that never sign with stale or placeholder keys.

    botocore's own refresh swallows errors in its advisory window and repeats
    them at every signature, and the one it prepares swallows them all and backs
    off for minutes. So the public members are overridden and renew by rules of
    our own; only ``_expiry_time`` is kept up for those who look at it.

    The first signature signs in, not the construction.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        super().__init__("", "", "", _PAST, self._metadata, METHOD)
        self.fetcher = fetcher
        self._session: Session | None = None
        self._signing: ReadOnlyCredentials | None = None
        self._look_again = 0.0  # what is in hand signs without a question until then
        self._dropped = 0.0
        self._issued: deque[str] = deque(maxlen=8)  # key ids, for late answers to old ones

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Keys that sign now.

        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in
            failed; the next call tries again.
        """
        signing = self._signing
        if signing is not None and time.time() < self._look_again:
            return signing
        return self._renew()

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Whether less than ``refresh_in`` seconds are left, or the advisory window is reached."""
        session = self._session
        if session is None:
            return True
        if refresh_in is None:
            return time.time() >= session.advisory
        return time.time() >= session.expires.timestamp() - refresh_in

    # Read-only, where botocore's can be written by its own refresh: nobody puts
    # other keys in. The account is known from the role's ARN, without signing in.
    access_key: Any = property(lambda self: self.get_frozen_credentials().access_key)
    secret_key: Any = property(lambda self: self.get_frozen_credentials().secret_key)
    token: Any = property(lambda self: self.get_frozen_credentials().token)
    account_id: Any = property(lambda self: self.fetcher.role.account_id)

    def __repr__(self) -> str:
        return f"RoleCredentials({self.fetcher.role.role_arn!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("role credentials cannot be pickled or copied; make a session there")

    def ensure(self, min_ttl: float, *, refresh: bool = False) -> datetime:
        """Sign in now; return until when no person is needed, aware UTC.

        :param min_ttl: seconds.
        :raises ConfigurationError: no session of this role can last that long.
        """
        session, until = self.fetcher.ensure(min_ttl, refresh=refresh)
        self._take(session)
        return until

    def refused(self, access_key_id: str) -> bool:
        """A service refused a request that was signed with this key. Whether to
        send it again: the key was ours, and another one will sign.
        """
        if access_key_id not in self._issued:
            return False
        session = self._session
        if session is None or session.keys[0] != access_key_id:
            # A late answer to an old key: what is in hand now is not in doubt.
            return True
        now = time.time()
        if now - self._dropped < _PAUSE_SECONDS:
            # Renewed, and refused again: the fault is elsewhere.
            return False
        self._dropped = now
        self._session = self._signing = None
        self.fetcher.forget(access_key_id)
        return True

    def _renew(self) -> ReadOnlyCredentials:
        now = time.time()
        session, signing = self._session, self._signing
        if session is None or signing is None or now >= session.expires.timestamp():
            session = self.fetcher.stored()
            if session is None:
                return self._take(self.fetcher.fetch(ask=True))
            signing = self._take(session)
            if now < session.advisory:
                return signing
        # A person is asked only where it must be. Until the attempt is over,
        # other threads sign with what is in hand.
        mandatory = now >= session.mandatory
        end = session.expires.timestamp() if mandatory else session.mandatory
        self._look_again = min(now + _PAUSE_SECONDS, end)
        try:
            return self._take(self.fetcher.fetch(ask=mandatory))
        except CodeNeededError:
            logger.debug("%r will need a code; it is valid until %s.", self, session.expires)
        except Exception as error:  # noqa: BLE001  whatever failed, what is in hand still signs
            logger.warning(
                "%r is valid until %s and could not be renewed: %s", self, session.expires, error
            )
        return signing

    def _take(self, session: Session) -> ReadOnlyCredentials:
        signing = ReadOnlyCredentials(*session.keys, self.account_id)
        _private.set_expiry(self, session.expires)
        self._issued.append(session.keys[0])
        self._look_again = session.advisory
        self._session, self._signing = session, signing
        return signing

    def _metadata(self) -> dict[str, Any]:
        """What botocore's own refresh would ask for, should it ever run."""
        signing = self.get_frozen_credentials()
        session = self._session
        return {
            "access_key": signing.access_key,
            "secret_key": signing.secret_key,
            "token": signing.token,
            "expiry_time": (session.expires if session else _PAST).isoformat(),
            "account_id": signing.account_id,
        }
