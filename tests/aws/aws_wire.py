"""The HTTP side of the local STS: a threading server, the check of SigV4 signatures with botocore's
signer, and the wire formats in which AWS services answer and refuse.
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
"""Seconds between a signature's date and STS's clock, in either direction."""

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/\s]+)/(\d{8})/([^/\s]+)/([^/\s]+)/aws4_request, ?"
    r"SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{64})"
)
_SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS "
    "Secret Access Key and signing method. Consult the service documentation for details."
)


class AwsError(Exception):
    """A refusal in STS's words. ``refusal`` translates it into the words of other services."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def denied(message: str) -> AwsError:
    """The refusal of a caller who is known but is not allowed to make the call."""
    return AwsError(403, "AccessDenied", message)


def invalid(message: str) -> AwsError:
    """The refusal of a call that the API accepts from no caller."""
    return AwsError(400, "ValidationError", message)


class Request(NamedTuple):
    """A request as received; ``target`` is its path and query, not decoded."""

    method: str
    target: str
    headers: Message
    body: bytes


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    content_type: str
    body: bytes


def xml(tag: str, value: Any) -> str:
    """An XML element. The items of a mapping become child elements."""
    if isinstance(value, Mapping):
        inner = "".join(xml(name, each) for name, each in value.items())
    else:
        inner = escape(str(value), quote=False)
    return f"<{tag}>{inner}</{tag}>"


def query_params(request: Request) -> dict[str, str]:
    """The parameters of a request in the Query protocol. Of duplicates, the first is used."""
    text = urlsplit(request.target).query
    if "x-www-form-urlencoded" in request.headers.get("Content-Type", ""):
        text = request.body.decode("utf-8", "replace")
    return dict(reversed(parse_qsl(text, keep_blank_values=True)))


def _signature(
    request: Request, secret: str, region: str, service: str, date: str, names: Iterable[str]
) -> str:
    """The signature that botocore's signer computes for the received request."""
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
    """Whether the body has the hash in ``x-amz-content-sha256``. botocore's signer does not look at
    the body where this header is set.
    """
    claimed = request.headers.get("X-Amz-Content-SHA256")
    if claimed is None or claimed.startswith(("UNSIGNED-", "STREAMING-")):
        return True
    return hashlib.sha256(request.body).hexdigest() == claimed


def verify(request: Request, scope: re.Match[str], secret: str, now: float) -> None:
    """Check the signature and the date of ``request``.

    :param now: the clock of the service, in seconds since 1970.
    :raises AwsError: the signature is wrong, or the date is too far from ``now``.
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
    """The response with which ``service`` reports ``error``. There are four wire formats, and the
    error codes have several names.
    """
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
    """An empty response of any service to a request that succeeded."""
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
    """An HTTP server that passes each request to ``serve``, and closes the connection where
    ``serve`` returns None. It knows its open connections, so that it can close all of them.
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
        """Bind the port without a name lookup."""
        # HTTPServer asks the resolver for the host's name, which can take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in its own thread."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close one connection."""
        super().shutdown_request(request)
        self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep an exception of the server for ``crashes``. A client that closes its connection is
        not an error.
        """
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.crashes.append(error)

    def stop(self) -> None:
        """Free the port, close all connections, and wait until their threads have ended."""
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
        """The Date header, by the service's own clock: clients may compare their clock with it."""
        if timestamp is None:
            timestamp = cast(Server, self.server).now()
        return super().date_time_string(int(timestamp))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""
