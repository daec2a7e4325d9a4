"""The search loop: trials one after the other or side by side, until the time or the number of trials is reached."""

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.parent import end_with
from micrec.progress import NoProgress, Progress
from micrec.registry import extensions, import_extensions
from micrec.settings import merge
from micrec.tuning.search_space import SearchSpace
from micrec.tuning.study import SearchClock, ended, open_study, parameters, reason_of, requeue, waiting
from micrec.tuning.tune_trial import TrialTask, run_trial

if TYPE_CHECKING:
    from optuna import Study

DIED = "its process ended before it did: the system may have stopped it for want of memory"


class SearchRequest(NamedTuple):
    """What is searched, and for how long.

    Attributes:
        space: What may be tried.
        same: Config keys of every trial, nested, beside those of the space.
        metric: Maximised on the validation clicks.
        seed: Of the proposals, and of every training.
        minutes: Of search, over all its runs; None = as long as the trials take.
        trials: How many; None = as many as the minutes allow.
        workers: Trials side by side.
    """

    space: SearchSpace
    same: Mapping[str, Any]
    metric: str = "hit@50"
    seed: int = 0
    minutes: float | None = None
    trials: int | None = None
    workers: int = 1

    def every_trial(self) -> dict[str, Any]:
        """Config keys that override those of the space."""
        return merge(self.same, {"train": {"seed": self.seed, "refit": False, "metric": self.metric}})

    def identity(self, data: str) -> dict[str, Any]:
        """What its trials depend on, but for how long it lasts."""
        return {
            "dataset": data,
            "space": self.space.model_dump(mode="json"),
            "--set": merge(self.same),
            "metric": self.metric,
            "seed": self.seed,
        }


def search(
    request: SearchRequest, dataset: Dataset, folder: Path, data: str, progress: Progress | None = None
) -> "Study":
    """Run trials until the time or the number is reached; what the journal holds counts.

    Args:
        request: What is searched.
        dataset: The data; with several workers it must lie in a folder. Nothing of its test part is used.
        folder: Where the journal and the checkpoints of trials lie.
        data: Fingerprint of the dataset with its clicks.
        progress: Where to report.

    Returns:
        The study.

    Raises:
        MicrecError: If optuna is missing, the journal is that of another search, or no trial finished.
    """
    progress = progress or NoProgress()
    same, space = request.every_trial(), request.space
    starts = [parameters(space, name, space.start(name, same)) for name in space.branches]
    study = open_study(folder, request.identity(data), starts)
    clock = SearchClock(study)
    began = time.time() - clock.used_s
    deadline = None if request.minutes is None else began + 60.0 * request.minutes
    if done := len(ended(study)):
        progress.say(f"going on after {done} trials and {clock.used_s:,.0f} s of search")

    def tasks() -> Iterator[TrialTask]:
        """The next trials, as long as there is time for one."""
        done, queued = len(ended(study)), waiting(study)
        most = math.inf if request.trials is None else request.trials
        fresh = done + len(queued)
        while done < most and (deadline is None or time.time() < deadline or not ended(study)):
            if queued:
                index = queued.pop(0)
            else:
                index, fresh = fresh, fresh + 1
            yield TrialTask(folder, space, same, index, deadline, began)
            done += 1

    run = _run_here if request.workers == 1 or dataset.folder is None else _run_in_processes
    run(tasks(), dataset, study, clock, progress, request.workers)
    if not any(trial.state.name == "COMPLETE" for trial in ended(study)):
        reasons = dict.fromkeys(str(reason_of(study, trial)) for trial in ended(study))
        raise MicrecError("\n  ".join(["tune: no trial finished:", *(reasons or ["there was time for none"])]))
    return study


def data_mark(dataset: Dataset, clicks: int) -> str:
    """A mark of a dataset for the journal: its ids and how many clicks precede the test part."""
    return f"{dataset.fingerprint}-{clicks}"


@contextmanager
def _threads(same: Mapping[str, Any]) -> Iterator[None]:
    """One thread a trial, or as ``train.threads`` says: sums of floats depend on how they are split."""
    import torch

    from micrec.threads import use_threads

    before = torch.get_num_threads()
    use_threads(same.get("train", {}).get("threads") or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_here(
    tasks: Iterator[TrialTask], dataset: Dataset, study: "Study", clock: SearchClock, progress: Progress, workers: int
) -> None:
    for task in tasks:
        progress.say(f"trial {task.index}")
        with _threads(task.same):
            progress.say(run_trial(task, dataset, progress))
        clock.save()


def _run_in_processes(
    tasks: Iterator[TrialTask], dataset: Dataset, study: "Study", clock: SearchClock, progress: Progress, workers: int
) -> None:
    assert dataset.folder is not None
    context = multiprocessing.get_context("spawn")
    lines = context.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(lines, progress), daemon=True)
    listener.start()

    given: tuple[Any, ...] = (dataset.folder, lines, os.getpid(), extensions())

    def new_pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=given)

    pool, running = new_pool(), set[Future[str]]()
    try:
        while True:
            while len(running) < workers and (task := next(tasks, None)) is not None:
                running.add(pool.submit(_work, task))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                pool.shutdown(wait=True, cancel_futures=True)
                requeue(study, DIED)
                pool, running = new_pool(), set()
            else:
                for future in done:
                    progress.say(future.result())
            clock.save()
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # checkpoints are written whole, so nothing is lost
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        lines.put(None)
        listener.join()


class _SearchWorker:
    """What a worker process keeps between trials."""

    dataset: Dataset
    lines: Any


class _EpochLines(NoProgress):
    """Sends the lines that are worth keeping to the parent: one per epoch."""

    def __init__(self, index: int) -> None:
        self._index = index

    def say(self, line: str) -> None:
        _SearchWorker.lines.put(f"trial {self._index}: {line.strip()}")


def _start(data: Path, lines: Any, parent: int, modules: Sequence[str]) -> None:
    from micrec.data.store import read_dataset

    end_with(parent)
    import_extensions(modules)
    _SearchWorker.dataset, _SearchWorker.lines = read_dataset(data), lines


def _work(task: TrialTask) -> str:
    with _threads(task.same):
        return run_trial(task, _SearchWorker.dataset, _EpochLines(task.index))


def _listen(lines: Any, progress: Progress) -> None:
    while (line := lines.get()) is not None:
        progress.say(line)
