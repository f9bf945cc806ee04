"""
Killed at any moment, the vault opens with the old or the new passphrase, whole:
random moments, and before each single system call.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Python
from processes import quick_place, run


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_place() as path:
        yield path


@pytest.mark.parametrize("seed", [1, 2])
def test_writer_killed_at_random_moments(python: Python, place: Path, seed: int) -> None:
    """kill -9 while writing: whole, lock free, the next write clears up (check 18)."""
    for more in range(3):  # on a busy machine the moments fall elsewhere
        seen = run(python, "kill_writes", place, 215, seed + 10 * more)
        assert seen["kills"] == 215
        if seen["leftovers"]:
            break
    assert seen["leftovers"] > 0, "no kill came between the temporary file and its place"


def test_rotation_killed_at_random_moments(python: Python, place: Path) -> None:
    """kill -9 while rotating: it opens with the old or the new passphrase, whole."""
    seen = run(python, "kill_rotations", place, 70, 3)
    assert seen["kills"] == 70
    assert 0 < seen["rotated"] < 70, "the kills came all before or all after the replacement"


def test_writer_killed_before_each_system_call(python: Python, place: Path) -> None:
    """Whichever system call of a write is never made: whole (check 18)."""
    seen = run(python, "kill_each_call", place, "write")
    assert seen["kills"] > 20
    assert seen["leftovers"] > 2


def test_rotation_killed_before_each_system_call(python: Python, place: Path) -> None:
    """Whichever system call of a rotation is never made: old or new, whole (check 18)."""
    seen = run(python, "kill_each_call", place, "rotate")
    assert seen["kills"] > 20
    assert seen["leftovers"] > 2


def test_first_write_killed_before_each_system_call(python: Python, place: Path) -> None:
    """A vault whose making was interrupted is made by the next write, with nothing
    to clean up by hand.
    """
    assert run(python, "create_killed", place.parent)["kills"] > 20
