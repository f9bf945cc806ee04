"""A new passphrase for the vault. There is no moment at which no passphrase opens the file."""

import os
from collections.abc import Callable

from rolevault._vault import entry, envelope, held_key, kernel_keyring, passphrase
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
    """Give the vault a new passphrase, salt and data key; return how many entries were
    carried over.

    The KDF always runs on ``old``, also in a process that has opened the vault before. KDF
    costs below the default are raised. The new file is read back and opened before it
    replaces the old one: if the process is killed at any moment, the file opens with one of
    the two passphrases. Copies of the old file still open with the old passphrase. The vault is
    locked then, but where ``ROLEVAULT_UNLOCK`` is set, a new passphrase that is typed unlocks it.

    Example::

        rolevault.rotate_passphrase()                    # asks
        rolevault.rotate_passphrase("the new", old="the old")

    :param new: the new passphrase; by default a person is asked, twice.
    :param old: the current passphrase; by default the configured source or a person is asked.
    :param vault_path: the file; by default ``ROLEVAULT_FILE``, else ``~/.aws/rolevault/vault``.
    :raises WrongPassphraseError: ``old`` does not open the vault.
    :raises PassphraseRotatedError: another rotation came first.
    :raises FileNotFoundError: there is no vault to rotate.
    """
    file = VaultFile(vault_path)
    path = str(file)
    # Whatever asks a person or runs the KDF comes before the lock.
    header = envelope.parse(_existing(file), path).header
    data_key = unlock_with_retries(header, PassphraseSource(old), path, "Current passphrase")
    # The configured source gives the old passphrase. Only a person can give another.
    source = PassphraseSource(new)
    seconds = held_key.seconds_for_typed() if new is None else None
    new_text = passphrase.ask_new(path) if new is None else source.read(path, new=True)
    fresh, fresh_key = envelope.new_header(new_text, costs=header.kdf.costs.at_least_default())
    opened_key = envelope.unlock(fresh, new_text, path)

    def check(written: bytes) -> None:
        # The new passphrase has opened this very header above, so it opens this file.
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
    kernel_keyring.drop(header.id)
    held_key.hold_typed(fresh, fresh_key, seconds)
    if new is not None or source.identity == passphrase.PERSON:
        # The source that has just given the passphrase is not asked again.
        data_keys.put(fresh, source, fresh_key)
    return len(entries)


def _existing(file: VaultFile) -> bytes:
    blob = file.read(envelope.MAX_FILE)
    if blob is None:
        raise FileNotFoundError(2, "There is no vault to rotate", str(file))
    return blob
