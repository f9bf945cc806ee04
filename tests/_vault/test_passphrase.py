"""
Where the passphrase comes from when no person is asked: the first source that is
configured answers, and one that fails is an error.
"""

import shlex
import sys
import traceback
from pathlib import Path

import pytest

from conftest import PASSPHRASE
from rolevault import ConfigurationError, PassphraseRequiredError, Vault, WrongPassphraseError
from rolevault._vault import envelope

SENTINEL = "sentinel-passphrase"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rolevault" / "vault"
    Vault(path, SENTINEL)["a"] = {"n": 1}
    return path


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEVAULT_NESTED", "1")


def command(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_the_first_source_answers(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argument, file, command, environment: in that order."""
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", SENTINEL)
    assert len(Vault(path)) == 1
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", command("print('the command')"))
    with pytest.raises(WrongPassphraseError):
        len(Vault(path))
    (tmp_path / "secret").write_text(SENTINEL)
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(tmp_path / "secret"))
    assert len(Vault(path)) == 1
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, "the argument"))
    (tmp_path / "other").write_text("the file")
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(tmp_path / "other"))
    with pytest.raises(WrongPassphraseError):
        len(Vault(path))
    assert len(Vault(path, lambda: SENTINEL)) == 1


@pytest.mark.usefixtures("nobody")
def test_nobody_there_is_said_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PassphraseRequiredError names every source that one can configure. Empty
    variables count as unset.
    """
    for name in ("", "_FILE", "_COMMAND"):
        monkeypatch.setenv(f"ROLEVAULT_PASSPHRASE{name}", "")
    with pytest.raises(PassphraseRequiredError) as caught:
        len(Vault(path))
    for name in ("_FILE", "_COMMAND", " or ROLEVAULT_PASSPHRASE"):
        assert name in str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_trailing_newline_is_dropped(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Of a file and of a command: the editor's or echo's."""
    (tmp_path / "secret").write_bytes((SENTINEL + end).encode())
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", f"cat {tmp_path / 'secret'}")
    assert len(Vault(path)) == 1
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(tmp_path / "secret"))
    assert len(Vault(path)) == 1


def test_a_byte_order_mark_is_dropped(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor of Windows writes it at the start of the file, and nobody sees it."""
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbf" + SENTINEL.encode() + b"\r\n")
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(tmp_path / "secret"))
    assert len(Vault(path)) == 1


@pytest.mark.parametrize("text", [" x y ", "x\n\n", "\tx", "x\x00", "x\x1b"])
def test_nothing_else_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Everything but one newline may be meant."""
    (tmp_path / "secret").write_bytes((text + "\n").encode())
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(tmp_path / "secret"))
    path = tmp_path / "v" / "vault"
    Vault(path)["a"] = {}
    assert len(Vault(path, text)) == 1


def test_a_carriage_return_alone_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no newline."""
    (tmp_path / "secret").write_bytes(b"x\r")
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(tmp_path / "secret"))
    Vault(tmp_path / "v" / "vault")["a"] = {}
    assert len(Vault(tmp_path / "v" / "vault", "x\r")) == 1


def test_composed_and_decomposed_are_one_passphrase(tmp_path: Path) -> None:
    """é typed on two systems (check 17)."""
    path = tmp_path / "v" / "vault"
    Vault(path, "caf\u00e9 au lait")["a"] = {}
    assert len(Vault(path, "cafe\u0301 au lait")) == 1


@pytest.mark.parametrize("source", ["argument", "callable", "file", "command"])
def test_empty_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """ConfigurationError, and no vault is made (check 16)."""
    path = tmp_path / "v" / "vault"
    (tmp_path / "secret").write_text("\n")
    vault = Vault(path, {"argument": "", "callable": lambda: ""}.get(source))  # type: ignore[arg-type]
    if source == "file":
        monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(tmp_path / "secret"))
    if source == "command":
        monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", "echo")
    with pytest.raises(ConfigurationError, match="empty"):
        vault["a"] = {}
    assert not path.exists()


FAILURES = {
    "no such file": ("_FILE", "/no/such/file", "cannot be read"),
    "a directory": ("_FILE", "/", "cannot be read"),
    "endless": ("_FILE", "/dev/zero", "more than 64 KiB"),
    "no such command": ("_COMMAND", "/no/such/command", "cannot be started"),
    "fails": ("_COMMAND", "false", "status 1"),
    "says nothing": ("_COMMAND", "true", "nothing"),
    "an empty file": ("_FILE", "/dev/null", "what it gives is empty"),
    "an empty line": ("_COMMAND", "echo", "what it gives is empty"),
    "no command line": ("_COMMAND", "echo 'unclosed", "command line"),
    "blank": ("_COMMAND", "   ", "empty"),
}


