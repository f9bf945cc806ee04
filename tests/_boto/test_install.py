"""
``install``, ``uninstall``, ``is_installed`` and ``session``: what changes in boto3,
and that all of it comes back.
"""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

import rolevault
from conftest import Alice, Options, Python, account_of
from local_iam import Role
from local_sts import LocalSts
from rolevault import ConfigurationError, _botocore_private


def provider_of(session: boto3.Session) -> Any:
    return session._session.get_component("credential_provider")


def test_plain_clients_have_the_role(options: Options, alice: Alice) -> None:
    """After ``install()`` a plain ``boto3.client()`` signs with the role."""
    returned = rolevault.install(**options)
    assert returned is boto3.DEFAULT_SESSION
    assert rolevault.is_installed()
    assert account_of() == "111122223333"
    assert len(alice.requests) == 1


def test_install_calls_nothing_and_asks_nothing(options: Options, sts: LocalSts) -> None:
    """``install()`` asks nobody, calls nothing, and makes no vault."""
    rolevault.install(**options)
    boto3.client("s3", region_name="eu-west-1")
    assert sts.calls == []
    assert not (Path.home() / ".aws").exists()


def test_uninstall_before_any_session_leaves_none(options: Options) -> None:
    """No default session before, none after."""
    rolevault.install(**options)
    account_of()
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is None
    assert not rolevault.is_installed()
    assert account_of() == "999988887777"


@pytest.mark.parametrize("state", ["made", "chain", "resolved", "clients"])
@pytest.mark.parametrize("used", [False, True])
def test_uninstall_restores_the_same_objects(options: Options, state: str, used: bool) -> None:
    """An existing default session keeps its identity; its resolved credentials and
    its chain are set aside, and the same objects come back.
    """
    boto3.setup_default_session(region_name="eu-west-1")
    before = boto3.DEFAULT_SESSION
    assert before is not None
    chain = credentials = None
    if state != "made":
        chain = provider_of(before)
    if state in ("resolved", "clients"):
        credentials = before.get_credentials()
    if state == "clients":
        assert account_of() == "999988887777"
    rolevault.install(**options)
    assert boto3.DEFAULT_SESSION is before
    if used:
        assert account_of() == "111122223333"
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is before
    assert _botocore_private.resolved(before._session) is credentials
    if chain is not None:
        assert provider_of(before) is chain
        assert [each.METHOD for each in chain.providers].count("rolevault") == 0
    assert account_of() == "999988887777"


def test_uninstall_restores_what_shadowed_the_role(empty_home: Path, role_a: Role) -> None:
    """Also where the environment's keys beat the profile's role, the credentials
    and the chain that come back are the same objects.
    """
    config = empty_home / ".aws" / "config"
    config.parent.mkdir()
    config.write_text(f"[default]\nrole_arn={role_a.arn}\ncredential_source=Environment\n")
    boto3.setup_default_session()
    before = boto3.DEFAULT_SESSION
    assert before is not None
    chain, credentials = provider_of(before), before.get_credentials()
    rolevault.install()
    shadow = before.get_credentials()
    assert shadow is not None
    assert shadow.method == "env"
    assert shadow is not credentials
    rolevault.uninstall()
    assert _botocore_private.resolved(before._session) is credentials
    assert provider_of(before) is chain


def test_keys_given_meanwhile_stay(options: Options) -> None:
    """What somebody sets with ``set_credentials()`` while the role is installed is
    theirs, and ``uninstall()`` leaves it.
    """
    session = rolevault.install(session=boto3.Session(), **options)
    session._session.set_credentials("AKIAOTHER", "secret")
    rolevault.uninstall()
    credentials = session.get_credentials()
    assert credentials is not None
    assert credentials.access_key == "AKIAOTHER"


def test_clients_made_in_between_keep_the_role(options: Options) -> None:
    """``uninstall()`` takes the role from the session, not from its clients."""
    rolevault.install(**options)
    client = boto3.client("sts", region_name="eu-west-1")
    rolevault.uninstall()
    assert client.get_caller_identity()["Account"] == "111122223333"
    assert account_of() == "999988887777"


def test_clients_made_before_keep_what_they_had(options: Options) -> None:
    """A client that exists keeps its credentials when the role comes."""
    client = boto3.client("sts", region_name="eu-west-1")
    rolevault.install(**options)
    assert client.get_caller_identity()["Account"] == "999988887777"


def test_uninstall_without_install_does_nothing() -> None:
    """There is nothing to undo."""
    rolevault.uninstall()
    assert not rolevault.is_installed()
    assert boto3.DEFAULT_SESSION is None


def test_a_second_equal_call_does_nothing(options: Options) -> None:
    """Equal options: the same session, the same credentials."""
    first = rolevault.install(**options)
    credentials = first.get_credentials()
    assert rolevault.install(**options) is first
    assert first.get_credentials() is credentials


