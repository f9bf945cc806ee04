"""One-time codes: which are refused before they are sent, which count as used, what a callback is
told, and what a person sees.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import botocore.session
import pytest
import time_machine
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
)
from botocore.parsers import ResponseParserError

import rolevault
from conftest import Alice, Python, account_of
from local_iam import STEP
from local_sts import Failure, LocalSts, Role
from pty_user import PtyUser
from rolevault import ConfigurationError, MfaFailedError, MfaRequest, MfaRequiredError, Vault

WRONG = "MultiFactorAuthentication failed with invalid MFA one time pass code."


@dataclasses.dataclass
class Answers:
    """A callback that gives these answers one by one, and keeps its requests."""

    answers: list[str]
    requests: list[MfaRequest] = dataclasses.field(default_factory=list)

    def __call__(self, request: MfaRequest) -> str:
        self.requests.append(request)
        return self.answers[len(self.requests) - 1]

    @property
    def errors(self) -> list[str | None]:
        return [request.last_error for request in self.requests]


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """The clock is fifteen seconds into a time step, and does not move."""
    start = time.time() // STEP * STEP + 15
    with time_machine.travel(start, tick=False) as traveller:
        yield traveller


@pytest.fixture
def sign_in(alice: Alice, role_a: Role) -> Callable[..., boto3.Session]:
    """Enter role A with a callback's code, whatever the vault holds."""

    def call(callback: object, **options: object) -> boto3.Session:
        given = {"mfa_serial": alice.serial, "mfa_callback": callback, **options}
        session = rolevault.session(role_a.arn, **given)  # type: ignore[arg-type]
        rolevault.ensure(session, refresh=True)
        return session

    return call


SignIn = Callable[..., boto3.Session]


def sent(sts: LocalSts) -> list[str]:
    """The codes that reached STS."""
    return [call.params["TokenCode"] for call in sts.calls if call.has_code]


def wrong_code(alice: Alice) -> str:
    """Return six digits that the device shows neither now nor soon: other ones each time, because
    the process remembers from one test to the next what it has sent.
    """
    right = {alice.device.code(time.time() + step * STEP) for step in range(-3, 4)}
    return next(c for _ in range(100) if (c := f"{secrets.randbelow(10**6):06d}") not in right)


def test_three_wrong_codes_are_the_end(sts: LocalSts, alice: Alice, sign_in: SignIn) -> None:
    """There are three attempts. Each is told in STS's words why the last code failed."""
    answers = Answers([wrong_code(alice) for _ in range(3)])
    with pytest.raises(MfaFailedError, match=re.escape(WRONG)) as caught:
        sign_in(answers)
    assert sent(sts) == answers.answers
    assert [request.attempt for request in answers.requests] == [1, 2, 3]
    assert answers.errors == [None, f"STS says: {WRONG}", f"STS says: {WRONG}"]
    assert (caught.value.serial, caught.value.attempts) == (alice.serial, 3)


def test_the_right_code_after_a_wrong_one_signs_in(
    sts: LocalSts, alice: Alice, role_a: Role, sign_in: SignIn
) -> None:
    """A wrong code costs an attempt, and nothing else."""
    session = sign_in(Answers([wrong_code(alice), alice.device.fresh_code()]))
    assert account_of(session) == role_a.account
    assert sts.count("GetSessionToken") == 2


def test_callback_is_told_what_the_code_is_for(alice: Alice, sign_in: SignIn) -> None:
    """The request names the device, the role and the account, and cannot be changed."""
    sign_in(alice)
    (request,) = alice.requests
    assert request == MfaRequest(
        alice.serial, "to enter role Deploy of account 111122223333", 1, None
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.attempt = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567", "12345a", "\uff11\uff12\uff13\uff14\uff15\uff16", "-12345"]
)
def test_what_is_not_six_digits_is_not_sent(
    sts: LocalSts, alice: Alice, sign_in: SignIn, typed: str
) -> None:
    """An answer that is not six ASCII digits is not sent, and counts as an attempt."""
    answers = Answers([typed, typed, typed])
    with pytest.raises(MfaFailedError, match="six digits"):
        sign_in(answers)
    assert answers.errors == [None, "A code has six digits.", "A code has six digits."]
    assert sent(sts) == []


def test_white_space_in_a_code_is_forgiven(sts: LocalSts, alice: Alice, sign_in: SignIn) -> None:
    """Authenticator apps show and copy a code as "123 456", with spaces around."""
    code = alice.device.fresh_code()
    sign_in(Answers([f" {code[:3]}\u00a0{code[3:]} \n"]))
    assert sent(sts) == [code]


