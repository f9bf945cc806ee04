"""
What a script waits for: whole processes, one after the other in turn, so that a
machine that slows down slows them all.

    python bench/startup.py [RUNS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from datetime import datetime, timedelta, timezone
from pathlib import Path

from botocore.credentials import Credentials, RefreshableCredentials

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "aws"))
import rolevault
from local_sts import LocalSts

CALL = "boto3.client('sts', region_name='eu-west-1').get_caller_identity()"
INSTALL = "rolevault.install(ROLE, mfa_serial=MFA)"
CACHE = """
import botocore.session
from botocore.utils import JSONFileCache
s = botocore.session.Session(profile='role')
s.get_component('credential_provider').get_provider('assume-role').cache = JSONFileCache(CACHE)
s.create_client('sts', region_name='eu-west-1').get_caller_identity()
"""

SCRIPTS = {
    "import boto3": "import boto3",
    "import rolevault": "import rolevault",
    "import boto3, rolevault; rolevault.install": "import boto3, rolevault; rolevault.install",
    "boto3.Session()": "import boto3, rolevault; rolevault.install; boto3.Session()",
    "rolevault.install(…)": f"import boto3, rolevault; {INSTALL}",
    "one call, static keys": f"import boto3; {CALL}",
    "one call, botocore + JSONFileCache": CACHE,
    "one call, rolevault, warm, vault locked": f"import boto3, rolevault; {INSTALL}; {CALL}",
}


def main(runs: int) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "ROLEVAULT_"))]:
        del os.environ[name]
    with LocalSts() as sts, tempfile.TemporaryDirectory() as home:
        alice = sts.add_user()
        device = alice.add_mfa_device()
        role = sts.add_role(mfa=False)
        os.environ.update(
            HOME=home,
            AWS_ACCESS_KEY_ID=alice.access_key_id,
            AWS_SECRET_ACCESS_KEY=alice.secret_access_key,
            AWS_ENDPOINT_URL_STS=sts.url,
            AWS_CONFIG_FILE=f"{home}/config",
            ROLEVAULT_PASSPHRASE="correct horse battery staple",
        )
        Path(home, "config").write_text(
            f"[profile role]\nrole_arn = {role.arn}\ncredential_source = Environment\n"
            "region = eu-west-1\n"
        )
        names = f"ROLE, MFA, CACHE = {role.arn!r}, {device.serial!r}, {home + '/cache'!r}\n"
        session = rolevault.session(
            role.arn, mfa_serial=device.serial, mfa_callback=lambda _: device.fresh_code()
        )
        rolevault.ensure(session)
        seconds: dict[str, list[float]] = {title: [] for title in SCRIPTS}
        for turn in range(runs + 1):
            for title, script in SCRIPTS.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", names + script], check=True)
                if turn:  # the first fills caches
                    seconds[title].append(time.perf_counter() - began)
        print(f"{'milliseconds, whole process':44}{'median':>8}{'min':>8}")
        for title, taken in seconds.items():
            print(f"{title:44}{statistics.median(taken) * 1e3:8.1f}{min(taken) * 1e3:8.1f}")
        hot_path(session)


def hot_path(session: object) -> None:
    """Print what one signature pays for its credentials."""
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    peers = {
        "botocore, static": Credentials("AKIA", "secret", "token"),
        "botocore, refreshable": RefreshableCredentials(
            "AKIA", "secret", "token", later, dict, "bench"
        ),
        "rolevault": session._session.get_credentials(),  # type: ignore[attr-defined]
    }
    print(f"\n{'microseconds, get_frozen_credentials()':44}{'best of 7':>8}")
    for title, credentials in peers.items():
        took = min(timeit.repeat(credentials.get_frozen_credentials, number=20000, repeat=7))
        print(f"{title:44}{took / 20000 * 1e6:9.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
