"""
How long many roles take: each a session of its own, 16 threads, an STS that
answers after 20 ms and runs in another process.

    python bench/fan_out.py [ROLES]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "aws"))
import rolevault
from local_sts import LocalSts

THREADS = 16


def serve(roles: int) -> None:
    """A local STS, until stdin ends."""
    with LocalSts(latency=0.02) as sts:
        user = sts.add_user()
        facts = {
            "AWS_ENDPOINT_URL_STS": sts.url,
            "AWS_ACCESS_KEY_ID": user.access_key_id,
            "AWS_SECRET_ACCESS_KEY": user.secret_access_key,
        }
        arns = [sts.add_role(f"Role{number}").arn for number in range(roles)]
        print(json.dumps([facts, arns]), flush=True)
        sys.stdin.read()
        print(sts.count("AssumeRole"))


def enter(session: Callable[..., boto3.Session], name: str) -> str:
    keys = session(name).get_credentials()
    assert keys is not None
    return keys.get_frozen_credentials().access_key or ""


def main(roles: int) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "ROLEVAULT_"))]:
        del os.environ[name]
    command = [sys.executable, __file__, "serve", str(roles)]
    with (
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as server,
    ):
        assert server.stdout is not None
        facts, arns = json.loads(server.stdout.readline())
        config = Path(home, "config")
        os.environ.update(
            facts,
            HOME=home,
            AWS_CONFIG_FILE=str(config),
            ROLEVAULT_PASSPHRASE="correct horse battery staple",
        )
        config.write_text(
            "".join(
                f"[profile {number}]\nrole_arn = {arn}\ncredential_source = Environment\n"
                "region = eu-west-1\n"
                for number, arn in enumerate(arns)
            )
        )
        print(f"{f'{roles} roles, {THREADS} threads':32}{'seconds':>8}")
        for title, session in (
            ("botocore's profiles", lambda name: boto3.Session(profile_name=name)),
            ("rolevault, an empty vault", lambda name: rolevault.session(profile=name)),
            ("rolevault, all of it again", lambda name: rolevault.session(profile=name)),
        ):
            began = time.perf_counter()
            with ThreadPoolExecutor(THREADS) as pool:
                keys = set(pool.map(lambda n, s=session: enter(s, str(n)), range(roles)))
            assert len(keys) == roles
            print(f"{title:32}{time.perf_counter() - began:8.1f}", flush=True)
        calls = server.communicate("")[0].strip()
        print(f"{'AssumeRole calls, all runs':32}{calls:>8}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
