"""The command line, as users start it: a process, and sometimes a terminal."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rolevault
from conftest import OTHER, PASSPHRASE, Alice, Config, Python
from local_iam import Role
from pty_user import CTRL_C, CTRL_D, PtyUser

Verb = Callable[..., "subprocess.CompletedProcess[str]"]
BRIEF = "from rolevault.cli.main import main; main()"


@pytest.fixture
def verb(python: Python) -> Verb:
    """Run a verb without a terminal."""

    def run(*arguments: str, **settings: object) -> "subprocess.CompletedProcess[str]":
        process = python(BRIEF, *arguments, start_new_session=True, **settings)
        output, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    return run


@pytest.fixture
def prod(config: Config, alice: Alice, role_a: Role) -> Role:
    """The role of the profile ``prod``. Alice has given today's code in a script."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"mfa_serial={alice.serial}\nregion=eu-west-1\n"
    )
    rolevault.ensure(rolevault.session(profile="prod", mfa_callback=alice))
    return role_a


def test_status_shows_profile_role_and_time_left(prod: Role, verb: Verb) -> None:
    """The table and the JSON name the role, and hold no key."""
    text, told = verb("status").stdout, json.loads(verb("ls", "--json").stdout)
    assert text.splitlines()[0].split() == [
        "Profile",
        "Role",
        "Account",
        "Session",
        "Expires",
        "in",
    ]
    assert text.splitlines()[1].split()[:4] == ["prod", "Deploy", prod.account, "yes"]
    assert "MFA session of arn:" in text
    assert told["version"] == 1
    (row,) = told["roles"]
    assert (row["profile"], row["role_arn"]) == ("prod", prod.arn)
    schema = json.loads(
        (Path(__file__).parents[2] / "docs" / "status.schema.json").read_text(encoding="utf-8")
    )
    assert told.keys() <= schema["properties"].keys()
    assert row.keys() == schema["properties"]["roles"]["items"]["properties"].keys()


def test_status_fits_80_columns(prod: Role, config: Config, alice: Alice) -> None:
    """Forty profiles with long names of roles: no line is longer, and no name is cut."""
    long = "Arn" + "x" * 61
    config(
        "".join(
            f"[profile p{n}]\nrole_arn=arn:aws:iam::111122223333:role/{long}\n" for n in range(40)
        )
    )
    with PtyUser([sys.executable, "-c", BRIEF, "status"], {**os.environ, "COLUMNS": "80"}) as user:
        assert user.leaves() == 0
    lines = user.screen.splitlines()
    assert len([line for line in lines if "111122223333" in line]) == 41
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines[:-1]]
    assert max(map(len, plain)) <= 80, plain
    assert "".join(plain).count("x") >= 40 * 61  # folded


