"""Asking at a real terminal: who can be asked, what the screen shows, and which modes the
terminal has afterwards.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from conftest import Python
from pty_user import CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_Z, PtyUser
from rolevault._prompt import person as prompts
from rolevault._prompt.prompt_errors import NobodyThereError

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

#: ask.py LABEL [hidden]: asks, and prints the answer or why there was none.
ASK = """
import sys
from rolevault._prompt import person
from rolevault._prompt.prompt_errors import NobodyThereError
try:
    print("answer", repr(person.ask(label=sys.argv[1], hidden="hidden" in sys.argv)))
except NobodyThereError as error:
    print("nobody:", error)
"""


@pytest.fixture
def ask(tmp_path: Path) -> str:
    """The command line that asks, without its arguments."""
    script = tmp_path / "ask.py"
    script.write_text(ASK)
    return f"{sys.executable} {script}"


def at_terminal(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> PtyUser:
    return PtyUser([sys.executable, "-c", script, *arguments], {**os.environ, **(env or {})})


def in_shell(command: str) -> PtyUser:
    """Run the command in a shell without job control: all processes are in the foreground."""
    return PtyUser(["sh", "-c", command])


def interactive_shell() -> PtyUser:
    """Start a shell with job control, as people use it."""
    person = PtyUser(["bash", "--norc", "--noprofile", "--noediting", "-i"])
    person.type("PS1='ready> '\r")
    person.sees("ready> '")
    person.sees("ready> ")
    return person


def test_prompt_reaches_the_terminal_though_every_stream_is_redirected(
    ask: str, tmp_path: Path
) -> None:
    """The prompt and its answer go through ``/dev/tty``: pipes and files see neither."""
    with in_shell(f"cd {tmp_path}; {ask} 'Code' </dev/null >out 2>err") as person:
        person.sees("Code: ")
        person.type("123456\r")
        assert person.leaves() == 0
    assert (tmp_path / "out").read_text() == "answer '123456'\n"
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.parametrize(
    ("how", "screen"),
    [("hidden", "Name: \nanswer 'one two '\n"), ("shown", "Name: one two \nanswer 'one two '\n")],
)
def test_passphrases_are_hidden_and_codes_are_shown(how: str, screen: str) -> None:
    """A passphrase is hidden and a code is shown. The line ends on the screen in both cases, and
    the answer keeps its spaces and loses its newline.
    """
    with at_terminal(ASK, "Name", how) as person:
        before = person.modes
        person.sees("Name: ")
        person.type("one two \r")
        assert person.leaves() == 0
        assert person.screen == screen
        assert person.modes == before


@pytest.mark.parametrize("end", [CTRL_C, CTRL_D, CTRL_BACKSLASH, "SIGTERM", "SIGHUP"])
def test_terminal_shows_what_is_typed_again_however_a_hidden_prompt_ends(end: str) -> None:
    """The prompt is interrupted, closed, quit or terminated. The terminal gets its modes back,
    and the half passphrase that was typed is discarded.
    """
    script = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))" + ASK
    with at_terminal(script, "Passphrase", "hidden") as person:
        before = person.modes
        person.sees("Passphrase: ")
        assert not person.echo
        if end.startswith("SIG"):
            person.type("half")
            time.sleep(0.5)  # the kernel hands it over in its own time
            os.kill(person.process.pid, getattr(signal, end))
            assert person.leaves() == -getattr(signal, end)
        else:
            person.type(end)
            status = {CTRL_C: -signal.SIGINT, CTRL_D: 0, CTRL_BACKSLASH: -signal.SIGQUIT}[end]
            assert person.leaves() == status
        assert person.modes == before
        assert "half" not in person.screen
    if end == CTRL_D:
        assert person.screen.endswith("nobody: the prompt was closed\n")


@pytest.mark.parametrize("how", ["hidden", "shown"])
def test_prompt_of_a_thread_ends_with_ctrl_c(how: str) -> None:
    """Ctrl-C also ends the prompts that wait for the terminal. The main thread lives on, as at
    Python's ``>>>``, and gets what is typed next.
    """
    script = (
        "import threading\n"
        "together = threading.Barrier(3)\n"
        "def work():\n"
        "    together.wait()\n"
        + "".join(f"    {line}\n" for line in ASK.strip().splitlines())
        + "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "try:\n"
        "    for each in threads: each.start()\n"
        "    threading.Event().wait()\n"
        "except KeyboardInterrupt:\n"
        "    for each in threads: each.join()\n"
        "    print('read', repr(input('>>> ')))\n"
    )
    with at_terminal(script, "Passphrase", how) as person:
        before = person.modes
        person.sees("Passphrase: ")
        time.sleep(0.5)  # the others ask as well
        person.type("half" + CTRL_C)
        assert person.sees(">>> ").count("it was interrupted") == 3
        assert person.modes == before
        person.type("next\r")
        assert person.leaves() == 0
        assert "read 'next'\n" in person.screen


def test_terminal_is_not_left_silent_by_a_thread_that_dies_in_its_prompt(tmp_path: Path) -> None:
    """The interpreter does not wait for a daemon thread that asks, so the modes are restored at
    exit.
    """
    script = """
