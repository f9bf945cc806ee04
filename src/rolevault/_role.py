"""The options of one role: validated when they are given, frozen, and reduced to
the key under which the role's credentials stand in the vault.

The limits are STS's own, from the API reference of AssumeRole and
GetSessionToken, checked here so that a typing error is found by ``install()``
and not by the first request, after somebody was asked for a code.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from rolevault.errors import ConfigurationError

if TYPE_CHECKING:
    from rolevault._mfa import MfaRequest

_ROLE_ARN = re.compile(r"arn:([a-z][a-z0-9-]*):iam::(\d{12}|(?!\d+:)[\w$-]*):role/[!-9;-~]{1,576}")
_POLICY_ARN = re.compile(r"arn:[a-z][a-z0-9-]*:iam::(?:aws|\d{12}|):policy/[!-~]{1,2000}")
_MFA_ARN_NAME = re.compile(r"arn:[^:]+:iam::[^:]*:mfa/(?:.*/)?([^/]+)")
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_SERIAL = re.compile(r"[\w+=/:,.@-]{9,256}", re.ASCII)
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

#: STS's limit for sessions that are opened with temporary credentials ("role
#: chaining"), and so for every role that is entered through an MFA session.
CHAINED_SECONDS = 3600


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


def _bad(option: str, value: object, rule: str) -> ConfigurationError:
    return ConfigurationError(option=option, value=repr(value), rule=rule)


def _text(option: str, value: object, form: re.Pattern[str], rule: str) -> None:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise _bad(option, value, rule)


def _seconds(option: str, value: object, low: int, high: int, also: str = "") -> None:
    # bool is an int to Python and a mistake to everyone else.
    if type(value) is not int or not low <= value <= high:
        raise _bad(option, value, f"must be a whole number of seconds from {low} to {high}{also}.")


def _strings(option: str, value: object, most: int, rule: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _bad(option, value, rule)
    items = tuple(value)
    if len(items) > most or not all(isinstance(item, str) for item in items):
        raise _bad(option, value, rule)
    return items


@dataclass(frozen=True)
class Role:
    """One role and how to enter it. Names are those of ``~/.aws/config`` and STS.

    :raises ConfigurationError: at construction, naming option, value and rule.
    """

    role_arn: str
    profile: str | None = None
    source_profile: str | None = None
    mfa_serial: str | None = None
    mfa_callback: "Callable[[MfaRequest], str] | Sequence[str] | None" = None
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
    passphrase: str | Callable[[], str] | None = field(default=None, repr=False)
    vault_path: str | os.PathLike[str] | None = None
    # What only a profile can say, and what is known of how the role was named.
    credential_source: str | None = None
    mfa_process: str | None = None
    duration_is_wish: bool = False  # served shorter where STS allows only that
    is_profiles: bool = False  # the role_arn stands in the profile
    profile_is_explicit: bool = False

    def __post_init__(self) -> None:
        _text(
            "role_arn",
            self.role_arn,
            _ROLE_ARN,
            "must have the form arn:aws:iam::<12 digits>:role/<name>.",
        )
        rule = "must be 2 to 64 letters, digits or any of _+=,.@-"
        for option in ("role_session_name", "source_identity"):
            if (value := getattr(self, option)) is not None:
                _text(option, value, _NAME, rule)
        if self.external_id is not None:
            rule = "must be 2 to 1224 letters, digits or any of _+=,.@:/-"
            _text("external_id", self.external_id, _EXTERNAL_ID, rule)
        if self.mfa_serial is not None:
            rule = "must be the device's ARN, arn:aws:iam::<account>:mfa/<name>, or its number."
            _text("mfa_serial", self.mfa_serial, _SERIAL, rule)
        if self.mfa_session_seconds != 0 or type(self.mfa_session_seconds) is not int:
            also = ", or 0 for none"
            _seconds("mfa_session_seconds", self.mfa_session_seconds, 900, 129600, also)
        if self.duration_seconds is not None:
            _seconds("duration_seconds", self.duration_seconds, 900, 43200)
        if self.region_name is not None:
            _text(
                "region_name", self.region_name, _REGION, "must be a region's name, as eu-west-1."
            )
        for option in ("profile", "source_profile"):
            value = getattr(self, option)
            if value is not None and not (isinstance(value, str) and value):
                raise _bad(option, value, "must be the name of a profile in ~/.aws/config.")
        self._check_callback()
        self._check_policies()
        self._check_tags()
        self._check_vault()

    def _check_callback(self) -> None:
        callback = self.mfa_callback
        if callback is None or callable(callback):
            return
        rule = "must be a callable, or a command as a list of strings."
        argv = _strings("mfa_callback", callback, 1000, rule)
        if not argv or not argv[0]:
            raise _bad("mfa_callback", callback, rule)
        object.__setattr__(self, "mfa_callback", argv)

    def _check_policies(self) -> None:
        if self.policy is not None:
            rule = "must be the text of a JSON policy, up to 2048 characters."
            if not isinstance(self.policy, str) or not 1 <= len(self.policy) <= 2048:
                raise _bad("policy", self.policy, rule)
            try:
                document = json.loads(self.policy)
            except (ValueError, RecursionError):
                document = None
            if not isinstance(document, dict):
                raise _bad("policy", self.policy, rule)
        rule = "must be a list of up to 10 managed policies' ARNs."
        policy_arns = _strings("policy_arns", self.policy_arns, 10, rule)
        for arn in policy_arns:
            _text("policy_arns", arn, _POLICY_ARN, rule)
        object.__setattr__(self, "policy_arns", policy_arns)

    def _check_tags(self) -> None:
        rule = "must map up to 50 keys of 1 to 128 characters to values of up to 256."
        if not isinstance(self.tags, Mapping) or len(self.tags) > 50:
            raise _bad("tags", self.tags, rule)
        for key, value in self.tags.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise _bad("tags", self.tags, rule)
            if not 1 <= len(key) <= 128 or len(value) > 256:
                raise _bad("tags", {key: value}, rule)
        object.__setattr__(self, "tags", dict(self.tags))
        rule = "must be a list of up to 50 tag keys."
        keys = _strings("transitive_tag_keys", self.transitive_tag_keys, 50, rule)
        object.__setattr__(self, "transitive_tag_keys", keys)

    def _check_vault(self) -> None:
        secret = self.passphrase
        if not (secret is None or callable(secret) or (isinstance(secret, str) and secret)):
            raise ConfigurationError(
                option="passphrase",
                value="<not shown>",
                rule="must be a non-empty string, or a callable that returns one.",
            )
        path = self.vault_path
        if path is not None and not (isinstance(path, str | os.PathLike) and os.fspath(path)):
            raise _bad("vault_path", path, "must be a path.")

    @classmethod
    def given(
        cls, role_arn: str | None, options: "Options", values: Mapping[str, Any], *, explicit: bool
    ) -> "Role":
        """
        The role that a caller's options and a profile's values name together;
        options win.

        :param explicit: the profile was named, not found in the environment.
        """
        own: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if "duration_seconds" in own:
            values = {**values, "duration_is_wish": False}
        if "source_profile" in own:
            values = {**values, "credential_source": None}
        named = {"profile_is_explicit": explicit}
        if role_arn is None:
            return cls(**{**values, "is_profiles": True, **named, **own})
        return cls(**{**values, **named, **own, "role_arn": role_arn})

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
    def visited(self) -> tuple[str, ...]:
        """The profiles that led to the role."""
        return (self.profile,) if self.profile is not None else ()

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn``, …"""
        return self.role_arn.split(":", 2)[1]

    @property
    def account_id(self) -> str | None:
        """The account of the role, known from its ARN without signing in."""
        return self.role_arn.split(":", 5)[4] or None

    @cached_property
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
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _local_user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such uid: a container's arbitrary user
        return str(os.getuid()) if hasattr(os, "getuid") else "user"
