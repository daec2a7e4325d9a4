"""Checks of a log before anything is computed from it; all errors at once, each with count, first ids and cure."""

import reprlib
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from abtest.analysis.column_roles import COUNTS, ColumnRoles
from abtest.analysis.column_types import not_numbers, wrong_labels
from abtest.analysis.metrics import COLD, Metric
from abtest.analysis.plan import AnalysisPlan
from micrec.data.column_names import propose_column
from micrec.errors import MicrecError

FIRST = 3  # ids shown with a fault
FIRST_ARMS = 8  # arms shown with a fault
_CONTROL_NAMES = ("control", "ctrl", "c", "base", "baseline", "default", "off", "old", "a", "0", "false")
MOST_VALUES = 50  # of a slice column
VARIES = "\x1fvaries\x1f"  # prefix of the roll-up's flags
REPEATS = "\x1frepeats"  # the roll-up's flag of users with several rows for one day


class Facts(NamedTuple):
    """Facts about the rows that their check collects.

    Attributes:
        rows: Rows of the log.
        missing: Covariates that some rows lack.
        labels: Values of each slice column.
    """

    rows: int
    missing: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]


class Rule(NamedTuple):
    """One rule for the rows of a log; rows that break it are reported as errors.

    Attributes:
        column: The column that is checked.
        broken: True for rows that break it.
        problem: What they do, after their count.
        cure: What to do.
    """

    column: str
    broken: pl.Expr
    problem: str
    cure: str


def check_rows(rows: pl.LazyFrame, layout: ColumnRoles, plan: AnalysisPlan, where: str) -> Facts:
    """Check values row by row, arms and, where a row is a user, ids.

    Raises:
        MicrecError: All errors at once.
    """
    schema = rows.collect_schema()
    faults = [_with_first_texts(fault, rows, schema) for fault in _wrong_types(schema, layout)]
    readable = {name for name in schema if not any(fault.startswith(f"{name}:") for fault in faults)}
    rules = [rule for rule in _rules(schema, layout) if rule.column in readable]
    tests: list[pl.Expr] = [pl.len().alias("rows")]
    tests += [rule.broken.fill_null(False).sum().alias(str(i)) for i, rule in enumerate(rules)]
    if layout.kind == "users":
        tests.append(pl.col("user_id").n_unique().alias("ids"))
    tests += [is_missing(name).any().alias(f"missing {name}") for name in layout.covariates if name in readable]
    queries = [rows.select(tests), rows.group_by(pl.col("arm").cast(pl.String)).len()]
    queries += [rows.group_by(label(name).alias(name)).len() for name in layout.slices if name in readable]
    counts, arms, *slices = pl.collect_all(queries, engine="streaming")
    total = int(counts["rows"].item())
    if total == 0:
        raise MicrecError(f"{where}: holds no rows: give a log with users in it.")
    for i, rule in enumerate(rules):
        if count := int(counts[str(i)].item()):
            faults.append(_sentence(rows, rule, count))
    if layout.kind == "users" and int(counts["ids"].item()) < total:
        faults.append(_repeated(rows, ("user_id",)))
    if layout.kind == "days" and faults:  # else the roll-up finds them on its way
        pairs = rows.select(pl.struct("user_id", "day").n_unique()).collect(engine="streaming").item()
        faults += [_repeated(rows, ("user_id", "day"))] if pairs < total else []
    faults += _arm_faults(dict(zip(arms["arm"].to_list(), arms["len"].to_list(), strict=True)), plan)
    labels = {found.columns[0]: tuple(sorted(found.to_series(0).drop_nulls().to_list())) for found in slices}
    faults += [
        f"{name}: has {len(values):,} values, a slice column at most {MOST_VALUES}: group them first."
        for name, values in labels.items()
        if len(values) > MOST_VALUES
    ]
    if faults:
        raise MicrecError.of(where, faults)
    missing = tuple(name for name in layout.covariates if counts[f"missing {name}"].item())
    return Facts(total, missing, labels)


def check_users(users: pl.LazyFrame, rows: pl.LazyFrame, layout: ColumnRoles, where: str) -> None:
    """Check users after rows were summed: plausible sums, one row a day, and one arm, slice and covariate per user.

    Raises:
        MicrecError: All errors at once.
    """
    repeats = layout.kind == "days" and users.select(pl.col(REPEATS).any()).collect().item()
    flags = [name for name in users.collect_schema().names() if name.startswith(VARIES)]
    counts = users.select(pl.col(flags).sum()).collect() if flags else pl.DataFrame()
    faults = [_repeated(rows, ("user_id", "day"))] if repeats else []
    faults += _wrong_sums(users, layout)
    for flag in flags:
        column, count = flag.removeprefix(VARIES), int(counts[flag].item())
        if count and column == "arm":
            problem = "are in more than one arm"
            cure = "find out why; then leave them out with --crossovers drop, or count them in their first arm with "
            cure += "--crossovers first"
        else:
            problem = "change their value during the test"
            cure = "take it from before the first exposure: what the test can change is neither a slice nor a covariate"
        if count:
            faults.append(_sentence(users, Rule(column, pl.col(flag), problem, cure), count, noun="users"))
    if faults:
        raise MicrecError.of(where, faults)


