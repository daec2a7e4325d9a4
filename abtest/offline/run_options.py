"""How a scenario of models on datasets is run: what its user chose beside the scenario, and who trains and reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from abtest.offline.trials import TrialResult
from abtest.workers import default_workers
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.parallel import ExecutorLike, tasks_at_a_time
from micrec.parallel.executor import PROCESSES
from micrec.progress import NoProgress, Progress


class TrainFn(Protocol):
    """``micrec.experiment.run_model``."""

    def __call__(
        self, dataset: Dataset, config: Config, *, folder: Path | None, progress: Progress | None
    ) -> TrialResult: ...


class BaselineFn(Protocol):
    """``micrec.experiment.run_baseline``."""

    def __call__(self, name: str, dataset: Dataset, config: Config) -> TrialResult: ...


@dataclass(frozen=True)
class RunOptions:
    """What every run of an offline scenario is given; none of it changes a number.

    Attributes:
        resolved: The scenario as plain data with every key, from ``load_scenario``.
        force: Replace a finished run.
        command: What the user typed, for the report.
        workers: Models trained at a time; None = one per core on a CPU. Any number gives the same results.
        executor: Where they are trained: ``local``, ``processes``, ``dask://ADDRESS``, or a
            ``concurrent.futures.Executor`` of processes.
        progress: Where to report; None = nowhere.
        train: Trains and tests one model; None = ``micrec.experiment.run_model``.
        baseline: Tests a model without training; None = ``micrec.experiment.run_baseline``.
        read: Reads a dataset folder; None = ``micrec.data.store.read_dataset``.
    """

    resolved: Mapping[str, Any]
    force: bool = False
    command: str = ""
    workers: int | None = None
    executor: ExecutorLike = PROCESSES
    progress: Progress | None = None
    train: TrainFn | None = None
    baseline: BaselineFn | None = None
    read: Callable[[Path], Dataset] | None = None

    @property
    def reporter(self) -> Progress:
        """Where to report."""
        return self.progress or NoProgress()

    def workers_for(self, device: str, jobs: int) -> int | None:
        """How many of the jobs to run at a time; None = as the cluster has room."""
        return tasks_at_a_time(self.executor, self.workers, jobs, default_workers(device, jobs))
