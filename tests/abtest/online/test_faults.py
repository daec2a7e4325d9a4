"""What breaks around a run: a full disk, damaged measures, a kill in the first moment, a worker that is killed."""

import errno
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from abtest.online import parallel, simulate
from abtest.run_folder import check_run
from abtest.scenario_files import load_scenario
from abtest.scenario_kinds import SCENARIO_KINDS
from micrec.errors import MicrecError
from micrec.parallel import pools
from micrec.progress import NoProgress

SCENARIO = """
kind: online_ab
name: faulty
world:
  users: {count: 300}
  items: {count: 120, categories: 6, groups: 2, providers: 20}
  tags: {count: 30}
history_days: 1
days: 1
truth: {worlds: false}
possible: null
platform:
  warmup_days: 0
  pipeline:
    slate_size: 5
    channels: {popular: {kind: popular, k: 40, quota: 20}, item_cf: {kind: item_cf, k: 40, quota: 20}}
arms:
  control: {label: A}
  treatment: {label: B, pipeline: {channels: {item_cf: null}}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    path = tmp_path / "faulty.yaml"
    path.write_text(SCENARIO)
    return load_scenario(path)


def go(scenario: tuple[Any, dict[str, Any]], out: Path) -> dict[str, Any]:
    return SCENARIO_KINDS[scenario[0].kind].run(scenario[0], out, resolved=scenario[1], workers=1)


def test_a_disk_that_is_full_while_measuring_is_told_and_the_next_run_goes_on(scenario, tmp_path, monkeypatch):
    go(scenario, tmp_path / "whole")

    def full(*_arguments: Any, **_keywords: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        with pytest.raises(MicrecError, match=r"No space left on device.*free some space"):
            go(scenario, tmp_path / "run")
    with monkeypatch.context() as patch:  # every day is written, and only the measures do not fit
        patch.setattr(simulate, "measure_world", full)
        with pytest.raises(MicrecError, match=r"No space left on device.*the same command again"):
            go(scenario, tmp_path / "run")
    go(scenario, tmp_path / "run")
    measures = Path("worlds/main/000/experiment/measures/days.parquet")
    assert (tmp_path / "run" / measures).read_bytes() == (tmp_path / "whole" / measures).read_bytes()


@pytest.mark.parametrize("name", ["days.parquet", "facts.json"])
def test_damaged_measures_are_told_with_the_cure(scenario, tmp_path, name):
    out = tmp_path / "run"
    go(scenario, out)
    measures = out / "worlds" / "main" / "000" / "experiment" / "measures"
    (out / "results.json").unlink()
    whole = (measures / name).read_bytes()
    (measures / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MicrecError, match=r"measures: cannot be read .*delete .*/experiment and run the same command"):
        go(scenario, out)


def test_a_kill_before_the_scenario_was_written_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / ".scenario.resolved.yaml.17.partial").write_text("kind: onl")
    check_run(tmp_path, force=False)
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(MicrecError, match="is not empty and holds no run"):
        check_run(tmp_path, force=False)


def test_a_killed_worker_is_told(scenario, tmp_path, monkeypatch):
    submit = pools.ProcessPoolExecutor.submit
    monkeypatch.setattr(pools.ProcessPoolExecutor, "submit", lambda pool, *_work: submit(pool, os._exit, 9))
    worlds = [simulate.Simulation("main", 0, part) for part in ("experiment", "control")]
    with pytest.raises(MicrecError, match="a worker was killed again and again, perhaps for want of memory"):
        parallel.simulate_all(scenario[0], tmp_path / "worlds", worlds, workers=2, progress=NoProgress())
