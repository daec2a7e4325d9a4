"""A world as a dataset folder: streamed in parts, the same bytes for any number of workers, taken up after a kill.

``clicks/part-*.parquet`` and row by row beside them ``ground_truth/clicks/part-*.parquet`` (why each click was made);
``users.parquet`` and ``ground_truth/users.parquet``; ``items.parquet``, ``ground_truth/items.parquet`` and
``ground_truth/links.parquet``.

Exact: counts of users and items, behaviour rates, one-hour sessions (apart by more than an hour, shorter than one).
In the mean, so with sampling error: sessions per user (calibrated on a pilot of users who are not in the world, to
about a hundredth), clicks per session, tags per item. Where it is approximate, the module concerned says so.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from micrec.data.dataset_card import CARD_FILE, write_card
from micrec.data.parquet_files import writable
from micrec.data.store import new_folder, partial_of, write_schema
from micrec.destination import check_destination
from micrec.errors import MicrecError
from micrec.parallel import ExecutorLike, check_executor, is_local
from micrec.parallel.processors import cores
from micrec.progress import NoProgress, Progress
from micrec.version import __version__
from simulator.world.disk import check_space, folder_bytes
from simulator.world.item_table import (
    dataset_schema,
    ground_truth_items,
    ground_truth_links,
    item_frame,
    published_items,
)
from simulator.world.needs import say_needs
from simulator.world.parts import (
    BUILD,
    Tally,
    UserRange,
    join_parts,
    make_folders,
    plan,
    remove_cut_files,
    write_whole,
    written,
)
from simulator.world.workers import draw_parts
from simulator.world.world import World
from simulator.world.world_config import WorldConfig


class Generated(NamedTuple):
    """What was written."""

    folder: Path
    users: int  # seen within the log
    items: int
    clicks: int
    bytes: int
    seconds: float  # of this attempt
    clicks_per_s: float  # of the parts drawn in this attempt, calibration and items excluded


def generate_world(
    config: WorldConfig,
    out: Path,
    *,
    workers: int | None = 1,
    executor: ExecutorLike = "processes",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Generated:
    """Write the world to ``out``. Killed, the same call goes on where it stopped, to the same bytes.

    Args:
        config: The world.
        out: Dataset folder; it appears when it is whole.
        workers: Parts at a time, each in a process; 1 = this one, None = as the executor has room. Any number gives
            the same bytes.
        executor: Where parts are drawn: ``local``, ``processes``, ``dask://ADDRESS``, or an executor. The bytes are
            the same.
        overwrite: Replace the dataset in ``out``; it stays until the new one is whole.
        progress: Where to report.

    Raises:
        MicrecError: If keys contradict each other, ``out`` is taken, the disk is too small or fills up, or nobody
            clicks.
    """
    check_executor(executor)
    progress = progress or NoProgress()
    started_s = time.perf_counter()
    key = world_key(config)
    check_destination(out, replaced=True, needs=0)
    check_space(config, out, there=folder_bytes(partial_of(out, key)))
    world = World.build(config)
    with new_folder(out, overwrite=overwrite, resume=key) as folder:
        say_needs(config, 1 if is_local(executor, workers) else workers or cores(), progress)
        make_folders(folder)
        _write_items(world, folder)
        drawn = _draw(world, folder, workers, executor, progress)
        if not drawn.clicks:
            shutil.rmtree(folder)
            raise MicrecError(
                f"{config.name}: no user clicks within {config.days} days: raise days ({config.days}), "
                f"users.count ({config.users.count}) or sessions.per_user ({config.sessions.per_user:g})."
            )
        progress.say("joining the user tables")
        join_parts(folder, f"{BUILD}/users", folder / "users.parquet")
        join_parts(folder, f"{BUILD}/ground_truth_users", folder / "ground_truth" / "users.parquet")
        remove_cut_files(folder)
        shutil.rmtree(folder / BUILD)
        write_schema(folder, dataset_schema(config))
        with writable(folder / CARD_FILE):
            write_card(folder, dataset_schema(config))
    seconds = time.perf_counter() - started_s
    return Generated(
        out, drawn.users, published_items(config), drawn.clicks, folder_bytes(out), seconds, drawn.clicks_per_s
    )


def world_key(config: WorldConfig) -> str:
    """Names what a folder will hold: the keys and the version of the generator, as 16 hexadecimal digits."""
    text = json.dumps([__version__, config.model_dump(mode="json")], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class _Drawn(NamedTuple):
    users: int
    clicks: int
    clicks_per_s: float  # of the parts drawn now


def _write_items(world: World, folder: Path) -> None:
    """The item tables and the links; a catalogue may go on beyond the log, the tables do not."""
    out = published_items(world.config)
    for place, table in (
        ("items", lambda: item_frame(world.config, world.catalogue).head(out)),
        ("ground_truth/items", lambda: ground_truth_items(world.config, world.catalogue).head(out)),
        ("ground_truth/links", lambda: ground_truth_links(world.config, world.catalogue)),
    ):
        path = folder / f"{place}.parquet"
        if not path.exists():
            write_whole(path, table())


def _draw(world: World, folder: Path, workers: int | None, executor: ExecutorLike, progress: Progress) -> _Drawn:
    """All parts that are not there yet."""
    tallies: list[Tally] = []
    missing: list[UserRange] = []
    for part in plan(world.config):
        tally = written(folder, part)
        if tally is None:
            missing.append(part)
        else:
            tallies.append(tally)
    if tallies:
        progress.say(f"{len(tallies)} of {len(tallies) + len(missing)} parts are there already")
    progress.start(world.config.name, sum(part.last - part.first for part in missing), "users")
    started_s, clicks, rate = time.perf_counter(), 0, 0.0
    for part, tally in draw_parts(world, folder, missing, workers, executor=executor, progress=progress):
        tallies.append(tally)
        clicks += tally.clicks
        rate = clicks / (time.perf_counter() - started_s)
        progress.advance(part.last - part.first, f"{clicks:,} clicks, {rate:,.0f} clicks/s")
    progress.finish(f"{clicks:,} clicks, {rate:,.0f} clicks/s")
    return _Drawn(sum(tally.users for tally in tallies), sum(tally.clicks for tally in tallies), rate)
