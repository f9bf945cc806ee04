"""Nothing secret in what rolevault shows: sentinel secrets go through whole
sign-ins and their failures, and are searched for wherever things leak.
"""

import base64
import contextlib
import json
import logging
import os
import pickle
import re
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine

import rolevault
from conftest import PASSPHRASE, Alice, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import Vault

OTHER = "incorrect zebra charger paperclip"


class Searched(logging.Handler):
    """Every record of a ``rolevault`` logger, its arguments and attributes
    included, and every secret that was ever issued, typed or configured.
    """

    def __init__(self, sts: LocalSts, alice: Alice) -> None:
        super().__init__(logging.DEBUG)
        self.sts, self.alice = sts, alice
        self.shown: list[str] = []
        self.records = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1
        self.show(record.getMessage(), record.__dict__, self.format(record))

    def show(self, *things: object) -> None:
        for thing in things:
            self.shown += [str(thing), repr(thing)]

    def show_error(self, error: BaseException) -> None:
        self.show(error, error.__dict__, "".join(traceback.format_exception(error)))
        with contextlib.suppress(Exception):  # some of botocore's cannot be pickled
            self.shown.append(pickle.dumps(error).decode("latin-1"))
        for linked in (error.__cause__, error.__context__):
            if linked is not None:
                self.show_error(linked)

    def secrets(self) -> set[str]:
        found = {PASSPHRASE, OTHER}
        for user in self.sts.users:
            found.update(key.secret_access_key for key in user.keys)
        for key in self.sts.sessions:
            found.update({key.secret_access_key, str(key.session_token)})
        found.update(call.params["TokenCode"] for call in self.sts.calls if call.has_code)
        return found

    def leaked(self) -> list[str]:
        text = "\n".join(self.shown)
        return sorted(
            # Six digits stand in many a number: a code is a word of its own.
            secret
            for secret in self.secrets()
            if re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", text)
        )


@pytest.fixture
def searched(sts: LocalSts, alice: Alice) -> Iterator[Searched]:
    handler = Searched(sts, alice)
    logger = logging.getLogger("rolevault")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_the_search_finds_what_leaks(searched: Searched, alice: Alice) -> None:
    """The net has no hole: a passphrase, a key or a code that is logged is found."""
    assert searched.leaked() == []
    logging.getLogger("rolevault.test").debug("%s", {"given": PASSPHRASE})
    searched.show_error(ValueError(alice.user.secret_access_key))
    assert searched.leaked() == sorted([PASSPHRASE, alice.user.secret_access_key])


def test_an_answer_that_cannot_be_read_is_not_shown(
    searched: Searched, sts: LocalSts, alice: Alice, role_a: Role, clock: time_machine.Traveller
) -> None:
    """STS's answer arrives without its end while a session is renewed: what is in
    hand serves on, and the keys in the answer are in no record.
    """
    enter = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice)
    account_of(enter)
    clock.shift(50 * 60)
    sts.fail_next("cut", 10, action="AssumeRole")
    assert account_of(enter) == "111122223333"
    assert sts.count("AssumeRole") == 2
    assert searched.records
    assert searched.leaked() == []


def test_a_commands_arguments_are_not_shown(alice: Alice, role_a: Role) -> None:
    """A device's seed can stand in them: in no message, and in no ``repr``."""
    seed = "JBSWY3DPEHPK3PXP"
    command = ["false", "--totp", seed]
    Path("~/.aws").expanduser().mkdir()
    Path("~/.aws/config").expanduser().write_text(
        f"[profile p]\nrole_arn={role_a.arn}\ncredential_source=Environment\nregion=eu-west-1\n"
        f"mfa_serial={alice.serial}\nmfa_process={' '.join(command)}\n"
    )
    by_command = rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=command)
    for session in (by_command, rolevault.session(profile="p")):
        credentials: Any = session._session.get_credentials()
        assert seed not in repr(credentials.renewal.role)
        with pytest.raises(rolevault.MfaFailedError) as caught:
            credentials.get_frozen_credentials()
        assert seed not in "".join(traceback.format_exception(caught.value))
    wrong: Any = [*command, 3]
    with pytest.raises(rolevault.ConfigurationError) as refused:
        rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=wrong)
    assert seed not in "".join(traceback.format_exception(refused.value))


def _failures(sts: LocalSts, alice: Alice, enter: Any, path: Path) -> Iterator[Any]:
    """Whatever can go wrong in a sign-in, one at a time."""

    def wrong(request: Any) -> str:
        return f"{secrets.randbelow(10**6):06d}"

    def used(request: Any) -> str:
        return next(call.params["TokenCode"] for call in reversed(sts.calls) if call.has_code)

    def crash(request: Any) -> str:
        raise RuntimeError("the callback's own")

    def reuse() -> None:
        rolevault.ensure(enter(), refresh=True)
        rolevault.ensure(enter(mfa_callback=used), refresh=True)

    yield reuse
    yield lambda: account_of(enter(mfa_callback=wrong))
    yield lambda: account_of(enter(mfa_callback=crash))
    yield lambda: account_of(enter(mfa_callback=lambda request: None))
    yield lambda: account_of(enter(mfa_callback=[sys.executable, "-c", "raise SystemExit(3)"]))
    yield lambda: account_of(enter(mfa_callback=None))
    for fault in ("throttle", "error", "lose", "cut", "garbage"):

        def faulty(fault: Any = fault) -> None:
            sts.fail_next(fault, 3)
            account_of(enter(external_id=fault))

        yield faulty
    yield lambda: account_of(enter(external_id="wrong", passphrase=OTHER))
    yield lambda: account_of(enter(external_id="wrong", passphrase=lambda: OTHER))
    yield lambda: account_of(enter(passphrase=OTHER.encode()))
    yield lambda: account_of(enter(passphrase=lambda: OTHER.encode()))
    yield lambda: Vault(passphrase=PASSPHRASE).update({"x": {"secret": {PASSPHRASE}}})
    yield lambda: rolevault.rotate_passphrase(PASSPHRASE, old=OTHER)

    def damaged() -> None:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        try:
            account_of(enter(external_id="wrong"))
        finally:
            path.write_bytes(whole)

    yield damaged


