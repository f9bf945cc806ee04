"""``rolevault export``: print the credentials of a role, for a shell or a program."""

import json
import shlex
from typing import Any

import click

from rolevault.cli import targets


@click.command("export")
@click.argument("profile", required=False, shell_complete=targets.complete)
@click.option(
    "--format",
    "style",
    type=click.Choice(["env", "json", "ini", "powershell"]),
    default="env",
    show_default=True,
)
@targets.options
def command(profile: str | None, style: str, **given: Any) -> None:
    """Print the credentials of a role. The output is secret.

    \b
    Example:
      eval "$(rolevault export prod)"
    """
    if profile and given["role_arn"]:
        raise click.UsageError("Name a profile, or use --role-arn.")
    from rolevault.cli import environment

    found = environment.variables(targets.session_of(profile, **given))
    click.echo(_shown(found, style, profile or "default"))


def _shown(found: dict[str, str], style: str, name: str) -> str:
    if style == "json":  # as a credential_process prints it
        fields = {
            "AccessKeyId": "AWS_ACCESS_KEY_ID",
            "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
            "SessionToken": "AWS_SESSION_TOKEN",
            "Expiration": "AWS_CREDENTIAL_EXPIRATION",
        }
        values = {field: found[each] for field, each in fields.items() if each in found}
        return json.dumps({"Version": 1, **values}, indent=2)
    if style == "ini":
        names = {
            "aws_access_key_id": "AWS_ACCESS_KEY_ID",
            "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
            "aws_session_token": "AWS_SESSION_TOKEN",
            "region": "AWS_REGION",
        }
        lines = [f"{key}={found[each]}" for key, each in names.items() if each in found]
        return "\n".join([f"[{name}]", *lines])
    if style == "powershell":
        return "\n".join(
            "$Env:{} = '{}'".format(key, value.replace("'", "''")) for key, value in found.items()
        )
    return "\n".join(f"export {key}={shlex.quote(value)}" for key, value in found.items())
