"""The vault: entries in one encrypted file, shared by every process of a user.

A reader never locks: it sees the file before a replacement or after it. A
writer locks, reads again, merges and replaces; what the lock covers asks
nobody anything and runs no KDF, so nobody waits for a person.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from rolevault import _passphrase
from rolevault._files import BusyError, VaultFile
from rolevault._passphrase import PassphraseSource
from rolevault.errors import PassphraseRotatedError, VaultLockedError, WrongPassphraseError

if TYPE_CHECKING:
    from rolevault._envelope import Contents, Header

logger = logging.getLogger(__name__)

#: How long a writer waits for others: a write takes milliseconds.
LOCK_SECONDS = 30.0

Value = dict[str, Any]


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
        self._opened: str | None = None  # the header that our source opened last
        self._generation = 0
        self._warned = False

    def __repr__(self) -> str:
        return f"Vault({str(self.file)!r})"

    def __reduce__(self) -> NoReturn:
        # It may hold the passphrase.
        raise TypeError("a Vault cannot be pickled or copied; make another with the same path")

    def __getitem__(self, key: str) -> Value:
        value: Value = self._read()[key]
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __setitem__(self, key: str, value: Mapping[str, Any]) -> None:
        self.change({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self._read():
            raise KeyError(key)
        self.change({key: None})

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As ``dict.update``; one rewrite for all."""
        self.change(dict(*args, **kwargs))

    def clear(self) -> None:
        """Delete the file: all is forgotten, and the next write starts a new
        vault. Needs no passphrase, and works on a damaged file.
        """
        with self._locked():
            self.file.delete()
        _passphrase.keys.forget_prepared(str(self.file))
        self._opened = None

    def entries(self) -> list[dict[str, Any]]:
        """What stands in the vault, without secrets: for each entry ``key``,
        ``kind`` (``role``, ``mfa``, …), ``expires`` (aware UTC, or None) and
        what it is about (``role_arn``, ``account_id``, …).
        """
        return [
            {
                "key": key,
                "kind": value.get("kind", "other"),
                "expires": expiry(value),
                **value.get("about", {}),
            }
            for key, value in sorted(self._read().items())
        ]

    def change(self, changes: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Put entries in, and take those out whose value is None, in one rewrite.

        :raises ValueError: a value is not JSON-able. It does not carry the value.
        :raises PassphraseRotatedError: another process changed the passphrase,
            and this one's opens the file no longer.
        :raises VaultLockedError: the write lock did not become free.
        :raises OSError: the place cannot be written; the file is as it was.
        """
        plain = {_name(key): None if v is None else _plain(v) for key, v in changes.items()}
        while not self._try_change(plain):
            # The file's header is one that we have not opened: another process
            # made, deleted or rotated the vault. Settle that without the lock.
            pass

    def _try_change(self, changes: Mapping[str, Value | None]) -> bool:
        from rolevault import _envelope

        self.open()
        with self._locked():
            blob = self.file.read(_envelope.MAX_FILE)
            if blob is None:
                prepared = _passphrase.keys.prepared(self.source, str(self.file))
                if prepared is None:
                    return False
                header, data_key = prepared
                old = _envelope.Contents({}, 0)
            else:
                envelope = _envelope.parse(blob, str(self.file))
                header = envelope.header
                held = _passphrase.keys.held(header, self.source)
                if held is None:
                    return False
                data_key = held
                old = _envelope.read(envelope, data_key, str(self.file))
            entries = {k: v for k, v in old.entries.items() if not _expired(v)}
            for key, value in changes.items():
                if value is None:
                    entries.pop(key, None)
                else:
                    entries[key] = value
            new = _envelope.Contents(entries, old.generation + 1)
            self.file.replace(_envelope.write(header, data_key, new))
        _passphrase.keys.hold(header, self.source, data_key)
        _passphrase.keys.forget_prepared(str(self.file))
        self._note(header, new)
        return True

    def open(self) -> None:
        """Settle that the vault can be read and written, asking for the
        passphrase now where it is needed; a vault that does not exist gets
        one. Done before anybody is asked for an MFA code, so that no code is
        spent for nothing.
        """
        if self._contents() is None:
            _passphrase.keys.prepare(self.source, str(self.file))

    def _read(self) -> dict[str, Any]:
        contents = self._contents()
        return {} if contents is None else contents.entries

    def _contents(self) -> "Contents | None":
        from rolevault import _envelope

        path = str(self.file)
        blob = self.file.read(_envelope.MAX_FILE)
        if blob is None:
            return None
        envelope = _envelope.parse(blob, path)
        try:
            data_key = _passphrase.keys.unlock(envelope.header, self.source, path)
        except WrongPassphraseError:
            if self._opened in (None, envelope.header.id):
                raise
            raise PassphraseRotatedError(path=path) from None
        contents = _envelope.read(envelope, data_key, path)
        self._note(envelope.header, contents)
        return contents

    def _note(self, header: "Header", contents: "Contents") -> None:
        if header.id != self._opened:
            self._opened = header.id
        elif contents.generation < self._generation and not self._warned:
            self._warned = True
            logger.warning(
                "%s is older than it was (write %d after %d): somebody restored a copy. "
                "Sessions revoked or replaced since then may be in it.",
                self.file,
                contents.generation,
                self._generation,
            )
        self._generation = contents.generation

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.file.write_lock(LOCK_SECONDS))
            except BusyError as busy:
                raise VaultLockedError(
                    path=str(self.file), holder=busy.holder, seconds=LOCK_SECONDS
                ) from None
            yield


def rotate_passphrase(
    new: str | Callable[[], str] | None = None,
    *,
    old: str | Callable[[], str] | None = None,
    vault_path: str | os.PathLike[str] | None = None,
) -> int:
    """Give the vault a new passphrase, salt and data key; return how many entries
    it carried over.

    The KDF always runs on ``old``: a process that has the vault open does not
    spare the proof. Costs below today's default are raised. The new file is
    read back from the disk and opened with the new passphrase before it takes
    the old one's place; killed at any moment, the file opens with one of the
    two. Copies made before still open with the old passphrase.

    :param new: without it a person is asked at the terminal, twice.
    :param old: without it the configured source or the terminal is asked.
    :raises WrongPassphraseError: ``old`` does not open the vault.
    :raises PassphraseRotatedError: another rotation came first.
    :raises FileNotFoundError: there is no vault to rotate.
    """
    from rolevault import _envelope

    vault = Vault(vault_path)
    path = str(vault.file)
    blob = vault.file.read(_envelope.MAX_FILE)
    if blob is None:
        raise FileNotFoundError(2, "There is no vault to rotate", path)
    # Everything that asks or derives stands before the lock.
    header = _envelope.parse(blob, path).header
    old_text = PassphraseSource(old).read(path)
    data_key = _envelope.unlock(header, old_text, path)
    # The configured source gives the old one: without an argument a person is asked.
    asked = _passphrase.ask_new(path) if new is None else None
    new_text = asked or PassphraseSource(new).read(path, new=True)
    fresh, fresh_key = _envelope.new_header(new_text, costs=header.kdf.costs.raised())

    def opens(written: bytes) -> None:
        envelope = _envelope.parse(written, path)
        _envelope.read(envelope, _envelope.unlock(envelope.header, new_text, path), path)

    with vault._locked():
        blob = vault.file.read(_envelope.MAX_FILE)
        if blob is None:
            raise FileNotFoundError(2, "The vault was deleted meanwhile", path)
        envelope = _envelope.parse(blob, path)
        if envelope.header != header:
            raise PassphraseRotatedError(path=path)
        old_contents = _envelope.read(envelope, data_key, path)
        entries = {k: v for k, v in old_contents.entries.items() if not _expired(v)}
        contents = _envelope.Contents(entries, old_contents.generation + 1)
        vault.file.replace(_envelope.write(fresh, fresh_key, contents), check=opens)
    return len(entries)


def expiry(value: Mapping[str, Any]) -> datetime | None:
    """When an entry ends, aware UTC: the ``Expiration`` that STS gave, where
    botocore's caches have it too.
    """
    credentials = value.get("Credentials")
    text = (credentials if isinstance(credentials, dict) else value).get("Expiration")
    if not isinstance(text, str):
        return None
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment.astimezone(timezone.utc) if moment.tzinfo else None
    return None


def _expired(value: Mapping[str, Any]) -> bool:
    end = expiry(value)
    return end is not None and end.timestamp() <= time.time()


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a vault's keys are str, not {type(key).__name__}")
    return key


def _plain(value: Mapping[str, Any]) -> Value:
    try:
        plain = json.loads(json.dumps(dict(value), default=_iso))
    except (TypeError, ValueError, RecursionError):
        # The encoder's message can show what it failed on.
        raise ValueError("a vault's values are dicts that JSON can hold") from None
    return dict(plain)


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError
