"""
Bad values are named where they are given: ``ConfigurationError`` at ``install()``
and ``session()``, with option, value and rule. The limits are STS's own.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import boto3
import botocore.session
import pytest
from botocore.exceptions import BotoCoreError
from hypothesis import given
from hypothesis import strategies as st

import rolevault
from aws_wire import AwsError
from conftest import Alice, account_of
from local_iam import Role as RoleOfSts
from local_sts import LocalSts
from rolevault import ConfigurationError, MfaRequest
from rolevault._roles.resolve import check_options
from rolevault._roles.role import Options, Role
from sts_limits import validate

ARN = "arn:aws:iam::111122223333:role/Deploy"
POLICY_ARN = "arn:aws:iam::aws:policy/ReadOnlyAccess"
SECRET = "surely-nobody-prints-this"

BAD_ARNS: tuple[Any, ...] = (
    "",
    "Deploy",
    7,
    b"arn:aws:iam::111122223333:role/Deploy",
    "arn:aws:iam::111122223333:user/Deploy",
    "arn:aws:iam::11112222333:role/Deploy",
    "arn:aws:iam::1111222233334:role/Deploy",
    "arn:aws:iam::١١١١٢٢٢٢٣٣٣٣:role/Deploy",
    "arn:aws:sts::111122223333:assumed-role/Deploy/x",
    "arn:aws:iam::111122223333:role/",
    "arn:aws:iam::111122223333:role/team/",
    "arn:aws:iam::111122223333:role/De ploy",
    "arn:aws:iam::111122223333:role/Deploy\n",
    " arn:aws:iam::111122223333:role/Deploy",
    "arn:AWS:iam::111122223333:role/Deploy",
    "arn:aws:iam::111122223333:role/" + "x" * 65,
)

BAD: list[tuple[str, Any]] = [
    *(("role_arn", value) for value in BAD_ARNS),
    *(("mfa_serial", value) for value in ("", "GAHT1234", "x" * 257, 123456789, "arn:aws: mfa")),
    ("mfa_serial", "arn:aws:iam::999988887777:user/alice"),
    *(
        (option, value)
        for option in ("role_session_name", "source_identity")
        for value in ("", "x", "x" * 65, "a b", "é" * 4, 12, "name\n")
    ),
    *(("external_id", value) for value in ("", "x", "x" * 1225, "a b", 12)),
    *(("duration_seconds", value) for value in (899, 43201, 0, -1, True, 3600.0, "3600")),
    *(("mfa_session_seconds", value) for value in (899, 129601, -1, False, 0.0, "0", 1)),
    *(
        ("policy", value)
        for value in (
            "",
            "{",
            "[]",
            '"x"',
            "{}" + " " * 2047,
            {"a": {1}},
            "[" * 2000,
            '{"Sid":"\u20ac"}',
        )
    ),
    *(
        ("policy_arns", value)
        for value in (
            "arn:aws:iam::aws:policy/ReadOnlyAccess",
            ["ReadOnlyAccess"],
            [7],
            ["arn:aws:iam::aws:policy/P"] * 11,
            {"arn:aws:iam::aws:policy/P"},
        )
    ),
    *(
        ("tags", value)
        for value in (
            {"": "x"},
            {"k" * 129: "x"},
            {"k": "v" * 257},
            {"k": 1},
            {1: "v"},
            [("k", "v")],
            {f"k{n}": "v" for n in range(51)},
            {"team": "a", "Team": "b"},
            {"k": "a\nb"},
            {"k": "a;b"},
        )
    ),
    *(("transitive_tag_keys", value) for value in ("team", [1], ["k" * 129], ["k"] * 51, [""])),
    *(("region_name", value) for value in ("", "eu west", "-eu", "123", 7, "x" * 64, "eu.west")),
    ("profile", ""),
    *((option, value) for option in ("profile", "source_profile") for value in (7, b"x")),
    *(("mfa_callback", value) for value in ("code", [], [""], [1], ["a\0b"], 7, {"x"})),
    *(("vault_path", value) for value in ("", 7, b"/tmp/vault", "a\0b")),
    *(("passphrase", value) for value in ("", 7, b"bytes", "\ud800")),
]


@pytest.mark.parametrize("call", [rolevault.install, rolevault.session], ids=["install", "session"])
@pytest.mark.parametrize(("option", "value"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_values_are_named(call: Callable[..., Any], option: str, value: Any) -> None:
    """Each bad value raises where it is given, with option, value and rule, and
    leaves no session behind.
    """
    with pytest.raises(ConfigurationError) as raised:
        call(**{"role_arn": ARN, option: value})
    error = raised.value
    assert isinstance(error, ValueError)
    assert isinstance(error, BotoCoreError)
    assert error.option == option
    assert str(error).startswith(f"{option}=")
    assert "must" in error.rule
    assert boto3.DEFAULT_SESSION is None


@pytest.mark.parametrize("option", ["role_session_name", "mfa_serial", "tags", "vault_path"])
def test_messages_show_the_value(option: str) -> None:
    """What was given stands in the message, as Python writes it."""
    value = {"a;b": "c"} if option == "tags" else "a\0b"
    with pytest.raises(ConfigurationError) as raised:
        rolevault.session(**{"role_arn": ARN, option: value})  # type: ignore[arg-type]
    assert repr(value) in str(raised.value)


def test_no_message_shows_a_passphrase() -> None:
    """A bad passphrase is named, never shown, nor in what caused the error."""
    for bad in (SECRET.encode(), [SECRET], SECRET + "\udcff"):
        with pytest.raises(ConfigurationError) as raised:
            rolevault.session(ARN, passphrase=bad)  # type: ignore[arg-type]
        error = raised.value
        assert SECRET not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
        assert SECRET not in str(vars(error))
    assert SECRET not in repr(Role(ARN, passphrase=SECRET))


def test_no_message_shows_a_command() -> None:
    """The seed of an MFA device can be an argument of a command: an error does not show it, nor
    does the ``repr`` of a role.
    """
    bad: tuple[tuple[str, Any], ...] = (
        ("mfa_process", f"{SECRET}\0"),
        ("mfa_callback", [SECRET, 1]),
    )
    for option, value in bad:
        with pytest.raises(ConfigurationError) as raised:
            Role(**{"role_arn": ARN, option: value})
        assert raised.value.option == option
        assert SECRET not in f"{raised.value} {vars(raised.value)}"
    assert SECRET not in repr(Role(ARN, mfa_callback=[SECRET], mfa_process=SECRET))


def test_a_role_does_not_change_with_what_it_was_made_of() -> None:
    """``install()`` compares the options of two calls, and the cache key covers them."""
    tags, arns = {"team": "a"}, [POLICY_ARN]
    role = Role(ARN, tags=tags, policy_arns=arns, transitive_tag_keys=list(tags))
    tags["team"] = "b"
    arns.clear()
    assert role.tags == {"team": "a"}
    assert role.policy_arns == (POLICY_ARN,)


def test_there_is_a_role_or_a_device() -> None:
    """Without a role, the MFA session of a user signs, and needs a device."""
    with pytest.raises(ConfigurationError, match="neither a role nor a device"):
        Role()


def test_a_builtin_is_a_callback() -> None:
    """Python does not tell which arguments some builtins take."""
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(max)
    callback: Any = max
    assert Role(ARN, mfa_callback=callback).mfa_callback is callback


def test_an_async_session_is_no_source() -> None:
    """Its credentials can only be awaited."""

    class AsyncSession(botocore.session.Session):
        async def get_credentials(self) -> None:  # type: ignore[override]
            pass

    source = boto3.Session(botocore_session=AsyncSession())
    with pytest.raises(ConfigurationError, match=r"must be a boto3\.Session"):
        rolevault.session(ARN, source_session=source)


@pytest.mark.parametrize("call", [rolevault.install, rolevault.session], ids=["install", "session"])
def test_unknown_options_are_type_errors(call: Callable[..., Any]) -> None:
    """An option that does not exist is a ``TypeError``, as for any function."""
    with pytest.raises(TypeError, match="profile_name; did you mean profile"):
        call(ARN, profile_name="prod")
    # What only a profile or the code itself says is no option either.
    with pytest.raises(TypeError, match="mfa_process"):
        call(ARN, mfa_process="echo 123456")
    assert boto3.DEFAULT_SESSION is None


@pytest.mark.parametrize("session", ["prod", 7, object()])
def test_a_session_must_be_one(session: Any) -> None:
    """``session=`` takes boto3's sessions."""
    with pytest.raises(ConfigurationError, match=r"boto3\.Session"):
        rolevault.install(ARN, session=session)


