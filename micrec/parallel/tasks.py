"""The one loop that gives tasks to workers: results as they come, lost work done again, everything ended in order."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from micrec.errors import MicrecError
from micrec.parallel.executor import PROCESSES, ExecutorLike, check_executor, is_local
from micrec.parallel.pools import TaskPool, open_pool
from micrec.parallel.worker import TaskRun, versions
from micrec.progress import NoProgress, Progress
from micrec.registry import extensions

LOSSES = 3  # of a task with its worker, after which it is given up
T = TypeVar("T")


def run_tasks(
    function: Callable[[Any, T, Progress], Any],
    tasks: Iterable[T | None],
    *,
    executor: ExecutorLike = PROCESSES,
    workers: int | None = None,
    prepare: Callable[[], Any] | None = None,
    label: Callable[[T], str] = str,
    folder: Path | None = None,
    progress: Progress | None = None,
    finishes_on_interrupt: bool = False,
    given_up: Callable[[T], None] | None = None,
) -> Iterator[tuple[T, Any]]:
    """Do tasks side by side; each is yielded with its result when it is done, in any order.

    A task whose worker is lost is done again by another, up to three times. It must therefore write its files whole,
    or go on from what it left behind.

    Args:
        function: Called in a worker as ``function(prepared, task, progress)``; other processes must be able to import
            it.
        tasks: Taken one by one as workers become free. None stands for "not yet": the next is asked for when a task
            under way is done.
        executor: Where: ``local``, ``processes``, ``dask://ADDRESS``, or an executor.
        workers: Tasks at a time; None = one per core, or per thread of the cluster.
        prepare: Makes what a worker keeps for all its tasks, such as a dataset that it reads.
        label: What a task is called in the lines that workers send.
        folder: A folder that all workers must see, beside the current one.
        progress: Gets their lines.
        finishes_on_interrupt: Whether Ctrl-C waits for tasks under way; otherwise they are stopped.
        given_up: Told a task that was lost three times, which then has no result; None = that is an error.

    Raises:
        MicrecError: What a task raised, or that its worker died three times; the other tasks are stopped.
    """
    check_executor(executor)
    progress = progress or NoProgress()
    if is_local(executor, workers):
        prepared = prepare() if prepare else None
        for task in tasks:
            if task is not None:
                yield task, function(prepared, task, progress)
        return
    folders = (Path.cwd(), *([folder] if folder else []))
    run = TaskRun(f"micrec-{uuid.uuid4().hex}", function, prepare, extensions(), folders, versions())
    pool = open_pool(run, executor, workers, progress, finishes_on_interrupt)
    try:
        yield from _results(pool, iter(tasks), label, given_up)
    except BaseException as fault:
        pool.stop()
        if (explained := pool.explained(fault)) is not None:
            raise explained from None
        raise
    finally:
        pool.close()


def _results(
    pool: TaskPool, tasks: Iterator[T | None], label: Callable[[T], str], given_up: Callable[[T], None] | None
) -> Iterator[tuple[T, Any]]:
    running: dict[Future[Any], _Given[T]] = {}
    again: list[_Given[T]] = []
    while True:
        while len(running) < pool.slots and (one := again.pop(0) if again else _next(tasks)) is not None:
            try:
                running[pool.submit(one.task, label(one.task))] = one
            except Exception as fault:
                if not pool.is_lost(fault):
                    raise
                again.insert(0, one)
                break
        if running:
            wait(running, return_when=FIRST_COMPLETED)
        elif not again:
            return
        broken = len(again) > 0 and not running
        for future in [future for future in running if future.done()]:
            one = running.pop(future)
            lost = future.exception()
            if lost is not None and pool.is_lost(lost):
                broken = True
                again += _once_more(one, given_up)
            else:
                yield one.task, future.result()
        if broken:
            for future, one in running.items():  # with one process, all of a pool are lost
                wait([future])
                again += _once_more(one, given_up)
            running.clear()
            pool.renew()


class _Given(NamedTuple, Generic[T]):
    """A task under way."""

    task: T
    losses: int = 0


def _next(tasks: Iterator[T | None]) -> _Given[T] | None:
    task = next(tasks, None)
    return None if task is None else _Given(task)


def _once_more(lost: _Given[T], given_up: Callable[[T], None] | None) -> list[_Given[T]]:
    """The lost task to be tried again, unless that was enough."""
    if lost.losses + 1 < LOSSES:
        return [_Given(lost.task, lost.losses + 1)]
    if given_up is None:
        raise MicrecError(
            "a worker was killed again and again, perhaps for want of memory: run the same command again, it goes on "
            "where it stopped; with fewer --workers it takes less memory."
        )
    given_up(lost.task)
    return []
