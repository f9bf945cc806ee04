"""
The vault as a mapping.
"""

import copy
import os
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import time_machine

from conftest import OTHER, PASSPHRASE
from rolevault import Vault, rotate_passphrase
from rolevault._vault.envelope import Contents, new_header, write


def generation(vault: Vault) -> int:
    contents = vault._contents()
    assert contents is not None
    return contents.generation


def test_is_a_mutable_mapping(vault: Vault) -> None:
    """A Vault does what a dict does, key by key."""
    one, two, three = {"n": 1}, {"n": [2, {"x": None}]}, {"é": "\ud800 ok", "f": 1.5}
    assert not vault
    assert vault == {}
    assert "a" not in vault
    assert vault.get("a") is None
    vault["a"] = one
    vault.update({"b": two}, c=three)
    assert vault == {"a": one, "b": two, "c": three}
    assert (len(vault), list(vault), list(vault.keys())) == (3, ["a", "b", "c"], ["a", "b", "c"])
    assert list(vault.values()) == [one, two, three]
    assert list(vault.items()) == [("a", one), ("b", two), ("c", three)]
    assert vault.setdefault("a", two) == one
    assert vault.setdefault("d", two) == two == vault["d"]
    assert vault.pop("d") == two
    assert vault.pop("d", None) is None
    key, value = vault.popitem()
    assert key not in vault
    vault[key] = value
    del vault["b"]
    assert vault == {"a": one, "c": three} == vault.copy() == dict(vault)
    for _ in range(2):
        vault.clear()
        assert vault == {}


def test_missing_keys_raise_as_in_a_dict(path: Path) -> None:
    """KeyError; where there is no vault none is made, and nobody asked for it."""
    vault = Vault(path, lambda: pytest.fail("asked"))
    for act in (
        lambda: vault["a"],
        lambda: vault.pop("a"),
        lambda: vault.__delitem__("a"),
        lambda: vault.popitem(),
    ):
        with pytest.raises(KeyError):
            act()
    assert vault.pop("a", 7) == 7
    assert not path.parent.exists()


def test_nothing_is_touched_before_the_first_access(path: Path) -> None:
    """Making a Vault opens, asks and creates nothing."""

    def passphrase() -> str:
        raise AssertionError("asked")

    Vault(path, passphrase)
    assert not path.parent.exists()


def nested(value: Any, times: int) -> Any:
    for _ in range(times):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [("a", 1)],
        {"x": b"sentinel-secret"},
        {"x": float("nan")},
        {"x": float("inf")},
        {"sentinel-secret": {1, 2}},
        nested({"sentinel-secret": 1}, 100_000),
    ],
)
def test_refuses_what_json_cannot_hold(vault: Vault, value: Any) -> None:
    """ValueError, which does not carry the value; the file is as it was."""
    vault["a"] = {"n": 1}
    before = vault.file.path.read_bytes()
    for act in (
        lambda: vault.__setitem__("b", value),
        lambda: vault.update(b=value),
        lambda: vault.setdefault("b", value),
    ):
        with pytest.raises(ValueError, match="dicts that JSON can hold") as caught:
            act()
        assert caught.value.__context__ is None
        assert "sentinel" not in str(caught.value)
    assert vault.file.path.read_bytes() == before


def test_refuses_keys_that_are_no_text(vault: Vault) -> None:
    """TypeError: JSON would make one key of 1 and "1"."""
    with pytest.raises(TypeError):
        vault[1] = {"n": 1}  # type: ignore[index]
    with pytest.raises(TypeError):
        vault.change({1: None})  # type: ignore[dict-item]


def test_refuses_a_cycle_and_what_is_nested_too_deep(vault: Vault) -> None:
    """What one process writes, every other can read; the file is as it was."""
    vault["a"] = {"n": 1}
    before = vault.file.path.read_bytes()
    cycle: dict[str, Any] = {}
    cycle["x"] = cycle
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"x": deep}
    for value in (cycle, deep):
        with pytest.raises(ValueError, match=r"JSON|nested"):
            vault["b"] = value
    assert vault.file.path.read_bytes() == before


def test_values_are_the_callers_own(vault: Vault) -> None:
    """Who changes what they got, or what they gave, changes nobody else's."""
    given = {"inner": {"list": [1, {"n": 1}]}}
    vault["a"] = given
    expected = copy.deepcopy(given)
    changed: list[Any] = [given]
    changed += [vault["a"], vault.copy()["a"], dict(vault.items())["a"], next(iter(vault.values()))]
    changed += [vault.get("a"), vault.setdefault("a", {}), vault.setdefault("b", expected)]
    for each in changed:
        each["inner"]["list"][1]["n"] = 2
        each["inner"]["list"].append(3)
        each["x"] = 1
        assert vault["a"] == expected
    assert vault["b"] == expected


