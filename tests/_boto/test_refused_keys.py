"""
Requests that heal themselves: a service no longer knows the credentials, and
the request is sent once more with new ones.
"""

import io
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.httpchecksum import AwsChunkedWrapper

import rolevault
from conftest import Alice, Enter, Options, key_of
from local_iam import Role
from local_sts import LocalSts
from rolevault._boto.refused_keys import _can_rewind


@pytest.fixture(autouse=True)
def one_server(sts: LocalSts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every service is the local STS, which answers in their words."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", sts.url)


#: What services call it, whom to ask how, and how it comes about.
CALLS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("expired", "s3", "get_object", {"Bucket": "bucket", "Key": "key"}),
    ("invalid", "s3", "get_object", {"Bucket": "bucket", "Key": "key"}),
    ("expired", "s3", "put_object", {"Bucket": "bucket", "Key": "key", "Body": b"text"}),
    ("expired", "s3", "head_object", {"Bucket": "bucket", "Key": "key"}),
    ("expired", "s3", "head_bucket", {"Bucket": "bucket"}),
    ("expired", "ec2", "describe_regions", {}),
    ("invalid", "ec2", "describe_regions", {}),
    ("expired", "dynamodb", "list_tables", {}),
    ("invalid", "dynamodb", "list_tables", {}),
    ("expired", "sns", "list_topics", {}),
    ("invalid", "sns", "list_topics", {}),
    ("expired", "sts", "get_caller_identity", {}),
]


@pytest.mark.parametrize(
    ("mode", "how", "service", "call", "arguments"),
    [("legacy", *each) for each in CALLS]
    + [(mode, *each) for mode in ("standard", "adaptive") for each in (CALLS[3], CALLS[6])],
)
def test_the_request_is_sent_once_more(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    mode: Any,
    how: Any,
    service: str,
    call: str,
    arguments: dict[str, Any],
) -> None:
    """Whatever the service calls it, in every retry mode: renewed silently, sent once more."""
    session = enter(role_a)
    # Even where botocore itself would not try again.
    make: Any = session.client
    client = make(service, config=Config(retries={"mode": mode, "total_max_attempts": 1}))
    first = key_of(session)
    sts.revoke(how, first)
    getattr(client, call)(**arguments)
    second = key_of(session)
    assert second != first
    signed = [each.access_key_id for each in sts.calls if each.service == service]
    # Some S3 calls ask for the bucket's region meanwhile.
    assert signed[-1] == second
    assert signed.count(first) <= 2
    assert sts.count("AssumeRole") == 2
    assert len(alice.requests) == 1
    # The next process does not meet the old one either.
    assert key_of(enter(role_a)) == second


def test_a_file_is_sent_again_from_its_start(sts: LocalSts, role_a: Role, enter: Enter) -> None:
    """A body that can be rewound is: the second request carries all of it."""
    session = enter(role_a)
    s3: Any = session.client("s3")
    sts.revoke("expired", key_of(session))
    body = io.BytesIO(b"x" * 100_000)
    seen: list[int] = []
    s3.meta.events.register_last(
        "before-send.s3", lambda request, **_: seen.append(int(request.headers["Content-Length"]))
    )
    s3.put_object(Bucket="bucket", Key="key", Body=body)
    assert seen == [100_000, 100_000]


#: Given, so that old botocores do not read the body for it.
EMPTY_MD5 = "1B2M2Y8AsgTpgAmY7PhCfg=="


class Pipe(io.RawIOBase):
    """What cannot be rewound."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        return 0


def test_a_body_that_cannot_be_rewound(sts: LocalSts, role_a: Role, enter: Enter) -> None:
    """The service's own error; the next request signs with new credentials."""
    session = enter(role_a)
    s3: Any = session.client(
        "s3",
        config=Config(
            s3={"payload_signing_enabled": False}, request_checksum_calculation="when_required"
        )
        if hasattr(Config(), "request_checksum_calculation")
        else Config(s3={"payload_signing_enabled": False}),
    )
    first = key_of(session)
    sts.revoke("expired", first)
    with pytest.raises(ClientError, match="ExpiredToken"):
        s3.put_object(
            Bucket="bucket", Key="key", Body=Pipe(), ContentLength=0, ContentMD5=EMPTY_MD5
        )
    assert sts.count("PUT") == 1
    assert key_of(session) != first


def test_what_can_be_rewound() -> None:
    """Whatever botocore itself rewinds before it sends again, chunked uploads among them."""
    chunked: Any = AwsChunkedWrapper
    assert all(map(_can_rewind, (None, b"x", "x", bytearray(b"x"), io.BytesIO(b"x"))))
    assert _can_rewind(chunked(io.BytesIO(b"x")))
    assert not _can_rewind(Pipe())
    assert not _can_rewind(iter([b"x"]))


