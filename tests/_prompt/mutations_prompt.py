"""The checks of the prompts, each broken once: see ``tests/mutations.py``."""

#: The tests that run for a change in a module.
RUNS = {
    "_prompt/command": "_prompt/test_command _prompt/test_mfa_code",
    "_prompt/mfa_code": "_prompt/test_mfa_code _prompt/test_command _prompt/test_nobody_asked "
    "_signin/test_one_time_code",
    "_prompt/person": "_prompt/test_nobody_asked _prompt/test_terminal "
    "_prompt/test_passphrase_prompt _prompt/test_command",
    "_prompt/notebook": "_prompt/test_notebook",
    "_prompt/tty": "_prompt/test_terminal _prompt/test_passphrase_prompt",
}
#: For each module: a text of it, and what replaces the text.
MUTATIONS: dict[str, list[tuple[str, str]]] = {
    "_prompt/command": [
        ("TIMEOUT_SECONDS = 30.0", "TIMEOUT_SECONDS = 10**6"),
        ("_OUTPUT_LIMIT = 64 * 1024", "_OUTPUT_LIMIT = 64 * 10**6"),
        ('if not k.startswith("ROLEVAULT_PASSPHRASE")}', "}"),
        ('{**inherited, "ROLEVAULT_NESTED": "1"}', "{**inherited}"),
        ("    if not argv:\n", "    if False:\n"),
        ("            outcome.set_exception(error)", "            raise"),
        (
            "        except ValueError as error:\n            raise Comm",
            "        except KeyError as error:\n            raise Comm",
        ),
        ("            stop.set()\n", "            pass\n"),
        ("    except (OSError, ValueError) as error:\n", "    except OSError as error:\n"),
        ("    except (OSError, ValueError) as error:\n", "    except ValueError as error:\n"),
        ("and not stop.wait(0.01)", "and not time.sleep(0.01)"),
        ("        _kill(process.pid)\n        with", "        with"),
        ("stdin=terminal or subprocess.DEVNULL", "stdin=terminal"),
        ("stdin=terminal or subprocess.DEVNULL", "stdin=subprocess.DEVNULL"),
        ("limited=True)", "limited=False)"),
        ("shown_on=terminal)", "shown_on=None)"),
        ("    output.finish()\n", ""),
        ("    errors.finish()\n", ""),
        ("    if late:\n        raise", "    if False:\n        raise"),
        ("    if output.overflowed:\n", "    if False:\n"),
        ("    if process.returncode:\n", "    if False:\n"),
        ("    if not output.data:\n", "    if False:\n"),
        ("                    del self.data[:-_OUTPUT_LIMIT]\n", "                    pass\n"),
        ("self.overflowed = len(self.data) > _OUTPUT_LIMIT", "pass"),
        ("        self.join(1)\n", "        self.join(10**6)\n"),
        ("        self.join(1)\n", ""),
        ("strip()[-500:]", "strip()"),
        ("                    _kill(int(child))\n", "                    pass\n"),
        ("env=environment(),", "env=None,"),
    ],
    "_prompt/mfa_code": [
        ("    if reason := person.why_nobody_is_asked():\n", "    if reason := None:\n"),
        ("        if not isinstance(answer, str):\n", "        if False:\n"),
        ('return "".join(answer.split())\n\n\ndef is', "return answer\n\n\ndef is"),
        ('r"[0-9]{6}"', 'r"[0-9]+"'),
        ('r"[0-9]{6}"', 'r"\\d{6}"'),
        ('        if is_code("".join(answer.split())):\n', "        if True:\n"),
        (
            'program = "mfa_process" if for_shell else os.path.basename(argv[0])',
            "program = argv[0]",
        ),
        (
            '    except NotTextError:\n        return ""',
            '    except ZeroDivisionError:\n        return ""',
        ),
        ("    if request.attempt == 1:\n", "    if True:\n"),
    ],
    "_prompt/person": [
        ("_silence = threading.local()", "_silence = type('', (), {})()"),
        ("        _silence.reason = before\n", "        _silence.reason = None\n"),
        ("    global _interrupted_at\n    _check_asking()\n", "    global _interrupted_at\n"),
        ("    _check_asking()\n    return", "    return"),
        ('    if os.environ.get("ROLEVAULT_NESTED"):\n', "    if False:\n"),
        ("timeout=PATIENCE_SECONDS", "timeout=10**6"),
        ("        if began < _interrupted_at:\n", "        if False:\n"),
        ("        _interrupted_at = time.monotonic()\n", "        pass\n"),
        ("        _prompt_lock.lock.release()\n", "        pass\n"),
        ("c if c.isprintable() else", "c if True else"),
        ("        answer.encode()\n", ""),
    ],
    "_prompt/notebook": [
        ('return getattr(shell, "kernel", None) is not None', "return False"),
        ("    if threading.current_thread() is threading.main_thread():\n", "    if True:\n"),
        ('        if message["msg_type"] == "execute_request":\n', "        if True:\n"),
        ("            cell_ended.set()\n", "            pass\n"),
        ("            _ended_cell = message", "            _ = message"),
        ("        sys.settrace(trace)\n", "        pass\n"),
        ("class _CellEndedError(BaseException)", "class _CellEndedError(Exception)"),
        ("        sys.settrace(trace_before)\n", "        pass\n"),
        ('shell.events.unregister("post_execute", end_prompt)', "pass"),
        ('    if builtins.input.__module__ == "builtins":\n', "    if False:\n"),
        ("    except NotImplementedError:", "    except ZeroDivisionError:"),
        ("    except EOFError:", "    except ZeroDivisionError:"),
    ],
    "_prompt/tty": [
        (
            "        _check_foreground(tty)\n    except NobodyThereError:",
            "        pass\n    except NobodyThereError:",
        ),
        ("        tty.close()\n        raise", "        raise"),
        ("        _blocked_signals(signal.SIGTTIN, signal.SIGTTOU),\n", ""),
        ("        _terminal_lock(),\n", ""),
        ("            _interrupt_process_group()\n            raise", "            raise"),
        (
            "        except (OSError, termios.error):\n            _check",
            "        except ZeroDivisionError:\n            _check",
        ),
        ("    if not in_foreground:\n", "    if False:\n"),
        ("self._modes[0] |= termios.ICRNL", "pass"),
        ("| termios.ISIG |", "|"),
        ("termios.ICANON | termios.ISIG", "termios.ISIG"),
        ("self._modes[3] & ~termios.ECHO | termios.ECHONL", "self._modes[3]"),
        ("| termios.ECHONL", "| 0"),
        ('b"" if self._is_main_thread else self._let_ctrl_c_end_the_line()', 'b""'),
        ("        atexit.register(self._restore_modes)\n", ""),
        ("                    handled.append(number)\n", ""),
        ("if signal.getsignal(number) is signal.SIG_DFL:", "if True:"),
        ("            self._restore_modes()\n            for", "            for"),
        ("signal.signal(number, signal.SIG_DFL)\n            atexit", "pass\n            atexit"),
        ("            if key == self._interrupt:\n", "            if False:\n"),
        ("        if not line:\n", "        if False:\n"),
        (
            "termios.tcsetattr(self._tty, termios.TCSAFLUSH, self._modes)",
            "termios.tcsetattr(self._tty, termios.TCSANOW, self._modes)",
        ),
        (
            "self._tty, termios.TCSAFLUSH, self._modes_before",
            "self._tty, termios.TCSANOW, self._modes_before",
        ),
        (
            "            if _is_in_foreground(self._tty):\n                # TCS",
            "            if True:\n                # TCS",
        ),
        (
            (
                "        self._restore_modes()\n"
                "        signal.signal(number, signal.SIG_DFL)\n"
                "        signal.raise"
            ),
            "        signal.signal(number, signal.SIG_DFL)\n        signal.raise",
        ),
        ("        signal.raise_signal(number)\n", ""),
        ("        signal.signal(number, self._on_signal)\n        if _is", "        if _is"),
        ("        if _is_in_foreground(self._tty):\n            self._show()", "        pass"),
        ("    with _blocked_signals(signal.SIGINT):\n", "    if True:\n"),
        ("signal.pthread_sigmask(signal.SIG_SETMASK, before)", "pass"),
        ("            _lock(device)\n", ""),
        ("stack.callback(fcntl.flock, device, fcntl.LOCK_UN)", "pass"),
        (
            "            if time.monotonic() > until:\n                raise",
            "            if False:\n                raise",
        ),
    ],
}
#: Changes that no test can notice, each with the reason.
EQUIVALENT: dict[str, str] = {
    "    with _blocked_signals(signal.SIGINT):\n": (
        "Linux gives a signal of the process to its main thread first; other systems may not"
    ),
}
