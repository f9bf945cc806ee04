"""The options of one role: validated when they are given, frozen, and reduced to
the key under which the role's credentials stand in the vault.
"""

import getpass
import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from rolevault import _canonical, _limits

if TYPE_CHECKING:
    from rolevault._mfa import MfaRequest

_MFA_ARN_NAME = re.compile(r"arn:[^:]+:iam::[^:]*:mfa/(?:.*/)?([^/]+)")

_TEXTS = (
    "role_arn",
    "profile",
    "source_profile",
    "mfa_serial",
    "role_session_name",
    "external_id",
    "source_identity",
    "region_name",
    "credential_source",
    "mfa_process",
)

#: STS's limit for sessions that are opened with temporary credentials ("role
#: chaining"), and so for every role that is entered through an MFA session.
CHAINED_SECONDS = 3600

#: By which botocore and its users know a role's credentials, and their provider.
METHOD = "rolevault"

#: Stands in where the other options are judged before the role is known.
ANY_ROLE = "arn:aws:iam::000000000000:role/any"


class Options(TypedDict, total=False):
    """What ``install`` and ``session`` take beside ``role_arn``."""

    profile: str | None
    source_profile: str | None
    mfa_serial: str | None
    mfa_callback: "Callable[[MfaRequest], str] | Sequence[str] | None"
    mfa_session_seconds: int
    duration_seconds: int | None
    role_session_name: str | None
    external_id: str | None
    policy: str | None
    policy_arns: Sequence[str]
    tags: Mapping[str, str]
    transitive_tag_keys: Sequence[str]
    source_identity: str | None
    region_name: str | None
    passphrase: str | Callable[[], str] | None
    vault_path: str | os.PathLike[str] | None


@dataclass(frozen=True)
class Role:
    """One role and how to enter it. Names are those of ``~/.aws/config`` and STS.

    :raises ConfigurationError: at construction, naming option, value and rule.
    """

    role_arn: str
    profile: str | None = None
    source_profile: str | None = None
    mfa_serial: str | None = None
    # Not shown, since a device's seed can stand in a command; and callables are
    # the same where they are the same object, which install() looks at.
    mfa_callback: "Callable[[MfaRequest], str] | Sequence[str] | None" = field(
        default=None, repr=False, compare=False
    )
    mfa_session_seconds: int = 43200
    duration_seconds: int | None = None
    role_session_name: str | None = None
    external_id: str | None = None
    policy: str | None = None
    policy_arns: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: Sequence[str] = ()
    source_identity: str | None = None
    region_name: str | None = None
    passphrase: str | Callable[[], str] | None = field(default=None, repr=False, compare=False)
    vault_path: str | os.PathLike[str] | None = None
    # What only a profile can say, and what is known of how the role was named.
    credential_source: str | None = None
    mfa_process: str | None = field(default=None, repr=False)
    duration_is_wish: bool = False  # served shorter where STS allows only that
    is_profiles: bool = False  # the role_arn stands in the profile
    profile_is_explicit: bool = False

    def __post_init__(self) -> None:
        for option in _TEXTS:
            if (value := getattr(self, option)) is not None or option == "role_arn":
                _limits.text(option, value)
        _limits.seconds("mfa_session_seconds", self.mfa_session_seconds, or_none=True)
        if self.duration_seconds is not None:
            _limits.seconds("duration_seconds", self.duration_seconds)
        if self.policy is not None:
            _limits.policy("policy", self.policy)
        if self.passphrase is not None:
            _limits.secret("passphrase", self.passphrase)
        if self.vault_path is not None:
            _limits.path("vault_path", self.vault_path)
        # What a caller could change later is copied.
        copies: dict[str, Any] = {
            "policy_arns": _limits.policy_arns("policy_arns", self.policy_arns),
            "tags": _limits.tags("tags", self.tags),
            "transitive_tag_keys": _limits.tag_keys(
                "transitive_tag_keys", self.transitive_tag_keys
            ),
        }
        if self.mfa_callback is not None and not callable(self.mfa_callback):
            copies["mfa_callback"] = _limits.command("mfa_callback", self.mfa_callback)
        for option, value in copies.items():
            object.__setattr__(self, option, value)

    def hop(self, values: Mapping[str, Any]) -> "Role":
        """The role of a source profile, asked for and stored the way this one is."""
        return Role(
            **values,
            is_profiles=True,
            mfa_callback=self.mfa_callback,
            mfa_session_seconds=self.mfa_session_seconds,
            passphrase=self.passphrase,
            vault_path=self.vault_path,
        )

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn``, …"""
        return self.role_arn.split(":", 2)[1]

    @property
    def account_id(self) -> str | None:
        """The account of the role, known from its ARN without signing in."""
        return self.role_arn.split(":", 5)[4] or None

    @property
    def purpose(self) -> str:
        """What a code is for, as people read it."""
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
        """Whether a code goes straight to AssumeRole: there is no MFA session, or
        the role's own session shall outlive what STS grants through one.
        """
        outlives = (self.duration_seconds or 0) > CHAINED_SECONDS and not self.duration_is_wish
        return self.mfa_serial is not None and (self.mfa_session_seconds == 0 or outlives)

    def arguments(self, *, chained: bool = False) -> dict[str, Any]:
        """
        AssumeRole's arguments, without SerialNumber and TokenCode.

        :param chained: the call is made with temporary credentials, so a
            profile's wish for more than an hour is served with an hour.
        """
        arguments: dict[str, Any] = {
            "RoleArn": self.role_arn,
            "RoleSessionName": self.session_name,
        }
        if self.duration_seconds is not None:
            wish = chained and self.duration_is_wish
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
        """The name of the role's entry in the vault.

        Everything that makes two sign-ins differ is in it, so that two people,
        two sources or two policies never share an entry: botocore's own key
        leaves out who is asking.

        :param source: who assumes the role, as the configuration tells it.
        :param endpoint: an override of STS's endpoint.
        """
        arguments = self.arguments()
        if self.role_session_name is None:
            # Derived from the local user, who may differ between two machines
            # or a terminal and cron without the role being another one.
            del arguments["RoleSessionName"]
        return digest(
            "role", arguments, {"mfa_serial": self.mfa_serial, "source": source, "sts": endpoint}
        )


def digest(*parts: object) -> str:
    """SHA-256 over canonical JSON: what names the vault's entries."""
    return hashlib.sha256(_canonical.dumps(parts)).hexdigest()


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such uid: a container's arbitrary user
        return str(os.getuid()) if hasattr(os, "getuid") else "user"