def test_a_used_code_is_refused_without_a_call(
    sts: LocalSts, alice: Alice, sign_in: SignIn, clock: time_machine.Traveller
) -> None:
    """STS would call the code invalid. The person is told when the next code comes, and the refusal
    counts as an attempt.
    """
    code, other = alice.device.next_code(), alice.device.next_code()
    sign_in(Answers([code]))
    clock.shift(1)
    answers = Answers([code, code, other])
    sign_in(answers)
    assert sent(sts) == [code, other]
    refusal = "This code was already used; the next one comes in 14 s."
    assert answers.errors == [None, refusal, refusal]
    clock.shift(1)
    with pytest.raises(MfaFailedError, match="already used"):
        sign_in(Answers([other, code, other]))
    assert sent(sts) == [code, other]


def test_seconds_to_wait_are_never_none(
    alice: Alice, sign_in: SignIn, clock: time_machine.Traveller
) -> None:
    """In the last moment of a time step the next code comes in 1 s, and not in 0 s."""
    code, other = alice.device.next_code(), alice.device.next_code()
    sign_in(Answers([code]))
    clock.shift(14.8)
    answers = Answers([code, other])
    sign_in(answers)
    assert answers.errors[1] == "This code was already used; the next one comes in 1 s."


def test_a_code_used_by_another_process_is_refused_as_well(
    sts: LocalSts, alice: Alice, role_a: Role, sign_in: SignIn, python: Python
) -> None:
    """The vault tells the next script which code the last one has used."""
    code, other = alice.device.fresh_code(), alice.device.fresh_code()
    sign_in(Answers([code]))
    script = """
import sys, rolevault
codes = sys.argv[3:]
def answer(request):
    print(request.last_error)
    return codes.pop(0)
session = rolevault.session(sys.argv[1], mfa_serial=sys.argv[2], mfa_callback=answer)
rolevault.ensure(session, refresh=True)
"""
    process = python(script, role_a.arn, alice.serial, code, other)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert re.fullmatch(r"None\nThis code was already used; .*\n", out)
    assert sent(sts) == [code, other]


def test_the_clock_is_read_when_the_code_is_there(
    sts: LocalSts, alice: Alice, sign_in: SignIn, clock: time_machine.Traveller
) -> None:
    """Whether a code was used lately is judged when the person has typed it. Two minutes after its
    use a code is sent again, because the device may show it again.
    """
    code = alice.device.next_code()
    sign_in(Answers([code]))
    clock.shift(1)

    def slowly(request: MfaRequest) -> str:
        if request.attempt > 1:
            assert request.last_error == f"STS says: {WRONG}"
            return alice.device.next_code()
        clock.shift(120)
        return code

    sign_in(slowly)
    assert sent(sts)[:2] == [code, code]


@pytest.mark.parametrize(
    ("how", "mode"),
    [
        *((how, "legacy") for how in ("lose", "drop", "error", "throttle", "garbage")),
        ("lose", "standard"),
        ("lose", "adaptive"),
    ],
)
def test_a_code_is_sent_once_and_counts_as_used_when_no_answer_came(
    sts: LocalSts,
    alice: Alice,
    sign_in: SignIn,
    monkeypatch: pytest.MonkeyPatch,
    how: Failure,
    mode: str,
) -> None:
    """STS would call a code wrong that comes again. So botocore does not retry, whatever the user
    has configured, and the person is asked for another code.
    """
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    code, other = alice.device.next_code(), alice.device.next_code()
    sts.fail_next(how, action="GetSessionToken")
    answers = Answers([code, code, other])
    sign_in(answers)
    assert sent(sts) == [code, other]
    assert answers.errors[0] is None
    assert answers.errors[1] is not None
    assert answers.errors[1].endswith("The code counts as used.")
    assert str(answers.errors[2]).startswith("This code was already used")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("lose", ConnectionClosedError),
        ("throttle", ClientError),
        ("garbage", ResponseParserError),
    ],
)
def test_three_lost_answers_give_the_last_ones_own_error(
    sts: LocalSts, alice: Alice, sign_in: SignIn, how: Failure, error: type[Exception]
) -> None:
    """The codes were not wrong, so botocore's error is raised."""
    sts.fail_next(how, 3, action="GetSessionToken")
    with pytest.raises(error):
        sign_in(alice)
    assert len(set(sent(sts))) == len(sent(sts)) == len(alice.requests) == 3


