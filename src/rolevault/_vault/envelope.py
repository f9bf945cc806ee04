"""Passphrase and bytes to the vault file's bytes, version 1, and back.

``docs/vault-format.md`` is the format, and this is its one implementation. A file is opened
by ``parse`` (no key, no key derivation, nothing believed), ``unlock`` (the passphrase gives
the data key) and ``read`` (the data key gives the contents). It is made by ``new_header``,
once for each passphrase, and ``write``, once for each change.

Pure: no files, no clock, and no randomness when salts and keys are passed in. ``path`` is for
error messages alone.
"""

import base64
import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Any

from rolevault._vault import canonical_json, kdf, sealing
from rolevault._vault.kdf import Costs, Kdf
from rolevault.errors import (
    UnsupportedPlatformError,
    VaultDamagedError,
    VaultTamperedError,
    VaultVersionError,
    WrongPassphraseError,
)

MAX_FILE = 64 * 1024 * 1024
MAX_HEADER = 4 * 1024

_MAGIC = b"rolevault/1\n"
_ANY_VERSION = re.compile(rb"rolevault/([1-9][0-9]{0,8})\n")
_CHECKSUM_SIZE = 64 + 1  # sha256 in hex, and a newline
_SLOT_SIZE = sealing.KEY_SIZE + sealing.OVERHEAD
_PADDING = 4 * 1024
_MAX_DEPTH = 32
_MAX_GENERATION = 2**53 - 1  # what every JSON parser keeps exactly


@dataclass(frozen=True)
class Header:
    """The first two lines of a file: with these and the passphrase the data key can be
    unlocked. ``bytes(header)`` are the lines, newlines included.
    """

    kdf: Kdf
    slot: bytes

    def __bytes__(self) -> bytes:
        # The bytes of the kdf object are canonical JSON already.
        return _MAGIC + b'{"kdf":%b,"slot":"%b"}\n' % (bytes(self.kdf), _b64(self.slot).encode())

    @property
    def id(self) -> str:
        """SHA-256 of the header, in hex; no secret. A rotation changes it, and nothing else
        does.
        """
        return hashlib.sha256(bytes(self)).hexdigest()


@dataclass(frozen=True)
class Envelope:
    """A whole file, still locked. Nothing in it has been authenticated."""

    header: Header
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Contents:
    """What is sealed: the entries, and how often the file was written."""

    entries: dict[str, Any] = field(repr=False)  # secrets
    generation: int


def parse(blob: bytes, path: str) -> Envelope:
    """Take a file apart. Derives no key, and believes no number in it.

    What a checksum cannot exclude stays open: a header altered on purpose looks
    like a wrong passphrase to ``unlock``, an altered body is found by ``read``.

    :raises VaultDamagedError: not a whole file, or not of canonical form, or its key
        derivation parameters are out of bounds.
    :raises VaultVersionError: a later rolevault's file.
    :raises UnsupportedPlatformError: the key derivation is one that is unknown here.
    """
    if len(blob) > MAX_FILE:
        raise VaultDamagedError(path=path, reason="it is larger than 64 MiB")
    if not blob:
        raise VaultDamagedError(path=path, reason="it is empty")
    version = _ANY_VERSION.match(blob)
    if version is None:
        raise VaultDamagedError(path=path, reason="its first line is not rolevault's")
    if version[0] != _MAGIC:
        raise VaultVersionError(path=path, version=version[1].decode())
    end = blob.find(b"\n", len(_MAGIC), MAX_HEADER) + 1
    if not end:
        raise VaultDamagedError(path=path, reason="its header does not end within 4 KiB")
    header, body = blob[:end], blob[end + _CHECKSUM_SIZE :]
    if blob[end : end + _CHECKSUM_SIZE] != _checksum(header, body):
        raise VaultDamagedError(path=path, reason="its checksum does not fit")
    return Envelope(_parse_header(header, path), body)


def unlock(header: Header, passphrase: str, path: str) -> bytes:
    """Return the data key, which opens every body under this header. Runs Argon2id:
    a tenth of a second and 64 MiB by default.

    :raises WrongPassphraseError: it does not open the slot, or the header was altered.
    :raises ConfigurationError: empty, or not encodable as UTF-8.
    :raises UnsupportedPlatformError: no Argon2id, or no memory for it.
    """
    key = header.kdf.key(passphrase)
    try:
        return sealing.unseal(key, header.slot, _slot_context(header.kdf))
    except sealing.SealError:
        raise WrongPassphraseError(path=path) from None


def read(envelope: Envelope, data_key: bytes, path: str) -> Contents:
    """Return the contents, after their seal was verified under ``data_key``.

    :raises VaultTamperedError: the seal does not hold: the body was altered, or comes
        from another file, or the data key is another file's.
    :raises VaultDamagedError: the seal holds, and what is under it is no version 1
        contents: somebody else's writer is wrong.
    """
    try:
        plaintext = sealing.unseal(data_key, envelope.body, _body_context(envelope.header))
    except sealing.SealError:
        raise VaultTamperedError(path=path) from None
    contents = _parse_contents(plaintext)
    if contents is None:
        raise VaultDamagedError(path=path, reason="what is sealed in it is not a vault's contents")
    return contents


