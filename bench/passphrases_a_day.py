"""
How often a person types the passphrase on a working day: 48 scripts, each a process of its own at
a real terminal, that open one vault; with and without ROLEVAULT_UNLOCK. Linux only. Root becomes
another user, because ROLEVAULT_UNLOCK does nothing for root.

    python bench/passphrases_a_day.py
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from processes import quick_place
from pty_user import PtyUser
from rolevault import Vault

SCRIPTS = 48
PASSPHRASE = "correct horse battery staple"
USER = 61001
BECOME = f"""
import os, sys
from rolevault import Vault, lock
from rolevault._vault import kernel_keyring
kernel_keyring.refusal()  # imports what another user may not be able to read
if os.getuid() == 0:
    os.setgroups([]); os.setgid({USER}); os.setuid({USER})
"""
SCRIPT = BECOME + "print('opened', len(Vault(sys.argv[1])))"
# The keyring of a user ends with the user's last process. Somebody who works is logged in.
LOGGED_IN = BECOME + "print(flush=True); sys.stdin.read(); lock(sys.argv[1])"


def typed(path: Path, environment: dict[str, str]) -> int:
    """Count the prompts of one day."""
    prompts = 0
    arguments = [sys.executable, "-c", LOGGED_IN, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as login:
        assert login.stdout is not None
        login.stdout.readline()
        for _ in range(SCRIPTS):
            with PtyUser([sys.executable, "-c", SCRIPT, str(path)], environment) as user:
                shown = ""
                while not shown.endswith(("Passphrase: ", "opened 1\n")):
                    user._read(0.05)
                    shown = user.screen
                if shown.endswith("Passphrase: "):
                    prompts += 1
                    user.type(f"{PASSPHRASE}\r")
                    user.sees("opened 1")
                assert user.leaves() == 0
    return prompts


def main() -> None:
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "ROLEVAULT_"))}
    for title, settings in (
        ("a prompt in each script", {}),
        ("ROLEVAULT_UNLOCK=8h", {"ROLEVAULT_UNLOCK": "8h"}),
    ):
        with quick_place() as path:
            Vault(path, PASSPHRASE)["entry"] = {}
            if os.getuid() == 0:
                for each in (path.parent.parent, path.parent, *path.parent.iterdir()):
                    os.chown(each, USER, USER)
            home = {"HOME": str(path.parent.parent)}
            print(f"{title:40}{typed(path, {**inherited, **home, **settings}):8}", flush=True)


if __name__ == "__main__":
    main()
