"""
Processes that work on one vault at a time, for the tests that need many: each
function runs in a Python that a test started, forks what it needs from there,
and prints what it saw as one line of JSON.

A fork costs a few milliseconds where a fresh interpreter costs hundreds, and
that Python has one thread, so that forking it is safe.
"""

import contextlib
import fcntl
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rolevault import PassphraseRotatedError, Vault, WrongPassphraseError, rotate_passphrase
from rolevault._vault import envelope, kdf
from rolevault._vault import file as _files
from rolevault._vault.file import VaultFile

CHEAP = kdf.Costs(m=19456, t=1, p=1)


def be_patient_and_cheap() -> None:
    """In a process that a test has started: what it writes takes little time, and it waits
    for others on a busy machine. Never in the process of the tests, whose default costs are
    tested too.
    """
    kdf.DEFAULT_COSTS = CHEAP
    _files.LOCK_SECONDS = 60.0


def main(name: str, *arguments: str) -> None:
    """Run the function of that name, in a process that a test has started."""
    be_patient_and_cheap()
    globals()[name](*arguments)


FIRST = "correct horse battery staple"
SECOND = "twelve drummers drumming"

#: What reaches the kernel on the way of a write or a rotation.
SYSTEM_CALLS = (
    *((os, name) for name in ("open", "stat", "lstat", "fstat", "fsync", "close", "write")),
    *((os, name) for name in ("replace", "unlink", "mkdir", "ftruncate", "scandir", "listdir")),
    *((os, name) for name in ("fchmod", "fchown", "access", "readlink")),
    (fcntl, "flock"),
)


