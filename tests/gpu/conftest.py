"""The device of these tests: CUDA, or the CPU for a dry run of the tests themselves."""

import os
from collections.abc import Iterator

import pytest
import torch

from micrec.data.dataset import Dataset
from tests.gpu.twins import large_catalogue

DEVICE = os.environ.get("MICREC_TEST_DEVICE", "cuda")


@pytest.fixture(scope="session")
def device() -> Iterator[str]:
    """``cuda``; skips where there is none, unless ``MICREC_TEST_DEVICE=cpu`` asks for a dry run."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here: run these on a machine with one, or MICREC_TEST_DEVICE=cpu for a dry run")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False  # products in float32, as on a CPU
    yield DEVICE
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """More items than a step may need."""
    return large_catalogue(tmp_path_factory.mktemp("data"))
