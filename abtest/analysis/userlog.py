"""A log as one row per user: read, checked, and explicitly summed where it was finer."""

import importlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from abtest.analysis.caps import with_caps
from abtest.analysis.column_roles import ColumnRoles, named_rows, unused_note
from abtest.analysis.crossovers import LogRows, without_crossovers
from abtest.analysis.days import Days, numbered
from abtest.analysis.exposures import ExposureFacts, exposure_moments, triggered
from abtest.analysis.guards import Facts, check_metrics, check_rows, check_users, is_missing, label
from abtest.analysis.metrics import COLD, Metric, default_metrics
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.rollup import to_users
from abtest.analysis.source import LogSource, hash_files, hash_frame, renamed
from abtest.analysis.units import check_users_of_units, with_empty_periods, with_units
from abtest.analysis.user_columns import with_row_columns
from micrec.data.locations import open_location
from micrec.data.table_files import readable_as
from micrec.errors import MicrecError


@dataclass(frozen=True)
class LogVariant:
    """The same log with other users or rows, for a question beside the verdict.

    Attributes:
        name: What the users are called.
        meaning: What the comparison tells, in words.
        users: As in ``UserLog``.
    """

    name: str
    meaning: str
    users: pl.LazyFrame


@dataclass(frozen=True)
class UserLog:
    """One row per user, checked: ``user_id``, ``arm``, counts, slices, covariates, and what the days left.

    Attributes:
        users: Lazy, so that a per-user file is read in chunks and never held whole.
        source: Name and hash of the data.
        unit: How rows became users, in words.
        rows: Rows of the log.
        metrics: What can be measured.
        slices: Values of each slice column that occur, ``cold`` first.
        covariates: Columns from before exposure.
        days: The window of days, None where the log has none.
        notes: What was left out or assumed, in words.
        fine_rows: The rows that users were made of, where a metric compares quantiles of them.
        has_units: Whether ``users`` has the unit above the user that was assigned.
        unit_noun: What was assigned, if not users, in words.
        variants: The same log with other users or rows, each for a question beside the verdict.
        exposure: Who was exposed, where an exposure table was given.
    """

    users: pl.LazyFrame
    source: LogSource
    unit: str
    rows: int
    metrics: tuple[Metric, ...]
    slices: dict[str, tuple[str, ...]]
    covariates: tuple[str, ...]
    days: Days | None = None
    notes: tuple[str, ...] = ()
    fine_rows: pl.LazyFrame | None = None
    has_units: bool = False
    unit_noun: str | None = None
    variants: tuple[LogVariant, ...] = ()
    exposure: ExposureFacts | None = None


def read_log(path: Path | str, plan: AnalysisPlan) -> UserLog:
    """Read a Parquet, CSV or DuckDB file, a folder of parts, or what lies at an address, for an analysis.

    Raises:
        MicrecError: If it cannot be read, or breaks a rule; all errors at once.
    """
    spelled = ("user_id", plan.columns.get("user_id", ""))
    table = open_location(str(path), plan.table, query=plan.query, spelled=spelled)
    with ThreadPoolExecutor(2) as beside:  # reading the bytes again for the hash hides behind the checks
        digest = beside.submit(lambda: table.fingerprint or hash_files(table.files))
        beside.submit(importlib.import_module, "scipy.optimize")  # and so does what the intervals will need
        with readable_as(path, table.kind, table.files):
            try:
                log = log_of(table.rows, plan, LogSource(str(path), ""), tell_unused=True)
            except MicrecError as fault:  # how the files were read may be why
                raise MicrecError("\n".join([str(fault), *(f"  note: {note}" for note in table.notes)])) from None
        return replace(log, source=LogSource(str(path), digest.result(), table.keep), notes=(*table.notes, *log.notes))