def test_another_call_replaces_the_first(options: Options, role_b: Role, alice: Alice) -> None:
    """Other options replace; one ``uninstall()`` undoes all."""
    boto3.setup_default_session()
    before = boto3.DEFAULT_SESSION
    rolevault.install(**options)
    assert account_of() == "111122223333"
    rolevault.install(**{**options, "role_arn": role_b.arn})
    assert account_of() == "444455556666"
    assert len(alice.requests) == 1
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is before
    assert account_of() == "999988887777"


def test_a_replaced_installation_leaves_nothing(options: Options, role_b: Role) -> None:
    """The session that the first call had made is not what the second gives back."""
    rolevault.install(**options)
    rolevault.install(**{**options, "role_arn": role_b.arn})
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is None


def test_a_chain_is_built_once(options: Options) -> None:
    """Whichever thread of several builds it, all of them get that one: botocore has
    no lock there.
    """
    session = rolevault.install(**options)
    _, make = _botocore_private.credential_provider(session._session)
    assert make is not None
    assert make() is make() is provider_of(session)


def test_options_changed_in_place_are_others(options: Options) -> None:
    """What a caller passed and changed later counts as it was when passed."""
    tags = {"team": "blue"}
    session = rolevault.install(tags=tags, **options)
    credentials = session.get_credentials()
    tags["team"] = "red"
    assert rolevault.install(tags=tags, **options).get_credentials() is not credentials


def test_an_equal_call_for_a_session_of_another_profile(options: Options, empty_home: Path) -> None:
    """A given session is taken as it is, and so a second equal call does nothing, either."""
    (empty_home / ".aws").mkdir()
    (empty_home / ".aws" / "config").write_text("[profile work]\nregion=eu-west-1\n")
    session = rolevault.install(session=boto3.Session(), profile="work", **options)
    credentials = session.get_credentials()
    assert rolevault.install(session=session, profile="work", **options) is session
    assert session.get_credentials() is credentials


def test_another_passphrase_replaces_the_first(options: Options) -> None:
    """The passphrase is compared, although it is no part of the role."""
    session = rolevault.install(passphrase="the first of them", **options)
    credentials = session.get_credentials()
    rolevault.install(passphrase="the second of them", **options)
    assert session.get_credentials() is not credentials


def test_another_profile_makes_a_session_of_the_same_region(
    options: Options, empty_home: Path
) -> None:
    """The default session of another profile is replaced, and its explicit region is kept."""
    (empty_home / ".aws").mkdir()
    (empty_home / ".aws" / "config").write_text("[profile work]\n")
    boto3.setup_default_session(region_name="us-west-2")
    made = rolevault.install(profile="work", **options)
    assert (made.profile_name, made.region_name) == ("work", "us-west-2")


def test_a_notebook_cell_run_again_asks_nobody(options: Options, alice: Alice) -> None:
    """A cell that makes its callback anew replaces the installation; the vault
    still serves.
    """
    for _ in range(3):
        rolevault.install(**{**options, "mfa_callback": lambda request: alice(request)})
        assert account_of() == "111122223333"
    assert len(alice.requests) == 1


def test_a_bad_call_leaves_the_first_in_force(options: Options) -> None:
    """An ``install()`` that raises changes nothing."""
    session = rolevault.install(**options)
    credentials = session.get_credentials()
    with pytest.raises(ConfigurationError):
        rolevault.install("no arn")
    with pytest.raises(ConfigurationError, match="no role_arn"):
        rolevault.install()
    assert boto3.DEFAULT_SESSION is session
    assert session.get_credentials() is credentials


def test_a_bad_first_call_makes_no_session() -> None:
    """An ``install()`` that raises leaves no default session behind."""
    with pytest.raises(ConfigurationError):
        rolevault.install()
    assert boto3.DEFAULT_SESSION is None
    assert not rolevault.is_installed()


def test_callables_are_compared_by_identity(options: Options) -> None:
    """Two that are equal are two; one that cannot be hashed is one like any other."""

    @dataclass
    class Ask:
        name: str

        def __call__(self, request: object = None) -> str:
            return "000000"

    first, second = Ask("same"), Ask("same")
    assert first == second
    rolevault.install(**{**options, "mfa_callback": first})
    installed = boto3.DEFAULT_SESSION
    credentials = _botocore_private.botocore_session(installed).get_credentials()  # type: ignore[arg-type]
    rolevault.install(**{**options, "mfa_callback": first})
    assert _botocore_private.botocore_session(installed).get_credentials() is credentials  # type: ignore[arg-type]
    rolevault.install(**{**options, "mfa_callback": second})
    assert _botocore_private.botocore_session(installed).get_credentials() is not credentials  # type: ignore[arg-type]


