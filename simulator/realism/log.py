"""A click log as the statistics see it: sorted by user and time, cut into sessions, perhaps a sample of its users."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.dataset import Clicks, Dataset
from micrec.data.schema import FieldType
from micrec.data.sessions import assign_sessions
from micrec.data.store import read_dataset
from micrec.errors import MicrecError
from simulator.draws import Draws

DAY_S, HOUR_S = 86_400, 3_600
LEAST_WEEKDAYS = 13  # days of a log that shows each day of the week about twice
_MS_FROM = 100_000_000_000  # larger timestamps of item fields are milliseconds


class Tags(NamedTuple):
    """Tags of items 0 … N - 1: those of item i are ``values[offsets[i] : offsets[i + 1]]``, codes from 1."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """Clicks of some users, by user and time; ties keep the order of the file.

    Attributes:
        name: Name of the dataset.
        user: Dense user ids, shape (n,), never falling.
        item: Dense item ids, shape (n,).
        time_s: Seconds since 1970-01-01 on the clock of the log, shape (n,): UTC, moved by what the caller asked for.
        n_items: Items of the table, clicked or not.
        dwell_s: Seconds on the item, shape (n,), or None where the log has none; ``like`` and ``follow`` likewise.
        category: Category code of each item, 0 = unknown, shape (N,), or None.
        tags: Tags of the items, or None.
        published_s: When each item was published on the same clock, NaN = unknown, shape (N,), or None.
        sampled: Users kept and users there were, where the log is a sample of users; else None.
    """

    name: str
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    time_s: NDArray[np.float64]
    n_items: int
    dwell_s: NDArray[np.float64] | None = None
    like: NDArray[np.bool_] | None = None
    follow: NDArray[np.bool_] | None = None
    category: NDArray[np.int32] | None = None
    tags: Tags | None = None
    published_s: NDArray[np.float64] | None = None
    sampled: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def n_users(self) -> int:
        """Users with a click."""
        return int((np.diff(self.user) != 0).sum()) + 1 if len(self) else 0

    @cached_property
    def n_groups(self) -> int:
        """One more than the largest user id: the length of a count by user."""
        return int(self.user.max(initial=-1)) + 1

    @cached_property
    def session(self) -> NDArray[np.int64]:
        """Session of every click, shape (n,), never falling: one hour from the first click (paper 4.1)."""
        return assign_sessions(self.user.astype(np.int32), np.round(self.time_s * 1000).astype(np.int64), _SESSIONS)

    @cached_property
    def session_start(self) -> NDArray[np.int64]:
        """Row of the first click of every session, shape (S,)."""
        return np.flatnonzero(np.diff(self.session, prepend=-1))

    @cached_property
    def session_clicks(self) -> NDArray[np.int64]:
        """Clicks of every session, shape (S,)."""
        return np.diff(self.session_start, append=len(self))

    @cached_property
    def user_start(self) -> NDArray[np.int64]:
        """Row of the first click of every user, shape (U,)."""
        return np.flatnonzero(np.diff(self.user, prepend=-1))

    @cached_property
    def item_clicks(self) -> NDArray[np.int64]:
        """Clicks of every item of the table, shape (N,)."""
        return np.bincount(self.item, minlength=self.n_items)

    @cached_property
    def repeated(self) -> NDArray[np.bool_]:
        """Whether the user had clicked the item before, shape (n,)."""
        order = np.lexsort((np.arange(len(self)), self.item, self.user))
        user, item = self.user[order], self.item[order]
        again = np.zeros(len(self), bool)
        again[order[1:]] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
        return again

    @cached_property
    def first_s(self) -> float:
        """Midnight before the first click."""
        return float(self.time_s.min() // DAY_S * DAY_S)

    @cached_property
    def span_s(self) -> float:
        """From the first click to the last."""
        return float(np.ptp(self.time_s))

    def of_users(self, keep: NDArray[np.bool_]) -> "Log":
        """The log of those users whom ``keep`` keeps: over the users with clicks in order of their id, shape (U,)."""
        rows = np.repeat(keep, np.diff(self.user_start, append=len(self)))

        def take(values: NDArray | None) -> NDArray | None:
            return None if values is None else values[rows]

        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            time_s=self.time_s[rows],
            dwell_s=take(self.dwell_s),
            like=take(self.like),
            follow=take(self.follow),
        )

    def thinned(self, most_users: int) -> "Log":
        """The log of about ``most_users`` users at most, chosen by a key of the user."""
        if self.n_users <= most_users:
            return self
        kept = self.of_users(keyed_share(self.user[self.user_start], "realism thinned") < most_users / self.n_users)
        total = self.sampled[1] if self.sampled else self.n_users
        return replace(kept, sampled=(kept.n_users, total))

    def halves(self) -> tuple["Log", "Log"]:
        """Two logs of half the users each, drawn by a key of the user."""
        first = keyed_share(self.user[self.user_start], "realism half") < 0.5
        return self.of_users(first), self.of_users(~first)


_SESSIONS = SessionsConfig()


def keyed_share(ids: NDArray[np.int64], purpose: str) -> NDArray[np.float64]:
    """A uniform number in (0, 1) for each id: the same for the same id, in any order and any machine."""
    return Draws(0, purpose).uniform(ids)


def count_users(folder: Path) -> int | None:
    """Rows of the user table, without reading it; None if there is none to read, which loading will tell."""
    try:
        return int(pl.scan_parquet(folder / "users.parquet", glob=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError):
        return None


def load_sample(folder: Path, most_users: int) -> tuple[Dataset, tuple[int, int] | None]:
    """A dataset with the clicks of about ``most_users`` users at most, chosen by a key of their row.

    The click files are checked and decoded chunk by chunk; only clicks of chosen users are kept in memory.

    Raises:
        MicrecError: If the folder is invalid, or nobody chosen has a click.
    """
    n = count_users(folder) or 0
    if n <= most_users:
        return read_dataset(folder), None
    dataset = read_dataset(folder, keep_users=keyed_share(np.arange(n), "realism sample") < most_users / n)
    if not len(dataset.clicks):
        raise MicrecError(f"{folder}: no click of a sample of {most_users} of {n} users: take a larger one (--users).")
    return dataset, (len(np.unique(dataset.clicks.user_ids)), n)


def log_of(dataset: Dataset, *, utc_offset_h: float = 0.0, sampled: tuple[int, int] | None = None) -> Log:
    """The log of a dataset.

    Args:
        dataset: The data.
        utc_offset_h: Hours added to its clock, so that midnight is midnight where the users live; at 0 those of the
            dataset's zone in the middle of the log.
        sampled: Users kept and users there were, if it is a sample.
    """
    middle_ms = int(dataset.clicks.time_ms[len(dataset.clicks) // 2]) if len(dataset.clicks) else 0
    shift_s = (utc_offset_h or dataset.schema.days.utc_offset_h(middle_ms)) * HOUR_S
    items, roles = dataset.items, dataset.schema.roles
    category = items.columns.get(roles.category or "")
    taxonomy = items.columns.get(roles.taxonomy or "")
    published = next((name for name, kind in dataset.schema.items.items() if kind is FieldType.TIMESTAMP), None)
    tags = None
    if taxonomy is not None and taxonomy.values is not None and taxonomy.offsets is not None:
        tags = Tags(taxonomy.values, taxonomy.offsets)
    return sorted_log(
        dataset.name,
        dataset.clicks,
        len(items),
        shift_s=shift_s,
        category=None if category is None else category.codes,
        tags=tags,
        published_s=None if published is None else _seconds(items.frame[published]) + shift_s,
        sampled=sampled,
    )


def sorted_log(
    name: str,
    clicks: Clicks,
    n_items: int,
    *,
    shift_s: float = 0.0,
    category: NDArray[np.int32] | None = None,
    tags: Tags | None = None,
    published_s: NDArray[np.float64] | None = None,
    sampled: tuple[int, int] | None = None,
) -> Log:
    """The log of clicks in time order, sorted by user."""
    order = np.argsort(clicks.user_ids, kind="stable")
    return Log(
        name=name,
        user=clicks.user_ids[order].astype(np.int64),
        item=clicks.item_ids[order].astype(np.int64),
        time_s=clicks.time_ms[order] / 1000.0 + shift_s,
        n_items=n_items,
        dwell_s=None if clicks.dwell_s is None else clicks.dwell_s[order].astype(np.float64),
        like=None if clicks.like is None else clicks.like[order],
        follow=None if clicks.follow is None else clicks.follow[order],
        category=category,
        tags=tags,
        published_s=published_s,
        sampled=sampled,
    )


def _seconds(times: pl.Series) -> NDArray[np.float64]:
    """Seconds since 1970-01-01 of a timestamp column, NaN = missing."""
    if times.dtype.is_temporal():
        return times.cast(pl.Datetime("ms")).cast(pl.Float64).to_numpy() / 1000.0
    values = times.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.where(np.abs(values) >= _MS_FROM, values / 1000.0, values)
