"""The renewal of one role's session, for as long as a process runs.

A state machine with four states. *Empty*: nothing signs; the next caller fetches a session,
and the others wait for the outcome. *Fresh*: before the advisory window, the keys sign
without a question. *Advisory*: a renewal that asks nobody is tried, at most once a minute,
and the keys sign on meanwhile. *Mandatory*: a renewal is tried that may ask a person; where
it fails, the keys sign until their end. Expired keys never sign.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NoReturn

from botocore.credentials import ReadOnlyCredentials

from rolevault._concurrency.fork_lock import ForkLock
from rolevault._roles.role import Role
from rolevault._signin.assume_role import CodeNeededError
from rolevault._signin.fetcher import Fetcher
from rolevault._signin.sts_session import StsSession
from rolevault._signin.user_fetcher import UserFetcher

logger = logging.getLogger(__name__)

#: How long, in seconds, after a failed attempt the next one comes, while the keys serve.
_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class _Current:
    """What signs. It is replaced as one object, so that no thread sees half of a renewal."""

    session: StsSession
    signing: ReadOnlyCredentials = field(repr=False)
    next_check: float  # until then the keys sign without a question


class Renewal:
    """Keeps the session of one role current. The first signature signs in, not the
    construction.

    :param on_renewed: is told the end of each session that is adopted.
    """

    def __init__(
        self,
        fetcher: Fetcher | UserFetcher,
        on_renewed: Callable[[datetime], object] = lambda expires: None,
    ) -> None:
        self.fetcher = fetcher
        self.on_renewed = on_renewed
        self._state_lock = ForkLock()  # never held during a wait for a file or the network
        self._drop_lock = ForkLock()
        self._current: _Current | None = None
        self._dropped_at = 0.0
        # For late answers to requests that an old key has signed.
        self._recent_key_ids: deque[str] = deque(maxlen=8)

    @property
    def role(self) -> Role:
        return self.fetcher.role

    @property
    def expires(self) -> datetime | None:
        """When the current session ends, aware UTC; None where there is none."""
        current = self._current
        return current.session.expires if current is not None else None

    def __repr__(self) -> str:
        return f"Renewal({self.role.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Renewal holds secrets: it cannot be pickled or copied")

    def frozen(self, *, ask: bool) -> ReadOnlyCredentials:
        """Keys that sign now.

        :param ask: whether a person may be asked for a code.
        :raises CodeNeededError: ``ask`` is false, and a code is needed.
        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in failed. The next
            call tries again.
        """
        return self.current() or self._renew(ask)

    def current(self) -> ReadOnlyCredentials | None:
        """Keys that sign now without a question, if there are any. No file is read, and no
        lock is taken.
        """
        current = self._current
        if current is not None and time.time() < current.next_check:
            return current.signing
        return None

    def refresh_needed(self, refresh_in: float | None) -> bool:
        """Whether less than ``refresh_in`` seconds are left, or the advisory window is
        reached.
        """
        current = self._current
        if current is None:
            return True
        if refresh_in is None:
            return time.time() >= current.session.advisory
        return time.time() >= current.session.end - refresh_in

    def ensure(self, min_ttl: float, *, refresh: bool = False) -> datetime:
        """Sign in now; return until when no person is needed, aware UTC.

        :param min_ttl: in seconds.
        :raises ConfigurationError: no session of this role can last that long.
        """
        session, until = self.fetcher.ensure(min_ttl, refresh=refresh)
        self._adopt(session)
        return until

    def drop_refused_key(self, access_key_id: str) -> bool:
        """Forget a key, with which a service has refused a request. Return whether to send
        the request again: the key was of this role, and another key will sign.
        """
        # Before any wait. The STS clients of a sign-in ask here too, with keys that are not
        # the role's, and the sign-in may hold the lock that forget() waits for.
        with self._state_lock.lock:
            if access_key_id not in self._recent_key_ids:
                return False
        # Threads that meet expiry together drop one key, once.
        with self._drop_lock.lock:
            with self._state_lock.lock:
                if not self._signs_with(access_key_id):
                    # A late answer to an old key does not concern the current one.
                    return True
                now = time.time()
                if 0 <= now - self._dropped_at < _PAUSE_SECONDS:
                    # Renewed, and refused again: the fault is elsewhere.
                    return False
                self._dropped_at = now
            # From the vault first, so that no other thread reads the key back.
            self.fetcher.forget(access_key_id)
            with self._state_lock.lock:
                if self._signs_with(access_key_id):
                    self._current = None
        return True

    def _signs_with(self, access_key_id: str) -> bool:
        return self._current is not None and self._current.session.keys[0] == access_key_id

    def _renew(self, ask: bool) -> ReadOnlyCredentials:
        """Only decisions are made under the lock. While one thread signs in, the others sign
        with the current keys, or wait for its outcome where there are none.
        """
        while True:
            current = self._current
            if current is None or time.time() >= current.session.end:
                session = self.fetcher.stored()
                if session is None:
                    return self._adopt(self.fetcher.fetch(ask=ask))
                self._adopt(session)
            with self._state_lock.lock:
                current, now = self._current, time.time()
                if current is None:
                    continue  # the key was refused a moment ago
                if now < current.next_check:
                    return current.signing
                # Until this attempt is over, the other threads sign with these keys.
                self._current = current = replace(current, next_check=current.session.end)
            is_mandatory = now >= current.session.mandatory
            try:
                return self._adopt(self.fetcher.fetch(ask=ask and is_mandatory))
            except CodeNeededError:
                logger.debug("%r needs a code by %s.", self, current.session.expires)
            except Exception as error:
                if time.time() >= current.session.end:
                    raise
                logger.warning(
                    "%r is valid until %s and could not be renewed: %s",
                    self,
                    current.session.expires,
                    error,
                )
            finally:
                self._schedule_next_attempt(current)
            if time.time() < current.session.end:
                return current.signing

    def _schedule_next_attempt(self, current: _Current) -> None:
        """The attempt is over. Where its keys still sign, the next attempt is in a minute, or
        when the next window begins.
        """
        with self._state_lock.lock:
            if self._current is current:
                now, session = time.time(), current.session
                window = session.mandatory if now < session.mandatory else session.end
                next_check = min(now + _PAUSE_SECONDS, window)
                self._current = replace(current, next_check=next_check)

    def _adopt(self, session: StsSession) -> ReadOnlyCredentials:
        """Sign with this session from now on, unless it is the current one."""
        with self._state_lock.lock:
            current = self._current
            if current is not None and current.session.keys == session.keys:
                return current.signing
            signing = _read_only(session, self.role.account_id)
            self._current = _Current(session, signing, session.advisory)
            self._recent_key_ids.append(session.keys[0])
            self.on_renewed(session.expires)
            return signing


def _read_only(session: StsSession, account_id: str | None) -> ReadOnlyCredentials:
    try:
        return ReadOnlyCredentials(*session.keys, account_id)
    except TypeError:  # botocore before 1.35.76 has no account id there
        return ReadOnlyCredentials(*session.keys)
