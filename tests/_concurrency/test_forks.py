"""Forks: no lock of the parent's threads holds up the child."""

import ast
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import rolevault
from conftest import WARNINGS, Alice, Enter, Options, Python, Typist, account_of, key_of
from local_iam import Role
from local_sts import LocalSts
from rolevault._concurrency import fork_lock

FAMILY = """
import multiprocessing, os, sys, warnings
import boto3, rolevault
warnings.filterwarnings("ignore", "This process")  # Python 3.12 warns of any fork with threads
def use(role, serial):
    session = rolevault.session(role, mfa_serial=serial, region_name="eu-west-1")
    print(session.client("sts").get_caller_identity()["Account"], flush=True)
def use_installed():
    print(boto3.client("sts").get_caller_identity()["Account"], flush=True)
if __name__ == "__main__":
    rolevault.install(sys.argv[1], mfa_serial=sys.argv[2], region_name="eu-west-1")
    use_installed()
    context = multiprocessing.get_context(sys.argv[3])
    for target, arguments in (use, sys.argv[1:3]), (use_installed, ()):
        if target is use_installed and sys.argv[3] != "fork":
            continue
        child = context.Process(target=target, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == 0
    use_installed()
"""


@pytest.mark.parametrize(("method", "uses"), [("fork", 4), ("spawn", 3), ("forkserver", 3)])
def test_children_keep_working(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    tmp_path: Path,
    method: str,
    uses: int,
) -> None:
    """A forked or spawned child signs, and so does its parent. Nobody is asked, and STS is not
    called again.
    """
    account_of(enter(role_a))
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    # A spawned child imports this file again.
    command = [sys.executable, str(script), role_a.arn, alice.serial, method]
    environment = {**os.environ, "PYTHONWARNINGS": WARNINGS}
    family = subprocess.run(
        command, capture_output=True, text=True, start_new_session=True, env=environment
    )
    output, errors = family.stdout, family.stderr
    assert (output.split(), errors) == ([role_a.account] * uses, "")
    assert sts.count("AssumeRole") == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_lock_crosses_a_fork(alice: Alice, role_a: Role, enter: Enter) -> None:
    """A thread of the parent signs in during the fork. Its locks do not hold up the child."""
    valid = enter(role_a)
    key_of(valid)
    typist = Typist(alice)
    cold = enter(role_a, mfa_callback=typist, external_id="another-entry")
    with ThreadPoolExecutor(1) as pool:
        signing = pool.submit(
            key_of,
            enter(role_a, mfa_callback=typist, mfa_session_seconds=0, external_id="yet-another"),
        )
        assert typist.asked.wait(30)
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(20)
                # From memory, from the vault, and from STS through the MFA session.
                assert key_of(valid) == key_of(enter(role_a))
                assert key_of(cold)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        typist.may_answer.set()
        assert signing.result()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_held_lock_is_free_in_a_forked_child() -> None:
    """The child does not have the thread that holds the lock."""
    lock, held, done = fork_lock.ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock.lock:
            held.set()
            assert done.wait(60)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        assert held.wait(30)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            with lock.lock:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        done.set()


FORK = """
import os, sys, threading
import boto3, rolevault
from rolevault._boto import install, installation
from conftest import account_of

arn, serial = sys.argv[1:]
session = rolevault.install(arn, mfa_serial=serial)
held, done = threading.Event(), threading.Event()

def hold():
    # Like a thread that builds a chain or resolves a source.
    provider = session._session.get_component("credential_provider").providers[0]
    with install._install_lock.lock, installation._state_lock.lock, provider._load_lock.lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if pid == 0:
    rolevault.install(arn, mfa_serial=serial, all_sessions=True)
    os._exit(0 if account_of() == "111122223333" else 1)
done.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_child_can_install_again(options: Options, alice: Alice, python: Python) -> None:
    """A thread of the parent holds the locks of the installation during the fork."""
    rolevault.ensure(rolevault.session(**options))
    # Python 3.12 and later warn of a fork while there are other threads: the case here.
    script = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + FORK
    output, errors = python(script, options["role_arn"], alice.serial).communicate(timeout=60)
    assert output.strip() == "0", errors


LATE = """
import importlib.abc, os, signal, sys, threading, time, warnings
import boto3, rolevault

