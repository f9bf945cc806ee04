"""rolevault: one MFA code a day for every boto3 script.

To follow a request from ``install()`` to its signature, read in this order:
``_install`` reads what is asked, and ``_installation`` puts the ``_provider`` into
the credential chain of each session that is concerned; the provider gives it its
``_credentials``; they ask the ``_fetcher`` for keys; the fetcher looks into the
``vault`` and else asks ``_sts``, with a code of the ``_device``. What the vault's
file looks like is in ``_envelope``.
"""

from rolevault._install import ensure, install, is_installed, session, uninstall
from rolevault._mfa import MfaRequest
from rolevault._rotation import rotate_passphrase
from rolevault._version import __version__ as __version__
from rolevault.errors import (
    ConfigurationError,
    InsecureVaultError,
    MfaFailedError,
    MfaRequiredError,
    PassphraseRequiredError,
    PassphraseRotatedError,
    RoleVaultError,
    SignInTimeoutError,
    UnsupportedPlatformError,
    VaultDamagedError,
    VaultLockedError,
    VaultTamperedError,
    VaultVersionError,
    WrongPassphraseError,
)
from rolevault.vault import Vault

__all__ = [
    "ConfigurationError",
    "InsecureVaultError",
    "MfaFailedError",
    "MfaRequest",
    "MfaRequiredError",
    "PassphraseRequiredError",
    "PassphraseRotatedError",
    "RoleVaultError",
    "SignInTimeoutError",
    "UnsupportedPlatformError",
    "Vault",
    "VaultDamagedError",
    "VaultLockedError",
    "VaultTamperedError",
    "VaultVersionError",
    "WrongPassphraseError",
    "ensure",
    "install",
    "is_installed",
    "rotate_passphrase",
    "session",
    "uninstall",
]
