# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""A user's script, for type checkers: ``make check`` gives it to mypy and pyright, beside the
installed package. Nothing runs it. The lines at the end must be errors.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError
from typing_extensions import assert_type

import rolevault
from rolevault import MfaRequest, RoleVaultError, Vault

ROLE = "arn:aws:iam::111122223333:role/Deploy"


def code(request: MfaRequest) -> str:
    assert_type(request.serial, str)
    assert_type(request.reason, str)
    assert_type(request.attempt, int)
    assert_type(request.last_error, str | None)
    return "123456"


def every_option() -> None:
    session = rolevault.install(
        ROLE,
        session=boto3.Session(),
        all_sessions=True,
        profile="prod",
        source_profile="base",
        source_session=None,
        mfa_serial="arn:aws:iam::999988887777:mfa/alice",
        mfa_callback=code,
        mfa_session_seconds=3600,
        duration_seconds=None,
        role_session_name="alice",
        external_id="x1",
        policy="{}",
        policy_arns=["arn:aws:iam::aws:policy/ReadOnlyAccess"],
        tags={"team": "a"},
        transitive_tag_keys=("team",),
        source_identity="alice",
        region_name="eu-west-1",
        passphrase=lambda: "secret",
        vault_path="vault",
    )
    assert_type(session, boto3.Session)
    assert_type(rolevault.session(mfa_callback=["pass", "otp", "aws"]), boto3.Session)
    rolevault.session(
        ROLE,
        source_session=session,
        mfa_callback=lambda: "123456",
        mfa_session_seconds="12h",
        duration_seconds=timedelta(hours=1),
        policy={"Version": "2012-10-17", "Statement": []},
        policy_arns=[{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}],
        tags=[{"Key": "team", "Value": "a"}],
    )


def other_functions(session: boto3.Session) -> None:
    assert_type(rolevault.ensure(), datetime)
    with rolevault.endpoint(session) as endpoint, rolevault.endpoint():
        assert_type(endpoint.env(), dict[str, str])
        endpoint.install()
    rolevault.ensure(session, min_ttl="2h", refresh=True)
    rolevault.ensure(min_ttl=timedelta(hours=1))
    rolevault.ensure(min_ttl=3600)
    assert_type(rolevault.is_installed(), bool)
    rolevault.uninstall()
    assert_type(rolevault.rotate_passphrase(), int)
    rolevault.unlock("12h", vault_path="vault", force=True)
    assert_type(rolevault.lock("vault"), bool)
    rolevault.rotate_passphrase("new", old=lambda: "old", vault_path="vault")
    assert_type(rolevault.__version__, str)


def the_vault() -> None:
    vault = Vault("path", passphrase="x" * 12)
    assert_type(vault["key"], dict[str, Any])
    assert_type(vault.entries(), list[dict[str, Any]])
    vault["key"] = {"a": 1}
    vault.change({"a": {}, "b": None})
    view: Mapping[str, Any] = vault.snapshot()
    assert_type(len(view), int)
    for key in vault:
        assert_type(key, str)


def every_error() -> None:
    try:
        rolevault.ensure()
    except rolevault.ConfigurationError as configuration:
        value_error: ValueError = configuration
        print(configuration.option + configuration.value + configuration.rule, value_error)
    except rolevault.PassphraseRequiredError as required:
        print(required.path + required.reason)
    except (rolevault.WrongPassphraseError, rolevault.PassphraseRotatedError) as passphrase:
        assert_type(passphrase.path, str)
    except rolevault.VaultDamagedError as damaged:
        print(damaged.path + damaged.reason)
    except rolevault.VaultTamperedError as tampered:
        assert_type(tampered.path, str)
    except rolevault.VaultVersionError as version:
        print(version.path + version.version)
    except rolevault.UnsupportedPlatformError as platform:
        print(platform.feature + platform.reason + platform.remedy)
    except rolevault.InsecureVaultError as insecure:
        print(insecure.path + insecure.reason + insecure.remedy)
    except rolevault.VaultLockedError as locked:
        print(locked.path + locked.holder)
        assert_type(locked.seconds, float)
    except rolevault.MfaRequiredError as mfa:
        print(mfa.serial + mfa.purpose + mfa.reason)
    except rolevault.MfaFailedError as failed:
        assert_type(failed.attempts, int)
        print(failed.serial + failed.last_error + failed.remedy)
    except rolevault.SignInTimeoutError as timeout:
        assert_type(timeout.seconds, float)
        print(timeout.purpose + timeout.holder)
    except RoleVaultError as error:
        plain: BotoCoreError = error
        print(plain)


def number(request: MfaRequest) -> int:
    return request.attempt


def must_be_errors() -> None:
    rolevault.install(ROLE, mfa_serail="x")  # type: ignore[call-arg]
    rolevault.session(ROLE, duration_seconds=1.5)  # type: ignore[arg-type]
    rolevault.session(ROLE, mfa_callback=number)  # type: ignore[arg-type]
    rolevault.ensure(min_ttl=None)  # type: ignore[arg-type]
    Vault(passphrase=b"x")  # type: ignore[arg-type]
    Vault("path")["key"] = "text"  # type: ignore[assignment]
    rolevault.session(ROLE, session=boto3.Session())  # type: ignore[call-arg]
    rolevault.rotate_passphrase(old=1)  # type: ignore[arg-type]
    MfaRequest("serial", "reason", 1, None).attempt = 2  # type: ignore[misc]
    raise rolevault.VaultDamagedError(path="x")  # type: ignore[call-arg]
