"""What a test of these users could have found: power by true lift, and the minimum detectable lift.

A metric counts as found where the report would say so: with m primary comparisons at the level alpha / m of Holm's
first step, which is what decides if nothing else differs. At the planned end of a test with looks all of them count,
before it the bound of the present look.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from abtest.analysis.daily_looks import Level
from abtest.analysis.measure import EVERYBODY, Measured, term
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.moments import Moments
from abtest.stats.power import Baseline, baseline, detectable_lift, power_of

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
    comparisons = len(plan.treatments) * sum(metric.role == "primary" for metric in metrics)
    for arm in plan.treatments:
        for metric in metrics:
            if metric.role != "primary":
                continue
            where = EVERYBODY if metric.slice == ALL else measured.slice_of(metric)
            control, treatment = measured.of(plan.control, where), measured.of(arm, where)
            level, alpha = levels[arm], plan.alpha / comparisons
            if level.schedule and level.information == 1.0:
                growth = level.schedule.growth(alpha, POWER)
                curves.append(_curve(metric, arm, control, treatment.n, alpha, growth))
                continue
            level = level.at(alpha) if level.tuned_for is None else level
            curves.append(_curve(metric, arm, control, treatment.n, level.alpha))
    return curves


def _curve(
    metric: Metric, arm: str, control: Moments, n_treatment: int, alpha: float, growth: float = 1.0
) -> PowerCurve:
    blank = PowerCurve(metric, arm, control.n, n_treatment, None, alpha, POWER, (), ())
    base = _base(control, metric)
    if isinstance(base, str) or min(control.n, n_treatment) < 2:
        return blank._replace(reason=base if isinstance(base, str) else "fewer than 2 users in an arm")
    base = base._replace(variance=base.variance * growth)  # what the looks cost, as noise
    found = detectable_lift(base, control.n, n_treatment, power=POWER, alpha=alpha)
    if found.lift is None:
        return blank._replace(reason=found.reason)
    lifts = [_REACH * found.lift * k / _POINTS for k in range(_POINTS + 1)]
    powers = [power_of(base, lift, control.n, n_treatment, alpha=alpha) for lift in lifts]
    return blank._replace(mde=found.lift, lifts=lifts, powers=powers)


def _base(control: Moments, metric: Metric) -> Baseline | str:
    try:
        return baseline(control, term(metric))
    except ValueError as fault:
        return str(fault)
