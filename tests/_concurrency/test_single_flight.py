"""One sign-in at a time, over threads and processes. Only callers that need the same sign-in wait
for it.
"""

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import time_machine
from botocore.exceptions import ClientError

import rolevault
from conftest import Alice, Enter, Python, Typist, account_of, key_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import MfaRequest, SignInTimeoutError
from rolevault._concurrency import single_flight

#: Real processes, forked from one that has imported everything, so that they start together.
HERD = """
import os, sys, threading, time, traceback
import boto3, rolevault
from local_iam import totp
from rolevault._vault import kdf
serial, secret, asked, processes, threads, *roles = sys.argv[1:]
kdf.DEFAULT_COSTS = kdf.Costs(m=19456, t=1, p=1)

def code(request):
    with open(asked, "a") as file:
        file.write(f"{os.getpid()}\\n")
    return totp(secret, time.time())

def run():
    for role in roles:
        session = rolevault.session(
            role, mfa_serial=serial, mfa_callback=code, region_name="eu-west-1"
        )
        found, together = set(), threading.Barrier(int(threads))
        def sign():
            together.wait()
            found.add(session.get_credentials().get_frozen_credentials().access_key)
        started = [threading.Thread(target=sign) for _ in range(int(threads))]
        for each in started:
            each.start()
        for each in started:
            each.join()
        assert len(found) == 1, found
        session.client("sts").get_caller_identity()

ready, go = os.pipe()
pids = []
for _ in range(int(processes)):
    pids.append(os.fork())
    if pids[-1] == 0:
        os.close(go)
        os.read(ready, 1)
        try:
            run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
os.close(go)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in pids))
"""

#: Signs in with a callback that prints "asked" and gives no answer.
SLOW_TYPIST = """
import sys, time, rolevault
def code(request):
    print("asked", flush=True)
    time.sleep(100)
    return "000000"
role, serial = sys.argv[1:]
rolevault.ensure(rolevault.session(role, mfa_serial=serial, mfa_callback=code))
"""


@pytest.mark.parametrize("turn", range(2))
def test_a_thundering_herd(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    role_b: Role,
    python: Python,
    tmp_path: Path,
    turn: int,
) -> None:
    """20 processes of 16 threads each start with an empty vault: one prompt, one GetSessionToken,
    and one AssumeRole for each role.
    """
    asked = tmp_path / "asked"
    herd = python(
        HERD, alice.serial, alice.device.secret, str(asked), "20", "16", role_a.arn, role_b.arn
    )
    _, errors = herd.communicate()
    complaints = [each for each in errors.splitlines() if "Waiting for" not in each]
    assert (herd.returncode, complaints) == (0, [])
    assert len(asked.read_text().splitlines()) == 1
    assert sts.count("GetSessionToken") == 1
    assert sts.count("AssumeRole") == 2
    assert sts.count("GetCallerIdentity", "OK") == 40


def test_threads_that_wait_do_not_do_the_work_again(caplog: pytest.LogCaptureFixture) -> None:
    """All get what the one run returned, also where that is None."""
    caplog.set_level("INFO", "rolevault")
    flight, runs = single_flight.SingleFlight[None](), list[int]()

    def work() -> None:
        while len(caplog.records) < 7:
            time.sleep(0.01)
        runs.append(1)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: flight.run("key", "a test", work), range(8))) == [None] * 8
    assert runs == [1]


def test_sixteen_threads_that_call_boto3_first_thing(
    sts: LocalSts, alice: Alice, role_a: Role
) -> None:
    """There is no default session yet, and all threads make their client at once: one prompt."""
    rolevault.install(
        role_a.arn, mfa_serial=alice.serial, mfa_callback=alice, region_name="eu-west-1"
    )
    together = threading.Barrier(16)

    def work(_: int) -> str:
        together.wait()
        return account_of()

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(16))) == {role_a.account}
    assert len(alice.requests) == 1
    assert sts.count("GetSessionToken") == sts.count("AssumeRole") == 1


def test_nobody_waits_for_a_person_without_need(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    python: Python,
) -> None:
    """While a person types a code for one role, this process renews another role, another process
    enters a third one, and both read the vault.
    """
    long = sts.add_role("Long", trusts=[alice.user], mfa=True, max_session_duration=7200)
    new = sts.add_role("New", account="5" * 12, trusts=[alice.user], mfa=True)
    other = enter(role_a)
    first = key_of(other)
    typist = Typist(alice)
    waiting = enter(long, mfa_callback=typist, duration_seconds=7200)
    with ThreadPoolExecutor(1) as pool:
        try:
            typing = pool.submit(key_of, waiting)
            assert typist.asked.wait(30)
            clock.shift(3300)
            assert key_of(other) != first
            assert len(rolevault.Vault().entries()) > 0
            clock.move_to(time.time() - 3300)
            script = (
                "import rolevault, sys; from conftest import account_of; import time_machine\n"
                "with time_machine.travel(float(sys.argv[3]), tick=True):\n"
                "    session = rolevault.session(sys.argv[1], mfa_serial=sys.argv[2])\n"
                "    print(account_of(session))"
            )
            child = python(script, new.arn, alice.serial, str(time.time()), start_new_session=True)
            output, errors = child.communicate()
            assert (output, errors) == (f"{new.account}\n", "")
            assert not typing.done()
        finally:
            typist.may_answer.set()
        assert typing.result().startswith("ASIA")
    assert len(alice.requests) == 2


