"""How many users a planned test needs, by the estimator, the looks and the levels of its plan."""

import math
from typing import NamedTuple

import polars as pl

from abtest.analysis.measure import Measured, Slice, measure, term
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan_file import PlanFile, planned_metrics
from abtest.analysis.planning import History
from abtest.analysis.userlog import UserLog
from abtest.stats.moments import Moments
from abtest.stats.power import Baseline, baseline, users_needed
from abtest.stats.spending import sample_growth
from abtest.stats.strata import within_strata
from micrec.errors import MicrecError

_MOST_LOOKS = 60


class PlannedSize(NamedTuple):
    """Users that one primary metric needs.

    Attributes:
        metric: Its name.
        users: Of all arms together.
        days: Until they have come, None where the log has no days.
        unexplained: Share of the variance that the planned estimator leaves.
        level: Two-sided level that it is planned at.
    """

    metric: str
    users: int
    days: int | None
    unexplained: float
    level: float


def size_of(plan: PlanFile, history: History, *, lift: float, power: float = 0.8) -> list[PlannedSize]:
    """Users for every primary metric of a plan, from a log of the past.

    Args:
        plan: Its weights, estimator, looks and levels count.
        history: A log read with the plan's metrics, slices and covariates; all its users are in one arm.
        lift: True lift to find, beyond the null of the metric.
        power: Chance to find it in one metric.

    Raises:
        MicrecError: If a metric has no mean or spread in the log, or the estimator lacks what it needs.
    """
    arms = [plan.control, *plan.treatments]
    weights = {arm: plan.weights.get(arm, 1.0) for arm in arms}
    primary = [metric for metric in planned_metrics(plan, "plan") if metric.role == "primary"]
    whole = math.fsum(metric.level_share for metric in primary)
    looks = min(plan.planned_days, _MOST_LOOKS) if plan.looks == "daily" else 1
    found = []
    for metric in primary:
        if metric.slice != ALL:
            raise MicrecError(f"primary: {metric.name} is about a slice: plan its users by hand with micrec power.")
        level = plan.alpha * metric.level_share / whole / len(plan.treatments)
        try:
            base = baseline(history.moments, term(metric))
        except ValueError as fault:
            raise MicrecError(f"{metric.name}: {fault}") from None
        left = _unexplained(plan, history, metric)
        growth = sample_growth(tuple(look / looks for look in range(1, looks + 1)), alpha=level, power=power)
        base = base._replace(variance=base.variance * growth, unexplained=left)
        users = max(_users(base, lift, weights, plan.control, arm, level, power) for arm in plan.treatments)
        days = math.ceil(users / history.users_per_day) if history.users_per_day else None
        found.append(PlannedSize(metric.name, users, days, left, level))
    return found


def _users(
    base: Baseline, lift: float, weights: dict[str, float], control: str, arm: str, level: float, power: float
) -> int:
    """Users of all arms so that one treatment and control have enough."""
    both = weights[control] + weights[arm]
    plan = users_needed(base, lift, power=power, alpha=level, treatment_share=weights[arm] / both)
    if plan.n_control is None or plan.n_treatment is None:
        raise MicrecError(f"lift {lift:g}: {plan.reason}.")
    return math.ceil((plan.n_control + plan.n_treatment) * math.fsum(weights.values()) / both)


def _unexplained(plan: PlanFile, history: History, metric: Metric) -> float:
    """Share of the variance that the planned estimator leaves."""
    if plan.estimator == "welch":
        return 1.0
    if plan.estimator == "cuped":
        if not history.log.covariates:
            raise MicrecError("estimator cuped: the log has no covariates: name them with --covariates.")
        return baseline(history.moments, term(metric), history.log.covariates).unexplained
    return within_strata(_strata(history.log), term(metric))


def _strata(log: UserLog) -> list[Moments]:
    arms = log.users.select(pl.col("arm").cast(pl.String).unique().sort()).collect()["arm"].to_list()
    measured: Measured = measure(log, arms)
    column = next((one.column for one in measured.slices), None)
    chosen: list[Slice] = [one for one in measured.slices if one.column == column]
    if len(chosen) < 2:
        raise MicrecError("estimator poststratified: the log has no strata: name a column with --slices.")
    return [sum((measured.of(arm, one) for arm in arms[1:]), start=measured.of(arms[0], one)) for one in chosen]
