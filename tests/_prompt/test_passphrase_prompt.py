"""The passphrase at a real terminal, through the public API."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conftest import PASSPHRASE
from pty_user import CTRL_D, PtyUser
from rolevault import Vault

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

#: Writes, rotates or only reads, and prints all entries of the vault.
SCRIPT = """
import sys, rolevault
vault = rolevault.Vault()
try:
    if sys.argv[1] == "write":
        vault["key"] = {"value": 1}
    if sys.argv[1] == "rotate":
        print("carried", rolevault.rotate_passphrase())
    print("entries", dict(sorted(vault.items())))
except rolevault.RoleVaultError as error:
    print(type(error).__name__, error)
"""


def at_terminal(verb: str) -> PtyUser:
    return PtyUser([sys.executable, "-c", SCRIPT, verb], os.environ)


def prompted(person: PtyUser) -> str:
    """Wait for the next prompt, check that it hides what is typed, and return its text."""
    text = person.sees(": ")
    assert not person.echo
    return text


def test_new_vault_asks_for_its_passphrase_twice(vault_path: Path) -> None:
    """The terminal does not show the passphrase, and the passphrase opens the file."""
    with at_terminal("write") as person:
        assert str(vault_path) in prompted(person)
        person.type(f"{PASSPHRASE}\r")
        assert "Type the new passphrase once more.\n" in prompted(person)
        person.type(f"{PASSPHRASE}\r")
        person.sees("entries {'key': {'value': 1}}\n")
        assert person.leaves() == 0
        assert PASSPHRASE not in person.screen
    assert Vault(vault_path, PASSPHRASE)["key"] == {"value": 1}


def test_two_different_ones_and_an_empty_one_are_asked_for_again(vault_path: Path) -> None:
    """A typing error must not seal a vault."""
    with at_terminal("write") as person:
        prompted(person)
        person.type("\r")
        assert "empty" in prompted(person)
        person.type(f"{PASSPHRASE}\r")
        prompted(person)
        person.type("another\r")
        assert "differ" in prompted(person)
        person.type(f"{PASSPHRASE}\r")
        prompted(person)
        person.type(f"{PASSPHRASE}\r")
        person.sees("entries {'key': {'value': 1}}\n")
    assert Vault(vault_path, PASSPHRASE)["key"] == {"value": 1}


def test_short_passphrase_is_warned_about_and_taken(vault_path: Path) -> None:
    """A passphrase under twelve characters is accepted, with a warning on a line of its own."""
    with at_terminal("write") as person:
        for _ in range(2):
            prompted(person)
            person.type("swordfish\r")
        before = person.sees("entries {'key': {'value': 1}}\n")
        warning = next(line for line in before.splitlines() if "fewer than 12 characters" in line)
        assert ": " not in warning.split("passphrase")[0]
    assert Vault(vault_path, "swordfish")["key"] == {"value": 1}


def test_existing_vault_asks_once(vault_path: Path) -> None:
    """A process asks once, however often it reads and writes."""
    Vault(vault_path, PASSPHRASE)["old"] = {}
    with at_terminal("write") as person:
        assert str(vault_path) in prompted(person)
        person.type(f"{PASSPHRASE}\r")
        person.sees("entries {'key': {'value': 1}, 'old': {}}\n")
        assert person.leaves() == 0
        assert person.screen.count(str(vault_path)) == 1


def test_mistyped_passphrase_is_asked_for_again(vault_path: Path) -> None:
    """The second prompt says that the first passphrase was wrong."""
    Vault(vault_path, PASSPHRASE)["old"] = {}
    with at_terminal("read") as person:
        prompted(person)
        person.type("not this one\r")
        person.sees("That passphrase does not open")
        prompted(person)
        person.type(PASSPHRASE + "\r")
        person.sees("old")
        assert person.leaves() == 0


@pytest.mark.parametrize("existing", [False, True])
def test_what_is_not_text_is_asked_for_again(vault_path: Path, existing: bool) -> None:
    """A terminal with another encoding sends bytes that are not UTF-8. No vault is sealed with
    such bytes, and they do not count as a wrong passphrase.
    """
    if existing:
        Vault(vault_path, PASSPHRASE)["old"] = {}
    with at_terminal("write") as person:
        prompted(person)
        for _ in range(4):
            person.type("schl\xfcssel\r".encode("latin-1"))
            person.sees("What you typed cannot be read as text. Is the terminal set to UTF-8?\n")
            prompted(person)
        person.type(f"{PASSPHRASE}\r")
        if not existing:
            prompted(person)
            person.type(f"{PASSPHRASE}\r")
        person.sees("entries {'key'")
        assert person.leaves() == 0
    assert Vault(vault_path, PASSPHRASE)["key"] == {"value": 1}


#: A thread that wipes and draws the line of the cursor, as rich's ``status`` does.
SPINNER = """
import sys, threading, time
def spin():
    while True:
        sys.stdout.write("\\r\\x1b[2K* Deploying")
        sys.stdout.flush()
        time.sleep(0.02)
