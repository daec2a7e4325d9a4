"""A test day by day: moments of every day and of all days so far, by arm and by the day a user was first seen."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import polars as pl

from abtest.analysis.design import Design
from abtest.analysis.expressions import Expression, parse
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.rollup import FIRST_DAY, on_day
from abtest.analysis.unit_cells import UNIT, UnitCells
from abtest.analysis.userlog import UserLog, slice_column
from abtest.stats.estimators import ArmMoments
from abtest.stats.groups import CellMoments
from abtest.stats.moments import Moments
from abtest.stats.terms import Term

_NOTHING = "\x1fnothing"
_THERE = "\x1fthere\x1f"
EARLY_DAYS = 2  # novelty: these against all later ones


class DailyMoments(NamedTuple):
    """Moments by arm and first day.

    Attributes:
        cells: Columns are a metric's expression over a span of days; with units above the user also ``there(day)``.
        metrics: The metrics that can be followed.
        days: Days of the window.
        covariates: Columns that the looks are adjusted for: those of CUPED, or flags of the strata but the first.
        strata: Slice column of post-stratified looks, None without.
    """

    cells: CellMoments | UnitCells
    metrics: tuple[Metric, ...]
    days: int
    covariates: tuple[str, ...] = ()
    strata: str | None = None

    def of(self, arm: str, until: int) -> Moments:
        """Users of an arm first seen on day ``until`` or before; later ones were not in the test yet."""
        return self.cells.total(arm=arm, **{FIRST_DAY: list(range(1, until + 1))})

    def arm(self, arm: str, until: int) -> ArmMoments:
        """The same, by stratum as well."""
        if self.strata is None:
            return ArmMoments(self.of(arm, until), {})
        days = list(range(1, until + 1))
        by_label = {
            label: self.cells.total(**{"arm": arm, FIRST_DAY: days, self.strata: str(label)})
            for label in self.cells.labels(self.strata)
        }
        return ArmMoments(self.of(arm, until), by_label)

    def users(self, *arms: str) -> list[int]:
        """Users of these arms together at the end of each day."""
        new = [sum(self.new_users(arm, day) for arm in arms) for day in range(1, self.days + 1)]
        return list(accumulate(new))

    def new_users(self, arm: str, day: int) -> int:
        if isinstance(self.cells, UnitCells):
            return self.cells.users(arm, **{FIRST_DAY: day})
        return self.cells.total(arm=arm, **{FIRST_DAY: day}).n


def over(metric: Metric, first: int, last: int) -> Term:
    """The metric over days ``first`` to ``last``, both included, as a column of ``DailyMoments``."""
    value = _name(metric.value, first, last)
    return value if metric.per is None else (value, _name(metric.per, first, last))


def there(day: int, covariate: str | None = None) -> str:
    """Column with 1 for users first seen on ``day`` or before, or with a covariate of theirs; 0 for all others."""
    return f"{_THERE}{day}\x1f{covariate or ''}"


def measure_days(log: UserLog, design: Design | None = None, strata: str | None = None) -> DailyMoments | None:
    """Moments of each day, of all days so far, and of the early and late days.

    Args:
        log: With or without days.
        design: Its estimator decides what the looks are adjusted for.
        strata: Slice column of post-stratified looks.

    Returns:
        None where the log has no days.
    """
    if log.days is None:
        return None
    there = set(log.users.collect_schema())
    followed = [
        metric
        for metric in log.metrics
        if metric.role == "primary"
        and metric.slice == ALL
        and all(on_day(column, 1) in there for column in metric.columns)
    ]
    days = log.days.length
    spans = {(1, day) for day in range(1, days + 1)} | {(day, day) for day in range(1, days + 1)}
    if days > EARLY_DAYS:
        spans |= {(1, EARLY_DAYS), (EARLY_DAYS + 1, days)}
    columns = {
        _name(expression, first, last): parse(expression.text, _sum_of(first, last)).expr
        for metric in followed
        for expression in (metric.value, metric.per)
        if expression is not None
        for first, last in sorted(spans)
    }
    keys, estimator = ["arm", FIRST_DAY], design.estimator if design is not None else "welch"
    adjusted: dict[str, pl.Expr] = {}
    if estimator == "cuped":
        adjusted = {name: pl.col(name) for name in log.covariates}
    elif estimator == "poststratified" and strata is not None:
        keys.append(slice_column(strata))
        labels = log.slices[strata][1:]
        adjusted = {f"{strata}\x1f{one}": (pl.col(slice_column(strata)) == one).cast(pl.Float64) for one in labels}
    columns = columns or {_NOTHING: pl.lit(0.0)}  # users by day are counted nonetheless
    if log.has_units:
        return _days_of_units(log, columns, adjusted, followed)
    names = list(dict.fromkeys([*columns, *adjusted]))
    table = log.users.select(*(pl.col(key) for key in keys), **{**columns, **adjusted})
    stratum = keys[2] if len(keys) > 2 else None
    return DailyMoments(CellMoments.of(table, names, keys), tuple(followed), days, tuple(adjusted), stratum)


def _days_of_units(
    log: UserLog, columns: dict[str, pl.Expr], adjusted: dict[str, pl.Expr], followed: Sequence[Metric]
) -> DailyMoments:
    """The same by unit, and who was there by the end of each day, so that looks can be compared in the same units."""
    days = log.days.length if log.days is not None else 0
    seen = {day: (pl.col(FIRST_DAY) <= day).cast(pl.Float64) for day in range(1, days + 1)}
    columns = columns | {there(day): one for day, one in seen.items()}
    columns |= {there(day, name): value * one for day, one in seen.items() for name, value in adjusted.items()}
    names = list(dict.fromkeys([*columns, *adjusted]))
    table = log.users.select(pl.col(UNIT), pl.col("arm"), pl.col(FIRST_DAY), **{**columns, **adjusted})
    cells = UnitCells.of(table, names, ["arm", FIRST_DAY])
    return DailyMoments(cells, tuple(followed), days, tuple(adjusted))


def _name(expression: Expression, first: int, last: int) -> str:
    return f"{expression.text}\x1f{first}\x1f{last}"


def _sum_of(first: int, last: int) -> Callable[[str], pl.Expr]:
    """A column of the metric's expression, summed over these days."""
    return lambda column: pl.sum_horizontal([pl.col(on_day(column, day)) for day in range(first, last + 1)])


def new_users_per_day(log: UserLog) -> float | None:
    """Mean of the users first seen on a day; None where the log has no days."""
    if log.days is None:
        return None
    return float(log.users.select(pl.len()).collect(engine="streaming").item()) / log.days.length
