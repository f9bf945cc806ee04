"""Documents and pictures that are made from the code say what the code says."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import rolevault
from conftest import Alice, Config
from local_iam import Role
from rolevault._roles.role import Options
from rolevault._vault import kernel_keyring

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "rolevault"


def script(name: str) -> ModuleType:
    """A script of ``docs``, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_the_rooms_is_up_to_date() -> None:
    """``python docs/draw_architecture.py`` would change nothing."""
    module = script("draw_architecture")
    assert module.PICTURE.read_text(encoding="utf-8") == module.draw()


@pytest.mark.slow
def test_the_tour_is_up_to_date() -> None:
    """``python docs/make_tour.py`` would change nothing that a reader sees."""
    tour = script("make_tour")
    if not list((ROOT / ".wheel").glob("*.whl")):
        pytest.skip("no wheel was built here")
    if (refusal := kernel_keyring.refusal()) is not None:
        pytest.skip(str(refusal))
    shown = tour.screens()
    assert tour.tour(shown) == tour.TOUR.read_text(encoding="utf-8")
    assert texts(tour.picture(shown)) == texts(tour.PICTURE.read_text(encoding="utf-8"))


def texts(picture: str) -> list[str]:
    """What a reader sees: another release of rich may draw it in another way."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


def test_the_files_that_documents_name_exist() -> None:
    """A document for readers of the source names no file that was moved."""
    for document in ("docs/architecture.md", "CONTRIBUTING.md", "src/rolevault/__init__.py"):
        text = (ROOT / document).read_text(encoding="utf-8")
        named = set(re.findall(r"`(_\w+/\w+\.py|_\w+\.py)`", text))
        assert named, document
        assert not [name for name in named if not (SOURCE / name).is_file()], document


def test_each_room_names_all_its_files() -> None:
    """The paragraph at the head of a room is the way into it."""
    for room in SOURCE.glob("*/__init__.py"):
        files = {path.stem for path in room.parent.glob("*.py")} - {"__init__"}
        assert files == files & set(re.findall(r"``(\w+)``", room.read_text())), room


def test_the_path_of_a_request_is_short() -> None:
    """Eight files at the most, in short modules, lead from ``install()`` to a signed request."""
    text = (SOURCE / "__init__.py").read_text(encoding="utf-8")
    path = re.findall(r"^\d+\. ``([\w/]+\.py)``", text, re.MULTILINE)
    assert 5 <= len(path) <= 8
    for each in SOURCE.rglob("*.py"):
        assert len(each.read_text(encoding="utf-8").splitlines()) <= 300, each


def test_the_users_script_has_every_public_name_and_option() -> None:
    """What type checkers are not shown, they do not check: see ``tests/typing_user.py``."""
    tree = ast.parse((ROOT / "tests" / "typing_user.py").read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "rolevault"
        for each in node.names
    }
    assert set(rolevault.__all__) <= names
    given = {
        keyword.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "rolevault.install"
        for keyword in node.keywords
    }
    options = {*Options.__annotations__, *inspect.signature(rolevault.install).parameters}
    assert options - {"role_arn", "options"} <= given


def now_snippets() -> list[str]:
    """The blocks of ``docs/migrating.md`` that say what to write now."""
    text = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(# Now.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("snippet", now_snippets())
def test_what_to_write_now_works(
    snippet: str,
    config: Config,
    alice: Alice,
    role_a: Role,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each snippet enters the role, without a code where the day has had one."""
    config(
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
    )
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "base")
    rolevault.ensure(rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice))
    exec(snippet, {"ROLE": role_a.arn, "MFA": alice.serial})  # noqa: S102  it is our own text
    assert capsys.readouterr().out == f"{role_a.account}\n"
    assert len(alice.requests) == 1


def test_each_way_has_a_snippet() -> None:
    """Each section of ``docs/migrating.md`` says what to write now."""
    text = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    assert len(now_snippets()) == len(re.findall(r"^## ", text, re.MULTILINE)) == 7
