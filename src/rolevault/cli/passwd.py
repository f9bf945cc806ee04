"""``rolevault passwd``: give the vault a new passphrase."""

import click


@click.command("passwd")
def command() -> None:
    """Give the vault a new passphrase. (aws-vault's rotate changes IAM keys; this does not.)

    \b
    Example:
      rolevault passwd
    """
    import rolevault

    kept = rolevault.rotate_passphrase()
    click.echo(f"The vault has a new passphrase; {kept} entries were kept.")
