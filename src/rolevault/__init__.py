"""rolevault: one MFA code a day for every boto3 script.

To follow a request from ``install()`` to its signature, read these files in this order:

1. ``_boto/install.py``: ``install()`` judges its arguments and makes a ``Role`` of them.
2. ``_boto/installation.py``: an ``Installation`` decides which sessions get the role.
3. ``_boto/provider.py``: botocore asks the ``RoleVaultProvider`` in a session's chain, once.
4. ``_boto/credentials.py``: botocore's signer asks the ``RoleCredentials`` before each request.
5. ``_signin/renewal.py``: a ``Renewal`` holds the keys that sign, and decides when to renew them.
6. ``_signin/fetcher.py``: a ``Fetcher`` reads a session from the vault, or else signs in.
7. ``_signin/assume_role.py``: ``AssumeRole`` calls STS, and judges what a refusal means.
8. ``_vault/vault.py``: a ``Vault`` stores the session in the encrypted file.

The ``__init__.py`` of each package says what is in the package. A package imports only from the
packages that come after it in this list: ``cli``, ``_serve``, ``_boto``, ``_signin``, ``_roles``,
``_vault``, ``_prompt``, ``_concurrency``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rolevault._boto.install import ensure, install, is_installed, session, uninstall
from rolevault._concurrency.fork_lock import IMPORT_LOCK
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

if TYPE_CHECKING:
    from rolevault._prompt.mfa_request import MfaRequest
    from rolevault._serve.endpoint import endpoint
    from rolevault._vault.rotation import rotate_passphrase
    from rolevault._vault.unlocking import lock, unlock
    from rolevault._vault.vault import Vault

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
    "endpoint",
    "ensure",
    "install",
    "is_installed",
    "lock",
    "rotate_passphrase",
    "session",
    "uninstall",
    "unlock",
]


#: Public names that ``install()`` does not need. The vault imports ``cryptography``, and a script
#: that never signs must not wait for that import.
_IMPORTED_AT_FIRST_USE = {
    "MfaRequest": "rolevault._prompt.mfa_request",
    "Vault": "rolevault._vault.vault",
    "endpoint": "rolevault._serve.endpoint",
    "lock": "rolevault._vault.unlocking",
    "rotate_passphrase": "rolevault._vault.rotation",
    "unlock": "rolevault._vault.unlocking",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _IMPORTED_AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with IMPORT_LOCK:
        module = importlib.import_module(_IMPORTED_AT_FIRST_USE[name])
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
