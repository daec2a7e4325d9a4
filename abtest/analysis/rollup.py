"""From finer rows to one row per user: sums, days of activity, and who stayed for the next day."""

from itertools import pairwise

import polars as pl

from abtest.analysis.days import Days
from abtest.analysis.guards import VARIES
from abtest.analysis.layout import Layout
from abtest.analysis.metrics import ELIGIBLE, STAYS

FIRST_DAY = "first_day"


def on_day(column: str, day: int) -> str:
    """Name of the column that holds a user's sum of ``column`` on ``day`` (1, 2, ...)."""
    return f"{column}\x1f{day}"


def to_users(rows: pl.LazyFrame, layout: Layout, daily: tuple[str, ...], days: Days | None) -> tuple[pl.LazyFrame, str]:
    """Sum rows to users.

    Args:
        rows: Checked rows.
        layout: What their columns are.
        daily: Counts to keep by day as well, for looks before the end.
        days: The window of days, with ``day`` counted from 1; None without days.

    Returns:
        One row per user: id, attributes (and a flag for each that is not one value), sums; with days also
        ``first_day``, the sums by day, the days after which the user came again the next day, and those after which
        they could have. Then what the rows were.
    """
    if layout.kind == "users":
        kept = ["user_id", *layout.attributes, *layout.counts]
        text = [pl.col(name).cast(pl.String) for name in ("arm",)]
        return rows.select(kept).with_columns(text), "one row per user, as logged"
    parts: list[pl.Expr] = []
    for name in layout.attributes:
        column = pl.col(name).cast(pl.String) if name == "arm" else pl.col(name)
        parts.append(column.first().alias(name))
        varies = (column.min() != column.max()) | (column.is_null().any() & column.is_not_null().any())
        parts.append(varies.fill_null(False).alias(VARIES + name))
    parts += [pl.col(name).sum().alias(name) for name in layout.counts]
    if days is not None:
        day = pl.col("day")
        parts.append(day.min().alias(FIRST_DAY))
        parts += [
            pl.col(name).filter(day == d).sum().alias(on_day(name, d))
            for name in daily
            for d in range(1, days.length + 1)
        ]
        was_there = day.filter(_active(layout)) if layout.kind == "days" else day
        parts += [(was_there == d).any().alias(f"\x1factive\x1f{d}") for d in range(1, days.length + 1)]
    users = rows.group_by("user_id").agg(parts)
    if days is not None:
        users = _stays(users, days)
    table = users.sort("user_id").collect(engine="streaming")  # groups come in any order, and sums round by it
    noun = {"days": "user-day rows", "events": "events", "parts": "rows"}[layout.kind]
    return table.lazy(), noun


def _active(layout: Layout) -> pl.Expr:
    """On which user-day rows the user was there: as the log says, else where anything was counted."""
    if layout.has_active:
        return pl.col("active").cast(pl.Boolean)
    return pl.any_horizontal([pl.col(name).cast(pl.Float64) > 0 for name in layout.counts])


def _stays(users: pl.LazyFrame, days: Days) -> pl.LazyFrame:
    """Pairs of a day on which the user was there and the next day, if the next day still lies in the window."""
    there = [pl.col(f"\x1factive\x1f{d}") for d in range(1, days.length + 1)]
    pairs = [(today & tomorrow).cast(pl.Int32) for today, tomorrow in pairwise(there)]
    could = [today.cast(pl.Int32) for today in there[:-1]]
    none = [pl.lit(0, pl.Int32)]
    made = {STAYS: pl.sum_horizontal(none + pairs), ELIGIBLE: pl.sum_horizontal(none + could)}
    return users.with_columns(**made).drop([f"\x1factive\x1f{d}" for d in range(1, days.length + 1)])
