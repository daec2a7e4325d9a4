"""Parts side by side: one process each, the same bytes for any number of processes."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from micrec.errors import MicrecError
from micrec.parent import end_with
from simulator.world.parts import BUILD, Tally, UserRange, write_part
from simulator.world.world import World

_WORLD = f"{BUILD}/world"


def default_workers() -> int:
    """One per core."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw_parts(
    world: World, folder: Path, parts: Sequence[UserRange], workers: int
) -> Iterator[tuple[UserRange, Tally]]:
    """Draw and write the parts; each is reported when it is done, in any order.

    Raises:
        MicrecError: What a worker raised, such as that the disk is full, or that one was killed; the others finish
            their part and stop.
    """
    workers = min(workers, len(parts))
    if workers <= 1:
        for part in parts:
            yield part, write_part(world, folder, part)
        return
    _save(world, folder)
    context = multiprocessing.get_context("spawn")
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(folder, os.getpid()))
        try:
            pending = {pool.submit(_work, part): part for part in parts}
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool:
            raise MicrecError(
                f"{world.config.name}: a worker was killed, perhaps for want of memory: run the same command again, it "
                f"goes on where it stopped; with fewer --workers than {workers} it takes less memory."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _save(world: World, folder: Path) -> None:
    (folder / _WORLD).mkdir(exist_ok=True)
    world.save(folder / _WORLD)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside the block give Polars one thread: there is a process for every core."""
    name = "POLARS_MAX_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _PartWorker:
    """What a worker process keeps between parts; the arrays of the world are mapped, not copied."""

    world: World
    folder: Path


def _start(folder: Path, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it lets parts under way be finished
    end_with(parent)
    _PartWorker.world = World.load(folder / _WORLD)
    _PartWorker.folder = folder


def _work(part: UserRange) -> Tally:
    return write_part(_PartWorker.world, _PartWorker.folder, part)
