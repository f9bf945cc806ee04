"""``rolevault exec --server``: a command and its children, whose credentials renew themselves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import time_machine

import rolevault
from conftest import Alice, Config, Python
from local_iam import Role
from local_sts import LocalSts
from pty_user import CTRL_BACKSLASH, CTRL_C, PtyUser

BRIEF = "from rolevault.cli.main import main; main()"
Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def prod(config: Config, alice: Alice, role_a: Role) -> Role:
    """The role of the profile ``prod``. Alice has given today's code in a script."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\n"
        f"mfa_serial={alice.serial}\nregion=eu-west-1\n"
        f"[profile me]\nsource_profile=base\nmfa_serial={alice.serial}\n"
    )
    rolevault.ensure(rolevault.session(profile="prod", mfa_callback=alice))
    return role_a


@pytest.fixture
def serve(python: Python, prod: Role) -> Serve:
    """Run a Python script under ``exec --server``, without a terminal."""

    def run(script: str, *options: str, before: str = "") -> "subprocess.Popen[str]":
        verb = ["exec", "--server", *options, "prod", "--", sys.executable, "-c", script]
        return python(f"{before}\n{BRIEF}", *verb, start_new_session=True)

    return run


@pytest.mark.parametrize("flag", ["--server", "--ecs-server"])
def test_command_has_the_endpoint_and_no_keys(python: Python, prod: Role, flag: str) -> None:
    """The variables lead to the endpoint. The exit code is the command's."""
    script = "import json, os; print(json.dumps(dict(os.environ))); raise SystemExit(7)"
    process = python(BRIEF, "exec", flag, "prod", "--", sys.executable, "-c", script)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (7, "")
    child = json.loads(output)
    assert child["AWS_CONTAINER_CREDENTIALS_FULL_URI"].startswith("http://127.0.0.1:")
    assert not Path(child["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).exists()
    assert "AWS_ACCESS_KEY_ID" not in child
    assert "ROLEVAULT_PASSPHRASE" not in child
    assert (child["AWS_VAULT"], child["ROLEVAULT_NESTED"]) == ("prod", "1")
    assert child["AWS_REGION"] == "eu-west-1"


def test_what_cannot_be_served_or_run(python: Python, prod: Role) -> None:
    """A missing command has a shell's exit code; a user's MFA session is not served."""
    for profile, command, code, text in (
        ("prod", "no-such-command", 127, "there is no command"),
        ("prod", "/", 126, "cannot be run"),
        ("me", "true", 1, "MFA session of a user"),
    ):
        process = python(BRIEF, "exec", "--server", profile, "--", command)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (code, "")
        assert text in errors
        assert "Traceback" not in errors


def test_signals_go_to_the_command(serve: Serve) -> None:
    """What is sent to ``exec`` reaches the command, which decides. The endpoint goes when the
    command has ended.
    """
    script = """
import os, signal, sys
def end(number, frame):
    os.write(1, b"%d\\n" % number)  # print() must not be interrupted by another print()
    if number == signal.SIGTERM:
        sys.exit(5)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, end)
print(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"], flush=True)
while True:
    signal.pause()
"""
    process = serve(script)
    assert process.stdout is not None
    token_file = Path(process.stdout.readline().strip())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        process.send_signal(number)
        assert process.stdout.readline() == f"{int(number)}\n"
        assert token_file.exists()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("15\n", "", 5)
    assert not token_file.parent.exists()


def test_death_by_a_signal_is_told_as_a_shell_tells_it(serve: Serve) -> None:
    """128 and the number of the signal."""
    process = serve("import os; os.kill(os.getpid(), 9)")
    process.communicate(timeout=60)
    assert process.returncode == 137


def test_ignored_signals_stay_ignored(serve: Serve) -> None:
    """nohup works: the command inherits what ``exec`` ignores."""
    before = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    script = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    assert serve(script, before=before).communicate(timeout=60) == ("True\n", "")


@pytest.mark.parametrize(("key", "name"), [(CTRL_C, "SIGINT"), (CTRL_BACKSLASH, "SIGQUIT")])
def test_keyboard_reaches_the_command_once(prod: Role, key: str, name: str) -> None:
    """The terminal sends Ctrl-C to both. ``exec`` stays, and does not send it a second time."""
    # Python counts in a pipe what reaches it; handlers would take two signals for one.
    script = f"""
import os, signal, time
told, tell = os.pipe()
os.set_blocking(tell, False)
signal.signal(signal.{name}, lambda *_: None)
signal.set_wakeup_fd(tell)
print("ready", flush=True)
for n in range(10):
    os.read(told, 1)
    time.sleep(0.05)
    print("got", n, flush=True)
os.set_blocking(told, False)
try:
    print("again", os.read(told, 100))
except BlockingIOError:
    print("no more")
"""
    argv = [sys.executable, "-c", BRIEF, "exec", "--server", "prod", "--"]
    with PtyUser([*argv, sys.executable, "-c", script], os.environ) as user:
        user.sees("ready")
        for number in range(10):
            user.type(key)
            user.sees(f"got {number}")
        user.sees("no more")
        assert user.leaves() == 0


#: Moves the clock of a process to the time that a file tells, and says so in another file.
FOLLOW = """
import pathlib, sys, threading, time, time_machine
told, seen = pathlib.Path(sys.argv.pop(1)), pathlib.Path(sys.argv.pop(1))
clock = time_machine.travel(float(told.read_text()), tick=True).start()
def follow():
    last = ""
    while True:
        if (text := told.read_text()) not in ("", last):
            clock.move_to(float(text))
            seen.write_text(text)
            last = text
        time.sleep(0.01)
threading.Thread(target=follow, daemon=True).start()
"""

#: One client of boto3, which signs at each time that stdin tells.
LONG = """
import sys, boto3, time_machine
clock = time_machine.travel(0.0, tick=True).start()
client = None
for line in sys.stdin:
    clock.move_to(float(line))
    client = client or boto3.client("sts")
    print(client.get_caller_identity()["Arn"], flush=True)
"""


def test_command_outlives_a_session(
    clock: time_machine.Traveller,
    python: Python,
    sts: LocalSts,
    prod: Role,
    alice: Alice,
    tmp_path: Path,
) -> None:
    """Over an hour of 900-second sessions, one boto3 client of a command signs as the role, and
    nobody is asked. The clocks of all processes move together.
    """
    told, seen = tmp_path / "told", tmp_path / "seen"
    told.write_text(str(time.time()))
    verb = ["exec", "--server", "-d", "15m", "prod", "--", sys.executable, "-c", LONG]
    files = [str(told), str(seen)]
    process = python(f"{FOLLOW}\n{BRIEF}", *files, *verb, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(13):
        text = str(time.time())
        told.write_text(text)
        while not (seen.exists() and seen.read_text() == text):
            assert process.poll() is None
            time.sleep(0.01)
        process.stdin.write(f"{text}\n")
        process.stdin.flush()
        assert ":assumed-role/Deploy/" in process.stdout.readline()
        clock.shift(300)
    output, errors = process.communicate(timeout=60)
    assert (output, errors, process.returncode) == ("", "", 0)
    assert len(alice.requests) == 1
    # The first by ``prod``, for an hour; the others every ten minutes, a third before the end.
    assert sts.count("AssumeRole") == 1 + 7
    assert (
        len({call.access_key_id for call in sts.calls if call.action == "GetCallerIdentity"}) == 7
    )
