"""Where a one-time code is asked for: a callback, a command, or a person."""

import os
import re
from collections.abc import Sequence

from rolevault._prompt import command, person
from rolevault._prompt.mfa_request import ATTEMPTS, MfaCallback, MfaRequest
from rolevault._prompt.prompt_errors import NobodyThereError, NotTextError
from rolevault.errors import ConfigurationError, MfaFailedError, MfaRequiredError


def ask_for_code(request: MfaRequest, callback: MfaCallback | None) -> str:
    """The answer to ``request``, without white space. What a command prints is a code. What a
    callback returns or a person types may be anything: the caller judges it.

    :param callback: a callable, or a command in its words. A string is a profile's
        ``mfa_process``: a command for the shell, as in aws-vault. None asks a person.
    :raises MfaRequiredError: there is nobody to ask.
    :raises MfaFailedError: the command failed, or printed something that is not a code.
    :raises ConfigurationError: the callback did not return a string.
    """
    if reason := person.why_nobody_is_asked():
        # A callback or a command may ask a person, too.
        raise _nobody_there(request, reason)
    if callback is None:
        answer = _ask_person(request)
    elif callable(callback):
        answer = callback(request)
        if not isinstance(answer, str):
            raise ConfigurationError(
                option="mfa_callback", value=repr(type(answer)), rule="it must return a string."
            )
    else:
        answer = _run_command(request, callback)
    return "".join(answer.split())


def is_code(text: str) -> bool:
    """Whether AWS could take the text as a code (GetSessionToken, ``TokenCode``)."""
    return re.fullmatch(r"[0-9]{6}", text) is not None


def _run_command(request: MfaRequest, callback: str | Sequence[str]) -> str:
    for_shell = isinstance(callback, str)
    argv = [callback] if isinstance(callback, str) else callback
    # Only the program is named: its arguments can hold the seed of the device.
    program = "mfa_process" if for_shell else os.path.basename(argv[0])
    try:
        answer = command.run(argv, shell=for_shell).decode(errors="replace")
        if is_code("".join(answer.split())):
            return answer
        # The output is not quoted: it can be a secret.
        reason = "it printed something other than six digits"
    except command.CommandFailedError as error:
        reason = str(error)
    # The command would fail again, so it is not asked for another code.
    raise MfaFailedError(
        serial=request.serial,
        attempts=request.attempt,
        last_error=f"{program}: {reason}.",
        remedy="Run that command by hand to see what it needs.",
    )


def _ask_person(request: MfaRequest) -> str:
    if request.attempt == 1:
        why = [f"rolevault needs an MFA code {request.reason}."]
    else:
        attempt = f"Attempt {request.attempt} of {ATTEMPTS} {request.reason}."
        why = [str(request.last_error), attempt]
    try:
        # The code is shown while the person types it. A used code is worth nothing, and a
        # wrong one costs half a minute.
        return person.ask(*why, label=f"Code of {request.serial}", hidden=False)
    except NotTextError:
        return ""  # not a code, and so the person is asked again
    except NobodyThereError as error:
        raise _nobody_there(request, str(error)) from None


def _nobody_there(request: MfaRequest, reason: str) -> MfaRequiredError:
    return MfaRequiredError(serial=request.serial, purpose=request.reason, reason=reason)
