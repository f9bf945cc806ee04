"""A one-time code at the terminal."""

import os
import sys

import pytest

from pty_user import PtyUser
from rolevault import MfaFailedError
from rolevault._prompt.mfa_code import ask_for_code
from rolevault._prompt.mfa_request import MfaRequest

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

SCRIPT = """
from rolevault._prompt.mfa_code import ask_for_code
from rolevault._prompt.mfa_request import MfaRequest
print("answer", repr(ask_for_code(MfaRequest("arn:d", "to enter", 2, "STS says: no\\nHa"), None)))
"""


def test_what_is_not_text_is_not_a_code() -> None:
    """Such an answer counts as an attempt, like every answer that is not six digits."""
    with PtyUser([sys.executable, "-c", SCRIPT], os.environ) as person:
        person.sees("Code of arn:d: ")
        person.type(b"12\xff456\r")
        person.sees("answer ''\n")


def test_error_does_not_quote_a_line_for_the_shell() -> None:
    """A profile's ``mfa_process`` can hold the seed of the device."""
    with pytest.raises(MfaFailedError) as caught:
        ask_for_code(MfaRequest("arn:d", "to enter", 1, None), "oathtool SEED123; exit 3")
    assert "mfa_process: it ended with status 3" in str(caught.value)
    assert "SEED123; exit" not in str(caught.value)


def test_answer_of_sts_is_one_line() -> None:
    """A newline in the answer would look like a line of rolevault."""
    with PtyUser([sys.executable, "-c", SCRIPT], os.environ) as person:
        shown = person.sees("Code of arn:d: ")
        assert shown == "STS says: no?Ha\nAttempt 2 of 3 to enter.\n"
