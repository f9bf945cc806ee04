"""
What ``make demo`` shows: ``two_accounts.py`` as a person lives with it.

A local STS stands in for AWS and checks what AWS checks; a terminal is opened
for each run, and what is asked there is answered here.
"""

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rolevault

HERE = Path(__file__).parent
OLD, NEW = "correct horse battery staple", "another horse, another staple"


def main() -> int:
    # Nothing of this machine's AWS, vault or proxy comes into it.
    for name in list(os.environ):
        if name.startswith(("AWS_", "ROLEVAULT_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as home, local_sts() as aws:
        os.environ.update(
            HOME=home,
            AWS_ACCESS_KEY_ID=aws["access_key_id"],
            AWS_SECRET_ACCESS_KEY=aws["secret_access_key"],
            AWS_ENDPOINT_URL_STS=aws["url"],
            AWS_EC2_METADATA_DISABLED="true",
        )
        vault = Path(home, ".aws", "rolevault", "vault")

        title("Run 1: nothing is in the vault yet")
        codes = run(aws, OLD)
        say(f"Run 1 asked for {codes} code{'s' * (codes != 1)}, for two accounts.")
        check(codes == 1)
        before = calls(aws)
        check(before == {"GetSessionToken": 1, "AssumeRole": 2, "GetCallerIdentity": 2})

        title("Run 2: another process, a moment later")
        codes = run(aws, OLD)
        made = {name: n - before.get(name, 0) for name, n in calls(aws).items()}
        say(f"Run 2 asked for {codes or 'no'} codes and called STS only to print its accounts.")
        check(codes == 0)
        check({name: n for name, n in made.items() if n} == {"GetCallerIdentity": 2})

        title("The vault")
        data = vault.read_bytes()
        modes = [f"{path.stat().st_mode & 0o777:04o}" for path in (vault, vault.parent)]
        say(f"{len(data)} bytes, mode {modes[0]} in a directory of mode {modes[1]}.")
        check(modes == ["0600", "0700"])
        secrets = [aws["mfa_serial"], *aws["roles"].values()]
        secrets += [arn.split(":")[4] for arn in secrets]
        for entry in rolevault.Vault(passphrase=OLD).values():
            keys = entry.get("Credentials", {})
            secrets += [keys[name] for name in keys if name != "Expiration"]
        say(f"Searched for {len(secrets)} keys, tokens, ARNs and account ids: none is readable.")
        check(not any(secret.encode() in data for secret in secrets))

        title("The wrong passphrase")
        say(refusal("a wrong guess"))
        check(vault.read_bytes() == data)

        title("A new passphrase")
        say(f"{rolevault.rotate_passphrase(NEW, old=OLD)} entries were sealed again.")
        say("With the old one: " + refusal(OLD))

        title("Run 3: under the new passphrase")
        codes = run(aws, NEW)
        say(f"Run 3 asked for {codes or 'no'} codes.")
        check(codes == 0)
    return 0


def run(aws: dict[str, Any], passphrase: str) -> int:
    """Run the example at a terminal of its own; return how many codes it asked for."""
    command = [
        sys.executable,
        str(HERE / "two_accounts.py"),
        aws["mfa_serial"],
        aws["roles"]["A"],
        aws["roles"]["B"],
    ]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)  # noqa: S606  a shell would add nothing
    codes = 0
    seen = ""
    with contextlib.suppress(OSError):  # the terminal's end, as Linux reports it
        while select.select([terminal], [], [], 60)[0]:
            shown = os.read(terminal, 4096).decode(errors="replace")
            if not shown:
                break
            print(shown.replace("\r\n", "\n"), end="", flush=True)
            seen = (seen + shown).rpartition("\n")[2]
            if seen.endswith(": "):
                is_code = seen.startswith("Code of ")
                codes += is_code
                answer = str(control(aws, code=True)["code"]) if is_code else passphrase
                os.write(terminal, answer.encode() + b"\n")
                seen = ""
    os.close(terminal)
    check(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0)
    return codes


def refusal(passphrase: str) -> str:
    try:
        list(rolevault.Vault(passphrase=passphrase))
    except rolevault.WrongPassphraseError as error:
        return str(error)
    raise SystemExit("It opened the vault, and must not.")


@contextlib.contextmanager
def local_sts() -> Iterator[dict[str, Any]]:
    command = [sys.executable, str(HERE.parent / "tests" / "aws" / "local_sts.py"), "--control"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield json.loads(server.stdout.readline() if server.stdout else "")
        finally:
            server.terminate()


def control(aws: dict[str, Any], **order: Any) -> dict[str, Any]:
    body = json.dumps({"token": aws["control"], **order}).encode()
    with urllib.request.urlopen(f"{aws['url']}/_control", body, timeout=60) as answer:  # noqa: S310
        return dict(json.load(answer))


def calls(aws: dict[str, Any]) -> dict[str, int]:
    return dict(control(aws, counts=True)["counts"])


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    print(f"-> {text}", flush=True)


def check(holds: bool) -> None:
    if not holds:
        raise SystemExit("The demo did not go as it must.")


if __name__ == "__main__":
    sys.exit(main())
