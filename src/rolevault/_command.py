"""Running a user's command that prints a secret: a passphrase or a code.

No shell, a limited time, nothing of ours in its environment that it could
pass on.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence

TIMEOUT_SECONDS = 30.0
_OUTPUT_LIMIT = 64 * 1024


class CommandFailedError(Exception):
    """The command gave nothing; the text says why, with its stderr."""


def split(command: str) -> list[str]:
    """A command line in its words, as the system's shell would see them."""
    if os.name == "posix":
        try:
            return shlex.split(command)
        except ValueError as error:
            raise CommandFailedError(f"it cannot be read as a command line: {error}") from None
    # shlex eats the backslashes of Windows paths.
    words = re.findall(r'"([^"]*)"|(\S+)', command)
    return [quoted or plain for quoted, plain in words]


def environment() -> dict[str, str]:
    """What children inherit: no passphrase, and the mark that they must not ask."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ROLEVAULT_PASSPHRASE")}
    return {**inherited, "ROLEVAULT_NESTED": "1"}


def run(argv: Sequence[str], *, shell: bool = False) -> bytes:
    """What the command prints on its standard output.

    Its stdin is the terminal where there is one, so that a hardware key's tool
    can ask for a touch. Its stderr is shown where it fails.

    :raises CommandFailedError: not found, failed, silent, or slower than 30 s.
    """
    if not argv:
        raise CommandFailedError("it is empty")
    try:
        stdin = os.open("/dev/tty" if os.name == "posix" else "CON", os.O_RDONLY)
    except OSError:
        stdin = os.open(os.devnull, os.O_RDONLY)
    try:
        with subprocess.Popen(  # noqa: S603  the user's own command, from their own settings
            argv[0] if shell else list(argv),
            shell=shell,  # only a profile's mfa_process, which aws-vault runs this way
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as process:
            try:
                output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                reason = f"it did not answer within {TIMEOUT_SECONDS:g} s"
                raise CommandFailedError(reason) from None
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        raise CommandFailedError(f"it cannot be started: {error.strerror}") from None
    finally:
        os.close(stdin)
    if process.returncode:
        said = errors.decode(errors="replace").strip()[-500:]
        raise CommandFailedError(
            f"it ended with {_status(process.returncode)}" + (f" and said: {said}" if said else "")
        )
    if not output or len(output) > _OUTPUT_LIMIT:
        raise CommandFailedError("it printed nothing" if not output else "it printed too much")
    return output


def _status(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"status {code}"
