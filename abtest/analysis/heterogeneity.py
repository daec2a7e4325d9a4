"""Which slices differ: one test for all slices of a column, and each slice's lift shrunken towards the others'.

"Significant here, not there" is no evidence of a difference, and the largest of many slices is large by chance. So one
test asks whether the lifts of a column's slices are equal (Cochran's Q, adjusted over columns, metrics and treatments
by Holm), and each lift is drawn towards the mean by as much as its noise and the spread of the others warrant.
"""

from collections.abc import Sequence
from typing import NamedTuple

from abtest.analysis.effects import unfit_reason
from abtest.analysis.measure import Measured, Slice, term
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.estimate import Interval
from abtest.stats.multiplicity import holm
from abtest.stats.shrinkage import Between, Shrunken, between, shrunken
from abtest.stats.terms import linear, undefined
from abtest.stats.welch import two_arms


class SliceLift(NamedTuple):
    """The lift of one slice, as measured and shrunken.

    Attributes:
        slice: Its name.
        users: Of control and treatment.
        lift: As measured.
        se: Its standard error, by the delta method.
        shrunken: Posterior mean given all slices of the column.
        shrunken_ci: Its interval.
    """

    slice: str
    users: int
    lift: float
    se: float
    shrunken: float
    shrunken_ci: Interval


class Heterogeneity(NamedTuple):
    """Lifts of the slices of one column.

    Attributes:
        metric: What was measured.
        arm: The treatment.
        column: The slice column.
        spread: Mean and spread of the true lifts, and the test that there is no spread; None where untested.
        p_adjusted: Holm over columns, metrics and treatments.
        slices: Those with enough users.
        left_out: Names of the others.
        reason: Why there is no test.
    """

    metric: Metric
    arm: str
    column: str
    spread: Between | None
    p_adjusted: float | None
    slices: tuple[SliceLift, ...]
    left_out: tuple[str, ...]
    reason: str | None


def heterogeneity_of(measured: Measured, metrics: Sequence[Metric], plan: AnalysisPlan) -> list[Heterogeneity]:
    """Every primary metric, treatment and slice column."""
    columns = dict.fromkeys(str(one.column) for one in measured.slices)
    found = [
        _of_column(measured, metric, column, arm, plan)
        for arm in plan.treatments
        for metric in metrics
        if metric.role == "primary" and metric.slice == ALL
        for column in columns
    ]
    adjusted = holm([one.spread.p if one.spread is not None else None for one in found])
    return [one._replace(p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _of_column(measured: Measured, metric: Metric, column: str, arm: str, plan: AnalysisPlan) -> Heterogeneity:
    usable: list[tuple[Slice, int, float, float]] = []
    left_out = []
    for where in measured.slices:
        if where.column != column:
            continue
        lift = _lift(measured, metric, where, arm, plan)
        if lift is None:
            left_out.append(where.name)
        else:
            users = measured.of(plan.control, where).n + measured.of(arm, where).n
            usable.append((where, users, *lift))
    blank = Heterogeneity(metric, arm, column, None, None, (), tuple(left_out), None)
    if len(usable) < 2:
        return blank._replace(reason=f"fewer than two slices have {plan.min_users:,} users an arm and a lift")
    lifts, noise = [one[2] for one in usable], [one[3] for one in usable]
    drawn: list[Shrunken] = shrunken(lifts, noise, alpha=plan.alpha)
    slices = tuple(
        SliceLift(where.name, users, lift, se, one.effect, one.interval)
        for (where, users, lift, se), one in zip(usable, drawn, strict=True)
    )
    return blank._replace(spread=between(lifts, noise), slices=slices)


def _lift(measured: Measured, metric: Metric, where: Slice, arm: str, plan: AnalysisPlan) -> tuple[float, float] | None:
    """Lift of a slice and its standard error; None where it cannot be judged."""
    control, treatment = measured.of(plan.control, where), measured.of(arm, where)
    question = term(metric)
    if min(control.n, treatment.n) < plan.min_users or unfit_reason(measured, metric, plan.control, arm, where):
        return None
    if undefined(control, question, "control") or undefined(treatment, question, "treatment"):
        return None
    contrast = two_arms(linear(control, (question,)), linear(treatment, (question,))).upright()
    if contrast.base == 0.0:
        return None
    lift = contrast.difference / contrast.base
    se = contrast.at(lift)[0] / contrast.base
    return (lift, se) if se > 0.0 else None
