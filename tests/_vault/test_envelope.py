"""Rules of the vault file: what opens, what is refused, and as what."""

import base64
import gc
import itertools
import json
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from fuzz_envelope import (
    BLOB,
    BODY,
    CHEAP,
    CONTENTS,
    DATA_KEY,
    HEADER,
    PASSPHRASE,
    PATH,
    assemble,
    fuzz,
    pad,
    seal_plaintext,
    storable_contents,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rolevault._vault import envelope as _envelope
from rolevault._vault import kdf, sealing
from rolevault._vault.envelope import (
    Contents,
    Header,
    new_header,
    parse,
    read,
    unlock,
    write,
)
from rolevault._vault.kdf import Costs
from rolevault.errors import (
    ConfigurationError,
    RoleVaultError,
    UnsupportedPlatformError,
    VaultDamagedError,
    VaultTamperedError,
    VaultVersionError,
    WrongPassphraseError,
)

LINES = bytes(HEADER)
SMALL = write(HEADER, DATA_KEY, Contents({"session:1": {"token": "x"}}, 1), salt=b"v" * 24)


class CountedArgon2id:
    """The real Argon2id; it only counts."""

    runs = 0

    def __init__(self, **parameters: Any) -> None:
        self._argon2id = Argon2id(**parameters)

    def derive(self, password: bytes) -> bytes:
        CountedArgon2id.runs += 1
        return self._argon2id.derive(password)


@pytest.fixture
def kdf_runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    monkeypatch.setattr(kdf, "Argon2id", CountedArgon2id)
    before = CountedArgon2id.runs
    return lambda: CountedArgon2id.runs - before


def open_file(blob: bytes, passphrase: str = PASSPHRASE) -> Contents:
    """Open a file as rolevault does: all three steps."""
    envelope = parse(blob, PATH)
    return read(envelope, unlock(envelope.header, passphrase, PATH), PATH)


def edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the small file with an edited header in canonical form, its checksum fixed."""
    fields = json.loads(LINES.split(b"\n")[1])
    edit(fields)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return with_header_text(text.encode())


def with_header_text(text: bytes) -> bytes:
    return assemble(b"rolevault/1\n" + text + b"\n", BODY)


def header_with(member: str, literal: str) -> bytes:
    """Return the file with a kdf member's literal JSON text replaced."""
    text = LINES.split(b"\n")[1].decode()
    value = json.dumps(json.loads(text)["kdf"][member])
    return with_header_text(text.replace(f'"{member}":{value}', f'"{member}":{literal}').encode())


# What opens


def test_what_was_written_is_read() -> None:
    """The passphrase gives back the contents, through bytes alone."""
    assert open_file(BLOB) == CONTENTS


@given(storable_contents)
@settings(max_examples=50)
def test_all_contents_survive(contents: Contents) -> None:
    """Whatever JSON can hold comes back equal."""
    blob = write(HEADER, DATA_KEY, contents)
    assert read(parse(blob, PATH), DATA_KEY, PATH) == contents


@given(st.text(min_size=1))
@settings(max_examples=15)
def test_any_text_is_a_passphrase(passphrase: str) -> None:
    """Any text opens what it locked, and nothing is trimmed from it."""
    header, data_key = new_header(passphrase, costs=CHEAP)
    assert unlock(header, passphrase, PATH) == data_key
    with pytest.raises(WrongPassphraseError):
        unlock(header, passphrase + " ", PATH)


def test_equal_text_is_one_passphrase() -> None:
    """é typed as one code point and as two is the same passphrase."""
    header, data_key = new_header("caf\u00e9", costs=CHEAP)
    assert unlock(header, "cafe\u0301", PATH) == data_key


#: What ``rolevault`` came with. ``conftest`` makes the costs of each test cheaper.
AS_IMPORTED = kdf.DEFAULT_COSTS


@pytest.fixture
def default_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default costs, written out: nothing that another test did decides about them."""
    assert AS_IMPORTED == (65536, 3, 4)
    monkeypatch.setattr(kdf, "DEFAULT_COSTS", Costs(65536, 3, 4))


@pytest.mark.usefixtures("default_costs")
def test_the_default_costs_are_rfc_9106s_second_choice() -> None:
    """A new vault costs a guesser 64 MiB, three passes, four lanes."""
    header, data_key = new_header(PASSPHRASE)
    assert header.kdf.costs == (65536, 3, 4)
    assert unlock(header, PASSPHRASE, PATH) == data_key


@pytest.mark.usefixtures("default_costs")
@pytest.mark.parametrize("costs", [Costs(19456, 1, 1), Costs(262144, 1, 16), Costs(65536, 16, 1)])
def test_weak_costs_are_raised_and_strong_ones_kept(costs: Costs) -> None:
    """No cost falls below the default, none falls at all, and the result is allowed."""
    raised = costs.at_least_default()
    assert all(
        new >= max(old, least) for new, old, least in zip(raised, costs, (65536, 3, 4), strict=True)
    )
    assert raised.allowed


@pytest.mark.usefixtures("default_costs")
def test_raising_costs_never_leaves_the_bounds() -> None:
    """Any allowed costs, raised, are allowed."""
    grid = itertools.product((19456, 65536, 65537, 131072, 262144), range(1, 17), (1, 4, 16))
    allowed = [costs for costs in itertools.starmap(Costs, grid) if costs.allowed]
    assert len(allowed) > 100
    assert all(costs.at_least_default().allowed for costs in allowed)


def test_the_id_changes_with_the_header_alone() -> None:
    """Rewriting keeps the id, a new header changes it, and it tells no secret."""
    other, _ = new_header(PASSPHRASE, costs=CHEAP)
    assert parse(BLOB, PATH).header.id == parse(SMALL, PATH).header.id == HEADER.id
    assert other.id != HEADER.id
    assert len(HEADER.id) == 64


# Wrong passphrases, and headers altered on purpose


def test_a_wrong_passphrase_is_its_own_error() -> None:
    """A wrong passphrase is neither damage nor tampering, and names the file."""
    with pytest.raises(WrongPassphraseError, match=PATH):
        open_file(SMALL, "correct horse battery stapel")


@pytest.mark.parametrize("position", range(0, 104, 8))
def test_an_altered_slot_looks_like_a_wrong_passphrase(position: int) -> None:
    """A slot altered on purpose does not open, whichever byte it is."""
    slot = bytearray(HEADER.slot)
    slot[position] ^= 1
    altered = assemble(bytes(Header(HEADER.kdf, bytes(slot))), BODY)
    with pytest.raises(WrongPassphraseError, match="altered"):
        open_file(altered)


@pytest.mark.parametrize(
    ("member", "value"),
    [("t", 2), ("p", 2), ("m", 19457), ("salt", base64.b64encode(bytes(16)).decode())],
)
def test_altered_parameters_look_like_a_wrong_passphrase(member: str, value: object) -> None:
    """Parameters altered on purpose do not open, and the message allows for that."""
    with pytest.raises(WrongPassphraseError, match="altered"):
        open_file(edited(lambda fields: fields["kdf"].update({member: value})))


def test_a_slot_is_bound_to_its_parameters() -> None:
    """A slot sealed beside other parameters does not open, even under the same key."""
    key = HEADER.kdf.key(PASSPHRASE)
    other = kdf.Kdf(CHEAP, bytes(16))
    slot = sealing.seal(key, DATA_KEY, b"rolevault/1 slot" + bytes(other))
    with pytest.raises(WrongPassphraseError):
        unlock(Header(HEADER.kdf, slot), PASSPHRASE, PATH)


@pytest.mark.parametrize("make", [new_header, lambda text: unlock(HEADER, text, PATH)])
def test_an_empty_passphrase_is_refused(make: Callable[[str], object], kdf_runs: Any) -> None:
    """Nothing is not a passphrase, neither to lock nor to open."""
    with pytest.raises(ConfigurationError, match="empty"):
        make("")
    assert kdf_runs() == 0


@pytest.mark.parametrize("make", [new_header, lambda text: unlock(HEADER, text, PATH)])
def test_text_beyond_utf8_is_refused_without_being_shown(
    make: Callable[[str], object], kdf_runs: Any
) -> None:
    """Undecodable input is refused; the error and its causes do not carry it."""
    with pytest.raises(ConfigurationError, match="UTF-8") as caught:
        make("SENTINEL\udcff")
    assert "SENTINEL" not in everything(caught.value)
    assert kdf_runs() == 0


# Accidents: the checksum does not fit


def test_cut_anywhere_is_damaged(kdf_runs: Any) -> None:
    """A file cut at any offset is damaged, and no key is derived for it."""
    for end in range(len(SMALL)):
        with pytest.raises(VaultDamagedError):
            parse(SMALL[:end], PATH)
    assert kdf_runs() == 0


def test_any_flipped_bit_is_noticed(kdf_runs: Any) -> None:
    """A file with any one bit flipped is damaged, and no key is derived for it."""
    altered = bytearray(SMALL)
    for bit in range(8 * len(SMALL)):
        altered[bit // 8] ^= 1 << bit % 8
        try:
            parse(bytes(altered), PATH)
        except VaultDamagedError:
            pass
        except VaultVersionError:
            assert bit // 8 == SMALL.index(b"1")  # only the version's digit
        else:
            pytest.fail(f"bit {bit} was not noticed")
        altered[bit // 8] ^= 1 << bit % 8
    assert kdf_runs() == 0


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "empty"),
        (b"{}", "first line"),
        (b"\n", "first line"),
        (b"rolevault/1", "first line"),
        (b"rolevault/0\n", "first line"),
        (b"rolevault/01\n", "first line"),
        (b"rolevault/1\r\n", "first line"),
        (b"rolevault/" + b"9" * 5000 + b"\n", "first line"),
        (b"\xef\xbb\xbf" + SMALL, "first line"),
        (b"rolevault/1\n", "does not end"),
        (b"rolevault/1\n" + b" " * 70000 + b"\n", "does not end"),
        (LINES, "checksum"),
        (SMALL + b"\x00", "checksum"),
        (SMALL + b"\n", "checksum"),
        (SMALL.replace(b"\n", b"\r\n"), "first line"),
        (LINES + SMALL[len(LINES) :][:64].upper() + SMALL[len(LINES) + 64 :], "checksum"),
    ],
    ids=lambda value: repr(value[-20:]),
)  # fmt: skip
def test_what_is_no_whole_vault_is_damaged(blob: bytes, reason: str, kdf_runs: Any) -> None:
    """Each sort of damage says what it is, and costs no key derivation."""
    with pytest.raises(VaultDamagedError, match=reason):
        parse(blob, PATH)
    assert kdf_runs() == 0


def test_a_file_above_the_cap_is_refused_by_its_size() -> None:
    """More than 64 MiB is refused before anything is read of it."""
    gc.collect()
    huge = bytes(_envelope.MAX_FILE + 1)
    tracemalloc.start()
    with pytest.raises(VaultDamagedError, match="64 MiB"):
        parse(huge, PATH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_the_header_may_have_4_kib_and_no_more() -> None:
    """The header's end is looked for in the first 4 KiB."""
    room = _envelope.MAX_HEADER - len(b"rolevault/1\n\n")
    with pytest.raises(VaultDamagedError, match="not a version 1 header"):
        parse(with_header_text(b" " * room), PATH)
    with pytest.raises(VaultDamagedError, match="does not end"):
        parse(with_header_text(b" " * (room + 1)), PATH)


# Attacks: the checksum fits


def test_an_altered_body_is_tampered() -> None:
    """A body altered on purpose is tampered with, whichever byte it is."""
    body = bytearray(parse(SMALL, PATH).body)
    for position in range(len(body)):
        body[position] ^= 1 << position % 8
        with pytest.raises(VaultTamperedError):
            read(parse(assemble(LINES, bytes(body)), PATH), DATA_KEY, PATH)
        body[position] ^= 1 << position % 8


@pytest.mark.parametrize("end", [0, 1, 55, 56, 71, 72, 73, 16000, -16, -1])
def test_a_cut_body_is_tampered(end: int) -> None:
    """A body cut on purpose is tampered with, at whatever place."""
    with pytest.raises(VaultTamperedError):
        read(parse(assemble(LINES, BODY[:end]), PATH), DATA_KEY, PATH)


def test_a_trailing_byte_is_tampered() -> None:
    """A body made longer on purpose is tampered with."""
    with pytest.raises(VaultTamperedError):
        open_file(assemble(LINES, BODY + b"\x00"))


def test_one_files_header_does_not_go_with_anothers_body() -> None:
    """Header and body of two files are tampering, though both have one passphrase and data key."""
    other, data_key = new_header(PASSPHRASE, costs=CHEAP, data_key=DATA_KEY)
    body = parse(write(other, data_key, CONTENTS), PATH).body
    with pytest.raises(VaultTamperedError):
        open_file(assemble(LINES, body))
    with pytest.raises(VaultTamperedError):
        open_file(assemble(bytes(other), BODY))


def test_a_slot_is_no_body_and_a_body_no_slot() -> None:
    """What was sealed as the one does not open as the other, under any key at hand."""
    with pytest.raises(VaultTamperedError):
        read(parse(assemble(LINES, HEADER.slot), PATH), DATA_KEY, PATH)


@pytest.mark.parametrize("version", [b"2", b"10", b"999999999"])
def test_a_later_version_is_its_own_error(version: bytes, kdf_runs: Any) -> None:
    """A later version is no damage, whatever else stands in the file."""
    with pytest.raises(VaultVersionError, match=version.decode()):
        parse(b"rolevault/" + version + b"\n\x00whatever", PATH)
    assert kdf_runs() == 0


HOSTILE_NUMBERS = [
    "0", "-1", "-0", "1.0", "3.5", "1e3", "1e999", "true", "false", "null", '"1"', '"65536"', "[]",
    "{}", "[1]", "NaN", "Infinity", "-Infinity", "01", "0x10", str(2**30), str(2**31),
    str(2**32 - 1), str(2**62), str(2**64), "9" * 3800, "-" + "9" * 3800, "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("literal", HOSTILE_NUMBERS, ids=lambda literal: literal[:12])
@pytest.mark.parametrize("member", ["m", "t", "p"])
def test_hostile_costs_are_refused_unused(member: str, literal: str, kdf_runs: Any) -> None:
    """No number in a header takes memory or time before it is within bounds."""
    blob = header_with(member, literal)
    tracemalloc.start()
    with pytest.raises(VaultDamagedError):
        open_file(blob)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert kdf_runs() == 0


@pytest.mark.parametrize(
    ("costs", "allowed"),
    [
        (Costs(19456, 1, 1), True),
        (Costs(19455, 1, 1), False),
        (Costs(8, 1, 1), False),
        (Costs(262144, 4, 16), True),
        (Costs(262145, 1, 1), False),
        (Costs(262144, 5, 1), False),
        (Costs(65536, 16, 1), True),
        (Costs(65537, 16, 1), False),
        (Costs(19456, 16, 16), True),
        (Costs(19456, 17, 1), False),
        (Costs(19456, 1, 17), False),
        (Costs(19456, 0, 1), False),
        (Costs(19456, 1, 0), False),
    ],
)
def test_costs_have_a_floor_and_a_ceiling(costs: Costs, allowed: bool, kdf_runs: Any) -> None:
    """Costs out of bounds are neither read nor written; those at the bounds are read."""
    blob = assemble(bytes(Header(kdf.Kdf(costs, bytes(16)), HEADER.slot)), BODY)
    if allowed:
        assert parse(blob, PATH).header.kdf.costs == costs
    else:
        with pytest.raises(VaultDamagedError, match="out of bounds"):
            parse(blob, PATH)
        with pytest.raises(ValueError, match="key derivation"):
            new_header(PASSPHRASE, costs=costs)
    assert kdf_runs() == 0


SALT = json.loads(LINES.split(b"\n")[1])["kdf"]["salt"]
TEXT = LINES.split(b"\n")[1]
STRAY = SALT[:-3] + chr(ord(SALT[-3]) + 1) + "=="  # the same 16 bytes, with a stray bit


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"0",
        b'"text"',
        b"{}",
        b"null",
        b'{"kdf":{},"slot":""}',
        b'{"kdf":[],"slot":""}',
        b'{"kdf":"argon2id","slot":""}',
        b'{"kdf":{"alg":0},"slot":""}',
        b'{"kdf":{"alg":["argon2id"]},"slot":""}',
        TEXT.replace(b'{"kdf"', b'{"a":1,"kdf"'),
        TEXT[:-1] + b',"x":NaN}',
        TEXT.replace(b'"m":', b'"extra":1,"m":'),
        TEXT.replace(b'"m":19456', b'"m":19456,"m":19456'),
        TEXT.replace(b'"m":19456', b'"m":65536,"m":19456'),
        TEXT.replace(b'"alg":"argon2id"', b'"alg":"scrypt","alg":"argon2id"'),
        TEXT.replace(b'"p":1', b'"p":01'),
        TEXT.replace(b'"p":1', b'"p": 1'),
        TEXT.replace(b"argon2id", b"argon2\\u0069d"),
        TEXT + b" ",
        b" " + TEXT,
        TEXT + b"\r",
        TEXT.replace(b"argon2id", b"argon2id\x00"[:8] + b"\xff"),
        b"\xef\xbb\xbf" + TEXT,
        TEXT.decode().encode("utf-16"),
        TEXT.replace(SALT.encode(), STRAY.encode()),
        TEXT.replace(SALT.encode(), SALT[:-2].encode()),
        TEXT.replace(SALT.encode(), SALT.encode() + b"="),
        TEXT.replace(SALT.encode(), SALT[:4].encode() + b"\\n" + SALT[4:].encode()),
        TEXT.replace(SALT.encode(), SALT[:4].encode() + b" " + SALT[4:].encode()),
        TEXT.replace(SALT.encode(), b"_-" + SALT[2:].encode()),
        TEXT.replace(SALT.encode(), b"\\u00e9" + SALT[2:].encode()),
        TEXT.replace(SALT.encode(), b""),
        TEXT.replace(SALT.encode(), base64.b64encode(bytes(15))),
        TEXT.replace(SALT.encode(), base64.b64encode(bytes(17))),
        TEXT.replace(base64.b64encode(HEADER.slot), base64.b64encode(HEADER.slot[:-1])),
        TEXT.replace(base64.b64encode(HEADER.slot), base64.b64encode(HEADER.slot + b"\x00")),
        b'{"slot":%b,%b}' % tuple(reversed(TEXT[1:-1].split(b',"slot":'))),
        b"[" * 4000,
        b'{"kdf":' * 580,
        b'{"kdf":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
    ids=lambda text: repr(text[:60]),
)  # fmt: skip
def test_a_header_has_one_spelling(text: bytes, kdf_runs: Any) -> None:
    """A header that we would not have written ourselves, byte for byte, is damaged."""
    assert text != TEXT
    with pytest.raises(VaultDamagedError, match="header"):
        parse(with_header_text(text), PATH)
    assert kdf_runs() == 0


SEALED_TEXTS = [
    b"",
    b"{}",
    b"[]",
    b"[1,2]",
    b"0",
    b'"entries"',
    b'{"entries":{}}',
    b'{"generation":1}',
    b'{"entries":{},"generation":1,"x":0}',
    b'{"entries":{},"generation":1,"generation":1}',
    b'{"entries":{"a":{},"a":{}},"generation":1}',
    b'{"entries":{"a":{"b":1,"b":1}},"generation":1}',
    b'{"entries":{"a":{"b":NaN}},"generation":1}',
    b'{"entries":{"a":{"b":-Infinity}},"generation":1}',
    b'{"entries":{"a":{"b":1e999}},"generation":1}',
    b'{"entries":{"a":{"b":' + b"9" * 5000 + b'}},"generation":1}',
    b'{"entries":{"a":' + b"[" * 200_000 + b"]" * 200_000 + b'},"generation":1}',
    b'{"entries":{"a":{"b":' + b"[" * 31 + b"]" * 31 + b'}},"generation":1}',
    b"[" * 200_000,
    b'{"a":' * 200_000,
    b'{"entries":{"a":1},"generation":1}',
    b'{"entries":{"a":null},"generation":1}',
    b'{"entries":[],"generation":1}',
    b'{"entries":null,"generation":1}',
    b'{"entries":{},"generation":-1}',
    b'{"entries":{},"generation":true}',
    b'{"entries":{},"generation":1.0}',
    b'{"entries":{},"generation":"1"}',
    b'{"entries":{},"generation":9007199254740992}',
    b'{"entries":{"\xc3\xa9":{}},"generation":1}',
    b'\xef\xbb\xbf{"entries":{},"generation":1}',
    '{"entries":{},"generation":1}'.encode("utf-16"),
    b'{"entries":{},"generation":1}x',
    b'{"entries":{},"generation":1}\x00',
    b"SENTINEL",
]


@pytest.mark.parametrize("text", SEALED_TEXTS, ids=lambda text: repr(text[:40]))
def test_a_seal_over_other_contents_is_damage(text: bytes) -> None:
    """What is under the right seal and no vault's contents is damage, shown to nobody."""
    with pytest.raises(VaultDamagedError, match="what is sealed in it") as caught:
        read(parse(seal_plaintext(pad(text)), PATH), DATA_KEY, PATH)
    assert "SENTINEL" not in everything(caught.value)


@pytest.mark.parametrize("spaces", [0, 1, 4065, 4068, 8191])
def test_contents_are_padded_to_4_kib(spaces: int) -> None:
    """A plaintext whose size is no multiple of 4 KiB is damage."""
    plaintext = b'{"entries":{},"generation":1}' + b" " * spaces
    with pytest.raises(VaultDamagedError):
        read(parse(seal_plaintext(plaintext), PATH), DATA_KEY, PATH)


def test_a_small_change_does_not_show_in_the_size() -> None:
    """Files grow by whole steps of 4 KiB."""
    sizes = {
        len(write(HEADER, DATA_KEY, Contents({"a": {"b": "x" * n}}, n))) for n in range(0, 3000, 50)
    }
    assert len(sizes) == 1


def test_fuzzing_finds_nothing() -> None:
    """Hostile files of every sort get our own errors, and none is opened."""
    fuzz(300)


# Platforms


@pytest.mark.parametrize("name", ["scrypt", "argon2i", "Argon2id", ""])
def test_an_unknown_key_derivation_is_unsupported(name: str, kdf_runs: Any) -> None:
    """Another algorithm is neither damage nor a wrong passphrase."""
    with pytest.raises(UnsupportedPlatformError, match="key derivation"):
        parse(edited(lambda fields: fields["kdf"].update(alg=name)), PATH)
    assert kdf_runs() == 0


@pytest.mark.parametrize("make", [new_header, lambda text: unlock(HEADER, text, PATH)])
@pytest.mark.parametrize("error", [UnsupportedAlgorithm("no"), MemoryError()])
def test_a_platform_without_argon2id_says_so(
    make: Callable[[str], object], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Argon2id, as in FIPS mode, is not a wrong passphrase; nor is too little memory."""

    def unavailable(**_: object) -> object:
        raise error

    monkeypatch.setattr(kdf, "Argon2id", unavailable)
    with pytest.raises(UnsupportedPlatformError, match="Argon2id"):
        make(PASSPHRASE)


# Writing


def test_every_new_header_is_all_new() -> None:
    """The same passphrase again: another salt, slot, data key; the old key opens nothing new."""
    (old, old_key), (new, new_key) = (new_header(PASSPHRASE, costs=CHEAP) for _ in range(2))
    assert new_key != old_key
    assert new.kdf.salt != old.kdf.salt
    assert new.slot[:24] != old.slot[:24]
    blob = write(new, new_key, CONTENTS)
    with pytest.raises(VaultTamperedError):
        read(parse(blob, PATH), old_key, PATH)


def test_10_000_writes_have_10_000_salts() -> None:
    """No sealing salt ever repeats under one data key."""
    empty = Contents({}, 0)
    start = len(LINES) + 65
    salts = {write(HEADER, DATA_KEY, empty)[start : start + 24] for _ in range(10_000)}
    assert len(salts) == 10_000


def test_nothing_readable_stands_in_the_file() -> None:
    """Neither names nor values of entries appear in the raw bytes."""
    arn = "arn:aws:iam::111122223333:role/Deploy"
    blob = write(HEADER, DATA_KEY, Contents({arn: {"account": "111122223333", "user": "alice"}}, 1))
    for text in (arn, "111122223333", "alice", "Deploy", "generation", "entries", PASSPHRASE):
        for encoded in (text.encode(), text.encode("utf-16-le"), base64.b64encode(text.encode())):
            assert encoded not in blob
    assert DATA_KEY not in blob
    assert base64.b64encode(DATA_KEY)[:40] not in blob


LOOP: dict[str, Any] = {}
LOOP["self"] = LOOP


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "contents",
    [
        Contents({"a": {"b": math.nan}}, 1),
        Contents({"a": {"b": math.inf}}, 1),
        Contents({"a": {"b": b"SENTINEL"}}, 1),
        Contents({"a": {"b": {"SENTINEL"}}}, 1),
        Contents({"a": {"b": 1, 2: 3}}, 1),
        Contents({"a": {"b": None, None: 3}}, 1),
        Contents({"a": {"b": 10**5000}}, 1),
        Contents({"a": LOOP}, 1),
        Contents({"a": {"b": nested(31)}}, 1),
        Contents({"a": {"b": nested(900)}}, 1),
        Contents({"a": {"b": nested(200_000)}}, 1),
        Contents({"a": "SENTINEL"}, 1),
        Contents({"a": None}, 1),
        Contents({1: {}}, 1),  # type: ignore[dict-item]
        Contents([], 1),  # type: ignore[arg-type]
        Contents({}, -1),
        Contents({}, True),
        Contents({}, 2**53),
        Contents({}, 1.0),  # type: ignore[arg-type]
        Contents({"a": {"b": "x" * _envelope.MAX_FILE}}, 1),
    ],
    ids=lambda contents: repr(contents)[:40],
)
def test_what_could_not_be_read_back_is_not_written(contents: Contents) -> None:
    """Contents beyond the format are refused at the write, by type, and not shown."""
    with pytest.raises((ValueError, TypeError)) as caught:
        write(HEADER, DATA_KEY, contents)
    assert not isinstance(caught.value, RoleVaultError)
    assert "SENTINEL" not in everything(caught.value)


def test_the_deepest_contents_survive() -> None:
    """32 levels are written and read."""
    contents = Contents({"a": {"b": nested(30)}}, 1)
    assert read(parse(write(HEADER, DATA_KEY, contents), PATH), DATA_KEY, PATH) == contents


# Secrets


def everything(error: BaseException) -> str:
    """Return all that an error says, and all that the errors behind it say."""
    said = []
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is not None:
            said.append(f"{current!r} {current} {current.args!r} {vars(current)!r}")
            said.append(repr(getattr(current, "doc", "")) + repr(getattr(current, "object", "")))
            pending += [current.__cause__, current.__context__]
    return "\n".join(said)


def test_no_repr_shows_contents() -> None:
    """Contents and envelopes can be logged by mistake without giving anything away."""
    contents = Contents({"SENTINEL": {"token": "SENTINEL"}}, 3)
    assert "SENTINEL" not in repr(contents)
    assert "body" not in repr(parse(BLOB, PATH))


def test_no_error_shows_a_secret() -> None:
    """A wrong passphrase and a tampered file say nothing of what was tried."""
    with pytest.raises(WrongPassphraseError) as wrong:
        open_file(SMALL, "SENTINEL")
    with pytest.raises(VaultTamperedError) as tampered:
        read(parse(BLOB, PATH), b"SENTINEL" * 4, PATH)
    assert "SENTINEL" not in everything(wrong.value) + everything(tampered.value)
