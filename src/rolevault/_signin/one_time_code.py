"""One-time codes of an MFA device, and the rule that none is sent twice.

STS takes each code once, accepts the codes of the time steps before and after the current
one, and says no more than "invalid" of a used code. RFC 6238, section 5.2, demands that a
code is taken once; the answer is AWS's.
"""

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import TypeVar

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError

from rolevault._prompt.mfa_code import ask_for_code
from rolevault._prompt.mfa_request import ATTEMPTS, MfaCallback, MfaRequest
from rolevault._signin.session_store import SessionStore
from rolevault._vault.canonical_json import digest
from rolevault.errors import MfaFailedError

logger = logging.getLogger(__name__)

T = TypeVar("T")

STEP_SECONDS = 30
#: STS takes a code in its own time step and in the steps beside it.
CODE_LIFE_SECONDS = 3 * STEP_SECONDS

#: No connection was made, so STS has not seen the code.
_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)
_ANSWER_LOST = (
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseParserError,
    ResponseStreamingError,
)


class _UsedCodes:
    """The codes that were sent lately: by this process and, as the vault tells, by others."""

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
    """A person's MFA device: asks for its codes.

    :param serial: the device's ARN or number.
    :param callback: who gives a code; None asks a person.
    :param store: tells other processes of the codes that were used.
    """

    def __init__(self, serial: str, callback: MfaCallback | None, store: SessionStore) -> None:
        self.serial = serial
        self._callback = callback
        self._store = store
        self._codes_key = digest("codes", serial)

    def call_with_code(self, purpose: str, send: Callable[[str], T]) -> T:
        """Return what ``send(code)`` returns, with a code that STS takes. Up to three codes
        are asked for. Codes that any process has used are refused without a call.

        :param send: makes the one STS call that carries the code, without retries.
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
            return send(code)

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
            # The clock is read after the prompt: people take their time.
            now = time.time()
            wait = math.ceil(STEP_SECONDS - now % STEP_SECONDS)
            lost = None
            if not re.fullmatch(r"[0-9]{6}", code):
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
                        raise
                except _ANSWER_LOST as error:
                    # The call may have arrived. STS would call the right code wrong if it
                    # came again.
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
        """Tell other processes of the codes sent here, whatever came of them."""
        now = time.time()
        # A code is not used where no connection was made.
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
    # Only the text tells this denial from others. A wrong serial number has another text,
    # and counts as another denial, because no code would help.
    message = error.response["Error"].get("Message", "")
    return "MultiFactorAuthentication failed" in message and "pass code" in message


def _is_fault(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or error.response["Error"].get("Code", "").startswith("Throttl")