def test_datetimes_become_iso_8601(vault: Vault) -> None:
    """As in botocore's JSONFileCache, datetimes can be stored; text comes back."""
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    vault["a"] = {"expiresAt": moment, "in": {"list": [moment]}}
    assert vault["a"] == {"expiresAt": moment.isoformat(), "in": {"list": [moment.isoformat()]}}


def test_update_is_one_rewrite(vault: Vault) -> None:
    """Any number of entries, one generation."""
    vault.update({str(n): {"n": n} for n in range(50)})
    assert generation(vault) == 1
    vault.change({"1": None, "2": {"n": 0}, "no such": None})
    assert generation(vault) == 2
    assert len(vault) == 49


def test_expired_entries_go_with_the_next_write(vault: Vault) -> None:
    """What has expired is dropped by a write; what is being written is kept."""
    now = datetime.now(timezone.utc)
    gone, good = now - timedelta(seconds=1), now + timedelta(hours=1)
    vault.update(
        {
            "gone": {"Credentials": {"Expiration": gone}},
            "top": {"Expiration": gone.strftime("%Y-%m-%dT%H:%M:%SZ")},
            "good": {"Credentials": {"Expiration": good}},
            "never": {"accessToken": "x"},
            "odd": {"Expiration": "soon"},
            "naive": {"Expiration": "2001-01-01T00:00:00"},
        }
    )
    assert len(vault) == 6
    vault["a"] = {}
    assert set(vault) == {"a", "good", "never", "odd", "naive"}
    with time_machine.travel(now + timedelta(hours=2)):
        assert vault.pop("good")["Credentials"]["Expiration"] == good.isoformat()


def test_entries_shows_no_secret(vault: Vault) -> None:
    """What ``status`` shows: kind, end and what it is about."""
    end = datetime(2030, 1, 1, tzinfo=timezone.utc)
    vault["k"] = {
        "kind": "role",
        "about": {"role_arn": "arn:aws:iam::111122223333:role/A"},
        "Credentials": {"SecretAccessKey": "sentinel-secret", "Expiration": end},
    }
    vault["other"] = {"about": "sentinel-secret"}
    assert vault.entries() == [
        {
            "key": "k",
            "kind": "role",
            "expires": end,
            "role_arn": "arn:aws:iam::111122223333:role/A",
        },
        {"key": "other", "kind": "other", "expires": None},
    ]


def test_nothing_readable_stands_in_the_file(vault: Vault) -> None:
    """No key, name, ARN or account id in the raw bytes (check 36)."""
    vault["sentinel-key"] = {"arn": "arn:aws:iam::111122223333:role/Sentinel", "secret": "s3kr3t"}
    names = b"".join(os.fsencode(each.name) for each in vault.file.path.parent.iterdir())
    for text in (b"sentinel", b"Sentinel", b"arn:aws", b"111122223333", b"s3kr3t"):
        assert text not in vault.file.path.read_bytes() + names


def test_cannot_be_pickled_or_copied(vault: Vault) -> None:
    """It may hold the passphrase; its repr shows the path only."""
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            act(vault)
    assert PASSPHRASE not in repr(vault)


EXTREME = ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00"]


@pytest.mark.parametrize("text", EXTREME)
def test_a_time_that_no_datetime_holds_is_not_written(vault: Vault, text: str) -> None:
    """ValueError, and the entry is not there."""
    for value in ({"Expiration": text}, {"Credentials": {"Expiration": text}}):
        with pytest.raises(ValueError, match="Expiration"):
            vault["a"] = value
    assert dict(vault) == {}


@pytest.mark.parametrize("text", EXTREME)
def test_an_entry_with_such_a_time_blocks_nothing(vault: Vault, text: str) -> None:
    """An earlier release, or another program, has written it: reading, writing and rotating
    go on.
    """
    vault["a"] = {"n": 1}
    header, key = new_header(PASSPHRASE)
    entries = {"a": {"Expiration": text}, "b": {"Credentials": {"Expiration": text}}}
    vault.file.replace(write(header, key, Contents(entries, 5)))
    assert [each["expires"] for each in vault.entries()] == [None, None]
    vault.update(c={"n": 3})
    assert set(vault) == {"a", "b", "c"}
    assert rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=vault.file.path) == 3
