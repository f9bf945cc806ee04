"""``rolevault exec``: run a command with the credentials of a role in its environment."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from rolevault.cli import targets
from rolevault.cli.main import FAILED, say


class _BeforeDashes(click.Command):
    """Options stand anywhere before ``--``. Without ``--``, the command begins after PROFILE."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.allow_interspersed_args = cut < len(args)
        ctx.obj = args[cut + 1 :]
        return super().parse_args(ctx, args[:cut])


@click.command("exec", cls=_BeforeDashes)
@click.argument(
    "words",
    metavar="PROFILE -- COMMAND...",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=targets.complete,
)
@click.option("-j", "--json", "as_json", is_flag=True, hidden=True)
@click.option("-t", "--mfa-token", hidden=True)
@click.option("--nest", is_flag=True, help="Run inside another exec, too.")
@click.option(
    "--server",
    "--ecs-server",
    is_flag=True,
    help="Serve the credentials to the command, so that they renew themselves.",
)
@targets.options
@click.pass_obj
def command(
    after: list[str],
    /,
    words: tuple[str, ...],
    nest: bool,
    server: bool,
    as_json: bool,
    mfa_token: str | None,
    **given: Any,
) -> int:
    """Run a command with the credentials of a role in its environment.

    Without a command, it starts your shell. The exit code is the command's. The variables are
    those that aws-vault sets.

    \b
    Example:
      rolevault exec prod -- aws s3 ls
    """
    if as_json:
        raise click.UsageError("For JSON, type rolevault export PROFILE --format json.")
    if mfa_token is not None:
        text = "Other users can read a command line. Leave the code out: you are asked for it."
        raise click.UsageError(text)
    profile = words[0] if words and not given["role_arn"] else None
    argv = [*words[profile is not None :], *after] or [
        os.environ.get("SHELL") or os.environ.get("COMSPEC") or "/bin/sh"
    ]
    if profile is None and not given["role_arn"]:
        raise click.UsageError("Name a profile, or use --role-arn.")
    if (outer := os.environ.get("AWS_VAULT")) and not nest:
        say(f"this shell already has the credentials of {outer}. Leave it, or pass --nest.")
        return FAILED
    from rolevault.cli import environment

    session = targets.session_of(profile, **given)
    name = profile or given["role_arn"]
    if server:
        import rolevault
        from rolevault.cli import child

        with rolevault.endpoint(session) as endpoint:
            env = {**endpoint.env(), "AWS_VAULT": name, "ROLEVAULT_NESTED": "1"}
            return _started(lambda: child.run(argv, env), argv)
    found = environment.variables(session)
    return _become(argv, {**_without_secrets(), **found, "AWS_VAULT": name})


def _without_secrets() -> dict[str, str]:
    """The environment without other credentials and without the passphrase."""
    from rolevault.cli.environment import REPLACED

    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in REPLACED and not name.startswith("ROLEVAULT_PASSPHRASE")
    }
    return {**kept, "ROLEVAULT_NESTED": "1"}


def _become(argv: list[str], env: dict[str, str]) -> int:
    """Run the command in the place of this process, so that signals reach it."""
    if os.name != "posix":
        from rolevault.cli import child

        return _started(lambda: child.run(argv, env), argv)
    # Python ignores these signals, and a program inherits that: yes | head would complain.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    # It is the command that the user named.
    return _started(lambda: os.execvpe(argv[0], argv, env), argv)  # noqa: S606


def _started(start: Callable[[], int], argv: list[str]) -> int:
    """What ``start`` returns; the shell's exit code where the command cannot be run: 126 or 127."""
    sys.stdout.flush()
    try:
        return start()
    except FileNotFoundError:
        say(f"there is no command {argv[0]!r}.")
        return 127
    except OSError as error:
        say(f"{argv[0]!r} cannot be run: {error.strerror}.")
        return 126
