"""Rules of sealing: what C2SP chunked-encryption promises, held byte for byte."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from rolevault._vault import sealing
from rolevault._vault.sealing import SealError, seal, unseal

KEY = bytes(range(32))
CONTEXT = b"a context"
CHUNK = 16 * 1024
SIZES = [0, 1, 16, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 5 * CHUNK + 77]
VECTORS = json.loads((Path(__file__).parent / "vectors" / "sealing.json").read_text())["vectors"]


def message(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))


def refused(sealed: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bool:
    try:
        unseal(key, sealed, context)
    except SealError:
        return True
    return False


@pytest.mark.parametrize("vector", VECTORS, ids=[str(vector["size"]) for vector in VECTORS])
def test_frozen_messages_are_made_and_opened(vector: dict[str, Any]) -> None:
    """What cryptography.cobblestone sealed once is made again, and opens, on every release."""
    key, context, salt = (bytes.fromhex(vector[name]) for name in ("key", "context", "salt"))
    sealed = seal(key, message(vector["size"]), context, salt=salt)
    assert len(sealed) == vector["sealed_size"]
    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert sealed.hex() == vector.get("sealed", sealed.hex())
    assert unseal(key, sealed, context) == message(vector["size"])


@pytest.mark.parametrize("size", SIZES)
def test_cobblestone_opens_what_we_seal(size: int) -> None:
    """The implementation in cryptography opens our messages, of every size."""
    cobblestone = pytest.importorskip("cryptography.cobblestone", reason="cryptography < 50")
    opener = cobblestone.Cobblestone256Decryptor(KEY, CONTEXT)
    assert opener.update(seal(KEY, message(size), CONTEXT)) + opener.finalize() == message(size)


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_cobblestone_seals(size: int) -> None:
    """We open cryptography's messages, and make the same bytes from the same salt."""
    cobblestone = pytest.importorskip("cryptography.cobblestone", reason="cryptography < 50")
    sealer = cobblestone.Cobblestone256Encryptor(KEY, CONTEXT)
    sealed = sealer.update(message(size)) + sealer.finalize()
    assert unseal(KEY, sealed, CONTEXT) == message(size)
    assert seal(KEY, message(size), CONTEXT, salt=sealed[:24]) == sealed


@given(st.binary(max_size=3 * CHUNK), st.binary(max_size=64), st.binary(min_size=32, max_size=32))
def test_what_was_sealed_opens(plaintext: bytes, context: bytes, key: bytes) -> None:
    """The same key and context give back what was sealed."""
    assert unseal(key, seal(key, plaintext, context), context) == plaintext


@given(st.binary(max_size=200), st.data())
def test_both_implementations_refuse_the_same(whole: bytes, data: st.DataObject) -> None:
    """cryptography.cobblestone and we agree on what is no sealed message."""
    cobblestone = pytest.importorskip("cryptography.cobblestone", reason="cryptography < 50")
    sealed = seal(KEY, whole, CONTEXT)
    start = data.draw(st.integers(0, len(sealed)))
    end = data.draw(st.integers(start, len(sealed)))
    altered = sealed[:start] + data.draw(st.binary(max_size=20)) + sealed[end:]
    opener = cobblestone.Cobblestone256Decryptor(KEY, CONTEXT)
    try:
        opened = opener.update(altered) + opener.finalize()
    except Exception:  # noqa: BLE001 - theirs; which one it is does not matter
        assert refused(altered)
    else:
        assert unseal(KEY, altered, CONTEXT) == opened


def test_cut_anywhere_is_refused() -> None:
    """A message cut at any offset does not open."""
    sealed = seal(KEY, b"seven and seventy bytes", CONTEXT)
    assert all(refused(sealed[:end]) for end in range(len(sealed)))


def test_any_flipped_bit_is_refused() -> None:
    """A message with any one bit flipped does not open."""
    sealed = seal(KEY, b"some bytes", CONTEXT)
    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        assert refused(bytes(altered))


