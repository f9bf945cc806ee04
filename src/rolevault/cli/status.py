"""``rolevault status``: what is in the vault, and how long it lasts."""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

import click

from rolevault.cli import targets
from rolevault.cli.main import NEEDS_PERSON, say

#: Of the JSON output. ``docs/status.schema.json`` describes it.
VERSION = 1


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def command(as_json: bool) -> int:
    """Show profiles, and the sessions in the vault. Nothing secret is shown.

    Where the vault is locked and nobody can be asked, it shows the file, and exits with 3.

    \b
    Example:
      rolevault status --json
    """
    import rolevault

    vault = rolevault.Vault()
    shown: dict[str, Any] = {"version": VERSION, "vault": str(vault.file), "locked": False}
    try:
        entries = vault.entries()
    except rolevault.PassphraseRequiredError as error:
        found = os.stat(vault.file.path)
        shown |= {"locked": True, "size": found.st_size, "modified": int(found.st_mtime)}
        age = _span(time.time() - found.st_mtime)
        text = f"{vault.file}: locked, {found.st_size} bytes, written {age} ago"
        click.echo(json.dumps(shown, indent=2) if as_json else text)
        say(str(error))
        return NEEDS_PERSON
    now = datetime.now(timezone.utc)
    live = [each for each in entries if each["expires"] and each["expires"] > now]
    rows = _rows(targets.profiles(), live)
    if as_json:
        devices = [
            {"mfa_serial": each.get("mfa_serial"), "expires": each["expires"].isoformat()}
            for each in live
            if each["kind"] == "mfa"
        ]
        for row in rows:
            row["expires"] = row["expires"] and row["expires"].isoformat()
        click.echo(json.dumps({**shown, "roles": rows, "mfa_sessions": devices}, indent=2))
    else:
        _print(rows, live, now)
    return 0


def _rows(
    profiles: Mapping[str, Mapping[str, Any]], live: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each profile, then for each role in the vault that no profile names."""
    ends: dict[str, datetime] = {}
    for each in live:
        if each["kind"] == "role":
            arn = each["role_arn"]
            ends[arn] = max(each["expires"], ends.get(arn, each["expires"]))
    named = [(name, settings.get("role_arn")) for name, settings in profiles.items()]
    others = [(None, arn) for arn in sorted(ends.keys() - {arn for _, arn in named})]
    return [
        {
            "profile": name,
            "role_arn": arn,
            "account_id": arn.split(":")[4] if arn and arn.count(":") >= 5 else None,
            "expires": ends.get(arn) if arn else None,
        }
        for name, arn in [*named, *others]
    ]


def _print(rows: list[dict[str, Any]], live: Iterable[Mapping[str, Any]], now: datetime) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Where stdout is no terminal, a program reads whole lines.
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False)
    table = Table(box=None, pad_edge=False)
    for title in ("Profile", "Role"):
        table.add_column(title, overflow="fold")
    for title in ("Account", "Session", "Expires in"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        end = row["expires"]
        role = row["role_arn"].partition(":role/")[2] if row["role_arn"] else "-"
        state = Text("yes", "green") if end else Text("-", "dim")
        left = _span((end - now).total_seconds()) if end else "-"
        account = row["account_id"] or "-"
        table.add_row(Text(row["profile"] or "-"), Text(role), account, state, left)
    if rows:
        console.print(table)
    else:
        console.print("No profile has a role or an MFA device, and the vault holds no session.")
    for each in live:
        if each["kind"] == "mfa":
            left = _span((each["expires"] - now).total_seconds())
            device = each.get("mfa_serial", "an MFA device")
            console.print(Text(f"MFA session of {device}: {left} left"), soft_wrap=True)


def _span(seconds: float) -> str:
    """A length of time in its two largest units, such as ``1h 5m``."""
    minutes = int(seconds) // 60
    if minutes >= 1440:
        return f"{minutes // 1440}d {minutes % 1440 // 60}h"
    return f"{minutes // 60}h {minutes % 60}m" if minutes >= 60 else f"{minutes}m"