def test_a_given_session_keeps_its_region() -> None:
    """A region for a session that has another one is refused, not ignored."""
    session = boto3.Session(region_name="eu-west-1")
    with pytest.raises(ConfigurationError, match="eu-west-1"):
        rolevault.install(ARN, session=session, region_name="us-west-2")
    assert rolevault.install(ARN, session=session, region_name="eu-west-1") is session


def test_options_and_role_agree() -> None:
    """What ``install`` takes are the fields of ``Role``, in the same order and with the same
    types, but for the spellings that ``Role`` does not keep; behind them is what only a
    profile can say.
    """
    several_spellings = {
        *("mfa_callback", "mfa_session_seconds", "duration_seconds"),
        *("policy", "policy_arns", "tags"),
    }
    fields = {each.name: each for each in dataclasses.fields(Role)}
    options = Options.__annotations__
    assert list(fields)[1 : len(options) + 1] == list(options)
    assert set(fields) - set(options) == {
        "role_arn",
        "credential_source",
        "mfa_process",
        "duration_from_profile",
        "is_from_profile",
        "profile_is_explicit",
    }
    for name, annotation in options.items():
        declared = getattr(annotation, "__forward_arg__", annotation)
        assert (fields[name].type == declared) is (name not in several_spellings), name


@pytest.mark.parametrize(
    "arn",
    [
        ARN,
        "arn:aws:iam:::role/Deploy",
        "arn:aws:iam::RGW12345678901234567:role/Deploy",
        "arn:aws-cn:iam::111122223333:role/team:1/ops/De.ploy@x",
        "arn:aws-us-gov:iam::111122223333:role/" + "x" * 64,
        "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0123",
    ],
)
def test_arns_are_judged_by_their_form(arn: str) -> None:
    """Any partition, any path, and Ceph's roles, which have no account."""
    assert Role(arn).role_arn == arn


