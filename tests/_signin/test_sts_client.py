"""Where STS is called: where botocore would call it with the session's settings, but in the role's
partition. Most tests send nothing: they look at the endpoint of the client.
"""

from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config as BotocoreConfig
from botocore.exceptions import ClientError, ProxyConnectionError

import rolevault
from conftest import Alice, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import _botocore_private
from rolevault._signin.sts_client import StsClientFactory

KEYS = ("AKIAEXAMPLE", "secret", None)


def endpoint(
    partition: str = "aws", *, region_name: str | None = None, profile: str | None = None
) -> Any:
    """Return the settings of the STS client for a session."""
    session = boto3.Session(region_name=region_name, profile_name=profile)
    return (
        StsClientFactory(_botocore_private.botocore_session(session), partition)
        .create_client(KEYS)
        .meta
    )


@pytest.fixture
def config(empty_home: Path) -> Path:
    path = empty_home / ".aws" / "config"
    path.parent.mkdir()
    return path


@pytest.fixture(autouse=True)
def regional(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's default differs by release (legacy until 1.40)."""
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "regional")


def test_the_sessions_region() -> None:
    """STS is called in the region of the session."""
    assert endpoint(region_name="eu-west-3").endpoint_url == "https://sts.eu-west-3.amazonaws.com"


def test_the_profiles_region(config: Path) -> None:
    """A profile's region is its session's."""
    config.write_text("[profile prod]\nregion=eu-north-1\n")
    assert endpoint(profile="prod").endpoint_url == "https://sts.eu-north-1.amazonaws.com"


def test_the_first_clients_region() -> None:
    """If the session has no region, STS is called in the region of the client that needs keys."""
    session = boto3.Session()
    session.client("s3", region_name="ap-south-1", aws_access_key_id="x", aws_secret_access_key="x")
    meta = (
        StsClientFactory(_botocore_private.botocore_session(session), "aws")
        .create_client(KEYS)
        .meta
    )
    assert meta.endpoint_url == "https://sts.ap-south-1.amazonaws.com"


def test_a_later_clients_region() -> None:
    """STS stays in its region, even if a client for another region is made later."""
    session = boto3.Session()
    keys: Any = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    session.client("s3", region_name="eu-west-1", **keys)
    sts = StsClientFactory(_botocore_private.botocore_session(session), "aws")
    session.client("s3", region_name="ap-south-1", **keys)
    assert sts.create_client(KEYS).meta.endpoint_url == "https://sts.eu-west-1.amazonaws.com"


def test_a_chain_is_asked_in_one_region() -> None:
    """The session's region beats the first client's, so the endpoint does not depend on which
    client is made first.
    """
    session = boto3.Session(region_name="eu-west-3")
    session.client("s3", region_name="ap-south-1", aws_access_key_id="x", aws_secret_access_key="x")
    meta = (
        StsClientFactory(_botocore_private.botocore_session(session), "aws")
        .create_client(KEYS)
        .meta
    )
    assert meta.endpoint_url == "https://sts.eu-west-3.amazonaws.com"


def partitions() -> list[str]:
    return boto3.Session().get_available_partitions()


@pytest.mark.parametrize("partition", partitions())
@pytest.mark.parametrize("region_name", [None, "eu-west-1"])
def test_each_partition_without_a_region(partition: str, region_name: str | None) -> None:
    """A role of another partition is entered there, if the session has no region or has one of
    a partition that does not know the role.
    """
    session = boto3.Session(region_name=region_name)
    meta = (
        StsClientFactory(_botocore_private.botocore_session(session), partition)
        .create_client(KEYS)
        .meta
    )
    assert session.get_partition_for_region(meta.region_name) == partition
    if partition != "aws":
        assert meta.region_name in meta.endpoint_url


