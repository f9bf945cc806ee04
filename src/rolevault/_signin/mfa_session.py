"""The MFA session of a user. GetSessionToken is called once with a code, and its keys enter
every role without another code.
"""

import logging
import time
from datetime import datetime, timezone

from botocore.exceptions import ClientError

from rolevault._concurrency.single_flight import SingleFlight
from rolevault._signin.one_time_code import MfaDevice
from rolevault._signin.session_store import SessionStore
from rolevault._signin.sts_answer import session_from_answer
from rolevault._signin.sts_client import StsClientFactory
from rolevault._signin.sts_session import Keys, StsSession
from rolevault._vault.canonical_json import digest

logger = logging.getLogger(__name__)

#: An MFA session is not used in its last seconds: a call that it signs takes time.
_MARGIN_SECONDS = 60
#: How long, in seconds, it is remembered that a user may not call GetSessionToken.
_DENIED_SECONDS = 24 * 3600

_opening: SingleFlight[StsSession | None] = SingleFlight()


class MfaSession:
    """The MFA session that one user opens with one device.

    :param seconds: how long a session is to last; 0 turns MFA sessions off.
    :param keys: the user's long-term keys. With temporary keys no session can be opened.
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
        #: Names the sessions in the store, and the sign-in lock of the device.
        self.key = digest("mfa", keys[0], device.serial, sts.endpoint)
        # One entry per requested length, so that a short session never overwrites the longer
        # session of another script.
        self._entry_key = digest(self.key, str(seconds))
        self._denied_key = digest("denied", self.key)

    def may_open(self) -> bool:
        """Return whether a session can be opened: the keys are long-term keys, MFA sessions are
        not turned off, and STS has not denied one within the last day.
        """
        return (
            self._seconds > 0
            and self._keys[2] is None
            and not self._store.is_denied(self._denied_key)
        )

    def find(
        self, *, not_before: float = 0.0, min_ttl: float = _MARGIN_SECONDS
    ) -> StsSession | None:
        """Return the stored session that can be used longest, or None.

        :param not_before: ignore sessions that were issued before this time.
        :param min_ttl: ignore sessions that can be used for fewer seconds than this.
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
        """Return the time until which a session is used here. The longer session of another
        script is used for the length that this script asked for, and no longer.
        """
        own = datetime.fromtimestamp(session.issued + self._seconds, timezone.utc)
        return min(session.expires, own)

    def open(self, purpose: str, *, not_before: float = 0.0) -> StsSession | None:
        """Return the stored session, or open one with a code. Return None if the user may not
        open one; that is remembered for a day.

        :param purpose: what the code is for, as the prompt says it.
        :param not_before: ignore sessions that were issued before this time.
        :raises MfaRequiredError, MfaFailedError, SignInTimeoutError: there is no code.
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
        # The client comes before the prompt: if it cannot be made, no code is lost.
        caller = self._sts.create_caller(self._keys, carries_code=True)
        serial = self.device.serial

        def send(code: str) -> StsSession | None:
            try:
                answer = caller.call(
                    "get_session_token",
                    DurationSeconds=self._seconds,
                    SerialNumber=serial,
                    TokenCode=code,
                )
            except ClientError as error:
                if "sts:GetSessionToken" not in error.response["Error"]["Message"]:
                    raise
                logger.warning(
                    "STS does not let this user open an MFA session, so each role asks for its own "
                    "code. Allow sts:GetSessionToken, and one code a day is enough."
                )
                self._store.remember_denial(
                    self._denied_key, _DENIED_SECONDS, in_memory=caller.answer_is_mocked
                )
                return None
            about = {"mfa_serial": serial}
            session = session_from_answer("mfa", about, answer, asked_seconds=self._seconds)
            session.value["device"] = self.key
            self._store.write({self._entry_key: session.value}, in_memory=caller.answer_is_mocked)
            return session

        return self.device.call_with_code(purpose, caller, send)
