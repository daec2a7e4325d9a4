"""The search loop: trials one after the other or side by side, until the time or the number of trials is reached."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from micrec.applicable_config import applicable_config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.parallel import ExecutorLike, is_local, run_tasks
from micrec.parallel.worker import stop_if_cancelled
from micrec.progress import NoProgress, Progress
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
        workers: Trials side by side; None = as the executor has room.
        executor: Where they run, see :func:`micrec.parallel.run_tasks`.
    """

    space: SearchSpace
    same: Mapping[str, Any]
    metric: str = "hit@50"
    seed: int = 0
    minutes: float | None = None
    trials: int | None = None
    workers: int | None = 1
    executor: ExecutorLike = "processes"

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
    _say_memory(request, dataset, progress)
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
            yield TrialTask(folder.absolute(), space, same, index, deadline, began)
            done += 1

    for _ in _lines(tasks(), request, dataset, study, progress):
        clock.save()
    if not any(trial.state.name == "COMPLETE" for trial in ended(study)):
        reasons = dict.fromkeys(str(reason_of(study, trial)) for trial in ended(study))
        raise MicrecError("\n  ".join(["tune: no trial finished:", *(reasons or ["there was time for none"])]))
    return study


def _say_memory(request: SearchRequest, dataset: Dataset, progress: Progress) -> None:
    """What the largest of the settings that the search begins with takes, and how many run at a time."""
    from micrec.estimates.memory import say_memory
    from micrec.estimates.training_memory import training_memory

    same, space = request.every_trial(), request.space
    starts = [space.config(name, space.start(name, same), same) for name in space.branches]
    found = [training_memory(dataset, applicable_config(dataset, config)[0]) for config in starts]
    workers = 1 if is_local(request.executor, request.workers) else request.workers or 1
    say_memory(progress, max(found, key=lambda one: one.bytes), processes=workers, each="each trial")


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


def _lines(
    tasks: Iterator[TrialTask], request: SearchRequest, dataset: Dataset, study: "Study", progress: Progress
) -> Iterator[str]:
    """Run the trials, and say what came of each."""
    if is_local(request.executor, request.workers) or dataset.folder is None:
        for task in tasks:
            progress.say(f"trial {task.index}")
            with _threads(task.same):
                line = run_trial(task, dataset, progress)
            progress.say(line)
            yield line
        return
    done = run_tasks(
        _work,
        tasks,
        executor=request.executor,
        workers=request.workers,
        prepare=partial(_read, dataset.folder.absolute()),
        label=lambda task: f"trial {task.index}",
        folder=dataset.folder.absolute(),
        progress=progress,
        given_up=lambda task: requeue(study, DIED, task=task.index),
    )
    for _, line in done:
        progress.say(line)
        yield line


class _EpochLines(NoProgress):
    """Passes on the lines that are worth keeping: one per epoch."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def advance(self, amount: int, note: str = "") -> None:
        stop_if_cancelled()

    def say(self, line: str) -> None:
        self._progress.say(line)


def _read(data: Path) -> Dataset:
    from micrec.data.store import read_dataset

    return read_dataset(data)


def _work(dataset: Dataset, task: TrialTask, progress: Progress) -> str:
    with _threads(task.same):
        return run_trial(task, dataset, _EpochLines(progress))
