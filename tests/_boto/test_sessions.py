"""
Everything that people do with boto3, with a role installed: threads, workers,
resources, transfers, pages, over a renewal as well. S3 is moto's server, the
second opinion beside the local STS.
"""

import copy
import io
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import boto3
import pytest
import time_machine
from boto3.s3.transfer import TransferConfig

import rolevault
from conftest import Alice, Options, Python, account_of
from local_iam import Role
from local_sts import LocalSts

REGION = "eu-west-1"


@pytest.fixture
def bucket(
    moto: str, options: Options, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """A bucket made by a plain client, the role being installed."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    rolevault.install(**options)
    name = f"b{abs(hash(request.node.nodeid))}"
    boto3.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return name


@pytest.fixture
def signers() -> list[str]:
    """The access key ids that sign S3's requests of the default session, in order."""
    found: list[str] = []

    def note(request: Any, **_: Any) -> None:
        header = request.headers.get("Authorization", "")
        text = header.decode() if isinstance(header, bytes) else header
        found.append(text.partition("Credential=")[2].partition("/")[0])

    boto3._get_default_session().events.register_last("before-send.s3", note)
    return found


def test_plain_s3(bucket: str, alice: Alice) -> None:
    """A plain ``boto3.client("s3")`` writes and reads an object."""
    boto3.client("s3").put_object(Bucket=bucket, Key="k", Body=b"text")
    assert boto3.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"text"
    assert len(alice.requests) == 1


def test_motos_sts_agrees(
    moto: str, options: Options, alice: Alice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An STS that is not ours is satisfied with what we send, too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    rolevault.install(region_name=REGION, **options)
    assert account_of() == "111122223333"
    boto3.client("s3").list_buckets()
    assert len(alice.requests) == 1


def test_resources(bucket: str, alice: Alice) -> None:
    """``boto3.resource``, of the default session and of one of ours."""
    boto3.resource("s3").Object(bucket, "k").put(Body=b"text")
    mine = rolevault.session(boto3_role(), mfa_serial=alice.serial, mfa_callback=alice)
    assert mine.resource("s3").Object(bucket, "k").get()["Body"].read() == b"text"
    assert len(alice.requests) == 1


def boto3_role() -> str:
    credentials: Any = boto3._get_default_session().get_credentials()
    return str(credentials.renewal.role.role_arn)


def test_transfers_over_a_renewal(
    bucket: str, sts: LocalSts, alice: Alice, signers: list[str]
) -> None:
    """A multipart upload by many threads whose session ends in the middle goes on
    with the next one; nobody is asked.
    """
    client = boto3.client("s3")
    part = 5 * 1024 * 1024
    moved = threading.Event()
    with time_machine.travel(sts.now(), tick=True) as clock:

        def after_first_part(**_: Any) -> None:
            if not moved.is_set():
                moved.set()
                clock.shift(timedelta(minutes=58))

        client.meta.events.register("after-call.s3.UploadPart", after_first_part)
        config = TransferConfig(part, 2, part)
        client.upload_fileobj(io.BytesIO(bytes(3 * part)), bucket, "big", Config=config)
        size = client.head_object(Bucket=bucket, Key="big")["ContentLength"]
    assert size == 3 * part
    assert len(set(signers)) == 2
    assert sts.count("AssumeRole") == 2
    assert len(alice.requests) == 1


def test_pages_over_a_renewal(bucket: str, sts: LocalSts, alice: Alice, signers: list[str]) -> None:
    """A paginator that outlives the session goes on."""
    client = boto3.client("s3")
    for n in range(3):
        client.put_object(Bucket=bucket, Key=str(n))
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    found = []
    with time_machine.travel(sts.now(), tick=True) as clock:
        for page in pages:
            found += [each["Key"] for each in page["Contents"]]
            clock.shift(timedelta(hours=2))
    assert found == ["0", "1", "2"]
    assert sts.count("AssumeRole") == 3
    assert len(set(signers[-3:])) == 3
    assert len(alice.requests) == 1


def test_waiters_over_a_renewal(bucket: str, sts: LocalSts, signers: list[str]) -> None:
    """A waiter that outlives the session goes on."""
    client = boto3.client("s3")
    with time_machine.travel(sts.now(), tick=True) as clock:
        seen: list[int] = []

        def after(http_response: Any, **_: Any) -> None:
            seen.append(http_response.status_code)
            if len(seen) == 1:
                clock.shift(timedelta(hours=2))
                boto3.client("s3").put_object(Bucket=bucket, Key="late")

        client.meta.events.register("after-call.s3.HeadObject", after)
        waiter = client.get_waiter("object_exists")
        waiter.wait(Bucket=bucket, Key="late", WaiterConfig={"Delay": 0, "MaxAttempts": 3})
    assert seen == [404, 200]
    assert signers[-1] != signers[-3]


def test_presigned_urls(bucket: str, sts: LocalSts) -> None:
    """A presigned URL works without us, and carries the session of its time."""
    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key="k", Body=b"text")

    def sign() -> tuple[str, str]:
        url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
        query = parse_qs(urlsplit(url).query)
        credential = query.get("X-Amz-Credential", query.get("AWSAccessKeyId", [""]))[0]
        return url, credential.partition("/")[0]

    url, first = sign()
    with urlopen(url) as answer:  # noqa: S310  a URL of this machine's own server
        assert answer.read() == b"text"
    assert first == sts.sessions[-1].access_key_id
    with time_machine.travel(sts.now() + 7200, tick=True):
        assert sign()[1] == sts.sessions[-1].access_key_id != first


@pytest.fixture(params=["role_arn", "profile"])
def mode(
    request: pytest.FixtureRequest,
    options: Options,
    role_a: Role,
    alice: Alice,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """``install``, for an explicit role and from a profile."""
    if request.param == "role_arn":
        return lambda **more: rolevault.install(**options, **more)
    config = Path.home() / ".aws" / "config"
    config.parent.mkdir()
    config.write_text(
        f"[default]\nrole_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
        f"[profile base]\naws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return lambda **more: rolevault.install(mfa_callback=alice, **more)


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What ``call`` returns in threads that start at once."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_sixteen_threads_cause_one_prompt(
    mode: Callable[..., Any], sts: LocalSts, alice: Alice
) -> None:
    """Sixteen threads that call ``boto3.client()`` first thing after ``install()``:
    one prompt, one session, one credentials object.
    """
    session = mode()

    def work(_: int) -> tuple[int, str]:
        # boto3's clients are made one at a time, as its documentation demands;
        # sessions resolve in any number of threads.
        credentials = session.get_credentials()
        client = boto3.client("sts", region_name=REGION)
        return id(credentials), client.get_caller_identity()["Account"]

    results = together(16, work)
    assert {account for _, account in results} == {"111122223333"}
    assert len({identity for identity, _ in results}) == 1
    assert len(alice.requests) == 1
    assert (sts.count("GetSessionToken"), sts.count("AssumeRole")) == (1, 1)


def test_threads_with_sessions_of_their_own(
    mode: Callable[..., Any], sts: LocalSts, alice: Alice
) -> None:
    """A session a thread, as boto3's documentation advises: still one prompt."""
    mode(all_sessions=True)
    accounts = together(16, lambda _: account_of(boto3.Session()))
    assert set(accounts) == {"111122223333"}
    assert len(alice.requests) == 1
    assert (sts.count("GetSessionToken"), sts.count("AssumeRole")) == (1, 1)


def test_threads_that_install_at_once(options: Options, alice: Alice) -> None:
    """The same ``install()`` in many threads is one."""
    sessions = together(8, lambda _: rolevault.install(**options))
    assert len({id(each) for each in sessions}) == 1
    assert account_of() == "111122223333"
    rolevault.uninstall()
    assert not rolevault.is_installed()
    assert account_of() == "999988887777"


WORKERS = """
import functools, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import rolevault

method, arn, serial = sys.argv[1:]
install = functools.partial(rolevault.install, arn, mfa_serial=serial)
# What a worker evaluates; a function of this script is not known to a fresh one.
account = "__import__('boto3').client('sts', 'eu-west-1').get_caller_identity()['Account']"
install()
if method == "fork":
    print(eval(account))  # what is in hand is inherited
start = {} if method == "fork" else {"initializer": install}
with ProcessPoolExecutor(2, multiprocessing.get_context(method), **start) as pool:
    for each in [pool.submit(eval, account) for _ in range(4)]:
        print(each.result())
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(
    options: Options, sts: LocalSts, alice: Alice, python: Python, method: str
) -> None:
    """Workers of each kind use the vault: forked ones have the installation, others
    install in their initializer. ``concurrent.futures`` throughout.
    """
    rolevault.ensure(rolevault.session(**options))
    output, errors = python(WORKERS, method, options["role_arn"], alice.serial).communicate(
        timeout=60
    )
    assert set(output.split()) == {"111122223333"}, errors
    assert len(output.split()) == 4 + (method == "fork")
    assert len(alice.requests) == 1
    assert sts.count("AssumeRole") == 1


def test_credentials_are_neither_copied_nor_pickled(options: Options) -> None:
    """As botocore's own: keys do not leave the process that way."""
    session = rolevault.install(**options)
    credentials: Any = session.get_credentials()
    for attempt in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="pickled or copied"):
            attempt(credentials)
    for attempt in (copy.deepcopy, pickle.dumps):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            attempt(session)
