"""From finer rows to one row per user: sums, days of activity, and who stayed for the next day."""

from itertools import pairwise
from typing import NamedTuple

import polars as pl

from abtest.analysis.guards import VARIES
from abtest.analysis.layout import Layout
from abtest.analysis.metrics import ELIGIBLE, STAYS
from micrec.errors import MicrecError

FIRST_DAY = "first_day"
_MOST_DAYS = 62  # bits of the word that holds a user's active days
_DAY_S = 86_400


class Days(NamedTuple):
    """The window of days that the log covers.

    Attributes:
        length: Days from the first to the last, both included.
        labels: Name of each.
    """

    length: int
    labels: tuple[str, ...]


def on_day(column: str, day: int) -> str:
    """Name of the column that holds a user's sum of ``column`` on ``day`` (1, 2, ...)."""
    return f"{column}\x1f{day}"


def to_users(
    rows: pl.LazyFrame, layout: Layout, daily: tuple[str, ...], where: str
) -> tuple[pl.LazyFrame, str, Days | None]:
    """Sum rows to users.

    Args:
        rows: Checked rows.
        layout: What their columns are.
        daily: Counts to keep by day as well, for looks before the end.
        where: Heads errors.

    Returns:
        One row per user: id, attributes (and a flag for each that is not one value), sums; with days also
        ``first_day``, the sums by day, the days after which the user came again the next day, and those after which
        they could have. Then what the rows were, and the window of days.
    """
    if layout.kind == "users":
        kept = ["user_id", *layout.attributes, *layout.counts]
        text = [pl.col(name).cast(pl.String) for name in ("arm",)]
        return rows.select(kept).with_columns(text), "one row per user, as logged", None
    days = None
    if layout.has_day:
        rows, days = _numbered(rows, where)
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
    return table.lazy(), noun, days


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


def _numbered(rows: pl.LazyFrame, where: str) -> tuple[pl.LazyFrame, Days]:
    """``day`` as 1, 2, ... from the first day of the log."""
    schema = rows.collect_schema()
    name = "day" if "day" in schema else "timestamp"
    kind = schema[name]
    column = pl.col(name)
    low, high = rows.select(column.min().alias("low"), column.max().alias("high")).collect(engine="streaming").row(0)
    dated = True
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        serial = column.cast(pl.Date).cast(pl.Int32)
    elif kind == pl.String:
        date = column.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
        if rows.select(date.is_null().any()).collect(engine="streaming").item():
            raise MicrecError(
                f"{where}: {name}: holds text that is no date, such as {low!r}: write 2026-11-24, or 1, 2."
            )
        serial = date.cast(pl.Int32)
    elif kind.is_integer() and name == "day" and low >= 19_000_101 and high <= 22_001_231:
        serial = column.cast(pl.String).str.to_date("%Y%m%d").cast(pl.Int32)
    elif kind.is_integer() and name == "day":
        serial, dated = column.cast(pl.Int32), False
    elif kind.is_numeric() and name == "timestamp":
        unit = 1 if high < 1e11 else 1e3 if high < 1e14 else 1e6  # seconds, milli- or microseconds
        serial = (column / (unit * _DAY_S)).floor().cast(pl.Int32)
    else:
        raise MicrecError(f"{where}: {name}: holds {kind}, must hold dates, times or the numbers of days.")
    first, last = rows.select(serial.min().alias("low"), serial.max().alias("high")).collect(engine="streaming").row(0)
    count = last - first + 1
    if count > _MOST_DAYS:
        raise MicrecError(
            f"{where}: {name}: spans {count:,} days, more than {_MOST_DAYS}: analyse the days of the test alone."
        )
    dates = pl.Series([first + d for d in range(count)], dtype=pl.Int32).cast(pl.Date)
    labels = [str(date) for date in dates] if dated else [f"day {first + d}" for d in range(count)]
    return rows.with_columns(day=serial - first + 1), Days(count, tuple(labels))
