"""Threads of one process: as many as asked for, as far as the machine bears it."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")

MOST_PER_CORE = 8  # more only take memory, and a system may refuse to start them


def use_threads(count: int) -> None:
    """Let torch compute with ``count`` threads, at most eight a core."""
    torch.set_num_threads(min(count, MOST_PER_CORE * (os.cpu_count() or 1)))


class _Pools:
    """Pools of threads by their number, used by one caller at a time; a forked process begins with none."""

    def __init__(self) -> None:
        self.start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.start)

    def start(self) -> None:
        self.busy = Lock()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def of(self, count: int) -> ThreadPoolExecutor:
        if count not in self._pools:
            alone = partial(torch.set_num_threads, 1)
            self._pools[count] = ThreadPoolExecutor(count, "micrec", initializer=alone)
        return self._pools[count]


_pools = _Pools()


def side_by_side(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """What each task returns, in their order; all run at once, and each computes with one thread.

    For many small operations on parts of a whole: threads that torch starts itself meet after every one of them, and
    wait there for the slowest. No gradient is recorded. Where another thread is in here already, the tasks run one
    after the other.

    Raises:
        BaseException: What the first task that failed raised, once all have ended.
    """
    if len(tasks) < 2 or not _pools.busy.acquire(blocking=False):
        with torch.no_grad():
            return [task() for task in tasks]
    threads, begin = torch.get_num_threads(), Barrier(len(tasks))
    others: list[Future[T]] = []
    try:
        torch.set_num_threads(1)
        others += (_pools.of(len(tasks) - 1).submit(_together, task, begin) for task in tasks[1:])
        first = _together(tasks[0], begin)
        return [first, *(other.result() for other in others)]
    finally:
        if len(others) < len(tasks) - 1:
            begin.abort()  # a thread could not be had, and the others would wait for it
        wait(others)
        torch.set_num_threads(threads)
        _pools.busy.release()


def _together(task: Callable[[], T], begin: Barrier) -> T:
    begin.wait()  # a thread that is called while another one computes would begin milliseconds later
    with torch.no_grad():
        return task()
