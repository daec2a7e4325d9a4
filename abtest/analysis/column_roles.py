"""What each column of a log is, recognised by its name and the plan."""

import hashlib
import re
from collections.abc import Container
from typing import NamedTuple

import polars as pl

from abtest.analysis import expressions
from abtest.analysis.column_types import as_id, as_number, is_number, wrong_ids
from abtest.analysis.metrics import BUILTIN, COLD, ELIGIBLE, STAYS
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.source import no_column
from abtest.analysis.user_columns import UserColumn, missing_sources
from micrec.data.column_names import how_to_name
from micrec.data.ids import distinct, read_ids
from micrec.errors import MicrecError

PRE = "pre_"
COUNTS = ("clicks", "dwell_s", "likes", "follows", "impressions")  # below 0 is a fault
EVENTS = {"click": "clicks", "like": "likes", "follow": "follows", "impression": "impressions"}
_MADE = (STAYS, ELIGIBLE)  # not in a log: made of its days
TOGETHER = "\x1ftogether"  # salt of a split whose arms are put together again
_ROW = "\x1frow"
_ROWS_AT_ONCE = 1 << 23  # whose keys are compared in memory
MOST_NAMED = 12  # columns in a note


class ColumnRoles(NamedTuple):
    """Columns by their part.

    Attributes:
        kind: What one row is: "users", "days", "parts" or "events".
        counts: Numbers that add up over rows of a user.
        slices: Per-user labels known before exposure.
        covariates: Per-user numbers from before exposure.
        has_day: Whether there is a ``day`` column.
        has_active: Whether a column ``active`` says on which rows the user was there.
        made: Columns of users that are made of the rows.
    """

    kind: str
    counts: tuple[str, ...]
    slices: tuple[str, ...]
    covariates: tuple[str, ...]
    has_day: bool
    has_active: bool
    made: tuple[UserColumn, ...] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """Columns that one user has one value of."""
        return ("arm", *self.slices, *self.covariates)


def named_rows(rows: pl.LazyFrame, plan: AnalysisPlan, where: str) -> tuple[pl.LazyFrame, ColumnRoles, list[str]]:
    """The rows under our names with events counted, repeats dropped and the A/A split made, if asked for.

    Returns:
        The rows, what their columns are, and what was done to them, in words.

    Raises:
        MicrecError: All missing columns at once.
    """
    schema = rows.collect_schema()
    there = schema.names()
    needed = ["user_id", *(["arm"] if plan.split_salt is None else []), *plan.slices, *plan.dedupe]
    faults = [
        f"{no_column(name, there)} Name it with {how_to_name(name, there)}" for name in needed if name not in there
    ]
    if faults:
        raise MicrecError.of(where, faults)
    ids = read_ids(rows, "user_id")
    if faults := [*ids.faults, *wrong_ids(schema)]:
        raise MicrecError.of(where, faults)
    rows = rows.with_columns(ids.value.alias("user_id"))
    rows = rows.with_columns(as_id(rows.collect_schema()["user_id"]))
    kind, notes = plan.rows, list(ids.notes)
    if schema.get("arm") == pl.String:
        rows = rows.with_columns(pl.col("arm").str.strip_chars())
    if kind == "auto":
        is_event = "event" in there and "timestamp" in there
        kind = "events" if is_event else "days" if "day" in there else "parts" if "timestamp" in there else "users"
    if kind == "days" and "day" not in there:
        raise MicrecError(f"{where}: {no_column('day', there)} Name it with {how_to_name('day', there)}")
    if plan.dedupe:
        rows, note = _without_repeats(rows, plan.dedupe)
        notes.append(note)
    made = _made_columns(plan)
    if faults := missing_sources(made, there, kind):
        raise MicrecError.of(where, faults)
    if kind == "events":
        rows, more = _counted_events(rows, where, made)
        notes += more
    if plan.split_salt is not None:
        rows = _split(rows, plan)
        notes.append(f"Arms were made by a hash of user_id with salt {plan.split_salt!r}: an A/A, any effect is noise.")
    there = rows.collect_schema().names()
    if plan.metrics is not None:
        ours = {*_MADE, *(one.name for one in made)}
        wanted = [column for metric in plan.metrics for column in metric.columns if column not in ours]
        slices = [metric.slice.split("=", 1)[0] for metric in plan.metrics if metric.slice not in ("all", "warm")]
    else:
        wanted, slices = [name for name in COUNTS if name in there], []
    covariates = plan.covariates if plan.covariates is not None else [name for name in there if name.startswith(PRE)]
    slices = [*([COLD] if COLD in there else []), *slices, *plan.slices]
    faults = [
        f"{no_column(name, there)} It is needed by {_needed_by(name, plan)}."
        for name in dict.fromkeys([*wanted, *slices, *covariates])
        if name not in there
    ]
    if not wanted and not made:
        known = dict.fromkeys(column for metric in BUILTIN.values() for column in metric.columns if column not in _MADE)
        numbers = _unread(rows.collect_schema(), {"user_id", "arm", "day", "timestamp", *covariates, *slices})
        instead = f"; there are numbers in {_listed(numbers)}" if numbers else ""
        faults.append(
            f"no column to measure: there is none of {', '.join(known)}{instead}. Name them with "
            "--columns clicks=..., or say what is judged with --metrics."
        )
    if faults:
        raise MicrecError.of(where, faults)
    layout = ColumnRoles(
        kind=kind,
        counts=tuple(dict.fromkeys(wanted)),
        slices=tuple(dict.fromkeys(slices)),
        covariates=tuple(dict.fromkeys(covariates)),
        has_day="day" in there or "timestamp" in there,
        has_active="active" in there,
        made=made,
    )
    return _as_numbers(rows, layout, notes), layout, notes


