"""One thread per test process, and tests shared out so that all processes end together."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

# Read when torch, faiss, the BLAS libraries and Polars load: sizes are tiny, and several threads on a busy machine wait
# for each other.
os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = "1"
os.environ.pop("COLUMNS", None)  # pytest-xdist tells its workers 80: output is as wide as where no terminal says so


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under ``pytest -n``: half of the tests in a row for each process, so that what a file needs is made once.

    Who is done first takes over from the other.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture(autouse=True)
def _extensions_of_the_test_alone() -> Iterator[None]:
    """What a test registers ends with it: worker processes of later tests would import its module, and torch."""
    from micrec import registry

    before = dict(registry._EXTENSIONS)
    yield
    registry._EXTENSIONS.clear()
    registry._EXTENSIONS.update(before)
