"""What all tests share: a test that needs a program says so, and CI has every program.

``@pytest.mark.needs("swaks")`` skips the test on a machine without swaks.  Under CI (the variable
``CI`` is set) the same is a failure, so that no test is left out unseen.  A name that begins with a
slash is a file, such as a library of another language.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest


def missing_programs(item: pytest.Item) -> list[str]:
    """Return the programs that ``item`` needs and this machine has not."""
    wanted = [name for mark in item.iter_markers("needs") for name in mark.args]
    return sorted({name for name in wanted if not _is_there(name)})


def _is_there(name: str) -> bool:
    return os.path.exists(name) if name.startswith("/") else shutil.which(name) is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or under CI fail, where a program is missing."""
    missing = missing_programs(item)
    if missing:
        reason = f"needs {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI is to install every program that a test needs", False)
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _working_directory() -> Iterator[None]:
    """Let trial's ``mktemp``, which goes by the working directory, leave nothing in the tree."""
    with tempfile.TemporaryDirectory(prefix="mailsvc-tests-") as path, contextlib.chdir(path):
        yield
