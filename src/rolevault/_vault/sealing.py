"""Key and bytes to sealed bytes, and back: C2SP chunked-encryption, Cobblestone-256.

The scheme is https://c2sp.org/chunked-encryption with SHA-512 and AES-256-GCM,
byte for byte what ``cryptography.cobblestone`` writes from release 50 on; built
here from HKDF-Expand (RFC 5869) and AES-GCM (NIST SP 800-38D) so that
``cryptography`` 44.0.1 is enough. A sealed message is::

    salt (24) | commitment (32) | chunk 0 and its tag | chunk 1 and its tag | ...

Every chunk but the last holds 16 KiB of plaintext. The last one is always shorter, and may
be empty: a message that was cut at the end of a chunk has no such chunk, and is refused.

This file can go when the oldest supported ``cryptography`` is release 50.

Pure: no files, no clock, and no randomness when a salt is passed in.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from rolevault._concurrency.fork_lock import OPENSSL_LOCK

KEY_SIZE = 32
SALT_SIZE = 24

_LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
_NONCE_SIZE = 12
_COMMITMENT_SIZE = 32
_CHUNK = 16 * 1024
_TAG = 16

OVERHEAD = SALT_SIZE + _COMMITMENT_SIZE + _TAG  # of a message below one chunk


class SealError(Exception):
    """The sealed bytes are not what was sealed under this key and context.

    The error has no reason on purpose: a caller must not learn whether the key, the context
    or the bytes are wrong.
    """


def seal(key: bytes, plaintext: bytes, context: bytes, *, salt: bytes | None = None) -> bytes:
    """Encrypt ``plaintext`` under a uniformly random 32-byte ``key``, bound to ``context``.

    ``salt`` is for test vectors alone. The same salt twice under one key and
    context is the same AES-GCM nonce twice: both plaintexts and the power to
    forge are given away. Left out, it is fresh.

    :raises ValueError: the key has not 32 bytes, or the salt not 24.
    """
    salt = os.urandom(SALT_SIZE) if salt is None else salt
    # One more chunk than full ones, always: the last is the short one.
    starts = range(0, len(plaintext) + 1, _CHUNK)
    with OPENSSL_LOCK:
        aead, base, commitment = _derive(key, salt, context)
        chunks = [
            aead.encrypt(_nonce(base, number), plaintext[start : start + _CHUNK], None)
            for number, start in enumerate(starts)
        ]
    return b"".join((salt, commitment, *chunks))


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return what ``seal`` was given under the same ``key`` and ``context``.

    All of it or nothing: no plaintext leaves before the last chunk is verified.

    :raises SealError: another key or context, or bytes that were altered, cut,
        extended or put in another order.
    :raises ValueError: the key has not 32 bytes.
    """
    salt = sealed[:SALT_SIZE]
    promised = sealed[SALT_SIZE : SALT_SIZE + _COMMITMENT_SIZE]
    first = SALT_SIZE + _COMMITMENT_SIZE
    # The last chunk is its tag and up to 16 KiB - 1 of text, never nothing.
    if len(sealed) < OVERHEAD or (len(sealed) - first) % (_CHUNK + _TAG) < _TAG:
        raise SealError
    starts = range(first, len(sealed), _CHUNK + _TAG)
    with OPENSSL_LOCK:
        aead, base, commitment = _derive(key, salt, context)
        # AES-GCM alone commits to no key. An attacker can make one ciphertext that opens
        # under many keys, and could test many passphrases with one try.
        if not hmac.compare_digest(commitment, promised):
            raise SealError
        try:
            return b"".join(
                aead.decrypt(_nonce(base, number), sealed[start : start + _CHUNK + _TAG], None)
                for number, start in enumerate(starts)
            )
        except InvalidTag:
            raise SealError from None


def _derive(key: bytes, salt: bytes, context: bytes) -> tuple[AESGCM, int, bytes]:
    """Return this one message's cipher, its base nonce and its key commitment."""
    if len(key) != KEY_SIZE or len(salt) != SALT_SIZE:
        raise ValueError(f"the key must have {KEY_SIZE} bytes and the salt {SALT_SIZE}")
    length = KEY_SIZE + _NONCE_SIZE + _COMMITMENT_SIZE
    derived = HKDFExpand(SHA512(), length, _LABEL + salt + context).derive(key)
    base = int.from_bytes(derived[KEY_SIZE : KEY_SIZE + _NONCE_SIZE], "big")
    return AESGCM(derived[:KEY_SIZE]), base, derived[KEY_SIZE + _NONCE_SIZE :]


def _nonce(base: int, number: int) -> bytes:
    """Return the nonce of chunk ``number``, which ties the chunk to its place."""
    return (base ^ number).to_bytes(_NONCE_SIZE, "big")
