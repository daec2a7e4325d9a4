"""Trials side by side: one process each, a fixed number of threads, the same numbers for any number of workers."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.parent import end_with
from micrec.progress import NoProgress, Progress, Task
from micrec.registry import extensions, import_extensions

SAY_EVERY_S = 5.0  # of one worker's progress


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

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, jobs)) if resolve_device(device).type == "cpu" else 1


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


def run_jobs(jobs: Sequence[Job], data: Path, *, workers: int, progress: Progress) -> Iterator[Finished]:
    """Train the jobs' models in ``workers`` processes; results come as they finish.

    Args:
        jobs: What to train; started in this order.
        data: Dataset folder, read once by every worker.
        workers: Processes, at least 1.
        progress: Gets a line of every worker now and then.

    Raises:
        MicrecError: What a job raised; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")
    lines = context.SimpleQueue()
    listener = threading.Thread(target=listen, args=(lines, progress), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(data, lines, os.getpid(), extensions())
    )
    try:
        pending = {pool.submit(_work, job) for job in jobs}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # checkpoints are written whole, so nothing is lost
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        lines.put(None)
        listener.join()


def listen(lines: Any, progress: Progress) -> None:
    """Say what workers send, until they send None."""
    while (line := lines.get()) is not None:
        progress.say(line)


class _TrialWorker:
    """What a worker process keeps between jobs."""

    dataset: Dataset
    lines: Any


def _start(data: Path, lines: Any, parent: int, modules: Sequence[str]) -> None:
    from micrec.data.store import read_dataset

    end_with(parent)
    import_extensions(modules)
    _TrialWorker.dataset = read_dataset(data)
    _TrialWorker.lines = lines


def _work(job: Job) -> Finished:
    from micrec.experiment import run_model

    started_s = time.perf_counter()
    with cpu_threads(job.config):
        sent = SentProgress(job.label, _TrialWorker.lines)
        result = run_model(_TrialWorker.dataset, job.config, folder=job.folder, progress=sent, part=job.part)
    return Finished(job, result, time.perf_counter() - started_s)


class SentProgress(NoProgress):
    """Sends lines to the parent: what is worth keeping at once, the rest now and then."""

    def __init__(self, label: str, lines: Any) -> None:
        self._label, self._lines = label, lines
        self._tasks: list[Task] = []
        self._sent_s = time.monotonic()

    def start(self, task: str, total: int, unit: str) -> None:
        now_s = time.monotonic()
        self._tasks.append(Task(task, total, unit, now_s, now_s))

    def advance(self, amount: int, note: str = "") -> None:
        self._tasks[-1].done += amount
        now_s = time.monotonic()
        if now_s - self._sent_s >= SAY_EVERY_S:
            self._sent_s = now_s
            self.say(self._tasks[-1].line(note))

    def finish(self, note: str = "") -> None:
        self._tasks.pop()

    def say(self, line: str) -> None:
        self._lines.put(f"{self._label}: {line.strip()}")
