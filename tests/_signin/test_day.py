"""A working day: a script every ten minutes for eight hours, over five accounts."""

import os
import time
import traceback
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine

import rolevault
from conftest import Alice, Python
from local_iam import totp
from local_sts import LocalSts
from rolevault import MfaRequest

RUNS = 48
ACCOUNTS = [f"{n}" * 12 for n in range(1, 6)]

#: The script, as a person writes it. Its arguments: the time it is, and the rest.
SCRIPT = """
import sys, time_machine
with time_machine.travel(float(sys.argv[1]), tick=True):
    import conftest, test_day
    session = test_day.run(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    conftest.account_of(session)
"""


def run(serial: str, secret: str, asked: str, seconds: int) -> boto3.Session:
    """One run: it enters each account, and leaves a line in ``asked`` for each prompt."""

    def code(request: MfaRequest) -> str:
        with open(asked, "a") as file:
            file.write(f"{request.reason}\n")
        return totp(secret, time.time())

    for account in ACCOUNTS:
        session = rolevault.session(
            f"arn:aws:iam::{account}:role/Deploy",
            mfa_serial=serial,
            mfa_callback=code,
            duration_seconds=seconds,
            region_name="eu-west-1",
        )
        credentials = session.get_credentials()
        assert credentials is not None
        assert credentials.get_frozen_credentials().token
    return session


def in_a_child(*arguments: Any) -> None:
    """A run in a fresh process: forked from this one, which has never signed in."""
    pid = os.fork()
    if pid == 0:
        try:
            run(*arguments)
        except BaseException:  # noqa: BLE001  a child of pytest must not become one
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("seconds", "gaps", "runs"), [(3600, (2400, 600), 20), (900, (600,), 5)], ids=["3600", "900"]
)
def test_a_day_of_scripts(
    sts: LocalSts,
    alice: Alice,
    clock: time_machine.Traveller,
    python: Python,
    tmp_path: Path,
    seconds: int,
    gaps: tuple[int, ...],
    runs: int,
) -> None:
    """Each run is another process, and enters five accounts: one code, however long sessions
    last.
    """
    # Eight hours: sessions of an hour serve the run after 40 minutes, and are renewed in the
    # run after 50, in their last quarter. Those of 15 minutes are renewed in their last third.
    for account in ACCOUNTS:
        sts.add_role("Deploy", account=account, trusts=[alice.user], mfa=True)
    asked = tmp_path / "asked"
    arguments = (alice.serial, alice.device.secret, str(asked))
    for turn in range(runs):
        if turn in (1, runs - 1):  # forks are quick, but a person starts a Python
            child = python(SCRIPT, str(time.time()), *arguments, str(seconds))
            assert child.communicate() == ("", "")
        else:
            in_a_child(*arguments, seconds)
        clock.shift(gaps[turn % len(gaps)])
    assert len(asked.read_text().splitlines()) == 1
    assert sts.count("GetSessionToken") == 1
    assert sts.count("GetCallerIdentity", "OK") == 2
    assert sts.count("AssumeRole") == len(ACCOUNTS) * runs // len(gaps)


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "accounts"), [(3600, ACCOUNTS), (900, ACCOUNTS[:1])])
def test_a_day_in_one_process(
    sts: LocalSts,
    alice: Alice,
    clock: time_machine.Traveller,
    seconds: int,
    accounts: list[str],
) -> None:
    """Eight hours with the same clients: one code, and no request that fails."""
    clients = []
    for account in accounts:
        role = sts.add_role("Deploy", account=account, trusts=[alice.user], mfa=True)
        session = rolevault.session(
            role.arn,
            mfa_serial=alice.serial,
            mfa_callback=alice,
            duration_seconds=seconds,
            region_name="eu-west-1",
        )
        clients.append(session.client("sts"))
    for _ in range(RUNS):
        assert [client.get_caller_identity()["Account"] for client in clients] == accounts
        clock.shift(600)
    assert len(alice.requests) == 1
    assert sts.count(outcome="OK") == len(sts.calls)