warnings.filterwarnings("ignore", "This process")  # Python 3.12 warns of any fork with threads
late, arn, serial = sys.argv[1:]
importing = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == late:
            importing.set()
            time.sleep(0.5)

def use():
    return boto3.client("sts", region_name="eu-west-1").get_caller_identity()["Account"]

sys.meta_path.insert(0, Slow())
rolevault.install(arn, mfa_serial=serial)
thread = threading.Thread(target=use)
thread.start()
importing.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    os._exit(0 if use() == "111122223333" else 1)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("late", ["rolevault._boto.provider", "rolevault._vault.envelope"])
def test_a_child_of_a_process_that_imports(
    options: Options, alice: Alice, python: Python, late: str
) -> None:
    """The child can import the module that a thread of the parent is importing during the fork."""
    rolevault.ensure(rolevault.session(**options))
    arguments = (late, options["role_arn"], alice.serial)
    assert python(LATE, *arguments).communicate(timeout=60) == ("0\n", "")


FIRST_USE = """
import importlib.abc, os, signal, sys, threading, time, warnings
import rolevault

warnings.filterwarnings("ignore", "This process")  # Python 3.12 warns of any fork with threads
importing = threading.Event()

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "rolevault._boto.takeover":
            importing.set()
            time.sleep(0.5)

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: rolevault.install)
thread.start()
importing.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    os._exit(rolevault.is_installed())
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_child_of_a_process_that_uses_a_name_first(python: Python) -> None:
    """The child can use the public name that a thread of the parent is importing."""
    assert python(FIRST_USE).communicate(timeout=60) == ("0\n", "")


HOOKS = """
import os, sys
registered, register = [], os.register_at_fork
def note(**hooks):
    registered.append(sys._getframe(1).f_globals["__name__"])
    register(**hooks)
os.register_at_fork = note
import rolevault
print([name for name in registered if name.startswith(("logging", "rolevault"))])
"""


def test_a_fork_takes_the_import_lock_before_the_lock_of_logging(python: Python) -> None:
    """A module that logs while it is imported takes them in that order. The last hook that was
    registered runs first.
    """
    expected = "['logging', 'rolevault._concurrency.fork_lock']\n"
    assert python(HOOKS).communicate(timeout=60) == (expected, "")


DERIVES = """
import os, signal, threading, time, warnings
from rolevault._vault.kdf import DEFAULT_COSTS, Kdf

warnings.filterwarnings("ignore", "This process")
kdf = Kdf(DEFAULT_COSTS, bytes(16))
for delay in (0.001, 0.02, 0.04, 0.06):
    thread = threading.Thread(target=kdf.key, args=("x",))
    thread.start()
    time.sleep(delay)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        kdf.key("x")
        os._exit(0)
    thread.join()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_child_of_a_process_that_derives_a_key(python: Python) -> None:
    """The child can derive a key, although OpenSSL's threads are the parent's."""
    assert python(DERIVES).communicate(timeout=120) == ("0\n" * 4, "")


def test_late_imports_are_held() -> None:
    """Each import inside a function is made under the lock that a fork waits for. The command
    line is a process of its own, in which nothing forks while it imports.
    """
    package = Path(rolevault.__file__).parent
    for path in set(package.rglob("*.py")) - set(package.glob("cli/*.py")):
        tree = ast.parse(path.read_text())
        held = {
            statement
            for block in ast.walk(tree)
            if isinstance(block, ast.With)
            and ast.unparse(block.items[0].context_expr) == "IMPORT_LOCK"
            for statement in block.body
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        assert node in held, f"{path.name}:{node.lineno}"
