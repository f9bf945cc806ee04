"""
Renewal and healing in an event loop, up to s3fs on moto's S3 and in a notebook.
"""

import asyncio
import copy
import gc
import inspect
import pickle
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from botocore.exceptions import ClientError

from conftest import Alice
from local_iam import Role
from local_sts import LocalSts

pytest.importorskip("aiobotocore", reason="aiobotocore pins botocore: run `make aio`")

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials

from loops import REGION, aio_account_of, run, session_for
from rolevault.aio import AioRoleCredentials


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
