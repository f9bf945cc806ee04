"""One-time codes: asking for them, and never sending one twice.

STS takes each code once, accepts the one before and after the current, and
says no more than "invalid" to a used one (RFC 6238 demands the former, AWS's
answer is the latter).
"""

import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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

from rolevault._forks import LATE
from rolevault.errors import ConfigurationError, MfaFailedError, MfaRequiredError

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
STEP_SECONDS = 30
#: STS takes a code in its own step and the steps beside it.
CODE_LIFE_SECONDS = 3 * STEP_SECONDS

Callback = Callable[["MfaRequest"], str] | Sequence[str] | None


@dataclass(frozen=True)
class MfaRequest:
    """What an MFA callback is told.

    ``serial`` is the device's ARN or number, ``reason`` what the code is for,
    ``attempt`` 1 to 3, and ``last_error`` why the last code was of no use, or
    None.
    """

    serial: str
    reason: str
    attempt: int = 1
    last_error: str | None = None


class UsedCodes:
    """The codes sent lately, in this process and, by the vault, in others."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def add(self, serial: str, codes: Iterable[str], until: float) -> None:
        self._until.update({(serial, code): until for code in codes})

    def has(self, serial: str, code: str, now: float) -> bool:
        return self._until.get((serial, code), 0) > now


used_codes = UsedCodes()


def with_code(serial: str, reason: str, callback: Callback, send: Callable[[str], T]) -> T:
    """What ``send(code)`` returns, with a code that STS takes; asked for up to
    three times.

    :param send: makes the one STS call that carries the code, without retries.
    :raises MfaRequiredError: there is nobody to ask.
    :raises MfaFailedError: three codes were refused, or the command failed.
    :raises ClientError: STS refused for another reason than the code.
    """
    last_error: str | None = None
    lost: Exception | None = None
    for attempt in range(1, ATTEMPTS + 1):
        code = _ask(MfaRequest(serial, reason, attempt, last_error), callback)
        # Read after the prompt: people take their time.
        now = time.time()
        wait = math.ceil(STEP_SECONDS - now % STEP_SECONDS)
        lost = None
        if not re.fullmatch(r"[0-9]{6}", code):
            last_error = "A code has six digits."
            continue
        if used_codes.has(serial, code, now):
            last_error = f"This code was already used; the next one comes in {wait} s."
        else:
            used_codes.add(serial, [code], now + CODE_LIFE_SECONDS)
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
                # It may have arrived: sent again, a right code would be called wrong.
                last_error, lost = "STS's answer was lost. The code counts as used.", error
            except _NOT_SENT:
                used_codes.add(serial, [code], 0)
                raise
        logger.info("Attempt %d of %d with a code of %s failed.", attempt, ATTEMPTS, serial)
        if isinstance(callback, Sequence) and attempt < ATTEMPTS:
            # Until the next time step it would print the same code.
            time.sleep(wait)
    if lost is not None:
        raise lost
    raise MfaFailedError(
        serial=serial,
        attempts=ATTEMPTS,
        last_error=last_error or "none.",
        remedy="Check the device and its clock, and try again.",
    )


#: No connection was made.
_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)
_ANSWER_LOST = (
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseParserError,
    ResponseStreamingError,
)


def _is_about_code(error: ClientError) -> bool:
    # Only the text differs from other denials; a wrong serial number is not
    # among them, because no code would help.
    message = error.response["Error"].get("Message", "")
    return "MultiFactorAuthentication failed" in message and "pass code" in message


def _is_fault(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or error.response["Error"].get("Code", "").startswith("Throttl")


def _ask(request: MfaRequest, callback: Callback) -> str:
    if callback is None:
        code = _ask_person(request)
    elif callable(callback):
        code = callback(request)
        if not isinstance(code, str):
            raise ConfigurationError(
                option="mfa_callback", value=repr(type(code)), rule="it must return a string."
            )
    else:
        with LATE.lock:
            from rolevault import _command

        # A text is a profile's mfa_process, which aws-vault gives to the shell.
        text = isinstance(callback, str)
        argv = [str(callback)] if text else callback
        # The program alone: the seed of a device can stand among its arguments.
        program = "mfa_process" if text else os.path.basename(argv[0])
        try:
            code = _command.run(argv, shell=text).decode(errors="replace")
        except _command.CommandFailedError as error:
            raise MfaFailedError(
                serial=request.serial,
                attempts=request.attempt,
                last_error=f"{program}: {error}.",
                remedy="Run that command by hand to see what it needs.",
            ) from None
    return "".join(code.split())


def _ask_person(request: MfaRequest) -> str:
    with LATE.lock:
        from rolevault import _terminal

    if request.attempt == 1:
        why = f"rolevault needs an MFA code {request.reason}."
    else:
        why = f"{request.last_error}\nAttempt {request.attempt} of {ATTEMPTS} {request.reason}."
    try:
        # Shown as it is typed: a code is worth nothing once it is sent, and a
        # mistyped one costs half a minute.
        return _terminal.ask(f"{why}\nCode of {request.serial}: ", hidden=False)
    except _terminal.NobodyThereError as error:
        raise MfaRequiredError(
            serial=request.serial, purpose=request.reason, reason=str(error)
        ) from None
