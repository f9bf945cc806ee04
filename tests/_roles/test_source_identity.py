"""What tells one source of credentials from another, before any credentials are resolved."""

import botocore.session
import pytest

from conftest import Config
from rolevault._roles import source_identity

WEB = "web_identity_token_file=/token\n"
SSO = "[sso-session corp]\nsso_start_url="


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "web_identity_token_file=/token\nrole_arn=a",
            "web_identity_token_file=/token\nrole_arn=b",
        ),
        (f"sso_session=corp\n{SSO}https://a", f"sso_session=corp\n{SSO}https://b"),
        ("aws_access_key_id=a", "aws_access_key_id=b"),
        ("credential_process=a", "credential_process=b"),
    ],
)
def test_a_profile_with_other_settings_is_another_source(
    config: Config, before: str, after: str
) -> None:
    """A session that an earlier source has entered serves no later one."""
    identities = []
    for settings in (before, after):
        config(f"[profile user]\n{settings}")
        identities.append(source_identity.of_profile(botocore.session.Session(), "user"))
    assert identities[0] != identities[1]


def test_two_profiles_without_settings_are_two_sources(config: Config) -> None:
    """A provider that somebody added may look at the name of the profile."""
    config("[profile one]\nregion=eu-west-1\n[profile two]\nregion=eu-west-1")
    session = botocore.session.Session()
    one, two = (source_identity.of_profile(session, name) for name in ("one", "two"))
    assert one != two


def test_an_identity_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tokens are told apart by their digests."""
    identities = []
    for token in ("SENTINEL-1", "SENTINEL-2"):
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", token)
        session = botocore.session.Session()
        identities.append(source_identity.of_credential_source(session, "EcsContainer"))
    assert identities[0] != identities[1]
    assert "SENTINEL" not in repr(identities)