def log_of(
    rows: pl.DataFrame | pl.LazyFrame, plan: AnalysisPlan, source: LogSource | None = None, *, tell_unused: bool = False
) -> UserLog:
    """The same for a table in memory, such as a simulator's.

    Args:
        rows: One row per user, user and day, event or impression; see ``AnalysisPlan.rows``.
        plan: Names of arms and columns, and what is to be measured.
        source: Name and hash of the data; by default made from the table.
        tell_unused: Whether a note names the columns of numbers that no metric reads.

    Raises:
        MicrecError: If the table breaks a rule; all errors at once.
    """
    source = source or LogSource("table in memory", hash_frame(rows.lazy().collect()))
    where = source.name
    ours, notes = renamed(rows.lazy(), plan.columns, where)
    units, empty = None, None
    if plan.design.unit:
        by_unit = with_units(ours, plan, where)
        ours, plan, units, empty = by_unit.rows, by_unit.plan, by_unit.units, by_unit.empty
        notes += by_unit.notes
    named, layout, more = named_rows(ours, plan, where)
    notes += more
    if empty is not None and len(empty):
        named = with_empty_periods(named, layout.counts, empty)
    days = None
    if layout.has_day and layout.kind != "users" and (units is None or units.period is None):
        named, days, more = numbered(named, plan, where)
        notes += more
    observed: dict[str, pl.DataFrame] = {}
    if layout.made:
        is_timed = plan.design.exposures is not None and any(one.within_h is not None for one in layout.made)
        named, observed = with_row_columns(
            named,
            layout.made,
            timezone=plan.timezone,
            implausible=plan.implausible_times,
            exposed=exposure_moments(named, plan) if is_timed else None,
        )
        layout = layout._replace(counts=(*layout.counts, *(one.name for one in layout.made if one.is_sum)))
    facts = check_rows(named, layout, plan, where)
    if empty is not None:
        facts = facts._replace(rows=facts.rows - len(empty))
    if plan.ignored_arms:
        named = named.filter(pl.col("arm").cast(pl.String).is_in(plan.arms))
        notes.append(f"Rows of arm {', '.join(plan.ignored_arms)} were left out, as asked.")
    named, others, exposure, more = _as_designed(named, layout, plan, days, where)
    notes += more
    users, unit = to_users(named, layout, _daily(layout, plan), days, arms=plan.arms, labels=facts.labels)
    if layout.kind != "users":
        check_users(users, named, layout, where)
        for column in observed.values():
            users = users.join(column.lazy(), on="user_id", how="left", maintain_order="left")
            users = users.with_columns(pl.col(column.columns[-1]).fill_null(0.0))  # who was never exposed
        if units is not None and units.period is None:
            users = check_users_of_units(users, named, units, where)
    users, covariates = _covariates(users, layout, facts)
    users = users.with_columns(**{slice_column(name): label(name) for name in layout.slices})
    variants = tuple(_variant(one, layout, plan, days, facts, observed) for one in others)
    there = set(users.collect_schema().names())
    if plan.metrics is None:
        found, left_out = default_metrics(there)
        notes += left_out + (unused_note(ours, layout, plan) if tell_unused else [])
    else:
        found = list(plan.metrics)
    if not any(metric.role == "primary" for metric in found):
        raise MicrecError(f"{where}: no primary metric can be measured: the log needs clicks or dwell_s, or --metrics.")
    found = with_caps(users, found, where, notes)
    check_metrics(users, found, where)
    if layout.kind != "users":
        count = users.select(pl.len()).collect().item()
        unit = f"{facts.rows:,} {unit} summed to {count:,} {'periods' if units and units.period else 'users'}"
    fine = named if layout.kind != "users" and any(metric.quantiles_of for metric in found) else None
    return UserLog(
        users,
        source,
        unit,
        facts.rows,
        tuple(found),
        facts.labels,
        covariates,
        days,
        tuple(notes),
        fine_rows=fine,
        has_units=units is not None and units.period is None,
        unit_noun=units.noun if units is not None else None,
        variants=variants,
        exposure=exposure,
    )


def _as_designed(
    rows: pl.LazyFrame, layout: ColumnRoles, plan: AnalysisPlan, days: Days | None, where: str
) -> tuple[pl.LazyFrame, list[LogRows], ExposureFacts | None, list[str]]:
    """The rows that are judged, those of the questions beside, and what was done, in words."""
    others: list[LogRows] = []
    notes: list[str] = []
    exposure = None
    if plan.design.crossovers != "refuse":
        if layout.kind == "users":
            raise MicrecError(
                f"{where}: crossovers: the log has one row per user, who is then in one arm: give the rows of every "
                "assignment, with --rows parts."
            )
        rows, others, notes = without_crossovers(rows, plan)
    if plan.design.exposures is not None:
        rows, more, exposure, words = triggered(rows, layout, plan, days)
        others, notes = [*others, *more], [*notes, *words]
    return rows, others, exposure, notes


def _variant(
    one: LogRows,
    layout: ColumnRoles,
    plan: AnalysisPlan,
    days: Days | None,
    facts: Facts,
    observed: Mapping[str, pl.DataFrame],
) -> LogVariant:
    """Its users, as those of the verdict."""
    users, _ = to_users(one.rows, layout, (), days, arms=plan.arms, labels=facts.labels)
    if layout.kind != "users":
        for column in observed.values():
            users = users.join(column.lazy(), on="user_id", how="left", maintain_order="left")
    users, _ = _covariates(users, layout, facts)
    users = users.with_columns(**{slice_column(name): label(name) for name in layout.slices})
    return LogVariant(one.name, one.meaning, users)


def slice_column(name: str) -> str:
    """Column of ``UserLog.users`` with the labels of a slice column."""
    return f"slice\x1f{name}"


def slice_name(column: str, label: str) -> str:
    """What reports call a slice: ``cold``, ``warm``, ``country=NO``."""
    return label if column == COLD else f"{column}={label}"


def _daily(layout: ColumnRoles, plan: AnalysisPlan) -> tuple[str, ...]:
    """Counts of primary metrics: they are looked at day by day."""
    metrics = plan.metrics if plan.metrics is not None else default_metrics(set(layout.counts))[0]
    columns = dict.fromkeys(column for metric in metrics if metric.role == "primary" for column in metric.columns)
    return tuple(column for column in columns if column in layout.counts)


def _covariates(users: pl.LazyFrame, layout: ColumnRoles, facts: Facts) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """Missing ones become 0, and one more covariate says where: a new user has no past."""
    flags = {f"{name} missing": is_missing(name).cast(pl.Float64) for name in facts.missing}
    filled = {name: pl.col(name).cast(pl.Float64).fill_nan(None).fill_null(0.0) for name in facts.missing}
    return users.with_columns(**flags, **filled), (*layout.covariates, *flags)
