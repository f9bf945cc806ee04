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

from rolevault._concurrency.fork_lock import IMPORT_LOCK
from rolevault._version import __version__ as __version__

if TYPE_CHECKING:
    from rolevault._boto.install import ensure, install, is_installed, session, uninstall
    from rolevault._prompt.mfa_request import MfaRequest
    from rolevault._serve.endpoint import endpoint
    from rolevault._vault.rotation import rotate_passphrase
    from rolevault._vault.unlocking import lock, unlock
    from rolevault._vault.vault import Vault
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

#: The module of each public name that is not an error. A module is imported when one of its names
#: is first used: boto3 takes a tenth of a second, and ``rolevault --help`` does not need it.
_MODULES = {
    "MfaRequest": "rolevault._prompt.mfa_request",
    "Vault": "rolevault._vault.vault",
    "endpoint": "rolevault._serve.endpoint",
    "ensure": "rolevault._boto.install",
    "install": "rolevault._boto.install",
    "is_installed": "rolevault._boto.install",
    "lock": "rolevault._vault.unlocking",
    "rotate_passphrase": "rolevault._vault.rotation",
    "session": "rolevault._boto.install",
    "uninstall": "rolevault._boto.install",
    "unlock": "rolevault._vault.unlocking",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in __all__ and name != "errors":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with IMPORT_LOCK:
        module = importlib.import_module(_MODULES.get(name, "rolevault.errors"))
    return module if name == "errors" else globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
