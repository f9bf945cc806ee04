"""The checks of threads, tasks and forks, each broken once: see ``tests/mutations.py``."""

#: The tests that run for a change in a module.
RUNS = {
    "__init__": "test_imports _concurrency/test_forks",
    "_concurrency/single_flight": "_concurrency/test_single_flight _concurrency/test_forks",
    "_concurrency/fork_lock": "_concurrency/test_forks _concurrency/test_single_flight",
}
#: For each module: a text of it, and what replaces the text.
MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "__init__": [
        ('if name not in __all__ and name != "errors":', "if name not in __all__:"),
        ("    with IMPORT_LOCK:\n", "    if True:\n"),
        ("sorted({*globals(), *__all__})", "sorted(globals())"),
    ],
    "_concurrency/single_flight": [
        ("if current.owner == threading.get_ident():", "if False:"),
        ("timeout=max(0.0, until - time.monotonic())", "timeout=max(0.0, 10**6)"),
        ("                current.lock.release()\n", ""),
        ("                if current.error is not None:\n", "                if False:\n"),
        ("                if current.succeeded:\n", "                if True:\n"),
        ("                mine.succeeded = True\n", ""),
        ("                mine.error = error\n", "                pass\n"),
        ("self._calls.pop(key, None)", "pass"),
        ("self._calls.pop(key, None)", "del self._calls[key]"),
        ("if call is None or not call.lock.locked():", "if call is None:"),
        ("        self._calls = {}\n\n\n_all", "        pass\n\n\n_all"),
        ("    os.register_at_fork(after_in_child=_after_fork_in_child)", "    pass"),
        ("        with mine.lock:\n", "        if True:\n"),
        ("WAIT_SECONDS = 120.0", "WAIT_SECONDS = 1.0"),
    ],
    "_concurrency/fork_lock": [
        ("import logging  # noqa: F401", "# "),
        ("        _all_fork_locks.add(self)\n", ""),
        ("    OPENSSL_LOCK.acquire()\n", "    pass\n"),
        ("    IMPORT_LOCK.acquire()\n", "    pass\n"),
        ("    OPENSSL_LOCK.release()\n", "    pass\n"),
        ("    IMPORT_LOCK.release()\n", "    pass\n"),
        ("        each.lock = threading.RLock()\n", "        pass\n"),
        ("        before=_before_fork,\n        after_in_parent=_after_fork,\n", ""),
    ],
}
#: Changes that no test can notice, each with the reason.
EQUIVALENT: dict[str, str] = {}
