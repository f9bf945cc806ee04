"""
The checks of the vault, taken out one at a time: each must be missed by a test.

``python tests/mutations.py`` (``make mutants``) copies the package, changes one
place in it, runs the tests that concern it, and names every change that they do
not notice. This list is the record of what was tried. A word on the command
line narrows it: ``python tests/mutations.py _locks``.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rolevault

TESTS = Path(__file__).parent
PACKAGE = Path(rolevault.__file__).parent

#: What runs for a change in a module. The slow ones find nothing that these do not.
RUNS = {
    "_sealing": "test_sealing test_envelope test_format",
    "_canonical": "test_envelope test_format",
    "_kdf": "test_envelope test_format",
    "_envelope": "test_envelope test_sealing test_format",
    "_place": "test_files* test_other_users",
    "_files": "test_files* test_rotation test_other_users",
    "_locks": "test_files* test_other_users test_vault*",
    "_entries": "test_vault* test_rotation",
    "vault": "test_vault* test_rotation test_files*",
    "_rotation": "test_rotation test_files* test_passphrase_prompt",
    "_passphrase": "test_passphrase test_vault* test_rotation test_store",
    "_keys": "test_passphrase test_vault* test_rotation test_store",
}
SLOW = "each_system_call or twenty_writers or see_a_replacement or ten_processes"

#: module: what stands there, and what instead of it; "" is: nothing.
MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "_sealing": [
        ("if not hmac.compare_digest(commitment, promised):", "if False:"),
        ("len(sealed) < OVERHEAD or ", ""),
        (" or (len(sealed) - first) % (_CHUNK + _TAG) < _TAG", ""),
        ("_LABEL + salt + context", "_LABEL + context + salt"),
        ("(base ^ number)", "(base)"),
        ("os.urandom(SALT_SIZE) if salt is None else salt", "bytes(24) if salt is None else salt"),
    ],
    "_canonical": [
        ("sort_keys=True, ", ""),
        (", allow_nan=False", ""),
        ("object_pairs_hook=_unique,", ""),
        ("parse_float=_finite,", ""),
        ("parse_constant=_finite,", ""),
        ('text.decode("ascii"),', "text,"),
        ("return depth > 0 and", "return"),
    ],
    "_kdf": [
        ("19456 <= m", "1 <= m"),
        ("m <= 262144", "m <= 262145"),
        ("1 <= t", "0 <= t"),
        ("t <= 16", "t <= 17"),
        ("1 <= p", "0 <= p"),
        ("p <= 16", "p <= 17"),
        ("m * t <= 1048576", "True"),
        ('unicodedata.normalize("NFC", passphrase)', "passphrase"),
        ("if not text:", "if False:"),
        ('re.search("[\\ud800-\\udfff]", text)', "False"),
        ("except UnsupportedAlgorithm:", "except ZeroDivisionError:"),
        ("(MemoryError, InternalError)", "ZeroDivisionError"),
        ("map(max, self, DEFAULT_COSTS)", "map(min, self, DEFAULT_COSTS)"),
    ],
    "_envelope": [
        ("if len(blob) > MAX_FILE:\n        raise VaultD", "if False:\n        raise VaultD"),
        ("if version[0] != _MAGIC", "if False"),
        ("len(_MAGIC), MAX_HEADER) + 1", "len(_MAGIC)) + 1"),
        ("!= _checksum(header, body):", "!= _checksum(header, body) and False:"),
        ('if isinstance(kdf["alg"], str) and kdf["alg"] != "argon2id"', "if False"),
        ("any(type(cost) is not int for cost in costs) or not costs.b", "not costs.b"),
        (" or not costs.bearable:", ":"),
        (" or bytes(parsed) != header", ""),
        ("(len(salt), len(slot)) != (_kdf.SALT_SIZE, _SLOT_SIZE) or ", ""),
        ('b"rolevault/1 slot" + bytes(kdf)', 'b"rolevault/1 slot"'),
        ('b"rolevault/1 body" + bytes.fromhex(header.id)', 'b"rolevault/1 body"'),
        ("type(generation) is not int or ", ""),
        ("0 <= generation", "-9 <= generation"),
        (" <= _MAX_GENERATION", " <= 2**60"),
        ("isinstance(name, str) and isinstance(entry, dict)", "isinstance(name, str)"),
        ("isinstance(name, str) and isinstance(entry, dict)", "isinstance(entry, dict)"),
        ("not isinstance(entries, dict) or ", ""),
        ("if not _canonical.fits(entries, _MAX_DEPTH)", "if False"),
        (" if fields or len(plaintext) % _PADDING else", " if len(plaintext) % _PADDING else"),
        (" if fields or len(plaintext) % _PADDING else", " if fields else"),
        ("    _check_contents(contents)  # after", "    pass  # after"),
        ("AttributeError, RecursionError)", "AttributeError)"),
        ("(ValueError, TypeError, KeyError, RecursionError)", "(ValueError, TypeError, KeyError)"),
        (
            "if len(blob) > MAX_FILE:\n        raise ValueError",
            "if False:\n        raise ValueError",
        ),
        ("os.urandom(_kdf.SALT_SIZE) if salt is None", "bytes(16) if salt is None"),
        ("os.urandom(_sealing.KEY_SIZE) if data_key is None", "bytes(32) if data_key is None"),
    ],
    "_place": [
        ("if self.named.name.casefold() in", "if self.named.name in () and"),
        ("if self.named.name.casefold() in", "if self.named.name in"),
        ("if target.name.casefold() in", "if target.name in () and"),
        ("except RuntimeError:", "except ZeroDivisionError:"),
        ("expanded.absolute()", "expanded"),
        ('os.environ.get("ROLEVAULT_FILE") or None', 'os.environ.get("ROLEVAULT_FILE")'),
        ("self._check_link(self.named, target.parent)", "pass"),
        ("self._check_link(directory, directory)", "pass"),
        ("if not stat.S_ISDIR(status.st_mode):", "if False:"),
        ("if os.path.isdir(self.path):", "if False:"),
        ("if os.geteuid() not in (0, status.st_uid):", "if False:"),
        ("if os.geteuid() not in (0, status.st_uid):", "if os.geteuid() != status.st_uid:"),
        (
            "        if status.st_mode & 0o077:\n            self._c",
            "        if False:\n            self._c",
        ),
        (
            "        if status.st_mode & 0o077:\n            self._c",
            "        if status.st_mode & 0o007:\n            self._c",
        ),
        ("if _POSIX and os.geteuid() == 0 and not os", "if False and not os"),
        (" and not os.path.lexists(self.path):", ":"),
        ("path.mkdir(mode=0o700)", "path.mkdir()"),
        ("with contextlib.suppress(FileExistsError):", "if True:"),
        ("            self.owner()  # somebody", "            pass  # somebody"),
        ("if not stat.S_ISREG(status.st_mode):", "if False:"),
        ("if _POSIX and status.st_uid != owner:", "if False:"),
        ("if _POSIX and status.st_mode & 0o077:", "if False:"),
        ("if _POSIX and status.st_mode & 0o077:", "if _POSIX and status.st_mode & 0o007:"),
        ("os.fchmod(descriptor, 0o600)", "pass"),
        ("os.fchmod(descriptor, 0o700)", "pass"),
        ("os.fchown(descriptor, os.stat(self.path.parent).st_uid, -1)", "pass"),
        (" | os.O_NOFOLLOW", ""),
        ("self._by_default and ", ""),
        ("self.path == self.named and ", ""),
        (" and status.st_uid == os.geteuid()", ""),
        ("if uid not in trusted:", "if False:"),
        ("trusted.add(os.stat(directory).st_uid)", "trusted.add(uid)"),
    ],
    "_files": [
        ("if error.errno != errno.ESTALE:", "if True:"),
        (
            "            return self._read(limit)\n\n    def _read",
            "            return self.read(limit)\n\n    def _read",
        ),
        ('"O_NOFOLLOW", ', ""),
        (', "O_NONBLOCK"', ""),
        ("if error.errno == errno.ELOOP:", "if False:"),
        ("if error.errno in (errno.EACCES, errno.EPERM, errno.ENXIO):", "if False:"),
        ("if size > limit:", "if False:"),
        ("size = self._place.check_file(descriptor, owner)", "size = os.fstat(descriptor).st_size"),
        ("        self._remove_leftovers()\n        # mk", "        # mk"),
        ("                self._place.adopt(descriptor)\n", ""),
        ("                os.fsync(descriptor)\n                if", "                if"),
        ("check(file.read())", "pass"),
        (
            "with contextlib.suppress(OSError):\n                os.unlink(temporary)",
            "pass",
        ),
        ("        self._sync_directory()\n\n    def delete", "\n    def delete"),
        ("path.name.startswith(prefix) and ", ""),
        (' and path.name.endswith(".tmp")', ""),
        (
            "                with contextlib.suppress(OSError):\n                    path",
            "                if True:\n                    path",
        ),
        (
            "            if error.errno not in (errno.EINVAL, errno.ENOTSUP):",
            "            if True:",
        ),
        (
            "        except OSError as error:\n            # Some",
            "        except ZeroDivisionError as error:\n            # Some",
        ),
        ("        self._place.make()\n        lock =", "        lock ="),
        ("        self._place.make()\n        _locks", "        _locks"),
        ("_locks.make_sign_in_locks(self.path.parent, self._place.adopt)", "pass"),
        (
            "with contextlib.suppress(FileNotFoundError):\n            os.unlink",
            "if True:\n            os.unlink",
        ),
        (
            "except OSError:\n            return False",
            "except ZeroDivisionError:\n            return False",
        ),
        ("return os.access(self.path.parent, os.W_OK | os.X_OK)", "return True"),
    ],
    "_locks": [
        ("mode=0o600,", "mode=0o666,"),
        ("os.open(directory / name, flags, 0o600)", "os.open(directory / name, flags, 0o666)"),
        ("_judge(path, os.lstat(path))", "pass"),
        ("    _judge(path, os.fstat(descriptor))\n    adopt", "    adopt"),
        ("not stat.S_ISREG(status.st_mode) or status", "status"),
        (" or status.st_nlink > 1", ""),
        ("status.st_uid not in (os.geteuid(), os.stat(path.parent).st_uid)", "False"),
        ("(os.geteuid(), os.stat(path.parent).st_uid)", "(os.geteuid(),)"),
        ("    adopt(descriptor)\n    # So", "    # So"),
        ("                adopt(descriptor)\n", "                pass\n"),
        ("waiting(_holder(path))", "pass"),
        ("raise BusyError(_holder(path)) from None", "pass"),
        ("lock.release()", "pass"),
        ('return f"process {', 'return f"{'),
        ("contextlib.suppress(OSError, ValueError)", "contextlib.suppress(OSError)"),
    ],
    "_entries": [
        ("if not isinstance(text, str):", "if False:"),
        ("with contextlib.suppress(ValueError):", "if True:"),
        (" if moment.tzinfo else None", ""),
        ("isinstance(said, dict)", "True"),
        ("before.get(k) is not v or ", ""),
        (" or not ended(v)", ""),
        ("end.timestamp() <= now", "False"),
        ("if not isinstance(key, str):", "if False:"),
        ("if isinstance(value, Mapping):", "if True:"),
        (", allow_nan=False", ""),
        ("dict(json.loads(text))", "dict(value)"),
        ("suppress(TypeError, ValueError, RecursionError)", "suppress(TypeError, RecursionError)"),
        ("suppress(TypeError, ValueError, RecursionError)", "suppress(ValueError, RecursionError)"),
        ("{key: copy(item) for key, item in value.items()}", "dict(value)"),
        ("[copy(item) for item in value] if", "list(value) if"),
    ],
    "vault": [
        ('raise TypeError("a Vault', "return ()  # "),
        ("_entries.copy(self.snapshot()[key])", "self.snapshot()[key]"),
        ("{key: _entries.copy(value) for", "{key: value for"),
        ("dict(_entries.copy(self._edit(", "((self._edit("),
        ("            if default is _MISSING:\n                raise KeyError(key)\n", ""),
        ('            raise KeyError("the vault is empty")', "            pass"),
        ("entries.pop(_entries.name(key), None)", "pass"),
        ("_entries.alive(entries, old.entries)", "entries"),
        ("old.generation + 1", "old.generation"),
        ("with self.file.write_lock():\n                found", "if True:\n                found"),
        ("                if found is None:", "                if False:"),
        ("                _keys.holder.hold(header, self.source, data_key)\n", ""),
        ("                _keys.holder.forget_prepared(str(self.file))\n", ""),
        ("                self._note(seen, header, new)\n", ""),
        (
            "_keys.holder.held(envelope.header, self.source)",
            "_keys.holder.unlock(envelope.header, self.source, path)",
        ),
        ("last.source == self.source.identity and ", ""),
        (" and last.blob == blob", ""),
        ("if not seen[0] or envelope.header.id in seen[0]:", "if True:"),
        ("if not seen[0] or envelope.header.id in seen[0]:", "if False:"),
        ("header.id in headers and contents", "contents"),
        ("contents.generation < generation and ", ""),
        (" and not self._warned:", ":"),
        ("headers | {header.id}", "frozenset({header.id})"),
        (
            "        self._note(seen, envelope.header, contents)",
            "        self._note(self._seen, envelope.header, contents)",
        ),
        (
            "        self._last = _Opened(self.source.identity, blob, envelope.header, contents)\n",
            "",
        ),
    ],
    "_rotation": [
        (
            '_keys.derive(header, PassphraseSource(old), path, "Current passphrase")',
            "_keys.holder.unlock(header, PassphraseSource(old), path)",
        ),
        ("_passphrase.ask_new(path) if new is None else source.", "source."),
        (", new=True)", ")"),
        (", costs=header.kdf.costs.raised()", ""),
        (", costs=header.kdf.costs.raised()", ", costs=header.kdf.costs"),
        ("if envelope.header != fresh:", "if False:"),
        ("        _envelope.read(envelope, opened_key, path)\n", ""),
        ("with file.write_lock():", "if True:"),
        ("if envelope.header != header:", "if False:"),
        ("_entries.alive(before.entries, before.entries)", "before.entries"),
        ("before.generation + 1", "1"),
        (", check)", ")"),
        ("if new is not None or source.identity == _passphrase.TERMINAL:", "if True:"),
        ("        _keys.holder.hold(fresh, source, fresh_key)", "        pass"),
        ("    if blob is None:", "    if False:"),
        (
            "        envelope = _envelope.parse(_existing(file), path)\n",
            "        envelope = _envelope.parse(first, path)\n",
        ),
    ],
    "_passphrase": [
        ("if not (given is None or isinstance(given, str) or callable(given)):", "if False:"),
        ("if not isinstance(passphrase, str):", "if False:"),
        ('return ("text", _fingerprint(self._given))', 'return ("text", "")'),
        ('return ("text", _fingerprint(text))', 'return ("text", "")'),
        ("return _Itself(self._given)", 'return ("callable", None)'),
        (" and self._ids == other._ids", ""),
        ("return (name, os.environ[name])", 'return "terminal"'),
        ("        if new:\n            _warn", "        if False:\n            _warn"),
        ("if len(passphrase) < _SHORT:", "if False:"),
        ("if len(passphrase) < _SHORT:", "if True:"),
        ("secrets.token_bytes(32)", "bytes(32)"),
        ('b"\\r\\n" if data.endswith(b"\\r\\n") else b"\\n"', 'b"\\n"'),
        ('.removesuffix(b"\\r\\n" if data.endswith(b"\\r\\n") else b"\\n")', ".rstrip()"),
        ("with contextlib.suppress(UnicodeDecodeError):", "if True:"),
        ("if len(data) > _MOST:", "if False:"),
        ("    if not data:\n        raise", "    if False:\n        raise"),
        ('command.strip().partition(" ")[0]', "command"),
    ],
    "_keys": [
        (
            "            if data_key is None:\n                data_key = derive",
            "            if True:\n                data_key = derive",
        ),
        ("flight = (header.id, source.identity)", "flight = object()"),
        ("            self.hold(header, source, data_key)", "            pass"),
        ("            if flight not in self._new:", "            if True:"),
        ("self._new.pop(key, None)", "pass"),
    ],
}
#: Changes that no test can notice, and why.
EQUIVALENT = {
    "lock.release()": "CPython frees the lock when nothing refers to it, which is at once",
    " | os.O_NOFOLLOW": "a link is refused before; this is for a race with one who may rename",
    "    _judge(path, os.fstat(descriptor))\n    adopt": "as that: it judges again what was opened",
    "secrets.token_bytes(32)": "a constant would be as unique in one process",
    "            if data_key is None:\n                data_key = derive": "for a race: another "
    "thread's answer arrived between the look and the turn to ask",
    "            if flight not in self._new:": "as that",
}


def mutants() -> Iterator[tuple[str, str, str]]:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for module, changes in MUTATIONS.items():
        for old, new in changes:
            if (wanted in module or wanted in old) and old not in EQUIVALENT:
                yield module, old, new


def tests(module: str, old: str, new: str) -> str:
    """The test that notices the change; what is wrong, in capitals, where none does."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        copy.chmod(0o755)  # other users' tests look in
        for name in ("docs", "pyproject.toml"):
            source = TESTS.parent / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        shutil.copytree(TESTS, copy / "tests", ignore=ignored)
        # Beside the tests, which every process that they start has on its path.
        shutil.copytree(PACKAGE, copy / "tests" / "rolevault", ignore=ignored)
        file = copy / "tests" / "rolevault" / f"{module}.py"
        text = file.read_text()
        if old not in text:
            return "NOT THERE any more"
        file.write_text(text.replace(old, new, 1))
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pytest",
                    "-qx",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:xdist",
                ),
                *("--timeout=30", f"--rootdir={copy}", "-k", f"not ({SLOW})"),
                *(
                    str(path)
                    for name in RUNS[module].split()
                    for path in sorted((copy / "tests").glob(f"{name}.py"))
                ),
            ],
            cwd=copy,
            env={
                **os.environ,
                "PYTHONPATH": str(copy / "tests"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return "NOT NOTICED"
    failed = re.search(r"^FAILED tests/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return failed[1]
    return f"COULD NOT RUN: {done.stdout[-500:]}"


def main() -> int:
    narrowed = len(sys.argv) > 1
    for module in () if narrowed else RUNS:
        if (said := tests(module, "\n", "\n")) != "NOT NOTICED":
            print(f"The tests of {module} fail as it is: {said}")
            return 2
    found, survivors = list(mutants()), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, said in zip(found, pool.map(lambda each: tests(*each), found), strict=True):
            module, old, new = (re.sub(r"\s+", " ", text).strip() for text in mutant)
            survivors += said[:3].isupper()
            print(f"{module}: {old!r} -> {new!r}: {said}", flush=True)
    print(f"{len(found)} mutations, {survivors} not noticed")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
