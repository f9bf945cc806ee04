"""A real Jupyter kernel, driven as a frontend drives it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="no ipykernel here: notebooks are not tested")
manager = pytest.importorskip("jupyter_client.manager", reason="no jupyter_client here")

#: What a person can do at a prompt, other than type an answer.
INTERRUPT, NOTHING = "<interrupt>", "<nothing>"

Answer = str | Callable[[], str]


class Notebook:
    """A kernel, and the person at its frontend."""

    def __init__(self, directory: Path) -> None:
        environment = {**os.environ, "HOME": str(directory), "IPYTHONDIR": str(directory)}
        self._kernel = manager.KernelManager(
            kernel_name="python3", connection_file=str(directory / "kernel.json")
        )
        self._kernel.start_kernel(env=environment)
        self._client = self._kernel.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def close(self) -> None:
        self._client.stop_channels()
        self._kernel.shutdown_kernel(now=True)
        self._kernel.cleanup_resources()

    def move_widget(self) -> None:
        """Send what JupyterLab sends for a widget while a cell runs: two messages to a subshell."""
        session = self._client.session
        self._client.control_channel.send(session.msg("create_subshell_request", {}))
        subshell = self._client.get_control_msg(timeout=30)["content"]["subshell_id"]
        widget = {"comm_id": "w", "target_name": "widget", "data": {}}
        for kind in ("comm_open", "comm_msg"):
            message = session.msg(kind, widget)
            message["header"]["subshell_id"] = subshell
            self._client.shell_channel.send(message)

    def run(self, cell: str, *answers: Answer, allow_stdin: bool = True) -> tuple[str, list[Any]]:
        """Run a cell and type the answers to its prompts.

        :param answers: a callable does something else first, and returns the answer.
        :returns: what the cell printed, with the name and the text of its error; and its prompts.
        """
        typed = list(answers)
        asked: list[Any] = []
        printed: list[str] = []

        def answer(message: dict[str, Any]) -> None:
            asked.append(message["content"])
            given = typed.pop(0)
            text = given() if callable(given) else given
            if text == INTERRUPT:
                self._kernel.interrupt_kernel()
            elif text != NOTHING:
                self._client.input(text)

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                printed.append(content["text"])
            elif message["msg_type"] == "error":
                printed.append(f"{content['ename']}: {content['evalue']}")

        self._client.execute_interactive(
            cell, allow_stdin=allow_stdin, stdin_hook=answer, output_hook=show, timeout=60
        )
        assert typed == []
        return "".join(printed), asked