@pytest.mark.parametrize("service", ["s3", "dynamodb"])
def test_sixteen_threads_meet_expiry_at_once(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    service: str,
) -> None:
    """One sign-in for all of them, and none fails."""
    session = enter(role_a)
    make: Any = session.client
    client = make(service, config=Config(max_pool_connections=16))
    call = client.list_buckets if service == "s3" else client.list_tables
    call()
    for turn in range(3):
        sts.revoke("expired", key_of(session))
        together = threading.Barrier(16)

        def work(_: int, together: threading.Barrier = together) -> Any:
            together.wait()
            return call()

        with ThreadPoolExecutor(16) as pool:
            assert len(list(pool.map(work, range(16)))) == 16
        assert sts.count("AssumeRole") == turn + 2
        clock.shift(61)
    assert len(alice.requests) == 1


def test_refused_again(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """
    The renewed credentials are refused too: the service's error after two
    requests, and one renewal a minute however often it happens.
    """
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))
    key_of(session)
    revoked = threading.Event()

    def revoke(**_: Any) -> None:
        if not revoked.is_set():
            sts.revoke("invalid", key_of(session))

    dynamodb.meta.events.register_last("before-send.dynamodb", revoke)
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        dynamodb.list_tables()
    assert (sts.count("ListTables"), sts.count("AssumeRole")) == (2, 2)
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        dynamodb.list_tables()
    assert (sts.count("ListTables"), sts.count("AssumeRole")) == (3, 2)
    clock.shift(61)
    revoked.set()
    dynamodb.list_tables()
    assert sts.count("AssumeRole") == 3


def test_a_request_is_sent_twice_at_most(
    sts: LocalSts, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """Also where each key is refused and more than a minute passes between the answers, so that
    each key may be replaced: the caller meets the second answer.
    """
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))
    key_of(session)

    def revoke(**_: Any) -> None:
        clock.shift(61)
        if sts.count("ListTables") < 5:  # a loop must end, so that the test can fail
            sts.revoke("expired", key_of(session))

    dynamodb.meta.events.register_last("before-send.dynamodb", revoke)
    with pytest.raises(ClientError, match="ExpiredToken"):
        dynamodb.list_tables()
    assert sts.count("ListTables") == 2


