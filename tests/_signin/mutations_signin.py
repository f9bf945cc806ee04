"""The checks of the sign-in, each broken once: see ``tests/mutations.py``."""

#: The tests that run for a change in a module.
RUNS = {
    "_signin/sts_answer": "_signin/test_answers _signin/test_lost_answers",
    "_signin/sts_call": "_signin/test_answers _signin/test_lost_answers _signin/test_mocks "
    "test_secrets",
    "_signin/fetcher": "_signin/test_mfa_session _signin/test_session_store "
    "_signin/test_renewal _signin/test_source_keys",
    "_signin/assume_role": "_signin/test_mfa_session _signin/test_mocks",
    "_signin/mfa_session": "_signin/test_mfa_session _signin/test_mocks",
    "_signin/one_time_code": "_signin/test_one_time_code _signin/test_mocks "
    "_signin/test_source_keys",
    "_signin/session_store": "_signin/test_session_store _signin/test_mocks",
    "_signin/renewal": "_signin/test_renewal",
    "_signin/source_credentials": "_signin/test_source_keys",
    "_signin/source_lookup": "_signin/test_source_keys",
    "_signin/mfa_hint": "_signin/test_source_keys",
    "_signin/source_session": "_signin/test_source_session",
    "_signin/user_fetcher": "_signin/test_user_session",
}
#: For each module: a text of it, and what replaces the text.
MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "_signin/user_fetcher": [
        ("None if self._source.is_role() else self", "self"),
    ],
    "_signin/sts_answer": [
        ("if not is_printable(credentials[name]):", "if False:"),
        ("isinstance(value, str) and _KEY", "_KEY"),
        ('re.compile(r"[!-~]+")', 're.compile(r"[!-~\\n]+")'),
        ("or end.tzinfo is None:", "or False:"),
        ("if end.timestamp() <= now:", "if False:"),
        ("> now + asked_seconds + CLOCK_SKEW_SECONDS:", "> now + 10**10:"),
        ("+ asked_seconds + CLOCK", "+ CLOCK"),
        ("CLOCK_SKEW_SECONDS = 900", "CLOCK_SKEW_SECONDS = 0"),
        ("and account != account_id:", "and False:"),
        ("if account_id and account and", "if account_id and"),
        ("    if not isinstance(arn, str):", "    if False:"),
        ('not is_printable(details.get("Code")):', "False:"),
        ('details["Message"] = ""', "pass"),
        ("    elif not isinstance(message, str):", "    elif False:"),
    ],
    "_signin/sts_call": [
        ("isinstance(raw, HTTPResponse)", "raw is not None"),
        ("self.answer_is_mocked = not self._came_from_network\n            check", "check"),
        (
            "        self.answer_is_mocked = not self._came_from_network\n        return",
            "        return",
        ),
        ("            check_refusal(error)\n", ""),
        ("            if not self._was_sent:\n                raise\n", ""),
        ("            error.args = (_UNREADABLE,)", "            pass"),
        ("error.request = error.response = None", "pass"),
        ('error.kwargs["error"] = f"', 'error.kwargs["none"] = f"'),
        ("error.args = (error.fmt", "_ = (error.fmt"),
        ("    error.__cause__ = error.__context__ = None\n", "    pass\n"),
    ],
    "_signin/fetcher": [
        ("            if mfa_session_opened:\n", "            if False:\n"),
        (
            'with self._store.sign_in_lock("device", mfa_session.key, self.role.purpose):',
            "if True:",
        ),
        ("if stored is not None and stored.keys[0] == access_key_id:", "if stored is not None:"),
        (" or self._source.is_role():\n            return\n", ":\n            return\n"),
    ],
    "_signin/assume_role": [
        ("(needs_code or mfa_not_before)", "needs_code"),
        ("self._denied_key: None}, in_memory=caller.answer_is_mocked", "self._denied_key: None}"),
        (
            "self._denied_key, _DENIED_SECONDS, in_memory=caller.answer_is_mocked",
            "self._denied_key, _DENIED_SECONDS",
        ),
    ],
    "_signin/mfa_session": [
        ("and self._keys[2] is None", ""),
        (
            "{self._entry_key: session.value}, in_memory=caller.answer_is_mocked",
            "{self._entry_key: session.value}",
        ),
        (
            "self._denied_key, _DENIED_SECONDS, in_memory=caller.answer_is_mocked",
            "self._denied_key, _DENIED_SECONDS",
        ),
    ],
    "_signin/one_time_code": [
        ("codes = {code: end for code, end in others.items() if end > now}", "codes = {}"),
        ("CODE_LIFE_SECONDS = 3 *", "CODE_LIFE_SECONDS = 2 *"),
        ("CODE_LIFE_SECONDS = 3 *", "CODE_LIFE_SECONDS = 4 *"),
        ("if caller.answer_is_mocked:", "if False:"),
        ('if error.response["Error"]["Code"] in KEY_REFUSALS:', "if False:"),
    ],
    "_signin/session_store": [
        (' + (8 if kind == "device" else 0)', ""),
        ("is not None and changes[key] is None:", "is not None and False:"),
        ("        entries.update(self._in_memory)\n", ""),
    ],
    "_signin/renewal": [
        ("        return self._renew(ask).session\n", "        return self._renew(True).session\n"),
        ("if 0 <= now - self._dropped_at", "if now - self._dropped_at"),
        (
            "                if self._signs_with(access_key_id):\n"
            "                    self._current",
            "                if True:\n                    self._current",
        ),
        ("            if self._current is current:", "            if True:"),
    ],
    "_signin/source_credentials": [
        ("if not self._read_others():", "if True:"),
        ("== before:", "== 0:"),
        ("self._found, self._identity = found, new._identity", "self._found = found"),
        ("self._identity = self._read_anew()._identity", "pass"),
        ("except BotoCoreError as error:", "except ZeroDivisionError as error:"),
    ],
    "_signin/source_lookup": [
        ("from_profile(twin(session), profile)", "from_profile(session, profile)")
    ],
    "_signin/mfa_hint": [('found.get("include_profile"), ', ""), ("or profile in seen", "")],
    "_signin/source_session": [('{**identity, "hop": upper.fetcher.key}', "identity")],
}
#: Texts whose change no test can notice, and why.
EQUIVALENT: dict[str, str] = {}
