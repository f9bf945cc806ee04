"""Every error that rolevault raises of its own accord: one base, flat leaves.

A message states the fact, then the remedy. The data behind the message are attributes of
the error. No error carries a secret. Every error can be pickled, as botocore's can.

What AWS answers stays as it is: a ``botocore.exceptions.ClientError`` from STS reaches the
caller unchanged.
"""

from botocore.exceptions import BotoCoreError


class RoleVaultError(BotoCoreError):
    """The base of all. It is a ``BotoCoreError``, so that the handlers which already stand
    around boto3 calls catch it.
    """

    fmt = "rolevault failed."

    def __init__(self, **data: str | float) -> None:
        super().__init__(**data)
        # For handlers that want the data and not the sentence.
        vars(self).update(data)


class ConfigurationError(RoleVaultError, ValueError):
    """An option or a profile cannot be used. ``install()`` and ``session()`` raise it; the
    first request raises it only where it finds no source credentials, and a file that may
    hold them cannot be read.

    ``value`` is what was given, as text ready to print.
    """

    fmt = "{option}={value}: {rule}"
    option: str
    value: str
    rule: str

    def __init__(self, *, option: str, value: str, rule: str) -> None:
        super().__init__(option=option, value=value, rule=rule)


class PassphraseRequiredError(RoleVaultError):
    """The vault is locked, no source of its passphrase is configured, and there is no
    terminal to ask at.
    """

    fmt = (
        "The vault {path} needs its passphrase and there is nobody to ask: {reason}.\n"
        "Set ROLEVAULT_PASSPHRASE_FILE, ROLEVAULT_PASSPHRASE_COMMAND or ROLEVAULT_PASSPHRASE,\n"
        "pass passphrase=, or call rolevault.unlock() before. Only a process in a terminal's "
        "foreground can be asked."
    )
    path: str
    reason: str

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(path=path, reason=reason)


class WrongPassphraseError(RoleVaultError):
    """The passphrase does not open the vault. The file is left as it is."""

    fmt = (
        "Wrong passphrase for {path}. Try again; if it is lost, delete the file: its "
        "sessions are forgotten and a new code is asked for. "
        "(A header that was altered on purpose looks the same.)"
    )
    path: str

    def __init__(self, *, path: str) -> None:
        super().__init__(path=path)


class PassphraseRotatedError(RoleVaultError):
    """Another process gave the vault a new passphrase, and the passphrase that this process
    was given no longer opens the vault. Nothing was written.
    """

    fmt = (
        "The passphrase of {path} was changed by another process. "
        "Give this one the new passphrase and start it again."
    )
    path: str

    def __init__(self, *, path: str) -> None:
        super().__init__(path=path)


class VaultDamagedError(RoleVaultError):
    """The file is not a whole vault: it was cut, or altered by accident, or never was a
    vault. It is left as it is.
    """

    fmt = (
        "{path} is not a whole rolevault file: {reason}. Restore it from a copy, or "
        "delete it: its sessions are forgotten and a new code is asked for."
    )
    path: str
    reason: str

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(path=path, reason=reason)


class VaultTamperedError(RoleVaultError):
    """The file's checksum is right and its seal is not: somebody altered the file on purpose.
    It is left as it is.
    """

    fmt = (
        "{path} was altered by something other than rolevault: its seal does not hold. "
        "Find out who can write there; then delete the file: its sessions are "
        "forgotten and a new code is asked for."
    )
    path: str

    def __init__(self, *, path: str) -> None:
        super().__init__(path=path)


class VaultVersionError(RoleVaultError):
    """A later rolevault wrote the file. It is left as it is."""

    fmt = (
        "{path} has format version {version}, and this rolevault knows version 1. "
        "Upgrade rolevault, or name another file with ROLEVAULT_FILE."
    )
    path: str
    version: str

    def __init__(self, *, path: str, version: str) -> None:
        super().__init__(path=path, version=version)


class UnsupportedPlatformError(RoleVaultError):
    """This Python, its OpenSSL, or this system lacks what the vault needs, or ``rolevault.aio``
    runs without asyncio.
    """

    fmt = "{feature} is not available here: {reason}. {remedy}"
    feature: str
    reason: str
    remedy: str

    def __init__(self, *, feature: str, reason: str, remedy: str) -> None:
        super().__init__(feature=feature, reason=reason, remedy=remedy)


class InsecureVaultError(RoleVaultError):
    """Other users can get at the file or its directory, because of its place, owner or
    permissions. Nothing was read or written.
    """

    fmt = "{path} cannot be trusted: {reason}. {remedy}"
    path: str
    reason: str
    remedy: str

    def __init__(self, *, path: str, reason: str, remedy: str) -> None:
        super().__init__(path=path, reason=reason, remedy=remedy)


class VaultLockedError(RoleVaultError):
    """Another process held the vault's write lock for too long."""

    fmt = (
        "{path} is being written by another process ({holder}) and did not become free "
        "within {seconds:g} s. Look whether that process hangs, and try again."
    )
    path: str
    holder: str
    seconds: float

    def __init__(self, *, path: str, holder: str, seconds: float) -> None:
        super().__init__(path=path, holder=holder, seconds=seconds)


class MfaRequiredError(RoleVaultError):
    """A code is needed, and nobody is there to type it."""

    fmt = (
        "A code of {serial} is needed ({purpose}) and there is nobody to ask: {reason}. "
        "Run rolevault.ensure() from a terminal first, or pass mfa_callback=."
    )
    serial: str
    purpose: str
    reason: str

    def __init__(self, *, serial: str, purpose: str, reason: str) -> None:
        super().__init__(serial=serial, purpose=purpose, reason=reason)


class MfaFailedError(RoleVaultError):
    """No code was accepted."""

    fmt = (
        "No code of {serial} was accepted (attempt {attempts} of 3). The last answer: "
        "{last_error} {remedy}"
    )
    serial: str
    attempts: int
    last_error: str
    remedy: str

    def __init__(self, *, serial: str, attempts: int, last_error: str, remedy: str) -> None:
        super().__init__(serial=serial, attempts=attempts, last_error=last_error, remedy=remedy)


class SignInTimeoutError(RoleVaultError):
    """Another process or thread is signing in, and did not finish in time."""

    fmt = (
        "Waited {seconds:g} s for {holder}, which is signing in ({purpose}). "
        "Answer its prompt or end it, and try again."
    )
    purpose: str
    holder: str
    seconds: float

    def __init__(self, *, purpose: str, holder: str, seconds: float) -> None:
        super().__init__(purpose=purpose, holder=holder, seconds=seconds)