def test_a_role_without_an_account_is_entered(sts: LocalSts, alice: Alice) -> None:
    """Ceph's STS issues such roles: they work, and have no account id."""
    role = sts.add_role("arn:aws:iam:::role/Deploy", trusts=["*"])
    session = rolevault.session(role.arn)
    assert account_of(session) == ""
    assert cast(Any, session.get_credentials()).account_id is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mfa_serial", "GAHT12345678"),
        ("mfa_session_seconds", 0),
        ("mfa_session_seconds", 129600),
        ("duration_seconds", 900),
        ("duration_seconds", 43200),
        ("policy", json.dumps({"Version": "2012-10-17", "Statement": []}, indent=1)),
        ("policy_arns", ("arn:aws:iam::aws:policy/ReadOnlyAccess",)),
        ("policy_arns", ["arn:aws:iam::111122223333:policy/team/Narrow"]),
        ("tags", {"team": "", "k" * 128: "v" * 256, "Größe": "a b_.:/=+-@"}),
        ("transitive_tag_keys", ["team"]),
        ("region_name", "eu-west-1"),
        ("mfa_callback", ["pass", "otp", ""]),
        ("passphrase", lambda: "x"),
        ("vault_path", Path("somewhere/vault")),
        ("profile", None),
    ],
)
def test_good_values_are_taken(option: str, value: Any) -> None:
    """The limits themselves are legal."""
    check_options(ARN, {option: value})  # type: ignore[misc]


_ANY = st.text(max_size=70) | st.text("abc0129=,.@-_+:/ é\n", max_size=70)


@pytest.mark.parametrize(
    ("option", "parameter"),
    [
        ("role_session_name", "RoleSessionName"),
        ("source_identity", "SourceIdentity"),
        ("external_id", "ExternalId"),
        ("mfa_serial", "SerialNumber"),
    ],
)
@given(value=_ANY)
def test_texts_are_refused_where_sts_refuses_them(option: str, parameter: str, value: str) -> None:
    """For any text: ours is refused exactly where STS's schema refuses it."""
    try:
        validate({parameter: value}, (), 900, 43200)
    except AwsError:
        with pytest.raises(ConfigurationError):
            Role(ARN, **{option: value})  # type: ignore[arg-type]
    else:
        assert getattr(Role(ARN, **{option: value}), option) == value  # type: ignore[arg-type]


@given(seconds=st.integers(-10, 200_000))
def test_durations_are_refused_where_sts_refuses_them(seconds: int) -> None:
    """For any number of seconds, of either kind of session; 0 is our own "none"."""
    for option, most in (("duration_seconds", 43200), ("mfa_session_seconds", 129600)):
        try:
            validate({"DurationSeconds": str(seconds)}, (), 900, most)
        except AwsError:
            legal = option == "mfa_session_seconds" and seconds == 0
        else:
            legal = True
        if legal:
            Role(ARN, **{option: seconds})  # type: ignore[arg-type]
        else:
            with pytest.raises(ConfigurationError):
                Role(ARN, **{option: seconds})  # type: ignore[arg-type]


