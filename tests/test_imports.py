"""What a script pays for having rolevault around: nothing that it does not use."""

import ast
import graphlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import Python

#: Each costs milliseconds at every start, or does something that most runs never do.
COLD = ("cryptography", "filelock", "click", "getpass", "subprocess", "keyring", "multiprocessing")

ARN = "arn:aws:iam::111122223333:role/Deploy"


def run(python: Python, script: str) -> Any:
    output, errors = python(script).communicate(timeout=60)
    assert errors == ""
    return json.loads(output)


MODULES = "import sys, json; {}; print(json.dumps(sorted(sys.modules)))"


def test_import_alone_imports_no_boto3(python: Python) -> None:
    """A program that names no public name of rolevault waits for nothing."""
    modules = set(run(python, MODULES.format("import rolevault")))
    assert {name for name in modules if name.startswith("rolevault")} == {
        "rolevault",
        "rolevault._concurrency",
        "rolevault._concurrency.fork_lock",
        "rolevault._version",
    }
    assert not {name for name in modules if name.split(".")[0] in ("boto3", "botocore", *COLD)}


def test_each_public_name_is_there_at_first_use(python: Python) -> None:
    """From 16 threads at once, and as one object; also the submodule of the errors, and nothing
    that is not public.
    """
    first_use = (
        "import rolevault, threading; start = threading.Barrier(16); got = []\n"
        "def use():\n"
        "    start.wait(); got.append([getattr(rolevault, name) for name in rolevault.__all__])\n"
        "threads = [threading.Thread(target=use) for _ in range(16)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "same = all(a is b for each in got for a, b in zip(got[0], each))\n"
        "print(json.dumps([len(got), same]))"
    )
    assert run(python, f"import json; {first_use}") == [16, True]
    errors = "import rolevault, json; print(json.dumps(rolevault.errors.__name__))"
    assert run(python, errors) == "rolevault.errors"
    absent = (
        "import rolevault, json; print(json.dumps([hasattr(rolevault, 'Role'), dir(rolevault)]))"
    )
    has_role, names = run(python, absent)
    import rolevault

    assert not has_role
    assert set(names) >= set(rolevault.__all__)


def test_install_takes_no_cold_path(python: Python) -> None:
    """The first use of ``install`` imports nothing of the vault, the locks or the terminal
    that ``import boto3`` has not imported.
    """
    theirs = set(run(python, MODULES.format("import boto3")))
    more = set(run(python, MODULES.format("import rolevault; rolevault.install"))) - theirs
    assert "rolevault._boto.install" in more
    assert not {name for name in more if name.split(".")[0] in COLD}
    # The whole of the difference, so that a new one is a decision.
    others = {name for name in more if not name.startswith("rolevault")}
    assert others <= {"dataclasses"}
    assert not more & {"rolevault._boto.provider", "rolevault._vault.vault"}


#: What is imported before the watch begins: files of modules are not what is watched for.
USED = "rolevault; rolevault.install"
WATCH = """
import sys, json; import {module}
seen = []
WATCHED = ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.posix_spawn",
           "os.fork", "os.exec", "os.mkdir")
def watch(event, arguments):
    if event in WATCHED:
        seen.append([event, str(arguments[0])])
sys.addaudithook(watch)
{call}
print(json.dumps(seen))
"""


@pytest.mark.parametrize("profile", [False, True])
def test_install_opens_what_a_session_opens(
    python: Python, empty_home: Path, profile: bool
) -> None:
    """``install()`` opens no file beyond those that ``boto3.Session()`` itself opens,
    none of them more often, and starts, connects and makes nothing.
    """
    directory = empty_home / ".aws"
    directory.mkdir()
    (directory / "config").write_text(
        f"[profile prod]\nrole_arn={ARN}\nsource_profile=base\nmfa_serial=GAHT12345678\n"
        "[profile base]\naws_access_key_id=AKIAEXAMPLE\naws_secret_access_key=x\n"
    )
    (directory / "credentials").write_text("[other]\naws_access_key_id=AKIAOTHER\n")
    options = "profile='prod'" if profile else repr(ARN)
    session = "boto3.Session(profile_name='prod')" if profile else "boto3.Session()"
    theirs = run(python, WATCH.format(module="boto3", call=session))
    call = f"rolevault.install({options})"
    ours = run(python, WATCH.format(module=USED, call=call))
    assert [event for event, _ in ours if event != "open"] == []
    assert any(name.endswith(f".aws{os.sep}config") for _, name in theirs)
    for each in ours:
        assert ours.count(each) <= theirs.count(each), each


def test_the_vault_is_first_touched_by_a_signature(python: Python, empty_home: Path) -> None:
    """Making a client of the role opens no vault, and asks nobody."""
    call = f"import boto3; rolevault.install({ARN!r}); boto3.client('sts', region_name='eu-west-1')"
    seen = run(python, WATCH.format(module=USED, call=call))
    assert not [name for _, name in seen if ".aws/rolevault" in name]
    assert {event for event, _ in seen} == {"open"}
    assert not (empty_home / ".aws").exists()


def test_modules_import_in_one_direction() -> None:
    """Whoever reads one module needs those below it and no other; also for what is
    imported late, or for types alone.
    """
    import rolevault

    package = Path(rolevault.__file__).parent
    sources = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts): path
        for path in package.rglob("*.py")
    }
    below: dict[str, set[str]] = {name: set() for name in sources}
    for name, path in sources.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("rolevault"):
                names = {f"{node.module}.{each.name}" for each in node.names}
                below[name] |= names & sources.keys() or {str(node.module)}
    assert below["rolevault._boto.install"] > {"rolevault._boto.installation"}
    assert below["rolevault._boto.provider"] > {"rolevault._signin.role_chain"}
    graphlib.TopologicalSorter(below).prepare()


def test_the_public_names() -> None:
    """What is importable from ``rolevault``; a new name is a promise."""
    import rolevault

    assert sorted(rolevault.__all__) == rolevault.__all__
    assert {name for name in rolevault.__all__ if not name.endswith("Error")} == {
        "MfaRequest",
        "Vault",
        "endpoint",
        "ensure",
        "install",
        "is_installed",
        "lock",
        "rotate_passphrase",
        "session",
        "uninstall",
        "unlock",
    }
    for name in rolevault.__all__:
        assert getattr(rolevault, name).__doc__


def test_help_names_every_option() -> None:
    """``help(rolevault.install)`` shows ``**options`` as one, and explains each."""
    import rolevault
    from rolevault._roles.role import Options

    for option in ("role_arn", "session", "all_sessions", *Options.__annotations__):
        assert re.search(rf":param [\w, ]*\b{option}\b", rolevault.install.__doc__ or ""), option