def test_locked_and_nobody_to_ask(prod: Role, verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status shows the file alone, and login says what to do. Both exit with 3."""
    monkeypatch.delenv("ROLEVAULT_PASSPHRASE")
    shown = verb("status")
    assert shown.returncode == 3
    assert "locked" in shown.stdout
    assert prod.arn not in shown.stdout
    asked = verb("login", "prod")
    assert (asked.returncode, asked.stdout) == (3, "")
    assert "ROLEVAULT_PASSPHRASE_FILE" in asked.stderr


def test_help_imports_what_it_prints_with(python: Python) -> None:
    """Not boto3, nor what encrypts, nor what draws tables: each takes longer than the help."""
    heavy = "{'boto3', 'botocore', 'cryptography', 'rich'}"
    after = f"import atexit, sys; atexit.register(lambda: print({heavy} & sys.modules.keys()))"
    output, errors = python(f"{after}; {BRIEF}", "--help").communicate(timeout=60)
    assert errors == ""
    assert "Usage: rolevault" in output
    assert output.endswith("set()\n")


def test_unknown_profile_names_the_nearest(prod: Role, verb: Verb) -> None:
    """A mistyped profile is wrong usage, in each verb that takes one."""
    for arguments in (["login", "prdo"], ["exec", "prdo", "--", "true"], ["export", "prdo"]):
        refused = verb(*arguments)
        assert refused.returncode == 2
        assert "Did you mean prod?" in refused.stderr


def test_habits_of_aws_vault_are_answered(verb: Verb) -> None:
    """A verb or an option that does not exist here says what to type."""
    for arguments, advice in (
        (["rotate", "prod"], "rolevault passwd"),
        (["exec", "-j", "prod"], "rolevault export PROFILE --format json"),
        (["exec", "-t", "123456", "prod"], "Leave the code out"),
    ):
        refused = verb(*arguments)
        assert refused.returncode == 2
        assert advice in refused.stderr


def test_login_asks_once_for_the_day(
    prod: Role, alice: Alice, vault_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal: passphrase, then the code; the answer says until when nobody is asked."""
    rolevault.Vault().clear()
    with PtyUser([sys.executable, "-c", BRIEF, "login", "prod"], os.environ) as user:
        user.sees("Code of ")
        user.type(alice.device.fresh_code() + "\r")
        user.sees("prod: nobody is asked before")
        assert user.leaves() == 0


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_given_up_prompt_leaves_the_terminal_as_it_was(
    prod: Role, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C and Ctrl-D end a verb without a traceback, and the terminal echoes again."""
    monkeypatch.delenv("ROLEVAULT_PASSPHRASE")
    with PtyUser([sys.executable, "-c", BRIEF, "status"], os.environ) as user:
        before = user.modes
        user.sees("Passphrase")
        user.type(key)
        assert user.leaves() in (1, 3)
        assert user.modes == before
    assert "Traceback" not in user.screen


def test_closed_terminal_ends_the_verb(prod: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a terminal whose window is gone."""
    monkeypatch.delenv("ROLEVAULT_PASSPHRASE")
    with PtyUser([sys.executable, "-c", BRIEF, "status"], os.environ) as user:
        user.sees("Passphrase")
        user.hang_up()
        assert user.process.wait(30) != 0


def test_wrong_passphrase_three_times(prod: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third wrong passphrase ends the verb with 1."""
    monkeypatch.delenv("ROLEVAULT_PASSPHRASE")
    with PtyUser([sys.executable, "-c", BRIEF, "status"], os.environ) as user:
        for _ in range(3):
            user.sees("assphrase:")
            user.type(OTHER + "\r")
        assert user.leaves() == 1
    assert "Traceback" not in user.screen


def test_exec_gives_the_role_and_no_passphrase(prod: Role, verb: Verb) -> None:
    """The child has aws-vault's variables, not the passphrase; its exit code is ours."""
    script = "import json, os; print(json.dumps(dict(os.environ))); raise SystemExit(7)"
    ran = verb("exec", "prod", "--region", "eu-north-1", "--", sys.executable, "-c", script)
    assert ran.returncode == 7
    child = json.loads(ran.stdout)
    assert child["AWS_VAULT"] == "prod"
    assert child["AWS_REGION"] == child["AWS_DEFAULT_REGION"] == "eu-north-1"
    assert child["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert child["AWS_CREDENTIAL_EXPIRATION"].endswith("Z")
    assert child["ROLEVAULT_NESTED"] == "1"
    assert PASSPHRASE not in ran.stdout


def test_exec_gives_signals_their_usual_meaning(prod: Role, verb: Verb) -> None:
    """Python ignores SIGPIPE, and the command does not."""
    ran = verb("exec", "prod", "--", "sh", "-c", "kill -PIPE $$; echo ignored")
    assert (ran.returncode, ran.stdout) == (-signal.SIGPIPE, "")


def test_exec_refuses_to_nest(prod: Role, verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that has a role's credentials gets no others unless told."""
    monkeypatch.setenv("AWS_VAULT", "other")
    assert verb("exec", "prod", "true").returncode == 1
    assert verb("exec", "--nest", "prod", "true").returncode == 0
    assert verb("exec", "--nest", "prod", "no-such-command").returncode == 127


def test_export_is_read_by_a_shell_and_by_programs(prod: Role, verb: Verb) -> None:
    """What is printed has the role's session in each format."""
    lines = verb("export", "prod").stdout
    ran = subprocess.run(
        ["sh", "-c", f'{lines}\nprintf %s "$AWS_SESSION_TOKEN"'], capture_output=True, text=True
    )
    told = json.loads(verb("export", "prod", "--format", "json").stdout)
    assert told["Version"] == 1
    assert told["SessionToken"] == ran.stdout
    assert f"aws_session_token={ran.stdout}" in verb("export", "prod", "--format", "ini").stdout
    assert f"= '{ran.stdout}'" in verb("export", "prod", "--format", "powershell").stdout


def test_clear_forgets_one_role_or_all(prod: Role, verb: Verb, vault_path: Path) -> None:
    """A profile's session goes, the MFA session stays; without a name the file goes."""
    assert verb("clear", "prod").returncode == 0
    assert {each["kind"] for each in rolevault.Vault().entries()} == {"codes", "mfa"}
    assert verb("clear").stdout == "The vault was deleted, with all sessions.\n"
    assert not vault_path.exists()
    assert verb("clear").stdout == f"There is no vault at {vault_path}.\n"


def test_passwd_asks_for_the_new_passphrase_twice(
    prod: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vault opens with the new passphrase afterwards."""
    with PtyUser([sys.executable, "-c", BRIEF, "passwd"], os.environ) as user:
        for _ in range(2):
            user.sees("New passphrase:")
            user.type(OTHER + "\r")
        assert user.leaves() == 0
    assert "role" in {each["kind"] for each in rolevault.Vault(passphrase=OTHER).entries()}


def test_a_reader_that_leaves_is_no_error(prod: Role, python: Python) -> None:
    """``rolevault status | head -0`` says nothing about it."""
    reader, writer = os.pipe()
    os.close(reader)
    process = python(BRIEF, "status", stdout=writer)
    os.close(writer)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completes_profiles(
    prod: Role, verb: Verb, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the shell's completion function asks for has the profile, and not ``base``, which
    has no role. The script for the shell can be had.
    """
    monkeypatch.setenv("_ROLEVAULT_COMPLETE", f"{shell}_source")
    assert "_ROLEVAULT_COMPLETE" in verb().stdout
    monkeypatch.setenv("_ROLEVAULT_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "rolevault exec ")
    monkeypatch.setenv("COMP_CWORD", "" if shell == "fish" else "2")
    found = verb().stdout
    assert "prod" in found
    assert "base" not in found


def test_lock_without_unlock(prod: Role, verb: Verb) -> None:
    """``lock`` needs no passphrase, and says that nothing was held."""
    ran = verb("lock")
    assert ran.stdout == "The vault was not unlocked.\n"


def test_unlock_says_what_a_bad_time_is(prod: Role, verb: Verb) -> None:
    """A time that is none is wrong usage."""
    refused = verb("unlock", "--for", "soon")
    assert refused.returncode == 2
    assert "--for soon" in refused.stderr


def test_unlocked_vault_asks_nobody(
    prod: Role, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between ``unlock`` and ``lock``, a verb needs neither a passphrase nor a person."""
    ran = verb("unlock", "--force")
    if "not available" in ran.stderr:
        pytest.skip(ran.stderr)
    assert ran.returncode == 0, ran.stderr
    monkeypatch.delenv("ROLEVAULT_PASSPHRASE")
    assert verb("status").returncode == 0
    assert verb("lock").stdout == "The vault is locked.\n"
    assert verb("status").returncode == 3
