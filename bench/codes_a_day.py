"""
How many MFA codes a working day takes: a script every 10 minutes for 8 hours,
over 5 accounts that all demand MFA, by rolevault and by what one would use
instead. One local STS, one clock that is moved for both sides.

    python bench/codes_a_day.py
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import time_machine
from botocore.utils import JSONFileCache

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "aws"))
import rolevault
from local_iam import Device
from local_sts import LocalSts

NAMES = ("dev", "test", "stage", "prod", "audit")
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


def day(script: Script, duration_seconds: int) -> int:
    """Count the codes of one day."""
    codes = 0
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
            HOME=home,
            AWS_CONFIG_FILE=str(Path(home, "config")),
            AWS_ENDPOINT_URL_STS=sts.url,
            ROLEVAULT_PASSPHRASE="correct horse battery staple",
        )

        def ask(_: object) -> str:
            nonlocal codes
            codes += 1
            return next_code(device, clock)

        for _ in range(48):
            for name in NAMES:
                client: Any = script(name, ask).create_client("sts")
                client.get_caller_identity()
            clock.shift(600)
    return codes


def next_code(device: Device, clock: time_machine.Traveller) -> str:
    # A person waits for the next one, too.
    clock.shift(30)
    return device.code()


def main() -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "ROLEVAULT_"))]:
        del os.environ[name]
    print(f"{'MFA codes in a day, duration_seconds =':40}{900:>8}{3600:>8}{43200:>8}")
    for title, script in (
        ("botocore's profiles", botocore_alone),
        ("botocore with JSONFileCache (plaintext)", botocore_with_cache),
        ("rolevault", with_rolevault),
    ):
        counts = [day(script, seconds) for seconds in (900, 3600, 43200)]
        print(f"{title:40}" + "".join(f"{count:8}" for count in counts), flush=True)


if __name__ == "__main__":
    main()
