"""A new passphrase for the vault, without a moment at which none opens it."""

import os
from collections.abc import Callable

from rolevault._vault import entry, envelope, passphrase
from rolevault._vault.file import VaultFile
from rolevault._vault.key_cache import data_keys, unlock_with_retries
from rolevault._vault.passphrase import PassphraseSource
from rolevault.errors import PassphraseRotatedError, VaultDamagedError


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
    read back and opened before it takes the old one's place; killed at any
    moment, the file opens with one of the two. Copies made before still open
    with the old passphrase.

    :param new: without it a person is asked at the terminal, twice.
    :param old: without it the configured source or the terminal is asked.
    :raises WrongPassphraseError: ``old`` does not open the vault.
    :raises PassphraseRotatedError: another rotation came first.
    :raises FileNotFoundError: there is no vault to rotate.
    """
    file = VaultFile(vault_path)
    path = str(file)
    # Everything that asks or derives stands before the lock.
    header = envelope.parse(_existing(file), path).header
    data_key = unlock_with_retries(header, PassphraseSource(old), path, "Current passphrase")
    # The configured source gives the old one: without an argument a person is asked.
    source = PassphraseSource(new)
    new_text = passphrase.ask_new(path) if new is None else source.read(path, new=True)
    fresh, fresh_key = envelope.new_header(new_text, costs=header.kdf.costs.at_least_default())
    opened_key = envelope.unlock(fresh, new_text, path)

    def check(written: bytes) -> None:
        # The passphrase opened this header before; so it opens this file.
        locked = envelope.parse(written, path)
        if locked.header != fresh:
            raise VaultDamagedError(path=path, reason="it was not written as it was made")
        envelope.read(locked, opened_key, path)

    with file.write_lock():
        locked = envelope.parse(_existing(file), path)
        if locked.header != header:
            raise PassphraseRotatedError(path=path)
        before = envelope.read(locked, data_key, path)
        entries = entry.without_expired(before.entries, before.entries)
        after = envelope.Contents(entries, before.generation + 1)
        file.replace(envelope.write(fresh, fresh_key, after), check)
    if new is not None or source.identity == passphrase.TERMINAL:
        # Who just gave it is not asked again.
        data_keys.put(fresh, source, fresh_key)
    return len(entries)


def _existing(file: VaultFile) -> bytes:
    blob = file.read(envelope.MAX_FILE)
    if blob is None:
        raise FileNotFoundError(2, "There is no vault to rotate", str(file))
    return blob
