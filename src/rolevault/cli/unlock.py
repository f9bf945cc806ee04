"""``rolevault unlock``: type the passphrase once for some hours."""

import click


@click.command("unlock")
@click.option("--for", "time", default="8h", show_default=True, help="How long, such as 90m or 8h.")
@click.option("--force", is_flag=True, help="Also as root, whose containers may share the key.")
def command(time: str, force: bool) -> None:
    """Type the passphrase once; for some hours, no script asks for it.

    The Linux kernel holds the key. rolevault lock ends it at once.

    \b
    Example:
      rolevault unlock --for 10h
    """
    import rolevault

    try:
        rolevault.unlock(time, force=force)
    except rolevault.ConfigurationError as error:
        if error.option == "force":
            text = "As root this needs --force: root's containers could read the key."
            raise click.UsageError(text) from None
        if error.option == "seconds":
            raise click.UsageError(f"--for {time}: {error.rule}") from None
        raise
    click.echo(f"The vault is unlocked for {time}.")
