"""
A second reader of the vault file, written from docs/vault-format.md alone.

It imports nothing from rolevault and shares none of its choices: HKDF-Expand is
spelled out with ``hmac``, AES-GCM comes from cryptography's low-level ciphers.
Where this reader and rolevault disagree about a file, the document is unclear
or one of them is wrong.
"""

import base64
import hashlib
import hmac
import json
import math
import unicodedata
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id


class RefusedError(Exception):
    """The file breaks a rule; the argument is the error's name in the document."""


def read(blob: bytes, passphrase: str) -> tuple[dict[str, Any], int]:
    """Return the entries and the generation of a vault file."""
    head, kdf, slot, body = take_apart(blob)
    password = unicodedata.normalize("NFC", passphrase).encode()
    kek = Argon2id(
        salt=base64.b64decode(kdf["salt"]),
        length=32,
        iterations=kdf["t"],
        lanes=kdf["p"],
        memory_cost=kdf["m"],
    ).derive(password)
    data_key = unseal(kek, slot, b"rolevault/1 slot" + canonical(kdf))
    if data_key is None:
        raise RefusedError("WrongPassphraseError")
    plaintext = unseal(data_key, body, b"rolevault/1 body" + hashlib.sha256(head).digest())
    if plaintext is None:
        raise RefusedError("VaultTamperedError")
    return contents(plaintext)


def take_apart(blob: bytes) -> tuple[bytes, dict[str, Any], bytes, bytes]:
    """Return header, kdf object, slot and body of a file."""
    damaged = RefusedError("VaultDamagedError")
    first, newline, _ = blob.partition(b"\n")
    name, _, number = first.partition(b"/")
    if len(blob) > 64 * 1024**2 or not newline or name != b"rolevault":
        raise damaged
    if not (number.isdigit() and number[:1] != b"0" and len(number) <= 9):
        raise damaged
    if number != b"1":
        raise RefusedError("VaultVersionError")
    end = blob.find(b"\n", 12) + 1
    if not 0 < end <= 4096:
        raise damaged
    head, checksum, body = blob[:end], blob[end : end + 65], blob[end + 65 :]
    if checksum != hashlib.sha256(head + body).hexdigest().encode() + b"\n":
        raise damaged
    try:
        fields = strict(head[12:-1])
        kdf = fields["kdf"]
        algorithm = kdf["alg"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise damaged from None
    if isinstance(algorithm, str) and algorithm != "argon2id":
        raise RefusedError("UnsupportedPlatformError")
    try:
        m, t, p = kdf["m"], kdf["t"], kdf["p"]
        salt, slot = base64.b64decode(kdf["salt"]), base64.b64decode(fields["slot"])
    except (ValueError, TypeError, KeyError):
        raise damaged from None
    if not all(type(number) is int for number in (m, t, p)):
        raise damaged
    if m not in range(19456, 262145) or t not in range(1, 17) or p not in range(1, 17):
        raise damaged
    rebuilt = {
        "kdf": {"alg": "argon2id", "m": m, "p": p, "salt": to_base64(salt), "t": t},
        "slot": to_base64(slot),
    }
    if m * t > 1048576 or len(salt) != 16 or len(slot) != 104:
        raise damaged
    if b"rolevault/1\n" + canonical(rebuilt) + b"\n" != head:
        raise damaged
    return head, kdf, slot, body


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes | None:
    """Open C2SP chunked-encryption with AES-256-GCM and SHA-512; None if it does not."""
    salt, commitment, rest = sealed[:24], sealed[24:56], sealed[56:]
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
    info = label + salt + context
    block1 = hmac.digest(key, info + b"\x01", "sha512")
    block2 = hmac.digest(key, block1 + info + b"\x02", "sha512")
    derived = (block1 + block2)[:76]
    if not hmac.compare_digest(derived[44:], commitment):
        return None
    message = b""
    for i in range(len(rest) // 16400 + 1):
        chunk = rest[i * 16400 : (i + 1) * 16400]
        if len(chunk) < 16:
            return None
        nonce = bytes(a ^ b for a, b in zip(derived[32:44], i.to_bytes(12, "big"), strict=True))
        cipher = Cipher(algorithms.AES256(derived[:32]), modes.GCM(nonce, chunk[-16:]))
        decryptor = cipher.decryptor()
        try:
            message += decryptor.update(chunk[:-16]) + decryptor.finalize()
        except InvalidTag:
            return None
    return message


def contents(plaintext: bytes) -> tuple[dict[str, Any], int]:
    """Return the entries and the generation of a plaintext."""
    try:
        fields = strict(plaintext.rstrip(b" "))
        entries, generation = fields["entries"], fields["generation"]
        fine = (
            len(fields) == 2
            and len(plaintext) % 4096 == 0
            and type(generation) is int
            and 0 <= generation < 2**53
            and isinstance(entries, dict)
            and all(isinstance(entry, dict) for entry in entries.values())
            and depth(entries) <= 32
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        fine = False
    if not fine:
        raise RefusedError("VaultDamagedError")
    return entries, generation


def depth(value: Any) -> int:
    """Return how deep objects and arrays nest."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def strict(text: bytes) -> Any:
    """Parse JSON: ASCII, no member twice, finite numbers."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError(pairs)
        return dict(pairs)

    def finite(literal: str) -> float:
        if not math.isfinite(float(literal)):
            raise ValueError(literal)
        return float(literal)

    return json.loads(
        str(text, "ascii"), object_pairs_hook=once, parse_float=finite, parse_constant=finite
    )


def canonical(value: Any) -> bytes:
    """Return canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def to_base64(data: bytes) -> str:
    """Return standard base64."""
    return base64.b64encode(data).decode()
