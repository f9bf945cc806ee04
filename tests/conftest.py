"""What every test stands on: an empty home, no AWS settings, a cheap KDF, and one
local STS that really checks.
"""

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
import botocore
import hypothesis
import pytest
import time_machine
from botocore.loaders import JSONFileLoader, Loader

import rolevault
from aws_wire import Answer, Request, Server
from local_iam import Device, Role, User
from local_sts import LocalSts
from rolevault import MfaRequest, Vault
from rolevault._signin import one_time_code
from rolevault._vault import kdf

PASSPHRASE = "correct horse battery staple"
OTHER = "twelve drummers drumming"
#: The cheapest that the format allows. Processes that tests start meet it too,
#: since they open vaults that tests have made.
CHEAP = kdf.Costs(m=19456, t=1, p=1)
#: Of processes that tests start: errors, but for what botocore 1.35 does on
#: Python 3.12 and later.
WARNINGS = "error,ignore:datetime.datetime.utc:DeprecationWarning"

_HERE = Path(__file__).parent

# A busy machine is no failure.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# A shell that starts pytest in the background ignores these signals for pytest, and so for every
# process that the tests start: a Ctrl-C would reach none of them.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        _default = signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, _default)


def _read_once() -> None:
    """Have botocore parse each of its own JSON files once in this process, and list its services
    once. Every new session does both again, which took half of the suite's time. Nothing
    changes what was read.
    """
    json_loader, loader = cast(Any, JSONFileLoader), cast(Any, Loader)
    parse, parsed = json_loader._load_file, {}
    list_services, services = loader.list_available_services, {}
    own = str(Path(botocore.__file__).parent)

    def parse_or_recall(self: Any, path: str, open_file: Any) -> Any:
        if not path.startswith(own):
            return parse(self, path, open_file)
        if path not in parsed:
            parsed[path] = parse(self, path, open_file)
        return parsed[path]

    def list_or_recall(self: Any, type_name: str) -> Any:
        folders = (type_name, *self.search_paths)
        if folders not in services:
            services[folders] = list_services(self, type_name)
        return services[folders]

    json_loader._load_file, loader.list_available_services = parse_or_recall, list_or_recall


_read_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that starts Pythons, terminals or notebooks is slow: ``make quick`` leaves it out."""
    for item in items:
        starts = {"python", "notebook"} & set(getattr(item, "fixturenames", ()))
        if starts or hasattr(getattr(item, "module", None), "PtyUser"):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing of this machine reaches a test, and nothing of one test the next."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("AWS_", "ROLEVAULT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(kdf, "DEFAULT_COSTS", CHEAP)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    # All tests have a device of the same name, whose codes agree once in a million times.
    monkeypatch.setattr(one_time_code, "_used_codes", one_time_code._UsedCodes())
    yield home
    rolevault.uninstall()


@pytest.fixture
def vault_path(empty_home: Path) -> Path:
    return empty_home / ".aws" / "rolevault" / "vault"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The second, independent AWS: the address of moto's server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSts]:
    with LocalSts() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        yield server


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """This process's clock, so the local STS's as well; ``shift`` moves both."""
    start = datetime.datetime(2030, 1, 1, 8, tzinfo=datetime.timezone.utc)
    with time_machine.travel(start, tick=True) as traveller:
        yield traveller


@dataclass
class Alice:
    """A user with a device, who counts how often she is asked."""

    user: User
    device: Device
    requests: list[MfaRequest]

    @property
    def serial(self) -> str:
        return self.device.serial

    def __call__(self, request: MfaRequest) -> str:
        self.requests.append(request)
        return self.device.fresh_code()


@pytest.fixture
def alice(sts: LocalSts, monkeypatch: pytest.MonkeyPatch) -> Alice:
    """Her long-term keys stand in the environment, and so does the passphrase."""
    user = sts.add_user("alice")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_access_key)
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    return Alice(user, user.add_mfa_device("alice"), [])


@pytest.fixture
def role_a(sts: LocalSts, alice: Alice) -> Role:
    return sts.add_role("Deploy", account="111122223333", trusts=[alice.user], mfa=True)


@pytest.fixture
def role_b(sts: LocalSts, alice: Alice) -> Role:
    return sts.add_role("Audit", account="444455556666", trusts=[alice.user], mfa=True)


class Typist:
    """A callback that says when it is asked, and answers when it is let."""

    def __init__(self, alice: Alice) -> None:
        self.alice = alice
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def __call__(self, request: MfaRequest) -> str:
        self.asked.set()
        assert self.may_answer.wait(60)
        return self.alice(request)


Options = dict[str, Any]


@pytest.fixture
def options(alice: Alice, role_a: Role) -> Options:
    """What ``install()`` and ``session()`` take for the first role."""
    return {"role_arn": role_a.arn, "mfa_serial": alice.serial, "mfa_callback": alice}


Enter = Callable[..., boto3.Session]


@pytest.fixture
def enter(alice: Alice) -> Enter:
    """A session of a role, as a script of hers that starts now would get it."""

    def make(role: Role, **options: Any) -> boto3.Session:
        options = {"mfa_serial": alice.serial, "mfa_callback": alice, **options}
        return rolevault.session(role.arn, region_name="eu-west-1", **options)

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where no vault is yet."""
    return tmp_path / "rolevault" / "vault"