def _wrong_sums(users: pl.LazyFrame, layout: ColumnRoles) -> Iterator[str]:
    """Sums over a user's rows that cannot be, though each row can."""
    rules = [
        Rule(name, ~pl.col(name).is_finite(), "have sums too large for a number", "give the column in a larger unit")
        for name in layout.counts
    ]
    rules += [
        Rule(name, pl.col(name) < 0, "have sums below 0", "a count or time cannot be; find out what it means")
        for name in layout.counts
        if name in COUNTS
    ]
    if not rules:
        return
    counts = users.select(rule.broken.sum().alias(str(i)) for i, rule in enumerate(rules)).collect().row(0)
    for rule, count in zip(rules, counts, strict=True):
        if count:
            yield _sentence(users, rule, count, noun="users")


def check_metrics(users: pl.LazyFrame, metrics: Sequence[Metric], where: str) -> None:
    """Check that every expression gives a number for every user; plain columns were checked row by row.

    Raises:
        MicrecError: All errors at once.
    """
    values = {metric.name: metric.value for metric in metrics}
    values |= {f"{metric.name} (denominator)": metric.per for metric in metrics if metric.per}
    broken = {
        name: value.expr.is_finite().not_().fill_null(True) for name, value in values.items() if value.plain is None
    }
    if not broken:
        return
    found = users.select(**{name: expr.sum() for name, expr in broken.items()}).collect(engine="streaming")
    cure = "change the expression: log1p needs more than -1, a division a divisor other than 0"
    faults = [
        _sentence(users, Rule(f"metric {name}", expr, "have no finite value", cure), found[name].item(), noun="users")
        for name, expr in broken.items()
        if found[name].item()
    ]
    if faults:
        raise MicrecError.of(where, faults)


def is_missing(name: str) -> pl.Expr:
    """Where a covariate is empty or NaN."""
    column = pl.col(name)
    return column.is_null() | column.is_nan().fill_null(False)


def label(name: str) -> pl.Expr:
    """Values of a slice column as text."""
    column = pl.col(name)
    if name == COLD:
        return pl.when(column.cast(pl.Float64) == 1).then(pl.lit("cold")).otherwise(pl.lit("warm"))
    return column.cast(pl.String).fill_null("missing")


def _with_first_texts(fault: str, rows: pl.LazyFrame, schema: pl.Schema) -> str:
    """The same with the first texts that are no numbers, where a column of text should hold numbers."""
    name = fault.split(":", 1)[0]
    if schema.get(name) != pl.String or "must hold numbers" not in fault:
        return fault
    text = pl.col(name).str.strip_chars()
    broken = rows.filter(text.cast(pl.Float64, strict=False).is_null() & (text != ""))
    count, first = pl.collect_all(
        [broken.select(pl.len()), broken.select(text).unique(maintain_order=True).head(FIRST)], engine="streaming"
    )
    if not count.item():
        return f"{name}: holds numbers as text: write them as numbers."
    shown = ", ".join(reprlib.repr(value) for value in first[name].to_list())
    return f"{fault.removesuffix('.')} ({count.item():,} rows, such as {shown})."


def _wrong_types(schema: pl.Schema, layout: ColumnRoles) -> Iterator[str]:
    for column in dict.fromkeys((*layout.counts, *layout.covariates)):
        if not schema[column].is_float():  # numbers of every other type were made floats
            yield not_numbers(column, schema[column])
    yield from wrong_labels(schema, layout.slices)
    yes_or_no = {COLD: "each user"} if COLD in layout.slices else {}
    yes_or_no |= {"active": "each row"} if layout.has_active and layout.kind == "days" else {}
    for column, where in yes_or_no.items():
        kind = schema[column]
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null) or (column == COLD and kind.is_nested())):
            yield f"{column}: holds {kind}, must be true or false (or 1 or 0) for {where}."


