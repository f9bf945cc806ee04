"""The wire under the local STS: a threading HTTP server, SigV4 as botocore signs
it, and how each kind of AWS service words an answer and a refusal.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import json
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from email.message import Message

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"

SKEW = 15 * 60
"""Seconds that a signature's date may be off STS's clock, either way."""

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/\s]+)/(\d{8})/([^/\s]+)/([^/\s]+)/aws4_request, ?"
    r"SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{64})"
)
_SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS "
    "Secret Access Key and signing method. Consult the service documentation for details."
)


class AwsError(Exception):
    """A refusal, as STS words it. Other services word the same refusal
    otherwise: see ``refusal``.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def denied(message: str) -> AwsError:
    """The refusal of someone who is known and may not."""
    return AwsError(403, "AccessDenied", message)


def invalid(message: str) -> AwsError:
    """The refusal of what the API does not take from anybody."""
    return AwsError(400, "ValidationError", message)


class Request(NamedTuple):
    """What came over the wire, with ``target`` (path and query) undecoded."""

    method: str
    target: str
    headers: Message
    body: bytes


class Answer(NamedTuple):
    """What goes back."""

    status: int
    content_type: str
    body: bytes


def xml(tag: str, value: Any) -> str:
    """An element; a mapping's items become its children."""
    if isinstance(value, Mapping):
        inner = "".join(xml(name, each) for name, each in value.items())
    else:
        inner = escape(str(value), quote=False)
    return f"<{tag}>{inner}</{tag}>"


def query_params(request: Request) -> dict[str, str]:
    """The Query protocol's parameters. Of duplicates the first counts."""
    text = urlsplit(request.target).query
    if "x-www-form-urlencoded" in request.headers.get("Content-Type", ""):
        text = request.body.decode("utf-8", "replace")
    return dict(reversed(parse_qsl(text, keep_blank_values=True)))


def _signature(
    request: Request, secret: str, region: str, service: str, date: str, names: Iterable[str]
) -> str:
    """The signature that botocore would have put on what was received."""
    host = request.headers.get("Host", "")
    url = f"http://{host}{request.target}"
    copy = AWSRequest(method=request.method, url=url, data=request.body)
    for name in names:
        for value in request.headers.get_all(name, []):
            copy.headers.add_header(name, value)
    copy.context["timestamp"] = date
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    signer = kind(Credentials("", secret), service, region)
    return signer.signature(signer.string_to_sign(copy, signer.canonical_request(copy)), copy)


def _body_is_as_signed(request: Request) -> bool:
    """The signer takes a hash in x-amz-content-sha256 at its word; we do not."""
    claimed = request.headers.get("X-Amz-Content-SHA256")
    if claimed is None or claimed.startswith(("UNSIGNED-", "STREAMING-")):
        return True
    return hashlib.sha256(request.body).hexdigest() == claimed


def verify(request: Request, scope: re.Match[str], secret: str, now: float) -> None:
    """Hold ``request`` to its signature and its date, and both to ``now``.

    Raises:
        AwsError: one of them does not hold.
    """
    date = request.headers.get("X-Amz-Date", "")
    _check_date(date, now)
    _, _, region, service, signed, signature = scope.groups()
    names = signed.split(";")
    unsigned = {n.lower() for n in request.headers if n.lower().startswith("x-amz-")} - {*names}
    expected = _signature(request, secret, region, service, date, names)
    sound = "host" in names and not unsigned and _body_is_as_signed(request)
    if not sound or not hmac.compare_digest(expected, signature):
        raise AwsError(403, "SignatureDoesNotMatch", _SIGNATURE)


def _check_date(date: str, now: float) -> None:
    try:
        at = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        message = f"Date must be in ISO-8601 'basic format'. Got '{date}'."
        raise AwsError(400, "IncompleteSignature", message) from None
    text = ""
    if at < now - SKEW:
        text = f"Signature expired: {date} is now earlier than {_basic(now - SKEW)} "
        text += f"({_basic(now)} - 15 min.)"
    elif at > now + SKEW:
        text = f"Signature not yet current: {date} is still later than {_basic(now + SKEW)} "
        text += f"({_basic(now)} + 15 min.)"
    if text:
        raise AwsError(403, "SignatureDoesNotMatch", text)