@pytest.mark.parametrize(
    ("partition", "host"),
    [
        ("aws", "sts.us-east-1.amazonaws.com"),
        ("aws-cn", "sts.cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "sts.us-gov-west-1.amazonaws.com"),
    ],
)
def test_the_partitions_that_people_use(partition: str, host: str) -> None:
    """The endpoints of the common partitions, in full."""
    assert endpoint(partition).endpoint_url == f"https://{host}"


@pytest.mark.parametrize(
    ("partition", "region_name"),
    [("aws", "aws-global"), ("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")],
)
def test_the_global_region_is_of_one_partition(partition: str, region_name: str) -> None:
    """With ``aws-global`` in the session, a role of another partition is entered in its own."""
    assert endpoint(partition, region_name="aws-global").region_name == region_name


@pytest.mark.parametrize(
    ("partition", "region_name", "expected"),
    [
        ("aws-cn", "ap-east-99", "cn-north-1"),
        ("aws-us-gov", "eu-north-99", "us-gov-west-1"),
        ("aws-us-gov", "us-east-1-fips", "us-gov-west-1"),
        ("aws", "cn-south-99", "us-east-1"),
        ("aws", "eu-north-99", "eu-north-99"),
        ("aws-cn", "cn-south-99", "cn-south-99"),
    ],
)
def test_a_region_that_is_newer_than_botocore(
    partition: str, region_name: str, expected: str
) -> None:
    """The name of an unknown region tells its partition."""
    assert endpoint(partition, region_name=region_name).region_name == expected


def test_a_region_of_the_partition_is_kept() -> None:
    """The session's region serves where the role's partition has it."""
    meta = endpoint("aws-cn", region_name="cn-northwest-1")
    assert meta.endpoint_url == "https://sts.cn-northwest-1.amazonaws.com.cn"


def test_a_region_beside_an_endpoint_of_ones_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server at that endpoint may check the region for which the request is signed."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "https://sts.example")
    meta = endpoint("aws-cn", region_name="eu-west-1")
    assert (meta.region_name, meta.endpoint_url) == ("eu-west-1", "https://sts.example")


def test_a_region_that_nobody_knows_is_kept() -> None:
    """Custom installations have regions of their own."""
    assert endpoint(region_name="berlin-1").region_name == "berlin-1"


@pytest.mark.parametrize(
    ("setting", "host"),
    [("legacy", "sts.amazonaws.com"), ("regional", "sts.eu-west-1.amazonaws.com")],
)
def test_regional_endpoints_setting(
    monkeypatch: pytest.MonkeyPatch, setting: str, host: str
) -> None:
    """``AWS_STS_REGIONAL_ENDPOINTS`` means what it means to botocore."""
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", setting)
    assert endpoint(region_name="eu-west-1").endpoint_url == f"https://{host}"


def test_fips_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """``AWS_USE_FIPS_ENDPOINT`` means what it means to botocore."""
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert endpoint(region_name="us-east-2").endpoint_url == (
        "https://sts-fips.us-east-2.amazonaws.com"
    )


def test_dualstack_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """``AWS_USE_DUALSTACK_ENDPOINT`` means what it means to botocore."""
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    theirs = boto3.client(
        "sts", region_name="us-east-2", aws_access_key_id="x", aws_secret_access_key="x"
    )
    assert endpoint(region_name="us-east-2").endpoint_url == theirs.meta.endpoint_url
    assert theirs.meta.endpoint_url != "https://sts.us-east-2.amazonaws.com"


def test_an_endpoint_in_the_services_section(config: Path) -> None:
    """``endpoint_url`` in the ``services`` section of the session's profile is used. Another
    endpoint is another entry in the vault.
    """
    config.write_text(
        "[profile prod]\nservices=here\n[services here]\nsts =\n  endpoint_url=https://sts.example\n"
    )
    assert endpoint(profile="prod").endpoint_url == "https://sts.example"
    inner = _botocore_private.botocore_session(boto3.Session(profile_name="prod"))
    assert StsClientFactory(inner, "aws").endpoint == "https://sts.example"


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"])
def test_an_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """``AWS_ENDPOINT_URL_STS`` and ``AWS_ENDPOINT_URL`` are used, unless a setting says to ignore
    them.
    """
    monkeypatch.setenv(name, "https://sts.example")
    assert endpoint().endpoint_url == "https://sts.example"
    inner = _botocore_private.botocore_session(boto3.Session())
    assert StsClientFactory(inner, "aws").endpoint == "https://sts.example"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    inner = _botocore_private.botocore_session(boto3.Session())
    assert StsClientFactory(inner, "aws").endpoint is None
    assert endpoint().endpoint_url == "https://sts.us-east-1.amazonaws.com"


def test_a_bundle_of_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The STS client verifies with ``AWS_CA_BUNDLE``."""
    bundle = tmp_path / "bundle.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    inner = _botocore_private.botocore_session(boto3.Session(region_name="eu-west-1"))
    client = StsClientFactory(inner, "aws").create_client(KEYS)
    assert client._endpoint.http_session._verify == str(bundle)


def test_a_proxy(
    sts: LocalSts, alice: Alice, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STS is called through the environment's proxy. The tests' server plays the proxy: it forwards
    nothing, but a request for a host that does not exist can only reach it as a proxy.
    """
    role_a.mfa = False
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.invalid")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, sts.url)
    credentials = rolevault.session(role_a.arn).get_credentials()
    assert credentials is not None
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        credentials.get_frozen_credentials()
    assert sts.count("AssumeRole") == 1


@pytest.mark.parametrize("where", ["environment", "session"])
def test_a_proxy_for_https(
    alice: Alice, role_a: Role, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The proxy is configured in the environment or in the session. It does not answer here."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "https://sts.invalid")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    session, proxy = botocore.session.Session(), "http://127.0.0.1:1"
    if where == "session":
        session.set_default_client_config(BotocoreConfig(proxies={"https": proxy}))
    else:
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
    made = rolevault.install(role_a.arn, session=boto3.Session(botocore_session=session))
    credentials = made.get_credentials()
    assert credentials is not None
    with pytest.raises(ProxyConnectionError, match=proxy):
        credentials.get_frozen_credentials()


def test_sts_is_told_who_calls(sts: LocalSts, alice: Alice, role_a: Role) -> None:
    """The user agent names rolevault."""
    role_a.mfa = False
    account_of(rolevault.session(role_a.arn))
    assert f"rolevault/{rolevault.__version__}" in sts.calls[0].user_agent


def test_no_region_anywhere(sts: LocalSts, alice: Alice, role_a: Role) -> None:
    """There is no region, and STS has a configured endpoint: no ``NoRegionError`` is raised after a
    code was asked for.
    """
    rolevault.install(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice)
    rolevault.ensure()
    assert sts.count("AssumeRole", "OK") == 1
