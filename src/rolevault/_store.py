"""Sessions that STS issued: in the vault, or in memory where it cannot be
written. What STS has answered is never lost to a full disk.
"""

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, NoReturn

from botocore.exceptions import CredentialRetrievalError
from botocore.parsers import ResponseParserError

from rolevault import _flight
from rolevault._entries import expiry
from rolevault._locks import BusyError
from rolevault.errors import SignInTimeoutError
from rolevault.vault import Vault

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """Credentials that STS issued, with their life.

    The windows follow the lifetime (seconds before the end): botocore's fixed
    ones make a 900-second session stale at birth.
    """

    value: dict[str, Any] = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Session holds secrets: it cannot be pickled or copied")

    @property
    def expires(self) -> datetime:
        return expiry(self.value) or datetime.fromtimestamp(0, timezone.utc)

    @property
    def end(self) -> float:
        return self.expires.timestamp()

    @property
    def issued(self) -> float:
        return float(self.value.get("issued", 0.0))

    @property
    def lifetime(self) -> float:
        return max(0.0, self.end - self.issued)

    @property
    def advisory(self) -> float:
        """From here on a silent renewal is tried: a third of the life, at most 15 minutes."""
        return self.end - min(900.0, self.lifetime / 3)

    @property
    def mandatory(self) -> float:
        """From here on it must be renewed: a sixth of the life, at most 5 minutes."""
        return self.end - min(300.0, self.lifetime / 6)

    @property
    def keys(self) -> tuple[str, str, str]:
        """Access key id, secret access key, session token."""
        credentials = self.value["Credentials"]
        return (
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials["SessionToken"],
        )


def issued(kind: str, about: Mapping[str, Any], answer: Mapping[str, Any]) -> Session:
    """The session in STS's answer, shaped as it stands in the vault.

    :raises ResponseParserError: it holds none, or not all of them.
    :raises CredentialRetrievalError: they have ended, by this machine's clock.
    """
    credentials = dict(answer.get("Credentials", {}))
    if not credentials.keys() >= {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}:
        raise ResponseParserError("STS's answer holds no credentials. Try again.")
    end, now = credentials["Expiration"], time.time()
    if end.timestamp() <= now:
        # To sign with them would be refused later, somewhere else.
        message = f"STS's session ended at {end}, before it came: try again, and look at the clock"
        raise CredentialRetrievalError(provider="rolevault", error_msg=message)
    credentials["Expiration"] = end.astimezone(timezone.utc).isoformat()
    value = {
        "kind": kind,
        "about": {name: text for name, text in about.items() if text is not None},
        "issued": now,
        "Credentials": credentials,
    }
    return Session(value)


class Store:
    """A vault that never loses what was put in, for as long as the process lives."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        #: What could not be written yet.
        self._unsaved: dict[str, dict[str, Any]] = {}
        #: What could not be taken out yet. What others put in its place is not meant.
        self._undeleted: dict[str, dict[str, Any]] = {}
        self._warned = False
        self._turns = threading.local()

    def settle(self) -> None:
        """Before anybody is asked for a code: the vault opens, or is new and gets
        its passphrase, or cannot be written at all.

        :raises RoleVaultError: it does not open.
        """
        if self.vault.file.usable():
            self.vault.open()
        else:
            self._warn("no file can be made there")

    def read(self) -> dict[str, Any]:
        """Every entry that has not expired.

        :raises RoleVaultError, OSError: the vault cannot be read, and nothing
            in memory stands in for it.
        """
        try:
            entries: dict[str, Any] = dict(self.vault.snapshot())
        except PermissionError:
            # Not even the place can be looked at: an unusable HOME.
            entries = {}
        except Exception:
            # What STS answered serves; the next sign-in says what is wrong.
            if not self._unsaved:
                raise
            entries = {}
        for key, value in self._overdue(entries).items():
            if value is not None:
                entries[key] = value
            else:
                del entries[key]
        now = time.time()
        return {
            key: value
            for key, value in entries.items()
            if (end := expiry(value)) is None or end.timestamp() > now
        }

    def write(self, changes: Mapping[str, dict[str, Any] | None]) -> None:
        """Put entries in the vault; None takes one out. Where that fails, for
        whatever reason, they serve this process from memory until a later write
        succeeds, and one warning says so.
        """
        late = {**self._unsaved, **self._undeleted}.keys() - changes.keys()
        for key, value in changes.items():
            self._undeleted.pop(key, None)
            self._unsaved.pop(key, None)
            if value is not None:
                self._unsaved[key] = value
        try:
            if not self.vault.file.usable():
                raise PermissionError(errno.EACCES, "no file can be made there")
            overdue = self._overdue(self.vault.snapshot()) if late else {}
            self.vault.change({**overdue, **changes})
        except Exception as error:  # noqa: BLE001  an answer of STS is never lost
            self._hide(key for key, value in changes.items() if value is None)
            self._warn(error)
        else:
            for key, value in {**overdue, **changes}.items():
                if self._unsaved.get(key) is value:
                    self._unsaved.pop(key, None)
            for key in late - overdue.keys():
                # Another process has put something newer there.
                self._unsaved.pop(key, None)
            for key in late:
                self._undeleted.pop(key, None)

    def _warn(self, reason: object) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s could not be written, so what STS answers serves this process only: %s",
                self.vault.file,
                reason,
            )

    def _overdue(self, entries: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
        """The changes to the vault's ``entries`` that could not be written, without
        those that another process's newer ones have overtaken.
        """
        overdue: dict[str, dict[str, Any] | None] = {
            key: None
            for key, value in list(self._undeleted.items())
            if key in entries and entries[key] == value
        }
        for key, value in list(self._unsaved.items()):
            if value.get("issued", 0) >= entries.get(key, {}).get("issued", 0):
                overdue[key] = value
        return overdue

    def _hide(self, keys: Iterable[str]) -> None:
        with contextlib.suppress(Exception):
            entries = self.vault.snapshot()
            self._undeleted.update({key: entries[key] for key in keys if key in entries})

    @contextlib.contextmanager
    def turn(self, kind: Literal["role", "device"], key: str, purpose: str) -> Iterator[None]:
        """Hold the sign-in lock of a role or of a device against other processes.

        The two kinds have eight locks each, so that nobody who needs no code
        ever waits for somebody who types one.

        :raises SignInTimeoutError: its holder did not finish within two minutes,
            or is this thread.
        """
        slot = int(key[0], 16) % 8 + (8 if kind == "device" else 0)
        mine: set[int] = self._turns.__dict__.setdefault("slots", set())
        if slot in mine:
            raise _flight.waits_for_itself(purpose)

        def waiting(holder: str) -> None:
            # A person types in another window, and this one must not seem to hang.
            level = logging.WARNING if kind == "device" else logging.INFO
            logger.log(level, "Waiting for %s, which is signing in (%s).", holder, purpose)

        with contextlib.ExitStack() as stack:
            seconds = _flight.WAIT_SECONDS
            try:
                stack.enter_context(self.vault.file.sign_in_lock(slot, seconds, waiting))
            except BusyError as busy:
                raise SignInTimeoutError(
                    purpose=purpose, holder=busy.holder, seconds=seconds
                ) from None
            except OSError as error:
                # Where no file can be made there is nothing to share either.
                logger.debug("No lock for signing in: %s", error)
            mine.add(slot)
            stack.callback(mine.discard, slot)
            yield


_stores: dict[tuple[str, Hashable], Store] = {}


def store_for(vault: Vault) -> Store:
    """One store for all roles of a process that share a vault and its passphrase."""
    return _stores.setdefault((str(vault.file), vault.source.identity), Store(vault))
