"""The data keys that passphrases have unlocked so far in this process."""

from collections.abc import Hashable

from rolevault._concurrency.single_flight import SingleFlight
from rolevault._prompt import person
from rolevault._vault import envelope, held_key
from rolevault._vault.envelope import Envelope, Header
from rolevault._vault.passphrase import PERSON, PassphraseSource
from rolevault.errors import WrongPassphraseError

#: The source of the keys that the kernel holds.
_HELD = "held"
#: How often a person may mistype a passphrase.
_ATTEMPTS = 3


class DataKeyCache:
    """The data keys unlocked in this process, so that the process pays the KDF once however
    often other processes rewrite the file.

    The name of a key is (hash of the header, source of the passphrase). So a wrong passphrase
    never opens what a right one opened before, and a rotation makes the key useless. Python
    cannot wipe memory: the keys live as long as the process.
    """

    def __init__(self) -> None:
        self._keys: dict[tuple[str, Hashable], bytes] = {}
        self._new: dict[tuple[str, Hashable], tuple[Header, bytes]] = {}
        # Threads that need the same key share one question and its outcome. A thread that
        # needs the key of another vault does not wait for them, and neither does a thread that
        # asks nobody: it must not wait for a person, nor tell the others that nobody is there.
        self._unlocking: SingleFlight[bytes] = SingleFlight()
        self._preparing: SingleFlight[None] = SingleFlight()

    def get(self, header: Header, source: PassphraseSource) -> bytes | None:
        """The data key of ``header``, if ``source`` has unlocked it before, or the kernel held
        it and ``source`` comes after the kernel.
        """
        held = None if source.is_given else self._keys.get((header.id, _HELD))
        return held or self._keys.get((header.id, source.identity))

    def put(self, header: Header, source: PassphraseSource, data_key: bytes) -> None:
        """Keep a data key that ``source`` has unlocked."""
        # A key that the kernel held says nothing about what the source would give.
        if self.get(header, source) is None:
            self._keys[header.id, source.identity] = data_key

    def unlock(self, locked: Envelope, source: PassphraseSource, path: str) -> bytes:
        """The data key of ``locked``: the kernel's, or the source's. Asks and runs the KDF at
        most once.

        :raises WrongPassphraseError: the source gave another passphrase.
        :raises SignInTimeoutError: another thread's source did not answer within two
            minutes, or this thread's source needs the vault that the source is to open.
        """

        header = locked.header

        def work() -> bytes:
            data_key = self.get(header, source)
            if data_key is None and not source.is_given:
                data_key = held_key.find(locked, path)
                if data_key is not None:
                    self._keys[header.id, _HELD] = data_key
            if data_key is None:
                needs = f"rolevault needs the passphrase of {path}."
                why = (needs, *held_key.hint()) if source.identity == PERSON else ()
                data_key = unlock_with_retries(header, source, path, why=why)
                self.put(header, source, data_key)
            return data_key

        key = (header.id, source.identity, person.why_nobody_is_asked())
        return self.get(header, source) or self._unlocking.run(key, f"opening {path}", work)

    def prepare_new(self, source: PassphraseSource, path: str) -> None:
        """Make the header and the data key of a vault that does not exist yet. Asks at most
        once.

        :raises SignInTimeoutError: as for ``unlock``.
        """
        key = (path, source.identity)

        def work() -> None:
            if key not in self._new:
                seconds = held_key.seconds_for_typed() if source.identity == PERSON else None
                self._new[key] = envelope.new_header(source.read(path, new=True))
                held_key.hold_typed(*self._new[key], seconds)

        if key not in self._new:
            call = (key, person.why_nobody_is_asked())
            self._preparing.run(call, f"making {path}", work)

    def get_new(self, source: PassphraseSource, path: str) -> tuple[Header, bytes] | None:
        """What ``prepare_new`` has made."""
        return self._new.get((path, source.identity))

    def forget_new(self, path: str) -> None:
        """The vault at ``path`` exists now. Should somebody delete it, the next one gets
        another salt and another data key.
        """
        for key in [key for key in list(self._new) if key[0] == path]:
            self._new.pop(key, None)


#: One cache for the process: ``Vault`` objects on the same file share what they unlocked.
data_keys = DataKeyCache()


def unlock_with_retries(
    header: Header,
    source: PassphraseSource,
    path: str,
    label: str = "Passphrase",
    why: tuple[str, ...] = (),
) -> bytes:
    """The data key of ``header``. Always runs the KDF. A key that a typed passphrase opens is
    held for as long as ``ROLEVAULT_UNLOCK`` says.

    :param why: what a person reads first; by default, that the vault needs its passphrase.
    :raises WrongPassphraseError: the source gave another passphrase; a person, three times.
    """
    # A person mistypes. Every other source would give the same passphrase again.
    is_typed = source.identity == PERSON
    attempts = _ATTEMPTS if is_typed else 1
    seconds = held_key.seconds_for_typed() if is_typed else None
    while True:
        attempts -= 1
        try:
            data_key = envelope.unlock(header, source.read(path, *why, label=label), path)
        except WrongPassphraseError:
            if not attempts:
                raise
            why = (f"That passphrase does not open {path}.",)
        else:
            held_key.hold_typed(header, data_key, seconds)
            return data_key
