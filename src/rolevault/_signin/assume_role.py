"""One call of AssumeRole, and what follows if STS refuses."""

import logging
import math
import time

from botocore.exceptions import ClientError

from rolevault._roles.role import CHAINED_SECONDS, Role
from rolevault._signin.mfa_session import MfaSession
from rolevault._signin.one_time_code import MfaDevice
from rolevault._signin.session_store import SessionStore
from rolevault._signin.sts_answer import KEY_REFUSALS, session_from_answer
from rolevault._signin.sts_call import StsCaller
from rolevault._signin.sts_client import StsClientFactory
from rolevault._signin.sts_session import Keys, StsSession
from rolevault._vault.canonical_json import digest

logger = logging.getLogger(__name__)

#: Below this age of an MFA session, in seconds, a denial is not about its age
#: (``aws:MultiFactorAuthAge``), and a fresh code would not help.
_YOUNG_SECONDS = 300
#: How long, in seconds, the denial of a fresh code is remembered.
_DENIED_SECONDS = 3600


class CodeNeededError(Exception):
    """The role cannot be entered without a code from a person.

    :param directly: whether the code goes to AssumeRole itself and opens no MFA session.
    :param not_before: an MFA session that was issued before this time is not accepted.
    """

    def __init__(self, *, directly: bool, not_before: float = 0.0) -> None:
        super().__init__("a code is needed")
        self.directly = directly
        self.not_before = not_before


class AssumeRole:
    """AssumeRole for one role. The session that STS issues is stored.

    :param key: the key of the role's entry in the store.
    """

    def __init__(self, role: Role, key: str, store: SessionStore, sts: StsClientFactory) -> None:
        self._role = role
        self._key = key
        self._store = store
        self._sts = sts
        self._denied_key = digest("denied", key)

    def without_code(
        self, mfa_session: MfaSession | None, keys: Keys, mfa_not_before: float
    ) -> StsSession:
        """Enter the role without asking a person: with the keys of the MFA session if there is
        one, else with the source's own keys.

        :param mfa_not_before: ignore an MFA session that was issued before this time.
        :raises CodeNeededError: a code can open the role.
        :raises ClientError: STS refused, and a code would not help.
        """
        if mfa_session is None:
            return self._call(self._sts.create_caller(keys), chained=keys[2] is not None)
        may_open = mfa_session.may_open()
        mfa = mfa_session.find(not_before=mfa_not_before) if may_open else None
        # Long-term keys carry no MFA. Temporary keys of a user may carry MFA, which only STS
        # knows. After the denial of a fresh code the call is made all the same, because STS may
        # let the role in by now, and nobody is asked.
        needs_code = keys[2] is None and not self._store.is_denied(self._denied_key)
        if mfa is None and (needs_code or mfa_not_before):
            raise CodeNeededError(directly=not may_open, not_before=mfa_not_before)
        signing = mfa.keys if mfa is not None else keys
        caller = self._sts.create_caller(signing)
        try:
            return self._call(caller, chained=signing[2] is not None)
        except ClientError as error:
            raise self._judge_refusal(error, mfa, caller) from None

    def with_code(self, device: MfaDevice, keys: Keys) -> StsSession:
        """Enter the role with a code that goes to AssumeRole itself.

        :raises MfaRequiredError, MfaFailedError: there is no code.
        :raises ClientError: STS refused for another reason than the code.
        """
        # The client comes before the prompt: if it cannot be made, no code is lost.
        caller = self._sts.create_caller(keys, carries_code=True)

        def send(code: str) -> StsSession:
            with_code = {"SerialNumber": device.serial, "TokenCode": code}
            return self._call(caller, chained=keys[2] is not None, **with_code)

        try:
            return device.call_with_code(self._role.purpose, caller, send)
        except ClientError as error:
            if error.response["Error"]["Code"] == "AccessDenied":
                self._remember_denial(caller)
            raise

    def forget_denial(self) -> None:
        self._store.write({self._denied_key: None})

    def _call(self, caller: StsCaller, *, chained: bool, **code: str) -> StsSession:
        role = self._role
        arguments = role.arguments(chained=chained)
        answer = caller.call("assume_role", **arguments, **code)
        about = {
            "profile": role.profile,
            "role_arn": role.role_arn,
            "account_id": role.account_id,
            "session_name": role.session_name,
        }
        # STS grants an hour where nothing is asked for, which CHAINED_SECONDS happens to be.
        asked_seconds = arguments.get("DurationSeconds", CHAINED_SECONDS)
        session = session_from_answer("role", about, answer, asked_seconds=asked_seconds)
        logger.info("Entered %s until %s.", role.role_arn, session.expires)
        self._store.write(
            {self._key: session.value, self._denied_key: None}, in_memory=caller.answer_is_mocked
        )
        return session

    def _judge_refusal(
        self, error: ClientError, mfa: StsSession | None, caller: StsCaller
    ) -> Exception:
        """Return ``CodeNeededError`` if a code can help against STS's refusal, else the error."""
        code = error.response["Error"]["Code"]
        # An MFA session that was issued after the refused one is accepted, so that concurrent
        # callers share one new code.
        newer = math.nextafter(mfa.issued, math.inf) if mfa is not None else 0.0
        if mfa is not None and code in KEY_REFUSALS:
            # The MFA session was revoked, or the keys that opened it were deleted.
            return CodeNeededError(directly=False, not_before=newer)
        if code != "AccessDenied":
            return error
        if mfa is not None and mfa.issued >= time.time() - _YOUNG_SECONDS:
            self._remember_denial(caller)
            return error
        if not self._store.is_denied(self._denied_key):
            return CodeNeededError(directly=mfa is None, not_before=newer)
        logger.warning(
            "%s was denied with a fresh code within the last hour, so nobody is asked again. "
            "Once its trust policy lets you in: rolevault.ensure(refresh=True).",
            self._role.role_arn,
        )
        return error

    def _remember_denial(self, caller: StsCaller) -> None:
        self._store.remember_denial(
            self._denied_key, _DENIED_SECONDS, in_memory=caller.answer_is_mocked
        )
        logger.warning(
            "%s denies entry to a user with a fresh MFA code: look at its trust policy "
            "(principal, external id, aws:MultiFactorAuthAge).",
            self._role.role_arn,
        )
