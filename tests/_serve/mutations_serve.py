"""The checks of the endpoint, each broken once: see ``tests/mutations.py``."""

#: The tests that run for a change in a module.
RUNS = {
    "_serve/endpoint": "_serve/test_endpoint",
    "_serve/credentials_server": "_serve/test_endpoint",
    "_serve/child_environment": "_serve/test_endpoint",
    "cli/child": "cli/test_exec_server",
}
#: For each module: a text of it, and what replaces the text.
MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "_serve/endpoint": [
        ("    if renewal.role.role_arn is None:\n", "    if False:\n"),
        ("    renewal.session(ask=True)\n", ""),
        (
            "            if pid == os.getpid():\n                shutil",
            "            if True:\n                shutil",
        ),
        (
            "        if pid == os.getpid():\n            server",
            "        if True:\n            server",
        ),
        ("            server.stop()\n", "            pass\n"),
        ("                made.uninstall()\n", "                pass\n"),
        ("os.O_EXCL, 0o600)", "os.O_EXCL, 0o644)"),
        ("        if self._installed is not None:\n", "        if False:\n"),
        ("            if os.environ.get(name):\n", "            if False:\n"),
        (
            "            if os.environ.get(name) == self._variables[name]:\n",
            "            if True:\n",
        ),
        ("                if before is not None:\n", "                if False:\n"),
        ("**self._files, ", ""),
        ("        if shadows:\n", "        if False:\n"),
        (".rpartition('/')[0]!r}", "!r}"),
    ],
    "_serve/credentials_server": [
        ('super().__init__(("127.0.0.1", 0)', 'super().__init__(("0.0.0.0", 0)'),
        ("disable_nagle_algorithm = True", "disable_nagle_algorithm = False"),
        ("            with person.nobody_asked(reason):\n", "            if True:\n"),
        ("renewal.session(ask=False)", "renewal.session(ask=True)"),
        ("        except CodeNeededError:\n", "        except KeyError:\n"),
        ("        if fact not in self._refusals:\n", "        if True:\n"),
        ('        if text not in ("", before):\n', "        if text:\n"),
        ('text = " ".join(text.split())', "pass"),
        (" and len(self._connections) < _MOST_CLIENTS", ""),
        ("        self._connections.discard(request)\n", ""),
        ("                each.shutdown(socket.SHUT_RDWR)\n", "                pass\n"),
        ('if self.headers.get_all("Host", []) != [server.host]:', "if False:"),
        (
            'if self.headers.get_all("Host", []) != [server.host]:',
            'if self.headers.get("Host") != server.host:',
        ),
        ("elif not _are_equal([self.path], server.path):", "elif False:"),
        ("return len(values) == 1 and hmac", "return len(values) >= 1 and hmac"),
        (
            "hmac.compare_digest(values[0].encode(), expected.encode())",
            "hmac.compare_digest(values[0], expected)",
        ),
        ("hmac.compare_digest(values[0].encode(), expected.encode())", "True"),
        (
            "        except (BotoCoreError, ClientError, OSError) as",
            "        except BotoCoreError as",
        ),
        ("        if code == 501:\n", "        if False:\n"),
        ('            self._refuse(400, "it is no HTTP")', "            super().send_error(code)"),
        ('            "Cache-Control: no-store\\r\\n"\n', ""),
        ('"""Log nothing: what a stranger sends does not belong on the terminal."""', "super()"),
        ("len(head) > _MOST_HEAD or ", ""),
        (' or (is_whole and b" HTTP/1." not in line)', ""),
        (
            "        if not received:\n            return None",
            "        if not received:\n            return head",
        ),
        (
            "        except TimeoutError:\n            return None",
            "        except TimeoutError:\n            return head",
        ),
        ("        each.abandon()\n", "        pass\n"),
        ("secrets.token_urlsafe(16)", "'x'"),
        ("secrets.token_urlsafe(32)", "'x' * 43"),
    ],
    "_serve/child_environment": [
        ('    "AWS_ACCESS_KEY_ID",\n', ""),
        ('    "AWS_WEB_IDENTITY_TOKEN_FILE",\n', ""),
        ('    "AWS_PROFILE",\n', ""),
        ("    RELATIVE_URI,\n", ""),
        ('and not name.startswith("ROLEVAULT_PASSPHRASE")', ""),
        ("        and name not in _BESIDE\n", ""),
        ('        "aws_access_key_id",\n', ""),
        ('        "role_arn",\n', ""),
        ('        "credential_process",\n', ""),
        ("if name in _KEPT}", "}"),
        ("    if services is not None:\n", "    if False:\n"),
        ("        if isinstance(value, Mapping):\n", "        if False:\n"),
        ('if "AWS_PROFILE" not in found and has', "if has"),
    ],
    "cli/child": [
        ("        elif not _comes_from_keyboard(number):\n", "        else:\n"),
        ("        return os.tcgetpgrp(terminal) == os.getpgrp()", "        return False"),
        (" and signal.getsignal(number) is not signal.SIG_IGN", ""),
        ("return 128 - code if code < 0 else code", "return code"),
        (
            "    except OSError:\n        return False\n    try",
            "    except OSError:\n        return True\n    try",
        ),
    ],
}
#: Texts whose change no test can notice, and why.
EQUIVALENT: dict[str, str] = {}
