"""The vault: entries in one encrypted file, shared by every process of a user.

A reader takes no lock: it sees the file before a replacement or after it. A writer locks,
reads the file again, merges, and replaces it. Under the lock nobody is asked anything and no
KDF runs, so no process waits for a person.
"""

import contextlib
import logging
import os
from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import Any, NamedTuple, NoReturn, TypeVar

from rolevault._vault import entry, envelope
from rolevault._vault.entry import Value
from rolevault._vault.envelope import Contents, Header
from rolevault._vault.file import VaultFile
from rolevault._vault.key_cache import data_keys
from rolevault._vault.passphrase import PassphraseSource
from rolevault.errors import PassphraseRotatedError, WrongPassphraseError

logger = logging.getLogger(__name__)

T = TypeVar("T")
_MISSING: Any = object()


class _Opened(NamedTuple):
    """A file that was opened: its bytes, the source of its passphrase, and its contents."""

    source: Hashable
    blob: bytes
    header: Header
    contents: Contents


class Vault(MutableMapping[str, Value]):
    """The encrypted file as a mutable mapping of str to JSON-able dict. It fits wherever
    botocore takes a ``JSONFileCache``. Datetimes are stored as ISO 8601 text.

    Each mutation is one atomic rewrite of the file, and keeps what other processes have
    written. ``update()`` puts any number of entries into one rewrite. A write drops the
    entries that have expired.

    Nothing is read, asked or created before the first access. The first access asks for the
    passphrase where no source of it is configured.

    Example::

        for entry in rolevault.Vault().entries():   # without secrets
            print(entry["kind"], entry["expires"])

    :param path: the file; by default ``ROLEVAULT_FILE``, else ``~/.aws/rolevault/vault``.
    :param passphrase: the passphrase, or a callable that returns it; by default the
        environment or a person is asked.
    :raises RoleVaultError: on access, one of the subclasses that concern the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        passphrase: str | Callable[[], str] | None = None,
    ) -> None:
        self.file = VaultFile(path)
        self.source = PassphraseSource(passphrase)
        # The ids of the headers that the source has opened, and the last generation.
        self._seen: tuple[frozenset[str], int] = (frozenset(), 0)
        self._last: _Opened | None = None
        self._warned = False

    def __repr__(self) -> str:
        return f"Vault({str(self.file)!r})"

    def __reduce__(self) -> NoReturn:
        # It may hold the passphrase.
        raise TypeError("a Vault cannot be pickled or copied; make another with the same path")

    def __getitem__(self, key: str) -> Value:
        value: Value = entry.copy(self.snapshot()[key])
        return value

    def __contains__(self, key: object) -> bool:
        return key in self.snapshot()

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot())

    def __setitem__(self, key: str, value: Mapping[str, Any]) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def items(self) -> ItemsView[str, Value]:
        """As of a ``dict``, and all of one moment."""
        return self.copy().items()

    def values(self) -> ValuesView[Value]:
        """As of a ``dict``, and all of one moment."""
        return self.copy().values()

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        """As of a ``dict``; one rewrite, or none where the key is missing."""
        if key not in self:  # where no vault exists, none is made
            if default is _MISSING:
                raise KeyError(key)
            return default
        return self._edit(
            lambda entries: entries.pop(key) if default is _MISSING else entries.pop(key, default)
        )

    def popitem(self) -> tuple[str, Value]:
        """As of a ``dict``; one rewrite."""
        if not self:
            raise KeyError("the vault is empty")
        return self._edit(lambda entries: entries.popitem())

    def setdefault(self, key: str, default: Any = None) -> Value:
        """As of a ``dict``; one rewrite, or none where the key is there."""
        with contextlib.suppress(KeyError):
            return self[key]
        name, value = entry.checked_key(key), entry.jsonable(default)
        return dict(entry.copy(self._edit(lambda entries: entries.setdefault(name, value))))

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As of a ``dict``; one rewrite for all entries."""
        new = {
            entry.checked_key(key): entry.jsonable(value)
            for key, value in dict(*args, **kwargs).items()
        }
        self._edit(lambda entries: entries.update(new))

    def clear(self) -> None:
        """Delete the file. Every entry is forgotten, and the next write starts a new vault.
        This needs no passphrase, and works on a damaged file.
        """
        with self.file.write_lock():
            self.file.delete()

    def copy(self) -> dict[str, Value]:
        """Every entry, as of one moment."""
        return {key: entry.copy(value) for key, value in self.snapshot().items()}

    def snapshot(self) -> Mapping[str, Value]:
        """As ``copy``, but shared with later reads: the caller must not change it."""
        contents = self._contents()
        return {} if contents is None else contents.entries

    def entries(self) -> list[dict[str, Any]]:
        """What the vault holds, without secrets: for each entry its ``key``, ``kind``
        (``role``, ``mfa``, …), ``expires`` (aware UTC, or None), and what the entry is about
        (``role_arn``, ``account_id``, …).
        """
        return [
            {
                "key": key,
                "kind": value.get("kind", "other"),
                "expires": entry.expiry(value),
                **entry.description(value),
            }
            for key, value in sorted(self.snapshot().items())
        ]

    def change(self, changes: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Put entries in, and delete those whose value is None, in one rewrite.

        :raises ValueError: a value is not JSON-able. It does not carry the value.
        :raises PassphraseRotatedError: another process changed the passphrase, and the
            passphrase of this process opens the file no longer.
        :raises VaultLockedError: the write lock did not become free.
        :raises OSError: the file cannot be written. It is as it was.
        """
        new = {key: entry.jsonable(value) for key, value in changes.items() if value is not None}

        def edit(entries: dict[str, Value]) -> None:
            for key in changes:
                entries.pop(entry.checked_key(key), None)
            entries.update(new)

        self._edit(edit)

    def _edit(self, edit: Callable[[dict[str, Value]], T]) -> T:
        """Return what ``edit`` returns for the current entries, and write the entries as
        ``edit`` leaves them. Where ``edit`` raises, the file is kept.
        """
        while True:
            self.open()
            with self.file.write_lock():
                found = self._read_without_asking()
                if found is None:
                    # Another process has made, deleted or rotated the vault, and this one
                    # has no key for it yet. It gets the key without the lock.
                    continue
                header, data_key, old = found
                seen = self._seen
                entries = dict(old.entries)
                result = edit(entries)
                new = envelope.Contents(
                    entry.without_expired(entries, old.entries), old.generation + 1
                )
                blob = envelope.write(header, data_key, new)
                self.file.replace(blob)
                data_keys.put(header, self.source, data_key)
                data_keys.forget_new(str(self.file))
                self._note_generation(seen, header, new)
                self._last = _Opened(self.source.identity, blob, header, new)
            return result

    def _read_without_asking(self) -> tuple[Header, bytes, Contents] | None:
        """Header, data key and contents of the file as it is now; None where the data key is
        not known yet. Nobody is asked, and no KDF runs.
        """
        path = str(self.file)
        blob = self.file.read(envelope.MAX_FILE)
        if blob is None:
            prepared = data_keys.get_new(self.source, path)
            return None if prepared is None else (*prepared, envelope.Contents({}, 0))
        locked = self._recall(blob) or envelope.parse(blob, path)
        data_key = data_keys.get(locked.header, self.source)
        if data_key is None:
            return None
        if isinstance(locked, _Opened):
            return locked.header, data_key, locked.contents
        return locked.header, data_key, envelope.read(locked, data_key, path)

    def _recall(self, blob: bytes) -> _Opened | None:
        """The last file, if it has these very bytes: most reads find what the last one did."""
        last = self._last
        fits = last and last.source == self.source.identity and last.blob == blob
        return last if fits else None

    def open(self) -> None:
        """See that the vault can be read and written. Where the passphrase is needed, it is
        asked for now; a vault that does not exist yet gets one. This comes before anybody
        is asked for an MFA code, so that no code is spent for nothing.
        """
        if self._contents() is None:
            data_keys.prepare_new(self.source, str(self.file))

    def _contents(self) -> Contents | None:
        path = str(self.file)
        # Before the file is read: another thread may read a later file at the same time.
        seen = self._seen
        blob = self.file.read(envelope.MAX_FILE)
        if blob is None:
            return None
        if opened := self._recall(blob):
            return opened.contents
        locked = envelope.parse(blob, path)
        try:
            data_key = data_keys.unlock(locked, self.source, path)
        except WrongPassphraseError:
            if not seen[0] or locked.header.id in seen[0]:
                raise
            raise PassphraseRotatedError(path=path) from None
        contents = envelope.read(locked, data_key, path)
        self._note_generation(seen, locked.header, contents)
        self._last = _Opened(self.source.identity, blob, locked.header, contents)
        return contents

    def _note_generation(
        self, seen: tuple[frozenset[str], int], header: Header, contents: Contents
    ) -> None:
        """Remember what was seen, and warn once where the file is older than it was."""
        headers, generation = seen
        if header.id in headers and contents.generation < generation and not self._warned:
            self._warned = True
            logger.warning(
                "%s is older than it was (write %d after %d): somebody restored a copy. "
                "Sessions revoked or replaced since then may be in it.",
                self.file,
                contents.generation,
                generation,
            )
        self._seen = (headers | {header.id}, contents.generation)
