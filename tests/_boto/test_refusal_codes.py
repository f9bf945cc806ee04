"""Every code by which services refuse keys, in each protocol, heals; no other one does."""

import gzip
import re
import socket
from pathlib import Path
from typing import Any

import botocore
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError

import rolevault
from aws_wire import Answer, Request
from conftest import Options, Web
from rolevault._boto.refused_keys import EC2_REFUSAL, REFUSALS

#: The codes that heal. ``REFUSALS`` names the source of each.
CODES = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestExpired",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
]

JSON, XML, CBOR = "application/x-amz-json-1.0", "text/xml", "application/cbor"


def query(code: str, status: int = 403) -> Answer:
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>x</Message></Error></ErrorResponse>"
    return Answer(status, XML, body.encode())


def ec2(code: str, status: int = 401) -> Answer:
    body = f"<Response><Errors><Error><Code>{code}</Code></Error></Errors></Response>"
    return Answer(status, XML, body.encode())


def s3(code: str, status: int = 400) -> Answer:
    return Answer(status, XML, f"<Error><Code>{code}</Code></Error>".encode())


def json(code: str, status: int = 400) -> Answer:
    return Answer(status, JSON, f'{{"__type":"com.amazon.coral.service#{code}"}}'.encode())


def cbor(code: str, status: int = 400) -> Answer:
    def text(value: str) -> bytes:
        return b"\x78" + bytes([len(value)]) + value.encode()

    return Answer(status, CBOR, b"\xa1" + text("__type") + text(f"smithy.framework#{code}"))


#: For each protocol of botocore's models: a service, an operation of it, and its errors.
PROTOCOLS: dict[str, tuple[str, str, Any]] = {
    "query": ("iam", "list_users", query),
    "ec2": ("ec2", "describe_regions", ec2),
    "json": ("kms", "list_keys", json),
    "rest-xml": ("s3", "list_buckets", s3),
    "rest-json": ("lambda", "list_functions", json),
    "smithy-rpc-v2-cbor": ("eventbridgev2", "list_event_buses", cbor),
}


def signers(
    web: Web, options: Options, service: str, operation: str, answer: Answer, **arguments: Any
) -> list[str]:
    """The access key ids of the requests that one call makes of a service that refuses all."""
    seen: list[str] = []

    def refuse(request: Request) -> Answer:
        signed = request.headers.get("Authorization") or request.body.decode()
        found = re.search(r"(?:Credential|AWSAccessKeyId)=(\w+)", signed)
        assert found is not None
        seen.append(found[1])
        return answer

    for path in ("/", "/bucket", "/2015-03-31/functions/", "/2015-03-31/functions"):
        web.answers[path] = refuse
    client: Any = rolevault.session(**options).client(  # type: ignore[call-overload]
        service, region_name="eu-west-1", endpoint_url=web.url
    )
    target = client.meta.service_model.metadata.get("targetPrefix")
    name = client.meta.method_to_api_mapping[operation]
    web.answers[f"/service/{target}/operation/{name}"] = refuse
    with pytest.raises(client.exceptions.ClientError):
        getattr(client, operation)(**arguments)
    return seen


def in_this_release(protocol: str) -> tuple[str, str, Any]:
    service, operation, error = PROTOCOLS[protocol]
    session = botocore.session.Session()
    if service not in session.get_available_services():
        pytest.skip(f"this botocore has no {service}")
    assert session.get_service_model(service).protocol == protocol
    return service, operation, error


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refused_key_is_replaced(web: Web, options: Options, protocol: str, code: str) -> None:
    """The request is sent once more, signed with another key, in every protocol."""
    service, operation, error = in_this_release(protocol)
    seen = signers(web, options, service, operation, error(code))
    assert len(seen) == 2
    assert len(set(seen)) == 2


def test_no_other_code_heals() -> None:
    """Whoever adds a code adds a source, and an answer that shows it."""
    assert sorted(REFUSALS) == CODES


def test_a_key_of_signature_version_2(web: Web, options: Options) -> None:
    """SimpleDB is told the key among the parameters, and not in a header."""
    seen = signers(web, options, "sdb", "list_domains", query("InvalidClientTokenId"))
    assert len(seen) == len(set(seen)) == 2


