"""rolevault: one MFA code a day for every boto3 script.

To follow a request from ``install()`` to its signature, read these files in this order:

1. ``_boto/install.py``: the call of the user, and what it is judged by.
2. ``_boto/installation.py``: which sessions get the role.
3. ``_boto/provider.py``: the provider, and its place in botocore's credential chain.
4. ``_boto/credentials.py``: what botocore's signer asks before each request.
5. ``_signin/renewal.py``: when keys sign, and when they are renewed.
6. ``_signin/fetcher.py``: the vault first, else a sign-in.
7. ``_signin/assume_role.py``: the call of STS, and what is made of a refusal.
8. ``_vault/vault.py``: the encrypted file in which the answer is kept.

Each package begins with a paragraph on what lives there. A package imports from those that
stand after it here: ``_boto``, ``_signin``, ``_roles``, ``_vault``, ``_prompt``,
``_concurrency``.
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
    from rolevault._vault.rotation import rotate_passphrase
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
    "ensure",
    "install",
    "is_installed",
    "rotate_passphrase",
    "session",
    "uninstall",
]


#: What ``install()`` does not need. The vault brings ``cryptography``, and a script that
#: never signs shall not wait for it.
_IMPORTED_AT_FIRST_USE = {
    "MfaRequest": "rolevault._prompt.mfa_request",
    "Vault": "rolevault._vault.vault",
    "rotate_passphrase": "rolevault._vault.rotation",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _IMPORTED_AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with IMPORT_LOCK:
        module = importlib.import_module(_IMPORTED_AT_FIRST_USE[name])
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
