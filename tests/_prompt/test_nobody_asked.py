"""A thread that works for somebody else asks nobody: no person, no callback and no command."""

import threading
from pathlib import Path

import pytest

from conftest import PASSPHRASE
from rolevault import MfaRequest, MfaRequiredError, PassphraseRequiredError, Vault
from rolevault._prompt import person
from rolevault._prompt.mfa_code import ask_for_code
from rolevault._prompt.prompt_errors import NobodyThereError
from rolevault._vault.key_cache import data_keys

REQUEST = MfaRequest("arn:aws:iam::999988887777:mfa/alice", "to enter role Deploy", 1, None)


def test_neither_person_nor_callback_is_asked() -> None:
    """In the block each way to an answer gives the reason. After the block all is as before."""
    with person.nobody_asked("a program asks"):
        for act in (lambda: person.ask(label="Code", hidden=False), person.open_terminal):
            with pytest.raises(NobodyThereError, match="a program asks"):
                act()
        for callback in (lambda request: "123456", ["echo", "123456"], "echo 123456", None):
            with pytest.raises(MfaRequiredError, match="a program asks"):
                ask_for_code(REQUEST, callback)
        with person.nobody_asked("inside"):
            assert person.why_nobody_is_asked() == "inside"
        assert person.why_nobody_is_asked() == "a program asks"
    assert ask_for_code(REQUEST, lambda request: "123456") == "123456"


def test_other_threads_ask() -> None:
    """The block concerns its own thread."""
    answers: list[str] = []

    def ask() -> None:
        answers.append(ask_for_code(REQUEST, lambda request: "123456"))

    with person.nobody_asked("a program asks"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert answers == ["123456"]


@pytest.mark.parametrize("is_new", [True, False])
def test_passphrase_is_not_asked_for(path: Path, is_new: bool) -> None:
    """A thread that asks nobody does not wait for the thread that is asking, and does not take
    the answer away from it.
    """
    if not is_new:
        Vault(path, PASSPHRASE)["a"] = {"n": 1}
    asked, may_answer, calls, outcomes = threading.Event(), threading.Event(), [], []

    def answer() -> str:
        calls.append(1)
        asked.set()
        assert may_answer.wait(60)
        return PASSPHRASE

    def use() -> None:
        vault = Vault(path, answer)
        vault.open()
        outcomes.append(vault.copy())

    thread = threading.Thread(target=use)
    thread.start()
    assert asked.wait(60)
    with person.nobody_asked("a program asks"):
        with pytest.raises(PassphraseRequiredError, match="a program asks"):
            Vault(path, answer).open()
        may_answer.set()
        thread.join()
        assert outcomes == [{} if is_new else {"a": {"n": 1}}]
        # What is known needs no question.
        Vault(path, answer).open()
    assert len(calls) == 1


def test_what_is_configured_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase that stands in the environment asks nobody."""
    Vault(path, PASSPHRASE)["a"] = {"n": 1}
    data_keys._keys.clear()
    monkeypatch.setenv("ROLEVAULT_PASSPHRASE", PASSPHRASE)
    with person.nobody_asked("a program asks"):
        assert Vault(path)["a"] == {"n": 1}