import pathlib, sys, threading, time
from rolevault._prompt import person
threading.Thread(target=person.ask, kwargs={"label": "Passphrase", "hidden": True},
                 daemon=True).start()
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
"""
    may_end = tmp_path / "may-end"
    with at_terminal(script, str(may_end)) as person:
        before = person.modes
        person.sees("Passphrase: ")
        assert not person.echo
        may_end.touch()
        assert person.leaves() == 0
        assert person.modes == before


def test_a_signal_handler_of_the_application_stays_in_place() -> None:
    """A prompt handles only signals that the application does not handle, and only until the
    prompt ends.
    """
    script = """
import signal, sys
from rolevault._prompt import person
signal.signal(signal.SIGTERM, lambda *_: sys.exit("the application's own end"))
try:
    person.ask(label="Passphrase", hidden=True)
finally:
    print(*(signal.getsignal(each).name for each in (signal.SIGHUP, signal.SIGTSTP)))
"""
    with at_terminal(script) as person:
        person.sees("Passphrase: ")
        person.process.terminate()
        assert person.leaves() == 1
        assert person.screen.endswith("SIG_DFL SIG_DFL\nthe application's own end\n")
        assert person.echo


def test_passphrase_stays_hidden_when_a_stopped_job_goes_on(ask: str) -> None:
    """After Ctrl-Z the shell sets its own modes. After ``fg`` the prompt is shown again, and
    hides what is typed.
    """
    with interactive_shell() as person:
        person.type(f"{ask} 'Pass''phrase' hidden\r")
        person.sees("Passphrase: ")
        person.type(CTRL_Z)
        person.sees("Stopped")
        person.sees("ready> ")
        assert person.echo
        person.type("fg\r")
        person.sees("Passphrase: ")
        person.type(CTRL_Z)
        person.sees("ready> ")
        assert person.echo
        person.type("fg\r")
        person.sees("Passphrase: ")
        assert not person.echo
        person.type("swordfish\r")
        person.sees("answer 'swordfish'")
        person.sees("ready> ")
        assert person.echo
        assert person.screen.count("swordfish") == 1


def test_prompt_of_a_job_that_is_put_into_the_background_fails_at_once(ask: str) -> None:
    """After Ctrl-Z and ``bg``, reading would stop the job again, with the locks that it holds.
    The prompt ends with an error.
    """
    with interactive_shell() as person:
        person.type(f"{ask} 'Pass''phrase' hidden\r")
        person.sees("Passphrase: ")
        person.type(CTRL_Z)
        person.sees("ready> ")
        person.type("bg\r")
        person.sees("nobody: this is a background job of its terminal")
        person.type("wait; jobs; echo 'no ''more'\r")
        assert "Stopped" not in person.sees("no more")
        assert person.echo


def test_background_job_does_not_ask(ask: str) -> None:
    """A background job of a real shell gets the error at once. It is not stopped, and does not
    touch the terminal.
    """
    with interactive_shell() as person:
        person.type(f"{ask} 'Pass''phrase' hidden &\r")
        person.sees("nobody: this is a background job of its terminal")
        person.type("wait; jobs; echo 'no ''more'\r")
        assert "Stopped" not in person.sees("no more")
        assert "Passphrase: " not in person.screen


def test_background_job_does_not_wait_for_the_prompt_of_another(ask: str, tmp_path: Path) -> None:
    """A background job could not ask after the other prompt either."""
    up = tmp_path / "up"
    with interactive_shell() as person:
        person.type(f"(until test -e {up}; do sleep 0.05; done; {ask} 'Two') & {ask} 'On''e'\r")
        person.sees("One: ")
        up.touch()
        person.sees("nobody: this is a background job of its terminal\n")
        person.type("1\r")
        person.sees("answer '1'")


def test_process_without_a_terminal_does_not_ask(python: Python) -> None:
    """A process in a session of its own has no terminal: cron, systemd, setsid."""
    process = python(ASK, "Code: ", start_new_session=True)
    assert process.communicate(timeout=60) == ("nobody: there is no terminal\n", "")


def test_process_that_rolevault_started_does_not_ask() -> None:
    """The parent of such a process (``ROLEVAULT_NESTED``) holds the terminal and waits for the
    process.
    """
    with at_terminal(ASK, "Code", env={"ROLEVAULT_NESTED": "1"}) as person:
        person.leaves()
        assert person.screen == "nobody: this process was started by rolevault itself\n"


def test_prompt_ends_when_the_terminal_is_closed(tmp_path: Path) -> None:
    """A program that outlives its terminal (nohup) learns that nobody is there."""
    script = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{ASK}"
    out = tmp_path / "out"
    command = f"exec {sys.executable} -c '{script.replace(chr(39), chr(34))}' Code >{out} 2>&1"
    with in_shell(command) as person:
        person.sees("Code: ")
        person.hang_up()
        assert person.process.wait(60) == 0
    assert out.read_text() in (
        "nobody: the prompt was closed\n",
        "nobody: the terminal was closed\n",
    )


def test_enter_ends_the_line_on_a_terminal_that_was_left_raw(ask: str) -> None:
    """Another program may have crashed in raw mode. The prompt works, and the modes are raw again
    afterwards.
    """
    with in_shell(f"stty raw -echo; {ask} 'Code'; stty -a") as person:
        person.sees("Code: ")
        person.type("123456\r")
        person.sees("123456\n")
        person.sees("answer '123456'")
        person.leaves()
        assert "-icanon" in person.screen


def test_a_line_can_be_edited_on_a_terminal_that_was_left_raw(ask: str) -> None:
    """Backspace removes a character, and Ctrl-C interrupts."""
    with in_shell(f"stty raw -echo; {ask} 'One'; {ask} 'Two'") as person:
        person.sees("One: ")
        person.type("129\x7f3\r")
        person.sees("answer '123'")
        person.sees("Two: ")
        person.type(CTRL_C)
        person.sees("KeyboardInterrupt")


#: shell.py PROGRAM FILE: starts a job that asks, as a shell does. When the file is there, takes the
#: foreground back, sets modes of its own, ends the job, and says whether its modes stayed.
SHELL = """
import os, pathlib, signal, sys, termios, time
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], "Code", "hidden"])
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
os.tcsetpgrp(0, os.getpgrp())
modes = termios.tcgetattr(0)
modes[3] = modes[3] & ~termios.ECHOE | termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, modes)
os.kill(job, signal.SIGTERM)
os.waitpid(job, 0)
print("as they were" if termios.tcgetattr(0) == modes else "changed")
"""


def test_modes_that_the_shell_has_set_meanwhile_stay(tmp_path: Path) -> None:
    """The end of a job in the background does not touch the modes of the terminal."""
    asked = tmp_path / "asked"
    with at_terminal(SHELL, ASK, str(asked)) as person:
        person.sees("Code: ")
        asked.touch()
        assert person.leaves() == 0
        assert person.screen.endswith("as they were\n")


def test_a_prompt_leaves_no_signal_blocked() -> None:
    """A signal that stays blocked in the thread would not end the script any more."""
    script = ASK + "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with at_terminal(script, "Code") as person:
        person.sees("Code: ")
        person.type("1\r")
        person.sees("set()\n")


def test_a_background_job_leaves_no_file_open(ask: str) -> None:
    """Python warns of a file that nobody closed, with ``-X dev``."""
    with interactive_shell() as person:
        person.type(f"{ask.replace(' ', ' -X dev ')} 'Code' &\r")
        person.sees("nobody: this is a background job of its terminal")
        person.type("wait; echo 'no ''more'\r")
        assert "ResourceWarning" not in person.sees("no more")


def test_prompt_cannot_steer_the_terminal() -> None:
    """A path or an answer of STS reaches the screen without control characters, which could
    overwrite the screen or type commands.
    """
    evil = "its name\nPassphrase: \x1b]0;evil\x07\r\u202e"
    script = (
        "import sys\n"
        "from rolevault._prompt import person\n"
        "person.ask(sys.argv[1], 'a second line', label=sys.argv[1], hidden=False)"
    )
    with at_terminal(script, evil) as person:
        shown = "its name?Passphrase: ?]0;evil???"
        person.sees(f"{shown}\na second line\n{shown}: ")
        person.type("\r")
        person.leaves()


def test_what_was_typed_before_a_prompt_does_not_answer_it(tmp_path: Path) -> None:
    """A person may type the next command while a script still runs."""
    wait = (
        "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    )
    may_ask = tmp_path / "may-ask"
    with at_terminal(wait + ASK, "Code", str(may_ask)) as person:
        person.type("early\r")
        person.sees("early\n")
        may_ask.touch()
        person.sees("Code: ")
        person.type("late\r")
        person.sees("answer 'late'\n")


def test_half_an_answer_does_not_reach_the_shell(ask: str) -> None:
    """The process is ended while a person types a passphrase: the shell must not run the first
    half of it.
    """
    job = f"sh -c 'echo pid $$.; exec {ask} Passphrase hidden'"
    with in_shell(f'{job}; echo ready; read line; echo "got $line."') as person:
        person.sees("pid ")
        pid = int(person.sees("."))
        person.sees("Passphrase: ")
        person.type("half")
        time.sleep(0.5)  # the kernel hands it over in its own time
        os.kill(pid, signal.SIGTERM)
        person.sees("ready\n")
        person.type("next\r")
        person.sees("got next.\n")


def test_job_that_is_put_into_the_background_while_it_waits_does_not_ask(tmp_path: Path) -> None:
    """The job waits for another prompt when it is put into the background. Afterwards it must not
    write to the terminal.
    """
    script = tmp_path / "ask.py"
    script.write_text(ASK.replace("try:", "print('up', flush=True)\ntry:"))
    with interactive_shell() as person:
        device = os.open(person.name, os.O_RDONLY | os.O_NOCTTY)
        try:
            fcntl.flock(device, fcntl.LOCK_EX)
            person.type(f"{sys.executable} {script} Pass''phrase hidden\r")
            person.sees("up\n")
            time.sleep(0.5)  # now it waits for the lock
            person.type(CTRL_Z)
            person.sees("Stopped")
            person.sees("ready> ")
            person.type("bg\r")
            person.sees("ready> ")
        finally:
            os.close(device)
        person.sees("nobody: this is a background job of its terminal\n")
        assert "Passphrase: " not in person.screen
        assert person.echo


def test_two_processes_do_not_ask_at_once(ask: str, tmp_path: Path) -> None:
    """The second process asks when the first one has its answer, although all streams of both are
    redirected.
    """
    files = [tmp_path / name for name in ("1", "2")]
    jobs = " ".join(f"{ask} 'Code {f.name}' </dev/null >{f} 2>&1 &" for f in files)
    with in_shell(f"{jobs} wait") as person:
        person.sees("Code ")
        # Without the lock, the other process would ask within this second.
        time.sleep(1)
        person.type("first\r")
        person.sees("first\nCode ")
        person.type("second\r")
        person.leaves()
        assert person.screen.count("Code ") == 2
    answers = sorted(f.read_text() for f in files)
    assert answers == ["answer 'first'\n", "answer 'second'\n"]


def test_two_threads_do_not_ask_at_once() -> None:
    """The second thread asks when the first one has its answer, and each thread gets its own
    answer.
    """
    script = """
