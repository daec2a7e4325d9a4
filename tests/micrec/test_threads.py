"""However many threads are asked for, a machine is not asked for more than it bears."""

import subprocess
import sys

import pytest

CODE = """
import os, torch
from micrec.threads import use_threads
use_threads({count})
torch.rand(2_000, 500) @ torch.rand(500, 300)
print(torch.get_num_threads(), 8 * os.cpu_count())
"""


@pytest.mark.parametrize("count", [1, 2, 1_000, 10_000])
def test_what_is_asked_up_to_eight_a_core(count):
    done = subprocess.run([sys.executable, "-c", CODE.format(count=count)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used, most = map(int, done.stdout.split())
    assert used == min(count, most)
