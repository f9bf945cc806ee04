"""The renewal of one role's session, for as long as a process runs.

This is a state machine with four states. The names of the last two are botocore's.

* Empty (``_current`` is None): no keys are known. The first thread that needs some fetches a
  session, and the other threads wait for the outcome.
* Fresh: the keys sign, and nothing else is looked at.
* Advisory: the keys sign. A renewal that asks nobody is tried, at most once a minute.
* Mandatory: a renewal that may ask a person is tried, at most once a minute. If it fails, the
  keys sign until they expire.

Expired keys never sign.
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

#: The seconds between two attempts to renew keys that still sign.
_RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class _Current:
    """The keys that sign. The object is replaced whole: no thread sees half of a renewal."""

    session: StsSession
    signing: ReadOnlyCredentials = field(repr=False)
    next_check: float  # until this time nothing but the clock is looked at


class Renewal:
    """Keeps the session of one role current. Construction calls nothing: the first call of
    ``frozen()`` signs in.

    :param on_renewed: called with the expiry of each session that is adopted.
    :param time_fetcher: the clock, in seconds since 1970.
    """

    def __init__(
        self,
        fetcher: Fetcher | UserFetcher,
        on_renewed: Callable[[datetime], object] = lambda expires: None,
        time_fetcher: Callable[[], float] = time.time,
    ) -> None:
        self.fetcher = fetcher
        self.on_renewed = on_renewed
        self._time_fetcher = time_fetcher
        # Never held while a file or the network is waited for.
        self._state_lock = ForkLock()
        self._drop_lock = ForkLock()
        self._current: _Current | None = None
        self._dropped_at = 0.0
        # A service can refuse a request after its key was replaced.
        self._recent_key_ids: deque[str] = deque(maxlen=8)

    @property
    def role(self) -> Role:
        return self.fetcher.role

    @property
    def expires(self) -> datetime | None:
        """The end of the current session, aware UTC; None if there is no session."""
        current = self._current
        return current.session.expires if current is not None else None

    def __repr__(self) -> str:
        return f"Renewal({self.role.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Renewal holds secrets: it cannot be pickled or copied")

    def frozen(self, *, ask: bool) -> ReadOnlyCredentials:
        """Return keys that sign now; sign in or renew first if that is due.

        :param ask: whether a person may be asked for a code.
        :raises CodeNeededError: ``ask`` is false, and a code is needed.
        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in failed. The next
            call tries again.
        """
        return self.keys_in_memory() or self._renew(ask).signing

    def session(self, *, ask: bool) -> StsSession:
        """As ``frozen()``, but return the whole session, the keys with their own expiry: the
        attribute ``expires`` may be that of the next session by then.
        """
        current = self._current
        if current is not None and self._time_fetcher() < current.next_check:
            return current.session
        return self._renew(ask).session

    def keys_in_memory(self) -> ReadOnlyCredentials | None:
        """Return the keys in memory, or None if there are none or a renewal is due. No file is
        read, and no lock is taken.
        """
        current = self._current
        if current is not None and self._time_fetcher() < current.next_check:
            return current.signing
        return None

    def refresh_needed(self, refresh_in: float | None) -> bool:
        """Return whether the session ends within ``refresh_in`` seconds; without a number,
        whether the advisory window has begun.
        """
        current = self._current
        if current is None:
            return True
        if refresh_in is None:
            return self._time_fetcher() >= current.session.advisory
        return self._time_fetcher() >= current.session.end - refresh_in

    def ensure(self, min_ttl: float, *, refresh: bool = False) -> datetime:
        """Sign in now. Return the time, aware UTC, until which nobody is asked again.

        :param min_ttl: how many seconds away that time must be.
        :param refresh: ask for a new code, whatever is stored.
        :raises ConfigurationError: no session of this role can last that long.
        """
        session, until = self.fetcher.ensure(min_ttl, refresh=refresh)
        self._adopt(session)
        return until

    def drop_refused_key(self, access_key_id: str) -> bool:
        """Forget a key that a service has refused. Return whether the request should be sent
        again: true if the key was this role's, and another key will sign.
        """
        # This check comes before any wait. The STS clients of a sign-in ask here too, with keys
        # that are not the role's, and the sign-in may hold the lock that forget() waits for.
        with self._state_lock.lock:
            if access_key_id not in self._recent_key_ids:
                return False
        # Several threads can be refused with one key at the same time. It is dropped once.
        with self._drop_lock.lock:
            with self._state_lock.lock:
                if not self._signs_with(access_key_id):
                    # The key was replaced since the request was signed.
                    return True
                now = self._time_fetcher()
                # A negative difference means that the clock was set back: it proves nothing.
                if 0 <= now - self._dropped_at < _RETRY_SECONDS:
                    # The last renewal did not help, so the next one will not either.
                    return False
                self._dropped_at = now
            # The vault comes first, so that no other thread reads the key back from it.
            self.fetcher.forget(access_key_id)
            with self._state_lock.lock:
                if self._signs_with(access_key_id):
                    self._current = None
        return True

    def _signs_with(self, access_key_id: str) -> bool:
        return self._current is not None and self._current.session.keys[0] == access_key_id

    def _renew(self, ask: bool) -> _Current:
        """Return the session that signs now. Fetch one if that is due. The lock is held for
        decisions only. While one thread signs in, the other threads sign with the current keys,
        or wait for the outcome if there are none.
        """
        while True:
            current = self._current
            if current is None or self._time_fetcher() >= current.session.end:
                session = self.fetcher.stored()
                if session is None:
                    return self._adopt(self.fetcher.fetch(ask=ask))
                self._adopt(session)
            with self._state_lock.lock:
                current, now = self._current, self._time_fetcher()
                if current is None:
                    continue  # another thread has dropped the key since
                if now < current.next_check:
                    return current
                # This thread claims the renewal: until its attempt ends, the other threads find
                # nothing due, and sign with these keys.
                self._current = current = replace(current, next_check=current.session.end)
            is_mandatory = now >= current.session.mandatory
            try:
                return self._adopt(self.fetcher.fetch(ask=ask and is_mandatory))
            except CodeNeededError:
                logger.debug(
                    "The session of %s needs a code by %s.",
                    self.role.name,
                    current.session.expires,
                )
            except Exception as error:
                if self._time_fetcher() >= current.session.end:
                    raise
                logger.warning(
                    "The session of %s is valid until %s and could not be renewed: %s",
                    self.role.name,
                    current.session.expires,
                    error,
                )
            finally:
                self._schedule_next_attempt(current)
            if self._time_fetcher() < current.session.end:
                return current

    def _schedule_next_attempt(self, current: _Current) -> None:
        """Note when the next attempt is due, unless another session was adopted since: in a
        minute, or earlier if a window ends before that.
        """
        with self._state_lock.lock:
            if self._current is current:
                now, session = self._time_fetcher(), current.session
                window = session.mandatory if now < session.mandatory else session.end
                next_check = min(now + _RETRY_SECONDS, window)
                self._current = replace(current, next_check=next_check)

    def _adopt(self, session: StsSession) -> _Current:
        """Sign with this session from now on. Return it as the current one."""
        with self._state_lock.lock:
            current = self._current
            if current is not None and current.session.keys == session.keys:
                return current
            signing = _read_only(session, self.role.account_id)
            self._current = adopted = _Current(session, signing, session.advisory)
            self._recent_key_ids.append(session.keys[0])
            self.on_renewed(session.expires)
            return adopted


def _read_only(session: StsSession, account_id: str | None) -> ReadOnlyCredentials:
    try:
        return ReadOnlyCredentials(*session.keys, account_id)
    except TypeError:  # botocore before 1.35.76 has no account id there
        return ReadOnlyCredentials(*session.keys)