def test_an_answer_that_takes_too_long_is_a_lost_one(
    sts: LocalSts, alice: Alice, role_a: Role
) -> None:
    """botocore stops reading after 60 s, or after the time that the user's session sets."""
    impatient = botocore.session.Session()
    impatient.set_default_client_config(Config(read_timeout=0.3))
    session = boto3.Session(botocore_session=impatient)
    rolevault.install(role_a.arn, session=session, mfa_serial=alice.serial, mfa_callback=alice)
    sts.fail_next("slow", seconds=2, action="GetSessionToken")
    rolevault.ensure(session)
    lost = "STS's answer was lost. The code counts as used."
    assert [request.last_error for request in alice.requests] == [None, lost]
    assert len(set(sent(sts))) == 2


def test_a_code_that_was_not_sent_is_not_used(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    sign_in: SignIn,
    monkeypatch: pytest.MonkeyPatch,
    clock: time_machine.Traveller,
) -> None:
    """Without a connection botocore's own error is raised at once, and STS accepts the same code
    later.
    """
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        answers = Answers([alice.device.next_code()])
        with pytest.raises(EndpointConnectionError):
            sign_in(answers)
        assert len(answers.requests) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    sign_in(Answers(answers.answers))
    assert sent(sts) == answers.answers


@pytest.mark.parametrize("options", [{}, {"mfa_session_seconds": 0}])
def test_a_wrong_device_is_stss_own_error_at_once(
    sts: LocalSts, alice: Alice, sign_in: SignIn, options: dict[str, object]
) -> None:
    """No code would help, so nobody is asked for another one."""
    with pytest.raises(ClientError, match="verify your MFA serial number"):
        sign_in(alice, mfa_serial="arn:aws:iam::999988887777:mfa/bob", **options)
    assert len(alice.requests) == len(sent(sts)) == 1


def test_what_a_callback_raises_reaches_the_caller(sts: LocalSts, sign_in: SignIn) -> None:
    """The error of a user's callback is not wrapped."""

    class CancelledError(Exception):
        pass

    def cancel(request: MfaRequest) -> str:
        raise CancelledError

    with pytest.raises(CancelledError):
        sign_in(cancel)
    assert sent(sts) == []


@pytest.mark.parametrize("answer", [None, 123456, b"123456"])
def test_a_callback_must_return_a_string(sts: LocalSts, sign_in: SignIn, answer: object) -> None:
    """Anything else is a ConfigurationError that does not show what the callback returned."""
    with pytest.raises(ConfigurationError, match=r"mfa_callback=.*must return a string") as caught:
        sign_in(lambda _: answer)
    assert "123456" not in str(caught.value)
    assert sent(sts) == []


SCRIPT = """
import sys, boto3, rolevault
rolevault.install(sys.argv[1], mfa_serial=sys.argv[2])
try:
    print(boto3.client("sts", region_name="eu-west-1").get_caller_identity()["Account"])
except rolevault.RoleVaultError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def script(tmp_path: Path, alice: Alice, role_a: Role) -> str:
    """The command line of a script as users write it."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    return f"{sys.executable} {file} {role_a.arn} {alice.serial}"


def test_person_at_the_terminal_is_told_what_is_asked_and_why(
    sts: LocalSts, alice: Alice, script: str, tmp_path: Path
) -> None:
    """The prompt names the role, the account and the device. Above the next prompt is the reason
    why a code was refused. The script's own output holds nothing of it.
    """
    out = tmp_path / "out"
    wrong = wrong_code(alice)
    with PtyUser(["sh", "-c", f"{script} </dev/null >{out} 2>&1"]) as person:
        assert person.sees(f"\nCode of {alice.serial}: ") == (
            "rolevault needs an MFA code to enter role Deploy of account 111122223333."
        )
        person.type(f"{wrong}\r")
        assert person.sees(f"\nCode of {alice.serial}: ") == (
            f"{wrong}\nSTS says: {WRONG}\n"
            "Attempt 2 of 3 to enter role Deploy of account 111122223333."
        )
        person.type(f"{wrong}\r")
        person.sees("This code was already used; the next one comes in ")
        assert 1 <= int(person.sees(" s.\nAttempt 3 of 3 ")) <= STEP
        code = alice.device.fresh_code()
        person.sees(f"\nCode of {alice.serial}: ")
        person.type(f"{code}\r")
        assert person.leaves() == 0
        assert person.screen.endswith(f": {code}\n")
    assert out.read_text() == "111122223333\n"
    assert sent(sts) == [wrong, code]