def new_header(
    passphrase: str,
    *,
    costs: Costs | None = None,
    salt: bytes | None = None,
    data_key: bytes | None = None,
    slot_salt: bytes | None = None,
) -> tuple[Header, bytes]:
    """Make a new vault's header, or a rotated one's; return it and its data key.

    ``costs`` are ``kdf.DEFAULT_COSTS`` when left out. ``salt``, ``data_key`` and ``slot_salt``
    are for test vectors alone; left out, they are fresh.

    :raises ConfigurationError: the passphrase is empty, or not encodable as UTF-8.
    :raises UnsupportedPlatformError: no Argon2id, or no memory for it.
    :raises ValueError: ``costs`` that the format does not allow.
    """
    salt = os.urandom(kdf.SALT_SIZE) if salt is None else salt
    derivation = Kdf(costs or kdf.DEFAULT_COSTS, salt)
    if not derivation.costs.allowed or len(salt) != kdf.SALT_SIZE:
        raise ValueError(f"not a version 1 key derivation: {derivation}")
    data_key = os.urandom(sealing.KEY_SIZE) if data_key is None else data_key
    key = derivation.key(passphrase)
    slot = sealing.seal(key, data_key, _slot_context(derivation), salt=slot_salt)
    return Header(derivation, slot), data_key


def write(
    header: Header, data_key: bytes, contents: Contents, *, salt: bytes | None = None
) -> bytes:
    """Return the whole file. ``salt`` is for test vectors alone.

    :raises ValueError, TypeError: ``contents`` that could not be read back: not JSON,
        nested more than 32 deep, or larger than the format allows.
    """
    try:
        text = canonical_json.dumps(
            {"entries": contents.entries, "generation": contents.generation}
        )
    except RecursionError:
        raise ValueError("the entries are nested too deep") from None
    _check_contents(contents)  # after the JSON encoder, which finds cycles
    # Under the padding the file's size tells only roughly how many roles it holds.
    plaintext = text.ljust(-(-len(text) // _PADDING) * _PADDING)
    body = sealing.seal(data_key, plaintext, _body_context(header), salt=salt)
    head = bytes(header)
    blob = b"".join((head, _checksum(head, body), body))
    if len(blob) > MAX_FILE:
        raise ValueError("the vault's contents do not fit into 64 MiB")
    return blob


def _parse_header(header: bytes, path: str) -> Header:
    """Return the header, if its bytes are exactly those that we would have written."""
    malformed = VaultDamagedError(path=path, reason="its header is not a version 1 header")
    try:
        fields = canonical_json.loads(header[len(_MAGIC) : -1])
        given = fields["kdf"]
        if isinstance(given["alg"], str) and given["alg"] != "argon2id":
            raise UnsupportedPlatformError(
                feature="This vault's key derivation",
                reason="its header names one other than Argon2id",
                remedy="Upgrade rolevault.",
            )
        costs = Costs(given["m"], given["t"], given["p"])
        salt = base64.b64decode(given["salt"], validate=True)
        slot = base64.b64decode(fields["slot"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise malformed from None
    # type() and not isinstance(): to the latter True is an int.
    if any(type(cost) is not int for cost in costs) or not costs.allowed:
        raise VaultDamagedError(path=path, reason="its key derivation parameters are out of bounds")
    parsed = Header(Kdf(costs, salt), slot)
    # One spelling each. This alone excludes extra and double keys, other key
    # orders, spaces, escapes, and base64 with stray bits.
    if (len(salt), len(slot)) != (kdf.SALT_SIZE, _SLOT_SIZE) or bytes(parsed) != header:
        raise malformed
    return parsed


def _parse_contents(plaintext: bytes) -> Contents | None:
    """Return what ``write`` sealed, or None.

    None, where an exception is the rule here: the JSON parser's exceptions hold
    the text they failed on, and would hand it on as their successors' context.
    """
    try:
        fields = canonical_json.loads(plaintext)
        contents = Contents(fields.pop("entries"), fields.pop("generation"))
        _check_contents(contents)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return None if fields or len(plaintext) % _PADDING else contents


def _check_contents(contents: Contents) -> None:
    """Raise ValueError unless version 1 has room for ``contents``: what one process
    wrote, every other must be able to read, however deep its own stack is.
    """
    entries, generation = contents.entries, contents.generation
    if type(generation) is not int or not 0 <= generation <= _MAX_GENERATION:
        raise ValueError("the generation is not a whole number from 0 to 2**53 - 1")
    if not isinstance(entries, dict) or not all(
        isinstance(name, str) and isinstance(entry, dict) for name, entry in entries.items()
    ):
        raise ValueError("the entries are not a mapping of str to mappings")
    if not canonical_json.fits(entries, _MAX_DEPTH):
        raise ValueError(f"the entries are nested more than {_MAX_DEPTH} deep")


def _checksum(header: bytes, body: bytes) -> bytes:
    """Return the third line, newline included. Unkeyed: it finds accidents, and
    keeps them from costing a key derivation. Attackers can compute it.
    """
    digest = hashlib.sha256(header)
    digest.update(body)
    return digest.hexdigest().encode() + b"\n"


def _slot_context(derivation: Kdf) -> bytes:
    """Return what ties a sealed data key to the parameters beside it."""
    return b"rolevault/1 slot" + bytes(derivation)


def _body_context(header: Header) -> bytes:
    """Return what ties a body to its header."""
    return b"rolevault/1 body" + bytes.fromhex(header.id)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
