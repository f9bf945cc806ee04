"""Writes ``docs/tour.md`` and ``docs/tour.svg``: a new user's first hour, at a real terminal.

Run ``python docs/make_tour.py`` after a change, on Linux. A shell runs each command, and every
line below a ``$`` is what the terminal has shown. STS is the one of the tests, whose clock and
device do not change between two runs. A test fails when the tour is out of date.
"""

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import time_machine
from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "aws"))
from local_sts import LocalSts
from pty_user import PtyUser

ROOT = Path(__file__).parent.parent
TOUR, PICTURE = ROOT / "docs" / "tour.md", ROOT / "docs" / "tour.svg"
#: Of root, whom ``rolevault unlock`` refuses, a tour becomes this user.
USER = 61001
MORNING = "2026-03-02T09:00:00Z"
PROMPT = "tour$ "
OLD, NEW = "correct horse battery staple", "twelve drummers drumming"
#: Each Python of the tour begins at the same time; pip's own one needs no clock.
CLOCK = f"""
import contextlib
with contextlib.suppress(ImportError):
    import time_machine
    time_machine.travel({MORNING!r}, tick=False).start()
"""


class Step(NamedTuple):
    """A command, what it is for, and what a person types at its prompts."""

    about: str
    command: str
    answers: tuple[tuple[str, str], ...] = ()


STEPS = (
    Step(
        "Install rolevault into the environment of your scripts.", "pip install --quiet rolevault"
    ),
    Step(
        "Two profiles of `~/.aws/config` name a role in another account, the profile that enters "
        "it, and the MFA device. Nothing here is special to rolevault.",
        "cat ~/.aws/config",
    ),
    Step("Nothing is signed in yet.", "rolevault status"),
    Step(
        "Sign in. There is no vault yet, so rolevault asks for a passphrase, twice, and hides what "
        "you type. Then it asks for a code of your device.",
        "rolevault login prod",
        (("New passphrase: ", OLD), ("New passphrase: ", OLD), ("alice: ", "code")),
    ),
    Step(
        "Each command is a process of its own, which asks for the passphrase. Type it once a day.",
        "rolevault unlock --for 8h",
        (("Passphrase: ", OLD),),
    ),
    Step("The other account needs no second code.", "rolevault login --all"),
    Step("What is in the vault, and for how long.", "rolevault status"),
    Step(
        "Run any program with the credentials of a role.",
        'rolevault exec prod -- python -c "import boto3; '
        "print(boto3.client('sts').get_caller_identity()['Arn'])\"",
    ),
    Step("Its exit code is the program's.", "rolevault exec prod -- sh -c 'exit 3'; echo $?"),
    Step("A script needs one line for the same.", "cat report.py"),
    Step("It asks nothing.", "python report.py"),
    Step(
        "Change the passphrase.",
        "rolevault passwd",
        (("Current passphrase: ", OLD), ("New passphrase: ", NEW), ("New passphrase: ", NEW)),
    ),
    Step(
        "A new passphrase locks the vault. A wrong one is asked for again, three times at most.",
        "rolevault status",
        (("Passphrase: ", "a wrong one"), ("Passphrase: ", NEW)),
    ),
    Step("", "rolevault unlock", (("Passphrase: ", NEW),)),
    Step("Lock the vault when you leave.", "rolevault lock"),
)
#: The first and the last command that the picture shows.
SHOWN = ("rolevault login prod", "python report.py")

REPORT = """\
import boto3, rolevault

rolevault.install(profile="staging")
print(boto3.client("sts").get_caller_identity()["Arn"])
"""