def test_a_clock_that_is_set_back(
    sts: LocalSts, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """A key is replaced once a minute at most. A clock that is set back since then does not make
    the next replacement wait for an hour.
    """
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb")
    for _ in range(2):
        refused = key_of(session)
        sts.revoke("expired", refused)
        dynamodb.list_tables()
        assert key_of(session) != refused
        clock.shift(-3600)


def test_a_clients_own_keys(sts: LocalSts, alice: Alice, role_a: Role, enter: Enter) -> None:
    """A client with explicit keys, refused, never touches the role's entry."""
    session = enter(role_a)
    first = key_of(session)
    answer = boto3.Session().client("sts", "eu-west-1").get_session_token()
    own = answer["Credentials"]
    dynamodb: Any = session.client(
        "dynamodb",
        aws_access_key_id=own["AccessKeyId"],
        aws_secret_access_key=own["SecretAccessKey"],
        aws_session_token=own["SessionToken"],
    )
    sts.revoke("expired", own["AccessKeyId"])
    with pytest.raises(ClientError, match="ExpiredToken"):
        dynamodb.list_tables()
    assert sts.count("ListTables") == 1
    assert key_of(session) == first
    assert key_of(enter(role_a)) == first


def test_sessions_of_s3_express_are_not_ours(sts: LocalSts, role_a: Role, enter: Enter) -> None:
    """A request that something else signed, as S3 Express does, is told by its key id."""
    session = enter(role_a)
    s3: Any = session.client("s3")
    first = key_of(session)

    def signed_by_another(request: Any, **_: Any) -> None:
        text = str(request.headers["Authorization"])
        del request.headers["Authorization"]
        request.headers["Authorization"] = text.replace(first, "ASIA" + "X" * 16)

    s3.meta.events.register_last("request-created.s3", signed_by_another)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        s3.list_buckets()
    assert key_of(session) == first
    assert sts.count("AssumeRole") == 1


def test_a_late_answer_to_an_old_key(sts: LocalSts, role_a: Role, enter: Enter) -> None:
    """It drops nothing: the request is signed with what was renewed meanwhile."""
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb")
    old = key_of(session)
    renewed: list[str] = []

    def renew_meanwhile(**_: Any) -> None:
        if not renewed:
            sts.revoke("expired", old)
            rolevault.ensure(session, refresh=True)
            renewed.append(key_of(session))

    dynamodb.meta.events.register_last("before-send.dynamodb", renew_meanwhile)
    dynamodb.list_tables()
    assert key_of(session) == renewed[0] != old
    assert sts.count("AssumeRole") == 2


def test_another_process_has_renewed(sts: LocalSts, role_a: Role, enter: Enter) -> None:
    """Compare and drop: what another process got meanwhile stays, and serves."""
    session, other = enter(role_a), enter(role_a)
    dynamodb: Any = session.client("dynamodb")
    old = key_of(session)
    assert key_of(other) == old
    sts.revoke("expired", old)
    rolevault.ensure(other, refresh=True)
    dynamodb.list_tables()
    assert key_of(session) == key_of(other) != old
    assert sts.count("AssumeRole") == 2


def test_a_role_without_a_vault_to_write(
    sts: LocalSts, role_a: Role, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the entry cannot be dropped, this process no longer believes it."""
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb")
    sts.revoke("expired", key_of(session))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    dynamodb.list_tables()
    dynamodb.list_tables()
    assert sts.count("AssumeRole") == 2


def test_other_refusals_are_left_alone(sts: LocalSts, role_a: Role, enter: Enter) -> None:
    """AccessDenied is no expiry: nothing is dropped or sent again."""
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb")
    first = key_of(session)
    sts.revoke("denied", first)
    with pytest.raises(ClientError, match="AccessDenied"):
        dynamodb.list_tables()
    assert key_of(session) == first
    assert sts.count("ListTables") == 1


def test_resources_paginators_and_waiters(
    sts: LocalSts, alice: Alice, role_a: Role, enter: Enter, clock: time_machine.Traveller
) -> None:
    """They live through renewals, by the clock and by a refusal."""
    session = enter(role_a)
    bucket: Any = session.resource("s3").Bucket("bucket")
    paginator: Any = session.client("sns").get_paginator("list_topics")
    waiter: Any = session.client("s3").get_waiter("bucket_exists")
    for end in (lambda: clock.shift(3601), lambda: sts.revoke("expired", key_of(session))):
        keys = {key_of(session)}
        for use in (
            lambda: bucket.Object("key").put(Body=b"text"),
            lambda: list(paginator.paginate()),
            lambda: waiter.wait(Bucket="bucket"),
        ):
            clock.shift(61)
            end()
            use()
            keys.add(key_of(session))
        assert len(keys) == 4
    assert len(alice.requests) == 1


def test_handlers_come_and_go_with_the_role(role_a: Role, role_b: Role, enter: Enter) -> None:
    """``uninstall()`` leaves none of ours in the session, and gives a role that was
    there before its own ones back.
    """

    def ours(session: boto3.Session) -> int:
        request = AWSRequest("GET", "https://sts.amazonaws.com")
        called = session.events.emit("request-created.sts.Any", request=request)
        return len([each for each, _ in called if each.__module__.startswith("rolevault")])

    default, entered = boto3.Session(region_name="eu-west-1"), enter(role_b)
    for session, before in ((default, 0), (entered, 1)):
        session.get_credentials()
        assert ours(session) == before
        rolevault.install(role_a.arn, session=session)
        session.get_credentials()
        assert ours(session) == 1
        rolevault.uninstall()
        assert ours(session) == before


def test_a_role_that_is_back_heals(
    sts: LocalSts, alice: Alice, options: Options, role_b: Role, enter: Enter
) -> None:
    """A session of ours that had another role meanwhile, which healed, too."""
    session = enter(role_b)
    first = key_of(session)
    rolevault.install(**options, session=session)
    other = key_of(session)
    sts.revoke("expired", other)
    session.client("sts").get_caller_identity()
    assert key_of(session) not in (first, other)
    rolevault.uninstall()
    sts.revoke("expired", first)
    session.client("sts").get_caller_identity()
    assert key_of(session) != first


def test_a_sign_in_that_is_refused_meanwhile(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A service refuses one thread's request while STS refuses another's silent
    renewal: neither waits for what the other holds.
    """
    monkeypatch.setattr("rolevault._concurrency.single_flight.WAIT_SECONDS", 5.0)
    caplog.set_level("INFO", "rolevault")
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb")
    dynamodb.list_tables()
    clock.shift(46 * 60)
    sts.revoke("invalid")
    renewing, waiting = threading.Event(), threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Waiting for" in record.getMessage():
                waiting.set()

    def hold(**_: Any) -> None:
        if not renewing.is_set():
            renewing.set()
            waiting.wait(10)

    session.events.register("before-send.sts.AssumeRole", hold)
    heard = Heard()
    logging.getLogger("rolevault").addHandler(heard)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(dynamodb.list_tables)
            assert renewing.wait(10)
            second = pool.submit(dynamodb.list_tables)
            assert first.result()
            assert second.result()
    finally:
        logging.getLogger("rolevault").removeHandler(heard)
    assert waiting.is_set()
    assert len(alice.requests) == 2


def test_a_vault_that_cannot_be_read(
    sts: LocalSts,
    role_a: Role,
    enter: Enter,
    vault_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller meets the service's own answer; the log tells why it was not healed."""
    session = enter(role_a)
    dynamodb: Any = session.client("dynamodb")
    sts.revoke("expired", key_of(session))
    vault_path.write_bytes(b"garbage")
    with pytest.raises(ClientError, match="ExpiredToken"):
        dynamodb.list_tables()
    assert "could not be dropped" in caplog.text
