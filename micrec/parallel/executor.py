"""The names of executors, as ``--executor`` takes them, and their check."""

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeAlias

from micrec.errors import MicrecError
from micrec.parallel.processors import cores

LOCAL, PROCESSES, DASK = "local", "processes", "dask://"
ExecutorLike: TypeAlias = str | Executor
"""``local``, ``processes``, ``dask://HOST:PORT``, ``dask:///SCHEDULER_FILE``, or a ``concurrent.futures.Executor``."""

EXECUTOR_HELP = "Where the work is done: local, processes, or dask://ADDRESS of a scheduler. The results are the same."


def check_executor(executor: ExecutorLike) -> None:
    """Refuse what is no executor, before any work.

    Raises:
        MicrecError: If the name is unknown, or threads would share one process.
    """
    if isinstance(executor, ThreadPoolExecutor):
        raise MicrecError("executor: is a pool of threads, and a training needs a process: give a pool of processes.")
    if isinstance(executor, Executor) or executor in (LOCAL, PROCESSES):
        return
    if isinstance(executor, str) and executor.startswith(DASK):
        if not executor.removeprefix(DASK).strip("/"):
            raise MicrecError(
                f"executor: {executor} names no scheduler: give dask://HOST:PORT, or dask:///PATH of a scheduler file."
            )
        return
    raise MicrecError(f"executor: must be local, processes or dask://ADDRESS, got {executor!r}.")


def tasks_at_a_time(executor: ExecutorLike, workers: int | None, tasks: int, default: int | None = None) -> int | None:
    """How many of some tasks to give at a time.

    Args:
        executor: Where they are done.
        workers: As asked for; None = not asked for.
        tasks: How many there are.
        default: Processes if not asked for; None = one per core.

    Returns:
        The number; None = as the executor has room.
    """
    if executor == PROCESSES:
        return min(workers or default or cores(), max(1, tasks))
    return workers


def is_local(executor: ExecutorLike, workers: int | None) -> bool:
    """Whether the tasks run in this process, one after the other: ``local``, or one process."""
    return executor == LOCAL or (executor == PROCESSES and workers is not None and workers <= 1)
