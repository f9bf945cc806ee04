"""The container-credentials protocol of the AWS SDKs, on loopback: a GET request with a token is
answered with the keys of a role. https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html

Any process of any user can connect to a port of loopback, and so can a page in a browser. So
nothing that comes in is trusted, and a request that is refused learns nothing but a status.
"""

import hmac
import io
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from weakref import WeakSet

from botocore.exceptions import BotoCoreError, ClientError

from rolevault._prompt import person
from rolevault._signin.assume_role import CodeNeededError
from rolevault._signin.renewal import Renewal
from rolevault._signin.sts_session import StsSession
from rolevault.errors import MfaRequiredError

logger = logging.getLogger(__name__)

#: How long a client may take, in seconds, to send its request and to read the answer.
CLIENT_SECONDS = 5.0
#: The longest request line and headers together, in bytes. Those of SDKs have less than 1 KiB.
_MOST_HEAD = 16 * 1024
#: How many clients are served at once. Those beyond are hung up on.
_MOST_CLIENTS = 256

_HEAD_END = b"\r\n\r\n"


class CredentialsServer(ThreadingTCPServer):
    """Serves the keys of one role until ``stop()``. The address exists from the construction on.

    A forked child does not serve: it has the parent's socket, and closes it.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, renewal: Renewal) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._address = ("127.0.0.1", self.socket.getsockname()[1])
        self.host = "{}:{}".format(*self._address)
        self.path = f"/{secrets.token_urlsafe(16)}"
        self.token = secrets.token_urlsafe(32)
        self.renewal = renewal
        self._connections: set[Any] = set()
        self._refusals: set[str] = set()
        self._failure = ""
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, name="rolevault", daemon=True)
        _all_servers.add(self)

    @property
    def url(self) -> str:
        return f"http://{self.host}{self.path}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Free the port, and hang up on the clients that are still connected."""
        self._is_open = False
        # The thread waits for a client: this is the last one.
        with suppress(OSError), socket.create_connection(self._address, timeout=1.0):
            self._thread.join(CLIENT_SECONDS)
        for each in list(self._connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.abandon()

    def abandon(self) -> None:
        """Close the sockets of this process. A forked child does not close those of its parent."""
        self.server_close()
        for each in list(self._connections):
            each.close()

    def credentials(self) -> StsSession:
        """Return the role's session. Renew it first if that is due and needs nobody.

        :raises RoleVaultError, BotoCoreError, ClientError, OSError: why there is none.
        """
        reason = "a request to the endpoint asks nobody"
        role = self.renewal.role
        try:
            with person.nobody_asked(reason):
                return self.renewal.session(ask=False)
        except CodeNeededError:
            raise MfaRequiredError(
                serial=role.mfa_serial or "", purpose=role.purpose, reason=reason
            ) from None

    def note_refusal(self, fact: str) -> None:
        """Log that a request was refused. Each fact is logged once, because a stranger can send
        any number of requests.
        """
        if fact not in self._refusals:
            self._refusals.add(fact)
            logger.warning("The endpoint refused a request, because %s.", fact)

    def note_failure(self, text: str) -> None:
        """Log in one line why there are no credentials; nothing if that is the last line, because
        SDKs try again and again. An empty text says that all is well.
        """
        before, self._failure = self._failure, text
        if text not in ("", before):
            text = " ".join(text.split())
            logger.warning("The endpoint has no credentials of the role to give. %s", text)

    def _serve(self) -> None:
        while self._is_open:
            self.handle_request()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._is_open and len(self._connections) < _MOST_CLIENTS

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is no error, and neither is one that reads too slowly.
        if not isinstance(sys.exc_info()[1], OSError):
            logger.exception("A request to the endpoint failed.")


class _Handler(BaseHTTPRequestHandler):
    """One connection, which carries one request."""

    server: CredentialsServer
    # An answer is one write. Nagle's algorithm would hold back the end of a longer one for 40 ms.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        head = _read_head(self.connection)
        if head is None:
            self._refuse(400, "it is no whole request")
            return
        self.rfile.close()
        self.rfile = io.BufferedReader(io.BytesIO(head))
        self.handle_one_request()

    def do_GET(self) -> None:
        server = self.server
        if self.headers.get_all("Host", []) != [server.host]:
            # A name that leads to this address: DNS rebinding.
            self._refuse(403, "it names another host")
        elif not _are_equal([self.path], server.path):
            self._refuse(404, "it names another path")
        elif not _are_equal(self.headers.get_all("Authorization", []), server.token):
            self._refuse(401, "it has not the token")
        else:
            self._answer_with_credentials()

    def _answer_with_credentials(self) -> None:
        try:
            session = self.server.credentials()
        except (BotoCoreError, ClientError, OSError) as error:
            self.server.note_failure(str(error))
            self._answer(503, {"code": type(error).__name__, "message": str(error)})
            return
        self.server.note_failure("")
        key_id, secret_key, token = session.keys
        fields = {
            "AccessKeyId": key_id,
            "SecretAccessKey": secret_key,
            "Token": token,
            "Expiration": f"{session.expires:%Y-%m-%dT%H:%M:%SZ}",
            "AccountId": self.server.renewal.role.account_id or "",
        }
        self._answer(200, {name: value for name, value in fields.items() if value})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the base class cannot read, without its page, which quotes the request."""
        if code == 501:
            self._refuse(405, "it is no GET")
        else:
            self._refuse(400, "it is no HTTP")

    def _refuse(self, status: int, fact: str) -> None:
        self.server.note_refusal(fact)
        self._answer(status, None)

    def _answer(self, status: int, fields: dict[str, str] | None) -> None:
        body = json.dumps(fields).encode() if fields is not None else b""
        head = (
            f"HTTP/1.1 {status} {self.responses[status][0]}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            "Connection: close\r\n\r\n"
        )
        self.connection.settimeout(CLIENT_SECONDS)
        self.connection.sendall(head.encode() + body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: what a stranger sends does not belong on the terminal."""


def _read_head(connection: socket.socket) -> bytes | None:
    """Return the request line and the headers; None if they are too long, do not come in time, or
    are of HTTP/0.9, which has no headers.
    """
    until, head = time.monotonic() + CLIENT_SECONDS, b""
    while True:
        line, is_whole, _ = head.partition(b"\r\n")
        left = until - time.monotonic()
        if left <= 0 or len(head) > _MOST_HEAD or (is_whole and b" HTTP/1." not in line):
            return None
        if _HEAD_END in head:
            return head
        connection.settimeout(left)
        try:
            received = connection.recv(4096)
        except TimeoutError:
            return None
        if not received:
            return None
        head += received


def _are_equal(values: list[str], expected: str) -> bool:
    """Return whether there is one value, the expected one. How long that takes tells nothing."""
    # A header may hold any byte, and compare_digest() takes ASCII text or bytes.
    return len(values) == 1 and hmac.compare_digest(values[0].encode(), expected.encode())


_all_servers: "WeakSet[CredentialsServer]" = WeakSet()


def _after_fork_in_child() -> None:
    for each in _all_servers:
        each.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