threading.Thread(target=spin, daemon=True).start()
"""


@pytest.mark.parametrize("existing", [False, True])
def test_spinner_wipes_nothing_that_must_be_read(vault_path: Path, existing: bool) -> None:
    """A spinner redraws the line of the cursor while a person is asked. Only the line on which
    the person types may be lost.
    """
    if existing:
        Vault(vault_path, PASSPHRASE)["old"] = {}
        expected = [["rolevault needs the passphrase of"]]
    else:
        expected = [
            ["rolevault keeps your AWS sessions in an encrypted file", "Choose a passphrase."],
            ["Type the new passphrase once more."],
        ]
    with PtyUser([sys.executable, "-c", SPINNER + SCRIPT, "write"], os.environ) as person:
        for lines in expected:
            prompted(person)
            for _ in range(3):
                person.sees("* Deploying")
            for line in lines:
                assert line in readable(person.screen)
            assert str(vault_path) in readable(person.screen)
            person.type(f"{PASSPHRASE}\r")
        person.sees("entries {'key'")


def readable(screen: str) -> str:
    """The text that is left on the screen after lines were wiped."""
    return "\n".join(line.rpartition("\r\x1b[2K")[2] for line in screen.split("\n"))


def test_newline_in_a_path_is_no_line_of_a_prompt(vault_path: Path) -> None:
    """A path must not be able to look like a line of rolevault."""
    evil = vault_path.with_name("vault.\nrolevault needs your bank's PIN")
    environment = {**os.environ, "ROLEVAULT_FILE": str(evil)}
    with PtyUser([sys.executable, "-c", SCRIPT, "write"], environment) as person:
        assert "vault.?rolevault needs your bank's PIN.\n" in prompted(person)
        assert "\nrolevault needs" not in person.screen


def test_rotation_asks_for_the_old_one_then_for_the_new(vault_path: Path) -> None:
    """Rotation asks for the current passphrase until it is right, and for the new one twice. The
    process goes on with the new one.
    """
    Vault(vault_path, PASSPHRASE)["old"] = {}
    with at_terminal("rotate") as person:
        assert prompted(person).endswith(f"passphrase of {vault_path}.\nCurrent passphrase")
        person.type("not this one\r")
        assert prompted(person).endswith(f"does not open {vault_path}.\nCurrent passphrase")
        person.type(f"{PASSPHRASE}\r")
        assert prompted(person).endswith("\nNew passphrase")
        person.type("twelve drummers drumming\r")
        assert prompted(person).endswith("once more.\nNew passphrase")
        person.type("twelve drummers drumming\r")
        person.sees("carried 1\nentries {'old': {}}\n")
        assert person.leaves() == 0
    assert Vault(vault_path, "twelve drummers drumming")["old"] == {}


def test_rotation_at_the_terminal_leaves_the_configured_one_wrong(
    vault_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment still gives the old passphrase, which then opens nothing, even in the
    process that rotated.
    """
    Vault(vault_path, PASSPHRASE)["old"] = {}
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    with at_terminal("rotate") as person:
        for _ in range(2):
            prompted(person)
            person.type("twelve drummers drumming\r")
        person.sees("carried 1\nWrongPassphraseError")
        assert person.leaves() == 0


def test_wrong_passphrase_is_its_own_error(vault_path: Path) -> None:
    """After three wrong passphrases the file is as before, and the error does not show what was
    typed.
    """
    Vault(vault_path, PASSPHRASE)["old"] = {}
    before = vault_path.read_bytes()
    with at_terminal("read") as person:
        for _ in range(3):
            prompted(person)
            person.type("not this one\r")
        person.sees("WrongPassphraseError")
        assert person.leaves() == 0
        assert "not this one" not in person.screen
    assert vault_path.read_bytes() == before


@pytest.mark.parametrize("existing", [False, True])
def test_closed_prompt_is_nobody_there(vault_path: Path, existing: bool) -> None:
    """Ctrl-D raises PassphraseRequiredError, which names the other sources. No file is made."""
    if existing:
        Vault(vault_path, PASSPHRASE)["old"] = {}
    with at_terminal("write") as person:
        prompted(person)
        person.type(CTRL_D)
        person.sees("PassphraseRequiredError")
        person.sees("the prompt was closed")
        person.sees("ROLEVAULT_PASSPHRASE_FILE")
        assert person.leaves() == 0
    assert vault_path.exists() == existing


def test_nobody_there_is_an_error_at_once(vault_path: Path) -> None:
    """Nobody is asked without a terminal, or in a background job of a real shell."""
    script = vault_path.parents[2] / "script.py"
    script.write_text(SCRIPT)
    line = f"{sys.executable} {script} write"
    with PtyUser(["bash", "--norc", "--noprofile", "--noediting", "-i"]) as person:
        person.type(f"setsid {line} | cat\r")
        person.sees("PassphraseRequiredError")
        person.sees("there is no terminal")
        person.type(f"{line} &\r")
        person.sees("PassphraseRequiredError")
        person.sees("this is a background job of its terminal")
        person.type("wait; jobs; echo 'no ''more'\r")
        assert "Stopped" not in person.sees("no more")
