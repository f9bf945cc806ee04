"""
``rolevault.aio`` on the real aiobotocore and s3fs, against the local STS and
moto's S3. ``make aio`` makes the environment that it needs.
"""

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import time_machine
from botocore.exceptions import BotoCoreError, ClientError, InvalidConfigError, ProfileNotFound

import rolevault
from conftest import Alice, Python, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError, MfaFailedError, MfaRequest

pytest.importorskip("aiobotocore", reason="aiobotocore pins botocore: run `make aio`")

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession

import rolevault.aio
from rolevault.aio import AioRoleCredentials, _twin

T = TypeVar("T")
REGION = "eu-west-1"
#: A test that would hang fails by this instead.
PATIENCE = 30.0


def session_for(role: Role, alice: Alice, **options: Any) -> AioSession:
    return rolevault.aio.session(
        role.arn, **{"mfa_serial": alice.serial, "mfa_callback": alice, **options}
    )


async def aio_account_of(session: AioSession, **client: Any) -> str:
    async with session.create_client("sts", **{"region_name": REGION, **client}) as sts:
        return str((await sts.get_caller_identity())["Account"])


def run(main: Callable[[], Awaitable[T]]) -> T:
    """A loop of its own, which ends; nothing is left for the garbage collector."""

    async def bounded() -> T:
        return await asyncio.wait_for(main(), PATIENCE)

    try:
        return asyncio.run(bounded())
    finally:
        gc.collect()


class Person:
    """Types a code when told to, and says when she is asked."""

    def __init__(self, alice: Alice) -> None:
        self._alice = alice
        self.asked = threading.Event()
        self.types = threading.Event()

    def __call__(self, request: MfaRequest) -> str:
        self.asked.set()
        assert self.types.wait(PATIENCE), "the event loop was blocked"
        return self._alice(request)

    async def is_asked(self) -> None:
        while not self.asked.is_set():
            await asyncio.sleep(0.005)


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


# Cancellation and failure


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


# Precedence


