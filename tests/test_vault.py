"""
The vault as a mapping, between threads, processes and botocore's own caches.
"""

import copy
import json
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import botocore.session
import pytest
import time_machine

from conftest import CHEAP, PASSPHRASE, Alice, Python
from local_sts import LocalSts
from processes import quick_place, run
from rolevault import (
    PassphraseRotatedError,
    Vault,
    VaultDamagedError,
    VaultTamperedError,
    VaultVersionError,
    WrongPassphraseError,
    _envelope,
    _kdf,
    rotate_passphrase,
)
from rolevault.errors import RoleVaultError

OTHER = "twelve drummers drumming"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rolevault" / "vault"


@pytest.fixture
def vault(path: Path) -> Vault:
    return Vault(path, PASSPHRASE)


class Derivations(list[str]):
    """Every run of Argon2id in this process: the real one, counted."""


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> Derivations:
    runs = Derivations()

    class Counted:
        def __init__(self, **parameters: Any) -> None:
            self._real = real(**parameters)

        def derive(self, text: bytes) -> bytes:
            runs.append(threading.current_thread().name)
            return bytes(self._real.derive(text))

    real = cast(Any, _kdf).Argon2id
    monkeypatch.setattr(_kdf, "Argon2id", Counted)
    return runs


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


def generation(vault: Vault) -> int:
    contents = vault._contents()
    assert contents is not None
    return contents.generation


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


# Answers never mixed up.


def spoiled(blob: bytes, how: str) -> bytes:
    if how == "empty":
        return b""
    if how == "no vault":
        return b"{}"
    if how == "cut":
        return blob[:-1]
    if how == "newer":
        return blob.replace(b"rolevault/1\n", b"rolevault/2\n", 1)
    envelope = _envelope.parse(blob, "")
    body = envelope.body[:-1] + bytes([envelope.body[-1] ^ 1])
    header = bytes(envelope.header)
    return header + _envelope._checksum(header, body) + body


ANSWERS = [
    ("empty", VaultDamagedError),
    ("no vault", VaultDamagedError),
    ("cut", VaultDamagedError),
    ("newer", VaultVersionError),
    ("body", VaultTamperedError),
    ("passphrase", WrongPassphraseError),
]


@pytest.mark.parametrize(("how", "error"), ANSWERS)
def test_what_does_not_open_is_never_overwritten(
    vault: Vault, how: str, error: type[RoleVaultError]
) -> None:
    """Reader, writer and rotation refuse with the file's own error, byte for byte
    as it was; ``clear()`` starts anew, without the passphrase.
    """
    vault["a"] = {"n": 1}
    path = vault.file.path
    if how != "passphrase":
        path.write_bytes(spoiled(path.read_bytes(), how))
    before = path.read_bytes()
    passphrase = OTHER if how == "passphrase" else PASSPHRASE
    for known in (vault, Vault(path, passphrase)):
        if known is vault and how == "passphrase":
            continue
        for act in (
            lambda: len(known),
            lambda: known.update(b={"n": 2}),
            lambda: known.pop("a"),
            lambda: known.open(),
            lambda: rotate_passphrase(OTHER, old=passphrase, vault_path=path),
        ):
            with pytest.raises(error):
                act()
            assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} <= {"vault", "lock"}
    Vault(path, OTHER).clear()
    again = Vault(path, OTHER)
    again["b"] = {"n": 2}
    assert again == {"b": {"n": 2}}


def test_damage_costs_no_key_derivation(vault: Vault, derivations: Derivations) -> None:
    """Accidents are found before the passphrase is asked for (checks 2, 3)."""
    vault["a"] = {"n": 1}
    del derivations[:]
    for how in ("empty", "no vault", "cut", "newer"):
        path = vault.file.path.with_name(how)
        path.touch(mode=0o600)
        path.write_bytes(spoiled(vault.file.path.read_bytes(), how))
        with pytest.raises(RoleVaultError):
            len(Vault(path, lambda: pytest.fail("asked")))
    assert derivations == []


def test_a_deleted_file_is_a_new_vault(vault: Vault) -> None:
    """New salt and data key; the old one opens nothing of it."""
    vault["a"] = {"n": 1}
    path = vault.file.path
    old = _envelope.parse(path.read_bytes(), "").header
    old_key = _envelope.unlock(old, PASSPHRASE, "")
    path.unlink()
    assert vault == {}
    vault["b"] = {"n": 2}
    assert vault == {"b": {"n": 2}}
    new = _envelope.parse(path.read_bytes(), "")
    assert new.header.kdf.salt != old.kdf.salt
    with pytest.raises(VaultTamperedError):
        _envelope.read(new, old_key, "")


