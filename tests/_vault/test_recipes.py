"""
The commands of docs/passphrase.md, with the real programs, where they are installed.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import PASSPHRASE
from processes import quick_place
from rolevault import Vault

pytestmark = pytest.mark.slow
RECIPES = (Path(__file__).parents[2] / "docs" / "passphrase.md").read_text()


def run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)


def assert_opens(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the line of the document that exports this command."""
    line = f'export ROLEVAULT_PASSPHRASE_COMMAND="{recipe}"'
    assert line in RECIPES
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", recipe.replace("$HOME", str(Path.home())))
    with quick_place() as path:
        Vault(path)["a"] = {"n": 1}
        assert Vault(path, PASSPHRASE) == {"a": {"n": 1}}


@pytest.mark.skipif(not (shutil.which("pass") and shutil.which("gpg")), reason="no pass")
def test_pass(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password store with a key of its own."""
    with quick_place() as place:  # gpg-agent's socket needs a short path
        home = place.parent
        home.mkdir(mode=0o700)
        monkeypatch.setenv("GNUPGHOME", str(home))
        try:
            run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "alice@example.org")
            run("pass", "init", "alice@example.org")
            run("pass", "insert", "--multiline", "rolevault", text=f"{PASSPHRASE}\n")
            assert_opens("pass show rolevault", monkeypatch)
        finally:
            run("gpgconf", "--kill", "all")


@pytest.mark.skipif(shutil.which("age-keygen") is None, reason="no age")
def test_age(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that an identity of age opens."""
    key, secret = empty_home / "age.key", empty_home / "rolevault.age"
    run("age-keygen", "-o", str(key))
    public = subprocess.check_output(["age-keygen", "-y", str(key)], text=True).strip()
    run("age", "-r", public, "-o", str(secret), text=PASSPHRASE)
    assert_opens("age -d -i $HOME/age.key $HOME/rolevault.age", monkeypatch)
