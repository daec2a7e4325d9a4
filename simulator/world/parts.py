"""The log in parts: each holds the history of a fixed range of users, whoever writes it and whenever.

A range depends on nothing but the keys of the world, so that a part has the same bytes for any number of workers, in
any order, and after a kill. A part is four files that appear whole; its clicks appear last, and with them it is done.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from micrec.data.parquet_files import writable
from simulator.world.clicks import Cause
from simulator.world.world import Shard, World
from simulator.world.world_config import WorldConfig

PART_CLICKS, PART_USERS = 2_000_000, 1 << 18  # of a part; the first on average
BATCH_CLICKS, BATCH_USERS = 600_000, 1 << 15  # drawn at a time: large enough to share work, small enough for caches
ROWS_PER_GROUP = 1 << 20
BUILD = "build"  # folder of what is not part of the dataset


class UserRange(NamedTuple):
    """Users ``first`` … ``last - 1``."""

    number: int
    first: int
    last: int

    @property
    def file(self) -> str:
        return f"part-{self.number:05d}.parquet"


class Tally(NamedTuple):
    """What a part holds."""

    users: int  # seen within the log
    clicks: int


def plan(config: WorldConfig) -> list[UserRange]:
    """The parts of a world; more users add parts and fill up the last."""
    size = _users_of(PART_CLICKS, PART_USERS, config)
    count = config.users.count
    return [UserRange(number, first, min(first + size, count)) for number, first in enumerate(range(0, count, size))]


def write_part(world: World, folder: Path, part: UserRange) -> Tally:
    """Draw and write one part into a folder made ready by :func:`make_folders`."""
    shards = list(_shards(world, part))
    tables = {
        f"{BUILD}/users": pl.concat(shard.users for shard in shards),
        f"{BUILD}/ground_truth_users": pl.concat(shard.ground_truth_users for shard in shards),
        "ground_truth/clicks": pl.DataFrame(
            {"cause": _cause_names().gather(pl.concat(s.causes for s in shards)["cause"])}
        ),
        "clicks": pl.concat(shard.clicks for shard in shards),
    }
    for place, table in tables.items():
        write_whole(folder / place / part.file, table)
    return Tally(len(tables[f"{BUILD}/users"]), len(tables["clicks"]))


def written(folder: Path, part: UserRange) -> Tally | None:
    """What a finished part holds; None if it is not there, or was cut short by a power cut."""
    rows = {place: _rows(folder / place / part.file) for place in _places()}
    if None in rows.values() or rows["clicks"] != rows["ground_truth/clicks"]:
        return None
    return Tally(rows[f"{BUILD}/users"] or 0, rows["clicks"] or 0)


def make_folders(folder: Path) -> None:
    """Make the folders that parts are written to."""
    for place in _places():
        (folder / place).mkdir(parents=True, exist_ok=True)


def remove_cut_files(folder: Path) -> None:
    """Remove what killed writers left half-written."""
    for place in _places():
        for path in (folder / place).glob(".part-*"):
            path.unlink(missing_ok=True)


def join_parts(folder: Path, place: str, out: Path) -> None:
    """One file of the parts in ``folder / place``, in order and streamed: memory does not grow with the users."""
    with writable(out):
        files = sorted((folder / place).glob("part-*.parquet"))
        pl.scan_parquet(files, glob=False, hive_partitioning=False).sink_parquet(
            out, compression="zstd", row_group_size=ROWS_PER_GROUP, maintain_order=True
        )


def expected_clicks_per_user(config: WorldConfig) -> float:
    """Mean clicks of a user in the whole log, roughly: a longer log than the window is taken to go on as it began."""
    return config.sessions.per_user * config.sessions.clicks * max(1.0, config.days / config.window_days)


def _cause_names() -> pl.Series:
    names = [cause.name.lower() for cause in Cause]
    return pl.Series(names, dtype=pl.Enum(names))


def _places() -> tuple[str, ...]:
    return (f"{BUILD}/users", f"{BUILD}/ground_truth_users", "ground_truth/clicks", "clicks")


def _users_of(clicks: int, most: int, config: WorldConfig) -> int:
    return min(most, max(1, round(clicks / expected_clicks_per_user(config))))


def _shards(world: World, part: UserRange) -> Iterator[Shard]:
    step = _users_of(BATCH_CLICKS, BATCH_USERS, world.config)
    for first in range(part.first, part.last, step):
        yield world.history(first, min(first + step, part.last))


def write_whole(path: Path, table: pl.DataFrame) -> None:
    """Write beside the target and rename."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with writable(path):
        try:
            table.rechunk().write_parquet(
                partial, compression="zstd", compression_level=1, row_group_size=ROWS_PER_GROUP
            )
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _rows(path: Path) -> int | None:
    try:
        return int(pl.scan_parquet(path, glob=False, hive_partitioning=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError):
        return None
