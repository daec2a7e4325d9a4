"""Tasks in this process, in processes and in a given executor: one result, lost work done again, faults passed on."""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from micrec.errors import MicrecError
from micrec.parallel import check_executor, run_tasks, tasks_at_a_time, worker
from micrec.progress import NoProgress

from . import parallel_tasks as work

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


class Lines(NoProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def deaths(folder: Path, count: int) -> str:
    (folder / "deaths").write_text(str(count))
    return str(folder)


class TestRunTasks:
    @pytest.mark.parametrize(("executor", "workers"), [("local", None), ("processes", 1), ("processes", 2)])
    def test_every_task_is_done_once(self, executor, workers):
        found = dict(run_tasks(work.square, range(1, 6), executor=executor, workers=workers, prepare=work.seven))
        assert {task: value for task, (value, _) in found.items()} == {task: task**2 + 7 for task in range(1, 6)}
        elsewhere = executor == "processes" and workers > 1
        assert all((process != os.getpid()) == elsewhere for _, process in found.values())

    def test_an_executor_of_processes_is_taken(self):
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = dict(run_tasks(work.square, [1, 2, 3], executor=pool, workers=2, prepare=work.seven))
        assert [found[task][0] for task in (1, 2, 3)] == [8, 11, 16]

    def test_lines_of_workers_arrive_under_the_name_of_their_task(self):
        told = Lines()
        list(run_tasks(work.square, [1, 2], workers=2, prepare=work.seven, label="no. {}".format, progress=told))
        assert sorted(told.lines) == ["no. 1: task 1", "no. 2: task 2"]

    def test_what_a_lost_worker_did_is_done_again(self, tmp_path):
        prepare = partial(deaths, tmp_path, 2)
        prepare()
        found = dict(run_tasks(work.die_at_first, [1, 2, 3, 4], workers=2, prepare=partial(str, tmp_path)))
        assert found == {1: 10, 2: 20, 3: 30, 4: 40}
        assert (tmp_path / "deaths").read_text() == "0"

    def test_after_three_losses_it_is_an_error(self, tmp_path):
        deaths(tmp_path, 3)
        with pytest.raises(MicrecError, match=r"killed again and again.*with fewer --workers"):
            list(run_tasks(work.die_at_first, [1, 2], workers=2, prepare=partial(str, tmp_path)))

    def test_or_the_task_is_given_up(self, tmp_path):
        deaths(tmp_path, 3)
        told: list[int] = []
        tasks = run_tasks(work.die_at_first, [2, 5], workers=2, prepare=partial(str, tmp_path), given_up=told.append)
        assert dict(tasks).keys() <= {5}  # with process 2, its neighbour was lost as often, unless it was faster
        assert 2 in told

    def test_what_a_task_raises_ends_them_all(self):
        with pytest.raises(ValueError, match="three"):
            list(run_tasks(work.fail, range(100), workers=2))

    def test_a_task_that_may_not_start_yet_waits_for_one_that_is_done(self):
        done: list[int] = []

        def tasks():
            yield 1
            while not done:
                yield None
            yield 2

        for task, _ in run_tasks(work.square, tasks(), workers=2, prepare=work.seven):
            done.append(task)
        assert done == [1, 2]

    def test_workers_stand_where_the_command_stands(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert dict(run_tasks(work.current_folder, [1], workers=2)) == {1: str(tmp_path)}

    def test_a_folder_that_a_worker_does_not_see_is_an_error(self, tmp_path):
        with pytest.raises(MicrecError, match=r"process \d+: sees no folder .*/gone: workers need the file system"):
            list(run_tasks(work.square, [1], workers=2, folder=tmp_path / "gone"))

    def test_workers_with_several_threads_are_refused(self, monkeypatch):
        one = SimpleNamespace(address="tcp://10.0.0.5:41", state=SimpleNamespace(nthreads=4))
        monkeypatch.setattr(worker, "_dask_worker", lambda: one)
        run = worker.TaskRun("run", work.fail, None, (), (), worker.versions())
        with pytest.raises(MicrecError, match=r"worker tcp://10.0.0.5:41: has 4 threads.* --nworkers 4 --nthreads 1"):
            worker.do_task(run, 1, "task")

    def test_other_versions_are_refused(self):
        run = worker.TaskRun("run", work.fail, None, (), (), {**worker.versions(), "torch": "1.0"})
        with pytest.raises(MicrecError, match=r"process \d+: has torch .* instead of 1.0: install the same versions"):
            worker.do_task(run, 1, "task")


class TestExecutor:
    @pytest.mark.parametrize("name", ["local", "processes", "dask://host:8786", "dask:///shared/scheduler.json"])
    def test_names(self, name):
        check_executor(name)

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("process", "executor: must be local, processes or dask://ADDRESS, got 'process'"),
            ("dask://", "names no scheduler: give dask://HOST:PORT"),
        ],
    )
    def test_other_names_are_refused(self, name, told):
        with pytest.raises(MicrecError, match=told):
            check_executor(name)

    def test_threads_are_refused(self):
        with ThreadPoolExecutor(1) as pool, pytest.raises(MicrecError, match="pool of threads"):
            check_executor(pool)

    def test_tasks_at_a_time(self):
        assert tasks_at_a_time("processes", 4, 3) == 3
        assert tasks_at_a_time("processes", None, 8, default=2) == 2
        assert tasks_at_a_time("dask://host:1", None, 8) is None
        assert tasks_at_a_time("dask://host:1", 5, 8) == 5

    def test_without_distributed_the_line_that_installs_it_is_said(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(MicrecError, match=r'pip install "micrec\[dask\]"'):
            list(run_tasks(work.square, [1], executor="dask://127.0.0.1:1"))
