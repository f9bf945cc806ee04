"""The principals that the local STS knows: users with their keys and MFA devices, and roles."""

from __future__ import annotations

import base64
import hmac
import math
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aws_wire import denied

if TYPE_CHECKING:
    from local_sts import LocalSts

STEP = 30
"""Seconds of a time step: a new code comes with each (RFC 6238)."""

_MFA_WRONG = "MultiFactorAuthentication failed with invalid MFA one time pass code. "


def identifier(prefix: str) -> str:
    """A new id in IAM's form: a prefix for the kind of the resource, and 16 letters."""
    return prefix + base64.b32encode(secrets.token_bytes(10)).decode()


@dataclass
class Key:
    """An access key of a user, or the key of a session that STS issued."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    arn: str
    user_id: str
    owner: User | Role
    issued: float
    expires: float = math.inf
    mfa_at: float | None = None
    denied: bool = False
    invalid: bool = False


class User:
    """An IAM user. ``deny`` is the set of actions that a policy of the user denies, such as
    ``"sts:GetSessionToken"``. Tests may change it.
    """

    def __init__(self, sts: LocalSts, arn: str, deny: Iterable[str]) -> None:
        self.arn, self.account = arn, arn.split(":")[4]
        self.deny = set(deny)
        self.user_id = identifier("AIDA")
        self.devices: list[Device] = []
        self._sts = sts
        self.keys: list[Key] = []
        self.add_access_key()

    @property
    def access_key_id(self) -> str:
        """The id of the first key."""
        return self.keys[0].access_key_id

    @property
    def secret_access_key(self) -> str:
        """The secret of the first key."""
        return self.keys[0].secret_access_key

    def add_access_key(self) -> Key:
        """Give the user another key."""
        key = self._sts.issue(self, self.arn, self.user_id, seconds=None, mfa_at=None)
        self.keys.append(key)
        return key

    def add_mfa_device(self, name: str | None = None) -> Device:
        """Give the user another MFA device, named after the user unless ``name`` is given."""
        prefix, _, path = self.arn.partition(":user/")
        device = Device(self._sts, f"{prefix}:mfa/{name or path.rpartition('/')[2]}")
        self.devices.append(device)
        return device


@dataclass
class Role:
    """A role and its trust policy. Tests may change each attribute at any time.

    ``trusts`` are ARNs of users, roles or whole accounts (``…:root``), or ``"*"``. ``max_mfa_age``
    is a limit on ``aws:MultiFactorAuthAge``, in seconds.
    """

    arn: str
    trusts: Iterable[str] = ("*",)
    mfa: bool = False
    max_mfa_age: float | None = None
    external_id: str | None = None
    max_session_duration: int = 3600
    role_id: str = field(default_factory=lambda: identifier("AROA"))

    @property
    def account(self) -> str:
        """The account's number, which is empty for a role of Ceph's STS."""
        return self.arn.split(":")[4]

    def admits(self, key: Key, external_id: str | None, mfa_age: float | None) -> bool:
        """Whether the trust policy admits the owner of ``key``."""
        prefix = key.owner.arn.rpartition(":")[0]
        if not {key.owner.arn, f"{prefix}:root", "*"}.intersection(self.trusts):
            return False
        if self.external_id not in (None, external_id):
            return False
        if self.max_mfa_age is not None:
            return mfa_age is not None and mfa_age < self.max_mfa_age
        return mfa_age is not None or not self.mfa


class Device:
    """A virtual MFA device: RFC 6238, SHA-1, six digits, a new code every 30 s."""

    def __init__(self, sts: LocalSts, serial: str) -> None:
        self.serial = serial
        self.secret = base64.b32encode(secrets.token_bytes(20)).decode()
        self._sts = sts
        self._spent: set[int] = set()
        self._given: set[int] = set()

    def code(self, at: float | None = None) -> str:
        """The code that the device shows at ``at``, whether or not it was used.

        :param at: seconds since 1970; now, on STS's clock, if left out.
        """
        return totp(self.secret, self._sts.now() if at is None else at)

    def next_code(self) -> str:
        """A code that STS accepts now and that this device has not given before.

        STS accepts the codes of the time steps before, at and after its own, each once, so at most
        three codes are available.

        :raises LookupError: all three were given; the next time step brings another.
        """
        with self._sts.lock:
            now = self._sts.now()
            step, left = int(now // STEP), STEP - now % STEP
            # The code of the last step ends with this step, perhaps before it reaches STS.
            for each in (step, step + 1) + ((step - 1,) if left > 5 else ()):
                if each not in self._spent | self._given:
                    self._given.add(each)
                    return totp(self.secret, each * STEP)
        raise LookupError(f"no unused code of {self.serial} for another {left:.0f} s")

    def fresh_code(self, timeout: float = 2 * STEP) -> str:
        """Like :meth:`next_code`, but wait up to ``timeout`` seconds of real time for a code."""
        for _ in range(int(timeout * 20)):
            with suppress(LookupError):
                return self.next_code()
            time.sleep(0.05)
        return self.next_code()

    def spend(self, code: str) -> None:
        """Accept ``code`` once, as STS does, at most one time step off."""
        step = int(self._sts.now() // STEP)
        for each in (step - 1, step, step + 1):
            if each not in self._spent and totp(self.secret, each * STEP) == code:
                self._spent.add(each)
                return
        raise denied(_MFA_WRONG)


def totp(secret: str, at: float) -> str:
    """The code of the base32 ``secret`` at ``at`` seconds since 1970."""
    counter = int(at // STEP).to_bytes(8, "big")
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    start = digest[-1] & 0x0F
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"
