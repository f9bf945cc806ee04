"""``rolevault clear``: forget sessions."""

import click

from rolevault.cli import targets


@click.command("clear")
@click.argument("names", metavar="[PROFILE]...", nargs=-1, shell_complete=targets.complete)
def command(names: tuple[str, ...]) -> None:
    """Forget the sessions of the roles of some profiles, or delete the vault.

    To forget all sessions needs no passphrase. AWS honours a session until it ends.

    \b
    Example:
      rolevault clear prod
    """
    targets.check_profiles(names)
    import rolevault

    vault = rolevault.Vault()
    if not names:
        if not vault.file.path.exists():
            click.echo(f"There is no vault at {vault.file}.")
            return
        vault.clear()
        click.echo("The vault was deleted, with all sessions.")
        return
    settings = targets.profiles()
    arns = {settings[name].get("role_arn") for name in names if name in settings} - {None}
    gone = [each["key"] for each in vault.entries() if each.get("role_arn") in arns]
    if gone:
        vault.change(dict.fromkeys(gone))
    click.echo(f"{len(gone)} sessions were forgotten.")
