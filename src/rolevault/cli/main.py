"""The script ``rolevault``: it finds the verb, and turns errors into messages and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a person is needed.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

FAILED, NEEDS_PERSON = 1, 3

#: Each verb, and the name of its command in the module of the same name.
VERBS = ("status", "login", "exec", "export", "unlock", "lock", "passwd", "clear")
ALIASES = {"ls": "status", "list": "status"}

#: What people type who come from aws-vault, and what to type instead.
_ELSEWHERE = {
    "add": "rolevault keeps no long-term keys: put them where boto3 finds them (aws configure).",
    "rotate": "rolevault does not change IAM keys. For a new passphrase, type rolevault passwd.",
    "remove": "rolevault keeps no long-term keys. To forget sessions, type rolevault clear.",
}


class Verbs(click.Group):
    """The verbs, each imported when it is used: ``status`` must not wait for ``exec``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name in _ELSEWHERE:
            raise click.UsageError(_ELSEWHERE[name])
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"rolevault.cli.{name}").command
        return command


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rolevault")
def verbs() -> None:
    """One MFA code a day for every AWS script, from an encrypted vault.

    \b
    Example:
      rolevault login prod
      rolevault exec prod -- aws s3 ls
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the verb that the arguments name, by default those of the process, and exit."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        # click ends the process where the reader of stdout has left, and Ctrl-C is its Abort.
        code = verbs.main(arguments, prog_name="rolevault", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return FAILED
    except Exception as error:
        failed = exit_code(error)
        if failed is None:
            raise
        say(str(error))
        return failed
    return code if isinstance(code, int) else 0


def exit_code(error: Exception) -> int | None:
    """The exit code of an error that a user can do something about; None for a mistake in
    rolevault, whose traceback is wanted.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    import rolevault

    if isinstance(error, (rolevault.PassphraseRequiredError, rolevault.MfaRequiredError)):
        return NEEDS_PERSON
    return FAILED if isinstance(error, (BotoCoreError, ClientError, OSError)) else None


def say(text: str) -> None:
    """Print a line about what happened on stderr: stdout belongs to the result."""
    click.echo(f"rolevault: {text}", err=True)
