"""The MFA session of a user: GetSessionToken is called once with a code, and every role is
entered through its session without another code.
"""

import logging
import time
from datetime import datetime, timezone

from botocore.exceptions import ClientError

from rolevault._concurrency.single_flight import SingleFlight
from rolevault._signin.one_time_code import MfaDevice
from rolevault._signin.session_store import SessionStore
from rolevault._signin.sts_client import StsClientFactory, redacted_errors
from rolevault._signin.sts_session import Keys, StsSession
from rolevault._vault.canonical_json import digest

logger = logging.getLogger(__name__)

#: An MFA session is used until this many seconds before its end.
_MARGIN_SECONDS = 60
#: How long "this user may not call GetSessionToken" is believed.
_DENIED_SECONDS = 24 * 3600

_opening: SingleFlight[StsSession | None] = SingleFlight()


class MfaSession:
    """The MFA session that one user opens with one device.

    :param keys: the user's long-term keys, or temporary ones that need a code.
    :param seconds: how long a session shall last; 0 for none.
    """

    def __init__(
        self,
        device: MfaDevice,
        seconds: int,
        keys: Keys,
        store: SessionStore,
        sts: StsClientFactory,
    ) -> None:
        self.device = device
        self._seconds = seconds
        self._keys = keys
        self._store = store
        self._sts = sts
        #: What the session and the device's sign-in lock are known by.
        self.key = digest("mfa", keys[0], device.serial, sts.endpoint)
        # An entry for each length: a short session never overwrites a longer one, which
        # another script has opened.
        self._entry_key = digest(self.key, str(seconds))
        self._denied_key = digest("denied", self.key)

    def may_open(self) -> bool:
        """Whether a session can be opened: with long-term keys only, unless that is turned
        off, or was denied within the last day.
        """
        return (
            self._seconds > 0
            and self._keys[2] is None
            and not self._store.is_denied(self._denied_key)
        )

    def find(
        self, *, not_before: float = 0.0, min_ttl: float = _MARGIN_SECONDS
    ) -> StsSession | None:
        """The stored session that serves longest, whatever its length.

        :param not_before: a session that was issued before this time does not count.
        :param min_ttl: nor does one that serves for fewer seconds.
        """
        until = time.time() + min_ttl
        sessions = [
            session
            for entry in self._store.read().values()
            if entry.get("device") == self.key
            and (session := StsSession(entry)).issued >= not_before
            and self.end(session).timestamp() > until
        ]
        return max(sessions, key=self.end, default=None)

    def end(self, session: StsSession) -> datetime:
        """Until when a session serves here. A script that asked for shorter sessions uses a
        longer one, which another script has opened, for its own length only.
        """
        own = datetime.fromtimestamp(session.issued + self._seconds, timezone.utc)
        return min(session.expires, own)

    def open(self, purpose: str, *, not_before: float = 0.0) -> StsSession | None:
        """The session, opened with a code where there is none. None where the user may not,
        which is remembered for a day.

        :raises MfaRequiredError, MfaFailedError, SignInTimeoutError: no code.
        """

        def work() -> StsSession | None:
            with self._store.sign_in_lock("device", self.key, purpose):
                session = self.find(not_before=not_before)
                if session is None:
                    serial = self.device.serial
                    logger.info("A code of %s is needed %s: no MFA session.", serial, purpose)
                    session = self._open_with_code(purpose)
                return session

        return _opening.run((self._store, self.key, not_before), purpose, work)

    def forget(self, access_key_id: str, purpose: str) -> None:
        """Delete the session with this key from the store, if it is still there."""
        with self._store.sign_in_lock("device", self.key, purpose):
            for key, entry in self._store.read().items():
                if entry.get("device") == self.key and StsSession(entry).keys[0] == access_key_id:
                    self._store.write({key: None})

    def forget_denial(self) -> None:
        if self._store.is_denied(self._denied_key):
            self._store.write({self._denied_key: None})

    def _open_with_code(self, purpose: str) -> StsSession | None:
        # Made before anybody is asked: a client that cannot be made costs no code.
        client = self._sts.create_client(self._keys, carries_code=True)
        serial = self.device.serial

        def send(code: str) -> StsSession | None:
            try:
                with redacted_errors():
                    answer = client.get_session_token(
                        DurationSeconds=self._seconds, SerialNumber=serial, TokenCode=code
                    )
            except ClientError as error:
                if "sts:GetSessionToken" not in error.response["Error"].get("Message", ""):
                    raise
                logger.warning(
                    "This user may not open an MFA session, so each role needs a code of its "
                    "own. Allow sts:GetSessionToken to be asked once a day."
                )
                self._store.remember_denial(self._denied_key, _DENIED_SECONDS)
                return None
            session = StsSession.from_answer("mfa", {"mfa_serial": serial}, answer)
            session.value["device"] = self.key
            self._store.write({self._entry_key: session.value})
            return session

        return self.device.call_with_code(purpose, send)
