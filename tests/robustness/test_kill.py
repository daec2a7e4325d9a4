"""A few kills; more by ``python tests/robustness/kill.py --kills 40``."""

import random

import pytest

from tests.robustness.kill import jobs, try_kills


@pytest.mark.parametrize("name", ["convert", "train", "run"])
def test_a_killed_command_goes_on(materials, tmp_path, name):
    assert try_kills(name, jobs(materials)[name], tmp_path / name, 2, random.Random(name)) == []
