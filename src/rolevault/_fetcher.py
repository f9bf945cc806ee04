"""Finding a role's credentials: the vault first, else STS.

Two kinds of locks keep people and programs out of each other's way. A role's
covers a silent AssumeRole and is never held while somebody types; a device's
covers the typing, and only who needs a code takes it. Neither is taken under
the other.
"""

import logging
import math
import time
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError, CredentialRetrievalError

from rolevault._device import Device, denial
from rolevault._flight import Flights
from rolevault._role import CHAINED_SECONDS, Role, digest
from rolevault._source import Source
from rolevault._store import Session, Store, issued
from rolevault._sts import Keys, Sts, secretive
from rolevault.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: Below this age of an MFA session a denial is not about its age
#: (``aws:MultiFactorAuthAge``), and a fresh code would not help.
_YOUNG_SECONDS = 300
_DENIED_SECONDS = 3600
#: What STS calls keys that were revoked or have ended.
_REFUSALS = ("InvalidClientTokenId", "ExpiredToken")

_flights: Flights[Session] = Flights()


class CodeNeededError(Exception):
    """Not without a person. ``directly``: the code goes to AssumeRole itself.
    ``not_before``: an MFA session issued earlier will not do.
    """

    def __init__(self, *, directly: bool, not_before: float = 0.0) -> None:
        super().__init__("a code is needed")
        self.directly = directly
        self.not_before = not_before


