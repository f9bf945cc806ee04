"""``rolevault login``: sign in now, so that no script asks later."""

from datetime import datetime
from typing import Any

import click

from rolevault.cli import targets
from rolevault.cli.main import FAILED, NEEDS_PERSON, exit_code, say


@click.command("login")
@click.argument("names", metavar="[PROFILE]...", nargs=-1, shell_complete=targets.complete)
@click.option("--all", "everything", is_flag=True, help="Every profile with a role or a device.")
@click.option("--refresh", is_flag=True, help="Ask for a new code, whatever the vault holds.")
@targets.options
def command(names: tuple[str, ...], everything: bool, refresh: bool, **given: Any) -> int:
    """Sign in now, so that nobody is asked later.

    \b
    Example:
      rolevault login prod staging
      rolevault login --all
    """
    if (everything or given["role_arn"]) and names:
        raise click.UsageError("Name profiles, or use --all, or use --role-arn.")
    targets.check_profiles(names)
    wanted: list[str | None] = list(targets.profiles() if everything else names)
    failures = 0
    for number, name in enumerate(wanted or [None], 1):
        label = name or given["role_arn"] or "default"
        count = f"[{number}/{len(wanted)}] " if len(wanted) > 1 else ""
        try:
            until = _sign_in(name, refresh, given)
        except Exception as error:
            # A denial is about one role. Without a person, none of the others gets a code.
            if len(wanted) < 2 or exit_code(error) in (None, NEEDS_PERSON):
                raise
            failures += 1
            say(f"{label}: {error}")
        else:
            click.echo(f"{count}{label}: nobody is asked before {until:%Y-%m-%d %H:%M}.")
    return FAILED if failures else 0


def _sign_in(name: str | None, refresh: bool, given: dict[str, Any]) -> datetime:
    import rolevault

    session = targets.session_of(name, **given)
    return rolevault.ensure(session, refresh=refresh).astimezone()
