"""Where the passphrase comes from.

The first source that is configured answers. Where it fails, that is an error, and no other
source is tried: else a person would be asked for what a broken script was meant to give.
"""

import codecs
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Hashable
from types import MethodType
from typing import NoReturn

from rolevault._prompt import command, person
from rolevault._prompt.prompt_errors import NobodyThereError, NotTextError
from rolevault.errors import ConfigurationError, PassphraseRequiredError

logger = logging.getLogger(__name__)

#: A passphrase with fewer characters is warned about.
_SHORT = 12
#: The identity of a person at the terminal or in a notebook.
PERSON = "person"
#: The longest passphrase that is read from a file, in bytes.
_MOST = 64 * 1024


class PassphraseSource:
    """One answer to "what is the passphrase?".

    :param given: the ``passphrase`` option; None asks the environment, then a person.
    :raises ConfigurationError: it is neither a string nor a callable.
    """

    def __init__(self, given: str | Callable[[], str] | None = None) -> None:
        if not (given is None or isinstance(given, str) or callable(given)):
            raise _failed("passphrase", "it must be a string, or a callable that returns one.")
        self._given = given

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PassphraseSource may hold a passphrase: it cannot be pickled or copied")

    @property
    def is_given(self) -> bool:
        """Whether the caller passed the passphrase, which comes before a key that is held."""
        return self._given is not None

    @property
    def identity(self) -> Hashable:
        """Tells sources apart without holding what they give. A data key that one source has
        unlocked is never handed to another source.
        """
        if callable(self._given):
            return _IdentityKey(self._given)
        if self._given is not None:
            return ("text", _fingerprint(self._given))
        for name in ("ROLEVAULT_PASSPHRASE_FILE", "ROLEVAULT_PASSPHRASE_COMMAND"):
            if os.environ.get(name):
                return (name, os.environ[name])
        if text := os.environ.get("ROLEVAULT_PASSPHRASE"):
            return ("text", _fingerprint(text))
        return PERSON

    def read(self, path: str, *why: str, new: bool = False, label: str = "Passphrase") -> str:
        """The passphrase of the vault at ``path``.

        :param why: as for ``ask``.
        :param new: the passphrase is for a new vault: a person types it twice, and a short
            one is warned about.
        :param label: what a person is asked for, where the vault is not new.
        :raises PassphraseRequiredError: nothing is configured, and nobody is there to ask.
        :raises ConfigurationError: a configured source failed.
        """
        reason = person.why_nobody_is_asked()
        if reason is not None and callable(self._given):
            # The callable may ask a person.
            raise PassphraseRequiredError(path=path, reason=reason)
        passphrase = self._configured()
        if passphrase is None:
            return ask_new(path) if new else ask(path, *why, label=label)
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
        if line := os.environ.get("ROLEVAULT_PASSPHRASE_COMMAND"):
            return _run_command(line)
        return os.environ.get("ROLEVAULT_PASSPHRASE") or None


class _IdentityKey:
    """The identity of a callable, whatever its own ``__eq__`` and ``__hash__`` say. The
    callable is held here, so that no other object gets the same ``id()``.
    """

    def __init__(self, given: Callable[[], str]) -> None:
        self._given = given
        # Each mention of a bound method makes another object.
        owner, function = getattr(given, "__self__", None), getattr(given, "__func__", given)
        self._ids = (id(owner), id(function)) if isinstance(given, MethodType) else (id(given),)

    def __hash__(self) -> int:
        return hash(self._ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _IdentityKey) and self._ids == other._ids


def ask(path: str, *why: str, label: str = "Passphrase") -> str:
    """What a person types.

    :param why: the lines that the person reads above the prompt; by default, that the vault
        needs its passphrase.
    :param label: what the person is asked for.
    :raises PassphraseRequiredError: nobody is there to ask.
    """
    why = why or (f"rolevault needs the passphrase of {path}.",)
    while True:
        try:
            return person.ask(*why, label=label, hidden=True)
        except NotTextError:
            why = ("What you typed cannot be read as text. Is the terminal set to UTF-8?",)
        except NobodyThereError as error:
            raise PassphraseRequiredError(path=path, reason=str(error)) from None


def ask_new(path: str) -> str:
    """A passphrase that a person typed twice.

    :raises PassphraseRequiredError: nobody is there to ask.
    """
    why: tuple[str, ...] = (
        f"rolevault keeps your AWS sessions in an encrypted file, {path}.",
        "Choose a passphrase. If you lose it, delete the file; all it costs is another MFA code.",
    )
    while True:
        passphrase = ask(path, *why, label="New passphrase")
        if not passphrase:
            why = ("The passphrase must not be empty.",)
        elif ask(path, "Type the new passphrase once more.", label="New passphrase") != passphrase:
            why = ("The two passphrases differ. Choose one again.",)
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
    # Keyed by a secret of the process, so that the fingerprint is worth nothing outside.
    # Not OpenSSL's HMAC: its first use takes a lock that a fork could copy.
    text = passphrase.encode(errors="surrogatepass")
    return hashlib.blake2b(text, key=_process_secret).digest()


def _failed(option: str, rule: str) -> ConfigurationError:
    return ConfigurationError(option=option, value="<not shown>", rule=rule)


def _decode(data: bytes, option: str) -> str:
    # A byte order mark comes from an editor of Windows, and one newline from an editor or
    # from echo. Everything else may be meant.
    data = data.removeprefix(codecs.BOM_UTF8)
    data = data.removesuffix(b"\r\n" if data.endswith(b"\r\n") else b"\n")
    if not data:
        raise _failed(option, "what it gives is empty.")
    # Raised outside the handler, because UnicodeDecodeError holds the passphrase.
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


def _run_command(line: str) -> str:
    option = "ROLEVAULT_PASSPHRASE_COMMAND"
    try:
        output = command.run(command.split(line))
    except command.CommandFailedError as error:
        # Only the program is shown: its arguments may be secret.
        program = repr(line.strip().partition(" ")[0] + " …")
        raise ConfigurationError(option=option, value=program, rule=f"{error}.") from None
    return _decode(output, option)
