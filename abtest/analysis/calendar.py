"""The calendar of a switchback: every period of every place, also those in which nothing was logged.

A period without rows is a period with a total of 0, and leaving it out makes quiet hours look busier than they were.
Its arm is not in the log, so it is taken from a schedule (``--schedule``), from rows in the period's washout, or from
the other places where all of them always had one arm at a time. A period whose arm is not known stays out, counted.
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.source import no_column, renamed
from abtest.analysis.unit_cells import UNIT
from micrec.data.locations import open_location
from micrec.data.times import read_times
from micrec.errors import MicrecError

PERIOD = "\x1fperiod"  # the period of a row, as text
STARTS = "%Y-%m-%d %H:%M"
_FIRST = 3


class SwitchbackCalendar(NamedTuple):
    """Periods of a switchback.

    Attributes:
        known: Every period with an arm: UNIT, the places, PERIOD, ``arm``, in order of UNIT.
        empty: Those of them without any row that counts.
        notes: How many there are and how their arm is known, in words.
    """

    known: pl.DataFrame
    empty: pl.DataFrame
    notes: tuple[str, ...]


def calendar_of(
    known: pl.DataFrame, alive: pl.Series, places: tuple[str, ...], length: str | None, plan: AnalysisPlan, where: str
) -> SwitchbackCalendar:
    """The calendar from the first period of the log, or of the schedule, to the last.

    Args:
        known: Periods with rows, washed-out ones too: the columns of ``SwitchbackCalendar.known``.
        alive: UNIT of those with rows after the washout.
        places: Columns that name a place.
        length: Length of a period that is cut from times, such as ``2h``; None where periods are a column.
        plan: Its time zone, and its schedule.
        where: What the log is called in messages.

    Raises:
        MicrecError: If the schedule cannot be read or contradicts the log.
    """
    scheduled = None
    if plan.design.schedule is not None:
        scheduled = _schedule(plan.design.schedule, places, length, plan)
        _check_schedule(known, scheduled, places, f"--schedule {plan.design.schedule}", where)
    keys = [*places, PERIOD]
    whole = _every_period(known, places, length, plan) if scheduled is None else scheduled.select(keys)
    silent = whole.join(known, on=keys, how="anti", maintain_order="left")
    arms = scheduled if scheduled is not None else _common_arms(known)
    if arms is None:
        silent = silent.with_columns(arm=pl.lit(None, pl.String))
    else:
        on = keys if scheduled is not None else [PERIOD]
        silent = silent.join(arms, on=on, how="left", maintain_order="left")
    unknown = int(silent["arm"].null_count())
    found = silent.drop_nulls("arm").with_columns(pl.concat_str(keys, separator=" / ").alias(UNIT))
    full = pl.concat([known, found.select(known.columns)]).sort(UNIT)
    empty = full.filter(~pl.col(UNIT).is_in(alive.implode()))
    washed = len(empty) - len(found)
    return SwitchbackCalendar(full, empty, tuple(_notes(len(empty), washed, unknown, scheduled is not None)))


def _notes(empty: int, washed: int, unknown: int, is_scheduled: bool) -> list[str]:
    """What was filled and what could not be."""
    found = []
    if empty:
        by = "the schedule" if is_scheduled else "the arm of all other places at the time"
        of = [f"{empty - washed:,} with the arm of {by}"] if empty > washed and not is_scheduled else []
        of = [f"{empty - washed:,} by {by}"] if empty > washed and is_scheduled else of
        of += [f"{washed:,} with rows in their washout alone"] if washed else []
        found.append(f"{empty:,} periods without rows count with a total of 0 ({', '.join(of)}).")
    if unknown:
        found.append(
            f"{unknown:,} periods between the first and the last have no rows and no known arm: they are left out, "
            "which makes totals too large where periods are empty. Give the arm of every period with --schedule."
        )
    return found


def _every_period(known: pl.DataFrame, places: tuple[str, ...], length: str | None, plan: AnalysisPlan) -> pl.DataFrame:
    """All places times all periods; of a column of periods those that occur."""
    periods = known.select(PERIOD).unique()
    if length is not None:
        ends = known[PERIOD].str.to_datetime(STARTS, time_zone=plan.timezone, ambiguous="earliest")
        utc = ends.dt.convert_time_zone("UTC").sort()
        step = length if length.endswith("m") else "1h"  # so fine that clocks that change skip no period
        grid = pl.select(pl.datetime_range(pl.lit(utc[0]), pl.lit(utc[-1]), step, time_zone="UTC")).to_series()
        starts = grid.dt.convert_time_zone(plan.timezone).dt.truncate(length).dt.strftime(STARTS)
        periods = pl.DataFrame({PERIOD: pl.concat([starts, known[PERIOD]]).unique()})
    if not places:
        return periods
    return known.select(places).unique().join(periods, how="cross").select(*places, PERIOD).sort(*places, PERIOD)


def _common_arms(known: pl.DataFrame) -> pl.DataFrame | None:
    """The arm of each period, if all places have one arm at a time, and some periods have several places."""
    by_time = known.group_by(PERIOD).agg(
        pl.col("arm").first(), pl.col("arm").n_unique().alias("arms"), pl.len().alias("places")
    )
    shared = by_time.filter(pl.col("places") > 1)
    if by_time["arms"].max() != 1 or len(shared) < 2 or shared["arm"].n_unique() < 2:
        return None
    return by_time.select(PERIOD, "arm")


def _schedule(path: Path, places: tuple[str, ...], length: str | None, plan: AnalysisPlan) -> pl.DataFrame:
    """Places, period and arm of every row of the schedule."""
    where = f"--schedule {path}"
    rows, _ = renamed(open_location(str(path), plan.table).rows, {}, where)
    there = rows.collect_schema().names()
    when = "timestamp" if length is not None else plan.design.unit[-1]
    faults = [no_column(name, there) for name in (*places, when, "arm") if name not in there]
    if faults:
        raise MicrecError.of(
            where, [f"{fault} A schedule has {', '.join([*places, when, 'arm'])}." for fault in faults]
        )
    if length is None:
        period = pl.col(when).cast(pl.String)
    else:
        times = read_times(rows, "timestamp", timezone=plan.timezone, implausible="drop")
        if times.faults:
            raise MicrecError.of(f"{where} (rows count from 0)", [f"{fault}." for fault in times.faults])
        period = times.instants.dt.convert_time_zone(plan.timezone).dt.truncate(length).dt.strftime(STARTS)
    names = [pl.col(name).cast(pl.String) for name in places]
    table = rows.select(*names, period.alias(PERIOD), pl.col("arm").cast(pl.String).str.strip_chars()).collect()
    table = table.unique(maintain_order=True)
    bad = table.filter(pl.any_horizontal(pl.all().is_null()) | ~pl.col("arm").is_in([*plan.arms, *plan.ignored_arms]))
    twice = table.filter(pl.struct(*places, PERIOD).is_duplicated())
    faults = []
    if len(bad):
        faults.append(f"{len(bad):,} rows have an empty cell or an arm other than {', '.join(plan.arms)}.")
    if len(twice):
        faults.append(f"{len(twice):,} rows give a period several arms ({_shown(twice, places)}).")
    if table.is_empty() or faults:
        raise MicrecError.of(where, faults or ["holds no rows: give every period with its arm."])
    return table


def _check_schedule(
    known: pl.DataFrame, scheduled: pl.DataFrame, places: tuple[str, ...], where: str, log: str
) -> None:
    """Whether the log did what the schedule says."""
    both = known.join(scheduled, on=[*places, PERIOD], how="left", suffix=" planned", maintain_order="left")
    missing, other = both.filter(pl.col("arm planned").is_null()), both.filter(pl.col("arm") != pl.col("arm planned"))
    faults = []
    if len(missing):
        faults.append(f"{len(missing):,} periods of the log are not in it ({_shown(missing, places)}).")
    if len(other):
        faults.append(
            f"{len(other):,} periods of the log were of another arm ({_shown(other, places)}): find out which is "
            "right; the log should say what users were shown."
        )
    if faults:
        raise MicrecError.of(f"{where} and {log}", faults)


def _shown(table: pl.DataFrame, places: tuple[str, ...]) -> str:
    text = table.head(_FIRST).select(pl.concat_str([*places, PERIOD], separator=" / ")).to_series()
    return ", ".join(text.to_list())
