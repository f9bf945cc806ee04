"""The names that boto3 and botocore do not promise: each is listed, stands in one
module, and is still there in the release that runs.
"""

import ast
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import boto3
import botocore.credentials
import botocore.session
import pytest
from botocore.credentials import Credentials, RefreshableCredentials

import rolevault
from rolevault import _botocore_private

SOURCE = Path(rolevault.__file__).parent
DOCUMENT = Path(__file__).parents[1] / "docs" / "compatibility.md"

#: What ``_private`` touches, and how to see that it is there.
NAMES: dict[str, Callable[[], object]] = {
    "boto3.Session._session": lambda: boto3.Session()._session,
    "botocore.session.Session._credentials": lambda: vars(botocore.session.Session())[
        "_credentials"
    ],
    "botocore.session.Session._components": lambda: vars(botocore.session.Session())["_components"],
    "botocore.session.ComponentLocator._components": lambda: vars(
        botocore.session.ComponentLocator()
    )["_components"],
    "botocore.session.ComponentLocator._deferred": lambda: vars(
        botocore.session.ComponentLocator()
    )["_deferred"],
    "botocore.session.Session._last_client_region_used": lambda: vars(botocore.session.Session())[
        "_last_client_region_used"
    ],
    "botocore.credentials.ProfileProviderBuilder": lambda: (
        botocore.credentials.ProfileProviderBuilder
    ),
    "botocore.credentials.RefreshableCredentials._expiry_time": lambda: vars(
        RefreshableCredentials("", "", "", datetime.now(timezone.utc), dict, "x")
    )["_expiry_time"],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_there(name: str) -> None:
    """When a release of boto3 or botocore drops it, this test's id says which."""
    try:
        NAMES[name]()
    except (AttributeError, KeyError):
        pytest.fail(f"{name} is gone: see rolevault._botocore_private")


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_documented(name: str) -> None:
    """``docs/compatibility.md`` lists it with its reason."""
    assert f"`{name}`" in DOCUMENT.read_text()


LISTED = {name.rpartition(".")[2] for name in NAMES}


def test_no_other_module_touches_private_names() -> None:
    """Attributes with an underscore are our own objects' everywhere but in
    ``_private``, and so are names in a text; nothing private is imported from botocore.
    """
    sources = {path.name: path.read_text() for path in SOURCE.rglob("*.py")}
    touched = {name: found for name, text in sources.items() if (found := foreign(text))}
    assert touched.pop("_botocore_private.py") == LISTED
    assert touched == {}


@pytest.mark.parametrize(
    "line",
    [
        "session._credentials",
        "print(self._expiry_time)",
        "getattr(session, '_components')",
        "botocore.credentials.ProfileProviderBuilder(session)",
        "from botocore.credentials import ProfileProviderBuilder",
        "from botocore.session import _made_up",
        "resolver._made_up",
    ],
)
def test_what_touches_a_private_name_is_seen(line: str) -> None:
    """Also where an object of ours has an attribute of the same name."""
    assert foreign(f"class Ours:\n  def __init__(self):\n    self._credentials = 1\n{line}")


def foreign(text: str) -> set[str]:
    """The private names that a module touches and that are not its own."""
    nodes = list(ast.walk(ast.parse(text)))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)} | {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_self(node)
    }
    imported = {
        name.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and re.match(r"boto", node.module or "")
        for name in node.names
    }
    attributes = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        # A method of another object of the same module.
        and not (node.attr in own and (of_self(node) or node.attr not in LISTED))
    }
    texts = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    touched = {name for name in imported | attributes if re.match(r"_[a-z]", name)}
    return touched | ((imported | attributes | texts) & LISTED)


def of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def test_our_view_is_botocores() -> None:
    """Each function of ``_private`` does what its name says, seen from outside."""
    session = boto3.Session()
    inner = _botocore_private.botocore_session(session)
    assert isinstance(inner, botocore.session.Session)
    assert _botocore_private.resolved(inner) is None
    chain, make = _botocore_private.credential_provider(inner)
    assert chain is None
    assert make is not None
    built = inner.get_component("credential_provider")
    assert _botocore_private.credential_provider(inner) == (built, None)
    credentials = Credentials("a", "b")
    _botocore_private.set_resolved(inner, credentials)
    assert session.get_credentials() is credentials
    assert _botocore_private.last_region(inner) is None
    session.client("sts", region_name="eu-west-3")
    assert _botocore_private.last_region(inner) == "eu-west-3"


def test_a_profiles_chain_is_botocores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source profile is asked in botocore's own order, and nothing but the profile:
    neither the environment nor the machine answers for it.
    """
    chain = _botocore_private.profile_chain(botocore.session.Session(), "x", None)
    methods = [each.METHOD for each in chain.providers]
    assert methods[:3] == ["assume-role-with-web-identity", "sso", "shared-credentials-file"]
    assert {"custom-process", "config-file"} < set(methods)
    assert not {"env", "assume-role", "container-role", "iam-role"} & set(methods)


def test_others_see_the_expiry() -> None:
    """``_expiry_time`` is where other tools look."""
    end = datetime(2030, 1, 1, tzinfo=timezone.utc)
    credentials = RefreshableCredentials("", "", "", datetime.now(timezone.utc), dict, "x")
    _botocore_private.set_expiry(credentials, end)
    assert vars(credentials)["_expiry_time"] == end
