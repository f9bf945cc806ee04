"""
What a signer sees: botocore's rules of credentials and their chain that hold
whatever provider they come from.
"""

import re
import threading
from typing import Any

import boto3
import pytest
import time_machine
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import CredentialProvider, Credentials, ReadOnlyCredentials
from botocore.exceptions import ClientError, PartialCredentialsError, UnknownCredentialError

import rolevault
from conftest import Alice, account_of
from local_iam import Role
from local_sts import LocalSts

HOME, A = "999988887777", "111122223333"


@pytest.fixture
def session(role_a: Role, alice: Alice) -> boto3.Session:
    return rolevault.install(role_a.arn, mfa_serial=alice.serial, mfa_callback=alice)


def test_an_unsigned_client_asks_nobody(
    session: boto3.Session, sts: LocalSts, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to sign with, so nothing is resolved."""
    client = session.client(
        "sts", region_name="eu-west-1", config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError):
        client.get_caller_identity()
    assert alice.requests == []
    assert sts.count("AssumeRole") == 0


def test_credentials_of_a_request_win(session: boto3.Session, alice: Alice) -> None:
    """``request_credentials`` in a request's context sign it, as S3 Express does it."""
    client = session.client("sts", region_name="eu-west-1")

    def sign_as_alice(request: Any, **event: Any) -> None:
        user = alice.user
        request.context.setdefault("signing", {})["request_credentials"] = Credentials(
            user.access_key_id, user.secret_access_key
        )

    client.meta.events.register("before-sign.sts", sign_as_alice)
    assert client.get_caller_identity()["Account"] == HOME


def test_half_a_pair_given_to_a_client_is_botocores_error(session: boto3.Session) -> None:
    """The role does not stand in for the other half."""
    with pytest.raises(PartialCredentialsError, match="aws_secret_access_key"):
        session.client("sts", aws_access_key_id="AKIAX")


def test_the_signer_knows_the_account(session: boto3.Session) -> None:
    """Endpoints that go by account need it, where botocore's frozen copy has it."""
    credentials: Any = session.get_credentials()
    frozen = credentials.get_frozen_credentials()
    assert credentials.account_id == A
    if "account_id" in ReadOnlyCredentials._fields:
        assert frozen.account_id == A


def test_nobody_signs_with_half_of_a_renewal(
    session: boto3.Session, sts: LocalSts, clock: time_machine.Traveller
) -> None:
    """Threads that sign while the role is renewed see one session or the other."""
    credentials: Any = session.get_credentials()
    rolevault.ensure(session)  # so that no request is under way when the clock moves
    seen: set[tuple[str, str, str]] = set()
    stop = threading.Event()

    def sign() -> None:
        while not stop.is_set():
            seen.add(credentials.get_frozen_credentials()[:3])

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        clock.shift(3000)
        rolevault.ensure(session)
    stop.set()
    for thread in threads:
        thread.join()
    issued = {
        (each.access_key_id, each.secret_access_key, each.session_token) for each in sts.sessions
    }
    assert seen <= issued
    assert len(seen) > 3


def test_the_chain_takes_botocores_calls(session: boto3.Session, alice: Alice) -> None:
    """Tools that change a session's chain find it as botocore makes it."""

    class Desk(CredentialProvider):
        METHOD, CANONICAL_NAME = "custom-desk", "customDesk"

        def load(self) -> Credentials:
            return Credentials(alice.user.access_key_id, alice.user.secret_access_key)

    chain: Any = session._session.get_component("credential_provider")
    chain.insert_after("env", Desk())
    chain.get_provider("assume-role").cache = {}
    chain.remove("iam-role")
    with pytest.raises(UnknownCredentialError):
        chain.get_provider("iam-role")
    assert account_of(session) == A
    chain.insert_before("rolevault", chain.get_provider("custom-desk"))
    assert chain.load_credentials().access_key == alice.user.access_key_id


def test_the_user_agent_names_the_source_where_it_is_read(
    session: boto3.Session, sts: LocalSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore's feature ids of the source (``g``: keys of the environment) are on the calls of
    STS and on the request that reads the source, and on no request after it.
    """
    monkeypatch.setenv("AWS_ENDPOINT_URL", sts.url)

    def features() -> list[tuple[str, bool]]:
        found = []
        for call in sts.calls:
            ids = re.search(r" m/(\S+)", call.user_agent)
            found.append((call.action, ids is not None and "g" in ids[1].split(",")))
        sts.calls.clear()
        return found

    boto3.Session().client("dynamodb", region_name="eu-west-1").list_tables()
    if features() != [("ListTables", True)]:
        pytest.skip("this botocore has no feature ids of providers")
    client = session.client("dynamodb", region_name="eu-west-1")
    client.list_tables()
    assert features() == [("GetSessionToken", True), ("AssumeRole", True), ("ListTables", True)]
    client.list_tables()
    assert features() == [("ListTables", False)]
