"""``rolevault.unlock()`` and ``rolevault.lock()``: one passphrase for a limited time."""

import os
from datetime import timedelta

from rolevault._vault import envelope, held_key, kernel_keyring
from rolevault._vault.file import VaultFile
from rolevault._vault.key_cache import unlock_with_retries
from rolevault._vault.passphrase import PassphraseSource
from rolevault.errors import ConfigurationError


def unlock(
    seconds: float | str | timedelta = 28800,
    *,
    vault_path: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> None:
    """Ask for the passphrase once, and have the Linux kernel hold the vault's data key. Until
    the time is over, no process of this user asks for the passphrase or runs the KDF.

    The passphrase is needed also where the vault is unlocked already: the time begins anew.
    A rotation locks the vault. So does the end of the user's last process.

    Example::

        rolevault.unlock()          # asks; for eight hours
        rolevault.unlock("12h")

    :param seconds: how long: seconds, a timedelta, or a text such as "12h"; up to 30 days.
    :param vault_path: the file; by default ``ROLEVAULT_FILE``, else ``~/.aws/rolevault/vault``.
    :param force: unlock also as root, whose keyring all containers of root may share.
    :raises ConfigurationError: the time is none, or this is root without ``force``.
    :raises UnsupportedPlatformError: there is no kernel keyring, or it refuses.
    :raises WrongPassphraseError: the passphrase does not open the vault.
    :raises FileNotFoundError: there is no vault yet.
    """
    whole_seconds = held_key.seconds_to_hold("seconds", seconds)
    if held_key.is_root() and not force:
        rule = "root's containers could read the key. Pass force=True if that is meant."
        raise ConfigurationError(option="force", value=repr(force), rule=rule)
    # Nobody types a passphrase for nothing.
    refusal = kernel_keyring.refusal()
    if refusal is not None:
        raise refusal
    file = VaultFile(vault_path)
    path = str(file)
    blob = file.read(envelope.MAX_FILE)
    if blob is None:
        raise FileNotFoundError(2, "There is no vault to unlock", path)
    locked = envelope.parse(blob, path)
    data_key = unlock_with_retries(locked.header, PassphraseSource(), path)
    envelope.read(locked, data_key, path)
    kernel_keyring.hold(locked.header.id, data_key, whole_seconds)


def lock(vault_path: str | os.PathLike[str] | None = None) -> bool:
    """End what ``unlock()`` began. Return whether a key was held.

    Needs no passphrase. A process that has opened the vault goes on until it ends. Where the
    vault was deleted, nothing tells which key was its own: the key opens only copies of the
    file, and ends with its time.

    :param vault_path: as for ``unlock``.
    :raises VaultDamagedError: the file does not tell its key.
    """
    file = VaultFile(vault_path)
    path = str(file)
    blob = file.read(envelope.MAX_FILE)
    return blob is not None and kernel_keyring.drop(envelope.parse(blob, path).header.id)
