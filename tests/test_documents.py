"""Documents and pictures that are made from the code say what the code says."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import rolevault
from rolevault._roles.role import Options

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "rolevault"


def test_the_picture_of_the_rooms_is_up_to_date() -> None:
    """``python docs/draw_architecture.py`` would change nothing."""
    path = ROOT / "docs" / "draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PICTURE.read_text(encoding="utf-8") == module.draw()


def test_the_files_that_documents_name_exist() -> None:
    """A document for readers of the source names no file that was moved."""
    for document in ("docs/architecture.md", "CONTRIBUTING.md", "src/rolevault/__init__.py"):
        text = (ROOT / document).read_text(encoding="utf-8")
        named = set(re.findall(r"`(_\w+/\w+\.py|_\w+\.py)`", text))
        assert named, document
        assert not [name for name in named if not (SOURCE / name).is_file()], document


def test_each_room_names_all_its_files() -> None:
    """The paragraph at the head of a room is the way into it."""
    for room in SOURCE.glob("_*/__init__.py"):
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
