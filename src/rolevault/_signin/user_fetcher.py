"""How a user's own MFA session is found, if no role is entered. Policies can demand MFA of a
user, and then the keys of GetSessionToken sign the requests.
"""

import math
import time
from datetime import datetime

from botocore.exceptions import CredentialRetrievalError

from rolevault._roles.role import Role
from rolevault._signin.assume_role import CodeNeededError
from rolevault._signin.mfa_session import MfaSession
from rolevault._signin.one_time_code import MfaDevice
from rolevault._signin.session_store import SessionStore
from rolevault._signin.source_credentials import SourceCredentials
from rolevault._signin.sts_client import StsClientFactory
from rolevault._signin.sts_session import StsSession
from rolevault._vault.canonical_json import digest
from rolevault.errors import ConfigurationError


class UserFetcher:
    """Fetches the MFA session of one user. The interface is that of ``Fetcher``.

    :param role: options without a ``role_arn``.
    """

    def __init__(
        self, role: Role, source: SourceCredentials, store: SessionStore, sts: StsClientFactory
    ) -> None:
        self.role = role
        self._source = source
        self._store = store
        self._sts = sts
        self._endpoint = sts.endpoint

    @property
    def key(self) -> str:
        """The identity of the session, if a role is entered with it."""
        return digest("user", self._source.identity, self.role.mfa_serial, self._endpoint)

    def fetch(self, *, ask: bool, not_before: float = 0.0, refresh: bool = False) -> StsSession:
        """Return an MFA session that is outside its advisory window.

        :param ask: whether a person may be asked for a code.
        :param not_before: ignore a session that was issued before this time.
        :param refresh: has no effect here.
        :raises CodeNeededError: ``ask`` is false, and a code is needed.
        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in failed.
        """
        self._store.ensure_openable()
        mfa_session = self._mfa_session()
        found = mfa_session.find(not_before=not_before)
        if found is not None:
            serving = _ending_at(found, mfa_session.end(found))
            if time.time() < serving.advisory:
                return serving
            not_before = math.nextafter(found.issued, math.inf)
        if not ask:
            raise CodeNeededError(directly=False, not_before=not_before)
        return self._open(not_before)

    def ensure(self, min_ttl: float, *, refresh: bool) -> tuple[StsSession, datetime]:
        """Return an MFA session and its end, which is at least ``min_ttl`` seconds away.

        :param refresh: ask for a new code whatever is stored, and ignore remembered denials.
        :raises ConfigurationError: no session lasts that long.
        """
        self._store.ensure_openable()
        now, life = time.time(), self.role.mfa_session_seconds
        mfa_session = self._mfa_session()
        if refresh:
            mfa_session.forget_denial()
        if min_ttl > life:
            raise ConfigurationError(
                option="min_ttl",
                value=f"{min_ttl:g}",
                rule=f"the MFA session lasts {life} seconds. Raise mfa_session_seconds, as far "
                "as AWS allows it, or ask for less.",
            )
        # A session that was just opened has already lost a moment.
        least = min(min_ttl, life - min(300.0, life / 6))
        found = None if refresh else mfa_session.find(min_ttl=least)
        session = _ending_at(found, mfa_session.end(found)) if found else self._open(now)
        return session, session.expires

    def stored(self) -> StsSession | None:
        """Return the stored session that can be used longest, or None."""
        mfa_session = self._mfa_session()
        found = mfa_session.find()
        return _ending_at(found, mfa_session.end(found)) if found is not None else None

    def forget(self, access_key_id: str) -> None:
        """Delete the session with this key from the vault."""
        self._mfa_session().forget(access_key_id, self.role.purpose)

    def _open(self, not_before: float) -> StsSession:
        return self._source.call_with_keys(lambda: self._open_with_keys(not_before))

    def _open_with_keys(self, not_before: float) -> StsSession:
        session = None
        mfa_session = self._mfa_session()
        if mfa_session.may_open():
            session = mfa_session.open(self.role.purpose, not_before=not_before)
        if session is None:
            raise _failed(
                "STS denied this user an MFA session within the last day. Allow "
                "sts:GetSessionToken, and call rolevault.ensure(refresh=True)"
            )
        return _ending_at(session, mfa_session.end(session))

    def _mfa_session(self) -> MfaSession:
        # The keys of a role are not asked for, because the role might need a code.
        keys = None if self._source.is_role() else self._source.keys(ask=True)
        if keys is None or keys[2] is not None:
            raise _failed(
                "GetSessionToken takes a user's long-term keys, and the source credentials "
                f"({self._source.method}) are temporary. Name a profile or a session with "
                "long-term keys, or pass role_arn="
            )
        serial, callback = self.role.mfa_serial, self.role.mfa_callback or self.role.mfa_process
        device = MfaDevice(serial or "", callback, self._store)
        seconds = self.role.mfa_session_seconds
        return MfaSession(device, seconds, keys, self._store, self._sts)


def _ending_at(session: StsSession, end: datetime) -> StsSession:
    """Return the session with another end. The longer session of another script is used for
    the length that this script asked for, and no longer.
    """
    credentials = {**session.value["Credentials"], "Expiration": end.isoformat()}
    return StsSession({**session.value, "Credentials": credentials})


def _failed(message: str) -> CredentialRetrievalError:
    return CredentialRetrievalError(provider="rolevault", error_msg=message)
