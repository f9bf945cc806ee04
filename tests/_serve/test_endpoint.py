"""The credentials endpoint: who gets keys from it, and who does not."""

import contextlib
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.credentials import ContainerProvider

import rolevault
from conftest import PASSPHRASE, Alice, Config, Enter, Python, key_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError, MfaRequiredError
from rolevault._serve import credentials_server
from rolevault._serve.endpoint import Endpoint

URI, TOKEN_FILE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"


class Client:
    """Sends bytes to an endpoint, as nobody's SDK would."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.uri = endpoint.env()[URI]
        self.host, _, path = self.uri.removeprefix("http://").partition("/")
        self.path = f"/{path}"
        self.token = Path(endpoint.env()[TOKEN_FILE]).read_text()

    def connect(self) -> socket.socket:
        host, port = self.host.split(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def send(self, request: bytes, *, half: bool = False) -> bytes:
        """The whole answer to the request."""
        with self.connect() as connection:
            answer = b""
            # A server that refuses does not read all that is sent.
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
                if half:
                    connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(65536):
                    answer += data
            return answer

    def request(
        self,
        method: str = "GET",
        version: str = "HTTP/1.1",
        path: str | None = None,
        **changed: str | None,
    ) -> bytes:
        headers = {"Host": self.host, "Authorization": self.token}
        path = path or self.path
        lines = [f"{method} {path} {version}"]
        lines += [f"{k}: {v}" for k, v in {**headers, **changed}.items() if v is not None]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")

    def get(self, **changed: Any) -> tuple[int, Any]:
        """Status and body of the answer to a request that differs from the right one."""
        head, _, body = self.send(self.request(**changed)).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body else None


@pytest.fixture
def session(enter: Enter, role_a: Role) -> boto3.Session:
    return enter(role_a)


@pytest.fixture
def endpoint(session: boto3.Session) -> Iterator[Endpoint]:
    with rolevault.endpoint(session) as opened:
        yield opened


@pytest.fixture
def client(endpoint: Endpoint) -> Client:
    return Client(endpoint)


def test_role_keys_and_their_true_expiry(
    sts: LocalSts, client: Client, session: boto3.Session, role_a: Role
) -> None:
    """The answer has the keys that the session signs with, and what STS said of their end. The keys
    of the MFA session and of the user are not in it.
    """
    status, body = client.get()
    assert (status, body["AccessKeyId"]) == (200, key_of(session))
    issued = {key.access_key_id: key for key in sts.sessions}[body["AccessKeyId"]]
    assert body == {
        "AccessKeyId": issued.access_key_id,
        "SecretAccessKey": issued.secret_access_key,
        "Token": issued.session_token,
        "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued.expires)),
        "AccountId": role_a.account,
    }


def test_one_packet_an_answer_that_nobody_keeps(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is one write, at once, and no cache may keep it."""
    writes: list[int] = []
    real = socket.socket.sendall

    def counted(self: socket.socket, data: bytes) -> None:
        if threading.current_thread() is not threading.main_thread():
            writes.append(self.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        real(self, data)

    monkeypatch.setattr(socket.socket, "sendall", counted)
    with client.connect() as connection:
        connection.sendall(client.request())
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert json.loads(body)["Token"]
    assert len(writes) == 1
    assert writes[0]
    assert b"Cache-Control: no-store" in head
    assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Authorization": "wrong"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": None}, 401),
        ({"Authorization": "t\xf6ken"}, 401),
        ({"path": "/"}, 404),
        ({"path": "/latest/meta-data"}, 404),
        ({"path": "/\xf6"}, 404),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost"}, 403),
        ({"Host": None}, 403),
        ({"method": "POST"}, 405),
        ({"method": "HEAD"}, 405),
        ({"method": "OPTIONS"}, 405),
        ({"version": "HTTP/2.0"}, 400),
        ({"version": "HTTP/x"}, 400),
        ({"version": "HTTP/1.x"}, 400),
        ({"version": "HTTP/1.1 evil"}, 400),
        ({"version": ""}, 400),
    ],
)
def test_stranger_learns_a_status(
    client: Client,
    changed: dict[str, Any],
    status: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is wrong is refused with a status and no body. One line says so, and quotes nothing."""
    for _ in range(3):
        answer = client.send(client.request(**changed))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert answer.endswith(b"\r\n\r\n")
        assert b"Content-Length: 0\r\n" in answer
    assert capfd.readouterr() == ("", "")
    (record,) = caplog.records
    shown = record.getMessage() + str(record.__dict__)
    assert "refused a request" in shown
    for text in (client.token, client.path, "wrong", "evil", "meta-data"):
        assert text not in shown
    assert client.get()[0] == 200


def test_two_tokens_are_none(client: Client) -> None:
    """A header that comes twice is not what an SDK sends."""
    right = f"Authorization: {client.token}\r\n".encode()
    twice = client.request().replace(right, right + right)
    assert client.send(twice).startswith(b"HTTP/1.1 401 ")
    host = f"Host: {client.host}\r\n".encode()
    assert client.send(client.request().replace(host, host + host)).startswith(b"HTTP/1.1 403 ")


def test_what_is_no_whole_request(client: Client) -> None:
    """HTTP/0.9 and half a request are refused, also where the half has the token."""
    assert client.send(f"GET {client.path}\r\n".encode()).startswith(b"HTTP/1.1 400 ")
    for end in (1, 10, 60):
        half = client.request()[:-end]
        assert client.send(half, half=True).startswith(b"HTTP/1.1 400 ")
    assert client.send(b"", half=True).startswith(b"HTTP/1.1 400 ")
    assert client.get()[0] == 200


def test_request_of_a_megabyte_is_not_read(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end costs no memory: reading ends after 16 KiB and one buffer."""
    read: list[int] = []
    real = socket.socket.recv

    def counted(self: socket.socket, size: int, *flags: int) -> bytes:
        data = real(self, size, *flags)
        if threading.current_thread() is not threading.main_thread():
            read.append(len(data))
        return data

    monkeypatch.setattr(socket.socket, "recv", counted)
    for request in (b"GET /" + b"x" * 10**6, client.request()[:-2] + b"X: y\r\n" * 10**5):
        read.clear()
        answer = client.send(request)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
        assert 16 * 1024 < sum(read) <= 20 * 1024 + 1
    assert client.get()[0] == 200


def test_slow_clients_hold_nobody_up(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients that send nothing, or a byte now and then, do not keep others from being served, and
    are hung up on when their time is over.
    """
    monkeypatch.setattr(credentials_server, "CLIENT_SECONDS", 1.0)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(client.connect()) for _ in range(20)]
        for connection in slow[10:]:
            connection.sendall(b"GET /")
        for _ in range(20):
            assert client.get()[0] == 200

        def send_slowly() -> None:
            for _ in range(400):
                slow[0].sendall(b"x")
                time.sleep(0.02)

        with pytest.raises(ConnectionError):
            send_slowly()
        for connection in slow[1:]:
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert {each.levelno for each in caplog.records} <= {logging.INFO, logging.WARNING}


def test_too_many_clients_are_hung_up_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads is bounded. When clients leave, others are served."""
    monkeypatch.setattr(credentials_server, "_MOST_CLIENTS", 8)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(client.connect()).sendall(b"G")
        assert client.send(b"") == b""
    for _ in range(500):
        with contextlib.suppress(IndexError):
            assert client.get()[0] == 200
            return
        time.sleep(0.01)
    raise AssertionError("nobody is served any more")


def test_a_thousand_requests_fifty_at_once(sts: LocalSts, client: Client) -> None:
    """All get the keys, from memory."""
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.get(), range(1000)))
    assert [status for status, _ in answers] == [200] * 1000
    assert len({body["AccessKeyId"] for _, body in answers}) == 1
    assert sts.count("AssumeRole") == 1


