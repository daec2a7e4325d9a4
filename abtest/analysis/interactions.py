"""Whether a lift differs between two groups of users, or between two periods of the same users."""

import math
from typing import NamedTuple

import numpy as np

from abtest.stats.contrast import critical_t
from abtest.stats.moments import Moments
from abtest.stats.noise_parts import pooled_dof
from abtest.stats.tails import p_of_log10, two_sided_log10_p
from abtest.stats.terms import Term, linear, undefined
from abtest.stats.welch import two_arms

Interval = tuple[float, float]


class LiftChange(NamedTuple):
    """One lift minus another; both relative to their own control.

    Attributes:
        change: In shares: 0.02 = two points more.
        change_ci: Its interval.
        p: Two-sided, for "the lifts are equal"; never 0.
        reason: Why the above are None.
    """

    change: float | None = None
    change_ci: Interval | None = None
    p: float | None = None
    reason: str | None = None


def between_groups(
    first: tuple[Moments, Moments], second: tuple[Moments, Moments], term: Term, *, alpha: float
) -> LiftChange:
    """Lift of the first group minus lift of the second, in users that are not the same.

    Args:
        first: Control and treatment users of one group, such as a slice.
        second: Control and treatment users of the other, such as the rest.
        term: The metric.
        alpha: 1 - level of the interval.
    """
    lifts, noise, dofs = [], [], []
    for control, treatment in (first, second):
        reason = undefined(control, term, "control") or undefined(treatment, term, "treatment")
        if reason:
            return LiftChange(reason=reason)
        contrast = two_arms(linear(control, (term,)), linear(treatment, (term,))).upright()
        if contrast.base == 0.0:
            return LiftChange(reason="control mean is 0: a relative lift is undefined")
        lift = contrast.difference / contrast.base
        se, df = contrast.at(lift)
        lifts.append(lift)
        noise.append((se / contrast.base) ** 2)
        dofs.append(df)
    total = math.fsum(noise)
    spread = sum((v / total) ** 2 / df for v, df in zip(noise, dofs, strict=True)) if total > 0 else 0.0
    return _judged(lifts[0] - lifts[1], math.sqrt(total), 1.0 / spread if spread > 0 else math.inf, alpha)


def between_periods(control: Moments, treatment: Moments, early: Term, late: Term, *, alpha: float) -> LiftChange:
    """Lift of the late period minus lift of the early one, in the same users, whose periods go together."""
    for term in (early, late):
        reason = undefined(control, term, "control") or undefined(treatment, term, "treatment")
        if reason:
            return LiftChange(reason=reason)
    c, t = linear(control, (early, late)), linear(treatment, (early, late))
    if not c.value.all():
        return LiftChange(reason="control mean is 0: a relative lift is undefined")
    sign = np.array([-1.0, 1.0]) / np.abs(c.value)
    slopes_t, slopes_c = sign, -sign * t.value / c.value
    parts = [float(slopes_c @ c.cov @ slopes_c) / c.n, float(slopes_t @ t.cov @ slopes_t) / t.n]
    parts = [max(part, 0.0) for part in parts]  # rounding takes periods that go together exactly below 0
    total = math.fsum(parts)
    df = pooled_dof(parts, (c.dof, t.dof), (c.expected, t.expected))
    lifts = (t.value - c.value) / np.abs(c.value)
    return _judged(float(lifts[1] - lifts[0]), math.sqrt(total), df, alpha)


def _judged(change: float, se: float, df: float, alpha: float) -> LiftChange:
    if not se > 0.0:
        return LiftChange(change, reason="neither arm varies: there is no noise to judge by")
    half = critical_t(alpha, df) * se
    p = p_of_log10(float(two_sided_log10_p(change / se, df)))
    return LiftChange(change, (change - half, change + half), p)