def test_after_clear_comes_a_new_vault(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    """As if the file had been deleted by hand; it is not taken for an older one."""
    headers = set()
    for _ in range(2):
        for n in range(3):
            vault["a"] = {"n": n}
        headers.add(_envelope.parse(vault.file.path.read_bytes(), "").header.kdf.salt)
        vault.clear()
        assert not vault.file.path.exists()
    assert len(headers) == 2
    assert caplog.records == []


def test_salts_never_repeat(path: Path) -> None:
    """10,000 writes of one entry, 10,000 salts: no key is used twice (check 29)."""
    header, key = _envelope.new_header(PASSPHRASE, costs=CHEAP)
    contents = _envelope.Contents({"a": {"n": 1}}, 1)
    end = len(_envelope.write(header, key, contents)) - len(
        _envelope.parse(_envelope.write(header, key, contents), "").body
    )
    salts = {_envelope.write(header, key, contents)[end : end + 24] for _ in range(10_000)}
    assert len(salts) == 10_000


# One key derivation a process.


def test_one_key_derivation_however_often_others_write(
    path: Path, python: Python, derivations: Derivations
) -> None:
    """N rewrites elsewhere cost this process nothing (check 28)."""
    vault = Vault(path, PASSPHRASE)
    vault["a"] = {"n": 0}
    assert len(derivations) == 1
    other = python(
        "import sys; from rolevault import Vault\n"
        "vault = Vault(sys.argv[1], sys.argv[2])\n"
        "for n in range(1, 21):\n"
        "    vault['a'] = {'n': n}; print(flush=True); sys.stdin.readline()",
        str(path),
        PASSPHRASE,
        stdin=-1,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    for n in range(1, 21):
        other.stdout.readline()
        assert vault["a"] == {"n": n}
        vault[f"mine {n}"] = {}
        other.stdin.write("\n")
        other.stdin.flush()
    assert other.wait() == 0
    assert len(vault) == 21
    assert len(Vault(path, PASSPHRASE)) == 21
    assert len(derivations) == 1


def test_a_vault_that_does_not_exist_yet_is_settled_once(
    vault: Vault, derivations: Derivations
) -> None:
    """Its passphrase is asked for and its key derived before the first write."""
    for _ in range(3):
        vault.open()
    vault["a"] = {"n": 1}
    assert len(derivations) == 1


def test_sixteen_threads_derive_once(path: Path, derivations: Derivations) -> None:
    """Threads that open the vault at once ask once and derive once."""
    Vault(path, "made by another source")["a"] = {"n": 1}
    del derivations[:]
    asked: list[int] = []

    def passphrase() -> str:
        asked.append(1)
        return "made by another source"

    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(Vault(path, passphrase)["a"]))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(asked), len(derivations)) == (16, 1, 1)