@pytest.mark.parametrize(("name", "value", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_a_configured_source_that_fails_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """ConfigurationError, though a later source would have answered."""
    monkeypatch.setenv(f"ROLEVAULT_PASSPHRASE{name}", value)
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", SENTINEL)
    with pytest.raises(ConfigurationError, match=said) as caught:
        len(Vault(path))
    assert caught.value.option == f"ROLEVAULT_PASSPHRASE{name}"


@pytest.mark.parametrize("source", ["file", "command"])
def test_what_is_not_utf8_is_not_shown(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """ConfigurationError, with nothing of it in the message or behind it."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"sentinel\xff")
    if source == "file":
        monkeypatch.setenv("ROLEVAULT_PASSPHRASE_FILE", str(secret))
    else:
        monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", f"cat {secret}")
    with pytest.raises(ConfigurationError, match="UTF-8") as caught:
        len(Vault(path))
    assert caught.value.__context__ is None
    assert "sentinel" not in "".join(traceback.format_exception(caught.value))


def test_an_environment_that_is_not_utf8_is_not_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of the others."""
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", "sentinel\udcff")
    with pytest.raises(ConfigurationError, match="UTF-8") as caught:
        len(Vault(path))
    assert "sentinel" not in str(caught.value)


def test_a_failing_commands_arguments_are_not_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People write secrets there; the program's name is enough."""
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", "false sentinel-passphrase")
    with pytest.raises(ConfigurationError, match="false") as caught:
        len(Vault(path))
    assert "sentinel" not in str(caught.value)


def test_a_command_runs_without_a_shell_and_without_our_secrets(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No expansion; no ROLEVAULT_PASSPHRASE* in its environment; told not to ask."""
    code = (
        "import os, sys\n"
        "ours = {k for k in os.environ if k.startswith('ROLEVAULT_')}\n"
        "assert ours == {'ROLEVAULT_NESTED'}, ours\n"
        "assert sys.argv[1:] == ['$HOME;', 'a b'], sys.argv\n"
        f"print('{SENTINEL}')"
    )
    line = command(code) + " '$HOME;' 'a b'"
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", "environment")
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", line)
    assert len(Vault(path)) == 1


def test_a_source_is_read_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command or a callable is not run again while its key is held."""
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x'); print({SENTINEL!r})"
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE_COMMAND", command(code))
    vault = Vault(path)
    for _ in range(3):
        vault["b"] = {"n": len(vault)}
    assert len(Vault(path)) == 2
    assert count.read_text() == "x"


def test_what_a_callable_raises_passes_through(path: Path) -> None:
    """It is the caller's own; the file is as it was, and the next access asks again."""
    answers = [RuntimeError("mine"), SENTINEL]

    def passphrase() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    vault = Vault(path, passphrase)
    with pytest.raises(RuntimeError, match="mine"):
        len(vault)
    assert len(vault) == 1


@pytest.mark.parametrize("given", [b"bytes", 5, ["a"], lambda: None, lambda: b"bytes"])
def test_what_is_no_text_is_refused(path: Path, given: object) -> None:
    """ConfigurationError, which does not show it."""
    with pytest.raises(ConfigurationError, match="string") as caught:
        len(Vault(path, given))  # type: ignore[arg-type]
    assert caught.value.value == "<not shown>"


@pytest.mark.parametrize(("text", "warned"), [("eleven char", True), ("twelve chars", False)])
def test_a_short_one_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, warned: bool
) -> None:
    """Under twelve characters, once, when the vault is made; not shown."""
    path = tmp_path / "v" / "vault"
    vault = Vault(path, text)
    vault["a"] = {}
    vault["b"] = {}
    assert len(Vault(path, lambda: text)) == 2
    assert len(caplog.records) == warned
    assert text not in caplog.text


def test_a_source_is_told_apart_without_holding_its_text(path: Path) -> None:
    """What stands in the key holder is worth nothing elsewhere."""
    from rolevault._vault import key_cache

    vault = Vault(path, PASSPHRASE)
    with pytest.raises(WrongPassphraseError):
        len(vault)
    assert len(Vault(path, SENTINEL)) == 1
    header = envelope.parse(path.read_bytes(), "").header
    assert SENTINEL not in repr([key for key in key_cache.data_keys._keys if key[0] == header.id])
    assert key_cache.data_keys.get(header, vault.source) is None