@given(
    serial=st.none() | st.from_regex(r"[\w+=/:,.@-]{9,80}", fullmatch=True),
    name=st.text(max_size=80),
)
def test_generated_session_names_are_legal(serial: str | None, name: str) -> None:
    """Whatever the device or the local user is called, STS takes the name."""
    for each in (serial, f"arn:aws:iam::999988887777:mfa/{name}"):
        try:
            role = Role(ARN, mfa_serial=each)
        except ConfigurationError:
            continue
        validate({"RoleSessionName": role.session_name}, (), 900, 43200)


@pytest.mark.parametrize(
    ("serial", "name"),
    [
        ("arn:aws:iam::999988887777:mfa/alice", "alice"),
        ("arn:aws:iam::999988887777:mfa/team/alice@example.com", "alice@example.com"),
    ],
)
def test_session_names_say_who(serial: str, name: str) -> None:
    """The device's name, which CloudTrail shows."""
    assert Role(ARN, mfa_serial=serial).session_name == name


def test_session_names_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """No device, or a hardware one's number: the local user, made legal."""
    monkeypatch.setenv("LOGNAME", "jörg müller")
    assert Role(ARN).session_name == "rolevault-j-rg-m-ller"
    assert Role(ARN, mfa_serial="GAHT12345678").session_name == "rolevault-j-rg-m-ller"


def test_options_reach_sts(sts: LocalSts, alice: Alice) -> None:
    """Each option of AssumeRole arrives there as it was given."""
    role = sts.add_role("Deploy", trusts=[alice.user], external_id="ticket/42")
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    rolevault.install(
        role.arn,
        role_session_name="nightly",
        external_id="ticket/42",
        duration_seconds=1800,
        policy=policy,
        policy_arns=["arn:aws:iam::aws:policy/ReadOnlyAccess"],
        tags={"team": "blue"},
        transitive_tag_keys=["team"],
        source_identity="alice",
    )
    account_of()
    call = next(each for each in sts.calls if each.action == "AssumeRole")
    assert {
        "RoleArn": role.arn,
        "RoleSessionName": "nightly",
        "ExternalId": "ticket/42",
        "DurationSeconds": "1800",
        "Policy": policy,
        "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess",
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "blue",
        "TransitiveTagKeys.member.1": "team",
        "SourceIdentity": "alice",
    }.items() <= call.params.items()
    assert "SerialNumber" not in call.params


KEYS = (
    ("role_arn", "arn:aws:iam::444455556666:role/Deploy"),
    ("external_id", "ticket"),
    ("policy", "{}"),
    ("policy_arns", ["arn:aws:iam::aws:policy/P"]),
    ("tags", {"a": "b"}),
    ("transitive_tag_keys", ["a"]),
    ("source_identity", "alice"),
    ("role_session_name", "nightly"),
    ("duration_seconds", 900),
    ("mfa_serial", "GAHT12345678"),
)


def test_everything_that_differs_has_an_entry_of_its_own() -> None:
    """Every argument of AssumeRole, the source, the device and the endpoint are in
    the key: no two sign-ins that differ share an entry.
    """
    base: dict[str, Any] = {"role_arn": ARN}
    source = {"access_key_id": "AKIA1"}
    keys = [Role(**{**base, option: value}).cache_key(source, None) for option, value in KEYS]
    keys.append(Role(ARN).cache_key(source, None))
    keys.append(Role(ARN).cache_key({"access_key_id": "AKIA2"}, None))
    keys.append(Role(ARN).cache_key({"profile": "a", "credential_process": "x"}, None))
    keys.append(Role(ARN).cache_key(source, "https://sts.example.com"))
    assert len(set(keys)) == len(keys)


