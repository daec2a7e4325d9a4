"""What the worlds of an experiment take, told before they run: memory against the kernel, time worked by hand."""

import subprocess
import sys

import pytest

from abtest.online import needs, parallel
from abtest.online.needs import PacedWorlds, world_process_memory
from abtest.online.simulate import EXPERIMENT, WARM_UP, Simulation
from micrec.progress import NoProgress
from tests.abtest.online.tiny_runs import tiny

MEASURED = """
import sys
from pathlib import Path
from abtest.online.needs import world_process_memory
from abtest.online.simulate import EXPERIMENT, Simulation, simulate
from tests.abtest.online.tiny_runs import tiny

scenario = tiny(*sys.argv[2:])
simulate(scenario, Path(sys.argv[1]), Simulation("main", 0, EXPERIMENT))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(world_process_memory(scenario).bytes, 1024 * int(peak.split()[1]))
"""
WARM, TEST, ALONE = (Simulation("main", 0, part) for part in (WARM_UP, EXPERIMENT, "control"))


class SaidLines(NoProgress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_the_estimate_is_within_a_factor_of_two_of_the_measured_peak(tmp_path):
    overrides = ["world.users.count=2000", "days=1"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path), *overrides], capture_output=True, text=True, check=True
    )
    estimate, peak = map(int, done.stdout.split())
    assert peak / 2 <= estimate <= 2 * peak, f"estimated {estimate / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB"


def test_each_size_moves_its_own_part():
    base = world_process_memory(tiny()).parts
    users = world_process_memory(tiny("world.users.count=400")).parts
    assert users["the history"] == 2 * base["the history"]
    assert users["a day's visits"] == 2 * base["a day's visits"]
    assert users["items"] == base["items"]
    assert world_process_memory(tiny("world.items.count=240")).parts["items"] == 2 * base["items"]
    assert world_process_memory(tiny("base.model.embedding_dim=64")).parts["items"] > base["items"]


def test_a_run_tells_what_each_world_needs(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "simulate", lambda scenario, root, one, *, progress=None: None)
    monkeypatch.setattr(parallel, "is_done", lambda root, one: False)
    told = SaidLines()
    parallel.simulate_all(tiny(), tmp_path, [TEST, ALONE], workers=1, progress=told)
    assert told.lines[0].startswith("each world needs about ")
    assert "libraries 430 MB" in told.lines[0]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(needs.time, "monotonic", lambda: now[0])
    return now


def test_the_time_follows_from_the_first_day_in_this_process(clock):
    """Two worlds of two days: one day took 80 s, so that all four take 320."""
    told = SaidLines()
    paced = PacedWorlds(tiny(), [TEST, ALONE], 1, told)
    paced.begin(TEST)
    paced.start("day 3, models", 2, "models")
    paced.finish()
    assert told.lines == []
    clock[0] = 80.0
    for _ in range(2):
        paced.start("day 3 of 4", 10, "visits")
        paced.finish()
    assert told.lines == [
        "needs about 5 min at this pace (80 s for the first days; worlds that are there already not counted)"
    ]


def test_the_time_follows_from_the_first_world_of_other_processes(clock):
    """A warm-up of one day took 120 s by one process; four more days by two processes take 240 s more."""
    told = SaidLines()
    paced = PacedWorlds(tiny("platform.warmup_days=1"), [WARM, TEST, ALONE], 2, told)
    clock[0] = 120.0
    paced.over(WARM)
    clock[0] = 240.0
    paced.over(TEST)
    assert [line.partition(" at")[0] for line in told.lines] == ["needs about 6 min"]


def test_short_runs_say_nothing_of_time(clock):
    told = SaidLines()
    paced = PacedWorlds(tiny(), [TEST, ALONE], 1, told)
    clock[0] = 10.0
    paced.over(TEST)
    assert told.lines == []
