"""Where a one-time code is asked for: a callback, a command, or a person."""

import os

from rolevault._prompt import command, person
from rolevault._prompt.mfa_request import ATTEMPTS, MfaCallback, MfaRequest
from rolevault._prompt.prompt_errors import NobodyThereError, NotTextError
from rolevault.errors import ConfigurationError, MfaFailedError, MfaRequiredError


def ask_for_code(request: MfaRequest, callback: MfaCallback | None) -> str:
    """The answer to ``request``, without white space. The answer may be anything: whether it
    is a code is judged by the caller.

    :param callback: a callable, or a command in its words. A string is a profile's
        ``mfa_process``: a command for the shell, as in aws-vault. None asks a person.
    :raises MfaRequiredError: there is nobody to ask.
    :raises MfaFailedError: the command failed.
    :raises ConfigurationError: the callback did not return a string.
    """
    if callback is None:
        answer = _ask_person(request)
    elif callable(callback):
        answer = callback(request)
        if not isinstance(answer, str):
            raise ConfigurationError(
                option="mfa_callback", value=repr(type(answer)), rule="it must return a string."
            )
    else:
        for_shell = isinstance(callback, str)
        argv = [str(callback)] if for_shell else callback
        # Only the program is named: its arguments can hold the seed of the device.
        program = "mfa_process" if for_shell else os.path.basename(argv[0])
        try:
            answer = command.run(argv, shell=for_shell).decode(errors="replace")
        except command.CommandFailedError as error:
            raise MfaFailedError(
                serial=request.serial,
                attempts=request.attempt,
                last_error=f"{program}: {error}.",
                remedy="Run that command by hand to see what it needs.",
            ) from None
    return "".join(answer.split())


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
        raise MfaRequiredError(
            serial=request.serial, purpose=request.reason, reason=str(error)
        ) from None
