"""The credentials of a role as environment variables, those that aws-vault sets."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import boto3

#: They would choose other credentials, and are no secret of the role's.
REPLACED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
)


def variables(session: "boto3.Session") -> dict[str, str]:
    """The variables for a session that rolevault made. It signs in if that is due.

    :raises RoleVaultError: why the sign-in failed.
    :raises ClientError: STS refused.
    """
    from rolevault._boto.credentials import RoleCredentials

    credentials = session.get_credentials()
    assert isinstance(credentials, RoleCredentials)  # noqa: S101  session() puts them there
    keys = credentials.get_frozen_credentials()
    expires = credentials.renewal.expires
    found = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_CREDENTIAL_EXPIRATION": expires and f"{expires:%Y-%m-%dT%H:%M:%SZ}",
        "AWS_REGION": session.region_name,
        "AWS_DEFAULT_REGION": session.region_name,
    }
    return {name: value for name, value in found.items() if value}