@pytest.fixture
def vault(path: Path) -> Vault:
    """A vault that is empty."""
    return Vault(path, PASSPHRASE)


class Derivations(list[str]):
    """Every run of Argon2id in this process: the real one, counted."""


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> Derivations:
    runs = Derivations()

    class Counted:
        def __init__(self, **parameters: Any) -> None:
            self._real = real(**parameters)

        def derive(self, text: bytes) -> bytes:
            runs.append(threading.current_thread().name)
            return bytes(self._real.derive(text))

    real = cast(Any, kdf).Argon2id
    monkeypatch.setattr(kdf, "Argon2id", Counted)
    return runs


Config = Callable[[str], Path]


@pytest.fixture
def config(empty_home: Path, alice: Alice, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Writes ``~/.aws/config``. Alice's keys stand in its profile ``base``, not in
    the environment.
    """
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    def write(text: str) -> Path:
        path = empty_home / ".aws" / "config"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"[profile base]\n{keys(alice)}\n{text}\n")
        return path

    return write


def keys(alice: Alice) -> str:
    """Her keys, as lines of a profile."""
    return (
        f"aws_access_key_id={alice.user.access_key_id}\n"
        f"aws_secret_access_key={alice.user.secret_access_key}\n"
    )


def account_of(session: boto3.Session | None = None) -> str:
    """The account that STS says a session's credentials are of."""
    client = (session or boto3).client("sts", region_name="eu-west-1")
    return str(client.get_caller_identity()["Account"])


def key_of(session: boto3.Session) -> str:
    """The id of the key that a session signs with."""
    credentials = session.get_credentials()
    assert credentials is not None
    return str(credentials.get_frozen_credentials().access_key)


class Web:
    """A server on loopback that answers what a test says, and counts."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[str] = []
        self._server = Server(self._serve, time.time)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.002,))
        self._thread.start()

    def _serve(self, request: Request) -> Answer:
        path = request.target.partition("?")[0]
        self.requests.append(path)
        answer = self.answers.get(path)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Answer):
            return answer
        body = answer if isinstance(answer, str) else json.dumps(answer)
        return Answer(404 if answer is None else 200, "application/json", body.encode())

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.stop()
        assert self._server.crashes == []


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.stop()


def later(**how_much: int) -> str:
    """A time from now on, as AWS writes times."""
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**how_much)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def python(request: pytest.FixtureRequest) -> Iterator[Python]:
    """Start another Python, as users do: ``python(script, *arguments)``. It sees the
    test's environment, can import what stands beside the tests, and does not
    outlive the test.
    """
    started: list[subprocess.Popen[str]] = []
    paths = (_HERE, _HERE / "aws", request.path.parent)

    def start(script: str, *arguments: str, **settings: object) -> "subprocess.Popen[str]":
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONWARNINGS": WARNINGS,
        }
        options: dict[str, object] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "env": environment,
            **settings,
        }
        process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-c", script, *arguments], **options
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
