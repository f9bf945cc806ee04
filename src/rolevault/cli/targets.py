"""Which role a verb is about: a profile, or ``--role-arn`` and ``--mfa-serial``."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import boto3

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--role-arn", help="The role to enter, instead of a profile's."),
    click.option("--mfa-serial", help="The MFA device, instead of the profile's."),
    click.option("--region", "region_name", help="The region, instead of the profile's."),
    click.option(
        "-d",
        "--duration",
        "duration_seconds",
        help="How long the session of the role lasts, such as 2h. Above 1h this costs a code.",
    ),
    click.option(
        "-n", "--no-session", is_flag=True, help="Ask for a code that serves this role alone."
    ),
)


def options(function: F) -> F:
    """Give a verb the options that name a role and its session."""
    for each in reversed(_OPTIONS):
        function = each(function)
    return function


def profiles() -> dict[str, Mapping[str, Any]]:
    """The profiles that rolevault can sign in to, with their settings."""
    return {
        name: settings
        for name, settings in _all_profiles().items()
        if "role_arn" in settings or "mfa_serial" in settings
    }


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The profiles whose names begin with what was typed, for the shell's completion."""
    return [name for name in profiles() if name.startswith(incomplete)]


def _all_profiles() -> dict[str, Mapping[str, Any]]:
    from botocore.session import Session

    return dict(Session().full_config.get("profiles", {}))


def check_profiles(names: Iterable[str]) -> None:
    """Refuse a name that no profile has.

    :raises click.UsageError: it names the nearest profiles.
    """
    import difflib

    known = _all_profiles()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or sorted(known)[:3]
            hint = f" Did you mean {' or '.join(near)}?" if near else " ~/.aws/config has none."
            raise click.UsageError(f"There is no profile {name!r}.{hint}")


def session_of(profile: str | None, *, no_session: bool = False, **given: Any) -> "boto3.Session":
    """The boto3 session of the role. Nobody is asked yet.

    :param profile: None for the role in ``given``, or else for the profile that boto3 chooses.
    :param given: the options of ``rolevault.session()``; None for those that were left out.
    """
    import rolevault

    if profile is not None:
        check_profiles([profile])
        given["profile"] = profile
    if no_session:
        given["mfa_session_seconds"] = 0
    try:
        return rolevault.session(**{name: each for name, each in given.items() if each is not None})
    except rolevault.ConfigurationError as error:
        raise click.UsageError(str(error)) from None
