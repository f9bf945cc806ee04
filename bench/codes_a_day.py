"""
How many MFA codes and passphrases a person types on a working day: a script every 10 minutes for
8 hours, over 5 accounts that all demand MFA. One local STS, and one clock that is moved for all.

The first table compares rolevault with what one would use instead, inside one process. The second
one counts what is typed at real terminals, where each script is a process of its own: Linux only.
Root becomes another user there, because ROLEVAULT_UNLOCK does nothing for root.

    python bench/codes_a_day.py
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import botocore.session
import time_machine
from botocore.utils import JSONFileCache

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "aws"))
import rolevault
from local_iam import Device
from local_sts import LocalSts
from pty_user import PtyUser

NAMES = ("dev", "test", "stage", "prod", "audit")
SCRIPTS = 48
PASSPHRASE = "correct horse battery staple"
Script = Callable[[str, Callable[[object], str]], botocore.session.Session]


def botocore_alone(name: str, ask: Callable[[object], str]) -> botocore.session.Session:
    session = botocore.session.Session(profile=name)
    provider = session.get_component("credential_provider").get_provider("assume-role")
    provider._prompter = ask
    return session


def botocore_with_cache(name: str, ask: Callable[[object], str]) -> botocore.session.Session:
    session = botocore_alone(name, ask)
    provider = session.get_component("credential_provider").get_provider("assume-role")
    provider.cache = JSONFileCache(os.path.expanduser("~/cache"))
    return session


def with_rolevault(name: str, ask: Callable[[object], str]) -> botocore.session.Session:
    return rolevault.session(profile=name, mfa_callback=ask)._session


class Day(NamedTuple):
    """Nine o'clock in the morning: an STS, a person with a device, and an empty vault."""

    clock: time_machine.Traveller
    device: Device
    home: Path


@contextlib.contextmanager
def morning(duration_seconds: int) -> Iterator[Day]:
    with (
        LocalSts() as sts,
        tempfile.TemporaryDirectory() as home,
        time_machine.travel("2026-03-02T09:00:00Z", tick=False) as clock,
    ):
        alice = sts.add_user()
        device = alice.add_mfa_device()
        config = [
            "[profile alice]",
            f"aws_access_key_id = {alice.access_key_id}",
            f"aws_secret_access_key = {alice.secret_access_key}",
        ]
        for number, name in enumerate(NAMES, 1):
            account = f"{number:012}"
            role = sts.add_role(name, account=account, mfa=True, max_session_duration=43200)
            config += [
                f"[profile {name}]",
                f"role_arn = {role.arn}",
                "source_profile = alice",
                "region = eu-west-1",
                f"mfa_serial = {device.serial}",
                f"duration_seconds = {duration_seconds}",
            ]
        Path(home, "config").write_text("\n".join(config))
        os.environ.update(
            HOME=home, AWS_CONFIG_FILE=str(Path(home, "config")), AWS_ENDPOINT_URL_STS=sts.url
        )
        yield Day(clock, device, Path(home))


def codes(script: Script, duration_seconds: int) -> int:
    """Count the codes of one day."""
    asked = 0
    with morning(duration_seconds) as day:
        os.environ["ROLEVAULT_PASSPHRASE"] = PASSPHRASE

        def ask(_: object) -> str:
            nonlocal asked
            asked += 1
            return next_code(day)

        for _ in range(SCRIPTS):
            for name in NAMES:
                client: Any = script(name, ask).create_client("sts")
                client.get_caller_identity()
            day.clock.shift(600)
    del os.environ["ROLEVAULT_PASSPHRASE"]
    return asked


def next_code(day: Day) -> str:
    # A person waits for the next one, too.
    day.clock.shift(30)
    return day.device.code()


#: Starts at the time of the moved clock.
_AT = "import sys, time_machine; time_machine.travel(float(sys.argv[1]), tick=True).start()\n"
_SCRIPT = f"""{_AT}
import rolevault
for name in {NAMES}:
    rolevault.session(profile=name).client("sts").get_caller_identity()
"""
_LOGIN = f"{_AT}from rolevault.cli.main import main; main(['login', '--all'])"
_PROMPT = re.compile(r"(Code|Passphrase)[^\n]*: $")


def typed(settings: dict[str, str], programs: Sequence[str]) -> tuple[int, int]:
    """Count the codes and the passphrases that are typed at the terminals of one day."""
    counts = {"Code": 0, "Passphrase": 0}
    with morning(3600) as day, somebody_logged_in(day.home) as become:
        rolevault.Vault(passphrase=PASSPHRASE)["made before"] = {}
        give_away(day.home)
        for program in programs:
            python = [*become, sys.executable, "-c", program, str(time.time())]
            with PtyUser(python, {**os.environ, **settings}) as user:
                answered = 0
                while user.process.poll() is None:
                    user._read(0.02)
                    prompt = _PROMPT.search(user.screen[answered:])
                    if prompt is not None:
                        answered = len(user.screen)
                        counts[prompt[1]] += 1
                        answer = next_code(day) if prompt[1] == "Code" else PASSPHRASE
                        user.type(f"{answer}\r")
                assert user.leaves() == 0, user.screen
            day.clock.shift(600)
    return counts["Code"], counts["Passphrase"]


@contextlib.contextmanager
def somebody_logged_in(home: Path) -> Iterator[list[str]]:
    """How to start a program as somebody who is logged in. The keyring of a user ends with the
    user's last process.
    """
    become: list[str] = []
    if os.getuid() == 0:
        # The user may read Python and its packages, wherever root has put them.
        may_read = [f"--{which}-caps=+dac_read_search" for which in ("inh", "ambient")]
        become = ["setpriv", "--reuid=61001", "--regid=61001", "--clear-groups", *may_read]
    with subprocess.Popen([*become, "cat"], stdin=subprocess.PIPE):
        yield become


def give_away(home: Path) -> None:
    """Have the person own the home."""
    if os.getuid() == 0:
        for each in (home, *home.rglob("*")):
            shutil.chown(each, 61001, 61001)


def main() -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "ROLEVAULT_"))]:
        del os.environ[name]
    print(f"{'MFA codes in a day, duration_seconds =':40}{900:>10}{3600:>10}{43200:>10}")
    for title, script in (
        ("botocore's profiles", botocore_alone),
        ("botocore with JSONFileCache (plaintext)", botocore_with_cache),
        ("rolevault", with_rolevault),
    ):
        counts = [codes(script, seconds) for seconds in (900, 3600, 43200)]
        print(f"{title:40}" + "".join(f"{count:10}" for count in counts), flush=True)
    print(f"\n{'Typed in a day at real terminals':40}{'codes':>10}{'passphrases':>13}")
    unlock, day = {"ROLEVAULT_UNLOCK": "8h"}, [_SCRIPT] * SCRIPTS
    for title, settings, programs in (
        ("a prompt in each script", {}, day),
        ("ROLEVAULT_UNLOCK=8h", unlock, day),
        ("ROLEVAULT_UNLOCK=8h, rolevault login", unlock, [_LOGIN, *day]),
    ):
        code, passphrase = typed(settings, programs)
        print(f"{title:40}{code:10}{passphrase:13}", flush=True)


if __name__ == "__main__":
    main()