def _rules(schema: pl.Schema, layout: ColumnRoles) -> Iterator[Rule]:
    empty = pl.col("user_id").is_null()
    yield Rule("user_id", empty, "are empty", "every row needs its user: find out which rows lost it")
    arm = pl.col("arm").cast(pl.String)
    yield Rule("arm", arm.is_null() | (arm.str.strip_chars() == ""), "are empty", "log the arm with every row")
    if layout.has_day:
        when = "day" if "day" in schema else "timestamp"
        yield Rule(when, pl.col(when).is_null(), "are empty", "log the day of every row")
    for column in layout.counts:
        yield Rule(column, pl.col(column).is_null(), "are empty", "write 0 where that is meant")
        yield Rule(column, pl.col(column).is_nan(), "are NaN", "write 0 where that is meant")
        yield Rule(column, pl.col(column).is_infinite(), "are infinite", "find out where the log divides by 0")
        if column in COUNTS:
            yield Rule(column, pl.col(column) < 0, "are below 0", "a count or time cannot be; find out what it means")
    for column in layout.covariates:
        yield Rule(column, pl.col(column).is_infinite(), "are infinite", "find out where the log divides by 0")
    if COLD in layout.slices:
        yield Rule(
            COLD, pl.col(COLD).is_null(), "are empty", "say for every user whether they were new before the test"
        )
        if schema[COLD] != pl.Boolean:
            yield Rule(
                COLD,
                ~pl.col(COLD).cast(pl.Float64).is_in([0.0, 1.0]),
                "are neither 0 nor 1",
                "say 1 for users new before the test",
            )


def _sentence(rows: pl.LazyFrame, rule: Rule, count: int, noun: str = "rows") -> str:
    first = rows.filter(rule.broken.fill_null(False)).select("user_id").head(FIRST).collect()["user_id"].to_list()
    verb = rule.problem if count > 1 else rule.problem.replace("are ", "is ", 1).replace("have ", "has ", 1)
    what = noun if count > 1 else noun.removesuffix("s")
    return f"{rule.column}: {count:,} {what} {verb} ({_users(first, count)}): {rule.cure}."


def _repeated(rows: pl.LazyFrame, keys: tuple[str, ...]) -> str:
    groups = rows.group_by(keys).len().filter(pl.col("len") > 1).sort(keys)
    count, first = pl.collect_all([groups.select(pl.len()), groups.head(FIRST)])
    n, users = count.item(), first["user_id"].to_list()
    what = ("user", "users") if len(keys) == 1 else ("pair of user and day", "pairs of user and day")
    return (
        f"user_id: {n:,} {f'{what[0]} has' if n == 1 else f'{what[1]} have'} more than one row ({_users(users, n)}): "
        f"the unit of the test is the user, so {_cure_of_repeats(rows.collect_schema())}."
    )


def _cure_of_repeats(schema: pl.Schema) -> str:
    """What the rows are, as far as the columns tell, and how to say so."""
    keep = "keep one row each, or say --rows parts if rows are parts to be summed"
    if "day" in schema or "timestamp" in schema:
        return keep
    dates = [name for name, kind in schema.items() if kind.is_temporal() and not isinstance(kind, pl.Duration)]
    when = propose_column("day", [name for name in schema if name not in ("user_id", "arm")]) or next(iter(dates), None)
    if when is not None:
        return f"name the column of days if rows are days of users, --columns day={when}; else {keep}"
    if (moment := propose_column("timestamp", list(schema))) is not None:
        return f"name the column of times, --columns timestamp={moment}; else {keep}"
    return keep


def _users(first: Sequence[object], count: int) -> str:
    more = ", ..." if count > len(first) else ""
    return f"user_id {', '.join(str(user)[:40] for user in first)}{more}"


def _arm_faults(arms: dict[str | None, int], plan: AnalysisPlan) -> Iterator[str]:
    """Arms of the plan that the log lacks, with the options that name those it has; else arms that nobody named."""
    there = sorted(arm for arm in arms if arm is not None and arm.strip())
    missing = [arm for arm in plan.arms if arm not in arms]
    if missing:
        lacking = " or ".join(repr(arm) for arm in missing)
        sizes = ", ".join(f"{arm} ({arms[arm]:,} rows)" for arm in there[:FIRST_ARMS])
        more = ", ..." if len(there) > FIRST_ARMS else ""
        cure = _arm_options(there, plan)
        yield f"arm: no row is of arm {lacking}; the arms are {sizes or 'none'}{more}: {cure}."
        return
    for arm in there:
        if arm not in (*plan.arms, *plan.ignored_arms):
            yield (
                f"arm: {arms[arm]:,} rows are of arm {arm!r}, which the plan does not know: "
                f"compare it with --treatment {shlex.quote(arm)}, or leave it out on purpose with "
                f"--ignore-arm {shlex.quote(arm)}."
            )


def _arm_options(there: Sequence[str], plan: AnalysisPlan) -> str:
    """The options that compare the arms of the log."""
    there = [arm for arm in there if arm not in plan.ignored_arms]
    if len(there) < 2:
        return "an experiment needs two, so give the rows of both" if there else "log the arm with every row"
    if len(there) > FIRST_ARMS:
        return "check that the column holds arms, or name two of them with --control and --treatment"
    named = [arm for arm in there if arm.strip().lower() in _CONTROL_NAMES]
    control = plan.control if plan.control in there else (named or there)[0]
    treatments = " ".join(f"--treatment {shlex.quote(arm)}" for arm in there if arm != control)
    return f"use --control {shlex.quote(control)} {treatments}"
