"""One trial of a search: trained on the train part, judged on validation clicks after each epoch, or stopped early."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from micrec.tuning.search_space import SearchSpace
from micrec.tuning.study import load_study, optuna, requeue, suggest

if TYPE_CHECKING:
    from optuna import Study, Trial

TRIALS = "search"  # folder of the trials' checkpoints, each removed when its trial has ended
NAMED_WITHIN_S = 10.0  # a worker that takes a queued trial says for which task
BEHIND = "behind the median of the trials before it"
TIME_UP = "time was up"


@dataclass(frozen=True)
class TrialTask:
    """What a trial needs to know.

    Attributes:
        folder: The run folder, with the journal.
        space: What may be tried.
        same: Config keys of every trial, nested.
        index: Which trial it is.
        deadline: When the search ends, by ``time.time()``; None = never.
        began: When the search began, by ``time.time()``, less what former runs of it took.
    """

    folder: Path
    space: SearchSpace
    same: dict[str, Any]
    index: int
    deadline: float | None
    began: float


class _Stopped(Exception):
    """The trial is not worth another epoch."""


def run_trial(task: TrialTask, dataset: Dataset, progress: Progress | None = None) -> str:
    """Propose, train and record one trial.

    Returns:
        What came out, as a line.

    Raises:
        KeyboardInterrupt: The trial stays open in the journal, and its checkpoint stays.
    """
    states = optuna().trial.TrialState
    study = load_study(task.folder, task.index)
    requeue(study, task=task.index)  # of a worker that was lost with this very task
    trial = study.ask()
    trial.set_user_attr("task", task.index)
    index = _index_of(study, trial, task.index)
    branch, settings = suggest(task.space, trial)
    attrs = {"index": index, "branch": branch, "settings": settings, "began_s": round(time.time() - task.began, 3)}
    for name, told in attrs.items():
        trial.set_user_attr(name, told)
    folder, started = task.folder / TRIALS / f"trial-{index}", time.monotonic()
    value, state, reason = None, states.FAIL, None
    try:
        value = _trained(task, study, trial, dataset, folder, progress or NoProgress())
        state = states.COMPLETE
    except _Stopped as stop:
        state, reason = states.PRUNED, str(stop)
    except MicrecError as fault:
        reason = str(fault)
    except (RuntimeError, ValueError, MemoryError) as fault:
        reason = f"{type(fault).__name__}: {fault}"
    if reason is not None:
        trial.set_user_attr("reason", reason)
    trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
    study.tell(trial, value, state=state)
    shutil.rmtree(folder, ignore_errors=True)
    return f"trial {index} ({branch}): {f'{value:.4f}' if value is not None else f'{state.name.lower()}: {reason}'}"


def _index_of(study: "Study", trial: "Trial", index: int) -> int:
    """Which trial of the search it is.

    A queued trial says so itself, and may have been asked for by a worker with another task. The worker whose task it
    was then gets a new trial, and with it the place that the other one left: no two trials have one index, and so one
    folder.
    """
    if "index" in trial.user_attrs:
        return int(trial.user_attrs["index"])
    until = time.monotonic() + NAMED_WITHIN_S
    while True:
        others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        taken = {one.user_attrs["index"]: one.user_attrs.get("task") for one in others if "index" in one.user_attrs}
        place: int | None = index
        while place in taken:
            place = taken.pop(place)
        if place is not None:
            return place
        if time.monotonic() > until:  # the other worker died before it said so
            return max(index, *(one.number for one in others)) + 1 + trial.number
        time.sleep(0.01)


def _trained(
    task: TrialTask, study: "Study", trial: "Trial", dataset: Dataset, folder: Path, progress: Progress
) -> float:
    """The best validation metric of the trial's epochs."""
    from micrec.fitting import check_inputs, fit

    config = task.space.config(trial.user_attrs["branch"], trial.user_attrs["settings"], task.same)
    check_inputs(dataset, config)

    def after_epoch(epoch: int, metric: float) -> None:
        trial.report(metric, epoch)
        trial.set_user_attr("epochs", epoch)
        if trial.should_prune():
            raise _Stopped(BEHIND)
        if task.deadline is not None and time.time() > task.deadline and epoch < config.train.epochs and _any(study):
            raise _Stopped(TIME_UP)

    fitted = fit(dataset, config, folder=folder, progress=progress, after_epoch=after_epoch)
    trial.set_user_attr("best_epoch", fitted.state.best_epoch)
    return fitted.state.best_metric


def _any(study: "Study") -> bool:
    """Whether there is a finished trial already."""
    return bool(study.get_trials(deepcopy=False, states=(optuna().trial.TrialState.COMPLETE,)))
