"""
A fuzz target over the vault file: whatever the bytes, rolevault answers with
its own errors, and opens nothing but what it sealed.

The suite runs it for a moment; for longer::

    python tests/fuzz_envelope.py --seconds 600
"""

import argparse
import hashlib
import json
import sys
import time
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rolevault._vault import envelope as _envelope
from rolevault._vault import sealing
from rolevault._vault.envelope import Contents, Header
from rolevault._vault.kdf import Costs
from rolevault.errors import (
    UnsupportedPlatformError,
    VaultDamagedError,
    VaultTamperedError,
    VaultVersionError,
    WrongPassphraseError,
)

PATH = "some/vault"
PASSPHRASE = "correct horse battery staple"
CHEAP = Costs(m=19456, t=1, p=1)  # the format's floor: a test is no place to wait
# Fixed bytes where the code takes random ones, so that a finding can be repeated.
HEADER, DATA_KEY = _envelope.new_header(
    PASSPHRASE, costs=CHEAP, salt=b"s" * 16, data_key=bytes(range(32)), slot_salt=b"t" * 24
)
CONTENTS = Contents({"session:1": {"token": "x" * 20000}, "denied:2": {"until": 0}}, 41)
BLOB = _envelope.write(HEADER, DATA_KEY, CONTENTS, salt=b"u" * 24)
BODY = BLOB[len(bytes(HEADER)) + 65 :]


def assemble(header: bytes, body: bytes) -> bytes:
    """Return a file whose checksum fits, as an attacker would make it."""
    return header + hashlib.sha256(header + body).hexdigest().encode() + b"\n" + body


def seal_plaintext(plaintext: bytes) -> bytes:
    """Return a file of any plaintext, sealed with the right key."""
    context = b"rolevault/1 body" + hashlib.sha256(bytes(HEADER)).digest()
    return assemble(bytes(HEADER), sealing.seal(DATA_KEY, plaintext, context))


def pad(text: bytes) -> bytes:
    """Return `text` padded as the format wants it."""
    return text + b" " * (-len(text) % 4096)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**31)
    | st.floats()
    | st.text()
    | st.sampled_from(
        [19456, 65536, 1, 3, 4, 1e5, True, "argon2id", "AAAA", 2**62, -1, "1" * 4000]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kdf", "slot", "alg", "m", "t", "p", "salt", "entries"]) | st.text(),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
storable_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
storable_contents = st.builds(
    Contents,
    st.dictionaries(st.text(), st.dictionaries(st.text(), storable_values, max_size=3), max_size=4),
    st.integers(min_value=0, max_value=2**53 - 1),
)


@st.composite
def hostile_headers(draw: st.DrawFn) -> bytes:
    """Headers that are almost right: real members, some of them replaced."""
    fields = json.loads(bytes(HEADER).split(b"\n")[1])
    for member in draw(st.lists(st.sampled_from(["alg", "m", "p", "salt", "t", "x"]), max_size=2)):
        fields["kdf"][member] = draw(json_values)
    for member in draw(st.lists(st.sampled_from(["kdf", "slot", "x"]), max_size=1)):
        fields[member] = draw(json_values)
    spaced = draw(st.booleans())
    text = json.dumps(fields, sort_keys=not spaced, separators=None if spaced else (",", ":"))
    return b"rolevault/1\n" + text.encode() + b"\n"


@st.composite
def mangled(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with bytes altered, cut, doubled, moved or put in."""
    blob = whole
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(blob)))
        end = min(len(blob), start + draw(st.integers(0, 64) | st.integers(0, len(blob))))
        piece = blob[start:end]
        other = draw(st.sampled_from([b"", piece + piece, piece[::-1]]) | st.binary(max_size=16))
        blob = blob[:start] + other + blob[end:]
    return blob


def hostile_files() -> st.SearchStrategy[bytes]:
    """Return files of every sort, with checksums that fit and that do not."""
    lines = len(bytes(HEADER))
    return st.one_of(
        st.binary(max_size=200),
        mangled(BLOB),
        st.builds(assemble, mangled(BLOB[:lines]), st.just(BODY)),
        st.builds(assemble, st.just(bytes(HEADER)), mangled(BODY)),
        st.builds(assemble, hostile_headers(), st.just(BODY)),
        st.builds(seal_plaintext, st.binary(max_size=200)),
        st.builds(
            lambda text: seal_plaintext(pad(text)), mangled(b'{"entries":{},"generation":1}')
        ),
        st.builds(lambda value: seal_plaintext(pad(json.dumps(value).encode())), json_values),
    )


def check(blob: bytes) -> None:
    """Nothing but the errors of the format, and nothing open but what was sealed."""
    try:
        envelope = _envelope.parse(blob, PATH)
    except (VaultDamagedError, VaultVersionError, UnsupportedPlatformError):
        return
    if assemble(bytes(envelope.header), envelope.body) != blob:
        raise AssertionError("what was parsed is not all there was")
    if not envelope.header.kdf.costs.allowed:
        raise AssertionError("costs out of bounds were believed")
    if envelope.header != HEADER:
        _check_other_header(envelope.header)
        return
    try:
        contents = _envelope.read(envelope, DATA_KEY, PATH)
    except (VaultTamperedError, VaultDamagedError):
        return
    again = _envelope.parse(_envelope.write(HEADER, DATA_KEY, contents), PATH)
    if _envelope.read(again, DATA_KEY, PATH) != contents:
        raise AssertionError("what was read cannot be written")


def _check_other_header(header: Header) -> None:
    if header.kdf.costs != CHEAP:
        return  # within bounds, and too dear for a fuzz target
    try:
        _envelope.unlock(header, PASSPHRASE, PATH)
    except WrongPassphraseError:
        return
    raise AssertionError("an altered header was opened")


def fuzz(examples: int) -> None:
    """Run `examples` new examples."""
    run = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run(given(blob=hostile_files())(check))()


def main() -> None:
    """Fuzz for as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    end = time.monotonic() + parser.parse_args().seconds
    rounds = 0
    while time.monotonic() < end:
        fuzz(500)
        rounds += 1
    sys.stdout.write(f"{rounds * 500} files, no finding\n")


if __name__ == "__main__":
    main()
