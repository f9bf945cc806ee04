"""
``rolevault.aio`` on the real aiobotocore: one prompt for all tasks, and a loop that
runs on. ``make aio`` makes the environment that these tests need.
"""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import rolevault
from conftest import Alice, Python, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import MfaRequest

pytest.importorskip("aiobotocore", reason="aiobotocore pins botocore: run `make aio`")


import rolevault.aio
from loops import PATIENCE, Person, aio_account_of, run, session_for

# One prompt


def test_fifty_tasks_cause_one_prompt(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    Fifty tasks that need the role first thing share one code and one thread.
    """
    session = session_for(role_a, alice)

    async def main() -> list[str]:
        return await asyncio.gather(*(aio_account_of(session) for _ in range(50)))

    assert set(run(main)) == {role_a.account}
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 1)


def test_fifty_tasks_share_one_thread(role_a: Role, alice: Alice) -> None:
    """
    Tasks that wait for one sign-in hold one thread, not one each.
    """
    person = Person(alice)
    session = session_for(role_a, alice, mfa_callback=person)

    async def main() -> int:
        credentials = await session.get_credentials()
        tasks = [asyncio.create_task(credentials.get_frozen_credentials()) for _ in range(50)]
        await person.is_asked()
        threads = sum(each.name == "rolevault" for each in threading.enumerate())
        person.types.set()
        assert len(set(await asyncio.gather(*tasks))) == 1
        return threads

    assert run(main) == 1


def test_every_task_gets_the_same_credentials(role_a: Role, alice: Alice) -> None:
    """
    One credentials object a session, whichever task comes first.
    """
    session = session_for(role_a, alice)

    async def main() -> set[int]:
        found = await asyncio.gather(*(session.get_credentials() for _ in range(20)))
        again = await session.get_component("credential_provider").load_credentials()
        return {id(each) for each in (*found, again)}

    assert len(run(main)) == 1
    assert alice.requests == []


def test_loops_in_threads_share_a_sign_in(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    Two event loops in two threads, one session: one prompt, and both go on.
    """
    session = session_for(role_a, alice)
    start = threading.Barrier(2)

    def work(_: int) -> str:
        async def main() -> str:
            start.wait(PATIENCE)
            frozen = await (await session.get_credentials()).get_frozen_credentials()
            return str(frozen.access_key)

        return run(main)

    with ThreadPoolExecutor(2) as pool:
        keys = set(pool.map(work, range(2)))
    assert (len(keys), len(alice.requests), sts.count("AssumeRole")) == (1, 1, 1)


def test_accounts_share_a_code(sts: LocalSts, role_a: Role, role_b: Role, alice: Alice) -> None:
    """
    Sessions for several accounts, also synchronous ones, share one MFA code.
    """
    sync = rolevault.session(role_b.arn, mfa_serial=alice.serial, mfa_callback=alice)
    session = session_for(role_a, alice)
    assert run(lambda: aio_account_of(session)) == role_a.account
    assert account_of(sync) == role_b.account
    assert len(alice.requests) == 1


def test_warm_vault_needs_no_code(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    What a synchronous session put into the vault serves an async one, and the
    other way round: the same entry, no STS call.
    """
    assert account_of(rolevault.session(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice))
    before = sts.count()
    session = session_for(role_a, alice)
    assert run(lambda: aio_account_of(session)) == role_a.account
    assert (sts.count() - before, sts.count("AssumeRole")) == (1, 1)
    assert len(alice.requests) == 1


# The loop


def test_loop_runs_while_a_person_types(role_a: Role, alice: Alice) -> None:
    """
    A prompt does not block the loop: other tasks run until it is answered, and
    only they make the person type here.
    """
    person = Person(alice)
    session = session_for(role_a, alice, mfa_callback=person)

    async def main() -> str:
        task = asyncio.create_task(aio_account_of(session))
        await person.is_asked()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        person.types.set()
        return await task

    assert run(main) == role_a.account


def test_prompt_takes_no_thread_of_the_loop(role_a: Role, alice: Alice) -> None:
    """
    The loop's executor, which resolves host names, stays free while a person
    types: here it has one thread, and it works.
    """
    person = Person(alice)
    session = session_for(role_a, alice, mfa_callback=person)

    async def main() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        task = asyncio.create_task(aio_account_of(session))
        await person.is_asked()
        assert await asyncio.to_thread(lambda: 7) == 7
        person.types.set()
        return await task

    assert run(main) == role_a.account


def test_files_are_opened_off_the_loop(
    sts: LocalSts, role_a: Role, alice: Alice, vault_path: Path
) -> None:
    """
    No file of the vault is opened on the loop's thread: not cold, not warm, and
    not where an entry that a service refused is dropped.
    """
    opened: list[str] = []
    loop_thread = threading.get_ident()
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and threading.get_ident() == loop_thread:
            opened.append(str(arguments[0]))

    async def main() -> None:
        await aio_account_of(session_for(role_a, alice))
        warm = session_for(role_a, alice)
        await aio_account_of(warm)
        sts.revoke("expired", sts.sessions[-1].access_key_id)
        await aio_account_of(warm)

    sys.addaudithook(hook)
    try:
        run(main)
    finally:
        watching = False
    assert vault_path.exists()
    assert sts.count("AssumeRole") == 2
    assert [name for name in opened if str(vault_path.parent) in name] == []


def test_memory_signs_without_a_thread(
    role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Keys in memory are handed out at once: no thread is started.
    """
    session = session_for(role_a, alice)
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)

    async def main() -> None:
        credentials = await session.get_credentials()
        first = await credentials.get_frozen_credentials()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", note)
            for _ in range(100):
                assert await credentials.get_frozen_credentials() is first

    run(main)
    assert started == []


def test_callback_runs_in_the_context_of_its_task(role_a: Role, alice: Alice) -> None:
    """
    A callback sees the context variables of the task that needs the code, as
    ipykernel does, which finds the cell to ask in by them.
    """
    name: ContextVar[str] = ContextVar("name", default="nobody")
    seen: list[str] = []

    def callback(request: MfaRequest) -> str:
        seen.append(name.get())
        return alice(request)

    session = session_for(role_a, alice, mfa_callback=callback)

    async def main() -> None:
        name.set("the cell")
        await aio_account_of(session)

    run(main)
    assert seen == ["the cell"]


def test_program_ends_though_nobody_answers(python: Python, role_a: Role, alice: Alice) -> None:
    """
    A program that gives up waiting for a code ends; the open prompt does not
    keep it.
    """
    script = """
import asyncio, sys, threading
import rolevault.aio

asked = threading.Event()

def never(request):
    asked.set()
    threading.Event().wait()

async def main():
    credentials = await session.get_credentials()
    task = asyncio.create_task(credentials.get_frozen_credentials())
    while not asked.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    print("gave up")

session = rolevault.aio.session(sys.argv[1], mfa_serial=sys.argv[2], mfa_callback=never)
asyncio.run(main())
"""
    process = python(script, role_a.arn, alice.serial)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "gave up\n"), errors
