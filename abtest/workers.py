"""Trials side by side: one process each, a fixed number of threads, the same numbers for any number of workers."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.folder_lock import waiting_for
from micrec.parallel import ExecutorLike, run_tasks
from micrec.parallel.processors import cores
from micrec.progress import Progress


class Job(NamedTuple):
    """One model to train and test."""

    name: str  # of the trial
    label: str  # for people
    config: Config
    folder: Path  # the trainer's own
    part: Literal["valid", "test"] = "test"  # of the log, on which the model is measured


class Finished(NamedTuple):
    """A job's result."""

    job: Job
    result: Any  # micrec.experiment.ModelResult
    seconds: float


def default_workers(device: str, jobs: int) -> int:
    """As many processes as cores on a CPU, one where a GPU trains."""
    from micrec.training import resolve_device

    return max(1, min(cores(), jobs)) if resolve_device(device).type == "cpu" else 1


@contextmanager
def cpu_threads(config: Config) -> Iterator[None]:
    """Train with ``train.threads`` threads, 1 if null: sums of floats depend on how they are split.

    One thread per process is also the fastest way to train several small models on a few cores.
    """
    import torch

    from micrec.threads import use_threads

    before = torch.get_num_threads()
    use_threads(config.train.threads or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_jobs(
    jobs: Sequence[Job], data: Path, *, executor: ExecutorLike, workers: int | None, progress: Progress
) -> Iterator[Finished]:
    """Train the jobs' models side by side; results come as they finish.

    Args:
        jobs: What to train; started in this order.
        data: Dataset folder, read once by every worker.
        executor: Where, see :func:`micrec.parallel.run_tasks`.
        workers: Models at a time; None = as the executor has room.
        progress: Gets a line of every worker now and then.

    Raises:
        MicrecError: What a job raised; the others are stopped.
    """
    done = run_tasks(
        _train,
        [job._replace(folder=job.folder.absolute()) for job in jobs],
        executor=executor,
        workers=workers,
        prepare=partial(_read, data.absolute()),
        label=lambda job: job.label,
        folder=data.absolute(),
        progress=progress,
    )
    for _, finished in done:
        yield finished


def _read(data: Path) -> Dataset:
    from micrec.data.store import read_dataset

    return read_dataset(data)


def _train(dataset: Dataset, job: Job, progress: Progress) -> Finished:
    from micrec.experiment import run_model

    with waiting_for(job.folder.parent), cpu_threads(job.config):  # an attempt that was given up may still write
        started_s = time.perf_counter()
        result = run_model(dataset, job.config, folder=job.folder, progress=progress, part=job.part)
    return Finished(job, result, time.perf_counter() - started_s)