def unused_note(rows: pl.LazyFrame, layout: ColumnRoles, plan: AnalysisPlan) -> list[str]:
    """Columns of numbers that no named metric reads: whoever logged them may want to know."""
    read = {"user_id", "arm", "day", "timestamp", "event", "active", *layout.counts, *layout.attributes, *plan.dedupe}
    read |= set(plan.design.unit)
    for theirs in plan.columns.values():
        try:
            read |= {theirs, *expressions.parse(theirs).columns}
        except MicrecError:  # a column whose name is no expression
            read.add(theirs)
    left = _unread(rows.collect_schema(), read)
    return [f"Not used: {_listed(left)}; judge them with --metrics."] if left and plan.metrics is None else []


def _unread(schema: pl.Schema, read: Container[str]) -> list[str]:
    """Columns of numbers beside those that are read and ids."""
    return [
        name
        for name, kind in schema.items()
        if is_number(kind) and kind != pl.Null and name not in read and not re.search(r"(^|_)id$", name, re.IGNORECASE)
    ]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _as_numbers(rows: pl.LazyFrame, layout: ColumnRoles, notes: list[str]) -> pl.LazyFrame:
    """Counts and covariates as 64-bit floats; what is no number stays as it is, for the check to refuse."""
    schema = rows.collect_schema()
    names = [name for name in (*layout.counts, *layout.covariates) if is_number(schema[name])]
    spans = [name for name in names if isinstance(schema[name], pl.Duration)]
    if spans:
        notes.append(f"{', '.join(spans)}: durations were read as seconds.")
    return rows.with_columns(as_number(name, schema[name]) for name in dict.fromkeys(names))


def _needed_by(name: str, plan: AnalysisPlan) -> str:
    users = [metric.name for metric in plan.metrics or () if name in metric.columns or metric.slice.startswith(name)]
    return f"metric {', '.join(users)}" if users else "the plan"


def _without_repeats(rows: pl.LazyFrame, keys: tuple[str, ...]) -> tuple[pl.LazyFrame, str]:
    """The first of each group of rows alike in the keys; a share of the keys is in memory at a time."""
    total = rows.select(pl.len()).collect(engine="streaming").item()
    shares = -(-total // _ROWS_AT_ONCE)
    numbered = rows.with_row_index(_ROW)
    repeats = []
    for share in range(shares):
        mine = numbered.select(_ROW, *keys)
        if shares > 1:
            mine = mine.filter(pl.struct(keys).hash() % shares == share)
        alike = mine.collect(engine="streaming").sort(_ROW)
        repeats.append(alike.filter(~pl.struct(keys).is_first_distinct()).select(_ROW))
    dropped = pl.concat(repeats) if repeats else numbered.select(_ROW).head(0).collect()
    note = f"{len(dropped):,} of {total:,} rows repeat another's {', '.join(keys)} and were dropped."
    if dropped.is_empty():
        return rows, note
    return numbered.join(dropped.lazy(), on=_ROW, how="anti", maintain_order="left").drop(_ROW), note


def _made_columns(plan: AnalysisPlan) -> tuple[UserColumn, ...]:
    """Columns of users that the metrics want made of the rows, each once."""
    found = {one.name: one for metric in plan.metrics or () for one in metric.made}
    return tuple(found.values())


def _counted_events(
    rows: pl.LazyFrame, where: str, wanted: tuple[UserColumn, ...] = ()
) -> tuple[pl.LazyFrame, list[str]]:
    """A 0/1 column for each kind of event that has a count."""
    schema = rows.collect_schema()
    there = schema.names()
    missing = [name for name in ("timestamp", "event") if name not in there]
    if missing:
        raise MicrecError.of(where, [f"{no_column(name, there)} An event log needs it." for name in missing])
    kind = pl.col("event").cast(pl.String)
    found = rows.group_by(kind.alias("event")).len().collect(engine="streaming")
    events = dict(zip(found["event"].to_list(), found["len"].to_list(), strict=True))
    read = {name for one in wanted for name in (one.event, one.exposure)}
    unknown = sorted(str(name) for name in events if name not in EVENTS and name not in read)
    notes = [f"Events {', '.join(unknown)} count as activity only."] if unknown else []
    made = {
        count: (kind == event).fill_null(False).cast(pl.Float64) for event, count in EVENTS.items() if event in events
    }
    if not made and not wanted:
        raise MicrecError(
            f"{where}: event: none of {', '.join(EVENTS)} occurs, only {', '.join(unknown[:10])}: "
            "rename the events, or give columns with counts."
        )
    if "dwell_s" in there and is_number(schema["dwell_s"]):
        made["dwell_s"] = as_number("dwell_s", schema["dwell_s"]).fill_null(0.0)
    return rows.with_columns(**made), notes


def _split(rows: pl.LazyFrame, plan: AnalysisPlan) -> pl.LazyFrame:
    """Two equal arms by a hash of the user's id, the same on any machine; but for ``TOGETHER`` by any hash."""
    if plan.split_salt == TOGETHER:
        first = pl.col("user_id").hash(0) % 2 == 0
        return rows.with_columns(arm=pl.when(first).then(pl.lit(plan.arms[0])).otherwise(pl.lit(plan.arms[1])))
    salt = str(plan.split_salt).encode()[:16]
    ids = distinct(rows, pl.col("user_id"))["user_id"]
    text = ids.cast(pl.String).fill_null("").to_list()
    bits = [hashlib.blake2b(name.encode(), digest_size=1, salt=salt).digest()[0] & 1 for name in text]
    arms = pl.DataFrame({"user_id": ids, "arm": [plan.arms[bit] for bit in bits]})
    return rows.drop("arm", strict=False).join(arms.lazy(), on="user_id", how="left", maintain_order="left")
