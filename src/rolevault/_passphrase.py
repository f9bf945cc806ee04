"""Where the passphrase comes from, and the data keys it has unlocked so far.

The first source that is configured answers, and one that fails is an error: a
fallback would ask a person for what a broken script was meant to give.
"""

import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Hashable
from types import MethodType
from typing import TYPE_CHECKING, NoReturn

from rolevault._flight import Flights
from rolevault._forks import LATE
from rolevault.errors import (
    ConfigurationError,
    PassphraseRequiredError,
    WrongPassphraseError,
)

if TYPE_CHECKING:
    from rolevault._envelope import Header

logger = logging.getLogger(__name__)

_SHORT = 12
_ATTEMPTS = 3
#: The identity of a person at the terminal or in a notebook.
TERMINAL = "terminal"
_MOST = 64 * 1024


class PassphraseSource:
    """One answer to "what is the passphrase?".

    ``identity`` tells sources apart without holding what they give: a key that
    one source unlocked is never handed to another.
    """

    def __init__(self, given: str | Callable[[], str] | None = None) -> None:
        if not (given is None or isinstance(given, str) or callable(given)):
            raise _failed("passphrase", "it must be a string, or a callable that returns one.")
        self._given = given

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PassphraseSource may hold a passphrase: it cannot be pickled or copied")

    @property
    def identity(self) -> Hashable:
        if callable(self._given):
            return _Itself(self._given)
        if self._given is not None:
            return ("text", _fingerprint(self._given))
        for name in ("ROLEVAULT_PASSPHRASE_FILE", "ROLEVAULT_PASSPHRASE_COMMAND"):
            if os.environ.get(name):
                return (name, os.environ[name])
        if text := os.environ.get("ROLEVAULT_PASSPHRASE"):
            return ("text", _fingerprint(text))
        return TERMINAL

    def read(self, path: str, *, new: bool = False, prompt: str = "Passphrase") -> str:
        """The passphrase of the vault at ``path``.

        :param new: it will seal something new: a person types it twice, and a
            short one is warned about.
        :param prompt: what a person is asked for otherwise.
        :raises PassphraseRequiredError: nothing is configured, nobody is there.
        :raises ConfigurationError: a configured source failed.
        """
        passphrase = self._configured()
        if passphrase is None:
            return ask_new(path) if new else ask(path, prompt)
        if new:
            _warn_if_short(path, passphrase)
        return passphrase

    def _configured(self) -> str | None:
        if callable(self._given):
            passphrase = self._given()
            if not isinstance(passphrase, str):
                raise _failed("passphrase", "the callable must return a string.")
            return passphrase
        if self._given is not None:
            return self._given
        if file := os.environ.get("ROLEVAULT_PASSPHRASE_FILE"):
            return _read_file(file)
        if command := os.environ.get("ROLEVAULT_PASSPHRASE_COMMAND"):
            return _run_command(command)
        return os.environ.get("ROLEVAULT_PASSPHRASE") or None


