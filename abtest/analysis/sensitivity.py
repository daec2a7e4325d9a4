"""What a test of these users could have found: power by true lift, and the minimum detectable lift.

A metric counts as found where the report would say so: with m primary comparisons at the level alpha / m of Holm's
first step, which is what decides if nothing else differs. At the planned end of a test with looks all of them count,
before it the bound of the present look.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from abtest.analysis.daily_looks import Level
from abtest.analysis.effects import strata_of
from abtest.analysis.measure import EVERYBODY, Measured, Slice, term
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.unit_cells import UnitCells
from abtest.stats.cuped import residual_share
from abtest.stats.moments import Moments
from abtest.stats.power import Baseline, baseline, detectable_lift, power_of
from abtest.stats.strata import within_strata
from abtest.stats.terms import linear, undefined

POWER = 0.8
_POINTS = 24
_REACH = 2.0  # the curve goes on to twice the smallest detectable lift


class PowerCurve(NamedTuple):
    """Power of one metric of one treatment.

    Attributes:
        metric: What is measured.
        arm: The treatment.
        n_control: Users.
        n_treatment: Users.
        mde: Smallest lift found with ``power``; None where no lift is.
        alpha: Two-sided level at which this is found, after adjustment for the other comparisons and the looks.
        power: 0.8.
        lifts: True lifts.
        powers: Chance to find each.
        reason: Why there is no curve.
    """

    metric: Metric
    arm: str
    n_control: int
    n_treatment: int
    mde: float | None
    alpha: float
    power: float
    lifts: Sequence[float]
    powers: Sequence[float]
    reason: str | None = None


def power_curves(
    measured: Measured, metrics: Sequence[Metric], plan: AnalysisPlan, levels: Mapping[str, Level]
) -> list[PowerCurve]:
    """One curve for every primary metric and treatment, from the control's mean and spread."""
    curves = []
    for arm in plan.treatments:
        for metric in metrics:
            if metric.role != "primary":
                continue
            where = EVERYBODY if metric.slice == ALL else measured.slice_of(metric)
            control, treatment = measured.of(plan.control, where), measured.of(arm, where)
            left = _unexplained(measured, metric, plan, arm, where)
            level, alpha = levels[arm], plan.alpha / (len(plan.treatments) * _comparisons(metrics, metric))
            if level.schedule and level.information == 1.0:
                growth = level.schedule.growth(alpha, POWER)
                curves.append(_curve(metric, arm, control, treatment.n, alpha, growth, left))
                continue
            level = level.at(alpha) if level.tuned_for is None else level
            curves.append(_curve(metric, arm, control, treatment.n, level.alpha, left=left))
    return curves


def _curve(
    metric: Metric, arm: str, control: Moments, n_treatment: int, alpha: float, growth: float = 1.0, left: float = 1.0
) -> PowerCurve:
    blank = PowerCurve(metric, arm, control.n, n_treatment, None, alpha, POWER, (), ())
    base = _base(control, metric)
    if isinstance(base, str) or min(control.n, n_treatment) < 2:
        return blank._replace(reason=base if isinstance(base, str) else "fewer than 2 users in an arm")
    base = base._replace(variance=base.variance * growth, unexplained=left)  # what the looks cost, as noise
    found = detectable_lift(base, control.n, n_treatment, power=POWER, alpha=alpha)
    if found.lift is None:
        return blank._replace(reason=found.reason)
    lifts = [_REACH * found.lift * k / _POINTS for k in range(_POINTS + 1)]
    powers = [power_of(base, lift, control.n, n_treatment, alpha=alpha) for lift in lifts]
    return blank._replace(mde=found.lift, lifts=lifts, powers=powers)


def _comparisons(metrics: Sequence[Metric], metric: Metric) -> float:
    """Into how many parts the level is split, as one primary metric sees it."""
    return math.fsum(one.level_share for one in metrics if one.role == "primary") / metric.level_share


def _unexplained(measured: Measured, metric: Metric, plan: AnalysisPlan, arm: str, where: Slice) -> float:
    """Share of the metric's variance that the planned estimator leaves."""
    both, question = measured.of(plan.control, where) + measured.of(arm, where), term(metric)
    names = (question,) if isinstance(question, str) else question
    if plan.design.estimator == "welch" or both.n < 3 or any(undefined(both, one, "") for one in (question, *names)):
        return 1.0
    if not linear(both, (question,)).cov[0, 0] > 0.0:
        return 1.0
    if plan.design.estimator == "cuped":
        return residual_share(both, question, measured.covariates) if measured.covariates else 1.0
    if isinstance(measured.cells, UnitCells):  # a unit lies in several strata: no more is promised
        return 1.0
    strata = [measured.of(plan.control, one) + measured.of(arm, one) for one in strata_of(measured.slices, plan)]
    return within_strata(strata, question) if where.column is None else 1.0


def _base(control: Moments, metric: Metric) -> Baseline | str:
    try:
        return baseline(control, term(metric))
    except ValueError as fault:
        return str(fault)
