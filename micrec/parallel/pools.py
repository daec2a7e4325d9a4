"""Pools of workers: processes of this machine, a Dask cluster, or any ``concurrent.futures.Executor``."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from micrec.errors import MicrecError
from micrec.parallel.executor import DASK, ExecutorLike
from micrec.parallel.processors import cores
from micrec.parallel.worker import TaskRun, do_task, forget, start_process
from micrec.progress import Progress

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
_OURS = ("micrec", "simulator", "abtest")


class TaskPool(Protocol):
    """Workers, as ``run_tasks`` uses them."""

    @property
    def slots(self) -> int:
        """Tasks that are given at a time."""

    def submit(self, task: Any, label: str) -> Future[Any]:
        """Have a task done."""

    def is_lost(self, fault: BaseException) -> bool:
        """Whether a task failed with its worker, and ``renew`` must come before the next ``submit``."""

    def renew(self) -> None:
        """Take new workers in place of lost ones."""

    def explained(self, fault: BaseException) -> MicrecError | None:
        """What a fault of the pool means for people; None = it is the task's own."""

    def stop(self) -> None:
        """Stop what is under way, as far as the pool can."""

    def close(self) -> None:
        """Let the workers go."""


class WorkerProcesses(TaskPool):
    """New processes of this machine, which end with this one.

    Args:
        run: What the tasks have in common.
        workers: Processes.
        progress: Gets their lines.
        finishes_on_interrupt: Whether Ctrl-C lets tasks under way be finished; else they are stopped.
    """

    def __init__(
        self,
        run: TaskRun,
        workers: int,
        progress: Progress,
        finishes_on_interrupt: bool,
    ) -> None:
        self._run, self._workers, self._environment = run, workers, _threads_of(workers)
        self._finishes = finishes_on_interrupt
        self._context = multiprocessing.get_context("spawn")
        self._lines = self._context.SimpleQueue()
        self._listener = threading.Thread(target=_listen, args=(self._lines, progress), daemon=True)
        self._listener.start()
        self._pool = self._new()

    @property
    def slots(self) -> int:
        return self._workers

    def submit(self, task: Any, label: str) -> Future[Any]:
        with _variables(self._environment):  # processes are started here
            return self._pool.submit(do_task, self._run, task, label)

    def is_lost(self, fault: BaseException) -> bool:
        return isinstance(fault, BrokenProcessPool)

    def renew(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._new()

    def explained(self, fault: BaseException) -> MicrecError | None:
        return None

    def stop(self) -> None:
        if not self._finishes:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()  # files are written whole, so nothing is lost but the work under way

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._lines.put(None)
        self._listener.join()

    def _new(self) -> ProcessPoolExecutor:
        given = (self._lines, os.getpid(), self._run.modules, self._finishes)
        return ProcessPoolExecutor(self._workers, mp_context=self._context, initializer=start_process, initargs=given)


class DaskWorkers(TaskPool):
    """The workers of a Dask cluster: its scheduler gives the work of a lost worker to another one.

    Args:
        run: What the tasks have in common.
        address: ``dask://HOST:PORT``, or ``dask:///PATH`` of a scheduler file.
        slots: Tasks that are given at a time; None = as many as the workers have threads at that moment.
        progress: Gets the lines of workers.

    Raises:
        MicrecError: If distributed is not installed, or no scheduler answers.
    """

    def __init__(self, run: TaskRun, address: str, slots: int | None, progress: Progress) -> None:
        self._run, self._address, self._slots = run, address, slots
        self._client = _dask_client(address)
        self._client.subscribe_topic(run.name, lambda event: progress.say(str(event[1])))
        self._executor = self._client.get_executor()
        if not self._client.nthreads():
            progress.say(f"{address}: no worker yet: waiting for the first")

    @property
    def slots(self) -> int:
        return self._slots or max(1, sum(self._client.nthreads().values()))

    def submit(self, task: Any, label: str) -> Future[Any]:
        return self._executor.submit(do_task, self._run, task, label, pure=False)

    def is_lost(self, fault: BaseException) -> bool:
        return False

    def renew(self) -> None:
        raise AssertionError("the scheduler does this")

    def explained(self, fault: BaseException) -> MicrecError | None:
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        if isinstance(fault, KilledWorker):
            return MicrecError(
                f"{self._address}: the workers of a task died one after the other, perhaps for want of memory "
                f"({fault.last_worker.address}): give workers more memory, then run the same command again."
            )
        if isinstance(fault, CancelledError | OSError) and self._client.status != "running":
            return MicrecError(f"{self._address}: the scheduler is gone: start it, and run the same command again.")
        if isinstance(fault, ModuleNotFoundError) and (fault.name or "").partition(".")[0] in _OURS:
            return MicrecError(f"{self._address}: a worker has no package {fault.name}: install micrec on all workers.")
        return None

    def stop(self) -> None:
        with suppress(Exception):
            self._executor.shutdown(wait=False)

    def close(self) -> None:
        with suppress(Exception):  # the results are here; a cluster that is going down changes nothing
            self._client.run(forget, self._run.name)
        with suppress(Exception):
            self._client.close()


class GivenExecutor(TaskPool):
    """Any other executor, which its owner starts and ends; it sends no lines."""

    def __init__(self, run: TaskRun, executor: Executor, slots: int) -> None:
        self._run, self._executor, self._slots = run, executor, slots

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, task: Any, label: str) -> Future[Any]:
        return self._executor.submit(do_task, self._run, task, label)

    def is_lost(self, fault: BaseException) -> bool:
        return False

    def renew(self) -> None:
        raise AssertionError("its owner does this")

    def explained(self, fault: BaseException) -> MicrecError | None:
        return None

    def stop(self) -> None:
        """Its owner does."""

    def close(self) -> None:
        """Its owner does."""


def open_pool(
    run: TaskRun,
    executor: ExecutorLike,
    workers: int | None,
    progress: Progress,
    finishes_on_interrupt: bool,
) -> TaskPool:
    """The pool of an executor that ``check_executor`` let pass."""
    if isinstance(executor, Executor):
        return GivenExecutor(run, executor, workers or cores())
    if executor.startswith(DASK):
        return DaskWorkers(run, executor, workers, progress)
    return WorkerProcesses(run, workers or cores(), progress, finishes_on_interrupt)


def _threads_of(workers: int) -> dict[str, str]:
    """Variables that share the cores out among processes: threads beyond them wait for one another, turning."""
    share = str(max(1, cores() // workers))
    return {name: share for name in _THREADS if name not in os.environ}


def _dask_client(address: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError as fault:
        if (fault.name or "").partition(".")[0] not in ("distributed", "dask"):
            raise
        raise MicrecError(f'--executor {address} needs distributed: pip install "micrec[dask]".') from None
    place = address.removeprefix(DASK)
    try:
        if place.startswith("/"):
            return Client(scheduler_file=place, set_as_default=False)
        return Client(f"tcp://{place}", set_as_default=False)
    except (OSError, ValueError) as fault:
        raise MicrecError(
            f"{address}: no scheduler answers ({fault}): start one with dask scheduler, and workers with "
            f"dask worker {place} --nthreads 1."
        ) from None


def _listen(lines: Any, progress: Progress) -> None:
    """Say what workers send, until they send None."""
    while (line := lines.get()) is not None:
        progress.say(line)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block, as processes started inside it see them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