def test_wrong_passphrase_never_opens_what_a_right_one_opened(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are held by source: also in this process, also by the same object whose
    environment changed.
    """
    vault["a"] = {"n": 1}
    path = vault.file.path
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, OTHER))
    assert len(Vault(path, lambda: PASSPHRASE)) == 1
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, lambda: OTHER))
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    free = Vault(path)
    assert len(free) == 1
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", OTHER)
    with pytest.raises(WrongPassphraseError):
        len(free)
    with pytest.raises(WrongPassphraseError):
        free["b"] = {}
    assert len(vault) == 1


def test_a_read_that_finds_the_same_bytes_opens_nothing(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed bytes are opened once, so that many looks at many roles stay cheap."""
    vault["a"] = {"n": 1}
    opened: list[int] = []
    read = _envelope.read

    def counted(*arguments: Any) -> Any:
        opened.append(1)
        return read(*arguments)

    monkeypatch.setattr(_envelope, "read", counted)
    for _ in range(5):
        assert vault["a"] == {"n": 1}
    assert opened == []
    Vault(vault.file.path, PASSPHRASE)["a"] = {"n": 2}
    del opened[:]
    for _ in range(5):
        assert vault["a"] == {"n": 2}
    assert opened == [1]


# An older file put back.


def test_an_older_file_put_back_is_warned_about_once(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that sees fewer writes than it knew says so, once (check 37)."""
    path = vault.file.path
    vault["a"] = {"n": 1}
    old = path.read_bytes()
    vault["a"] = {"n": 2}
    new = path.read_bytes()
    assert caplog.records == []
    for blob in (old, new, old):
        path.write_bytes(blob)
        assert vault["a"]["n"] in (1, 2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "older" in caplog.text


def test_a_file_from_before_a_rotation_put_back_is_warned_about(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A restored copy under an older passphrase that this process knew is one too."""
    current = [PASSPHRASE]
    vault = Vault(path, lambda: current[0])
    vault["a"] = {"n": 1}
    old = path.read_bytes()
    rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)
    current[0] = OTHER
    assert len(vault) == 1
    path.write_bytes(old)
    assert len(vault) == 1
    assert "older" in caplog.text


def test_a_new_vault_is_not_taken_for_an_older_one(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleting is allowed: the count starts anew."""
    for n in range(3):
        vault["a"] = {"n": n}
    vault.file.path.unlink()
    vault["a"] = {"n": 9}
    assert len(vault) == 1
    assert caplog.records == []


def test_threads_are_not_taken_for_a_restored_file(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads that read and write one Vault at once see no rollback."""
    vault["a"] = {"n": 0}
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            len(vault)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    other = Vault(vault.file.path, PASSPHRASE)
    for n in range(100):
        (vault if n % 2 else other)["a"] = {"n": n}
    stop.set()
    for each in readers:
        each.join()
    assert caplog.records == []


# Processes.


def test_twenty_writers_lose_nothing(python: Python) -> None:
    """20 processes write 50 entries each, one at a time: 1,000 stand there (check 21)."""
    with quick_place() as place:
        Vault(place, PASSPHRASE).open()
        assert run(python, "write_together", place, 20, 50) == [0] * 20
        entries = Vault(place, PASSPHRASE).copy()
        assert entries == {f"{w}.{n}": {"n": n} for w in range(20) for n in range(50)}
        assert {each.name for each in place.parent.iterdir()} == {"vault", "lock"}


def test_readers_never_see_a_replacement(python: Python) -> None:
    """10,000 replacements under three readers, and none of them fails (check 22)."""
    with quick_place() as place:
        assert run(python, "read_while_replaced", place, 10_000) == [0] * 3


def test_a_forked_child_neither_releases_nor_keeps_the_lock(python: Python, path: Path) -> None:
    """A process that forks while it writes keeps its lock, and alone (check 34)."""
    assert run(python, "fork_with_lock", path) == {
        "ended": 0,
        "free in the child's wake": False,
        "free after the parent": True,
    }


def test_a_child_forked_during_a_prompt_can_ask(python: Python, path: Path) -> None:
    """A thread that holds the key's lock does not exist in the child (check 34)."""
    assert run(python, "fork_with_key", path) == 0


# Ctrl-C.


def interrupt() -> str:
    raise KeyboardInterrupt


@pytest.fixture
def interrupted_in_kdf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C arrives while Argon2id runs; Python raises when it is done."""
    real = cast(Any, _kdf).Argon2id

    class Interrupted:
        def __init__(self, **parameters: Any) -> None:
            self._real = real(**parameters)

        def derive(self, text: bytes) -> bytes:
            self._real.derive(text)
            raise KeyboardInterrupt

    monkeypatch.setattr(_kdf, "Argon2id", Interrupted)
    yield
    monkeypatch.setattr(_kdf, "Argon2id", real)


def assert_untouched(path: Path, before: bytes | None) -> None:
    if before is None:
        assert not path.exists()
    else:
        assert path.read_bytes() == before
    assert list(path.parent.glob(".vault*")) == []
    Vault(path, PASSPHRASE)["after"] = {"n": 1}  # nobody holds its lock


@pytest.mark.parametrize("exists", [True, False])
def test_ctrl_c_in_a_prompt_leaves_nothing(path: Path, exists: bool) -> None:
    """No temporary file, no lock (check 40)."""
    if exists:
        Vault(path, PASSPHRASE)["a"] = {"n": 1}
    before = path.read_bytes() if exists else None
    vault = Vault(path, interrupt)
    with pytest.raises(KeyboardInterrupt):
        vault["b"] = {"n": 2}
    if exists:
        with pytest.raises(KeyboardInterrupt):
            rotate_passphrase(interrupt, old=PASSPHRASE, vault_path=path)
    assert_untouched(path, before)


@pytest.mark.usefixtures("interrupted_in_kdf")
def test_ctrl_c_in_the_key_derivation_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No temporary file, no lock, and the next attempt asks anew (check 40)."""
    vault = Vault(path, PASSPHRASE)
    with pytest.raises(KeyboardInterrupt):
        vault["b"] = {"n": 2}
    assert not path.exists()
    monkeypatch.undo()
    monkeypatch.setattr(_kdf, "DEFAULT_COSTS", CHEAP)
    assert_untouched(path, None)


# In botocore's place.


def test_serves_as_botocores_role_cache(
    sts: LocalSts, alice: Alice, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore's own assume-role provider keeps its sessions in a Vault, and the
    next process finds them there.
    """
    role = sts.add_role("Plain", account="111122223333", trusts=[alice.user])
    config = path.parent.parent / "config"
    config.write_text(
        "[profile base]\n"
        f"aws_access_key_id = {alice.user.access_key_id}\n"
        f"aws_secret_access_key = {alice.user.secret_access_key}\n"
        f"[profile role]\nrole_arn = {role.arn}\nsource_profile = base\nregion = eu-west-1\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    seen = set()
    for _ in range(2):
        session = botocore.session.Session(profile="role")
        provider = session.get_component("credential_provider").get_provider("assume-role")
        provider.cache = Vault(path, PASSPHRASE)
        client = cast(Any, session.create_client("sts", region_name="eu-west-1"))
        assert client.get_caller_identity()["Account"] == "111122223333"
        seen.add(cast(Any, session.get_credentials()).access_key)
    assert len(seen) == 1
    assert sts.count("AssumeRole") == 1
    assert Vault(path, PASSPHRASE).entries()[0]["expires"] > datetime.now(timezone.utc)
    with time_machine.travel(time.time() + 7200):
        session = botocore.session.Session(profile="role")
        provider = session.get_component("credential_provider").get_provider("assume-role")
        provider.cache = Vault(path, PASSPHRASE)
        assert cast(Any, session.get_credentials()).access_key not in seen
    assert sts.count("AssumeRole") == 2


def test_holds_what_an_sso_cache_holds(vault: Vault) -> None:
    """A token with datetimes comes back as botocore reads it."""
    from botocore.tokens import SSOTokenProvider

    end = datetime.now(timezone.utc) + timedelta(hours=8)
    session = botocore.session.Session()
    session.set_config_variable("profile", "sso")
    session.full_config["profiles"]["sso"] = {"sso_session": "corp"}
    session.full_config["sso_sessions"] = {
        "corp": {"sso_region": "eu-west-1", "sso_start_url": "https://corp.example"}
    }
    provider: Any = SSOTokenProvider(session, cache=cast(Any, vault), profile_name="sso")
    key = provider._token_loader._generate_cache_key("https://corp.example", "corp")
    vault[key] = {"accessToken": "sentinel-token", "expiresAt": end, "region": "eu-west-1"}
    token = provider.load_token().get_frozen_token()
    assert token.token == "sentinel-token"
    assert abs(token.expiration - end) < timedelta(seconds=1)


def test_keeps_its_checks_without_asserts(vault: Vault, python: Python) -> None:
    """Under ``python -O`` every check stands (check 39)."""
    vault["a"] = {"n": 1}
    path = vault.file.path
    cases = {"good": path.read_bytes()}
    cases |= {how: spoiled(cases["good"], how) for how, _ in ANSWERS if how != "passphrase"}
    for how, blob in cases.items():
        (path.parent / how).touch(mode=0o600)
        (path.parent / how).write_bytes(blob)
    (path.parent / "open").touch(mode=0o644)
    (path.parent / "open").chmod(0o644)
    script = (
        "import json, os, pathlib, subprocess, sys\n"
        "if __debug__:\n"
        "    os.execv(sys.executable, [sys.executable, '-O', '-c', sys.argv[2], *sys.argv[1:]])\n"
        "from rolevault import Vault\n"
        "seen = {}\n"
        "for each in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    for passphrase in (sys.argv[3], 'wrong'):\n"
        "        try: seen[each.name + ' ' + passphrase] = Vault(each, passphrase)['a']\n"
        "        except Exception as e: seen[each.name + ' ' + passphrase] = type(e).__name__\n"
        "print(json.dumps(seen))\n"
    )
    (path.parent / "lock").unlink()
    process = python(script, str(path.parent), script, PASSPHRASE)
    output, errors = process.communicate()
    assert not errors
    expected: dict[str, Any] = {}
    for name, error in [*ANSWERS, ("open", None), ("good", None), ("vault", None)]:
        known = {"open": "InsecureVaultError"}.get(name, error and error.__name__)
        if name != "passphrase":
            expected[f"{name} {PASSPHRASE}"] = known or {"n": 1}
            expected[f"{name} wrong"] = known or "WrongPassphraseError"
    expected["body wrong"] = "WrongPassphraseError"
    assert json.loads(output) == expected


def test_a_writer_with_the_old_passphrase_stops(path: Path) -> None:
    """After a rotation elsewhere: PassphraseRotatedError, at reading and at writing,
    and the file stays as the rotation left it (check 23).
    """
    vault = Vault(path, PASSPHRASE)
    vault["a"] = {"n": 1}
    rotate_passphrase(OTHER, old=PASSPHRASE, vault_path=path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(PassphraseRotatedError):
            vault["b"] = {"n": 2}
        with pytest.raises(PassphraseRotatedError):
            len(vault)
    assert path.read_bytes() == before
    with pytest.raises(WrongPassphraseError):
        len(Vault(path, PASSPHRASE))


def test_foreign_entries_do_no_harm(vault: Vault) -> None:
    """A foreign entry under any key harms neither reading nor writing."""
    vault["x"] = {"Credentials": "nonsense", "Expiration": 5, "about": [1]}
    vault["b"] = {}
    assert len(vault.entries()) == 2