def fork(work: Callable[[], object]) -> int:
    """A child that does this work and ends, with status 0 if nothing went wrong."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  it would unwind into the test's own Python
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(child: int) -> int:
    """The child's exit status; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def system_calls(hook: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Call ``hook`` before each system call that Python code makes."""

    def hooked(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            hook(name, args)
            return real(*args, **kwargs)

        return call

    before = [(module, name, getattr(module, name)) for module, name in SYSTEM_CALLS]
    for module, name, real in before:
        setattr(module, name, hooked(name, real))
    try:
        yield
    finally:
        for module, name, real in before:
            setattr(module, name, real)


class Numbers:
    """A vault that says in two entries, written together, how often it was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leftovers = 0
        self.last = 0
        self.passphrase = FIRST
        self.put(Vault(path, FIRST))

    def put(self, vault: Vault) -> None:
        number = self.last + 1
        vault.update({"a": {"n": number}, "b": {"n": number, "padding": "x" * 20_000}})

    def count(self) -> None:
        """Write for ever."""
        vault = Vault(self.path, self.passphrase)
        while True:
            self.put(vault)
            self.last += 1

    def rotate(self) -> None:
        """Give it the other passphrase."""
        other = SECOND if self.passphrase == FIRST else FIRST
        rotate_passphrase(other, old=self.passphrase, vault_path=self.path)
        self.passphrase = other

    def check(self) -> None:
        """After a kill: it opens, whole, with one of the two; nobody holds its
        lock; and the next write leaves no temporary file.
        """
        self.leftovers += len(list(self.path.parent.glob(".vault.*")))
        try:
            entries = Vault(self.path, self.passphrase).copy()
        except WrongPassphraseError:
            self.passphrase = SECOND if self.passphrase == FIRST else FIRST
            entries = Vault(self.path, self.passphrase).copy()
        assert entries["a"]["n"] == entries["b"]["n"] >= self.last, (entries, self.last)
        self.last = entries["a"]["n"]
        self.put(Vault(self.path, self.passphrase))
        self.last += 1
        found = {each.name for each in self.path.parent.iterdir()}
        assert found == {"vault", "lock"}, found


def kill_writes(path: str, times: str, seed: str) -> None:
    """Kill a process that writes and writes, at a random moment."""
    numbers, chance = Numbers(Path(path)), random.Random(seed)
    for _ in range(int(times)):
        child = fork(numbers.count)
        time.sleep(chance.uniform(0, 0.012))
        os.kill(child, signal.SIGKILL)
        assert wait(child) == -signal.SIGKILL
        numbers.check()
    print(json.dumps({"kills": int(times), "leftovers": numbers.leftovers}))


def kill_rotations(path: str, times: str, seed: str) -> None:
    """Kill a process that rotates: two of three in the moments when it writes,
    the others at any.
    """
    numbers, chance = Numbers(Path(path)), random.Random(seed)
    reader, writer = os.pipe()
    rotated = 0

    def locking(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and str(args[0]).endswith("/lock"):
            os.write(writer, b".")

    def rotate() -> None:
        sys.addaudithook(locking)
        numbers.rotate()
        time.sleep(60)

    for turn in range(int(times)):
        before = numbers.passphrase
        child = fork(rotate)
        if turn % 3:
            select.select([reader], [], [], 30)
            time.sleep(chance.uniform(0, 0.004))
        else:
            time.sleep(chance.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        assert wait(child) == -signal.SIGKILL
        while select.select([reader], [], [], 0)[0]:
            os.read(reader, 100)
        numbers.check()
        rotated += numbers.passphrase != before
    print(json.dumps({"kills": int(times), "leftovers": numbers.leftovers, "rotated": rotated}))


def kill_each_call(path: str, what: str) -> None:
    """Kill the process before its first system call, its second, and so on, until
    it gets through.
    """
    numbers = Numbers(Path(path))
    vault = Vault(path, FIRST)
    calls: list[str] = []
    for kth in range(1, 1000):
        seen = 0

        def strike(name: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            seen += 1
            if seen == kth:
                os.kill(os.getpid(), signal.SIGKILL)

        def work() -> None:
            with system_calls(strike):
                numbers.put(vault) if what == "write" else numbers.rotate()

        vault = Vault(path, numbers.passphrase)
        len(vault)  # its key is held: the child derives none
        status = wait(fork(work))
        if status == 0:
            break
        assert status == -signal.SIGKILL, status
        calls.append(what)
        numbers.check()
    print(json.dumps({"kills": len(calls), "leftovers": numbers.leftovers}))


def create_killed(path: str) -> None:
    """Kill the process that makes a new vault before each of its system calls."""
    kills = 0
    for kth in range(1, 1000):
        place = Path(path) / str(kth) / "rolevault" / "vault"
        seen = 0

        def strike(name: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            seen += 1
            if seen == kth:
                os.kill(os.getpid(), signal.SIGKILL)

        def work() -> None:
            with system_calls(strike):
                Vault(place, FIRST)["a"] = {"n": 1}

        status = wait(fork(work))
        vault = Vault(place, FIRST)
        assert vault.copy() in ({}, {"a": {"n": 1}})
        vault["b"] = {"n": 2}
        assert {each.name for each in place.parent.iterdir()} == {"vault", "lock"}
        if status == 0:
            break
        assert status == -signal.SIGKILL, status
        kills += 1
    print(json.dumps({"kills": kills}))


def write_together(path: str, writers: str, entries: str) -> None:
    """Many writers, each its own entries, one rewrite an entry."""

    def write(name: int) -> None:
        vault = Vault(path, FIRST)
        for number in range(int(entries)):
            vault[f"{name}.{number}"] = {"n": number}

    len(Vault(path, FIRST))  # the children inherit its key
    children = [fork(lambda name=name: write(name)) for name in range(int(writers))]  # type: ignore[misc]
    print(json.dumps([wait(child) for child in children]))


def read_while_replaced(path: str, times: str) -> None:
    """Readers that always find a whole file, whatever is put in its place."""
    place = Path(path)
    vault = Vault(place, FIRST)
    blobs = []
    for number in range(2):
        vault["a"] = {"n": number, "padding": "x" * 10_000 * number}
        blobs.append(place.read_bytes())
    stop = place.with_name("stop")

    def read() -> None:
        file, reads = VaultFile(place), 0
        while not stop.exists():
            assert file.read(envelope.MAX_FILE) in blobs
            assert Vault(place, FIRST)["a"]["n"] in (0, 1)
            reads += 1
        assert reads

    readers = [fork(read) for _ in range(3)]
    file = VaultFile(place)
    for number in range(int(times)):
        file.replace(blobs[number % 2])
    stop.touch()
    print(json.dumps([wait(child) for child in readers]))


def rotate_among(path: str) -> None:
    """A rotation while ten others read and write: five whose source gives the new
    passphrase once there is one, five who know the old one only.
    """
    place = Path(path)
    current, stop = place.with_name("current"), place.with_name("stop")
    Vault(place, FIRST)["start"] = {"n": 0}
    current.write_text(FIRST)
    reader, writer = os.pipe()

    def work(name: int, source: str | Callable[[], str]) -> str:
        vault, number, rounds = Vault(place, source), 0, 0
        try:
            while not stop.exists():
                number += 1
                vault[f"{name}.{number % 5}"] = {"n": number}
                assert vault[f"{name}.{number % 5}"] == {"n": number}
                rounds += 1
                if rounds == 3:
                    os.write(writer, b".")
        except PassphraseRotatedError:
            return "rotated"
        return "on"

    def follow(name: int) -> None:
        assert work(name, current.read_text) == "on"

    def insist(name: int) -> None:
        assert work(name, FIRST) == "rotated"

    children = [fork(lambda n=n: follow(n)) for n in range(5)]  # type: ignore[misc]
    children += [fork(lambda n=n: insist(n)) for n in range(5, 10)]  # type: ignore[misc]
    ready = 0
    while ready < 10:
        ready += len(os.read(reader, 10))
    renewed = place.with_name("renewed")
    renewed.write_text(SECOND)
    renewed.replace(current)
    rotate_passphrase(SECOND, old=FIRST, vault_path=place)
    statuses = [wait(child) for child in children[5:]]
    stop.touch()
    print(json.dumps(statuses + [wait(child) for child in children[:5]]))


def fork_with_lock(path: str) -> None:
    """A child is forked while its parent holds the lock: it neither releases the
    lock nor keeps it.
    """
    import gc

    file = VaultFile(path)

    def is_free() -> bool:
        _files.LOCK_SECONDS = 0.0
        with contextlib.suppress(Exception), VaultFile(path).write_lock():
            return True
        return False

    def collect() -> None:
        gc.collect()

    told, tell = os.pipe()

    def linger() -> None:
        os.close(tell)
        os.read(told, 1)

    with file.write_lock():
        ended = wait(fork(collect))
        free_after_child = is_free()
        lingering = fork(linger)
    free_after_parent = is_free()
    os.close(tell)
    wait(lingering)
    facts = {"ended": ended, "free in the child's wake": free_after_child}
    print(json.dumps({**facts, "free after the parent": free_after_parent}))


def fork_with_key(path: str) -> None:
    """A child is forked while a thread of its parent is being asked for the
    passphrase: the child can ask for itself.
    """
    import threading
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point
    Vault(path, FIRST)["a"] = {"n": 1}
    from rolevault._vault import key_cache

    key_cache.data_keys._keys.clear()
    asked, answer = threading.Event(), threading.Event()

    def slow() -> str:
        asked.set()
        answer.wait(60)
        return FIRST

    thread = threading.Thread(target=lambda: len(Vault(path, slow)))
    thread.start()
    asked.wait(60)

    def read() -> None:
        signal.alarm(20)
        assert Vault(path, FIRST)["a"] == {"n": 1}

    status = wait(fork(read))
    answer.set()
    thread.join()
    print(json.dumps(status))


def hold_lock(path: str) -> None:
    """Hold the write lock until killed."""
    with VaultFile(path).write_lock():
        print(os.getpid(), flush=True)
        time.sleep(100)


@contextlib.contextmanager
def quick_place() -> Iterator[Path]:
    """A vault's path where many files can be synced quickly: in memory, if there is
    such a place.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made) / "rolevault" / "vault"


def run(python: Callable[..., Any], name: str, *arguments: object) -> Any:
    """What the function of that name prints in a Python of its own."""
    script = "import processes, sys; processes.main(*sys.argv[1:])"
    process = python(script, name, *map(str, arguments))
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert not errors
    return json.loads(output)