def test_what_makes_no_other_session_shares_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of lists and tags, the local user's name, whether a profile says how
    long and where the vault stands make no other role of it.
    """
    source = {"access_key_id": "AKIA1"}
    key = Role(ARN).cache_key(source, None)
    monkeypatch.setenv("LOGNAME", "somebody")
    assert Role(ARN, vault_path="elsewhere", passphrase="x").cache_key(source, None) == key
    wish = Role(ARN, duration_seconds=7200, duration_from_profile=True)
    assert wish.cache_key(source, None) == Role(ARN, duration_seconds=7200).cache_key(source, None)
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert Role(ARN, tags=one).cache_key(source, None) == Role(ARN, tags=two).cache_key(
        source, None
    )


@pytest.mark.parametrize(
    ("option", "given", "kept"),
    [
        ("mfa_session_seconds", "12h", 43200),
        ("mfa_session_seconds", timedelta(minutes=15), 900),
        ("mfa_session_seconds", timedelta(0), 0),
        ("duration_seconds", "1h", 3600),
        ("duration_seconds", timedelta(hours=12), 43200),
        (
            "policy",
            {"Version": "2012-10-17", "Statement": []},
            '{"Version":"2012-10-17","Statement":[]}',
        ),
        ("policy_arns", [{"arn": POLICY_ARN}, POLICY_ARN], (POLICY_ARN, POLICY_ARN)),
        (
            "tags",
            [{"Key": "team", "Value": "a"}, {"Key": "x", "Value": ""}],
            {"team": "a", "x": ""},
        ),
    ],
)
def test_other_spellings_are_understood(option: str, given: Any, kept: Any) -> None:
    """Where they can mean one thing only: STS's own, timedelta, and texts as "12h"."""
    role = Role(ARN, mfa_serial="GAHT12345678", **{option: given})
    assert getattr(role, option) == kept


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("duration_seconds", "1x"),
        ("duration_seconds", "13h"),
        ("duration_seconds", timedelta(seconds=900.5)),
        ("policy", {"a": {1}}),
        ("policy_arns", [{"arn": POLICY_ARN, "x": 1}]),
        ("tags", [{"Key": "team"}]),
        ("tags", [{"Key": "team", "Value": "a"}, {"Key": "team", "Value": "b"}]),
        ("mfa_callback", lambda one, two: "123456"),
    ],
)
def test_spellings_that_mean_nothing_are_named(option: str, value: Any) -> None:
    """As every bad value: with the option and the rule."""
    with pytest.raises(ConfigurationError) as caught:
        rolevault.session(ARN, **{option: value})
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("keyword", "option"),
    [
        ("RoleArn", "role_arn"),
        ("SerialNumber", "mfa_serial"),
        ("DurationSeconds", "duration_seconds"),
        ("TransitiveTagKeys", "transitive_tag_keys"),
        ("mfa_serail", "mfa_serial"),
    ],
)
def test_a_keyword_of_stss_names_ours(keyword: str, option: str) -> None:
    """A ``TypeError`` as Python's own, and what to write."""
    install: Any = rolevault.install
    with pytest.raises(TypeError, match=f"{keyword}; did you mean {option}\\?"):
        install(**{keyword: "x"})


def test_a_callback_without_an_argument_is_asked(alice: Alice, role_a: RoleOfSts) -> None:
    """The callbacks of other libraries take none. It is installed once for each callable."""

    def code() -> str:
        return alice(MfaRequest(alice.serial, "x"))

    rolevault.install(role_a.arn, mfa_serial=alice.serial, mfa_callback=code)
    installed = boto3.DEFAULT_SESSION
    assert account_of() == role_a.account
    assert len(alice.requests) == 1
    assert rolevault.install(role_a.arn, mfa_serial=alice.serial, mfa_callback=code) is installed


def test_the_name_of_a_session_is_made_legal(monkeypatch: pytest.MonkeyPatch) -> None:
    """STS takes 2 to 64 characters. A container's user may have no name."""
    device = "arn:aws:iam::999988887777:mfa/"
    assert Role(ARN, mfa_serial=f"{device}{'a' * 70}").session_name == "a" * 64
    assert Role(ARN, mfa_serial=f"{device}a").session_name == "a-"
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    assert Role(ARN).session_name == "rolevault-54321"


@pytest.mark.parametrize(
    ("asked", "from_profile", "sent"),
    [(7200, False, 7200), (7200, True, 3600), (900, True, 900)],
)
def test_only_a_profiles_duration_is_cut_to_an_hour(
    asked: int, from_profile: bool, sent: int
) -> None:
    """STS grants an hour to temporary credentials. The caller's own wish is sent as it is, and
    STS says why it is refused.
    """
    role = Role(ARN, duration_seconds=asked, duration_from_profile=from_profile)
    assert role.arguments(chained=True)["DurationSeconds"] == sent
    assert role.arguments()["DurationSeconds"] == asked


def test_the_order_of_tag_keys_makes_no_other_entry() -> None:
    """STS does not look at the order, and so two orders share a vault entry."""
    tags, keys = {"a": "1", "b": "2"}, ["a", "b"]
    one, other = (Role(ARN, tags=tags, transitive_tag_keys=k) for k in (keys, keys[::-1]))
    assert one.cache_key({}, None) == other.cache_key({}, None)
