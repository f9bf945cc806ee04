"""How a role's session is found: in the vault, or else by a sign-in.

Two kinds of locks keep processes from signing in twice. The lock of a role is held during an
AssumeRole that needs no code, and never while a person types. The lock of an MFA device is
held while a person types, and is taken only if a code is needed. No thread holds both.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime

from botocore.exceptions import ClientError, CredentialRetrievalError

from rolevault._concurrency.single_flight import SingleFlight
from rolevault._roles.role import CHAINED_SECONDS, Role
from rolevault._signin.assume_role import AssumeRole, CodeNeededError
from rolevault._signin.mfa_session import MfaSession
from rolevault._signin.one_time_code import MfaDevice
from rolevault._signin.session_store import SessionStore
from rolevault._signin.source_credentials import SourceCredentials
from rolevault._signin.sts_answer import KEY_REFUSALS
from rolevault._signin.sts_client import StsClientFactory
from rolevault._signin.sts_session import Keys, StsSession
from rolevault.errors import ConfigurationError

logger = logging.getLogger(__name__)

_signing_in: SingleFlight[StsSession] = SingleFlight()


class Fetcher:
    """Fetches the sessions of one role, for all threads and processes.

    :param mfa_hint: returns what to say if the role is denied and has no ``mfa_serial``.
    """

    def __init__(
        self,
        role: Role,
        source: SourceCredentials,
        store: SessionStore,
        sts: StsClientFactory,
        mfa_hint: Callable[[], str | None],
    ) -> None:
        self.role = role
        self._source = source
        self._store = store
        self._sts = sts
        self._mfa_hint = mfa_hint
        self._endpoint = sts.endpoint

    @property
    def key(self) -> str:
        """The key of the role's entry in the vault."""
        return self.role.cache_key(self._source.identity, self._endpoint)

    def fetch(self, *, ask: bool, not_before: float = 0.0, refresh: bool = False) -> StsSession:
        """Return a session of the role that is outside its advisory window.

        :param ask: whether a person may be asked for a code.
        :param not_before: ignore a session of the role that was issued before this time.
        :param refresh: ignore an MFA session that was issued before ``not_before``, too.
        :raises CodeNeededError: ``ask`` is false, and a code is needed.
        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in failed.
        """
        fresh = self._stored_fresh(not_before)
        if fresh is not None:
            return fresh
        key = (self._store, self.key, ask, not_before, refresh)
        return _signing_in.run(
            key, self.role.purpose, lambda: self._sign_in(ask, not_before, refresh)
        )

    def ensure(self, min_ttl: float, *, refresh: bool) -> tuple[StsSession, datetime]:
        """Return a session of the role, and the time until which nobody is asked again. If a
        code is needed at all, that time is at least ``min_ttl`` seconds away.

        :param refresh: ask for a new code whatever is stored, and ignore remembered denials.
        :raises ConfigurationError: no session can last that long.
        """
        self._store.ensure_openable()
        return self._source.call_with_keys(lambda: self._ensure(min_ttl, refresh))

    def _ensure(self, min_ttl: float, refresh: bool) -> tuple[StsSession, datetime]:
        now = time.time()
        upper_role = self._source.upper_role()
        # If the role is entered from an upper role, only the upper role can need a code.
        upper_until = (
            upper_role.ensure(min_ttl, refresh=refresh) if upper_role is not None else None
        )
        mfa_session = self._mfa_session()
        if refresh:
            self._assume_role().forget_denial()
            if mfa_session is not None:
                mfa_session.forget_denial()
        least = self._attainable_ttl(min_ttl, mfa_session)
        if refresh:
            # The new session goes to the vault, where the calls below find it.
            self.fetch(ask=True, not_before=now, refresh=True)
        if mfa_session is not None and mfa_session.may_open():
            if mfa_session.find(min_ttl=least) is None:
                mfa_session.open(self.role.purpose, not_before=now)
            # If STS has denied the MFA session, the role's own session has to last.
            least = self._attainable_ttl(min_ttl, mfa_session)
        session = self.fetch(ask=True)
        if upper_until is not None:
            return session, max(session.expires, upper_until)
        mfa = mfa_session.find() if mfa_session is not None and mfa_session.may_open() else None
        if mfa_session is not None and mfa is not None:
            return session, max(session.expires, mfa_session.end(mfa))
        if session.expires.timestamp() - now < least:
            session = self.fetch(ask=True, not_before=now)
        return session, session.expires

    def stored(self) -> StsSession | None:
        """Return the role's session in the vault, however soon it ends."""
        entry = self._store.read().get(self.key)
        return StsSession(entry) if entry is not None else None

    def forget(self, access_key_id: str) -> None:
        """Delete the role's session from the vault, unless it has another key by now."""
        with self._store.sign_in_lock("role", self.key, self.role.purpose):
            stored = self.stored()
            if stored is not None and stored.keys[0] == access_key_id:
                self._store.write({self.key: None})

    def _stored_fresh(self, not_before: float) -> StsSession | None:
        stored = self.stored()
        serves = stored and time.time() < stored.advisory and stored.issued >= not_before
        return stored if serves else None

    def _sign_in(self, ask: bool, not_before: float, refresh: bool) -> StsSession:
        self._store.ensure_openable()
        return self._source.call_with_keys(lambda: self._call_sts(ask, not_before, refresh))

    def _call_sts(self, ask: bool, not_before: float, refresh: bool) -> StsSession:
        mfa_session = self._mfa_session()
        mfa_not_before = not_before if refresh else 0.0
        mfa_session_opened = upper_key_dropped = False
        while True:
            # The source's keys come before the lock: a source that is a role takes a lock too.
            keys = self._source.keys(ask=ask)
            with self._store.sign_in_lock("role", self.key, self.role.purpose):
                fresh = self._stored_fresh(not_before)
                if fresh is not None:
                    return fresh
                try:
                    return self._assume_role().without_code(mfa_session, keys, mfa_not_before)
                except (CodeNeededError, ClientError) as error:
                    refusal = error
            if isinstance(refusal, ClientError):
                if upper_key_dropped or not self._drop_refused_upper_key(refusal, keys):
                    self._warn_without_device(refusal)
                    raise refusal
                upper_key_dropped = True
                continue
            if mfa_session is None or not ask:
                raise refusal
            if refusal.directly:
                return self._sign_in_with_code(mfa_session, keys, not_before)
            if mfa_session_opened:
                # A person is never asked in a loop, whatever STS and the clocks say.
                raise CredentialRetrievalError(
                    provider="rolevault",
                    error_msg="STS did not accept an MFA session that it had just issued. Compare "
                    "this machine's clock with the real time, and try again",
                )
            session = mfa_session.open(self.role.purpose, not_before=refusal.not_before)
            # Without a session, STS denies MFA sessions to this user, and the next round asks for
            # a code for the role itself.
            mfa_session_opened = session is not None

    def _sign_in_with_code(
        self, mfa_session: MfaSession, keys: Keys, not_before: float
    ) -> StsSession:
        with self._store.sign_in_lock("device", mfa_session.key, self.role.purpose):
            fresh = self._stored_fresh(not_before)
            if fresh is not None:
                return fresh
            return self._assume_role().with_code(mfa_session.device, keys)

    def _warn_without_device(self, error: ClientError) -> None:
        """Say so if the role is denied because its ``mfa_serial`` is in another profile."""
        is_denied = error.response["Error"]["Code"] == "AccessDenied"
        if not is_denied or self.role.mfa_serial is not None or self._source.is_role():
            return
        if hint := self._mfa_hint():
            logger.warning("STS denied entry to %s. %s", self.role.role_arn, hint)

    def _drop_refused_upper_key(self, error: ClientError, keys: Keys) -> bool:
        """Have an upper role drop its key if STS refused the key. Return whether another key will
        sign.
        """
        upper_role = self._source.upper_role()
        refused = error.response["Error"]["Code"] in KEY_REFUSALS
        return upper_role is not None and refused and upper_role.drop_refused_key(keys[0])

    def _assume_role(self) -> AssumeRole:
        return AssumeRole(self.role, self.key, self._store, self._sts)

    def _mfa_session(self) -> MfaSession | None:
        """Return the MFA session of the user who enters the role; None if a code cannot help."""
        method = self._source.method
        role = self.role
        if role.mfa_serial is None:
            return None
        if self._source.is_role():
            logger.info(
                "mfa_serial of %s is not sent: the source credentials are a role's (%s), and a "
                "device belongs to a user.",
                role.role_arn,
                method,
            )
            return None
        return MfaSession(
            MfaDevice(role.mfa_serial, role.mfa_callback or role.mfa_process, self._store),
            0 if role.needs_code_itself else role.mfa_session_seconds,
            self._source.keys(ask=True),
            self._store,
            self._sts,
        )

    def _attainable_ttl(self, min_ttl: float, mfa_session: MfaSession | None) -> float:
        """Return ``min_ttl``, or a little less than the life of a new session if that is
        shorter: a session that was just opened has already lost a moment.
        """
        option = "duration_seconds"
        life = self.role.duration_seconds or CHAINED_SECONDS
        if mfa_session is not None and mfa_session.may_open():
            option, life = "mfa_session_seconds", self.role.mfa_session_seconds
        if mfa_session is not None and min_ttl > life:
            raise ConfigurationError(
                option="min_ttl",
                value=f"{min_ttl:g}",
                rule=f"this role's sessions last {life} seconds. Raise {option}, as far as "
                "AWS allows it, or ask for less.",
            )
        return min(min_ttl, life - min(300.0, life / 6))