from concurrent.futures import ThreadPoolExecutor
from rolevault._prompt import person
with ThreadPoolExecutor() as pool:
    print(*pool.map(lambda n: person.ask(label=f"Code {n}", hidden=False), (1, 2)))
"""
    with at_terminal(script) as person:
        person.sees("Code ")
        time.sleep(0.2)
        person.type("one\r")
        person.sees("one\nCode ")
        person.type("two\r")
        person.leaves()
        assert person.screen.splitlines()[-1] in ("one two", "two one")


def test_waiting_for_another_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers the prompt of another thread: an error, in place of a second prompt."""
    monkeypatch.setattr(prompts, "PATIENCE_SECONDS", 0.1)
    asked, answered = threading.Event(), threading.Event()

    def hold() -> None:
        with prompts._prompt_lock.lock:
            asked.set()
            answered.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    asked.wait()
    try:
        with pytest.raises(NobodyThereError, match="another prompt of this process"):
            prompts.ask(label="Code", hidden=False)
    finally:
        answered.set()
        holder.join()


def test_waiting_for_the_terminal_ends(ask: str, tmp_path: Path) -> None:
    """A process that waits too long for another prompt gets an error. Its prompt is never shown."""
    impatient = tmp_path / "impatient.py"
    impatient.write_text(ASK.replace("try:", "person.terminal.PATIENCE_SECONDS = 0.1\ntry:"))
    up = tmp_path / "up"
    second = f"until test -e {up}; do sleep 0.05; done; {sys.executable} {impatient} 'Code 2'"
    with in_shell(f"{ask} 'Code 1' & {second}; wait") as person:
        person.sees("Code 1: ")
        up.touch()
        person.sees("nobody: another process is asking at this terminal\n")
        person.type("1\r")
        person.sees("answer '1'")
        assert "Code 2" not in person.screen


def test_a_child_forked_during_a_prompt_does_not_hold_the_terminal(tmp_path: Path) -> None:
    """The child lives on, and the next prompt of the parent comes."""
    script = """
import os, pathlib, sys, threading, time, warnings
from rolevault._prompt import person
warnings.simplefilter("ignore")  # that forking with threads is dangerous is the point
def fork_when_told():
    while not pathlib.Path(sys.argv[1]).exists():
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        time.sleep(100)
        os._exit(0)
    os.write(1, b"forked %d." % child)
threading.Thread(target=fork_when_told).start()
for label in ("First", "Second"):
    print(person.ask(label=label, hidden=False))
"""
    told = tmp_path / "told"
    with at_terminal(script, str(told)) as person:
        person.sees("First: ")
        told.touch()
        person.sees("forked ")
        child = int(person.sees("."))
        person.type("1\r")
        try:
            person.sees("Second: ")
            person.type("2\r")
            assert person.leaves() == 0
        finally:
            os.kill(child, signal.SIGKILL)
