"""Roles for aiobotocore, and so for s3fs: the extra ``aio``.

The synchronous code of rolevault does the work, in threads of its own, so that neither a
prompt nor a file ever blocks an event loop. Keys that are in memory sign at once.

aiobotocore must run on asyncio: under trio (its httpx backend allows trio) the first request
raises ``UnsupportedPlatformError``.
"""

import asyncio
import contextvars
import functools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from botocore.credentials import CredentialProvider, ReadOnlyCredentials

try:
    from aiobotocore.credentials import AioCredentialResolver, AioRefreshableCredentials
    from aiobotocore.session import AioSession
except ImportError as missing:
    raise ImportError(
        "rolevault.aio needs aiobotocore: pip install 'rolevault[aio]'", name="aiobotocore"
    ) from missing

from rolevault._boto.provider import RoleVaultProvider, insert_provider
from rolevault._boto.refused_keys import RefusedKeyRetry
from rolevault._boto.takeover import (
    OriginalCredentials,
    remember_original,
    replace_chain,
    standard_chain,
)
from rolevault._concurrency import single_flight
from rolevault._concurrency.fork_lock import ForkLock
from rolevault._roles.resolve import check_options, resolve_role
from rolevault._roles.role import METHOD, Options, Role
from rolevault._signin.renewal import Renewal
from rolevault._signin.role_chain import RoleChain
from rolevault._signin.source_lookup import twin
from rolevault.errors import ConfigurationError, SignInTimeoutError, UnsupportedPlatformError

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

__all__ = ["install", "session"]

T = TypeVar("T")

_PAST = datetime(1970, 1, 1, tzinfo=timezone.utc)


def install(
    session: AioSession, role_arn: str | None = None, **options: "Unpack[Options]"
) -> AioSession:
    """Put the role into an aiobotocore session; return that session. No service is called
    and nobody is asked: the first signed request signs in.

    A second call replaces the first. There is no global state and so no ``uninstall``: for a
    session without the role, make another session. Clients that were made before keep their
    credentials.

    Example::

        session = rolevault.aio.install(AioSession(), role_arn=ROLE, mfa_serial=MFA)

    :param role_arn: the role to assume; without it, the profile's.
    :param options: as for ``rolevault.install``.
    :raises ConfigurationError: a bad value, naming option, value and rule.
    """
    rule = "must be an AioSession of aiobotocore."
    if isinstance(session, AioSession):
        region = session.get_config_variable("region")
        rule = "it has a region already: leave region_name= out."
        if options.get("region_name") in (None, region):
            rule = ""
    if rule:
        raise ConfigurationError(option="session", value=repr(session), rule=rule)
    check_options(role_arn, options)
    role = resolve_role(role_arn, options, session)
    if OriginalCredentials.of(session).has_own_keys:
        logger.warning("The session was given keys of its own, and they win over the role.")
        return session
    provider = AioRoleVaultProvider(role, session)
    original = remember_original(session)
    replace_chain(session, lambda: _chain(provider, original))
    return session


def session(role_arn: str | None = None, **options: "Unpack[Options]") -> AioSession:
    """Make an aiobotocore session for a role. The options are those of ``install``. The
    session shares the vault, and so the MFA code, with every other session.

    Example::

        session = rolevault.aio.session(role_arn=ROLE, mfa_serial=MFA)
        files = s3fs.S3FileSystem(session=session)

    :raises ConfigurationError: a bad value, naming option, value and rule.
    """
    made = AioSession(profile=options.get("profile"))
    if (region := options.get("region_name")) is not None:
        made.set_config_variable("region", region)
    return install(made, role_arn, **options)


def _run_in_thread(call: Callable[[], T]) -> "Future[T]":
    """Run ``call`` in a thread of its own.

    The loop's executor does not serve: its few threads also resolve host names, and a person
    may type for minutes. The thread is a daemon, so that a program can end although nobody
    answers its prompt.
    """
    future: Future[T] = Future()
    # From here on, a task that waits and is cancelled does not cancel the future.
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()  # a notebook's prompt belongs to its cell

    def run() -> None:
        try:
            result = context.run(call)
        except StopIteration as error:
            # No future can carry StopIteration (PEP 479): its tasks would wait for ever.
            stopped = RuntimeError("a callback raised StopIteration")
            stopped.__cause__ = error
            future.set_exception(stopped)
        except BaseException as error:  # noqa: BLE001  the waiting tasks raise it
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="rolevault", daemon=True).start()
    return future


