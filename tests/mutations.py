"""Each check, bound, lock and comparison of the source, broken once: a test must notice.

``python tests/mutations.py`` (``make mutants``) changes one text in a copy of the package, runs the
tests that concern the module, and names every change that they do not notice. The changes are in
``mutations_*.py`` beside the tests of each room, and are the record of what was tried. A word on
the command line narrows them: ``python tests/mutations.py lock_files``. With ``--check`` nothing
runs: each text must be in its module, so that a change of the source cannot make a mutation void,
and the new text must be Python.
"""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from types import ModuleType

import rolevault

TESTS = Path(__file__).parent
PACKAGE = Path(rolevault.__file__).parent

#: Slow tests that notice nothing that others do not.
SLOW = "each_system_call or twenty_writers or see_a_replacement or ten_processes"


#: How long the tests of one mutation run, in seconds. A change that keeps a process from ending is
#: noticed by that.
TIMEOUT_SECONDS = 120.0


def rooms() -> Iterator[ModuleType]:
    """The files with the mutations of each room."""
    for path in sorted(TESTS.glob("*/mutations_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def mutants(word: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Tests, module, old text and new text of each mutation that a test can notice."""
    for room in rooms():
        for module, changes in room.MUTATIONS.items():
            for old, new in changes:
                if (word in module or word in old) and old not in room.EQUIVALENT:
                    yield room.RUNS[module], module, old, new


def copy_of_the_project(folder: Path) -> None:
    """Copy what the tests need. The package goes beside the tests, which every process that they
    start has on its path.
    """
    folder.chmod(0o755)  # tests of other users read the copy
    for name in ("docs", "README.md", "CONTRIBUTING.md", "pyproject.toml"):
        source = TESTS.parent / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    shutil.copytree(TESTS, folder / "tests", ignore=ignored)
    shutil.copytree(PACKAGE, folder / "tests" / "rolevault", ignore=ignored)


def outcome(folder: Path, tests: str, module: str, old: str, new: str) -> str:
    """The test that notices the change; or in capitals what is wrong, where none does."""
    file = folder / "tests" / "rolevault" / f"{module}.py"
    text = file.read_text()
    if old not in text:
        return "NOT THERE any more"
    options = ["-qx", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    options += ["--timeout=30", f"--rootdir={folder}", "-k", f"not ({SLOW})"]
    # In the order of the list: the file that most likely notices comes first.
    files = [
        str(file)
        for name in tests.split()
        for file in sorted((folder / "tests").glob(f"{name}.py"))
    ]
    try:
        write(file, text.replace(old, new, 1))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder / "tests"), "PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "the tests did not end"
    finally:
        write(file, text)
    if done.returncode == 0:
        return "NOT NOTICED"
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+::\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return failed[1]
    return f"COULD NOT RUN: {done.stdout[-500:]}"


def write(file: Path, text: str) -> None:
    """Write a module, and forget its compiled form: a change in the same second that keeps the
    size of the file would not be seen.
    """
    file.write_text(text)
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()


def outcomes(found: list[tuple[str, str, str, str]]) -> Iterator[str]:
    """The outcome of each mutation, in their order; each processor has a copy of the project."""
    with ExitStack() as stack:
        folders: Queue[Path] = Queue()
        for _ in range(os.cpu_count() or 1):
            folder = Path(stack.enter_context(TemporaryDirectory()))
            copy_of_the_project(folder)
            folders.put(folder)

        def in_a_copy(mutant: tuple[str, str, str, str]) -> str:
            folder = folders.get()
            try:
                return outcome(folder, *mutant)
            finally:
                folders.put(folder)

        with ThreadPoolExecutor(folders.qsize()) as pool:
            yield from pool.map(in_a_copy, found)


def check() -> int:
    """Whether each mutation can be made: its text is in its module, and the new text can be
    compiled. Every test would notice that a module cannot be imported.
    """
    faults = 0
    for room in rooms():
        for module, changes in room.MUTATIONS.items():
            text = (PACKAGE / f"{module}.py").read_text()
            for old, new in changes:
                fault = "" if old in text else "not there any more"
                try:
                    ast.parse(text.replace(old, new, 1))
                except SyntaxError:
                    fault = "no Python"
                if fault:
                    faults += 1
                    print(f"{module}: {fault}: {old!r} -> {new!r}")
    return bool(faults)


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word == "--check":
        return check()
    found, survivors = list(mutants(word)), 0
    if not word:
        as_they_are = list(dict.fromkeys((each[0], each[1], "\n", "\n") for each in found))
        for each, said in zip(as_they_are, outcomes(as_they_are), strict=True):
            if said != "NOT NOTICED":
                print(f"The tests of {each[1]} fail as it is: {said}")
                return 2
    for mutant, said in zip(found, outcomes(found), strict=True):
        _, module, old, new = (re.sub(r"\s+", " ", text).strip() for text in mutant)
        survivors += said[:3].isupper()
        print(f"{module}: {old!r} -> {new!r}: {said}", flush=True)
    print(f"{len(found)} mutations, {survivors} not noticed")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