def test_renewal_in_the_middle_is_silent(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
) -> None:
    """Fifty clients that ask when a renewal is due cause one AssumeRole, and nobody is asked."""
    with rolevault.endpoint(enter(role_a)) as opened:
        client = Client(opened)
        first = client.get()[1]["AccessKeyId"]
        for shift in (3600 - 600, 3700):  # in the advisory window, and after the end
            clock.shift(shift)
            with ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(lambda _: client.get(), range(50)))
            assert {status for status, _ in answers} == {200}
            last = client.get()[1]["AccessKeyId"]
            assert last != first
            first = last
    assert sts.count("AssumeRole") == 3
    assert len(alice.requests) == 1


def test_code_is_needed_and_nobody_is_asked(
    sts: LocalSts,
    alice: Alice,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where a renewal would need a code, the keys are given until their end. Then a request gets
    503 with the error's text; one line is logged for many requests. A sign-in of another script
    ends that.
    """
    with rolevault.endpoint(enter(role_a, mfa_session_seconds=900)) as opened:
        client = Client(opened)
        clock.shift(3600 - 100)
        caplog.clear()
        assert client.get()[0] == 200
        assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
        clock.shift(200)
        for _ in range(5):
            status, body = client.get()
            assert (status, body["code"]) == (503, "MfaRequiredError")
            assert alice.serial in body["message"]
            assert "rolevault.ensure()" in body["message"]
        assert len(alice.requests) == 1
        (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert body["message"] in record.getMessage()
        rolevault.ensure(enter(role_a))
        assert client.get()[0] == 200


def test_sts_is_down(
    sts: LocalSts,
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The keys that still sign are given. Without any there is 503, and the next request tries
    again.
    """
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with rolevault.endpoint(enter(role_a)) as opened:
        client = Client(opened)
        first = client.get()[1]
        sts.fail_next("error", 2)
        clock.shift(3000)
        assert client.get() == (200, first)
        clock.shift(700)
        status, body = client.get()
        assert (status, body["code"]) == (503, "ClientError")
        assert "InternalFailure" in body["message"]
        assert client.get()[0] == 200


def test_vault_that_was_rotated_asks_nobody(
    role_a: Role,
    enter: Enter,
    clock: time_machine.Traveller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A passphrase that a callable would ask for is not asked for in a request."""
    passphrases, calls = [PASSPHRASE], []

    def asked() -> str:
        calls.append(threading.current_thread())
        return passphrases[-1]

    session = enter(role_a, passphrase=asked)
    with rolevault.endpoint(session) as opened:
        client = Client(opened)
        passphrases.append("twelve drummers drumming")
        rolevault.rotate_passphrase(passphrases[-1], old=PASSPHRASE)
        clock.shift(3700)
        status, body = client.get()
        assert (status, body["code"]) == (503, "PassphraseRequiredError")
        assert "asks nobody" in body["message"]
        assert "\n" in body["message"]
        assert not [text for text in caplog.messages if "\n" in text]
        key_of(session)  # this thread may ask
        assert client.get()[0] == 200
    assert set(calls) == {threading.main_thread()}


def test_token_is_the_users_alone(endpoint: Endpoint) -> None:
    """The file has mode 0600 in a directory with mode 0700, and nothing else tells the token. Both
    go with the endpoint.
    """
    token_file = Path(endpoint.env()[TOKEN_FILE])
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(token_file.parent.stat().st_mode) == 0o700
    token = token_file.read_text()
    assert len(token) == 43
    assert token not in str(endpoint.env())
    assert repr(endpoint) == f"Endpoint('http://{Client(endpoint).host}')"


def test_two_endpoints_share_nothing(session: boto3.Session, client: Client) -> None:
    """Port, path and token are each endpoint's own."""
    with rolevault.endpoint(session) as second:
        other = Client(second)
        assert (other.host, other.path, other.token) != (client.host, client.path, client.token)
        assert not {other.path, other.token} & {client.path, client.token}
        assert other.get(Authorization=client.token)[0] == 401


@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_left(session: boto3.Session, failing: bool) -> None:
    """After the block, whatever ended it, port, thread, token and directory are gone."""
    key_of(session)  # the local STS has threads, too
    threads = set(threading.enumerate())
    with contextlib.suppress(KeyboardInterrupt), rolevault.endpoint(session) as opened:
        client = Client(opened)
        token_file = Path(opened.env()[TOKEN_FILE])
        waiting = client.connect()
        assert client.get()[0] == 200
        if failing:
            raise KeyboardInterrupt
    assert not token_file.parent.exists()
    with pytest.raises(ConnectionRefusedError):
        client.connect()
    assert waiting.recv(10) == b""
    waiting.close()
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
        assert not thread.is_alive()


def test_only_loopback(client: Client) -> None:
    """The port is on 127.0.0.1 and on no other address of this machine."""
    port = int(client.host.rpartition(":")[2])
    assert client.host == f"127.0.0.1:{port}"
    # Where it is bound to 0.0.0.0, each address of loopback would answer.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_sessions_that_are_not_served(alice: Alice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a user's keys nor a user's MFA session is handed on, and nobody is asked."""
    for refused, rule in (
        (boto3.Session(), "signs with 'env' credentials"),
        (None, "Call install"),
        (rolevault.session(mfa_serial=alice.serial, mfa_callback=alice), "MFA session of a user"),
        ("prod", "must be a boto3.Session"),
    ):
        with pytest.raises(ConfigurationError, match=rule), rolevault.endpoint(refused):  # type: ignore[arg-type]
            raise AssertionError("served")
    assert alice.requests == []


def test_person_is_asked_before_anything_is_served(
    alice: Alice, role_a: Role, enter: Enter
) -> None:
    """The sign-in happens in the thread that opens the endpoint. Where it fails, nothing opens."""
    with rolevault.endpoint(enter(role_a)):
        assert len(alice.requests) == 1
    threads = set(threading.enumerate())
    with (
        pytest.raises(MfaRequiredError),
        rolevault.endpoint(
            enter(role_a, mfa_callback=None, mfa_session_seconds=0, external_id="x1")
        ),
    ):
        raise AssertionError("served")
    assert set(threading.enumerate()) <= threads


def test_fork(python: Python, session: boto3.Session, alice: Alice, role_a: Role) -> None:
    """A child neither serves nor ends the endpoint, and does not keep its port open."""
    key_of(session)
    script = """
import os, signal, sys, warnings, pathlib
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point
import rolevault
from test_endpoint import Client, TOKEN_FILE
rolevault.install(sys.argv[1], mfa_serial=sys.argv[2])
told, tell = os.pipe()
is_up, say_up = os.pipe()
parent = os.getpid()
with rolevault.endpoint() as endpoint:
    client, token = Client(endpoint), pathlib.Path(endpoint.env()[TOKEN_FILE])
    leaving = os.fork()
    if leaving:
        assert os.waitpid(leaving, 0)[1] == 0
        assert token.exists()
        assert client.get()[0] == 200
        lingering = os.fork()
        if not lingering:
            os.write(say_up, b".")
            os.read(told, 1)
            os._exit(0)
        os.read(is_up, 1)  # the child has closed its copies
if os.getpid() != parent:
    assert client.get()[0] == 200  # the parent serves
    os._exit(0)
try:
    client.connect()
except ConnectionRefusedError:
    print("closed")
os.write(tell, b".")
os.waitpid(lingering, 0)
"""
    output, errors = python(script, role_a.arn, alice.serial).communicate(timeout=60)
    assert (output, errors) == ("closed\n", "")


def test_ctrl_c_ends_the_endpoint(
    python: Python, session: boto3.Session, alice: Alice, role_a: Role
) -> None:
    """Ctrl-C in a script leaves no token behind, and no thread keeps the process alive."""
    key_of(session)
    script = """
import rolevault, sys, time
rolevault.install(sys.argv[1], mfa_serial=sys.argv[2])
try:
    with rolevault.endpoint() as endpoint:
        print(endpoint.env()["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"], flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""
    process = python(script, role_a.arn, alice.serial)
    assert process.stdout is not None
    token_file = Path(process.stdout.readline().strip())
    assert token_file.exists()
    process.send_signal(2)
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("interrupted\n", "", 0)
    assert not token_file.parent.exists()


def test_another_user_gets_nothing(endpoint: Endpoint, client: Client) -> None:
    """Another user of the machine can connect, and cannot read the token."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    token_file = Path(endpoint.env()[TOKEN_FILE])
    for argv in (["cat", str(token_file)], ["ls", str(token_file.parent)]):
        shown = subprocess.run(
            argv, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, cwd="/"
        )
        assert (shown.stdout, shown.returncode != 0) == ("", True)
        assert "ermission denied" in shown.stderr


CHILD = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"


def identity(python: Python, environment: dict[str, str]) -> str:
    """Who a boto3 script in this environment is."""
    paths = os.pathsep.join(sys.path)
    process = python(CHILD, env={**environment, "PYTHONPATH": paths})
    output, errors = process.communicate(timeout=60)
    assert errors == ""
    return str(output).strip()


def test_boto3_in_a_child_is_the_role(
    python: Python, endpoint: Endpoint, role_a: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's keys, another profile and the passphrase do not reach the child."""
    monkeypatch.setenv("AWS_PROFILE", "other")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/other")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "other")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/other")
    assert os.environ["AWS_ACCESS_KEY_ID"]
    child = endpoint.env()
    assert child["AWS_REGION"] == child["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert "ROLEVAULT_PASSPHRASE" not in child
    assert PASSPHRASE not in child.values()
    for secret in ("AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_AUTHORIZATION_TOKEN"):
        assert secret in os.environ
        assert secret not in child
    assert f":assumed-role/{role_a.arn.rpartition('/')[2]}/" in identity(python, child)


@pytest.mark.parametrize("section", ["keys", "role", "process"])
def test_default_profile_does_not_come_before_the_endpoint(
    python: Python, config: Config, alice: Alice, role_a: Role, section: str
) -> None:
    """SDKs read ``[default]`` before they ask an endpoint. The child keeps its region and services,
    and sees neither its credentials nor other profiles.
    """
    settings = {
        "keys": f"aws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\n",
        "role": f"role_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n",
        "process": "credential_process=false\n",
    }
    config(
        f"[default]\nregion=eu-north-1\nservices=local\ns3 =\n  addressing_style = path\n"
        f"{settings[section]}[services local]\ns3 =\n  endpoint_url = http://127.0.0.1:1/\n"
        f"[profile prod]\nrole_arn={role_a.arn}\nsource_profile=base\nmfa_serial={alice.serial}\n"
    )
    with rolevault.endpoint(rolevault.session(profile="prod", mfa_callback=alice)) as opened:
        child = opened.env()
        assert ":assumed-role/Deploy/" in identity(python, child)
        written = Path(child["AWS_CONFIG_FILE"])
        assert written.read_text() == (
            "[default]\nregion = eu-north-1\nservices = local\ns3 =\n    addressing_style = path\n"
            "[services local]\ns3 =\n    endpoint_url = http://127.0.0.1:1/\n"
        )
        assert Path(child["AWS_SHARED_CREDENTIALS_FILE"]).read_text() == ""
    assert not written.exists()


def test_other_profiles_stay_where_default_has_no_credentials(
    config: Config, alice: Alice, role_a: Role
) -> None:
    """The child reads the files of the user."""
    config("[default]\nregion=eu-north-1\n")
    session = rolevault.session(
        role_a.arn, mfa_serial=alice.serial, mfa_callback=alice, source_profile="base"
    )
    with rolevault.endpoint(session) as opened:
        assert "AWS_CONFIG_FILE" not in opened.env()
        assert opened.env()["AWS_REGION"] == "eu-north-1"


def test_install_serves_this_process(
    endpoint: Endpoint, session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore's own container provider finds the endpoint, with the true expiry."""
    assert ContainerProvider().load() is None
    endpoint.install()
    endpoint.install()
    found = ContainerProvider().load()
    assert found is not None
    assert found.access_key == key_of(session)


def test_variables_come_back(session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end takes back what ``install()`` has set, and not what was set since."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    before = dict(os.environ)
    with rolevault.endpoint(session) as opened:
        opened.install()
        assert os.environ["AWS_REGION"] == "eu-west-1"
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-1")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        ("AWS_PROFILE", "AWS_PROFILE"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (None, "the profile [default]"),
    ],
)
def test_install_says_what_wins(
    config: Config,
    alice: Alice,
    role_a: Role,
    name: str | None,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warning names other credentials that libraries would take first."""
    keys = "aws_access_key_id=AKIAOTHER\naws_secret_access_key=x\n"
    config(f"[default]\n{keys}" if name in (None, "AWS_PROFILE") else "")
    session = rolevault.session(
        role_a.arn, mfa_serial=alice.serial, mfa_callback=alice, source_profile="base"
    )
    with rolevault.endpoint(session) as opened:
        if name:
            monkeypatch.setenv(name, "base")
        opened.install()
    (text,) = [each for each in caplog.messages if "not with the endpoint" in each]
    assert f"that know {shown} sign" in text


@pytest.mark.parametrize("name", [URI, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"])
def test_install_leaves_a_platforms_endpoint(
    endpoint: Endpoint, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On ECS and EKS the variables lead to the source credentials of the role."""
    monkeypatch.setenv(name, "http://169.254.170.2/x")
    with pytest.raises(ConfigurationError, match=name):
        endpoint.install()
    assert os.environ.get(TOKEN_FILE) is None
