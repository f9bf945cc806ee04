"""Each check, bound, lock and comparison of the source, broken once: a test must notice.

``python tests/mutations.py`` (``make mutants``) copies the package, changes one text in it, runs
the tests that concern the module, and names every change that they do not notice. The changes are
in ``mutations_*.py`` beside the tests of each room, and are the record of what was tried. A word on
the command line narrows them: ``python tests/mutations.py lock_files``. With ``--check`` nothing
runs: each text must be there, so that a change of the source cannot make a mutation void.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import rolevault

TESTS = Path(__file__).parent
PACKAGE = Path(rolevault.__file__).parent

#: Slow tests that notice nothing that others do not.
SLOW = "each_system_call or twenty_writers or see_a_replacement or ten_processes"


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


def outcome(tests: str, module: str, old: str, new: str) -> str:
    """The test that notices the change; or in capitals what is wrong, where none does."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        copy.chmod(0o755)  # tests of other users read the copy
        for name in ("docs", "README.md", "pyproject.toml"):
            source = TESTS.parent / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        shutil.copytree(TESTS, copy / "tests", ignore=ignored)
        # Beside the tests, which every process that they start has on its path.
        shutil.copytree(PACKAGE, copy / "tests" / "rolevault", ignore=ignored)
        file = copy / "tests" / "rolevault" / f"{module}.py"
        text = file.read_text()
        if old not in text:
            return "NOT THERE any more"
        file.write_text(text.replace(old, new, 1))
        options = ["-qx", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
        options += ["--timeout=30", f"--rootdir={copy}", "-k", f"not ({SLOW})"]
        files = [str(f) for name in tests.split() for f in (copy / "tests").glob(f"{name}.py")]
        environment = {"PYTHONPATH": str(copy / "tests"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *sorted(files)],
            cwd=copy,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return "NOT NOTICED"
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return failed[1]
    return f"COULD NOT RUN: {done.stdout[-500:]}"


def check() -> int:
    """Whether the text of each mutation is in its module."""
    void = 0
    for room in rooms():
        for module, changes in room.MUTATIONS.items():
            text = (PACKAGE / f"{module}.py").read_text()
            for old, _ in changes:
                if old not in text:
                    void += 1
                    print(f"{module}: not there any more: {old!r}")
    return bool(void)


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word == "--check":
        return check()
    found, survivors = list(mutants(word)), 0
    if not word:
        for tests, module in dict.fromkeys((each[0], each[1]) for each in found):
            if (said := outcome(tests, module, "\n", "\n")) != "NOT NOTICED":
                print(f"The tests of {module} fail as it is: {said}")
                return 2
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, said in zip(found, pool.map(lambda each: outcome(*each), found), strict=True):
            _, module, old, new = (re.sub(r"\s+", " ", text).strip() for text in mutant)
            survivors += said[:3].isupper()
            print(f"{module}: {old!r} -> {new!r}: {said}", flush=True)
    print(f"{len(found)} mutations, {survivors} not noticed")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
