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


def with_units(
    rows: pl.LazyFrame, plan: AnalysisPlan, where: str
) -> tuple[pl.LazyFrame, AnalysisPlan, Units, list[str]]:
    """The rows with the column ``UNIT``; of a switchback with periods in place of users, and ``previous_arm``.

    Returns:
        Rows, the plan with the slice and the covariates that this adds, what the units are, what was done in words.

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
    if faults:
        raise MicrecError.of(f"{where}: unit", faults)
    notes: list[str] = []
    parts = [pl.col(name).cast(pl.String) for name in units.places]
    if units.period is not None:
        rows, period, more = _periods(rows, units, plan, where)
        notes += more
        parts.append(period)
    rows = rows.with_columns(pl.concat_str(parts, separator=" / ").alias(UNIT))
    known = _check_units(rows, units, where)
    if units.period is None:
        notes.append(f"The unit of the test is the {units.words}: {len(known):,} of them.")
        return rows, plan, units, notes
    rows, made = _with_facts(rows, known, units)
    rows = rows.with_columns(pl.col(UNIT).alias("user_id"))
    notes.append(
        f"The unit of the test is the period: {len(known):,} of {units.words}; means are totals per period, and a "
        f"period without any row is not in the log. Slice {PREVIOUS} tells periods after the other arm, where its "
        "effect may last, from the others."
    )
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
    return rows, plan, units, notes


def _with_facts(rows: pl.LazyFrame, known: pl.DataFrame, units: Units) -> tuple[pl.LazyFrame, list[str]]:
    """The rows with the arm before, and flags of the place and of the hour of the day, where they are few."""
    facts = known.select(UNIT, "place").with_columns(_previous(known, units))
    period = [text.removeprefix(f"{place} / ") for text, place in known.select(UNIT, "place").iter_rows()]
    columns = {"place": known["place"]}
    if units.length is not None and not units.length.endswith(("d", "w")):
        columns["starts"] = pl.Series([text[-5:] for text in period])
    made: list[str] = []
    for name, labels in columns.items():
        values = sorted(labels.unique().to_list())
        if 1 < len(values) <= len(known) / _UNITS_PER_FLAG:
            flags = {f"{name} {one}": (labels == one).cast(pl.Float64) for one in values[1:]}
            facts = facts.with_columns(**flags)
            made += flags
    return rows.join(facts.drop("place").lazy(), on=UNIT, how="left", maintain_order="left"), made


def _periods(
    rows: pl.LazyFrame, units: Units, plan: AnalysisPlan, where: str
) -> tuple[pl.LazyFrame, pl.Expr, list[str]]:
    """Period of every row as text, rows of the washout left out."""
    assert units.period is not None
    if units.length is None:
        return rows, pl.col(units.period).cast(pl.String), []
    times = read_times(rows, "timestamp", timezone=plan.timezone, implausible=plan.implausible_times)
    if times.faults:
        raise MicrecError.of(f"{where} (rows count from 0)", [f"{fault}." for fault in times.faults])
    local = times.instants.dt.convert_time_zone(plan.timezone)
    start = local.dt.truncate(units.length)
    notes = []
    if times.kept is not None:
        rows = rows.filter(times.kept)
        notes += [f"{count:,} rows were left out: {reason}." for reason, count in times.dropped]
    if plan.design.washout_s:
        washed = (local - start).dt.total_milliseconds() < 1000.0 * plan.design.washout_s
        counts = rows.select(washed.sum().alias("out"), pl.len().alias("all")).collect(engine="streaming")
        out, total = counts.row(0)
        rows = rows.filter(~washed)
        notes.append(f"{out:,} of {total:,} rows lie in the first {plan.design.washout_s:g} s of a period: left out.")
    return rows, start.dt.strftime("%Y-%m-%d %H:%M"), notes


def _check_units(rows: pl.LazyFrame, units: Units, where: str) -> pl.DataFrame:
    """Every unit with its arm, in order."""
    arm = pl.col("arm").cast(pl.String).str.strip_chars()
    place = pl.concat_str([pl.col(name).cast(pl.String) for name in units.places] or [pl.lit("")], separator=" / ")
    known = (
        rows.group_by(UNIT)
        .agg(arm.min().alias("arm"), arm.max().alias("other"), place.first().alias("place"), pl.len().alias("rows"))
        .collect(engine="streaming")
        .sort(UNIT)
    )
    empty = known.filter(pl.col(UNIT).is_null())
    faults = []
    if len(empty):
        faults.append(f"{units.words}: is empty in {empty['rows'].item():,} rows: every row needs its unit.")
    mixed = known.filter(pl.col("arm") != pl.col("other"))
    if len(mixed):
        shown = ", ".join(mixed[UNIT].head(FIRST).to_list())
        faults.append(
            f"{units.words}: {len(mixed):,} of {len(known):,} have rows of more than one arm ({shown}): a unit is what "
            "was assigned as a whole; name the unit that was, or analyse by user."
        )
    if faults:
        raise MicrecError.of(f"{where}: unit", faults)
    return known


def _previous(known: pl.DataFrame, units: Units) -> pl.Series:
    """For every period in order whether the one before it in its place was of the same arm; so counts the first."""
    period = known[UNIT].str.strip_prefix("").to_list()
    places = known["place"].to_list()
    keys = [
        (place, _in_order(text.removeprefix(f"{place} / ") if units.places else text))
        for place, text in zip(places, period, strict=True)
    ]
    arms, found = known["arm"].to_list(), ["same"] * len(known)
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
