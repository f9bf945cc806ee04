"""
``rolevault.aio`` where a task is cancelled, a sign-in fails or a process forks.
"""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from conftest import Alice, Python
from local_iam import Role
from local_sts import LocalSts
from rolevault import (
    MfaFailedError,
    MfaRequest,
    SignInTimeoutError,
    UnsupportedPlatformError,
)
from rolevault._concurrency import single_flight

pytest.importorskip("aiobotocore", reason="aiobotocore pins botocore: run `make aio`")


from loops import PATIENCE, Person, aio_account_of, run, session_for


def test_another_event_loop_than_asyncios(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """Under trio, which runs tasks without asyncio, a typed error says so before anybody is
    asked or a thread is started.
    """
    session, before = session_for(role_a, alice), set(threading.enumerate())
    with pytest.raises(UnsupportedPlatformError, match="asyncio"):
        session.get_credentials().send(None)  # as any event loop starts a task
    assert set(threading.enumerate()) <= before
    credentials = run(session.get_credentials)
    for thread in set(threading.enumerate()) - before:
        thread.join()  # which has loaded the credentials
    with pytest.raises(UnsupportedPlatformError, match="trio is not supported"):
        credentials.get_frozen_credentials().send(None)
    assert (sts.calls, alice.requests) == ([], [])
    assert set(threading.enumerate()) <= before


def test_cancelled_task_does_not_take_the_others_along(role_a: Role, alice: Alice) -> None:
    """
    Cancelling the task that began a sign-in leaves those that wait for it
    their credentials, from the same prompt.
    """
    person = Person(alice)
    session = session_for(role_a, alice, mfa_callback=person)

    async def main() -> str:
        first = asyncio.create_task(aio_account_of(session))
        await person.is_asked()
        second = asyncio.create_task(aio_account_of(session))
        await asyncio.sleep(0.05)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        person.types.set()
        return await second

    assert run(main) == role_a.account
    assert len(alice.requests) == 1


def test_code_typed_after_cancellation_is_used(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    A sign-in whose tasks were all cancelled goes on: the next task uses its
    code, also on another loop.
    """
    person = Person(alice)
    session = session_for(role_a, alice, mfa_callback=person)

    async def cancelled() -> None:
        task = asyncio.create_task(aio_account_of(session))
        await person.is_asked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled)
    person.types.set()
    assert run(lambda: aio_account_of(session)) == role_a.account
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 1)


def test_task_does_not_wait_for_ever_for_anothers_prompt(
    role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As threads do: after two minutes an error says for whom; who is asked may
    take longer.
    """
    monkeypatch.setattr(single_flight, "WAIT_SECONDS", 0.3)
    person = Person(alice)
    session = session_for(role_a, alice, mfa_callback=person)

    async def main() -> str:
        first = asyncio.create_task(aio_account_of(session))
        await person.is_asked()
        with pytest.raises(SignInTimeoutError, match=r"0\.3 s for another task.*role Deploy"):
            await aio_account_of(session)
        person.types.set()
        return await first

    assert run(main) == role_a.account


def test_callbacks_own_timeout_is_its_own(role_a: Role, alice: Alice) -> None:
    """
    And not taken for ours, by whoever waits for it.
    """
    asked = threading.Event()

    def callback(request: MfaRequest) -> str:
        asked.wait(PATIENCE)
        raise asyncio.TimeoutError("no answer from the key")

    session = session_for(role_a, alice, mfa_callback=callback)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(aio_account_of(session)) for _ in range(2)]
        await asyncio.sleep(0.2)
        asked.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(each) for each in run(main)] == ["no answer from the key"] * 2


def test_failure_tells_its_reason_and_can_be_tried_again(role_a: Role, alice: Alice) -> None:
    """
    A failed sign-in raises its own reason in every task that waits, and the
    next request tries again.
    """
    answers = ["none", "none", "none"]

    def callback(request: MfaRequest) -> str:
        return answers.pop() if answers else alice(request)

    session = session_for(role_a, alice, mfa_callback=callback)

    async def main() -> str:
        failures = await asyncio.gather(
            *(aio_account_of(session) for _ in range(5)), return_exceptions=True
        )
        assert {type(each) for each in failures} == {MfaFailedError}
        return await aio_account_of(session)

    assert run(main) == role_a.account
    assert len(alice.requests) == 1


def test_sts_error_passes_through(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    STS's own answer reaches the task unchanged.
    """
    role_a.trusts = []
    session = session_for(role_a, alice)
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        run(lambda: aio_account_of(session))


def test_callback_that_stops_iterating_hangs_nobody(role_a: Role, alice: Alice) -> None:
    """
    ``lambda request: next(codes)`` with no codes left is an error, although no
    future can carry a StopIteration.
    """
    codes: Iterator[str] = iter(())
    session = session_for(role_a, alice, mfa_callback=lambda request: next(codes))
    with pytest.raises((RuntimeError, BotoCoreError)):
        run(lambda: aio_account_of(session))


def test_forked_child_waits_for_no_thread_of_its_parent(
    python: Python, sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """
    A process forked while somebody types does not wait for a thread that it
    has not got: it takes what its parent puts into the vault.
    """
    script = """
import asyncio, os, sys, threading, warnings
import rolevault.aio
warnings.simplefilter("ignore")

role_arn, serial, code = sys.argv[1:]
asked, forked = threading.Event(), threading.Event()

def callback(request):
    asked.set()
    forked.wait()
    return code

async def ask():
    return await (await session.get_credentials()).get_frozen_credentials()

async def main():
    task = asyncio.create_task(ask())
    while not asked.is_set():
        await asyncio.sleep(0.01)
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(asyncio.wait_for(ask(), 20))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(42)
    forked.set()
    await task
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

session = rolevault.aio.session(role_arn, mfa_serial=serial, mfa_callback=callback)
asyncio.run(main())
"""
    process = python(script, role_a.arn, alice.serial, alice.device.fresh_code())
    output, errors = process.communicate(timeout=60)
    assert output.strip() == "42", errors
    assert sts.count("AssumeRole") == 1
