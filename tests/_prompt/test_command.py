"""Commands that print a code or a passphrase: how they are run, what they inherit, and how they
are ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import rolevault
from conftest import Alice, Python, account_of
from local_sts import LocalSts, Role
from pty_user import CTRL_C, PtyUser
from rolevault import MfaFailedError
from rolevault._prompt import command as _command
from rolevault._prompt.command import CommandFailedError, run

if sys.platform == "win32":
    pytest.skip("the commands are a POSIX shell's", allow_module_level=True)


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def ended(pid: int) -> bool:
    """Whether a process has ended. A zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def comes_to_an_end(pid: int) -> bool:
    until = time.monotonic() + 20
    while not ended(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return ended(pid)


def test_command_signs_in(sts: LocalSts, alice: Alice, role_a: Role) -> None:
    """A list of strings as ``mfa_callback`` is a command that prints the code."""
    command = ["printf", "%s\n", alice.device.fresh_code()]
    session = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=command)
    assert account_of(session) == role_a.account


def test_failed_command_is_not_asked_again(
    sts: LocalSts, alice: Alice, role_a: Role, tmp_path: Path
) -> None:
    """The command would fail again. The error quotes the command's stderr, and no code is sent."""
    log = tmp_path / "log"
    command = sh(f"echo run >>{log}; echo 123456; echo 'no key is plugged in' >&2; exit 3")
    session = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=command)
    with pytest.raises(MfaFailedError, match="sh: it ended with status 3 and said: no key") as told:
        rolevault.ensure(session)
    assert str(told.value).endswith(" Run that command by hand to see what it needs.")
    assert log.read_text() == "run\n"
    assert sts.calls == []


@pytest.mark.parametrize("output", ["token 123456", "12345", "\\377"])
def test_command_that_prints_no_code_is_not_asked_again(
    sts: LocalSts, alice: Alice, role_a: Role, tmp_path: Path, output: str
) -> None:
    """The command would print the same again. The error names the command and not the device, and
    does not quote the output, which can be a secret.
    """
    log = tmp_path / "log"
    command = sh(f"echo run >>{log}; printf '{output}'")
    session = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=command)
    with pytest.raises(MfaFailedError, match="sh: it printed something other than six") as told:
        rolevault.ensure(session)
    assert str(told.value).endswith(" Run that command by hand to see what it needs.")
    assert not [each for each in (output, "device") if each in str(told.value)]
    assert told.value.__cause__ is told.value.__context__ is None
    assert log.read_text() == "run\n"
    assert sts.calls == []


def test_no_shell_reads_the_command() -> None:
    """Arguments reach the program as they are."""
    assert run(["printf", "%s", "$HOME `id` $(id); *"]) == b"$HOME `id` $(id); *"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "it is empty"),
        (["/nowhere/at-all"], "it cannot be started: No such file or directory"),
        (["/"], "it cannot be started: Permission denied"),
        (["a\0b"], "it cannot be started: embedded null byte"),
        (sh("exit 7"), "it ended with status 7"),
        (sh("echo one >&2; echo two >&2; exit 1"), "it ended with status 1 and said: one\ntwo"),
        (sh("kill -9 $$"), "it ended with SIGKILL"),
        (sh("kill -40 $$"), "it ended with status -40"),
        (sh("echo why >&2"), "it printed nothing and said: why"),
        (["yes"], "it printed too much"),
    ],
)
def test_what_went_wrong_is_said(argv: list[str], reason: str) -> None:
    """The error says why the command gave nothing, and quotes its stderr."""
    with pytest.raises(CommandFailedError) as caught:
        run(argv)
    assert str(caught.value) == reason


def test_the_limits_are_those_of_the_documents() -> None:
    """A command gets 30 s, and 64 KiB for what it prints."""
    assert _command.TIMEOUT_SECONDS == 30
    assert len(run(sh("head -c 65536 /dev/zero"))) == 65536
    with pytest.raises(CommandFailedError, match="it printed too much"):
        run(sh("head -c 65537 /dev/zero"))


def test_a_long_complaint_is_cut_and_never_blocks() -> None:
    """A command can write more to stderr than a pipe holds. The error quotes the end of it."""
    with pytest.raises(CommandFailedError) as caught:
        run(sh("yes noise | head -c 300000 >&2; echo the end >&2; exit 1"))
    assert str(caught.value).endswith("noise\nthe end")
    assert len(str(caught.value)) < 600


def test_children_inherit_no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command inherits the environment without the passphrase and without the place where the
    passphrase comes from. ``ROLEVAULT_NESTED`` tells it not to ask.
    """
    for name in ("", "_FILE", "_COMMAND", "_FUTURE"):
        monkeypatch.setenv(f"ROLEVAULT_PASSPHRASE{name}", "sentinel")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    environment = run(["env"]).decode().splitlines()
    assert "sentinel" not in str(environment)
    assert {"AWS_PROFILE=mine", "ROLEVAULT_NESTED=1"} <= set(environment)


def test_command_that_uses_rolevault_itself_is_refused(alice: Alice, role_a: Role) -> None:
    """The command would have to ask for the passphrase while its parent waits for the command."""
    script = "import rolevault; rolevault.Vault()['key'] = {}"
    command = [sys.executable, "-c", script]
    session = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=command)
    with pytest.raises(MfaFailedError, match="this process was started by rolevault itself"):
        rolevault.ensure(session)


def test_slow_command_is_ended_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After 30 s (here 0.5 s) the command is killed, and so are its children, which would go on
    reading the terminal.
    """
    monkeypatch.setattr(_command, "TIMEOUT_SECONDS", 0.5)
    pids = tmp_path / "pids"
    script = f"echo $$ >>{pids}; sh -c 'echo $$ >>{pids}; sleep 1000; true'; true"
    with pytest.raises(CommandFailedError, match=r"^it did not answer within 0\.5 s$"):
        run(sh(script))
    first, second = (int(line) for line in pids.read_text().split())
    assert comes_to_an_end(first)
    assert comes_to_an_end(second)


