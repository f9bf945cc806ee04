"""``rolevault lock``: end what ``rolevault unlock`` began."""

import click


@click.command("lock")
def command() -> None:
    """Have the passphrase asked for again. This needs no passphrase.

    \b
    Example:
      rolevault lock
    """
    import rolevault

    ended = rolevault.lock()
    click.echo("The vault is locked." if ended else "The vault was not unlocked.")