def test_nobody_there_is_an_error_at_once(
    sts: LocalSts, alice: Alice, script: str, tmp_path: Path
) -> None:
    """Without a terminal, and in a background job of a real shell, MfaRequiredError says why. The
    lock of the sign-in is free then: the person's next command asks.
    """
    with PtyUser(["bash", "--norc", "--noprofile", "--noediting", "-i"]) as person:
        person.type(f"setsid {script} | cat\r")
        person.sees(f"MfaRequiredError A code of {alice.serial} is needed (to enter role Deploy")
        person.sees("nobody to ask: there is no terminal.")
        person.type(f"{script} &\r")
        person.sees("MfaRequiredError")
        person.sees("nobody to ask: this is a background job of its terminal.")
        person.type(f"wait; jobs; {script}\r")
        assert "Stopped" not in person.sees("Code of ")
        person.sees(": ")
        person.type(f"{alice.device.fresh_code()}\r")
        person.sees("111122223333\n")
    assert len(sent(sts)) == 1


def test_nobody_there_names_what_to_do(
    sts: LocalSts, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that rolevault has started nobody is asked, even at a terminal."""
    monkeypatch.setenv("ROLEVAULT_NESTED", "1")
    with pytest.raises(MfaRequiredError, match=r"rolevault\.ensure\(\)") as caught:
        sign_in(None)
    assert caught.value.reason == "this process was started by rolevault itself"
    assert sts.calls == []


#: Prints the code of its device at argv[2] seconds from now, and notes the run.
CODES = """
import base64, hmac, pathlib, sys, time
with open(sys.argv[3], "a") as log:
    log.write("run\\n")
counter = int((time.time() + float(sys.argv[2])) // 30).to_bytes(8, "big")
digest = hmac.digest(base64.b32decode(sys.argv[1]), counter, "sha1")
start = digest[-1] & 15
print(f"{(int.from_bytes(digest[start:start + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}")
"""


@pytest.mark.parametrize("why", ["used", "lost"])
def test_a_command_is_asked_again_in_the_next_time_step(
    sts: LocalSts, alice: Alice, sign_in: SignIn, tmp_path: Path, why: str
) -> None:
    """Until the next time step a command prints the same code, and three attempts would be over
    in a moment. It is asked again after that, whether the code was used or the answer was lost.
    """
    log = tmp_path / "log"
    step = int(time.time() // STEP)
    with time_machine.travel(step * STEP + 1, tick=False) as traveller:
        if why == "used":
            sign_in(Answers([alice.device.code()]))
        else:
            sts.fail_next("lose", action="GetSessionToken")
        traveller.move_to(step * STEP + 28, tick=True)
        offset = time.time() - time_machine.escape_hatch.time.time()
        sign_in([sys.executable, "-ISc", CODES, alice.device.secret, str(offset), str(log)])
    assert log.read_text() == "run\nrun\n"
    assert sent(sts) == [alice.device.code(step * STEP), alice.device.code((step + 1) * STEP)]


def test_a_used_code_is_refused_for_three_time_steps(
    sts: LocalSts, alice: Alice, sign_in: SignIn, clock: time_machine.Traveller
) -> None:
    """STS accepts a code in its own time step and in the steps beside it. The vault remembers the
    code for as long.
    """
    code, other = alice.device.next_code(), alice.device.next_code()
    sign_in(Answers([code]))
    (entry,) = [each for each in Vault().entries() if each["kind"] == "codes"]
    assert entry["expires"].timestamp() == pytest.approx(time.time() + 90, abs=1)
    clock.shift(89)
    answers = Answers([code, alice.device.next_code()])
    sign_in(answers)
    assert str(answers.errors[1]).startswith("This code was already used")
    clock.shift(2)
    answers = Answers([code, other, alice.device.next_code()])
    sign_in(answers)
    assert answers.errors[1] == f"STS says: {WRONG}"


def test_the_used_codes_of_other_processes_stay_in_the_vault(
    sts: LocalSts, alice: Alice, sign_in: SignIn
) -> None:
    """A process adds its own codes to those that others have used; what has ended is left out."""
    sign_in(Answers([alice.device.next_code()]))
    vault = Vault()
    (key,) = [each["key"] for each in vault.entries() if each["kind"] == "codes"]
    now = time.time()
    vault[key] = {**vault[key], "codes": {"theirs": now + 60, "ended": now - 1}}
    code = alice.device.next_code()
    sign_in(Answers([code]))
    assert Vault()[key]["codes"].keys() == {"theirs", code}
