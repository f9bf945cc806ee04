"""The data keys that passphrases have unlocked so far."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

from rolevault._flight import Flights
from rolevault._forks import LATE
from rolevault._passphrase import TERMINAL, PassphraseSource
from rolevault.errors import WrongPassphraseError

if TYPE_CHECKING:
    from rolevault._envelope import Header

_ATTEMPTS = 3


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
holder = KeyHolder()


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