def test_keys_given_to_a_client_win(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    Explicit keys of a client beat the role; so do keys given to the session.
    """
    user = alice.user
    keys = {
        "aws_access_key_id": user.access_key_id,
        "aws_secret_access_key": user.secret_access_key,
    }
    session = session_for(role_a, alice)
    assert run(lambda: aio_account_of(session, **keys)) == user.account
    explicit = AioSession()
    explicit.set_credentials(user.access_key_id, user.secret_access_key)
    assert rolevault.aio.install(explicit, role_a.arn) is explicit
    assert run(lambda: aio_account_of(explicit)) == user.account
    assert (alice.requests, sts.count("AssumeRole")) == ([], 0)


def write_config(home: Path, text: str) -> None:
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / "config").write_text(text)


@pytest.fixture
def profile(empty_home: Path, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch) -> str:
    """A role of ~/.aws/config, its source a profile with Alice's keys."""
    write_config(
        empty_home,
        f"""
[profile base]
aws_access_key_id = {alice.user.access_key_id}
aws_secret_access_key = {alice.user.secret_access_key}
[profile prod]
role_arn = {role_a.arn}
source_profile = base
mfa_serial = {alice.serial}
region = eu-central-1
""",
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return "prod"


def test_profile_gives_the_role(
    sts: LocalSts, profile: str, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ``session(profile=…)`` takes role, source, serial and region from the
    profile; ``AWS_PROFILE`` and the profile of an installed session do too.
    """
    named = rolevault.aio.session(profile=profile, mfa_callback=alice)
    assert run(lambda: aio_account_of(named, region_name=None)) == role_a.account
    own = rolevault.aio.install(AioSession(profile=profile), mfa_callback=alice)
    assert run(lambda: aio_account_of(own, region_name=None)) == role_a.account
    monkeypatch.setenv("AWS_PROFILE", profile)
    chosen = rolevault.aio.session(mfa_callback=alice)
    assert run(lambda: aio_account_of(chosen, region_name=None)) == role_a.account
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 1)


def test_source_is_the_sessions_own_profile(profile: str, role_a: Role, alice: Alice) -> None:
    """
    A role given by its ARN is entered with what the session's own profile
    holds, as the session itself would use it.
    """
    session = rolevault.aio.install(
        AioSession(profile="base"), role_a.arn, mfa_serial=alice.serial, mfa_callback=alice
    )
    assert run(lambda: aio_account_of(session)) == role_a.account


def test_named_profile_beats_the_environment(
    profile: str, role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As in aiobotocore: keys of the environment beat ``AWS_PROFILE``, and an
    explicit profile beats them.
    """
    user = alice.user
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_access_key)
    named = rolevault.aio.session(profile=profile, mfa_callback=alice)
    assert run(lambda: aio_account_of(named)) == role_a.account
    monkeypatch.setenv("AWS_PROFILE", profile)
    chosen = rolevault.aio.session(mfa_callback=alice)
    assert run(lambda: aio_account_of(chosen)) == user.account


def test_contradicting_sources_raise_botocores_error(
    profile: str, empty_home: Path, role_a: Role
) -> None:
    """
    A broken profile raises what botocore raises, at once.
    """
    write_config(empty_home, f"[profile prod]\nrole_arn = {role_a.arn}\nsource_profile = nobody\n")
    with pytest.raises(InvalidConfigError, match="nobody"):
        rolevault.aio.session(profile=profile)
    with pytest.raises(ProfileNotFound):
        rolevault.aio.session(role_a.arn, profile="nobody")


def test_bad_options_are_refused_at_once(role_a: Role) -> None:
    """
    Options are judged by ``install`` and ``session`` themselves.
    """
    with pytest.raises(ConfigurationError, match="duration_seconds=1:"):
        rolevault.aio.session(role_a.arn, duration_seconds=1)
    with pytest.raises(ConfigurationError, match="profile="):
        rolevault.aio.session()
    with pytest.raises(TypeError, match="no such option: colour"):
        rolevault.aio.session(role_a.arn, colour="red")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="AioSession"):
        rolevault.aio.install(rolevault.session(role_a.arn), role_a.arn)
    elsewhere = rolevault.aio.session(role_a.arn, region_name="us-west-2")
    with pytest.raises(ConfigurationError, match="region already"):
        rolevault.aio.install(elsewhere, role_a.arn, region_name=REGION)


def test_install_replaces(
    sts: LocalSts, role_a: Role, role_b: Role, alice: Alice, empty_home: Path
) -> None:
    """
    A second ``install`` into a session that has signed replaces the first, a
    third the second, and heals as they did; clients made before keep their role.
    """
    role_c = sts.add_role("Read", account="777788889999", trusts=[alice.user], mfa=True)
    write_config(
        empty_home,
        f"[profile third]\nrole_arn = {role_c.arn}\ncredential_source = Environment\n",
    )
    session = session_for(role_a, alice)
    options: dict[str, Any] = {"mfa_serial": alice.serial, "mfa_callback": alice}

    async def main() -> tuple[str, ...]:
        async with session.create_client("sts", region_name=REGION) as before:
            await before.get_caller_identity()
            rolevault.aio.install(session, role_b.arn, **options)
            second = await aio_account_of(session)
            sts.revoke("expired", sts.sessions[-1].access_key_id)
            healed = await aio_account_of(session)
            rolevault.aio.install(session, profile="third", **options)
            third = await aio_account_of(session)
            kept = str((await before.get_caller_identity())["Account"])
            return second, healed, third, kept

    accounts = (role_b.account, role_b.account, role_c.account, role_a.account)
    assert run(main) == accounts
    assert len(alice.requests) == 1


def test_install_again_starts_from_what_was_there_first(
    role_a: Role, alice: Alice, empty_home: Path
) -> None:
    """However often: a named profile drops the environment's keys for itself alone."""
    write_config(
        empty_home,
        f"[default]\nrole_arn = {role_a.arn}\ncredential_source = Environment\n"
        f"[profile prod]\nrole_arn = {role_a.arn}\ncredential_source = Environment\n",
    )
    options: dict[str, Any] = {"mfa_serial": alice.serial, "mfa_callback": alice}
    session = AioSession()
    for _ in range(1000):
        rolevault.aio.install(session, profile="prod", **options)
    assert run(lambda: aio_account_of(session)) == role_a.account
    rolevault.aio.install(session, **options)
    assert run(lambda: aio_account_of(session)) == alice.user.account


def test_sts_is_called_with_the_sessions_settings(
    sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """
    STS sees the session's default client configuration, and the region of its
    first client where it has none of its own.
    """
    session = session_for(role_a, alice)
    session.set_default_client_config(
        AioConfig(user_agent_appid="team-seven", connector_args={"keepalive_timeout": 5})
    )
    assert run(lambda: aio_account_of(session, region_name="ap-south-1")) == role_a.account
    assume = next(call for call in sts.calls if call.action == "AssumeRole")
    assert "app/team-seven" in assume.user_agent
    assert "rolevault/" in assume.user_agent
    assert _twin(session).get_config_variable("region") == "ap-south-1"


def test_sync_install_leaves_async_sessions_alone(
    sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """
    ``rolevault.install(all_sessions=True)`` does not touch async sessions.
    """
    rolevault.install(role_a.arn, all_sessions=True, mfa_serial=alice.serial, mfa_callback=alice)
    assert run(lambda: aio_account_of(AioSession())) == alice.user.account
    assert account_of() == role_a.account


# Renewal and healing


def test_session_renews_itself_without_a_person(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    A client lives on over its role's end, hour after hour, through the MFA
    session; the day's code is asked for once.
    """
    session = session_for(role_a, alice)

    async def main() -> None:
        for hour in range(5):
            with time_machine.travel(start + timedelta(hours=hour).total_seconds(), tick=True):
                assert (await (await session.get_credentials()).get_frozen_credentials()).token
                async with session.create_client("sts", region_name=REGION) as client:
                    await client.get_caller_identity()

    start = time.time()
    asyncio.run(main())
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 5)
    assert sts.count("GetCallerIdentity", "OK") == 5


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
@pytest.mark.parametrize("how", ["expired", "invalid"])
def test_refused_credentials_heal(
    sts: LocalSts, role_a: Role, alice: Alice, mode: str, how: Any
) -> None:
    """
    When a service says that the credentials are no more, they are renewed and
    the request is sent once more, in every retry mode, for all tasks by one
    sign-in.
    """
    session = session_for(role_a, alice)
    config = AioConfig(retries={"mode": mode})

    async def main() -> list[str]:
        async with session.create_client("sts", region_name=REGION, config=config) as client:
            await client.get_caller_identity()
            role_keys = [key for key in sts.sessions if key.arn.endswith("Deploy/alice")]
            assert sts.revoke(how, role_keys[0].access_key_id) == 1
            answers = await asyncio.gather(*(client.get_caller_identity() for _ in range(16)))
            return [str(answer["Account"]) for answer in answers]

    assert set(run(main)) == {role_a.account}
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 2)


def test_renewed_and_refused_again_is_the_services_error(
    sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """
    No loop: where fresh credentials are refused too, the service's error comes.
    """
    session = session_for(role_a, alice)

    async def main() -> None:
        async with session.create_client("sts", region_name=REGION) as client:
            await client.get_caller_identity()
            sts.revoke("invalid")
            client.meta.events.register("before-send", lambda **_: (sts.revoke("invalid"), None)[1])
            await client.get_caller_identity()

    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        run(main)
    assert sts.count("AssumeRole", "OK") == 2


def test_an_answer_that_is_no_refusal_starts_no_thread(
    role_a: Role, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service says no to many things; s3fs looks for what is not there all day."""
    session = session_for(role_a, alice)
    started: list[str] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    async def main() -> None:
        async with session.create_client("sts", region_name=REGION) as client:
            await client.get_caller_identity()
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", counted)
                with pytest.raises(ClientError, match="AccessDenied"):
                    await client.assume_role(RoleArn=role_a.arn, RoleSessionName="again")

    run(main)
    assert "rolevault" not in started


def test_explicit_keys_never_touch_the_roles_entry(
    sts: LocalSts, role_a: Role, alice: Alice
) -> None:
    """
    A client with keys of its own that are refused does not drop the role's.
    """
    session = session_for(role_a, alice)
    other = sts.add_user("bob")

    async def main() -> None:
        await aio_account_of(session)
        sts.revoke("invalid", other.access_key_id)
        keys = {
            "aws_access_key_id": other.access_key_id,
            "aws_secret_access_key": other.secret_access_key,
        }
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            await aio_account_of(session, **keys)
        await aio_account_of(session)

    run(main)
    assert sts.count("AssumeRole") == 1


# The credentials object


def test_no_way_leads_to_aiobotocores_own_refresh() -> None:
    """
    Every public method that refreshes in aiobotocore is overridden; the sync
    properties raise there, and ``account_id`` needs no sign-in.
    """
    not_a_refresh = {"get_deferred_property"}
    theirs = {
        name
        for base in AioRefreshableCredentials.__mro__[:-1]
        for name, value in vars(base).items()
        if not name.startswith("_") and inspect.isfunction(value)
    }
    assert theirs - vars(AioRoleCredentials).keys() == not_a_refresh & theirs


def test_members_of_the_credentials(sts: LocalSts, role_a: Role, alice: Alice) -> None:
    """
    The account is known without signing in; the other members sign in. Nothing
    secret is shown, copied or pickled.
    """
    session = session_for(role_a, alice)

    async def main() -> None:
        credentials = await session.get_credentials()
        assert credentials.account_id == await credentials.get_account_id() == role_a.account
        assert credentials.refresh_needed()
        assert (sts.count(), alice.requests) == (0, [])
        members = (
            await credentials.get_access_key(),
            await credentials.get_secret_key(),
            await credentials.get_token(),
        )
        assert members == tuple(await credentials.get_frozen_credentials())[:3]
        assert not credentials.refresh_needed()
        assert repr(credentials) == f"AioRoleCredentials({role_a.arn!r})"
        with pytest.raises(NotImplementedError):
            _ = credentials.access_key
        with pytest.raises(TypeError):
            pickle.dumps(credentials)
        with pytest.raises(TypeError):
            copy.deepcopy(credentials)

    run(main)


# s3fs


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_s3fs_reads_over_a_renewal(
    sts: LocalSts, role_a: Role, alice: Alice, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A file that is open in s3fs is read on after its role's session has ended:
    renewed without a person, and every request signed with keys that live.
    """
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    session = session_for(role_a, alice, region_name="us-east-1")
    signed: list[tuple[str, float]] = []

    def note(**event: Any) -> None:
        header = event["request"].headers["Authorization"]
        text = header.decode() if isinstance(header, bytes) else str(header)
        signed.append((text.split("Credential=")[1].split("/")[0], time.time()))

    session.register("before-send.s3", note)
    files = s3fs.S3FileSystem(session=session, skip_instance_cache=True)
    text = bytes(range(256)) * 40
    files.mkdir("notes")
    files.pipe_file("notes/day.bin", text)
    with files.open("notes/day.bin", block_size=1024, cache_type="none") as file:
        read = file.read(1024)
        for hours in (1, 2):
            with time_machine.travel(time.time() + hours * 3600, tick=True):
                read += file.read(1024)
    assert read == text[:3072]
    assert (len(alice.requests), sts.count("AssumeRole")) == (1, 3)
    ends = {key.access_key_id: key.expires for key in sts.sessions}
    assert len({key for key, _ in signed}) == 3
    assert all(at < ends[key] for key, at in signed)
    gc.collect()


def test_notebook_is_asked_in_its_cell(
    role_a: Role, role_b: Role, alice: Alice, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In a Jupyter kernel the prompt appears in the cell that needs it: from
    s3fs, whose loop runs in another thread, and from a top-level ``await``.
    """
    manager_of = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    cell = f"""
import rolevault.aio, s3fs
def session(role):
    return rolevault.aio.session(
        role, mfa_serial={alice.serial!r}, mfa_session_seconds=0, region_name="us-east-1"
    )
files = s3fs.S3FileSystem(session=session({role_a.arn!r}))
files.mkdir("notebook")
files.pipe_file("notebook/cell", b"text")
print(files.cat_file("notebook/cell"))
async with session({role_b.arn!r}).create_client("sts") as sts:
    print((await sts.get_caller_identity())["Account"])
"""
    manager, client = manager_of.start_new_kernel(kernel_name="python3")
    asked: list[str] = []
    printed: list[str] = []

    def type_a_code(message: dict[str, Any]) -> None:
        asked.append(message["content"]["prompt"])
        client.input(alice.device.fresh_code())

    def read(message: dict[str, Any]) -> None:
        printed.append(message["content"].get("text", ""))

    try:
        answer = client.execute_interactive(
            cell, allow_stdin=True, stdin_hook=type_a_code, output_hook=read, timeout=60
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert answer["content"]["status"] == "ok", answer["content"]
    assert [("Deploy" in each, "Audit" in each) for each in asked] == [(True, False), (False, True)]
    assert "".join(printed).split() == ["b'text'", role_b.account]