def screens() -> list[str]:
    """What the terminal has shown of each step, with its colours."""
    with (
        time_machine.travel(MORNING, tick=False),
        LocalSts() as sts,
        tempfile.TemporaryDirectory() as place,
    ):
        alice = sts.add_user()
        device = alice.add_mfa_device()
        device.secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105  of the tour alone
        roles = {
            "prod": sts.add_role("Deploy", account="111122223333", mfa=True),
            "staging": sts.add_role("Audit", account="444455556666", mfa=True),
        }
        home = Path(place, "alice")
        (home / ".aws").mkdir(parents=True)
        (home / ".aws" / "credentials").write_text(
            f"[alice]\naws_access_key_id = {alice.access_key_id}\n"
            f"aws_secret_access_key = {alice.secret_access_key}\n"
        )
        (home / ".aws" / "config").write_text(
            "\n".join(
                f"[profile {name}]\nrole_arn = {role.arn}\nsource_profile = alice\n"
                f"mfa_serial = {device.serial}\nregion = eu-west-1\n"
                for name, role in roles.items()
            )
        )
        (home / "report.py").write_text(REPORT)
        with shell(home, sts.url) as person:
            return [screen(person, step, device.code(), home) for step in STEPS]


@contextmanager
def shell(home: Path, sts_url: str) -> Iterator[PtyUser]:
    """A shell of somebody who is logged in, in a new home."""
    packages = home / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(CLOCK)
    become: list[str] = []
    if os.getuid() == 0:
        for each in (home.parent, home, *home.rglob("*")):
            shutil.chown(each, USER, USER)
        # The user may read Python and its packages, wherever root has put them.
        may_read = [f"--{which}-caps=+dac_read_search" for which in ("inh", "ambient")]
        become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *may_read]
    programs = packages / "bin", Path(sys.executable).parent, ROOT / ".venv-build" / "bin"
    environment = {
        "HOME": str(home),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "AWS_ENDPOINT_URL_STS": sts_url,
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "PYTHONPATH": str(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        # pip takes the wheel of this checkout, without the dependencies, which are there. It is
        # the pip of another environment: that of the tests has none.
        "PIP_PYTHON": sys.executable,
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_FIND_LINKS": str(ROOT / ".wheel"),
        "PIP_TARGET": str(packages),
        "PIP_CONFIG_FILE": os.devnull,
    }
    arguments = [*become, "bash", "--norc", "--noprofile", "--noediting", "-i"]
    with PtyUser(arguments, environment) as person:
        person.type(f"stty cols 80; cd; PS1='{PROMPT}'\r")
        person.sees(f"PS1='{PROMPT}'")
        person.sees(PROMPT)
        yield person


def screen(person: PtyUser, step: Step, code: str, home: Path) -> str:
    person.type(f"{step.command}\r")
    shown = ""
    for prompt, answer in step.answers:
        shown += person.sees(prompt) + prompt
        person.type(f"{code if answer == 'code' else answer}\r")
    shown += person.sees(PROMPT, timeout=60)
    return f"$ {shown.replace(str(home), '/home/alice').rstrip()}\n"


def plain(shown: str) -> str:
    """Without the colours, and without the spaces at the ends of lines."""
    return "".join(f"{line.rstrip()}\n" for line in Text.from_ansi(shown).plain.splitlines())


def tour(shown: list[str]) -> str:
    """The page."""
    page = (
        "# The first hour\n\n"
        "What a new user types and sees. `python docs/make_tour.py` has written this page at a "
        "real terminal.\n"
    )
    for step, screen in zip(STEPS, shown, strict=True):
        about = f"\n{step.about}\n" if step.about else ""
        page += f"{about}\n```console\n{plain(screen)}```\n"
    return page


def picture(shown: list[str]) -> str:
    """The part of the tour that the README shows, as SVG."""
    commands = [step.command for step in STEPS]
    first, last = (commands.index(command) for command in SHOWN)
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(shown[first : last + 1])))
    return console.export_svg(title="rolevault")


def main() -> None:
    shown = screens()
    TOUR.write_text(tour(shown), encoding="utf-8")
    PICTURE.write_text(picture(shown), encoding="utf-8")


if __name__ == "__main__":
    main()
