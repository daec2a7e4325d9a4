"""A few kills; more by ``python tests/robustness/kill.py --kills 40``."""

import random

import pytest

from tests.robustness.kill import jobs, try_kills
from tests.robustness.materials import make_materials


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    return make_materials(tmp_path_factory.mktemp("robustness") / "materials")


@pytest.mark.parametrize("name", ["convert", "train", "run"])
def test_a_killed_command_goes_on(materials, tmp_path, name):
    assert try_kills(name, jobs(materials)[name], tmp_path / name, 2, random.Random(name)) == []
