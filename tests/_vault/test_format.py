"""docs/vault-format.md, its vectors, its second reader and rolevault agree."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import format_reader
import pytest
from fuzz_envelope import DATA_KEY, HEADER, PASSPHRASE, PATH, hostile_files, storable_contents
from hypothesis import HealthCheck, given, settings

from rolevault import errors
from rolevault._vault import envelope as _envelope
from rolevault._vault.envelope import Contents
from rolevault._vault.kdf import Costs

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "vault-format.md"
NAMES = ["vault-1", "vault-2", "vault-3"]
VECTORS = {name: json.loads((HERE / "vectors" / f"{name}.json").read_text()) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_frozen_files_open(name: str) -> None:
    """A file of an earlier release opens with its passphrase, on every release."""
    vector = VECTORS[name]
    envelope = _envelope.parse(bytes.fromhex(vector["file"]), PATH)
    assert bytes(envelope.header).decode() == vector["header"]
    data_key = _envelope.unlock(envelope.header, vector["passphrase"], PATH)
    assert data_key.hex() == vector["data_key"]
    contents = _envelope.read(envelope, data_key, PATH)
    expected = json.loads(vector["plaintext"])
    assert {"entries": contents.entries, "generation": contents.generation} == expected


@pytest.mark.parametrize("name", NAMES)
def test_frozen_files_are_made_again(name: str) -> None:
    """The same passphrase, salts and contents make the same bytes, on every release."""
    vector = VECTORS[name]
    header, data_key = _envelope.new_header(
        vector["passphrase"],
        costs=Costs(vector["m"], vector["t"], vector["p"]),
        salt=bytes.fromhex(vector["kdf_salt"]),
        data_key=bytes.fromhex(vector["data_key"]),
        slot_salt=bytes.fromhex(vector["slot_salt"]),
    )
    contents = Contents(**json.loads(vector["plaintext"]))
    blob = _envelope.write(header, data_key, contents, salt=bytes.fromhex(vector["body_salt"]))
    assert blob.hex() == vector["file"]


@pytest.mark.parametrize("name", NAMES)
def test_the_document_has_the_same_vectors(name: str) -> None:
    """The document and tests/vectors/ give the same values."""
    vector = VECTORS[name]
    section = DOCUMENT.read_text().split(f"### Vector {name[-1]}\n")[1].split("\n### ")[0]
    assert vector["about"] in section
    values, listing = re.findall(r"```\n(.*?)```", section, flags=re.DOTALL)
    for line in values.splitlines():
        member, _, value = line.partition(" ")
        quoted = member in ("passphrase", "plaintext")
        assert (json.loads(value) if quoted else value.strip()) == (
            vector[member] if quoted else str(vector[member])
        )
    if name == "vault-3":
        letters = int(re.findall(r"`x` ([0-9,]+) times", section)[0].replace(",", ""))
        filled = section.split("plaintext is `")[1].split("`")[0].replace("…", "x" * letters)
        assert filled == vector["plaintext"]
        assert listing == vector["header"]
    else:
        assert listing.replace("\n", "") == vector["file"]


@pytest.mark.parametrize("name", NAMES)
def test_the_document_alone_suffices_to_read(name: str) -> None:
    """A reader written from the document, without rolevault, opens the frozen files."""
    vector = VECTORS[name]
    read = format_reader.read(bytes.fromhex(vector["file"]), vector["passphrase"])
    expected = json.loads(vector["plaintext"])
    assert read == (expected["entries"], expected["generation"])


@given(storable_contents)
@settings(max_examples=20)
def test_the_second_reader_reads_what_we_write(contents: Contents) -> None:
    """Whatever rolevault writes, the document's reader reads."""
    blob = _envelope.write(HEADER, DATA_KEY, contents)
    assert format_reader.read(blob, PASSPHRASE) == (contents.entries, contents.generation)


def _ours(blob: bytes) -> object:
    try:
        envelope = _envelope.parse(blob, PATH)
        data_key = _envelope.unlock(envelope.header, PASSPHRASE, PATH)
        contents = _envelope.read(envelope, data_key, PATH)
    except errors.RoleVaultError as error:
        return type(error).__name__
    return contents.entries, contents.generation


def _theirs(blob: bytes) -> object:
    try:
        return format_reader.read(blob, PASSPHRASE)
    except format_reader.RefusedError as refusal:
        return refusal.args[0]


@given(hostile_files())
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_both_readers_answer_the_same(blob: bytes) -> None:
    """To any file, the document's reader and rolevault give one answer, errors included."""
    assert _ours(blob) == _theirs(blob)


def test_the_document_names_every_error_of_the_file() -> None:
    """Each error that a file can cause stands in the document, and no other one."""
    named = set(re.findall(r"`([A-Za-z]+Error)`", DOCUMENT.read_text()))
    assert named == {
        error.__name__
        for error in (
            errors.UnsupportedPlatformError,
            errors.VaultDamagedError,
            errors.VaultTamperedError,
            errors.VaultVersionError,
            errors.WrongPassphraseError,
        )
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("67,108,864", _envelope.MAX_FILE),
        ("4,096 bytes", _envelope.MAX_HEADER),
        ("nest at most 32 deep", _envelope._MAX_DEPTH),
    ],
)
def test_the_document_has_the_codes_bounds(text: str, value: Any) -> None:
    """The bounds in the document are the bounds in the code."""
    assert text in DOCUMENT.read_text()
    assert re.sub(r"\D", "", text) == str(value)


@pytest.mark.slow
def test_every_check_stands_without_asserts() -> None:
    """Under python -O no check of the format goes away."""
    suite = [str(HERE / "test_sealing.py"), str(HERE / "test_envelope.py")]
    # pytest says that -O drops asserts outside of test modules: that is the point.
    options = ["-o", "addopts=", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["-p", "no:randomly"]
    options += ["-W", "ignore::pytest.PytestConfigWarning"]
    few = "not all_contents and not any_text and not 10_000 and not never_repeat and not fuzzing"
    run = subprocess.run(
        [sys.executable, "-O", "-m", "pytest", *options, "-k", few, *suite],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parent,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\b[0-9]{3} passed", run.stdout)
