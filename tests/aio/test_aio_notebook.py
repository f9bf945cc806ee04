"""``rolevault.aio`` in a Jupyter notebook: a thread asks, and its prompt belongs to a cell."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Alice
from local_iam import Role
from notebooks import INTERRUPT, NOTHING, Notebook

pytest.importorskip("aiobotocore", reason="aiobotocore pins botocore: run `make aio`")


@pytest.fixture
def notebook(
    tmp_path: Path, role_a: Role, alice: Alice, moto: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Notebook]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    notebook = Notebook(tmp_path)
    notebook.run(
        f"""
import asyncio, rolevault.aio, s3fs
def session(role):
    return rolevault.aio.session(
        role, mfa_serial={alice.serial!r}, mfa_session_seconds=0, region_name="us-east-1"
    )
files = s3fs.S3FileSystem(session=session({role_a.arn!r}))
"""
    )
    yield notebook
    notebook.close()


LOOK = 'print(files.exists("nowhere"))'


def test_notebook_is_asked_in_its_cell(notebook: Notebook, role_b: Role, alice: Alice) -> None:
    """The prompt appears in the cell that needs the code: from s3fs, whose loop runs in another
    thread, and from a top-level ``await``.
    """
    write = """
files.mkdir("notebook")
files.pipe_file("notebook/cell", b"text")
print(files.cat_file("notebook/cell"))
"""
    printed, asked = notebook.run(write, alice.device.fresh_code())
    assert printed == "b'text'\n"
    assert ["Deploy" in each["prompt"] for each in asked] == [True]
    call = f"""
async with session({role_b.arn!r}).create_client("sts") as sts:
    print((await sts.get_caller_identity())["Account"])
"""
    printed, asked = notebook.run(call, alice.device.fresh_code())
    assert printed == f"{role_b.account}\n"
    assert ["Audit" in each["prompt"] for each in asked] == [True]


def test_prompt_ends_with_an_interrupted_cell(notebook: Notebook, alice: Alice) -> None:
    """A person stops the cell and types no code: the next cell asks again."""
    printed, asked = notebook.run(LOOK, INTERRUPT)
    assert ("KeyboardInterrupt" in printed, len(asked)) == (True, 1)
    printed, asked = notebook.run(LOOK, alice.device.fresh_code())
    assert (printed, len(asked)) == ("False\n", 1)


def test_prompt_ends_with_a_cell_that_timed_out(
    notebook: Notebook, role_b: Role, alice: Alice
) -> None:
    """The task that needs the code times out, without an interrupt: the next cell asks again."""
    call = f"""
async with session({role_b.arn!r}).create_client("sts") as sts:
    print((await asyncio.wait_for(sts.get_caller_identity(), SECONDS))["Account"])
"""
    printed, asked = notebook.run(call.replace("SECONDS", "1"), NOTHING)
    assert ("TimeoutError" in printed, len(asked)) == (True, 1)
    printed, asked = notebook.run(call.replace("SECONDS", "30"), alice.device.fresh_code())
    assert (printed, len(asked)) == (f"{role_b.account}\n", 1)
