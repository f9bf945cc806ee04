"""One-time codes of an MFA device. No code is sent twice.

STS accepts each code once, as RFC 6238, section 5.2, demands. It accepts the codes of the
current time step and of the steps before and after it. A used code gets the same answer from
STS as a wrong one, so a used code must be noticed before it is sent.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import TypeVar

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    IncompleteReadError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError

from rolevault._prompt.mfa_code import ask_for_code, is_code
from rolevault._prompt.mfa_request import ATTEMPTS, MfaCallback, MfaRequest
from rolevault._signin.session_store import SessionStore
from rolevault._signin.sts_answer import KEY_REFUSALS
from rolevault._signin.sts_call import StsCaller
from rolevault._vault.canonical_json import digest
from rolevault.errors import MfaFailedError

logger = logging.getLogger(__name__)

T = TypeVar("T")

STEP_SECONDS = 30
#: STS accepts a code during its own time step and the two steps beside it.
CODE_LIFE_SECONDS = 3 * STEP_SECONDS

#: No connection was made, so STS has not seen the code.
_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)
#: STS may have seen the code, and there is no answer of use. ``CredentialRetrievalError`` is a
#: session that ended before it came.
_ANSWER_LOST = (
    ConnectionClosedError,
    CredentialRetrievalError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseParserError,
    ResponseStreamingError,
)


class _UsedCodes:
    """The codes that were sent lately, by this process or by another one (the vault tells)."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def add(self, serial: str, codes: Iterable[str], until: float) -> None:
        self._until.update({(serial, code): until for code in codes})

    def remove(self, serial: str, code: str) -> None:
        self._until.pop((serial, code), None)

    def has(self, serial: str, code: str, now: float) -> bool:
        return self._until.get((serial, code), 0) > now


_used_codes = _UsedCodes()


class MfaDevice:
    """The MFA device of a user, and the prompt for its codes.

    :param serial: the device's ARN or serial number.
    :param callback: gives a code when it is called; None to ask at the terminal.
    :param store: tells other processes which codes were used.
    """

    def __init__(self, serial: str, callback: MfaCallback | None, store: SessionStore) -> None:
        self.serial = serial
        self._callback = callback
        self._store = store
        self._codes_key = digest("codes", serial)

    def call_with_code(self, purpose: str, caller: StsCaller, send: Callable[[str], T]) -> T:
        """Ask for a code, and return ``send(code)``. Up to three codes are asked for. A code
        that any process has used is refused without a call.

        :param purpose: what the code is for, as the prompt says it.
        :param caller: the client with which ``send`` calls.
        :param send: makes one STS call with the code, without retries.
        :raises MfaRequiredError: there is nobody to ask.
        :raises MfaFailedError: three codes were refused, or the command failed.
        :raises ClientError: STS refused for another reason than the code.
        """
        others: dict[str, float] = self._store.read().get(self._codes_key, {}).get("codes", {})
        for code, until in others.items():
            _used_codes.add(self.serial, [code], until)
        sent: list[str] = []

        def note_and_send(code: str) -> T:
            sent.append(code)
            try:
                return send(code)
            finally:
                if caller.answer_is_mocked:
                    _used_codes.remove(self.serial, code)

        try:
            return self._try_codes(purpose, note_and_send)
        finally:
            self._share_used(others, sent)

    def _try_codes(self, purpose: str, send: Callable[[str], T]) -> T:
        last_error: str | None = None
        lost: Exception | None = None
        for attempt in range(1, ATTEMPTS + 1):
            request = MfaRequest(self.serial, purpose, attempt, last_error)
            code = ask_for_code(request, self._callback)
            # The clock is read after the prompt, because people take their time.
            now = time.time()
            wait = math.ceil(STEP_SECONDS - now % STEP_SECONDS)
            lost = None
            if not is_code(code):
                last_error = "A code has six digits."
                continue
            if _used_codes.has(self.serial, code, now):
                last_error = f"This code was already used; the next one comes in {wait} s."
            else:
                _used_codes.add(self.serial, [code], now + CODE_LIFE_SECONDS)
                try:
                    return send(code)
                except ClientError as error:
                    if _is_about_code(error):
                        last_error = f"STS says: {error.response['Error']['Message'].strip()}"
                    elif _is_fault(error):
                        last_error, lost = f"STS failed ({error}). The code counts as used.", error
                    else:
                        if error.response["Error"]["Code"] in KEY_REFUSALS:
                            _used_codes.remove(self.serial, code)
                        raise
                except _ANSWER_LOST as error:
                    # The call may have arrived. Then STS would call the code wrong if it came
                    # again.
                    last_error, lost = "STS's answer was lost. The code counts as used.", error
                except _NOT_SENT:
                    _used_codes.remove(self.serial, code)
                    raise
            logger.info(
                "Attempt %d of %d with a code of %s failed.", attempt, ATTEMPTS, self.serial
            )
            if isinstance(self._callback, Sequence) and attempt < ATTEMPTS:
                # A command would print the same code until the next time step.
                time.sleep(wait)
        if lost is not None:
            raise lost
        raise MfaFailedError(
            serial=self.serial,
            attempts=ATTEMPTS,
            last_error=last_error or "none.",
            remedy="Check the device and its clock, and try again.",
        )

    def _share_used(self, others: dict[str, float], sent: list[str]) -> None:
        """Tell other processes which codes were sent, whether STS accepted them or not."""
        now = time.time()
        # A code that no connection carried is not used: nobody listened, or a mock answered.
        used = [code for code in sent if _used_codes.has(self.serial, code, now)]
        if used:
            until = now + CODE_LIFE_SECONDS
            codes = {code: end for code, end in others.items() if end > now}
            codes |= dict.fromkeys(used, until)
            end = datetime.fromtimestamp(until, timezone.utc).isoformat()
            self._store.write(
                {self._codes_key: {"kind": "codes", "codes": codes, "Expiration": end}}
            )


def _is_about_code(error: ClientError) -> bool:
    # Other denials have the same error code, so only the text tells. The text for a wrong
    # serial number is another one, and no code would help against that.
    message = error.response["Error"]["Message"]
    return "MultiFactorAuthentication failed" in message and "pass code" in message


def _is_fault(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or error.response["Error"]["Code"].startswith("Throttl")
