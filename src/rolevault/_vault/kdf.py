"""Passphrase to key: Argon2id (RFC 9106). Its costs bound from below what a guess at the
passphrase costs, and from above the work that a hostile file can demand.
"""

import base64
import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from rolevault._concurrency.fork_lock import OPENSSL_LOCK
from rolevault._vault import canonical_json
from rolevault.errors import ConfigurationError, UnsupportedPlatformError

SALT_SIZE = 16  # RFC 9106, section 3.1: recommended for password hashing


class Costs(NamedTuple):
    """What one guess at the passphrase costs: ``m`` KiB of memory, ``t`` passes over
    them, ``p`` lanes (RFC 9106).
    """

    m: int
    t: int
    p: int

    @property
    def allowed(self) -> bool:
        """Whether the format allows them: not too cheap for somebody who guesses, and not
        too dear for somebody who opens a hostile file.
        """
        m, t, p = self
        return 19456 <= m <= 262144 and 1 <= t <= 16 and 1 <= p <= 16 and m * t <= 1048576

    def at_least_default(self) -> "Costs":
        """Return these costs, each at least the default's. They stay allowed."""
        return Costs(*map(max, self, DEFAULT_COSTS))


DEFAULT_COSTS = Costs(m=65536, t=3, p=4)  # RFC 9106, section 4: the second choice


@dataclass(frozen=True)
class Kdf:
    """How the passphrase becomes the KEK, the key that seals the slot."""

    costs: Costs
    salt: bytes

    def __bytes__(self) -> bytes:
        m, t, p = self.costs
        salt = base64.b64encode(self.salt).decode("ascii")
        return canonical_json.dumps({"alg": "argon2id", "m": m, "p": p, "salt": salt, "t": t})

    def key(self, passphrase: str) -> bytes:
        """The key that seals the slot (Argon2id version 0x13).

        :raises ConfigurationError: the passphrase is empty, or not encodable as UTF-8.
        :raises UnsupportedPlatformError: no Argon2id, or no memory for it.
        """
        # é can be typed as one code point or as two. Both are one passphrase.
        text = unicodedata.normalize("NFC", passphrase)
        if not text:
            raise ConfigurationError(option="passphrase", value="''", rule="it must not be empty.")
        # Searched for, because UnicodeEncodeError would hold the passphrase.
        if re.search("[\ud800-\udfff]", text):
            rule = "it must be text that can be encoded as UTF-8."
            raise ConfigurationError(option="passphrase", value="<not shown>", rule=rule)
        m, t, p = self.costs
        try:
            argon2id = Argon2id(salt=self.salt, length=32, iterations=t, lanes=p, memory_cost=m)
            with OPENSSL_LOCK:
                return argon2id.derive(text.encode())
        except UnsupportedAlgorithm:
            reason = "it needs OpenSSL 3.2 or later, not in FIPS mode"
            remedy = "Install cryptography from its wheels on PyPI."
        except (MemoryError, InternalError):  # the latter from cryptography 44
            reason = f"OpenSSL did not get the {m // 1024} MiB of memory it takes"
            remedy = "Free some, or raise this process's limit."
        raise UnsupportedPlatformError(feature="Argon2id", reason=reason, remedy=remedy)
