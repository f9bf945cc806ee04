"""Prompts in a Jupyter notebook: a real ipykernel, driven as a frontend drives it. A kernel has
no terminal, and there is still a person to ask.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import PASSPHRASE, Alice
from local_sts import LocalSts, Role
from notebooks import INTERRUPT, NOTHING, Notebook


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path_factory.mktemp("notebook"))
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(kernel: Notebook, alice: Alice, role_a: Role) -> Notebook:
    """The kernel, with the environment of the test and without a passphrase in it."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("AWS_") or name == "HOME"
    }
    kernel.run(
        "import os, threading, boto3, rolevault\n"
        f"os.environ.update({environment!r})\n"
        "rolevault.uninstall(); boto3.DEFAULT_SESSION = None\n"
        f"ROLE, MFA = {role_a.arn!r}, {alice.serial!r}"
    )
    return kernel


INSTALL = "rolevault.install(ROLE, mfa_serial=MFA)"
CALL = 'print(boto3.client("sts", region_name="eu-west-1").get_caller_identity()["Account"])'


def test_cell_asks_in_the_notebook(notebook: Notebook, sts: LocalSts, alice: Alice) -> None:
    """The cell asks for the passphrase twice, hidden, and for the code, shown. The same cell asks
    nothing when it is run again.
    """
    code = alice.device.fresh_code()
    cell = f"{INSTALL}\n{CALL}"
    printed, asked = notebook.run(cell, PASSPHRASE, PASSPHRASE, code)
    assert printed == "111122223333\n"
    assert [request["password"] for request in asked] == [True, True, False]
    assert asked[2]["prompt"] == (
        "rolevault needs an MFA code to enter role Deploy of account 111122223333.\n"
        f"Code of {alice.serial}: "
    )
    assert notebook.run(cell) == ("111122223333\n", [])
    assert sts.count("GetSessionToken") == 1


def test_wrong_code_is_asked_for_again_in_the_notebook(
    notebook: Notebook, sts: LocalSts, alice: Alice
) -> None:
    """The second prompt says why the first code failed, as at a terminal."""
    code = alice.device.fresh_code()
    cell = f'rolevault.install(ROLE, mfa_serial=MFA, passphrase="{PASSPHRASE}")\n{CALL}'
    printed, asked = notebook.run(cell, "12345", code)
    assert printed == "111122223333\n"
    assert asked[1]["prompt"].startswith("A code has six digits.\nAttempt 2 of 3 ")


def test_thread_of_a_cell_asks_in_the_notebook(notebook: Notebook, alice: Alice) -> None:
    """Three threads need one sign-in. One of them asks, and all of them go on."""
    cell = (
        f'rolevault.install(ROLE, mfa_serial=MFA, passphrase="{PASSPHRASE}")\n'
        f"threads = [threading.Thread(target=lambda: {CALL}) for _ in range(3)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()"
    )
    printed, asked = notebook.run(cell, alice.device.fresh_code())
    # The lines of the three threads can mix.
    assert printed.replace("111122223333", "").split() == []
    assert printed.count("111122223333") == 3
    assert len(asked) == 1


def test_prompt_of_a_thread_ends_with_its_cell(
    notebook: Notebook, sts: LocalSts, alice: Alice
) -> None:
    """An interrupt reaches only the main thread. The next cell gets the answer to its own prompt,
    and the same call asks again.
    """
    notebook.run(
        f'rolevault.install(ROLE, mfa_serial=MFA, passphrase="{PASSPHRASE}")\n'
        "from concurrent.futures import ThreadPoolExecutor\n"
        'pool, sts = ThreadPoolExecutor(1), boto3.client("sts", region_name="eu-west-1")'
    )
    cell = 'print(pool.submit(sts.get_caller_identity).result()["Account"])'
    printed, asked = notebook.run(cell, INTERRUPT)
    assert (printed, len(asked)) == ("KeyboardInterrupt: ", 1)
    printed, asked = notebook.run('print(input("PIN? "))', "424242")
    assert (printed, [each["prompt"] for each in asked]) == ("424242\n", ["PIN? "])
    assert sts.calls == []
    assert notebook.run(cell, alice.device.fresh_code())[0] == "111122223333\n"


def test_threads_that_wait_for_a_prompt_do_not_ask_in_the_ended_cell(notebook: Notebook) -> None:
    """While the hooks of an ended cell run, ipykernel still accepts prompts."""
    notebook.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import time\n"
        "from rolevault._prompt import person\n"
        "def slow(result): time.sleep(0.2)\n"
        "go = threading.Event()\n"
        "def work(): go.wait(); return person.ask(label='Code', hidden=False)\n"
        "get_ipython().events.register('post_run_cell', slow)"
    )
    cell = (
        "pool = ThreadPoolExecutor(2)\n"
        "waits = [pool.submit(work) for _ in range(2)]\n"
        "go.set(); waits[0].result()"
    )
    printed, asked = notebook.run(cell, INTERRUPT)
    assert (printed, len(asked)) == ("KeyboardInterrupt: ", 1)
    printed, asked = notebook.run("print(input('PIN? '))", "424242")
    assert (printed, len(asked)) == ("424242\n", 1)
    printed, _ = notebook.run(
        "get_ipython().events.unregister('post_run_cell', slow)\n"
        "for each in waits: print(each.exception())"
    )
    assert printed == "the cell that asked has ended\n" * 2


