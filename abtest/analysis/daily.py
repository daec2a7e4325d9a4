"""A test day by day: moments of every day and of all days so far, by arm and by the day a user was first seen."""

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import polars as pl

from abtest.analysis.expressions import Expression, parse
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.rollup import FIRST_DAY, on_day
from abtest.analysis.userlog import UserLog
from abtest.stats.groups import CellMoments
from abtest.stats.moments import Moments
from abtest.stats.terms import Term

EARLY_DAYS = 2  # novelty: these against all later ones


class DailyMoments(NamedTuple):
    """Moments by arm and first day.

    Attributes:
        cells: Columns are a metric's expression over a span of days.
        metrics: The metrics that can be followed.
        days: Days of the window.
    """

    cells: CellMoments
    metrics: tuple[Metric, ...]
    days: int

    def of(self, arm: str, until: int) -> Moments:
        """Users of an arm first seen on day ``until`` or before; later ones were not in the test yet."""
        return self.cells.total(arm=arm, **{FIRST_DAY: list(range(1, until + 1))})

    def users(self, *arms: str) -> list[int]:
        """Users of these arms together at the end of each day."""
        new = [sum(self.new_users(arm, day) for arm in arms) for day in range(1, self.days + 1)]
        return list(accumulate(new))

    def new_users(self, arm: str, day: int) -> int:
        return self.cells.total(arm=arm, **{FIRST_DAY: day}).n


def over(metric: Metric, first: int, last: int) -> Term:
    """The metric over days ``first`` to ``last``, both included, as a column of ``DailyMoments``."""
    value = _name(metric.value, first, last)
    return value if metric.per is None else (value, _name(metric.per, first, last))


def measure_days(log: UserLog) -> DailyMoments | None:
    """Moments of each day, of all days so far, and of the early and late days; None where the log has no days."""
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
    table = log.users.select(pl.col("arm"), pl.col(FIRST_DAY), **columns)
    return DailyMoments(CellMoments.of(table, list(columns), ["arm", FIRST_DAY]), tuple(followed), days)


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