class _Itself:
    """A callable's identity, whatever it says of its equality and its hash. It
    holds the callable: nothing else gets the same ``id()`` meanwhile.
    """

    def __init__(self, given: Callable[[], str]) -> None:
        self._given = given
        # A bound method is another object at each mention.
        owner, function = getattr(given, "__self__", None), getattr(given, "__func__", given)
        self._ids = (id(owner), id(function)) if isinstance(given, MethodType) else (id(given),)

    def __hash__(self) -> int:
        return hash(self._ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._ids == other._ids


class KeyHolder:
    """The data keys unlocked in this process, so that it pays the KDF once
    however often other processes rewrite the file.

    They stand under (hash of the header, source): a wrong passphrase never
    opens what a right one opened before, and a rotation makes them useless.
    Python cannot wipe memory: they live as long as the process.
    """

    def __init__(self) -> None:
        self._keys: dict[tuple[str, Hashable], bytes] = {}
        self._new: dict[tuple[str, Hashable], tuple[Header, bytes]] = {}
        # One thread asks; those that wait for the same share what comes of it, and
        # nobody waits for the person who is asked for another vault's passphrase.
        self._unlocking: Flights[bytes] = Flights()
        self._preparing: Flights[None] = Flights()

    def held(self, header: "Header", source: PassphraseSource) -> bytes | None:
        return self._keys.get((header.id, source.identity))

    def hold(self, header: "Header", source: PassphraseSource, data_key: bytes) -> None:
        self._keys[header.id, source.identity] = data_key

    def unlock(self, header: "Header", source: PassphraseSource, path: str) -> bytes:
        """The data key in ``header``, asking and running the KDF at most once.

        :raises WrongPassphraseError: the source gave another passphrase.
        :raises SignInTimeoutError: another thread's source did not answer within two
            minutes, or ours needs the vault that it shall open.
        """

        def call() -> bytes:
            data_key = self.held(header, source)
            if data_key is None:
                data_key = derive(header, source, path)
                self.hold(header, source, data_key)
            return data_key

        flight = (header.id, source.identity)
        return self.held(header, source) or self._unlocking.share(flight, f"opening {path}", call)

    def prepare(self, source: PassphraseSource, path: str) -> None:
        """Settle the header of a vault that does not exist yet, asking at most once.

        :raises SignInTimeoutError: as for ``unlock``.
        """
        flight = (path, source.identity)

        def call() -> None:
            if flight not in self._new:
                with LATE.lock:
                    from rolevault import _envelope

                self._new[flight] = _envelope.new_header(source.read(path, new=True))

        if flight not in self._new:
            self._preparing.share(flight, f"making {path}", call)

    def prepared(self, source: PassphraseSource, path: str) -> "tuple[Header, bytes] | None":
        return self._new.get((path, source.identity))

    def forget_prepared(self, path: str) -> None:
        """The vault exists now. Should it be deleted, the next one has another salt and key."""
        for key in [key for key in list(self._new) if key[0] == path]:
            self._new.pop(key, None)


#: One for the process: vault objects on the same file share what they unlocked.
keys = KeyHolder()


def derive(
    header: "Header", source: PassphraseSource, path: str, prompt: str = "Passphrase"
) -> bytes:
    """The data key in ``header``, through the KDF whatever is held already.

    :raises WrongPassphraseError: the source gave another passphrase; at the
        terminal, three times.
    """
    with LATE.lock:
        from rolevault import _envelope

    # A person mistypes; every other source would give the same again.
    left = _ATTEMPTS if source.identity == TERMINAL else 1
    why = ""
    while True:
        left -= 1
        try:
            return _envelope.unlock(header, source.read(path, prompt=why + prompt), path)
        except WrongPassphraseError:
            if not left:
                raise
            why = "That passphrase does not open it.\n"


def ask(path: str, what: str = "Passphrase") -> str:
    """A person's answer.

    :param what: what to ask for, below a line that says why it is asked again.
    :raises PassphraseRequiredError: nobody is there.
    """
    with LATE.lock:
        from rolevault import _terminal

    try:
        return _terminal.ask(f"{what} for {path}: ", hidden=True)
    except _terminal.NobodyThereError as error:
        raise PassphraseRequiredError(path=path, reason=str(error)) from None


def ask_new(path: str) -> str:
    """A passphrase that a person typed twice.

    :raises PassphraseRequiredError: nobody is there.
    """
    notice = (
        "rolevault keeps your AWS sessions in an encrypted file. Choose a passphrase for it.\n"
        "If it is lost, delete the file. All that it costs is another MFA code.\n"
    )
    while True:
        passphrase = ask(path, f"{notice}New passphrase")
        if not passphrase:
            notice = "It must not be empty.\n"
        elif ask(path, "The same again") != passphrase:
            notice = "The two differ.\n"
        else:
            _warn_if_short(path, passphrase)
            return passphrase


def _warn_if_short(path: str, passphrase: str) -> None:
    if len(passphrase) < _SHORT:
        logger.warning(
            "The passphrase of %s has fewer than %d characters: whoever gets the file can "
            "try many. Take four or five random words.",
            path,
            _SHORT,
        )


_process_secret = secrets.token_bytes(32)


def _fingerprint(passphrase: str) -> bytes:
    # Keyed by the process, so that the fingerprint is worth nothing outside it. Not
    # OpenSSL's HMAC, whose first use takes a lock that could cross a fork.
    text = passphrase.encode(errors="surrogatepass")
    return hashlib.blake2b(text, key=_process_secret).digest()


def _failed(option: str, rule: str) -> ConfigurationError:
    return ConfigurationError(option=option, value="<not shown>", rule=rule)


def _decode(data: bytes, option: str) -> str:
    # One newline is the editor's or echo's; everything else may be meant.
    data = data.removesuffix(b"\r\n" if data.endswith(b"\r\n") else b"\n")
    # Not raised from the handler: UnicodeDecodeError holds the passphrase.
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode()
    raise _failed(option, "what it gives is not UTF-8.")


def _read_file(file: str) -> str:
    option = "ROLEVAULT_PASSPHRASE_FILE"
    try:
        with open(os.path.expanduser(file), "rb") as stream:
            data = stream.read(_MOST + 1)
    except OSError as error:
        rule = f"the file cannot be read: {error.strerror}."
        raise ConfigurationError(option=option, value=repr(file), rule=rule) from None
    if len(data) > _MOST:
        rule = f"the file holds more than {_MOST // 1024} KiB."
        raise ConfigurationError(option=option, value=repr(file), rule=rule)
    return _decode(data, option)


def _run_command(command: str) -> str:
    with LATE.lock:
        from rolevault import _command

    option = "ROLEVAULT_PASSPHRASE_COMMAND"
    try:
        output = _command.run(_command.split(command))
    except _command.CommandFailedError as error:
        # Its arguments may be what nobody else should read.
        program = repr(command.strip().partition(" ")[0] + " …")
        raise ConfigurationError(option=option, value=program, rule=f"{error}.") from None
    return _decode(output, option)
