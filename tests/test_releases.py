"""The oldest releases that we support stand in four places, for four readers: pip,
make, and people in the README and docs/compatibility.md.
"""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NAMES = ["aiobotocore", "boto3", "botocore", "click", "cryptography", "filelock", "rich"]
#: As pip has them from the wheel: ``filelock>=4.0``, and for an extra what it is.
OLDEST = dict(
    re.findall(
        r"^([\w-]+)>=([\d.]+)(?:;.*)?$", "\n".join(requires("rolevault") or ()), re.MULTILINE
    )
)


def test_all_are_here() -> None:
    assert sorted(OLDEST) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_all_say_the_same(name: str) -> None:
    oldest = re.escape(OLDEST[name])
    assert re.search(rf"\b{name}=={oldest}(\.0)*\s", (ROOT / "Makefile").read_text())
    row = rf"^\| .*\b{name}\b.* \| {oldest}(\.0)* \|"
    assert re.search(row, (ROOT / "docs" / "compatibility.md").read_text(), re.MULTILINE)
    required = (ROOT / "README.md").read_text().partition("## Requirements")[2]
    short = re.escape(OLDEST[name].removesuffix(".0"))
    assert re.search(rf"\b{name}( and \w+)? {short}\b", required)
