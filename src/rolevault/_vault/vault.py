"""The vault: entries in one encrypted file, shared by every process of a user.

A reader never locks: it sees the file before a replacement or after it. A
writer locks, reads again, merges and replaces; what the lock covers asks
nobody anything and runs no KDF, so nobody waits for a person.
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
    """A file, and what a source found in it."""

    source: Hashable
    blob: bytes
    header: Header
    contents: Contents


class Vault(MutableMapping[str, Value]):
    """The encrypted file as a mutable mapping of str to JSON-able dict. It fits
    wherever botocore takes a ``JSONFileCache``; datetimes are stored as ISO
    8601 text.

    Each mutation is one atomic rewrite that keeps what other processes wrote
    meanwhile; ``update()`` puts any number of entries into one. Entries that
    expired are dropped by the next write.

    Nothing is read, asked or created before the first access, which asks for
    the passphrase where no source is configured.

    :param path: the file; ``ROLEVAULT_FILE`` or ``~/.aws/rolevault/vault``.
    :param passphrase: the passphrase, or a callable that returns it; without
        it the environment or the terminal is asked.
    :raises RoleVaultError: on access, one of the leaves that concern the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        passphrase: str | Callable[[], str] | None = None,
    ) -> None:
        self.file = VaultFile(path)
        self.source = PassphraseSource(passphrase)
        # The headers that our source opened, and the last generation.
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
        return self.copy().items()

    def values(self) -> ValuesView[Value]:
        return self.copy().values()

    def pop(self, key: str, default: Any = _MISSING) -> Any:
        if key not in self:  # then there may be no vault to write to either
            if default is _MISSING:
                raise KeyError(key)
            return default
        return self._edit(
            lambda entries: entries.pop(key) if default is _MISSING else entries.pop(key, default)
        )

    def popitem(self) -> tuple[str, Value]:
        if not self:
            raise KeyError("the vault is empty")
        return self._edit(lambda entries: entries.popitem())

    def setdefault(self, key: str, default: Any = None) -> Value:
        with contextlib.suppress(KeyError):
            return self[key]
        name, value = entry.checked_key(key), entry.jsonable(default)
        return dict(entry.copy(self._edit(lambda entries: entries.setdefault(name, value))))

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As ``dict.update``; one rewrite for all."""
        new = {
            entry.checked_key(key): entry.jsonable(value)
            for key, value in dict(*args, **kwargs).items()
        }
        self._edit(lambda entries: entries.update(new))

    def clear(self) -> None:
        """Delete the file: all is forgotten, and the next write starts a new
        vault. Needs no passphrase, and works on a damaged file.
        """
        with self.file.write_lock():
            self.file.delete()

    def copy(self) -> dict[str, Value]:
        """Every entry, as one moment had them."""
        return {key: entry.copy(value) for key, value in self.snapshot().items()}

    def snapshot(self) -> Mapping[str, Value]:
        """As ``copy``, but shared with later reads: only to look at."""
        contents = self._contents()
        return {} if contents is None else contents.entries

    def entries(self) -> list[dict[str, Any]]:
        """What stands in the vault, without secrets: for each entry ``key``,
        ``kind`` (``role``, ``mfa``, …), ``expires`` (aware UTC, or None) and
        what it is about (``role_arn``, ``account_id``, …).
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
        """Put entries in, and take those out whose value is None, in one rewrite.

        :raises ValueError: a value is not JSON-able. It does not carry the value.
        :raises PassphraseRotatedError: another process changed the passphrase,
            and this one's opens the file no longer.
        :raises VaultLockedError: the write lock did not become free.
        :raises OSError: the place cannot be written; the file is as it was.
        """
        new = {key: entry.jsonable(value) for key, value in changes.items() if value is not None}

        def edit(entries: dict[str, Value]) -> None:
            for key in changes:
                entries.pop(entry.checked_key(key), None)
            entries.update(new)

        self._edit(edit)

    def _edit(self, edit: Callable[[dict[str, Value]], T]) -> T:
        """What ``edit`` returns for the entries of this moment; what it leaves is
        written. What it raises keeps the file.
        """
        while True:
            self.open()
            with self.file.write_lock():
                found = self._held()
                if found is None:
                    # The file's header is one that we have not opened: another
                    # process made, deleted or rotated the vault. Settle that
                    # without the lock.
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
                self._note(seen, header, new)
                self._last = _Opened(self.source.identity, blob, header, new)
            return result

    def _held(self) -> tuple[Header, bytes, Contents] | None:
        """The file as it is now, if we hold its key: nothing is asked here."""
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
        """What we found in these very bytes: most reads find what the last one did."""
        last = self._last
        fits = last and last.source == self.source.identity and last.blob == blob
        return last if fits else None

    def open(self) -> None:
        """Settle that the vault can be read and written, asking for the
        passphrase now where it is needed; a vault that does not exist gets
        one. Done before anybody is asked for an MFA code, so that no code is
        spent for nothing.
        """
        if self._contents() is None:
            data_keys.prepare_new(self.source, str(self.file))

    def _contents(self) -> Contents | None:
        path = str(self.file)
        # Before the file: another thread may see a later one meanwhile.
        seen = self._seen
        blob = self.file.read(envelope.MAX_FILE)
        if blob is None:
            return None
        if opened := self._recall(blob):
            return opened.contents
        locked = envelope.parse(blob, path)
        try:
            data_key = data_keys.unlock(locked.header, self.source, path)
        except WrongPassphraseError:
            if not seen[0] or locked.header.id in seen[0]:
                raise
            raise PassphraseRotatedError(path=path) from None
        contents = envelope.read(locked, data_key, path)
        self._note(seen, locked.header, contents)
        self._last = _Opened(self.source.identity, blob, locked.header, contents)
        return contents

    def _note(self, seen: tuple[frozenset[str], int], header: Header, contents: Contents) -> None:
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
