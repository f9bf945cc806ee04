"""Roles for aiobotocore, and so for s3fs. Needs the extra ``aio``.

The synchronous code of rolevault signs in, in threads of its own, so that neither a prompt nor a
file ever blocks an event loop. Keys that are in memory sign at once.

aiobotocore must run on asyncio. Its httpx backend runs on trio, too, and there the first request
raises ``UnsupportedPlatformError``.
"""

import asyncio
import functools
import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

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
from rolevault._concurrency.fork_lock import ForkLock
from rolevault._concurrency.shared_call import SharedCall, run_in_thread
from rolevault._roles.resolve import check_options, resolve_role
from rolevault._roles.role import METHOD, Options, Role
from rolevault._signin.renewal import Renewal
from rolevault._signin.role_chain import RoleChain
from rolevault._signin.source_lookup import twin
from rolevault.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

__all__ = ["install", "session"]

_PAST = datetime(1970, 1, 1, tzinfo=timezone.utc)


def install(
    session: AioSession, role_arn: str | None = None, **options: "Unpack[Options]"
) -> AioSession:
    """Put the role into an aiobotocore session; return that session.

    ``install()`` calls no service and asks nobody: the first signed request signs in. A second
    call replaces the first. Clients that were made before keep their credentials. Nothing global
    changes, and so there is no ``uninstall()``: make another session without the role.

    Example::

        session = rolevault.aio.install(AioSession(), role_arn=ROLE, mfa_serial=MFA)
        async with session.create_client("s3") as s3:
            await s3.list_buckets()

    :param session: the aiobotocore session that gets the role.
    :param role_arn: the ARN of the role to assume; by default the profile's.
    :param options: the options of ``rolevault.install()``, except ``session`` and
        ``all_sessions``.
    :raises ConfigurationError: an option cannot be used, or the profile has no role. The message
        names the option, its value and the rule.
    :raises BotoCoreError: the profile does not exist, or its sources contradict each other.
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
        logger.warning(
            "The session was given keys of its own, and they win over the role. Make another "
            "session for the role."
        )
        return session
    provider = AioRoleVaultProvider(role, session)
    original = remember_original(session)
    replace_chain(session, lambda: _chain_with_provider(provider, original))
    return session


def session(role_arn: str | None = None, **options: "Unpack[Options]") -> AioSession:
    """Make an aiobotocore session that has a role. It shares the vault, and so the MFA code, with
    all other sessions, asynchronous or not.

    Example::

        session = rolevault.aio.session(role_arn=ROLE, mfa_serial=MFA)
        files = s3fs.S3FileSystem(session=session)

    :param role_arn: the ARN of the role to assume; by default the profile's.
    :param options: the options of ``rolevault.install()``, except ``session`` and
        ``all_sessions``.
    :raises ConfigurationError: an option cannot be used, or the profile has no role. The message
        names the option, its value and the rule.
    :raises BotoCoreError: the profile does not exist, or its sources contradict each other.
    """
    made = AioSession(profile=options.get("profile"))
    if (region := options.get("region_name")) is not None:
        made.set_config_variable("region", region)
    return install(made, role_arn, **options)


class AioRoleCredentials(AioRefreshableCredentials):
    """The credentials object that aiobotocore's signer asks. Its keys come from a
    ``Renewal``.

    Every member that could reach aiobotocore's own refresh is overridden.
    """

    def __init__(self, renewal: Renewal) -> None:
        super().__init__("", "", "", _PAST, self.get_frozen_credentials, METHOD)
        self.renewal = renewal
        self._shared_renewal = SharedCall(lambda: renewal.frozen(ask=True), renewal.role.purpose)

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return keys that sign now. Sign in or renew first if that is due.

        :raises RoleVaultError: why the sign-in failed. The next call tries again.
        :raises SignInTimeoutError: another task's sign-in took more than two minutes.
        :raises UnsupportedPlatformError: the event loop is not asyncio's.
        :raises BotoCoreError: the sign-in failed in botocore.
        :raises ClientError: STS refused.
        """
        return self.renewal.keys_in_memory() or await self._shared_renewal()

    async def get_access_key(self) -> str | None:
        return (await self.get_frozen_credentials()).access_key

    async def get_secret_key(self) -> str | None:
        return (await self.get_frozen_credentials()).secret_key

    async def get_token(self) -> str | None:
        return (await self.get_frozen_credentials()).token

    async def get_account_id(self) -> str | None:
        """Return the account of the role's ARN, without signing in."""
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
        self._credentials: AioRoleCredentials | None = None
        self._shared_load = SharedCall(self._load_in_thread, role.purpose)

    async def load(self) -> AioRoleCredentials:
        """Return the credentials, the same object for every task. Nobody is asked until they sign.

        :raises BotoCoreError: the profile's sources contradict each other.
        :raises UnsupportedPlatformError: the event loop is not asyncio's.
        """
        return await self._shared_load()

    def _load_in_thread(self) -> AioRoleCredentials:
        with self._load_lock.lock:
            if self._credentials is None:
                # STS is called on a synchronous session, and the source credentials come from
                # it. Providers that were added to the async chain are not in its chain.
                inner = twin(self.session)
                renewal = RoleChain(inner, standard_chain(inner)).renewal(self.role)
                _AioRefusedKeyRetry(renewal).register(self.session)
                self._credentials = AioRoleCredentials(renewal)
            return self._credentials


class _AioRefusedKeyRetry(RefusedKeyRetry):
    async def needs_retry(self, **event: Any) -> Any:
        if not self.is_refusal(event):
            return None
        # This needs a thread, because the vault's file is rewritten without the key.
        try:
            future = run_in_thread(functools.partial(super().needs_retry, **event))
        except RuntimeError:  # no thread can start, and the caller gets the service's own answer
            return None
        return await asyncio.wrap_future(future)


def _chain_with_provider(
    provider: AioRoleVaultProvider, original: OriginalCredentials
) -> AioCredentialResolver:
    """Return a copy of the session's own chain, with the provider in it."""
    chain = AioCredentialResolver(list(original.build(provider.session).providers))
    insert_provider(provider, provider.role, chain)
    return chain