class Fetcher:
    """The one way to a role's credentials, for all threads and processes."""

    def __init__(self, role: Role, source: Source, store: Store, sts: Sts) -> None:
        self.role = role
        self._source = source
        self._store = store
        self._sts = sts
        self.key = role.cache_key(source.identity, sts.endpoint)
        self._denied_key = digest("denied", self.key)

    def fetch(self, *, ask: bool, not_before: float = 0.0, refresh: bool = False) -> Session:
        """A session of the role that is outside its advisory window.

        :param ask: whether a person may be asked for a code.
        :param not_before: sessions of the role issued earlier do not count.
        :param refresh: nor do MFA sessions.
        :raises CodeNeededError: ``ask`` is false, and a code is needed.
        :raises RoleVaultError, BotoCoreError, ClientError: why it failed.
        """
        stored = self._stored(not_before)
        if stored is not None:
            return stored
        flight = (self._store, self.key, ask, not_before, refresh)
        return _flights.share(
            flight, self.role.purpose, lambda: self._sign_in(ask, not_before, refresh)
        )

    def ensure(self, min_ttl: float, *, refresh: bool) -> tuple[Session, datetime]:
        """A session of the role, and until when no person is needed; both at
        least ``min_ttl`` seconds away, where a person must be asked at all.

        :raises ConfigurationError: no session can last that long.
        """
        self._store.settle()
        now = time.time()
        hop = self._source.hop()
        # Where a person is needed, it is for the hop.
        renewable = hop.ensure(min_ttl, refresh=refresh) if hop is not None else None
        device = self.device()
        if refresh:
            self._store.write({self._denied_key: None})
            if device is not None:
                device.forget_denial()
        least = self._attainable(min_ttl, device)
        if refresh:
            self.fetch(ask=True, not_before=now, refresh=True)
        if device is not None and device.may_open_session():
            if device.session(min_ttl=least) is None:
                device.open_session(self.role.purpose, not_before=now)
            # The user may not, as it turned out: the role's own session has to last.
            least = self._attainable(min_ttl, device)
        session = self.fetch(ask=True)
        if renewable is not None:
            return session, max(session.expires, renewable)
        mfa = device.session() if device is not None and device.may_open_session() else None
        if device is not None and mfa is not None:
            return session, max(session.expires, device.end(mfa))
        if session.expires.timestamp() - now < least:
            session = self.fetch(ask=True, not_before=now)
        return session, session.expires

    def _attainable(self, min_ttl: float, device: Device | None) -> float:
        """How many seconds are asked for, a little below what a new session has."""
        option = "duration_seconds"
        life = self.role.duration_seconds or CHAINED_SECONDS
        if device is not None and device.may_open_session():
            option, life = "mfa_session_seconds", self.role.mfa_session_seconds
        if device is not None and min_ttl > life:
            raise ConfigurationError(
                option="min_ttl",
                value=f"{min_ttl:g}",
                rule=f"this role's sessions last {life} seconds. Raise {option}, as far as "
                "AWS allows it, or ask for less.",
            )
        # A session that was just opened has already lost a moment.
        return min(min_ttl, life - min(300.0, life / 6))

    def stored(self) -> Session | None:
        """The role's session in the vault, whatever life it has left."""
        entry = self._store.read().get(self.key)
        return Session(entry) if entry is not None else None

    def forget(self, access_key_id: str) -> None:
        """Drop the role's session, if it still is the one with this key."""
        with self._store.turn("role", self.key, self.role.purpose):
            stored = self.stored()
            if stored is not None and stored.keys[0] == access_key_id:
                self._store.write({self.key: None})

    def device(self) -> Device | None:
        """The device whose codes open the role; None where no code could."""
        source = self._source.resolve()
        if self.role.mfa_serial is None:
            return None
        if self._source.is_role():
            logger.info(
                "mfa_serial of %s is not sent: the source credentials are a role's (%s), and a "
                "device belongs to a user.",
                self.role.role_arn,
                source.method,
            )
            return None
        return Device(
            self.role.mfa_serial,
            self.role.mfa_callback or self.role.mfa_process,
            0 if self.role.needs_code_itself else self.role.mfa_session_seconds,
            self._source_keys(ask=True),
            self._store,
            self._sts,
        )

    def _source_keys(self, *, ask: bool) -> Keys:
        hop = self._source.hop()
        if hop is not None:
            frozen = hop.frozen(ask=ask)
        else:
            frozen = self._source.resolve().get_frozen_credentials()
        return frozen.access_key or "", frozen.secret_key or "", frozen.token

    def _stored(self, not_before: float) -> Session | None:
        stored = self.stored()
        serves = stored and time.time() < stored.advisory and stored.issued >= not_before
        return stored if serves else None

    def _sign_in(self, ask: bool, not_before: float, refresh: bool) -> Session:
        self._store.settle()
        device = self.device()
        # An MFA session issued before this does not serve.
        mfa_not_before = not_before if refresh else 0.0
        asked = healed = False
        while True:
            # Before the lock: a source that is itself a role takes its own.
            keys = self._source_keys(ask=ask)
            with self._store.turn("role", self.key, self.role.purpose):
                stored = self._stored(not_before)
                if stored is not None:
                    return stored
                try:
                    return self._assume_silently(device, keys, mfa_not_before)
                except (CodeNeededError, ClientError) as error:
                    need = error
            if isinstance(need, ClientError):
                if healed or not self._hop_renews(need, keys):
                    raise need
                healed = True
                continue
            if device is None or not ask:
                raise need
            if need.directly:
                return self._assume_with_code(device, keys, not_before)
            if asked:
                # Never ask a person in a loop, whatever STS and the clocks say.
                raise CredentialRetrievalError(
                    provider="rolevault", error_msg="a new MFA session did not serve; check clocks"
                )
            asked = device.open_session(self.role.purpose, not_before=need.not_before) is not None

    def _hop_renews(self, error: ClientError, keys: Keys) -> bool:
        """Whether STS refused a hop's keys, and the hop will give others."""
        hop = self._source.hop()
        refused = error.response["Error"].get("Code") in _REFUSALS
        return hop is not None and refused and hop.refused(keys[0])

    def _assume_silently(self, device: Device | None, keys: Keys, mfa_not_before: float) -> Session:
        """AssumeRole without a code: through the MFA session where there is one,
        or as who we are, where that may do or nobody shall be asked again.
        """
        if device is None:
            return self._assume(self._sts.client(keys), chained=keys[2] is not None)
        shared = device.may_open_session()
        mfa = device.session(not_before=mfa_not_before) if shared else None
        # Temporary keys of a user may carry MFA already: only STS knows.
        hopeless = keys[2] is None and self._denied_key not in self._store.read()
        if mfa is None and (hopeless or mfa_not_before):
            raise CodeNeededError(directly=not shared, not_before=mfa_not_before)
        try:
            signing = mfa.keys if mfa else keys
            return self._assume(self._sts.client(signing), chained=signing[2] is not None)
        except ClientError as error:
            raise self._without_code(error, mfa) from None

    def _without_code(self, error: ClientError, mfa: Session | None) -> Exception:
        """What STS's refusal of a call without a code leads to: a code, or itself."""
        code = error.response["Error"].get("Code")
        # Who renewed it meanwhile is spared, and who comes together shares one code.
        newer = math.nextafter(mfa.issued, math.inf) if mfa is not None else 0.0
        if mfa is not None and code in _REFUSALS:
            # Revoked, or the keys that opened it are gone.
            return CodeNeededError(directly=False, not_before=newer)
        if code != "AccessDenied":
            return error
        if mfa is not None and mfa.issued >= time.time() - _YOUNG_SECONDS:
            self._remember_denial()
            return error
        if self._denied_key not in self._store.read():
            return CodeNeededError(directly=mfa is None, not_before=newer)
        logger.warning(
            "%s was denied with a fresh code within the last hour, so nobody is asked again. "
            "Once its trust policy lets you in: rolevault.ensure(refresh=True).",
            self.role.role_arn,
        )
        return error

    def _assume_with_code(self, device: Device, keys: Keys, not_before: float) -> Session:
        # Made before anybody is asked: a client that cannot be made costs no code.
        client = self._sts.client(keys, carries_code=True)
        with self._store.turn("device", device.key, self.role.purpose):
            stored = self._stored(not_before)
            if stored is not None:
                return stored
            try:
                return device.with_code(
                    self.role.purpose,
                    lambda code: self._assume(
                        client,
                        chained=keys[2] is not None,
                        SerialNumber=device.serial,
                        TokenCode=code,
                    ),
                )
            except ClientError as error:
                if error.response["Error"].get("Code") == "AccessDenied":
                    self._remember_denial()
                raise

    def _assume(self, client: Any, *, chained: bool, **code: str) -> Session:
        with secretive():
            answer = client.assume_role(**self.role.arguments(chained=chained), **code)
        about = {
            "profile": self.role.profile,
            "role_arn": self.role.role_arn,
            "account_id": self.role.account_id,
            "session_name": self.role.session_name,
        }
        session = issued("role", about, answer)
        logger.info("Entered %s until %s.", self.role.role_arn, session.expires)
        self._store.write({self.key: session.value, self._denied_key: None})
        return session

    def _remember_denial(self) -> None:
        self._store.write({self._denied_key: denial(_DENIED_SECONDS)})
        logger.warning(
            "%s denies entry to a user with a fresh MFA code: look at its trust policy "
            "(principal, external id, aws:MultiFactorAuthAge).",
            self.role.role_arn,
        )
