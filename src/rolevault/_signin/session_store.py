"""The sessions that STS issued: in the vault, or in memory where the vault cannot be
written. An answer of STS is never lost to a full disk.
"""

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from rolevault._concurrency import single_flight
from rolevault._vault.entry import expiry
from rolevault._vault.lock_files import BusyError
from rolevault._vault.vault import Vault
from rolevault.errors import SignInTimeoutError

logger = logging.getLogger(__name__)

Entry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class _PendingChange:
    """A change of one entry that could not be written to the vault yet.

    :param new: the entry, or None for a deletion.
    :param deleted: the entry that a deletion means.
    """

    new: Entry | None
    deleted: Entry | None = None

    def still_holds(self, stored: Entry | None) -> bool:
        """Whether no other process has put something newer there, as far as the entry that
        is ``stored`` now tells.
        """
        if self.new is None:
            return stored is not None and stored == self.deleted
        return bool(self.new.get("issued", 0) >= (stored or {}).get("issued", 0))


class SessionStore:
    """A vault that loses nothing that was put in, for as long as the process lives."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._pending: dict[str, _PendingChange] = {}
        self._warned = False
        self._held_by_thread = threading.local()

    def ensure_openable(self) -> None:
        """Settle, before anybody is asked for a code, that the vault opens, or that it is
        new and gets its passphrase, or that it cannot be written at all.

        :raises RoleVaultError: the vault does not open.
        """
        if self.vault.file.usable():
            self.vault.open()
        else:
            self._warn("no file can be made there")

    def read(self) -> dict[str, Entry]:
        """Every entry that has not expired.

        :raises RoleVaultError, OSError: the vault cannot be read, and nothing in memory
            can take its place.
        """
        try:
            entries: dict[str, Entry] = dict(self.vault.snapshot())
        except PermissionError:
            # The directory itself cannot be entered, as with an unusable HOME.
            entries = {}
        except Exception:
            # What STS answered serves. The next sign-in tells what is wrong.
            if not any(change.new is not None for change in list(self._pending.values())):
                raise
            entries = {}
        for key, new in self._pending_for(entries, self._pending).items():
            if new is not None:
                entries[key] = new
            else:
                del entries[key]
        now = time.time()
        return {
            key: value
            for key, value in entries.items()
            if (end := expiry(value)) is None or end.timestamp() > now
        }

    def write(self, changes: Mapping[str, Entry | None]) -> None:
        """Put entries in the vault; None deletes one. Where that fails, for whatever reason,
        the changes hold in this process until a later write succeeds, and one warning says
        so.
        """
        earlier = {key: each for key, each in list(self._pending.items()) if key not in changes}
        mine: dict[str, _PendingChange] = {}
        for key, new in changes.items():
            self._pending.pop(key, None)
            if new is not None:
                # Before the attempt: other threads see the entry from now on.
                mine[key] = self._pending[key] = _PendingChange(new)
        try:
            if not self.vault.file.usable():
                raise PermissionError(errno.EACCES, "no file can be made there")
            late = self._pending_for(self.vault.snapshot(), earlier) if earlier else {}
            self.vault.change({**late, **changes})
        except Exception as error:  # noqa: BLE001  an answer of STS is never lost
            self._keep_deletions(key for key, new in changes.items() if new is None)
            self._warn(error)
        else:
            for key, change in {**earlier, **mine}.items():
                # Another thread may have changed the entry meanwhile.
                if self._pending.get(key) is change:
                    self._pending.pop(key, None)

    def is_denied(self, key: str) -> bool:
        """Whether a denial is remembered under ``key``."""
        return key in self.read()

    def remember_denial(self, key: str, seconds: int) -> None:
        """Remember for a while, for all processes, that STS said no."""
        end = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        self.write({key: {"kind": "denial", "Expiration": end.isoformat()}})

    @contextlib.contextmanager
    def sign_in_lock(
        self, kind: Literal["role", "device"], key: str, purpose: str
    ) -> Iterator[None]:
        """Hold the sign-in lock of a role or of an MFA device against other processes.

        The two kinds have eight locks each, so that a sign-in that needs no code never
        waits for a person who types one.

        :raises SignInTimeoutError: its holder did not finish within two minutes, or is this
            thread.
        """
        slot = int(key[0], 16) % 8 + (8 if kind == "device" else 0)
        held: set[int] = self._held_by_thread.__dict__.setdefault("slots", set())
        if slot in held:
            raise single_flight.deadlock_error(purpose)

        def waiting(holder: str) -> None:
            # A person may be typing in another window, and this process must not seem to
            # hang.
            level = logging.WARNING if kind == "device" else logging.INFO
            logger.log(level, "Waiting for %s, which is signing in (%s).", holder, purpose)

        with contextlib.ExitStack() as stack:
            seconds = single_flight.WAIT_SECONDS
            try:
                stack.enter_context(self.vault.file.sign_in_lock(slot, seconds, waiting))
            except BusyError as busy:
                raise SignInTimeoutError(
                    purpose=purpose, holder=busy.holder, seconds=seconds
                ) from None
            except OSError as error:
                # Where no file can be made, nothing is shared with other processes either.
                logger.debug("No lock for signing in: %s", error)
            held.add(slot)
            stack.callback(held.discard, slot)
            yield

    def _pending_for(
        self, entries: Mapping[str, Entry], pending: Mapping[str, _PendingChange]
    ) -> dict[str, Entry | None]:
        """The ``pending`` changes that still hold for the vault's ``entries``."""
        return {
            key: change.new
            for key, change in list(pending.items())
            if change.still_holds(entries.get(key))
        }

    def _keep_deletions(self, keys: Iterator[str]) -> None:
        with contextlib.suppress(Exception):
            entries = self.vault.snapshot()
            for key in keys:
                if key in entries:
                    self._pending[key] = _PendingChange(None, deleted=entries[key])

    def _warn(self, reason: object) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s could not be written, so what STS answers serves this process only: %s",
                self.vault.file,
                reason,
            )


_stores: dict[tuple[str, Hashable], SessionStore] = {}


def store_for(vault: Vault) -> SessionStore:
    """One store for all roles of a process that share a vault and its passphrase."""
    return _stores.setdefault((str(vault.file), vault.source.identity), SessionStore(vault))
