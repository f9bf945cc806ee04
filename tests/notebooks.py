"""
A real Jupyter kernel, driven as a frontend drives it.
"""

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="no ipykernel here: notebooks are not tested")
manager = pytest.importorskip("jupyter_client.manager", reason="no jupyter_client here")

#: What a person does at a prompt beside typing an answer.
INTERRUPT, NOTHING = "<interrupt>", "<nothing>"


class Notebook:
    """A kernel, and the person before its frontend."""

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

    def run(self, cell: str, *answers: str, allow_stdin: bool = True) -> tuple[str, list[Any]]:
        """
        Run a cell, type the answers to what it asks; what it printed, with the
        name and text of the error that ended it, and what it asked.
        """
        typed = list(answers)
        asked: list[Any] = []
        printed: list[str] = []

        def answer(message: dict[str, Any]) -> None:
            asked.append(message["content"])
            text = typed.pop(0)
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
