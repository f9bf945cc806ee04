"""The store of the sessions that STS issued: the vault, or memory as long as the vault cannot
be written. An answer of STS is never lost to a full disk.
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

    :param new: the new entry; None if the entry is to be deleted.
    :param deleted: the entry that is to be deleted.
    """

    new: Entry | None
    deleted: Entry | None = None

    def still_holds(self, stored: Entry | None) -> bool:
        """Return whether the change still applies: no other process has stored a newer entry.

        :param stored: the entry that the vault has now.
        """
        if self.new is None:
            return stored is not None and stored == self.deleted
        return bool(self.new.get("issued", 0) >= (stored or {}).get("issued", 0))


class SessionStore:
    """A vault whose entries this process does not lose if the file cannot be written."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._pending: dict[str, _PendingChange] = {}
        #: Entries that are never written: what no connection has brought.
        self._in_memory: dict[str, Entry] = {}
        self._warned = False
        self._held_by_thread = threading.local()

    def ensure_openable(self) -> None:
        """Open the vault; a new vault gets its passphrase now. This comes before a person is
        asked for a code, so that no code is lost. A vault that cannot be written is no error.

        :raises RoleVaultError: the vault does not open.
        """
        if self.vault.file.usable():
            self.vault.open()
        else:
            self._warn("no file can be made there")

    def read(self) -> dict[str, Entry]:
        """Return every entry that has not expired, those that are only in memory included.

        :raises RoleVaultError, OSError: the vault cannot be read, and no entry is in memory.
        """
        try:
            entries: dict[str, Entry] = dict(self.vault.snapshot())
        except PermissionError:
            # The directory cannot be entered, for example because HOME is another user's.
            entries = {}
        except Exception:
            # The sessions in memory are used. The next sign-in raises the error.
            if not any(change.new is not None for change in list(self._pending.values())):
                raise
            entries = {}
        for key, new in self._pending_for(entries, self._pending).items():
            if new is not None:
                entries[key] = new
            else:
                del entries[key]
        entries.update(self._in_memory)
        now = time.time()
        return {
            key: value
            for key, value in entries.items()
            if (end := expiry(value)) is None or end.timestamp() > now
        }

    def write(self, changes: Mapping[str, Entry | None], *, in_memory: bool = False) -> None:
        """Put entries in the vault; None deletes an entry. If that fails for any reason, the
        changes apply in this process until a later write succeeds, and one warning says so.

        :param in_memory: keep the entries in the memory of this process, and leave the vault as
            it is: they are the answer of a mock, and must not outlive the test that made it.
        """
        for key in changes:
            if self._in_memory.pop(key, None) is not None and changes[key] is None:
                # The entry that was deleted is the one in memory, and not one in the vault.
                changes = {name: new for name, new in changes.items() if name != key}
        if in_memory:
            self._in_memory.update({key: new for key, new in changes.items() if new is not None})
            return
        if not changes:
            return
        earlier = {key: each for key, each in list(self._pending.items()) if key not in changes}
        mine: dict[str, _PendingChange] = {}
        for key, new in changes.items():
            self._pending.pop(key, None)
            if new is not None:
                # Other threads see the entry from now on, while it is written.
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
                # Another thread may have changed the entry since.
                if self._pending.get(key) is change:
                    self._pending.pop(key, None)

    def is_denied(self, key: str) -> bool:
        """Return whether a denial is remembered under ``key``."""
        return key in self.read()

    def remember_denial(self, key: str, seconds: int, *, in_memory: bool = False) -> None:
        """Remember that STS has denied a call, for all processes and this many seconds.

        :param in_memory: as for ``write``.
        """
        end = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        self.write({key: {"kind": "denial", "Expiration": end.isoformat()}}, in_memory=in_memory)

    @contextlib.contextmanager
    def sign_in_lock(
        self, kind: Literal["role", "device"], key: str, purpose: str
    ) -> Iterator[None]:
        """Hold the sign-in lock of a role or of an MFA device, so that no other process signs
        in at the same time.

        Each kind has eight lock files of its own, so that a sign-in without a code never waits
        for a person who types one.

        :param key: its first hexadecimal digit chooses the lock file.
        :param purpose: what the sign-in is for, as the messages say it.
        :raises SignInTimeoutError: another process holds the lock for more than two minutes, or
            this thread holds it.
        """
        slot = int(key[0], 16) % 8 + (8 if kind == "device" else 0)
        held: set[int] = self._held_by_thread.__dict__.setdefault("slots", set())
        if slot in held:
            raise single_flight.deadlock_error(purpose)

        def waiting(holder: str) -> None:
            # A person may be typing in another window. Without a message this process would
            # seem to hang.
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
                # If no lock file can be made, no vault can be shared either.
                logger.debug("No lock for signing in: %s", error)
            held.add(slot)
            stack.callback(held.discard, slot)
            yield

    def _pending_for(
        self, entries: Mapping[str, Entry], pending: Mapping[str, _PendingChange]
    ) -> dict[str, Entry | None]:
        """Return the ``pending`` changes that still apply to the vault's ``entries``."""
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
                    # An entry that another thread has put in since is newer than the deletion.
                    self._pending.setdefault(key, _PendingChange(None, deleted=entries[key]))

    def _warn(self, reason: object) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s could not be written, so new sessions are kept in the memory of this process "
                "only: %s",
                self.vault.file,
                reason,
            )


_stores: dict[tuple[str, Hashable], SessionStore] = {}


def store_for(vault: Vault) -> SessionStore:
    """Return the store for a vault: one for all roles that share the file and its passphrase."""
    return _stores.setdefault((str(vault.file), vault.source.identity), SessionStore(vault))
