"""The options of one role, validated when they are given and frozen; AssumeRole's
arguments, and the key under which the role's session stands in the vault.
"""

import getpass
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from rolevault._roles import validation
from rolevault._vault.canonical_json import digest

if TYPE_CHECKING:
    import boto3

    from rolevault._prompt.mfa_request import MfaCallback

_MFA_ARN_NAME = re.compile(r"arn:[^:]+:iam::[^:]*:mfa/(?:.*/)?([^/]+)")

#: The longest session, in seconds, that STS grants to a caller with temporary credentials
#: ("role chaining"), and so the longest for a role that is entered through an MFA session.
#: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
CHAINED_SECONDS = 3600

#: The METHOD of our provider and credentials, by which botocore and its users know them.
METHOD = "rolevault"

#: A placeholder, to validate the other options before the profile with the ARN is read.
ANY_ROLE = "arn:aws:iam::000000000000:role/any"


class Options(TypedDict, total=False):
    """What ``install`` and ``session`` take beside ``role_arn``, for type checkers. Each
    option's check and default stand in ``Role``.
    """

    profile: str | None
    source_profile: str | None
    source_session: "boto3.Session | None"
    mfa_serial: str | None
    mfa_callback: Callable[..., str] | Sequence[str] | None
    mfa_session_seconds: int | timedelta | str
    duration_seconds: int | timedelta | str | None
    role_session_name: str | None
    external_id: str | None
    policy: str | Mapping[str, Any] | None
    policy_arns: Sequence[str | Mapping[str, str]]
    tags: Mapping[str, str] | Sequence[Mapping[str, str]]
    transitive_tag_keys: Sequence[str]
    source_identity: str | None
    region_name: str | None
    passphrase: str | Callable[[], str] | None
    vault_path: str | os.PathLike[str] | None


def _option(
    check: validation.Check,
    default: Any = None,
    *,
    profile: bool = False,
    upper_roles: bool = False,
    role_only: bool = False,
    **arguments: Any,
) -> Any:
    """A field of ``Role``.

    :param check: validates the value, unless it is the default None.
    :param profile: a profile in ``~/.aws/config`` can give it, under the same name.
    :param upper_roles: the roles of source profiles take it over from the role that is
        entered through them.
    :param role_only: only AssumeRole takes it, so it means nothing without a role.
    """
    metadata = {
        "check": check,
        "profile": profile,
        "upper_roles": upper_roles,
        "role_only": role_only,
    }
    if "default_factory" not in arguments:
        arguments["default"] = default
    return field(metadata=metadata, **arguments)