def test_region_of_the_session(options: Options) -> None:
    """``region_name`` makes a default session of that region; the old one, of its
    own, comes back.
    """
    boto3.setup_default_session(region_name="us-west-2")
    before = boto3.DEFAULT_SESSION
    assert rolevault.install(region_name="eu-west-1", **options).region_name == "eu-west-1"
    assert boto3.DEFAULT_SESSION is not before
    rolevault.uninstall()
    assert boto3.DEFAULT_SESSION is before


def test_session_changes_nothing_global(options: Options) -> None:
    """``session()`` is a real boto3 session, and that is all."""
    made = rolevault.session(region_name="eu-west-3", **options)
    assert type(made) is boto3.Session
    assert made.region_name == "eu-west-3"
    assert boto3.DEFAULT_SESSION is None
    assert not rolevault.is_installed()
    assert account_of(made) == "111122223333"
    assert account_of() == "999988887777"


def test_sessions_of_two_accounts_share_a_code(
    options: Options, role_b: Role, alice: Alice
) -> None:
    """Several accounts at once: one vault, one code."""
    a = rolevault.session(**options)
    b = rolevault.session(**{**options, "role_arn": role_b.arn})
    assert (account_of(a), account_of(b)) == ("111122223333", "444455556666")
    assert len(alice.requests) == 1


def test_an_account_id_needs_no_sign_in(options: Options, sts: LocalSts) -> None:
    """``account_id`` comes from the role's ARN."""
    credentials: Any = rolevault.session(**options).get_credentials()
    assert credentials.account_id == "111122223333"
    assert sts.calls == []


STORM = """
import signal, time
import boto3, botocore.session, rolevault

class CtrlC(BaseException):
    pass

def handler(*_):
    raise CtrlC

signal.signal(signal.SIGALRM, handler)
boto3.setup_default_session(region_name="eu-west-1")
before = boto3.DEFAULT_SESSION
credentials = before.get_credentials()
import rolevault._boto.provider  # Python itself makes other errors of what comes meanwhile
interrupts, end, pause = 0, time.monotonic() + 60, 0.0001
while interrupts < 300 and time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, pause)
        rolevault.install("arn:aws:iam::111122223333:role/Deploy")
        rolevault.uninstall()
        signal.setitimer(signal.ITIMER_REAL, 0)
        pause = 0.0001
    except CtrlC:
        interrupts += 1
        pause += 0.00002
rolevault.uninstall()
assert not rolevault.is_installed()
assert boto3.DEFAULT_SESSION is before
assert before.get_credentials() is credentials
assert boto3.Session().get_credentials().method == "env"
rolevault.install("arn:aws:iam::111122223333:role/Deploy")
assert before.get_credentials().method == "rolevault"
rolevault.uninstall()
assert before.get_credentials() is credentials
print(interrupts > 50)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
@pytest.mark.usefixtures("alice")
def test_ctrl_c_leaves_nothing_half_installed(python: Python) -> None:
    """What it interrupts, another call finishes."""
    storm = python(STORM)
    # Python itself tells of exceptions that it met where nobody can catch them.
    output, errors = storm.communicate(timeout=120)
    assert (output, storm.returncode) == ("True\n", 0), errors


HANDLER = """
import faulthandler, logging, sys, threading
import boto3, rolevault

faulthandler.dump_traceback_later(30, exit=True)
emitting, installing = threading.Event(), threading.Event()

class Service(logging.Handler):
    def emit(self, record):
        emitting.set()
        installing.wait(1)
        boto3.client("logs", region_name="eu-west-1")

logging.getLogger().addHandler(Service())
rolevault.install(sys.argv[1])
thread = threading.Thread(target=logging.getLogger("script").warning, args=("hello",))
thread.start()
emitting.wait()
rolevault.install(profile=None, role_arn=None)  # warns that the environment's keys win
installing.set()
thread.join()
print("done")
"""


def test_a_handler_of_logs_may_make_a_client(
    options: Options, alice: Alice, python: Python, empty_home: Path
) -> None:
    """It holds its lock then, and ``install()`` waits for that and for nothing else."""
    directory = empty_home / ".aws"
    directory.mkdir(exist_ok=True)
    (directory / "config").write_text(
        f"[default]\nrole_arn = {options['role_arn']}\ncredential_source = Environment\n"
    )
    output, errors = python(HANDLER, options["role_arn"]).communicate(timeout=60)
    assert (output, errors) == ("done\n", "")


@pytest.mark.parametrize("region", ["eu-west-1", ""])
def test_what_slipped_into_a_region_is_not_shown(
    options: Options, empty_home: Path, region: str
) -> None:
    """Lines too far to the right are part of the value above them."""
    directory = empty_home / ".aws"
    directory.mkdir(exist_ok=True)
    (directory / "config").write_text(
        f"[profile p]\nregion = {region}\n  aws_secret_access_key = SENTINEL\n"
    )
    session = boto3.Session(profile_name="p")
    with pytest.raises(ConfigurationError, match="has a region already") as caught:
        rolevault.install(session=session, region_name="eu-west-1", **options)
    assert "SENTINEL" not in str(caught.value)
