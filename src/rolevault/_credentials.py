"""The credentials object that botocore's signer asks before each request."""

import logging
import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, NoReturn

from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from rolevault import _private
from rolevault._fetcher import CodeNeededError, Fetcher
from rolevault._forks import ForkLock
from rolevault._role import METHOD
from rolevault._store import Session

logger = logging.getLogger(__name__)

#: Between two attempts that failed while the current credentials still serve.
_PAUSE_SECONDS = 60.0
_PAST = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class _Hand:
    """What signs, replaced as one, so that no thread ever sees half of a renewal."""

    session: Session
    signing: ReadOnlyCredentials = field(repr=False)
    look_again: float  # it signs without a question until then


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
        self._deciding = ForkLock()  # never held while a file or the network is waited for
        self._dropping = ForkLock()
        self._hand: _Hand | None = None
        self._dropped = 0.0
        self._issued: deque[str] = deque(maxlen=8)  # key ids, for late answers to old ones

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Keys that sign now.

        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in
            failed; the next call tries again.
        """
        return self.frozen(ask=True)

    def frozen(self, *, ask: bool) -> ReadOnlyCredentials:
        """The same, for who is entered through us.

        :param ask: whether a person may be asked for a code.
        :raises CodeNeededError: ``ask`` is false, and a code is needed.
        """
        return self.in_hand() or self._renew(ask)

    def in_hand(self) -> ReadOnlyCredentials | None:
        """What signs now without a question: no file is read, no lock is taken."""
        hand = self._hand
        return hand.signing if hand is not None and time.time() < hand.look_again else None

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Whether less than ``refresh_in`` seconds are left, or the advisory window is reached."""
        hand = self._hand
        if hand is None:
            return True
        if refresh_in is None:
            return time.time() >= hand.session.advisory
        return time.time() >= hand.session.end - refresh_in

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
        # Before any wait: the STS clients of a sign-in ask here too, with keys that
        # are not ours, and it may hold the lock that forget() waits for.
        with self._deciding.lock:
            if access_key_id not in self._issued:
                return False
        # Threads that meet expiry together drop one key, once.
        with self._dropping.lock:
            with self._deciding.lock:
                if not self._signs_with(access_key_id):
                    # A late answer to an old key: what is in hand now is not in doubt.
                    return True
                now = time.time()
                if 0 <= now - self._dropped < _PAUSE_SECONDS:
                    # Renewed, and refused again: the fault is elsewhere.
                    return False
                self._dropped = now
            # From the vault first: nobody may take it out of there again.
            self.fetcher.forget(access_key_id)
            with self._deciding.lock:
                if self._signs_with(access_key_id):
                    self._hand = None
        return True

    def _signs_with(self, access_key_id: str) -> bool:
        return self._hand is not None and self._hand.session.keys[0] == access_key_id

    def _renew(self, ask: bool) -> ReadOnlyCredentials:
        """Only the decision is locked: while one thread signs in, the others sign
        with what is in hand, or wait for its outcome where that has ended.
        """
        while True:
            hand = self._hand
            if hand is None or time.time() >= hand.session.end:
                session = self.fetcher.stored()
                if session is None:
                    return self._take(self.fetcher.fetch(ask=ask))
                self._take(session)
            with self._deciding.lock:
                hand, now = self._hand, time.time()
                if hand is None:
                    continue  # refused a moment ago
                if now < hand.look_again:
                    return hand.signing
                # Until the attempt is over, the others sign with this.
                self._hand = hand = replace(hand, look_again=hand.session.end)
            # A person is asked only where it must be.
            mandatory = now >= hand.session.mandatory
            try:
                return self._take(self.fetcher.fetch(ask=ask and mandatory))
            except CodeNeededError:
                logger.debug("%r needs a code by %s.", self, hand.session.expires)
            except Exception as error:
                if time.time() >= hand.session.end:
                    raise
                logger.warning(
                    "%r is valid until %s and could not be renewed: %s",
                    self,
                    hand.session.expires,
                    error,
                )
            finally:
                self._pause(hand)
            if time.time() < hand.session.end:
                return hand.signing

    def _pause(self, hand: _Hand) -> None:
        """The attempt is over: where ``hand`` still serves, the next one is in a minute."""
        with self._deciding.lock:
            if self._hand is hand:
                now, session = time.time(), hand.session
                until = session.mandatory if now < session.mandatory else session.end
                self._hand = replace(hand, look_again=min(now + _PAUSE_SECONDS, until))

    def _take(self, session: Session) -> ReadOnlyCredentials:
        with self._deciding.lock:
            hand = self._hand
            if hand is not None and hand.session.keys == session.keys:
                return hand.signing
            signing = _read_only(session, self.account_id)
            self._hand = _Hand(session, signing, session.advisory)
            self._issued.append(session.keys[0])
            _private.set_expiry(self, session.expires)
            return signing

    def _metadata(self) -> dict[str, Any]:
        """What botocore's own refresh would ask for, should it ever run."""
        signing = self.get_frozen_credentials()
        hand = self._hand
        return {
            "access_key": signing.access_key,
            "secret_key": signing.secret_key,
            "token": signing.token,
            "expiry_time": (hand.session.expires if hand else _PAST).isoformat(),
            "account_id": self.account_id,
        }


def _read_only(session: Session, account_id: str | None) -> ReadOnlyCredentials:
    try:
        return ReadOnlyCredentials(*session.keys, account_id)
    except TypeError:  # botocore before 1.35.76 has no account id there
        return ReadOnlyCredentials(*session.keys)