def test_chunks_keep_their_places() -> None:
    """Chunks left out, doubled, exchanged or appended do not open; nor a message cut between."""
    sealed = seal(KEY, message(3 * CHUNK + 5), CONTEXT)
    head = sealed[:56]
    chunks = [sealed[start : start + CHUNK + 16] for start in range(56, len(sealed), CHUNK + 16)]
    assert len(chunks) == 4
    assert not refused(head + b"".join(chunks))
    for order in ([0], [0, 1], [0, 1, 2], [1, 2, 3], [0, 2, 3], [1, 0, 2, 3], [0, 1, 1, 2, 3],
                  [0, 1, 2, 3, 3], [3], [0, 3], []):  # fmt: skip
        assert refused(head + b"".join(chunks[i] for i in order)), order


def test_a_full_last_chunk_is_refused() -> None:
    """A message whose end was cut off at a chunk's end is truncated, not shorter."""
    sealed = seal(KEY, message(2 * CHUNK), CONTEXT)
    assert refused(sealed[:-16])
    assert refused(sealed[: 56 + CHUNK + 16])


def test_appended_bytes_are_refused() -> None:
    """A message does not open with anything behind it."""
    for size in (0, 5, CHUNK):
        sealed = seal(KEY, message(size), CONTEXT)
        assert all(refused(sealed + bytes(extra)) for extra in (1, 15, 16, 17, CHUNK + 16))


def test_another_key_or_context_is_refused() -> None:
    """Only the same key and the same context open a message."""
    sealed = seal(KEY, b"text", CONTEXT)
    assert refused(sealed, key=KEY[::-1])
    assert refused(sealed, context=CONTEXT + b"\x00")
    assert refused(sealed, context=b"")


def test_salt_and_context_do_not_run_into_each_other() -> None:
    """Bytes moved from the context into the salt make another message."""
    salt = bytes(24)
    one = seal(KEY, b"text", b"\x00context", salt=salt)
    other = seal(KEY, b"text", b"context", salt=salt)
    assert one[24:] != other[24:]


def test_the_commitment_is_checked_before_anything_is_decrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Chunks that decrypt under a key they do not commit to are not decrypted."""
    decrypted: list[int] = []
    real = AESGCM

    class Counting:
        def __init__(self, key: bytes) -> None:
            self._aead = real(key)

        def decrypt(self, nonce: bytes, data: bytes, aad: None) -> bytes:
            decrypted.append(len(data))
            return self._aead.decrypt(nonce, data, aad)

    sealed = seal(KEY, message(CHUNK + 1), CONTEXT)
    monkeypatch.setattr(sealing, "AESGCM", Counting)
    assert refused(sealed[:24] + bytes(32) + sealed[56:])
    assert decrypted == []
    assert not refused(sealed)
    assert decrypted == [CHUNK + 16, 17]


def test_salts_never_repeat() -> None:
    """Each of 10,000 messages has its own salt and its own bytes."""
    messages = {seal(KEY, b"", CONTEXT) for _ in range(10_000)}
    assert len({sealed[:24] for sealed in messages}) == 10_000


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_keys_have_32_bytes(size: int) -> None:
    """A key of another size is a programming error, not a wrong key."""
    with pytest.raises(ValueError, match="32 bytes"):
        seal(bytes(size), b"", b"")
    with pytest.raises(ValueError, match="32 bytes"):
        unseal(bytes(size), seal(KEY, b"", b""), b"")


def test_a_refusal_says_nothing() -> None:
    """The error tells no difference, holds no bytes and has no cause to look into."""
    sealed = seal(KEY, b"text", CONTEXT)
    errors = []
    for altered in (
        b"",
        sealed[:-1],
        bytes(56) + sealed[56:],
        sealed[:-1] + bytes([sealed[-1] ^ 1]),
    ):
        with pytest.raises(SealError) as caught:
            unseal(KEY, altered, CONTEXT)
        errors.append(caught.value)
    assert {(repr(error), error.args, error.__cause__) for error in errors} == {
        ("SealError()", (), None)
    }