RESTARTS = """
import os, sys, time
def start():
    if os.fork() == 0:
        with open(sys.argv[1], "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1000)
        os._exit(0)
for _ in range(20):
    start()
while True:
    os.wait()
    start()
"""


def test_command_that_restarts_what_is_killed_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A supervisor must not start a process again while its processes are killed."""
    monkeypatch.setattr(_command, "TIMEOUT_SECONDS", 2.0)
    file = tmp_path / "pids"
    with pytest.raises(CommandFailedError, match="did not answer"):
        run([sys.executable, "-c", RESTARTS, str(file)])
    time.sleep(0.2)  # a new process would need some time to say so
    pids = [int(line) for line in file.read_text().split()]
    try:
        assert len(pids) == 20
        assert all(comes_to_an_end(pid) for pid in pids)
    finally:
        for pid in pids:
            if not ended(pid):
                os.kill(pid, signal.SIGKILL)


def test_what_a_command_leaves_to_its_child_is_read(tmp_path: Path) -> None:
    """The child prints when the command itself has ended."""
    assert run(sh("(sleep 0.3; printf late) 2>/dev/null &")) == b"late"


def test_a_long_complaint_is_not_kept() -> None:
    """A command that complains for ever fills no memory."""
    reads, writes = os.pipe()
    reader = _command._Reader(os.fdopen(reads, "rb", buffering=0))
    with os.fdopen(writes, "wb") as pipe:
        pipe.write(b"noise" * 100_000 + b"the end")
    reader.join(30)
    assert len(reader.data) == 64 * 1024
    assert reader.data.endswith(b"the end")


def test_daemon_of_a_command_is_not_waited_for(tmp_path: Path) -> None:
    """A command can leave an agent behind that keeps the pipes open. The agent lives on."""
    pid = tmp_path / "pid"
    try:
        assert run(sh(f"echo 123456; sleep 1000 & echo $! >{pid}")) == b"123456\n"
        assert not ended(int(pid.read_text()))
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


RUN = """
import os, sys
from rolevault._prompt import command as _command
try:
    print("printed", _command.run(sys.argv[1:]))
except _command.CommandFailedError as error:
    print("failed:", error)
"""


def test_command_may_ask_at_the_terminal(tmp_path: Path) -> None:
    """The command reads the terminal where our stdin is redirected, and its stderr is shown at
    once. The tool of a hardware key asks for a touch.
    """
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(RUN)
    command = "echo Touch your key. >&2; read touch; echo $touch"
    line = f"{sys.executable} {script} sh -c '{command}' </dev/null >{out} 2>&1"
    with PtyUser(sh(line)) as person:
        person.sees("Touch your key.\n")
        person.type("123456\r")
        assert person.leaves() == 0
    assert out.read_text() == "printed b'123456\\n'\n"


def test_command_of_a_background_job_gets_no_terminal(tmp_path: Path) -> None:
    """Reading the terminal would stop the command, and we would wait for it for 30 s."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    with PtyUser(["bash", "--norc", "--noprofile", "--noediting", "-i"]) as person:
        person.type(f"{sys.executable} {script} cat &\r")
        person.sees("failed: it printed nothing")


def test_ctrl_c_ends_the_command(tmp_path: Path) -> None:
    """Ctrl-C also ends a command that ignores SIGINT."""
    script, pid = tmp_path / "run.py", tmp_path / "pid"
    script.write_text(RUN)
    command = f"trap '' INT; echo $$ >{pid}; echo up >&2; sleep 1000"
    # The shell outlives the command: closing the terminal would end the command as well.
    line = f'trap : INT; {sys.executable} {script} sh -c "{command}"; echo over; read end'
    with PtyUser(sh(line.replace("$$", "\\$\\$"))) as person:
        person.sees("up\n")
        person.type(CTRL_C)
        assert "KeyboardInterrupt" in person.sees("over\n")
        assert comes_to_an_end(int(pid.read_text()))


INTERRUPTED = """
import os, signal, subprocess, sys
from rolevault._prompt import command as _command
class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        with open(sys.argv[1], "w") as file:
            file.write(str(self.pid))
        os.kill(os.getpid(), signal.SIGINT)
subprocess.Popen = Popen
try:
    _command.run(["sleep", "1000"])
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_while_the_command_starts_ends_it(tmp_path: Path, python: Python) -> None:
    """The command runs already, but ``Popen()`` has not returned its id yet."""
    pid = tmp_path / "pid"
    assert python(INTERRUPTED, str(pid)).communicate()[0] == "interrupted\n"
    assert comes_to_an_end(int(pid.read_text()))


def test_command_line_is_split_as_a_shell_splits_it() -> None:
    """``ROLEVAULT_PASSPHRASE_COMMAND`` is a command line. Quotes group words, and nothing is
    expanded.
    """
    assert _command.split("""pass 'my vault' "a b" $HOME\\ x""") == [
        "pass",
        "my vault",
        "a b",
        "$HOME x",
    ]
    with pytest.raises(CommandFailedError, match="cannot be read as a command line"):
        _command.split("pass 'open")
