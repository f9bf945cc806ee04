"""The environment in which a program finds the endpoint, and no other credentials before it.

SDKs ask a container endpoint nearly last. Keys in the environment, a web identity, and whatever
the profile in ``~/.aws`` says come first.
https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The variables of an endpoint. An SDK reads the relative URI before the full one, and the token in
#: the file before the one in the variable.
URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
RELATIVE_URI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105  a variable's name

#: Variables whose credentials an SDK takes before the endpoint's.
_SHADOWING = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    RELATIVE_URI,
)
#: What goes with them.
_BESIDE = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
#: The settings by which a profile has credentials.
_CREDENTIALS = frozenset(
    {
        "aws_access_key_id",
        "role_arn",
        "credential_process",
        "sso_session",
        "sso_start_url",
        "web_identity_token_file",
        "login_session",
    }
)
#: The settings of a profile that the child keeps. They are no secret.
_KEPT = frozenset(
    {
        "ca_bundle",
        "defaults_mode",
        "endpoint_url",
        "max_attempts",
        "output",
        "region",
        "retry_mode",
        "s3",
        "services",
        "sts_regional_endpoints",
        "use_dualstack_endpoint",
        "use_fips_endpoint",
    }
)

Settings = Mapping[str, Any]


def shadows(environ: Mapping[str, str], profiles: Mapping[str, Settings]) -> list[str]:
    """Return what SDKs would take before the endpoint, as a warning names it.

    :param profiles: the profiles of ``~/.aws``, each with its settings.
    """
    found = [name for name in _SHADOWING if environ.get(name)]
    if "AWS_PROFILE" not in found and has_credentials(profiles.get("default", {})):
        found.append("the profile [default]")
    return found


def has_credentials(profile: Settings) -> bool:
    """Return whether SDKs find credentials by a profile."""
    return not _CREDENTIALS.isdisjoint(profile)


def without_other_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the environment without other credentials and without the passphrase."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _SHADOWING
        and name not in _BESIDE
        and not name.startswith("ROLEVAULT_PASSPHRASE")
    }


def write_files(directory: Path, full_config: Mapping[str, Any]) -> dict[str, str]:
    """Write a configuration in which ``[default]`` has no credentials and no other profile
    exists. Return the variables that name its files.

    :param full_config: the configuration as botocore has parsed it.
    """
    default = full_config.get("profiles", {}).get("default", {})
    kept = {name: value for name, value in default.items() if name in _KEPT}
    lines = ["[default]", *_lines(kept)]
    services = full_config.get("services", {}).get(default.get("services"))
    if services is not None:
        lines += [f"[services {default['services']}]", *_lines(services)]
    config, credentials = directory / "config", directory / "credentials"
    config.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    credentials.touch()
    return {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}


def _lines(settings: Settings) -> list[str]:
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines += [f"{name} =", *(f"    {each} = {text}" for each, text in value.items())]
        else:
            lines.append(f"{name} = {value}")
    return lines
