"""Finished days on disk, and the part of their logs that trainers may see.

Each finished day is a folder ``day-0007`` with its tables, models, and the state to go on from; it appears whole when
the day is over. A run may start from the last day of another one, whose folders it then reads but never writes.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from micrec.errors import MicrecError
from simulator.platform.platform_inputs import CLICKS, PlatformInputs
from simulator.ports import ObservedLog
from simulator.world.visits import DAY_S

IMPRESSIONS = {
    "user_id": pl.Int64,
    "item_id": pl.Int64,
    "timestamp": pl.Int64,
    "position": pl.Int16,
    "channel": pl.String,
    "channel_place": pl.Int16,
    "clicked": pl.Boolean,
}


class Archive(NamedTuple):
    """Where the folder of each day is.

    Attributes:
        folder: Folder of the run.
        base: Folder of the run whose days before ``own_day`` this one shares, if any.
        own_day: First day of this run's own.
    """

    folder: Path
    base: Path | None
    own_day: int

    def day(self, day: int) -> Path:
        """Folder of a finished day."""
        root = self.base if self.base is not None and day < self.own_day else self.folder
        return root / f"day-{day:04d}"

    def partial(self, day: int) -> Path:
        """Folder of a day under way."""
        return self.folder / f".day-{day:04d}.partial"

    def begin(self, day: int) -> Path:
        """A fresh folder for a day; what a kill has left of it is removed."""
        folder = self.partial(day)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "models").mkdir(parents=True)
        except OSError as fault:
            raise MicrecError(f"{folder}: cannot be made ({fault.strerror}): choose another folder.") from None
        return folder

    def finish(self, day: int) -> None:
        """Make a day under way a finished one."""
        self.partial(day).rename(self.day(day))

    def last(self, first_day: int) -> int:
        """The last finished day of those that follow one another from ``first_day``; ``first_day`` - 1 if none."""
        day = first_day
        while self.day(day).is_dir():
            day += 1
        return day - 1


def observed(
    archive: Archive,
    setting: PlatformInputs,
    day: int,
    *,
    arm: str | None,
    log_days: int | None,
    shared_until: int,
    known_as: Mapping[str, str] = MappingProxyType({}),
) -> ObservedLog:
    """What has been logged by the start of ``day``: the columns named here and no others.

    Args:
        archive: Where the days are.
        setting: The tables and the history.
        day: The day that begins.
        arm: Only this arm's users from day ``shared_until`` on; None = everybody's.
        log_days: Latest days that count; None = all.
        shared_until: First day of the experiment.
        known_as: Names under which models know channels that have others in the log.

    Raises:
        MicrecError: If a table cannot be read.
    """
    now_s = day * DAY_S
    first = setting.first_day if log_days is None else max(setting.first_day, day - log_days)
    history = setting.history
    if log_days is not None:
        history = history.filter(pl.col("timestamp") >= setting.start_s + (day - log_days) * DAY_S)
    clicks, impressions = [history], [pl.DataFrame(schema=IMPRESSIONS)]
    for past in range(first, day):
        only = arm if past >= shared_until else None
        clicks.append(_table(archive.day(past), "behaviours", CLICKS, only))
        impressions.append(_table(archive.day(past), "impressions", IMPRESSIONS, only))
    shown = pl.concat(impressions).sort("timestamp", maintain_order=True)
    if renamed := {name: known for name, known in known_as.items() if name != known}:
        shown = shown.with_columns(pl.col("channel").replace(renamed))
    return ObservedLog(
        users=setting.users,
        items=setting.items.filter(pl.col("published") <= setting.start_s + now_s),
        clicks=pl.concat(clicks).sort("timestamp", maintain_order=True),
        impressions=shown,
        now_s=float(now_s),
        start_s=setting.start_s,
    )


def _table(folder: Path, name: str, columns: dict, arm: str | None) -> pl.DataFrame:
    try:
        rows = pl.scan_parquet(folder / f"{name}-*.parquet")
        if arm is not None:
            rows = rows.filter(pl.col("arm") == arm)
        return rows.select(pl.col(column).cast(dtype) for column, dtype in columns.items()).collect()
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise MicrecError(
            f"{folder}: its {name} cannot be read ({fault}): delete this and the later day folders and run again."
        ) from fault
