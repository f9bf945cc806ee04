"""What a person, a callback or a command is asked for when a one-time code is needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: How many codes are asked for before a sign-in fails.
ATTEMPTS = 3


@dataclass(frozen=True)
class MfaRequest:
    """What an MFA callback receives.

    ``serial`` is the ARN or the number of the device. ``reason`` says what the code is for.
    ``attempt`` is the number of this attempt, from 1 to 3. ``last_error`` says why the last
    code failed, and is None at the first attempt.
    """

    serial: str
    reason: str
    attempt: int = 1
    last_error: str | None = None


#: A callable that returns the code; or the words of a command that prints the code.
MfaCallback = Callable[[MfaRequest], str] | Sequence[str]