def _basic(at: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))


def refusal(service: str, error: AwsError, request: Request, request_id: str) -> Answer:
    """``error`` as ``service`` words it: four wire formats, many names."""
    status, code, message = error.status, error.code, error.message
    if service == "s3":
        status, code, message = {
            "ExpiredToken": (400, code, "The provided token has expired."),
            "InvalidClientTokenId": (
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            ),
        }.get(code, (status, code, message))
        body = xml("Error", {"Code": code, "Message": message, "RequestId": request_id})
        return Answer(status, "application/xml", body.encode())
    if service == "ec2":
        unknown = (
            401,
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
        )
        status, code, message = {
            "ExpiredToken": (400, "RequestExpired", "Request has expired."),
            "InvalidClientTokenId": unknown,
            "SignatureDoesNotMatch": unknown,
            "AccessDenied": (403, "UnauthorizedOperation", message),
        }.get(code, (status, code, message))
        errors = {"Errors": {"Error": {"Code": code, "Message": message}}, "RequestID": request_id}
        return Answer(status, "text/xml", xml("Response", errors).encode())
    if request.headers.get("X-Amz-Target"):
        code = {
            "InvalidClientTokenId": "UnrecognizedClientException",
            "SignatureDoesNotMatch": "InvalidSignatureException",
        }.get(code, f"{code}Exception")
        answer = {"__type": f"com.amazon.coral.service#{code}", "message": message}
        return Answer(400, "application/x-amz-json-1.0", json.dumps(answer).encode())
    kind = "Sender" if status < 500 else "Receiver"
    details = {"Type": kind, "Code": code} | ({"Message": message} if message else {})
    inner = xml("Error", details) + xml("RequestId", request_id)
    body = f'<ErrorResponse xmlns="{NAMESPACE}">{inner}</ErrorResponse>'
    return Answer(status, "text/xml", body.encode())


def echo(service: str, action: str, request: Request, request_id: str) -> Answer:
    """An empty success of whatever service was asked."""
    if service == "s3":
        return Answer(200, "application/xml", b"")
    if request.headers.get("X-Amz-Target"):
        return Answer(200, "application/x-amz-json-1.0", b"{}")
    if service == "ec2":
        body = xml(f"{action}Response", {"requestId": request_id})
    else:
        metadata = {"RequestId": request_id}
        body = xml(f"{action}Response", {f"{action}Result": {}, "ResponseMetadata": metadata})
    return Answer(200, "text/xml", body.encode())


class Server(ThreadingHTTPServer):
    """Hands each request to ``serve``; where that answers None, it hangs up.
    Knows its open connections, so that it can hang up on all of them.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, serve: Callable[[Request], Answer | None], now: Callable[[], float]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.serve = serve
        self.now = now
        self.crashes: list[BaseException] = []
        self._open: set[Any] = set()

    def server_bind(self) -> None:
        """Bind without a look-up."""
        # HTTPServer's asks the resolver for our name, which can take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in a thread of its own."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End one connection."""
        super().shutdown_request(request)
        self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what went wrong in here; that a client hung up is its own affair."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.crashes.append(error)

    def stop(self) -> None:
        """Free the port, hang up on everybody, and wait until all are gone."""
        self.server_close()
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for _ in range(5000):
            if not self._open:
                return
            time.sleep(0.001)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        serve = cast(Server, self.server).serve
        answer = serve(Request(self.command, self.path, self.headers, self._body()))
        if answer is None:
            self.close_connection = True
            return
        body = b"" if self.command == "HEAD" else answer.body
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The service's own clock: clients may compare theirs with it."""
        if timestamp is None:
            timestamp = cast(Server, self.server).now()
        return super().date_time_string(int(timestamp))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
