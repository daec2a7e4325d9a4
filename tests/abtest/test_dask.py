"""Two workers of a Dask cluster, one of them killed on the way: the results of one process, to the byte."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from abtest.scenario_files import load_scenario
from abtest.scenario_kinds import SCENARIO_KINDS
from micrec.errors import MicrecError
from micrec.parallel import run_tasks
from micrec.progress import NoProgress
from simulator.world import parts
from simulator.world.generate import generate_world
from tests.abtest.online import test_experiment as online
from tests.micrec import parallel_tasks as work
from tests.simulator.test_world_bytes import contents
from tests.simulator.worlds import small_config

distributed = pytest.importorskip("distributed")
dask_config = pytest.importorskip("dask.config")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
TABLE = """
kind: table
datasets:
  tiny: {{data: {data}}}
seeds: 1
base:
  split: {{valid_fraction: 0}}
  model: {{name: youtube_dnn, embedding_dim: 8, hidden: [8], history_length: 5}}
  train: {{epochs: 1, batch_size: 512}}
rows:
  base: {{label: base, losses: []}}
  feature: {{label: feature, losses: [feature]}}
  session: {{label: session, losses: [session]}}
baselines: [popularity]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.chdir(tmp_path_factory.mktemp("dask"))  # where workers keep what they spill
        given = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        with distributed.LocalCluster(**given, silence_logs=50) as running:
            yield running


@pytest.fixture
def executor(cluster) -> str:
    return cluster.scheduler_address.replace("tcp://", "dask://")


class Killer(NoProgress):
    """Kills one worker when the first task is done."""

    def __init__(self, cluster: "distributed.LocalCluster") -> None:
        self.cluster, self.killed = cluster, 0

    def advance(self, amount: int, note: str = "") -> None:
        self.kill()

    def kill(self) -> None:
        if not self.killed:
            self.killed = next(iter(self.cluster.workers.values())).pid
            os.kill(self.killed, signal.SIGKILL)


def results_of(folder: Path) -> dict:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    del results["runtime_s"]
    results["models"] = [
        {key: value for key, value in model.items() if not key.endswith(("_s", "_mb")) and key != "seconds"}
        for model in results["models"]
    ]
    return results


def test_a_world_has_the_same_bytes(cluster, executor, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_CLICKS", 6_000)
    generate_world(small_config(), tmp_path / "here", executor="local")
    killer = Killer(cluster)
    generate_world(small_config(), tmp_path / "there", workers=None, executor=executor, progress=killer)
    assert killer.killed
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_table_has_the_same_results(cluster, executor, tmp_path, monkeypatch):
    monkeypatch.setattr("abtest.report.pages.table_files.figure_files", lambda _: {})  # drawing takes longest
    monkeypatch.chdir(tmp_path)  # data and runs are named relative to it
    generate_world(small_config(), tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "ground_truth")  # ceilings take longest
    (tmp_path / "table.yaml").write_text(TABLE.format(data="data"), encoding="utf-8")
    scenario, resolved = load_scenario(tmp_path / "table.yaml")
    run, killer = SCENARIO_KINDS["table"].run, Killer(cluster)
    run(scenario, Path("here"), resolved=resolved, executor="local")
    run(scenario, Path("there"), resolved=resolved, executor=executor, progress=killer)
    assert killer.killed
    assert results_of(tmp_path / "there") == results_of(tmp_path / "here")


def test_worlds_of_an_experiment_are_the_same(executor, tmp_path):
    scenario = online.written(tmp_path)
    online.run(scenario, tmp_path / "here")
    online.run(scenario, tmp_path / "there", workers=None, executor=executor)
    assert online.measures(tmp_path / "there") == online.measures(tmp_path / "here")


def test_lines_of_workers_arrive(executor):
    class Lines(NoProgress):
        def say(self, line: str) -> None:
            lines.append(line)

    lines: list[str] = []
    done = run_tasks(
        work.square, [1, 2], executor=executor, prepare=work.seven, label="no. {}".format, progress=Lines()
    )
    assert {task: value for task, (value, _) in done} == {1: 8, 2: 11}
    assert set(lines) <= {"no. 1: task 1", "no. 2: task 2"}  # the last may come after the results


def test_what_a_task_raises_is_raised_here(executor):
    with pytest.raises(ValueError, match="three"):
        list(run_tasks(work.fail, range(5), executor=executor))


def test_no_scheduler_is_an_error():
    told = r"dask://127.0.0.1:9: no scheduler answers .* start one with dask scheduler"
    with (
        dask_config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(MicrecError, match=told),
    ):
        list(run_tasks(work.fail, [1], executor="dask://127.0.0.1:9"))
