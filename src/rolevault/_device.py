"""An MFA device and the session that one of its codes opens: GetSessionToken
once, and every role is entered through it without another code.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from rolevault import _mfa
from rolevault._flight import Flights
from rolevault._role import digest
from rolevault._store import Session, Store, issued
from rolevault._sts import Keys, Sts, secretive

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: An MFA session is used until just before its end.
_MARGIN_SECONDS = 60
#: How long "this user may not call GetSessionToken" is believed.
_DENIED_SECONDS = 24 * 3600

_flights: Flights[Session | None] = Flights()


class Device:
    """One user's device, as one process uses it.

    :param keys: the user's long-term keys, or temporary ones that need a code.
    :param seconds: how long a session shall last; 0 for none.
    """

    def __init__(
        self, serial: str, callback: _mfa.Callback, seconds: int, keys: Keys, store: Store, sts: Sts
    ) -> None:
        self.serial = serial
        self._callback = callback
        self._seconds = seconds
        self._keys = keys
        self._store = store
        self._sts = sts
        self.key = digest("mfa", keys[0], serial, sts.endpoint)
        # By length: a script that wants a short one takes nobody's long one away.
        self._session_key = digest(self.key, str(seconds))
        self._denied_key = digest("denied", self.key)
        self._codes_key = digest("codes", serial)

    def may_open_session(self) -> bool:
        """Long-term keys only, unless turned off or denied within the last day."""
        return (
            self._seconds > 0
            and self._keys[2] is None
            and self._denied_key not in self._store.read()
        )

    def session(
        self, *, not_before: float = 0.0, min_ttl: float = _MARGIN_SECONDS
    ) -> Session | None:
        """The stored session that serves longest, if that is another ``min_ttl``
        seconds; none that was issued before ``not_before``. Its length does not
        matter, only how long it serves here.
        """
        until = time.time() + min_ttl
        sessions = [
            session
            for entry in self._store.read().values()
            if entry.get("device") == self.key
            and (session := Session(entry)).issued >= not_before
            and self.end(session).timestamp() > until
        ]
        return max(sessions, key=self.end, default=None)

    def end(self, session: Session) -> datetime:
        """Until when a session serves here: whoever asks for shorter ones gets
        them, also from one that a script with longer ones has opened.
        """
        own = datetime.fromtimestamp(session.issued + self._seconds, timezone.utc)
        return min(session.expires, own)

    def open_session(self, purpose: str, *, not_before: float = 0.0) -> Session | None:
        """The session, opened with a code where there is none; None where the
        user may not, which is remembered for a day.

        :raises MfaRequiredError, MfaFailedError, SignInTimeoutError: no code.
        """

        def call() -> Session | None:
            with self._store.turn("device", self.key, purpose):
                session = self.session(not_before=not_before)
                if session is None:
                    logger.info("A code of %s is needed %s: no MFA session.", self.serial, purpose)
                    session = self._open_session(purpose)
                return session

        return _flights.share((self._store, self.key, not_before), purpose, call)

    def forget_denial(self) -> None:
        if self._denied_key in self._store.read():
            self._store.write({self._denied_key: None})

    def with_code(self, purpose: str, send: Callable[[str], T]) -> T:
        """What ``send`` returns with a code; codes sent by other processes are
        refused, and they are told of those sent here, whatever came of it.
        """
        spent: dict[str, float] = self._store.read().get(self._codes_key, {}).get("codes", {})
        for code, until in spent.items():
            _mfa.used_codes.add(self.serial, [code], until)
        sent: list[str] = []

        def note_and_send(code: str) -> T:
            sent.append(code)
            return send(code)

        try:
            return _mfa.with_code(self.serial, purpose, self._callback, note_and_send)
        finally:
            self._share(spent, sent)

    def _share(self, spent: dict[str, float], sent: list[str]) -> None:
        now = time.time()
        # A code is not used where no connection was made.
        used = [code for code in sent if _mfa.used_codes.has(self.serial, code, now)]
        if used:
            until = now + _mfa.CODE_LIFE_SECONDS
            codes = {code: end for code, end in spent.items() if end > now}
            codes |= dict.fromkeys(used, until)
            end = datetime.fromtimestamp(until, timezone.utc).isoformat()
            self._store.write(
                {self._codes_key: {"kind": "codes", "codes": codes, "Expiration": end}}
            )

    def _open_session(self, purpose: str) -> Session | None:
        # Made before anybody is asked: a client that cannot be made costs no code.
        client = self._sts.client(self._keys, carries_code=True)

        def send(code: str) -> Session | None:
            try:
                with secretive():
                    answer = client.get_session_token(
                        DurationSeconds=self._seconds, SerialNumber=self.serial, TokenCode=code
                    )
            except ClientError as error:
                if "sts:GetSessionToken" not in error.response["Error"].get("Message", ""):
                    raise
                logger.warning(
                    "This user may not open an MFA session, so each role needs a code of its "
                    "own. Allow sts:GetSessionToken to be asked once a day."
                )
                self._store.write({self._denied_key: denial(_DENIED_SECONDS)})
                return None
            session = issued("mfa", {"mfa_serial": self.serial}, answer)
            session.value["device"] = self.key
            self._store.write({self._session_key: session.value})
            return session

        return self.with_code(purpose, send)


def denial(seconds: int) -> dict[str, Any]:
    """The entry that remembers, for a while, that STS said no."""
    end = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return {"kind": "denial", "Expiration": end.isoformat()}