def test_cell_ends_after_the_prompts_of_its_threads(notebook: Notebook) -> None:
    """The next cell can be queued already, and ipykernel crashes where two threads wait for an
    answer at the same time. (Here ipykernel looks for an answer less often.)
    """
    notebook.run(
        "import time, zmq\n"
        "from concurrent.futures import ThreadPoolExecutor, wait\n"
        "from rolevault._prompt import person\n"
        "often = zmq.select\n"
        "def seldom(*sockets): time.sleep(0.5); return often(*sockets)\n"
        "zmq.select = seldom"
    )
    _, asked = notebook.run(
        "asking = ThreadPoolExecutor(1).submit(lambda: person.ask(label='Code', hidden=False))\n"
        "wait([asking], 1)",
        NOTHING,
    )
    printed, _ = notebook.run("zmq.select = often; print(asking.done(), asking.exception())")
    assert (printed, len(asked)) == ("True the cell that asked has ended\n", 1)


def test_a_widget_ends_no_prompt(notebook: Notebook) -> None:
    """IPython fires the event for the end of a cell after the messages of widgets, too."""
    notebook.run(
        "import ipykernel, time\n"
        "from rolevault._prompt import person\n"
        "moved = []\n"
        "def opened(widget, message): widget.on_msg(moved.append)\n"
        "get_ipython().kernel.comm_manager.register_target('widget', opened)\n"
        "def work(): answers.append(person.ask(label='Code', hidden=False))\n"
        "answers = []"
    )
    printed, _ = notebook.run("print(ipykernel.version_info[0] < 7)")
    if printed == "True\n":
        pytest.skip("no subshells before ipykernel 7")

    def move_and_type() -> str:
        notebook.move_widget()
        time.sleep(0.5)
        return "123456"

    cell = "thread = threading.Thread(target=work); thread.start(); thread.join()"
    notebook.run(cell, move_and_type)
    printed, _ = notebook.run("print(answers, len(moved))")
    assert printed == "['123456'] 1\n"


def test_frontend_without_input_is_nobody_there(notebook: Notebook, sts: LocalSts) -> None:
    """nbconvert and papermill take no input: the typed error comes at once."""
    printed, asked = notebook.run(f"{INSTALL}\n{CALL}", allow_stdin=False)
    assert printed.startswith("PassphraseRequiredError: ")
    assert "this notebook's frontend takes no input" in printed
    assert asked == []
    cell = f'rolevault.install(ROLE, mfa_serial=MFA, passphrase="{PASSPHRASE}")\n{CALL}'
    printed, asked = notebook.run(cell, allow_stdin=False)
    assert printed.startswith("MfaRequiredError: ")
    assert "this notebook's frontend takes no input" in printed
    assert sts.calls == []


def test_closed_prompt_is_nobody_there(notebook: Notebook) -> None:
    """ipykernel takes Ctrl-D for the end of the input."""
    printed, _ = notebook.run(f"{INSTALL}\n{CALL}", "\x04")
    assert printed.startswith("PassphraseRequiredError: ")
    assert "the prompt was closed" in printed


def test_debugger_of_a_thread_is_back_after_its_prompt(notebook: Notebook) -> None:
    """The trace function that the thread had before sees its next lines."""
    printed, asked = notebook.run(
        "import sys\n"
        "from rolevault._prompt import person\n"
        "def before(*_): return None\n"
        "def work():\n"
        "    sys.settrace(before)\n"
        "    person.ask(label='Code', hidden=False)\n"
        "    print(sys.gettrace() is before)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()",
        "123456",
    )
    assert (printed, len(asked)) == ("True\n", 1)


def test_thread_that_outlives_its_cell_does_not_ask(notebook: Notebook, tmp_path: Path) -> None:
    """No frontend shows a prompt while no cell runs: the thread gets an error and does not hang."""
    go, said = tmp_path / "go", tmp_path / "said"
    notebook.run(
        f'rolevault.install(ROLE, mfa_serial=MFA, passphrase="{PASSPHRASE}")\n'
        "import pathlib, time\n"
        "def work():\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        f"    try: {CALL}\n"
        f"    except Exception as error: pathlib.Path({str(said)!r}).write_text(str(error))\n"
        "worker = threading.Thread(target=work); worker.start()"
    )
    go.touch()
    until = time.monotonic() + 30
    while not said.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert notebook.run("worker.join()") == ("", [])
    assert "no cell of this notebook is running" in said.read_text()
