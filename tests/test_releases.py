"""
The oldest releases that we support stand in four places, for four readers: pip,
make, and people in the README and docs/compatibility.md.
"""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: As pip has them from the wheel: ``filelock>=4.0``.
OLDEST = dict(
    re.findall(r"^([\w-]+)>=([\d.]+)$", "\n".join(requires("rolevault") or ()), re.MULTILINE)
)


def test_there_are_four() -> None:
    assert OLDEST.keys() == {"botocore", "boto3", "cryptography", "filelock"}


@pytest.mark.parametrize("name", ["botocore", "boto3", "cryptography", "filelock"])
def test_all_say_the_same(name: str) -> None:
    oldest = re.escape(OLDEST[name])
    assert re.search(rf"\b{name}=={oldest}(\.0)*\s", (ROOT / "Makefile").read_text())
    row = rf"^\| .*\b{name}\b.* \| {oldest}(\.0)* \|"
    assert re.search(row, (ROOT / "docs" / "compatibility.md").read_text(), re.MULTILINE)
    required = (ROOT / "README.md").read_text().partition("## Requirements")[2]
    short = re.escape(OLDEST[name].removesuffix(".0"))
    assert re.search(rf"\b{name}( and \w+)? {short}\b", required)
