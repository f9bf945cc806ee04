"""
The vault between processes, after Ctrl-C, and in the place of botocore's caches.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import botocore.session
import pytest
import time_machine

from conftest import CHEAP, OTHER, PASSPHRASE, Alice, Python
from local_sts import LocalSts
from processes import quick_place, run
from rolevault import PassphraseRotatedError, Vault, WrongPassphraseError, rotate_passphrase
from rolevault._vault import kdf


def interrupt() -> str:
    raise KeyboardInterrupt


@pytest.fixture
def interrupted_in_kdf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C arrives while Argon2id runs; Python raises when it is done."""
    real = cast(Any, kdf).Argon2id

    class Interrupted:
        def __init__(self, **parameters: Any) -> None:
            self._real = real(**parameters)

        def derive(self, text: bytes) -> bytes:
            self._real.derive(text)
            raise KeyboardInterrupt

    monkeypatch.setattr(kdf, "Argon2id", Interrupted)
    yield
    monkeypatch.setattr(kdf, "Argon2id", real)


def assert_untouched(path: Path, before: bytes | None) -> None:
    if before is None:
        assert not path.exists()
    else:
        assert path.read_bytes() == before
    assert list(path.parent.glob(".vault*")) == []
    Vault(path, PASSPHRASE)["after"] = {"n": 1}  # nobody holds its lock


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
    monkeypatch.setattr(kdf, "DEFAULT_COSTS", CHEAP)
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