def test_ec2_refuses_a_key_with_status_401(web: Web, options: Options) -> None:
    """``AuthFailure`` of EC2 has two meanings, and the status tells them apart."""
    code, status = EC2_REFUSAL
    assert len(signers(web, options, "ec2", "describe_regions", ec2(code, status))) == 2
    for other in (400, 403):
        assert len(signers(web, options, "ec2", "describe_regions", ec2(code, other))) == 1


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch", "InvalidTokenException"])
def test_other_codes_are_left_alone(web: Web, options: Options, code: str) -> None:
    """They say nothing of the key."""
    assert len(signers(web, options, "iam", "list_users", query(code))) == 1


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ("Invalid Token: 'x'", 1),
        ("The security token included in the request is invalid.", 2),
    ],
)
def test_a_token_among_the_arguments_is_no_key(
    web: Web, options: Options, message: str, sent: int
) -> None:
    """``InvalidToken`` of Step Functions is about a task's token: one request, and the session
    stays. AWS's own words about the key of a request count, whatever an operation declares.
    """
    keys: list[str] = []

    def refuse(request: Request) -> Answer:
        keys.append(request.headers["Authorization"].partition("/")[0])
        body = f'{{"__type":"com.amazonaws.swf.service#InvalidToken","message":"{message}"}}'
        return Answer(400, JSON, body.encode())

    web.answers["/"] = refuse
    client = rolevault.session(**options).client(
        "stepfunctions", region_name="eu-west-1", endpoint_url=web.url
    )
    with pytest.raises(client.exceptions.InvalidToken):
        client.send_task_heartbeat(taskToken="x")
    assert len(keys) == len(set(keys)) == sent


def test_a_code_about_the_key_that_an_operation_declares(web: Web, options: Options) -> None:
    """CloudWatch Logs declares the code, but means the key, and no token among the arguments."""
    event = {"timestamp": 1, "message": "x"}
    arguments: dict[str, Any] = {"logGroupName": "g", "logStreamName": "s", "logEvents": [event]}
    answer = json("UnrecognizedClientException")
    assert len(signers(web, options, "logs", "put_log_events", answer, **arguments)) == 2


@pytest.mark.parametrize(("status", "sent"), [(400, 2), (403, 1), (404, 1)])
def test_an_answer_without_a_body(web: Web, options: Options, status: int, sent: int) -> None:
    """Of S3's answers to HEAD, only status 400 can mean the key."""
    answer = Answer(status, XML, b"")
    assert len(signers(web, options, "s3", "head_bucket", answer, Bucket="bucket")) == sent


def test_an_answer_may_have_a_member_of_that_name(web: Web, options: Options) -> None:
    """``Error`` is text in some answers that are no errors."""
    web.answers["/"] = lambda request: Answer(200, JSON, b'{"Id":"1","Error":"ExpiredToken"}')
    client = rolevault.session(**options).client(
        "redshift-data", region_name="eu-west-1", endpoint_url=web.url
    )
    assert client.describe_statement(Id="1")["Error"] == "ExpiredToken"


def test_no_answer_is_no_refusal(options: Options) -> None:
    """The caller gets botocore's own error where nothing listens."""
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        client = rolevault.session(**options).client(
            "kms",
            region_name="eu-west-1",
            endpoint_url=f"http://127.0.0.1:{bound.getsockname()[1]}",
            config=Config(retries={"total_max_attempts": 1}),
        )
        with pytest.raises(EndpointConnectionError):
            client.list_keys()


def test_every_protocol_is_among_them() -> None:
    """No service of this botocore has a protocol that the tests leave out."""
    protocols = set()
    for path in Path(botocore.__file__).parent.glob("data/*/*/service-2.json*"):
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            found = re.search(rb'"protocol"\s*:\s*"([^"]+)"', file.read(4096))
        assert found is not None
        protocols.add(found[1].decode())
    assert len(protocols) >= 5
    assert protocols <= set(PROTOCOLS)
