"""
What ``rolevault.aio`` costs those who do not use it, and what it tells those
who have not installed the extra. Runs in every environment.
"""

from conftest import Python


def test_package_does_not_import_the_extra(python: Python) -> None:
    """
    ``import rolevault`` imports neither aiobotocore nor asyncio.
    """
    script = """
import sys, boto3
before = set(sys.modules)
import rolevault
new = set(sys.modules) - before
print(sorted(name for name in new if name.split(".")[0] in ("aiobotocore", "asyncio")))
print("rolevault.aio" in sys.modules)
"""
    output, errors = python(script).communicate(timeout=60)
    assert output.split("\n")[:2] == ["[]", "False"], errors


def test_missing_extra_is_named(python: Python) -> None:
    """
    Without aiobotocore, the ImportError says what to install.
    """
    script = """
import sys
sys.modules["aiobotocore"] = None
try:
    import rolevault.aio
except ImportError as error:
    print(error)
"""
    output, errors = python(script).communicate(timeout=60)
    assert "pip install 'rolevault[aio]'" in output, errors
