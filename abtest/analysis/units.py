"""Units above the user: clusters that were assigned together, and the periods of a switchback.

``--unit household``: every user belongs to one household, and households were assigned. ``--unit region,hour``: every
hour of every region was assigned, so that a user may meet both arms. What is compared are then totals of periods, since
who comes in a period may itself be an effect; place and hour of the day, which no arm can change, are covariates.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import polars as pl

from abtest.analysis.calendar import PERIOD, STARTS, calendar_of
from abtest.analysis.metrics import COLD
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.source import no_column
from abtest.analysis.unit_cells import UNIT
from micrec.data.column_names import how_to_name
from micrec.data.times import read_times
from micrec.errors import MicrecError

PREVIOUS = "previous_arm"  # slice column of a switchback: the arm of the period before, in the same place
FIRST = 3  # units shown with a fault
_UNITS_PER_FLAG = 20  # fewer periods for each flag, and CUPED would fit noise
_LENGTHS = {"minute": "1m", "hour": "1h", "day": "1d", "week": "1w"}
_PERIODS = ("period", "block", "slot", "date", *_LENGTHS)  # columns whose values are periods
_LENGTH = re.compile(r"[1-9]\d{0,4}[mhdw]")


class Units(NamedTuple):
    """How the unit of the plan is made.

    Attributes:
        places: Columns that name a cluster, or the place of a switchback.
        period: Column with the period of a switchback, or its name where it is cut from times; None for clusters.
        length: Length of a period that is cut from times, such as ``2h``; None where it is a column.
    """

    places: tuple[str, ...]
    period: str | None
    length: str | None

    @property
    def noun(self) -> str:
        """What several units are called."""
        return "periods" if self.period is not None else f"units ({self.words})"

    @property
    def words(self) -> str:
        """What a unit is called."""
        return " and ".join([*self.places, *([self.period] if self.period else [])])


def units_of(names: Sequence[str], columns: Sequence[str]) -> Units:
    """What the names of ``--unit`` mean in a log with these columns."""
    *places, last = names
    if last not in columns and (last in _LENGTHS or _LENGTH.fullmatch(last)):
        return Units(tuple(places), last, _LENGTHS.get(last, last))
    if places and last in _PERIODS:
        return Units(tuple(places), last, None)
    return Units(tuple(names), None, None)


class UnitRows(NamedTuple):
    """A log by its units.

    Attributes:
        rows: Its rows with the column ``UNIT``; of a switchback with periods in place of users.
        plan: The plan with the slice and the covariates that a switchback adds.
        units: What the units are.
        notes: What was done, in words.
        empty: Periods without rows that count 0, with all that is known of them; None for clusters.
    """

    rows: pl.LazyFrame
    plan: AnalysisPlan
    units: Units
    notes: list[str]
    empty: pl.DataFrame | None = None


def with_units(rows: pl.LazyFrame, plan: AnalysisPlan, where: str) -> UnitRows:
    """The rows with the column ``UNIT``; of a switchback with periods in place of users, and ``previous_arm``.

    Raises:
        MicrecError: If a column is missing or empty, or a unit has rows of several arms.
    """
    there = rows.collect_schema().names()
    units = units_of(plan.design.unit, there)
    needed = [*units.places, *([units.period] if units.period and not units.length else []), "arm"]
    needed += ["timestamp"] if units.length else []
    faults = [
        f"{no_column(name, there)} Name it with {how_to_name(name, there)}" for name in needed if name not in there
    ]
    if plan.design.washout_s and not units.length:
        faults.append("washout: needs periods that are cut from times, such as --unit region,2h.")
    if plan.design.schedule is not None and units.period is None:
        faults.append(
            "schedule: is for switchbacks, such as --unit region,2h; clusters have one arm for the whole test."
        )
    if faults:
        raise MicrecError.of(f"{where}: unit", faults)
    parts = [pl.col(name).cast(pl.String) for name in units.places]
    if units.period is None:
        rows = rows.with_columns(pl.concat_str(parts, separator=" / ").alias(UNIT))
        count = len(_check_units(rows, units, where))
        return UnitRows(rows, plan, units, [f"The unit of the test is the {units.words}: {count:,} of them."])
    rows, since, notes = _periods(rows, units, plan, where)
    rows = rows.with_columns(pl.concat_str([*parts, pl.col(PERIOD)], separator=" / ").alias(UNIT))
    known = _check_units(rows, units, where)
    if plan.design.washout_s:
        rows, more = _washed(rows, since, plan)
        notes += more
    alive = rows.select(UNIT).unique().collect(engine="streaming")[UNIT]
    calendar = calendar_of(known, alive, units.places, units.length, plan, where)
    facts, made = _facts(calendar.known, units)
    rows = rows.drop(PERIOD).join(facts.lazy(), on=UNIT, how="left", maintain_order="left")
    rows = rows.with_columns(pl.col(UNIT).alias("user_id"))
    notes += [
        f"The unit of the test is the period: {len(calendar.known):,} of {units.words}; means are totals per period. "
        f"Slice {PREVIOUS} tells periods after the other arm, where its effect may last, from the others.",
        *calendar.notes,
    ]
    if COLD in there:
        rows = rows.drop(COLD)
        notes.append(f"{COLD} is a label of users and not of periods: left out.")
    is_event = {"event", "timestamp"} <= set(there)
    plan = replace(
        plan,
        rows="parts" if plan.rows == "auto" and not is_event else plan.rows,
        slices=tuple(dict.fromkeys((*plan.slices, PREVIOUS))),
        covariates=(*(plan.covariates or ()), *made),
    )
    empty = calendar.empty.join(facts, on=UNIT, how="left", maintain_order="left")
    empty = empty.with_columns(pl.col(UNIT).alias("user_id"), *_starts(units, plan))
    return UnitRows(rows, plan, units, notes, empty.drop(PERIOD))


def with_empty_periods(named: pl.LazyFrame, counts: Sequence[str], empty: pl.DataFrame) -> pl.LazyFrame:
    """The rows, and one row of zeros for every period without any."""
    schema = named.collect_schema()
    known = [pl.col(name).cast(schema[name]) for name in empty.columns if name in schema]
    zeros = [pl.lit(0.0).alias(name) for name in counts]
    return pl.concat([named, empty.lazy().select(*known, *zeros)], how="diagonal")


def _starts(units: Units, plan: AnalysisPlan) -> list[pl.Expr]:
    """When periods that were cut from times begin."""
    if units.length is None:
        return []
    start = pl.col(PERIOD).str.to_datetime(STARTS, time_zone=plan.timezone, ambiguous="earliest")
    return [start.dt.convert_time_zone("UTC").dt.cast_time_unit("us").alias("timestamp")]


def _facts(known: pl.DataFrame, units: Units) -> tuple[pl.DataFrame, list[str]]:
    """The arm before every period, and flags of the place and of the hour of the day, where they are few."""
    place = pl.concat_str([*units.places] or [pl.lit("")], separator=" / ")
    known = known.with_columns(place=place)
    facts = known.select(UNIT, _previous(known))
    columns = {"place": known["place"]}
    if units.length is not None and not units.length.endswith(("d", "w")):
        columns["starts"] = known[PERIOD].str.slice(-5)
    made: list[str] = []
    for name, labels in columns.items():
        values = sorted(labels.unique().to_list())
        if 1 < len(values) <= len(known) / _UNITS_PER_FLAG:
            flags = {f"{name} {one}": (labels == one).cast(pl.Float64) for one in values[1:]}
            facts = facts.with_columns(**flags)
            made += flags
    return facts, made


def _periods(
    rows: pl.LazyFrame, units: Units, plan: AnalysisPlan, where: str
) -> tuple[pl.LazyFrame, pl.Expr, list[str]]:
    """The rows with their period as text, and how far into it each is, in milliseconds."""
    assert units.period is not None
    if units.length is None:
        return rows.with_columns(pl.col(units.period).cast(pl.String).alias(PERIOD)), pl.lit(0), []
    times = read_times(rows, "timestamp", timezone=plan.timezone, implausible=plan.implausible_times)
    if times.faults:
        raise MicrecError.of(f"{where} (rows count from 0)", [f"{fault}." for fault in times.faults])
    local = times.instants.dt.convert_time_zone(plan.timezone)
    start = local.dt.truncate(units.length)
    notes = []
    if times.kept is not None:
        rows = rows.filter(times.kept)
        notes += [f"{count:,} rows were left out: {reason}." for reason, count in times.dropped]
    since = (local - start).dt.total_milliseconds()
    return rows.with_columns(start.dt.strftime(STARTS).alias(PERIOD)), since, notes


def _washed(rows: pl.LazyFrame, since: pl.Expr, plan: AnalysisPlan) -> tuple[pl.LazyFrame, list[str]]:
    """The rows without the washout of every period."""
    washed = since < 1000.0 * plan.design.washout_s
    counts = rows.select(washed.sum().alias("out"), pl.len().alias("all")).collect(engine="streaming")
    out, total = counts.row(0)
    note = f"{out:,} of {total:,} rows lie in the first {plan.design.washout_s:g} s of a period: left out."
    return rows.filter(~washed), [note]


def _check_units(rows: pl.LazyFrame, units: Units, where: str) -> pl.DataFrame:
    """Every unit with its places, its period and its arm, in order."""
    arm = pl.col("arm").cast(pl.String).str.strip_chars()
    labels = [pl.col(name).cast(pl.String).first() for name in units.places]
    labels += [pl.col(PERIOD).first()] if units.period is not None else []
    known = (
        rows.group_by(UNIT)
        .agg(*labels, arm.min().alias("arm"), arm.max().alias("\x1fother"), pl.len().alias("\x1frows"))
        .collect(engine="streaming")
        .sort(UNIT)
    )
    empty = known.filter(pl.col(UNIT).is_null())
    faults = []
    if len(empty):
        count = empty["\x1frows"].item()
        faults.append(f"{units.words}: is empty in {count:,} rows: every row needs its unit.")
    mixed = known.filter(pl.col(UNIT).is_not_null(), pl.col("arm") != pl.col("\x1fother"))
    if len(mixed):
        shown = ", ".join(mixed[UNIT].head(FIRST).to_list())
        faults.append(
            f"{units.words}: {len(mixed):,} of {len(known):,} have rows of more than one arm ({shown}): a unit is what "
            "was assigned as a whole; name the unit that was, or analyse by user."
        )
    if faults:
        raise MicrecError.of(f"{where}: unit", faults)
    return known.drop("\x1fother", "\x1frows")


def _previous(known: pl.DataFrame) -> pl.Series:
    """For every period in order whether the one before it in its place was of the same arm; so counts the first."""
    places, arms = known["place"].to_list(), known["arm"].to_list()
    keys = [(place, _in_order(text)) for place, text in zip(places, known[PERIOD].to_list(), strict=True)]
    found = ["same"] * len(keys)
    order = sorted(range(len(keys)), key=lambda i: keys[i])
    for before, now in pairwise(order):
        if places[before] == places[now] and arms[before] != arms[now]:
            found[now] = "other"
    return pl.Series(PREVIOUS, found, pl.String)


def _in_order(text: str) -> tuple[float, str]:
    """Numbers in their order, and texts, such as times, in theirs."""
    try:
        return float(text), ""
    except ValueError:
        return 0.0, text


def check_users_of_units(users: pl.LazyFrame, rows: pl.LazyFrame, units: Units, where: str) -> pl.LazyFrame:
    """Users with the column ``UNIT`` from their rows.

    Raises:
        MicrecError: If a user is in several units.
    """
    found = rows.group_by("user_id").agg(pl.col(UNIT).min().alias(UNIT), pl.col(UNIT).max().alias("\x1flast"))
    known = found.collect(engine="streaming")
    several = known.filter(pl.col(UNIT) != pl.col("\x1flast"))
    if len(several):
        shown = ", ".join(str(user)[:40] for user in several["user_id"].head(FIRST).to_list())
        raise MicrecError.of(
            f"{where}: unit",
            [
                f"user_id: {len(several):,} users are in more than one {units.words} (user_id {shown}): a user belongs "
                "to one; if both changed in time, the unit is a period, such as --unit region,hour."
            ],
        )
    return users.join(known.lazy().select("user_id", UNIT), on="user_id", how="left", maintain_order="left")