def test_a_whole_sign_in_and_its_failures(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    clock: time_machine.Traveller,
    searched: Searched,
    vault_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No record of a ``rolevault`` logger at DEBUG, no message, traceback or pickle
    of an error, no repr of an object holds a key, token, code or passphrase.
    """
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def enter(**options: Any) -> boto3.Session:
        options = {"mfa_serial": alice.serial, "mfa_callback": alice, **options}
        return rolevault.session(role_a.arn, region_name="eu-west-1", **options)

    session = enter()
    account_of(session)
    clock.shift(3601)
    account_of(session)
    rolevault.ensure(session, refresh=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", sts.url)
    dynamodb: Any = session.client("dynamodb")
    credentials: Any = session.get_credentials()
    sts.revoke("expired", credentials.access_key)
    dynamodb.list_tables()
    for number, failure in enumerate(_failures(sts, alice, enter, vault_path)):
        clock.shift(50000)
        try:
            failure()
        except Exception as error:  # noqa: BLE001  each of its own kind
            searched.show_error(error)
        else:
            pytest.fail(f"failure {number} did not fail")
    fetcher = credentials.renewal.fetcher
    searched.show(session, credentials, fetcher, fetcher.__dict__, fetcher.role, Vault())
    searched.show(Vault(passphrase=PASSPHRASE), Vault().entries(), fetcher._mfa_session())
    searched.show(fetcher.stored(), credentials.renewal._current, alice.requests)
    assert searched.records > 10
    assert searched.leaked() == []


def test_files_while_they_are_written(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    searched: Searched,
    vault_path: Path,
    empty_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Temporary files, locks and the vault itself hold no secret at any time, nor who and where."""
    written: list[bytes] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        for path in sorted(empty_home.rglob("*")) + sorted(empty_home.rglob(".*")):
            if path.is_file():
                written.append(path.read_bytes() + path.name.encode())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    session = rolevault.session(
        role_a.arn, mfa_serial=alice.serial, mfa_callback=alice, region_name="eu-west-1"
    )
    account_of(session)
    rolevault.rotate_passphrase(OTHER, old=PASSPHRASE)
    written += [each.read_bytes() for each in vault_path.parent.iterdir()]
    everything = b"\n".join(written)
    assert len(written) > 20
    hidden = searched.secrets() | {role_a.arn, role_a.account, alice.serial, "alice", "Deploy"}
    codes = {secret for secret in hidden if len(secret) == 6 and secret.isdigit()}
    for secret in hidden - codes:
        assert secret.encode() not in everything
        assert base64.b64encode(secret.encode())[:-4] not in everything or len(secret) < 8
    assert everything.count(b"rolevault/1\n") > 2


SPY = """
import json, os, sys
with open(sys.argv[1], "a") as file:
    file.write(json.dumps([sys.argv, dict(os.environ)]) + chr(10))
print(sys.argv[2] if len(sys.argv) > 2 else "")
"""


def test_what_child_processes_see(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    searched: Searched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command for codes finds no passphrase, code or session in its arguments
    and environment, and is told that it must not ask.
    """
    seen = tmp_path / "seen"
    code = alice.device.next_code()
    # The code it prints is given by the test: a real one would come from its own device.
    command = [sys.executable, "-c", SPY, str(seen), code]
    for name in ("ROLEVAULT_PASSPHRASE", "ROLEVAULT_PASSPHRASE_FILE"):
        monkeypatch.setenv(name, PASSPHRASE)
    monkeypatch.delenv("ROLEVAULT_PASSPHRASE_FILE")
    account_of(
        rolevault.session(
            role_a.arn, mfa_serial=alice.serial, mfa_callback=command, region_name="eu-west-1"
        )
    )
    ((_, environment),) = [json.loads(line) for line in seen.read_text().splitlines()]
    assert environment["ROLEVAULT_NESTED"] == "1"
    assert not [name for name in environment if name.startswith("ROLEVAULT_PASSPHRASE")]
    # The user's own long-term keys stand in their environment already.
    hidden = searched.secrets() - {alice.user.secret_access_key}
    assert not [secret for secret in hidden if secret in json.dumps(environment)]


def test_a_process_shows_no_secret_in_its_arguments(
    alice: Alice, role_a: Role, python: Callable[..., Any], searched: Searched
) -> None:
    """Signing in starts no process at all, so nothing stands on a command line."""
    script = (
        "import sys, rolevault; from conftest import account_of\n"
        "sys.addaudithook(lambda name, a: name in ('subprocess.Popen', 'os.exec', "
        "'os.posix_spawn', 'os.system', 'os.fork') and print(name, a))\n"
        "session = rolevault.session(sys.argv[1], mfa_serial=sys.argv[2], "
        "mfa_callback=lambda request: sys.argv[3])\n"
        "account_of(session)\n"
    )
    child = python(script, role_a.arn, alice.serial, alice.device.next_code())
    assert child.communicate() == ("", "")
    assert threading.active_count() >= 1
