"""When the kernel's key opens a vault, and when a typed passphrase has the kernel hold one."""

import logging
import os

from rolevault._vault import durations, envelope, kernel_keyring
from rolevault._vault.envelope import Envelope, Header
from rolevault.errors import ConfigurationError, UnsupportedPlatformError, VaultTamperedError

logger = logging.getLogger(__name__)

#: The longest time that a key is held, in seconds: 30 days.
_MOST = 30 * 86400
_is_hinted = False


def find(locked: Envelope, path: str) -> bytes | None:
    """The held data key that opens this file, or None. Runs no KDF, and asks nobody. A held
    key that does not open the file is dropped.
    """
    name = locked.header.id
    try:
        data_key = kernel_keyring.find(name)
    except kernel_keyring.ExposedKeyError:
        logger.warning(
            "Other users could read the key of %s that the kernel held. The key was dropped. "
            "Change the passphrase, and with it the key.",
            path,
        )
        return None
    if data_key is None:
        return None
    try:
        envelope.read(locked, data_key, path)
    except (VaultTamperedError, ValueError):  # ValueError: it has not the length of a key
        kernel_keyring.drop(name)
        return None
    return data_key


def seconds_to_hold(option: str, value: object) -> int:
    """How long a key is held, in whole seconds.

    :raises ConfigurationError: the value is no length of time from 1 s to 30 days.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    found = durations.seconds(value)
    if found is None or not 1 <= found <= _MOST:
        rule = 'must be seconds, a timedelta, or text as "90s", "15m" or "8h", up to "30d".'
        raise ConfigurationError(option=option, value=repr(value), rule=rule)
    return int(found)


def seconds_for_typed() -> int | None:
    """What ``ROLEVAULT_UNLOCK`` says: how long a typed passphrase unlocks the vault; None
    where it is unset.

    :raises ConfigurationError: it is no length of time.
    """
    text = os.environ.get("ROLEVAULT_UNLOCK")
    return seconds_to_hold("ROLEVAULT_UNLOCK", text) if text else None


def hint() -> tuple[str, ...]:
    """The line of the first prompt of this process that tells how to type less, where the
    kernel can hold a key. No line where ``ROLEVAULT_UNLOCK`` is set.
    """
    global _is_hinted
    if _is_hinted or is_root() or os.environ.get("ROLEVAULT_UNLOCK"):
        return ()
    _is_hinted = True
    if kernel_keyring.refusal() is not None:
        return ()
    return ("To type it once a day, use `rolevault unlock`.",)


def is_root() -> bool:
    """Whether this process would hold the key for uid 0. Every process of root shares one
    keyring, those in containers without a user namespace of their own included.
    """
    return hasattr(os, "getuid") and os.getuid() == 0


def hold_typed(header: Header, data_key: bytes, seconds: int | None) -> None:
    """Have the kernel hold the key that a typed passphrase has opened. The script goes on
    where the kernel refuses.
    """
    if seconds is None:
        return
    if is_root():
        logger.warning(
            "ROLEVAULT_UNLOCK does nothing for root, because every container of root could "
            "read the key. Call rolevault.unlock(force=True) if that is meant."
        )
        return
    try:
        kernel_keyring.hold(header.id, data_key, seconds)
    except UnsupportedPlatformError as error:
        logger.warning("ROLEVAULT_UNLOCK does nothing here. %s", error)
