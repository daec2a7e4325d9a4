"""Days of a log: its times cut in the plan's zone, counted from its first day."""

from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

from abtest.analysis.plan import AnalysisPlan
from micrec.data.times import local_date, read_days
from micrec.errors import MicrecError

_MOST_DAYS = 62  # bits of the word that holds a user's active days
# One for each rule of clocks that many people live by, proposed where days in UTC are too many
_ZONES = (
    "Europe/London",
    "Europe/Berlin",
    "Europe/Athens",
    "Europe/Moscow",
    "Asia/Dubai",
    "Asia/Karachi",
    "Asia/Kolkata",
    "Asia/Dhaka",
    "Asia/Bangkok",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Auckland",
    "America/Sao_Paulo",
    "America/Halifax",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Anchorage",
    "Pacific/Honolulu",
)
_PROPOSED = 3


class Days(NamedTuple):
    """The window of days that the log covers.

    Attributes:
        length: Days from the first to the last, both included.
        labels: Name of each.
        timezone: Zone in which they were cut.
        moments: The first and the last moment, where the log has moments.
    """

    length: int
    labels: tuple[str, ...]
    timezone: str = "UTC"
    moments: tuple[datetime, datetime] | None = None


def numbered(rows: pl.LazyFrame, plan: AnalysisPlan, where: str) -> tuple[pl.LazyFrame, Days | None, list[str]]:
    """The rows with ``day`` as 1, 2, ... from the first day of the log; rows of dropped times are left out.

    Returns:
        The rows, their days (None where no row has one), and what was assumed or left out, in words.

    Raises:
        MicrecError: If a time cannot be read, is implausible, or the log is longer than 62 days.
    """
    name = "day" if "day" in rows.collect_schema() else "timestamp"
    found = read_days(rows, name, timezone=plan.timezone, implausible=plan.implausible_times)
    if found.faults:
        raise MicrecError.of(f"{where} (rows count from 0)", [f"{fault}." for fault in found.faults])
    notes = [*found.notes, *(f"{count:,} rows were left out: {reason}." for reason, count in found.dropped)]
    if found.kept is not None:
        rows = rows.filter(found.kept)
    moment = found.instants if found.instants is not None else pl.lit(None, pl.Datetime("us", "UTC"))
    ends = rows.select(
        found.number.min().alias("first"),
        found.number.max().alias("last"),
        moment.min().alias("begin"),
        moment.max().alias("end"),
    )
    first, last, begin, end = ends.collect(engine="streaming").row(0)
    if first is None:
        return rows.with_columns(day=pl.lit(None, pl.Int32)), None, notes
    count = last - first + 1
    if count > _MOST_DAYS:
        raise MicrecError(
            f"{where}: {name}: spans {count:,} days, more than {_MOST_DAYS}: analyse the days of the test alone."
        )
    dates = pl.Series([first + d for d in range(count)], dtype=pl.Int32).cast(pl.Date)
    labels = [str(date) for date in dates] if found.dated else [f"day {first + d}" for d in range(count)]
    moments = None if begin is None else (begin.astimezone(UTC), end.astimezone(UTC))
    days = Days(count, tuple(labels), plan.timezone, moments)
    if count > plan.planned_days and (hint := other_zones(days, plan.planned_days)):
        notes.append(f"The log spans {count} days in {plan.timezone}. {hint}")
    return rows.with_columns(day=found.number - first + 1), days, notes


def other_zones(days: Days, most: int) -> str:
    """A sentence on the time zones in which the log has no more days than planned; empty if there are none."""
    if days.moments is None:
        return ""
    ends = pl.DataFrame({"moment": list(days.moments)}, schema={"moment": pl.Datetime("us", "UTC")})
    fitting = []
    for zone in _ZONES:
        first, last = ends.select(local_date(pl.col("moment"), zone))["moment"].to_list()
        if (last - first).days + 1 <= most:
            fitting.append(zone)
    if not fitting:
        return ""
    return (
        f"By the clocks of {', '.join(fitting[:_PROPOSED])} it spans {most} or fewer: name the users' zone, such as "
        f"--timezone {fitting[0]}."
    )
