"""The checks of the rooms inside boto3, each broken once: see ``tests/mutations.py``."""

#: The tests that run for a change in a module.
RUNS = {
    "_boto/install": "_boto/test_install _boto/test_sessions _boto/test_which_sessions "
    "_signin/test_ensure _signin/test_source_session _roles/test_options",
    "_boto/installation": "_boto/test_which_sessions _boto/test_install _boto/test_sessions "
    "_boto/test_precedence _signin/test_source_session",
    "_boto/provider": "_boto/test_precedence _boto/test_sessions _boto/test_next_botocore "
    "_boto/test_which_sessions _boto/test_install _boto/test_refused_keys "
    "_signin/test_source_session",
    "_boto/takeover": "_boto/test_install _boto/test_which_sessions _boto/test_sessions "
    "_boto/test_refused_keys",
    "_boto/default_session": "_boto/test_install _boto/test_which_sessions _boto/test_sessions "
    "_signin/test_source_session _signin/test_ensure _roles/test_profile_errors",
    "_boto/refused_keys": "_boto/test_refused_keys _boto/test_refusal_codes",
    "_boto/credentials": "_boto/test_signing _boto/test_next_botocore _boto/test_botocore_rules "
    "_boto/test_sessions test_secrets",
}
#: For each module: a text of it, and what replaces the text.
MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "_boto/install": [
        ("        check_session(session, options)\n", ""),
        ("        check_options(role_arn, options)\n        installed", "        installed"),
        ("target_is_default = session in (None, default_before)", "target_is_default = True"),
        (
            "target_is_default = session in (None, default_before)",
            "target_is_default = not session",
        ),
        ("default_before = installed.default_before", "pass"),
        ("        if is_async(inner):\n", "        if False:\n"),
        ("and installed.is_up_to_date(candidate, request)", "and False"),
        (
            "and (candidate is session or suits(candidate, options))",
            "and suits(candidate, options)",
        ),
        ("and (candidate is session or suits(candidate, options))", ""),
        ("*_uncompared(options))", ")"),
        ("(session, all_sessions, role,", "(session, role,"),
        ("(session, all_sessions, role,", "(all_sessions, role,"),
        ("        uninstall()\n        Installation(", "        Installation("),
        ("if (installed := active()) is not None:", "if False:"),
        ("return active() is not None", "return True"),
        ("if not isinstance(credentials, RoleCredentials):", "if credentials is None:"),
        ("    check_session(session, {})\n", ""),
        ('if credentials is not None and credentials.method == "explicit":', "if False:"),
        ("    if not installed.applies_to(session):", "    if False:"),
        ("if installed.role.is_from_profile and credentials is not None:", "if False:"),
        ("id(value) if callable(value) else value", "value if callable(value) else value"),
        (
            '(options.get("mfa_callback"), options.get("passphrase"))',
            '(options.get("passphrase"),)',
        ),
        (
            '(options.get("mfa_callback"), options.get("passphrase"))',
            '(options.get("mfa_callback"),)',
        ),
    ],
    "_boto/installation": [
        ("        _remember_source(self.role)\n        _observe", "        _observe"),
        ("        _observe_new_sessions(True)\n", ""),
        ("        _observe_new_sessions(False)\n", ""),
        ("        if self.target_is_default:\n", "        if True:\n"),
        ("            self.in_force = False\n", ""),
        ("restore_chain(session, original, partial(_chain_for, session, UNRESOLVED))", "pass"),
        ("and boto3.DEFAULT_SESSION is self.target", ""),
        ("            boto3.DEFAULT_SESSION = self.default_before\n", "            pass\n"),
        ("        _active = None\n", "        pass\n"),
        (
            (
                "        if session is target or not self.in_force:\n"
                "            return self.in_force\n"
            ),
            "",
        ),
        ("        if session in _source_sessions:\n            return False\n", ""),
        ("not in (None, self.role.profile, target", "not in (None, target"),
        ('target.instance_variables().get("profile")):', "):"),
        ("            return False\n        default =", "            pass\n        default ="),
        ("is_default = is_default or session in _default_sessions", "pass"),
        ("(is_default and self.target_is_default)", "is_default"),
        ("return self.all_sessions or", "return"),
        ("(found is None or found.method == METHOD)", "True"),
        ("inner in self.originals and", ""),
        ("and (has_role or has_own_keys)", "and has_role"),
        ("return self.request == request and", "return"),
        (
            "        if original.has_own_keys:\n            logger",
            "        if False:\n            logger",
        ),
        ("    _remember_source(role)\n    original", "    original"),
        ("    if not is_async(session):\n", "    if True:\n"),
        ("        if _is_made_by_setup():\n", "        if False:\n"),
        ("        if _is_made_by_setup():\n", "        if True:\n"),
        (
            "if installation is None or not installation.applies_to(session):",
            "if installation is None:",
        ),
        ("installation.originals.setdefault(session, UNRESOLVED)", "pass"),
        ("lambda: installation.in_force)", "lambda: True)"),
    ],
    "_boto/provider": [
        ("            if self._is_loading:\n", "            if False:\n"),
        ("                    self._is_loading = False\n", "                    pass\n"),
        ("            if not self._is_wanted():\n", "            if False:\n"),
        ("RefusedKeyRetry(self._credentials.renewal).register(self._session)", "pass"),
        ("            if self._credentials is None:\n", "            if True:\n"),
        (
            'if not role.is_from_profile or "assume-role" not in methods:',
            "if not role.is_from_profile:",
        ),
        (
            'if not role.is_from_profile or "assume-role" not in methods:',
            'if "assume-role" not in methods:',
        ),
        ("    if role.profile_is_explicit:\n", "    if False:\n"),
        ("    if role.profile_is_explicit:\n", "    if True:\n"),
        ('chain.insert_before("assume-role", provider)', "chain.providers.append(provider)"),
        ("if not isinstance(each, RoleVaultProvider)]", "]"),
        ('if getattr(chain.load_credentials, "__func__", None) is', "if True or None is"),
    ],
    "_boto/takeover": [
        ("if isinstance(make, _LazyChain) and make.is_deferred:", "if False:"),
        ('self.credentials.method == "explicit"', "True"),
        ("            if self._chain is None:\n", "            if True:\n"),
        ("    remember_original(session)\n    _replace", "    _replace"),
        ("    _botocore_private.set_resolved(session, None)\n", ""),
        ("        session.register_component(_ORIGINAL, original)\n", ""),
        ("    RefusedKeyRetry.unregister(session)\n    has", "    has"),
        (
            "set_resolved(session, own_keys or original.credentials)",
            "set_resolved(session, original.credentials)",
        ),
        (
            "set_resolved(session, own_keys or original.credentials)",
            "set_resolved(session, own_keys)",
        ),
        ("if has_own_keys else None\n    if", "\n    if"),
        ("    if isinstance(original.credentials, RoleCredentials):\n", "    if False:\n"),
        ("    if original.chain is not None:\n", "    if False:\n"),
        ("    elif original.make is not None:\n", "    elif False:\n"),
    ],
    "_boto/default_session": [
        (
            '    if session is options.get("source_session"):\n        rule',
            "    if False:\n        rule",
        ),
        ("    if isinstance(session, boto3.Session):\n", "    if True:\n"),
        ("        if not is_async(inner):\n", "        if True:\n"),
        ('if options.get("region_name") in (None, session.region_name):', "if True:"),
        ('    return "<not shown>" if hidden', '    return "<not shown>" if False'),
        ('    if session is options.get("source_session"):\n        return False\n', ""),
        ("profile in (None, session.profile_name) and", ""),
        ("and region in (None, session.region_name)", ""),
        ("return has_own_keys or as_asked", "return as_asked"),
        ("        if suits(default, options):\n", "        if True:\n"),
        ('profile or own.get("profile"),', "profile,"),
        (', region or own.get("region")', ", region"),
        ("        check_readable(botocore.session.Session())\n", ""),
    ],
    "_boto/refused_keys": [
        ('EC2_REFUSAL = ("AuthFailure", 401)', 'EC2_REFUSAL = ("AuthFailure", 400)'),
        ('    "TokenRefreshRequired": "S3",\n', ""),
        ("            self.unregister(session)\n", ""),
        (
            ('            session.unregister("needs-retry", unique_id="rolevault-needs-retry")\n'),
            "",
        ),
        (
            ('header.decode("ascii", "replace") if isinstance(header, bytes) else str(header)'),
            "str(header)",
        ),
        ("if key is None and isinstance(request.data, dict):", "if False:"),
        ("if response is None or context", "if context"),
        ("context.get(_KEY) is None or", ""),
        ("or context.get(_RESENT):", ":"),
        ("        context[_RESENT] = True\n", ""),
        (
            (
                "            if not renewal.drop_refused_key(context[_KEY]):\n"
                "                return None"
            ),
            "            renewal.drop_refused_key(context[_KEY])",
        ),
        (
            "        except Exception as error:  # noqa: BLE001  the caller",
            "        except KeyError as error:  # noqa: BLE001  the caller",
        ),
        ('        if not _can_rewind(request.get("body")):\n', "        if False:\n"),
        ("if http.status_code < 400 or", "if"),
        ("    if (code, http.status_code) == EC2_REFUSAL:\n", "    if code == EC2_REFUSAL[0]:\n"),
        (
            "is_about_argument = code in _TOKENS and code in declared",
            "is_about_argument = code in declared",
        ),
        (
            "is_about_argument = code in _TOKENS and code in declared",
            "is_about_argument = code in _TOKENS",
        ),
        ("return not is_about_argument or _ABOUT", "return _ABOUT"),
        (
            'return not is_about_argument or _ABOUT_THE_KEY in str(error.get("Message"))',
            "return not is_about_argument",
        ),
        ("http.status_code == 400 and operation", "operation"),
        ('and operation.http.get("method") == "HEAD"', ""),
        ("        body.seek(0)\n", "        pass\n"),
    ],
    "_boto/credentials": [
        ("        renewal.on_renewed = self._show_expiry\n", ""),
        ("return self.renewal.frozen(ask=True)", "return self.renewal.frozen(ask=False)"),
        ("return self.renewal.refresh_needed(refresh_in)", "return False"),
        ('return f"RoleCredentials({self.renewal.role.name!r})"', "return repr(self.token)"),
        (
            '        raise TypeError(\n            "The cred',
            '        raise ValueError(\n            "The cred',
        ),
        ("_botocore_private.set_expiry(self, expires)", "pass"),
        ("(self.renewal.expires or _PAST).isoformat()", "_PAST.isoformat()"),
    ],
}
#: Changes that no test can notice, each with the reason.
EQUIVALENT: dict[str, str] = {
    'header.decode("ascii", "replace") if isinstance(header, bytes) else str(header)': (
        "the key is found in the repr of bytes, too; only python -b warns"
    ),
    "context.get(_KEY) is None or": "a renewal knows no key None; the check saves its lock",
}
