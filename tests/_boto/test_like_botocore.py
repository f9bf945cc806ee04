"""
Any configuration, for botocore and for us: the same calls of STS, signed by the
same keys, or the same error.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rolevault
from conftest import Alice, key_of
from local_sts import LocalSts

Profile = dict[str, str]

NAMES = ("default", "a", "b c", "d")
ARNS = {name: f"arn:aws:iam::111122223333:role/{name.title()[:1]}-role" for name in NAMES}
#: What a profile says beside its role and its keys: right, wrong or doubled.
SETTINGS = {
    "source_profile": [*NAMES, *NAMES, "nowhere", ""],
    "credential_source": ["Environment", "environment", "EcsContainer", ""],
    "external_id": ["theirs"],
    "role_session_name": ["ours", ""],
    "duration_seconds": ["1800"],
}
#: One for all sessions: each reads botocore's models anew, which takes the most time.
LOADER = create_loader()
USED = ("RoleArn", "ExternalId", "DurationSeconds", "RoleSessionName")


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Profile]:
    """Profiles, by their names; ``keys`` says which half of a pair there is, and where."""
    found: dict[str, Profile] = {}
    for name in NAMES:
        found[name] = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "role_arn": st.just(ARNS[name]),
                    "keys": st.sampled_from(["both", "both", "id", "secret"]),
                    "file": st.just("credentials"),
                    **{key: st.sampled_from(values) for key, values in SETTINGS.items()},
                },
            )
        )
    # Most lead from one to another and end in keys, or few roles would be entered.
    order = draw(st.permutations(NAMES))
    for place, name in enumerate(order):
        if draw(st.integers(0, 4)) == 4:
            continue
        found[name].pop("credential_source", None)
        found[name]["source_profile"] = draw(st.sampled_from(order[place + 1 :] or order))
        if name == order[-1] or draw(st.integers(0, 3)) == 3:
            found[name]["keys"] = "both"
        else:
            found[name].pop("keys", None)
            found[name] |= {"role_arn": ARNS[name], "external_id": f"{name[:1]}-id"}
            found[name]["duration_seconds"] = draw(st.sampled_from(["900", "1800"]))
    return found


def write(configuration: dict[str, Profile], pairs: dict[str, Profile]) -> None:
    """Keys stand in either file, all else in the configuration."""
    config, credentials = "", ""
    for name, profile in configuration.items():
        config += "[default]\n" if name == "default" else f'[profile "{name}"]\n'
        config += "".join(
            f"{key}={value}\n" for key, value in profile.items() if key not in ("keys", "file")
        )
        half = profile.get("keys")
        lines = "".join(
            f"{key}={value}\n"
            for key, value in pairs[name].items()
            if half == "both" or (half is not None and half in key)
        )
        if "file" in profile:
            credentials += f"[{name}]\n{lines}"
        else:
            config += lines
    Path("~/.aws").expanduser().mkdir(exist_ok=True)
    Path("~/.aws/config").expanduser().write_text(config)
    Path("~/.aws/credentials").expanduser().write_text(credentials)


def outcome(sts: LocalSts, make: Callable[[], boto3.Session]) -> list[Any]:
    """Who asked STS for what; and whose the credentials are, or the error that ended it."""
    before, found, error = len(sts.calls), "", None
    try:
        session = make()
        session._session.register_component("data_loader", LOADER)
        found = key_of(session)
    except (BotoCoreError, ClientError) as raised:
        error = raised
    roles = {each.access_key_id: each.arn.rpartition("/")[0] for each in sts.sessions}
    asked: list[Any] = []
    for call in sts.calls[before:]:
        params = {key: value for key, value in call.params.items() if key in USED}
        if params.get("RoleSessionName") != "ours":
            params.pop("RoleSessionName", None)  # made up
        signer = str(call.access_key_id)
        asked.append((call.action, call.outcome, roles.get(signer, signer), params))
    return [*asked, roles.get(found), type(error), str(error)]


@pytest.fixture
def pairs(sts: LocalSts, alice: Alice, monkeypatch: pytest.MonkeyPatch) -> dict[str, Profile]:
    """A user's keys for each profile, each of whose roles anyone may enter."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for arn in ARNS.values():
        sts.add_role(arn, trusts=["*"])
    users = {name: sts.add_user(name.replace(" ", "-")) for name in NAMES}
    return {
        name: {
            "aws_access_key_id": user.access_key_id,
            "aws_secret_access_key": user.secret_access_key,
        }
        for name, user in users.items()
    }


numbers = count()


@pytest.mark.slow
@given(configurations(), st.sampled_from(NAMES))
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_the_same_calls_or_the_same_error(
    sts: LocalSts,
    alice: Alice,
    pairs: dict[str, Profile],
    empty_home: Path,
    configuration: dict[str, Profile],
    name: str,
) -> None:
    """For a named profile with a role, whatever else stands in the files."""
    configuration[name].setdefault("role_arn", ARNS[name])
    write(configuration, pairs)
    theirs = outcome(sts, partial(boto3.Session, profile_name=name))
    vault = empty_home / f"vault-{next(numbers)}" / "vault"
    ours = outcome(sts, partial(rolevault.session, profile=name, vault_path=vault))
    assert ours == theirs