def _check_asyncio() -> None:
    """Judge what runs the task, before anybody is asked.

    :raises UnsupportedPlatformError: it is not asyncio.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UnsupportedPlatformError(
            feature="rolevault.aio",
            reason="no asyncio event loop runs this task",
            remedy="Run it under asyncio: trio is not supported.",
        ) from None


class _SharedThread(Generic[T]):
    """Runs a call in one thread at a time, for all tasks of all loops that need it.

    :param purpose: what the call is for, as ``SignInTimeoutError`` says it.
    """

    def __init__(self, call: Callable[[], T], purpose: str) -> None:
        self._call = call
        self._purpose = purpose
        self._running: Future[T] | None = None
        self._pid = 0

    async def __call__(self) -> T:
        _check_asyncio()
        running = self._running
        limit: float | None = single_flight.WAIT_SECONDS
        # After a fork the thread is the parent's. If two loops each start a thread, the two
        # threads share one sign-in, as all threads do.
        if running is None or running.done() or self._pid != os.getpid():
            self._pid = os.getpid()
            running = self._running = _run_in_thread(self._call)
            limit = None  # a person may take their time
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), limit)
        except asyncio.TimeoutError:
            if running.done():
                return running.result()  # it ended just now, or raised a TimeoutError itself
            raise SignInTimeoutError(
                purpose=self._purpose, holder="another task", seconds=single_flight.WAIT_SECONDS
            ) from None
        finally:
            if running.done() and self._running is running:
                self._running = None


class AioRoleCredentials(AioRefreshableCredentials):
    """The credentials object that aiobotocore's signer asks. Its keys come from a
    ``Renewal``.

    Every member that could reach aiobotocore's own refresh is overridden.
    """

    def __init__(self, renewal: Renewal) -> None:
        super().__init__("", "", "", _PAST, self.get_frozen_credentials, METHOD)
        self.renewal = renewal
        self._renew = _SharedThread(lambda: renewal.frozen(ask=True), renewal.role.purpose)

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Keys that sign now.

        :raises RoleVaultError, BotoCoreError, ClientError: why the sign-in failed. The next
            call tries again.
        :raises SignInTimeoutError: another task's sign-in took more than two minutes.
        """
        return self.renewal.current() or await self._renew()

    async def get_access_key(self) -> str | None:
        return (await self.get_frozen_credentials()).access_key

    async def get_secret_key(self) -> str | None:
        return (await self.get_frozen_credentials()).secret_key

    async def get_token(self) -> str | None:
        return (await self.get_frozen_credentials()).token

    async def get_account_id(self) -> str | None:
        """Known from the role's ARN, without signing in."""
        return self.renewal.role.account_id

    account_id: Any = property(lambda self: self.renewal.role.account_id)

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        return self.renewal.refresh_needed(refresh_in)

    def __repr__(self) -> str:
        return f"AioRoleCredentials({self.renewal.role.name!r})"


class AioRoleVaultProvider(CredentialProvider):
    """Gives an aiobotocore session the credentials of one role."""

    METHOD = METHOD
    CANONICAL_NAME = RoleVaultProvider.CANONICAL_NAME

    def __init__(self, role: Role, session: AioSession) -> None:
        super().__init__(session)
        self.role = role
        self.session: AioSession = session
        self._load_lock = ForkLock()
        self._loaded: AioRoleCredentials | None = None
        self._shared = _SharedThread(self._load, role.purpose)

    async def load(self) -> AioRoleCredentials:
        """The credentials, the same object for every task. Nobody is asked before they sign.

        :raises BotoCoreError: the profile's sources contradict each other.
        """
        return await self._shared()

    def _load(self) -> AioRoleCredentials:
        with self._load_lock.lock:
            if self._loaded is None:
                # STS is called on a synchronous session, and the source credentials come from
                # it. Providers that were added to the async chain are not in its chain.
                inner = twin(self.session)
                renewal = RoleChain(inner, standard_chain(inner)).renewal(self.role)
                _AioRefusedKeyRetry(renewal).register(self.session)
                self._loaded = AioRoleCredentials(renewal)
            return self._loaded


class _AioRefusedKeyRetry(RefusedKeyRetry):
    async def needs_retry(self, **event: Any) -> Any:
        if not self.is_refusal(event):
            return None
        # In a thread, because dropping the key rewrites the vault's file.
        try:
            future = _run_in_thread(functools.partial(super().needs_retry, **event))
        except RuntimeError:  # no more threads can start: leave the service's own answer
            return None
        return await asyncio.wrap_future(future)


def _chain(provider: AioRoleVaultProvider, original: OriginalCredentials) -> AioCredentialResolver:
    """The session's own chain with the provider in it."""
    chain = AioCredentialResolver(list(original.build(provider.session).providers))
    insert_provider(provider, provider.role, chain)
    return chain
