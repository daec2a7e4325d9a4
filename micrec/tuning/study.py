"""One search as an Optuna study whose journal lies in the run folder: a killed search goes on where it stopped.

Each trial has an index, the number of trials before it that ended, and its sampler is seeded with that. So with one
worker a killed search proposes what it would have proposed, and an interrupted trial is run again as it was.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from micrec.errors import MicrecError
from micrec.tuning.search_space import SearchDimension, SearchSpace, as_text

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

JOURNAL = "journal.log"
BRANCH = "branch"  # the parameter that names a trial's branch
STARTUP_TRIALS = 8  # drawn at random before the sampler models what is good
PRUNED_FROM_EPOCH = 2  # the first epoch after which a trial may be stopped


def optuna() -> ModuleType:
    """The package, with its log lines off.

    Raises:
        MicrecError: If it is not installed, with the line that installs it.
    """
    try:
        import optuna as package
    except ModuleNotFoundError as fault:
        if (fault.name or "").partition(".")[0] != "optuna":
            raise
        raise MicrecError('micrec tune needs the package optuna: pip install "micrec[tune]".') from None
    package.logging.set_verbosity(package.logging.ERROR)
    return package


def open_study(folder: Path, identity: Mapping[str, Any], starts: Sequence[Mapping[str, Any]]) -> "Study":
    """The study of a folder, new or as its journal left it; trials that were under way are queued to run again.

    Args:
        folder: Where the journal lies.
        identity: What the trials depend on; it must be that of the journal.
        starts: Parameters of the trials that a new search begins with.

    Raises:
        MicrecError: If the journal is that of another search.
    """
    is_new = not (folder / JOURNAL).exists()
    study = load_study(folder)
    if not is_new and study.user_attrs.get("identity") not in (None, dict(identity)):
        before = study.user_attrs["identity"]
        changed = [key for key in identity if before.get(key) != identity[key]]
        raise MicrecError(
            f"{folder}: holds a search with another {', '.join(changed)}: give the same command as before, or another "
            "--out; --force starts anew."
        )
    if study.user_attrs.get("identity") is None:
        queued = len(study.get_trials(deepcopy=False))  # by a run that was killed just here
        for place, parameters in list(enumerate(starts))[queued:]:
            study.enqueue_trial(dict(parameters), user_attrs={"index": place, "start": True})
        study.set_user_attr("identity", dict(identity))
    requeue(study)
    return study


def load_study(folder: Path, index: int = 0) -> "Study":
    """The study as a trial sees it: its sampler is seeded with the trial's index.

    Args:
        folder: Where the journal lies.
        index: Of the trial that is to be proposed.
    """
    package = optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    study: Study = package.create_study(
        study_name="tune",
        storage=storage,
        direction="maximize",
        load_if_exists=True,
        pruner=package.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=PRUNED_FROM_EPOCH),
    )
    seed = int((study.user_attrs.get("identity") or {}).get("seed", 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", package.exceptions.ExperimentalWarning)  # of group, which keeps branches apart
        study.sampler = package.samplers.TPESampler(
            seed=int(np.random.SeedSequence([seed, index]).generate_state(1)[0]),
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
    return study


def requeue(study: "Study", reason: str | None = None, *, task: int | None = None) -> None:
    """End trials that nobody runs any more.

    Args:
        study: The study; no trial of it that is ended may be running now.
        reason: Why they failed; None: they were interrupted, and are queued to run again with the same settings.
        task: End only what was done for this task; None = every open trial.
    """
    package = optuna()
    states = package.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        if task is not None and trial.user_attrs.get("task") != task:
            continue
        if reason is not None:
            study.set_user_attr("died", {**study.user_attrs.get("died", {}), str(trial.number): reason})
        study.tell(trial.number, state=states.FAIL)
        if reason is None and "index" in trial.user_attrs:
            again: dict[str, Any] = {"index": trial.user_attrs["index"]}
            again |= {"start": True} if "start" in trial.user_attrs else {}
            study.enqueue_trial(dict(trial.params), user_attrs=again)


def reason_of(study: "Study", trial: "FrozenTrial") -> str | None:
    """Why a trial was pruned or failed; None where it finished or was interrupted."""
    found = trial.user_attrs.get("reason") or study.user_attrs.get("died", {}).get(str(trial.number))
    return None if found is None else str(found)


def ended(study: "Study") -> "list[FrozenTrial]":
    """Trials that ran to an end: finished, pruned or failed; interrupted ones, which run again, do not count."""
    states = optuna().trial.TrialState
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (states.COMPLETE, states.PRUNED)
        or (trial.state == states.FAIL and reason_of(study, trial) is not None)
    ]


def waiting(study: "Study") -> list[int]:
    """Indices of queued trials, in the order in which they will run."""
    states = optuna().trial.TrialState
    return [trial.user_attrs["index"] for trial in study.get_trials(deepcopy=False, states=(states.WAITING,))]


def parameters(space: SearchSpace, branch: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A setting as the parameters of a trial; listed values are JSON text."""
    search = space.branches[branch].search
    return {BRANCH: branch} | {
        _name(branch, key): value if search[key].values is None else as_text(value) for key, value in settings.items()
    }


def suggest(space: SearchSpace, trial: "Trial") -> tuple[str, dict[str, Any]]:
    """The branch of a trial and the value of each searched key."""
    branch = str(trial.suggest_categorical(BRANCH, list(space.branches)))
    search = space.branches[branch].search
    return branch, {key: _suggested(trial, _name(branch, key), one) for key, one in search.items()}


def used_s(study: "Study") -> float:
    """Seconds that the search has taken so far, over all its runs."""
    return float(study.user_attrs.get("used_s", 0.0))


class SearchClock:
    """The time of a search over all its runs."""

    def __init__(self, study: "Study") -> None:
        self._study, self._before_s, self._started = study, used_s(study), time.monotonic()

    @property
    def used_s(self) -> float:
        """Seconds so far."""
        return self._before_s + time.monotonic() - self._started

    def save(self) -> None:
        """Keep the time in the journal."""
        self._study.set_user_attr("used_s", round(self.used_s, 3))


def _name(branch: str, key: str) -> str:
    return f"{branch}/{key}"


def _suggested(trial: "Trial", name: str, one: SearchDimension) -> Any:
    import json

    if one.values is not None:
        return json.loads(trial.suggest_categorical(name, [as_text(value) for value in one.values]))
    if one.is_whole:
        return trial.suggest_int(name, int(one.low or 0), int(one.high or 0), log=one.log)
    return trial.suggest_float(name, float(one.low or 0), float(one.high or 0), log=one.log)
