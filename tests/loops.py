"""
For tests of ``rolevault.aio``: roles in event loops that end, and a person who types
when told to.
"""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiobotocore.session import AioSession

import rolevault
import rolevault.aio
from conftest import Alice
from local_iam import Role
from rolevault import MfaRequest

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
