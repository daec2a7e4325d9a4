"""Sound inputs, made once for all tests of this folder that one process runs."""

from pathlib import Path

import pytest

from tests.robustness.materials import make_materials


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the inputs that are broken or worked on; nobody writes into it."""
    return make_materials(tmp_path_factory.mktemp("robustness") / "materials")