@dataclass(frozen=True)
class Role:
    """One role and how to enter it; without ``role_arn``, a user's own MFA session. Names are
    those of ``~/.aws/config`` and STS.

    :raises ConfigurationError: at construction, naming option, value and rule.
    """

    role_arn: str | None = _option(validation.role_arn, profile=True)
    profile: str | None = _option(validation.profile)
    source_profile: str | None = _option(validation.source_profile, profile=True)
    source_session: "boto3.Session | None" = _option(validation.source_session)
    mfa_serial: str | None = _option(validation.mfa_serial, profile=True)
    # No repr: the seed of an MFA device can stand in a command. No comparison: install()
    # compares callables by identity.
    mfa_callback: "MfaCallback | None" = _option(
        validation.mfa_callback, upper_roles=True, repr=False, compare=False
    )
    mfa_session_seconds: int = _option(validation.mfa_session_seconds, 43200, upper_roles=True)
    duration_seconds: int | None = _option(
        validation.duration_seconds, profile=True, role_only=True
    )
    role_session_name: str | None = _option(validation.name, profile=True, role_only=True)
    external_id: str | None = _option(validation.external_id, profile=True, role_only=True)
    policy: str | None = _option(validation.policy, role_only=True)
    policy_arns: Sequence[str] = _option(validation.policy_arns, (), role_only=True)
    tags: Mapping[str, str] = _option(validation.tags, default_factory=dict, role_only=True)
    transitive_tag_keys: Sequence[str] = _option(validation.transitive_tag_keys, (), role_only=True)
    source_identity: str | None = _option(validation.name, role_only=True)
    region_name: str | None = _option(validation.region_name)
    passphrase: str | Callable[[], str] | None = _option(
        validation.passphrase, upper_roles=True, repr=False, compare=False
    )
    vault_path: str | os.PathLike[str] | None = _option(validation.vault_path, upper_roles=True)

    # Only a profile can give these.
    credential_source: str | None = _option(validation.credential_source, profile=True)
    mfa_process: str | None = _option(validation.mfa_process, profile=True, repr=False)

    # How the role was named.
    is_from_profile: bool = False
    profile_is_explicit: bool = False
    # Such a duration is a wish: where STS allows less, the role gets less.
    duration_from_profile: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if "check" in each.metadata and (value is not None or each.default is not None):
                value = each.metadata["check"](each.name, value)
                object.__setattr__(self, each.name, value)
        if self.source_session is not None and self.source_profile is not None:
            rule = "pass source_profile= or source_session=, not both."
            raise validation.refusal("source_session", self.source_session, rule)
        if self.role_arn is None and self.mfa_serial is None:
            raise validation.refusal("role_arn", None, "there is neither a role nor a device.")
        if self.role_arn is None and self.mfa_session_seconds == 0:
            rule = "must not be 0 without a role: the MFA session is what signs."
            raise validation.refusal("mfa_session_seconds", 0, rule)

    def upper_role(self, values: Mapping[str, Any]) -> "Role":
        """The role of a source profile, through which this one is entered: asked for and
        stored the way this one is.

        :param values: the fields that the source profile gives.
        """
        taken_over = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.metadata.get("upper_roles")
        }
        return Role(**{**taken_over, **values, "is_from_profile": True})

    @property
    def name(self) -> str:
        """What messages call it: the ARN of the role, else the device of the user."""
        return self.role_arn or f"MFA session of {self.mfa_serial}"

    @property
    def partition(self) -> str | None:
        """``aws``, ``aws-cn``, …; None where a device has no ARN."""
        arn = self.role_arn or self.mfa_serial or ""
        return arn.split(":", 2)[1] if arn.startswith("arn:") else None

    @property
    def account_id(self) -> str | None:
        """The account of the role or the user, known from an ARN without signing in."""
        arn = self.role_arn or self.mfa_serial or ""
        return arn.split(":", 5)[4] or None if arn.startswith("arn:") else None

    @property
    def purpose(self) -> str:
        """What a code is for, as people read it."""
        if self.role_arn is None:
            return "to open the MFA session of a user"
        name = self.role_arn.rsplit("/", 1)[-1]
        return f"to enter role {name} of account {self.account_id or '(none)'}"

    @property
    def session_name(self) -> str:
        """What CloudTrail shows: as given, else the name of the MFA device's owner."""
        if self.role_session_name is not None:
            return self.role_session_name
        owner = _MFA_ARN_NAME.fullmatch(self.mfa_serial or "")
        name = owner[1] if owner else f"rolevault-{_local_user()}"
        return re.sub(r"[^\w+=,.@-]", "-", name, flags=re.ASCII)[:64].ljust(2, "-")

    @property
    def needs_code_itself(self) -> bool:
        """Whether a code goes straight to AssumeRole, because the role's own session is to last
        longer than STS grants through an MFA session.
        """
        return (self.duration_seconds or 0) > CHAINED_SECONDS and not self.duration_from_profile

    def arguments(self, *, chained: bool = False) -> dict[str, Any]:
        """AssumeRole's arguments, without SerialNumber and TokenCode.

        :param chained: the call is made with temporary credentials. A profile's wish for
            more than an hour is then served with an hour.
        """
        arguments: dict[str, Any] = {
            "RoleArn": self.role_arn,
            "RoleSessionName": self.session_name,
        }
        if self.duration_seconds is not None:
            wish = chained and self.duration_from_profile
            most = CHAINED_SECONDS if wish else self.duration_seconds
            arguments["DurationSeconds"] = min(self.duration_seconds, most)
        if self.external_id is not None:
            arguments["ExternalId"] = self.external_id
        if self.policy is not None:
            arguments["Policy"] = self.policy
        if self.policy_arns:
            arguments["PolicyArns"] = [{"arn": arn} for arn in self.policy_arns]
        if self.tags:
            arguments["Tags"] = [{"Key": k, "Value": v} for k, v in sorted(self.tags.items())]
        if self.transitive_tag_keys:
            arguments["TransitiveTagKeys"] = sorted(self.transitive_tag_keys)
        if self.source_identity is not None:
            arguments["SourceIdentity"] = self.source_identity
        return arguments

    def cache_key(self, source: Mapping[str, Any], endpoint: str | None) -> str:
        """The cache key: the name of the role's entry in the vault.

        It covers everything that makes two sign-ins differ, so that two people, two sources
        or two policies never share an entry. botocore's own cache key leaves out who asks
        (``botocore.credentials.AssumeRoleCredentialFetcher``).

        :param source: the identity of the source credentials.
        :param endpoint: the endpoint that is configured for STS instead of AWS's.
        """
        arguments = self.arguments()
        if self.role_session_name is None:
            # It is derived from the local user, who can differ between a terminal and cron,
            # or between two machines, though the role is the same.
            del arguments["RoleSessionName"]
        return digest(
            "role", arguments, {"mfa_serial": self.mfa_serial, "source": source, "sts": endpoint}
        )


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's uid without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "user"