def _ask_and_hang(python: Python, role: Role, alice: Alice) -> "subprocess.Popen[str]":
    holder = python(SLOW_TYPIST, role.arn, alice.serial)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "asked\n"
    return holder


def test_a_waiter_says_for_whom_and_gives_up(
    alice: Alice,
    role_a: Role,
    role_b: Role,
    enter: Enter,
    python: Python,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A waiting process logs the pid of the process that signs in, and raises SignInTimeoutError
    in the end.
    """
    holder = _ask_and_hang(python, role_a, alice)
    monkeypatch.setattr(single_flight, "WAIT_SECONDS", 0.2)
    with pytest.raises(SignInTimeoutError, match=f"process {holder.pid}.*{role_b.account}"):
        account_of(enter(role_b))
    assert f"Waiting for process {holder.pid}, which is signing in" in caplog.text
    assert alice.requests == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_holder_that_ends_frees_the_next(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    python: Python,
    caplog: pytest.LogCaptureFixture,
    sent: signal.Signals,
) -> None:
    """The process that asks is killed or interrupted: the process that waited asks."""
    holder = _ask_and_hang(python, role_a, alice)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(key_of, enter(role_a))
        while "Waiting for process" not in caplog.text:
            time.sleep(0.01)
        assert alice.requests == []
        holder.send_signal(sent)
        assert waiting.result().startswith("ASIA")
    assert len(alice.requests) == 1
    assert sts.count("GetSessionToken") == 1


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_holder(
    alice: Alice, role_a: Role, enter: Enter, python: Python
) -> None:
    """A process forks while it asks, and is killed. Its child does not hold the lock."""
    script = SLOW_TYPIST.replace(
        "    time.sleep(100)",
        "    if os.fork() == 0:\n"
        "        os.close(1); os.close(2); time.sleep(20); os._exit(0)\n"
        "    print('forked', flush=True); time.sleep(100)",
    ).replace("import sys", "import os, sys")
    holder = python(script, role_a.arn, alice.serial)
    assert holder.stdout is not None
    assert [holder.stdout.readline() for _ in range(2)] == ["asked\n", "forked\n"]
    holder.kill()
    assert account_of(enter(role_a)) == role_a.account


def test_ctrl_c_in_one_thread_is_not_anothers(
    alice: Alice,
    role_a: Role,
    enter: Enter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ctrl-C ends the callback of one thread: this thread gets it, and the next thread asks."""
    asked, go = threading.Event(), threading.Event()

    def interrupted_once(request: MfaRequest) -> str:
        if not asked.is_set():
            asked.set()
            assert go.wait(60)
            raise KeyboardInterrupt
        return alice(request)

    session = enter(role_a, mfa_callback=interrupted_once)
    with caplog.at_level(logging.INFO, "rolevault"), ThreadPoolExecutor(2) as pool:
        first = pool.submit(key_of, session)
        assert asked.wait(30)
        second = pool.submit(key_of, session)
        while "Waiting for another thread" not in caplog.text:
            time.sleep(0.01)
        go.set()
        assert second.result().startswith("ASIA")
        with pytest.raises(KeyboardInterrupt):
            first.result()
    assert len(alice.requests) == 1


STORM = """
import signal, threading, time
from rolevault._concurrency.single_flight import SingleFlight
from rolevault._concurrency.fork_lock import ForkLock

class CtrlC(BaseException):
    pass

def handler(*_):
    raise CtrlC

signal.signal(signal.SIGALRM, handler)
lock, flights = ForkLock(), SingleFlight()

def work():
    for _ in range(100):
        with lock.lock:
            flights.run("a key", "a role", int)

def others():
    seen.append(lock.lock.acquire(timeout=5) and flights.run("a key", "a role", lambda: 7))
    lock.lock.release()

interrupts, end = 0, time.monotonic() + 60
while interrupts < 500 and time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00004)
        work()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except CtrlC:
        interrupts += 1
seen = []
thread = threading.Thread(target=others)
thread.start()
thread.join()
print(seen, interrupts > 50)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
def test_ctrl_c_at_any_step_holds_up_nobody(python: Python) -> None:
    """Wherever Ctrl-C arrives, no lock stays locked and no later call waits for the ended one."""
    assert python(STORM).communicate(timeout=120) == ("[7] True\n", "")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_another_threads_run_ends_neither_in_a_child_nor_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A forked child does the work itself: the thread that does it is the parent's. A thread of
    the parent waits, and gets SignInTimeoutError in the end.
    """
    flight: single_flight.SingleFlight[int] = single_flight.SingleFlight()
    begun, may_end = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert may_end.wait(60)
        return 7

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(flight.run, "key", "a role", work)
        try:
            assert begun.wait(30)
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(flight.run("key", "a role", lambda: 8))
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8
            monkeypatch.setattr(single_flight, "WAIT_SECONDS", 0.2)
            with pytest.raises(SignInTimeoutError, match="another thread"):
                flight.run("key", "a role", int)
        finally:
            may_end.set()
        assert running.result() == 7


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_work_that_forks_ends_in_the_child_too() -> None:
    """A callback forks, and the child goes on: it gets the result, and can call again."""
    flight: single_flight.SingleFlight[int] = single_flight.SingleFlight()
    parent, pids = os.getpid(), []

    def work() -> int:
        pids.append(os.fork())
        return 7

    try:
        results = [flight.run("key", "a role", work), flight.run("key", "a role", lambda: 8)]
    finally:
        if os.getpid() != parent:
            os._exit(0 if sys.exc_info()[0] is None and results == [7, 8] else 1)
    assert results == [7, 8]
    assert os.waitpid(pids[0], 0)[1] == 0


def test_nothing_of_a_run_is_kept() -> None:
    """The result of a run, or its error, can hold secrets."""
    flight: single_flight.SingleFlight[object] = single_flight.SingleFlight()

    class SecretError(Exception):
        pass

    def fail() -> object:
        raise SecretError

    result = weakref.ref(flight.run("one", "a role", SecretError))
    with pytest.raises(SecretError) as caught:
        flight.run("two", "a role", fail)
    error = weakref.ref(caught.value)
    del caught
    gc.collect()
    assert (result(), error()) == (None, None)


def test_waiting_threads_share_a_failure(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Threads that wait for a sign-in get its error and do not call STS. The next call tries
    again.
    """
    trusts, role_a.trusts = role_a.trusts, []
    typist = Typist(alice)
    session = enter(role_a, mfa_callback=typist)
    with caplog.at_level(logging.INFO, "rolevault"), ThreadPoolExecutor(8) as pool:
        first = pool.submit(key_of, session)
        assert typist.asked.wait(30)
        others = [pool.submit(key_of, session) for _ in range(7)]
        while caplog.text.count("Waiting for another thread") < 7:
            time.sleep(0.01)
        typist.may_answer.set()
        for each in (first, *others):
            with pytest.raises(ClientError, match="not authorized"):
                each.result()
    assert sts.count("AssumeRole") == len(alice.requests) == 1
    role_a.trusts = trusts
    assert account_of(session) == role_a.account


@pytest.mark.parametrize("options", [{}, {"mfa_session_seconds": 0}])
@pytest.mark.parametrize("refresh", [False, True])
def test_a_callback_that_needs_what_it_helps_with(
    alice: Alice,
    role_a: Role,
    enter: Enter,
    options: dict[str, int],
    refresh: bool,
) -> None:
    """A callback that uses the session which calls it gets an error and not a deadlock. The
    sign-in goes on.
    """
    errors: list[SignInTimeoutError] = []

    def circular(request: MfaRequest) -> str:
        try:
            key_of(session)
        except SignInTimeoutError as error:
            errors.append(error)
        return alice(request)

    session = enter(role_a, mfa_callback=circular, **options)
    rolevault.ensure(session, refresh=refresh)
    assert account_of(session) == role_a.account
    assert [error.seconds for error in errors] == [0]


HOT = """
import os, sys, rolevault
session = rolevault.session(sys.argv[1], mfa_serial=sys.argv[2], region_name="eu-west-1")
credentials = session.get_credentials()
credentials.get_frozen_credentials()
events = []
sys.addaudithook(lambda name, arguments: events.append(name))
os.getppid()
for _ in range(1000):
    credentials.get_frozen_credentials()
    credentials.access_key, credentials.secret_key, credentials.token
os.getppid()
print(events)
"""


def test_in_memory_no_file_is_opened_and_no_system_call_made(
    alice: Alice,
    role_a: Role,
    enter: Enter,
    python: Python,
    tmp_path: Path,
) -> None:
    """Keys in memory sign without an event of Python's audit and without a system call that
    strace sees.
    """
    account_of(enter(role_a))
    output, errors = python(HOT, role_a.arn, alice.serial).communicate()
    assert (output, errors) == ("[]\n", "")
    traced = tmp_path / "trace"
    try:
        python_ = [sys.executable, "-c", HOT, role_a.arn, alice.serial]
        subprocess.run(["strace", "-f", "-o", traced, *python_], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return  # no strace here, or no leave to trace; the audit stands
    lines = traced.read_text().splitlines()
    marks = [n for n, line in enumerate(lines) if "getppid(" in line]
    assert len(marks) == 2
    assert marks[1] - marks[0] == 1
