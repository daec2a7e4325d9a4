"""Parts side by side: one process each, the same bytes for any number of processes and any executor."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from micrec.parallel import ExecutorLike, is_local, run_tasks, tasks_at_a_time
from micrec.progress import Progress
from simulator.world.parts import BUILD, Tally, UserRange, write_part
from simulator.world.world import World

_WORLD = f"{BUILD}/world"


def draw_parts(
    world: World,
    folder: Path,
    parts: Sequence[UserRange],
    workers: int | None,
    *,
    executor: ExecutorLike = "processes",
    progress: Progress | None = None,
) -> Iterator[tuple[UserRange, Tally]]:
    """Draw and write the parts; each is reported when it is done, in any order.

    Args:
        world: The world.
        folder: Where its parts lie, made ready by ``make_folders``.
        parts: Those to draw.
        workers: At a time; None = as the executor has room.
        executor: Where, see :func:`micrec.parallel.run_tasks`.
        progress: Gets what a cluster says.

    Raises:
        MicrecError: What a worker raised, such as that the disk is full; the others finish their part and stop.
    """
    workers = tasks_at_a_time(executor, workers, len(parts))
    if is_local(executor, workers):
        for part in parts:
            yield part, write_part(world, folder, part)
        return
    _save(world, folder)
    yield from run_tasks(
        _write,
        parts,
        executor=executor,
        workers=workers,
        prepare=partial(_OpenWorld.load, folder.absolute()),
        label=lambda part: part.file,
        folder=folder.absolute(),
        progress=progress,
        finishes_on_interrupt=True,
    )


def _save(world: World, folder: Path) -> None:
    (folder / _WORLD).mkdir(exist_ok=True)
    world.save(folder / _WORLD)


class _OpenWorld(NamedTuple):
    """What a worker keeps between parts; the arrays of the world are mapped, not copied."""

    world: World
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> "_OpenWorld":
        return cls(World.load(folder / _WORLD), folder)


def _write(opened: _OpenWorld, part: UserRange, progress: Progress) -> Tally:
    return write_part(opened.world, opened.folder, part)
