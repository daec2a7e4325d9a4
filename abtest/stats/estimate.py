"""What a test of one metric says about one treatment arm beside the control."""

from dataclasses import dataclass, field
from typing import NamedTuple

from abtest.stats.noise_parts import Contrast

Interval = tuple[float, float]


class Group(NamedTuple):
    """One arm of a comparison.

    Attributes:
        n: Users.
        mean: The metric, a mean over users or a ratio of two sums, in the metric's unit; None where undefined.
    """

    n: int
    mean: float | None


@dataclass(frozen=True)
class Estimate:
    """Treatment against control on one metric. What cannot be computed is None with a reason, never 0 and never p = 1.

    Attributes:
        method: How it was estimated and tested, in words.
        alpha: 1 - level of the intervals.
        control: Users and metric of the control, what the lift is relative to: unadjusted under CUPED, the average of
            the strata under post-stratification.
        treatment: Users and metric of the treatment; under CUPED and post-stratification the adjusted value, which is
            control + difference.
        difference: treatment - control, in the metric's unit.
        difference_ci: Its interval; excludes 0 exactly when p < alpha.
        se: Standard error of the difference.
        df: Degrees of freedom of ``t``; inf for a z test.
        t: difference / se.
        p: Two-sided, for "no difference"; never 0 (what underflows is the smallest normal float).
        log10_p: Its base-10 logarithm, exact where p underflows.
        lift: difference / abs(control); 0.05 = five per cent more.
        lift_ci: Its interval; by the default method it excludes 0 exactly when p < alpha.
        reason: Why something above is None, else None.
        null: Lift that t and p are for, as a share; 0 for "no difference".
        contrast: Difference, base and noise that all this follows from; None where undefined.
    """

    method: str
    alpha: float
    control: Group
    treatment: Group
    difference: float | None = None
    difference_ci: Interval | None = None
    se: float | None = None
    df: float | None = None
    t: float | None = None
    p: float | None = None
    log10_p: float | None = None
    lift: float | None = None
    lift_ci: Interval | None = None
    reason: str | None = None
    null: float = 0.0
    contrast: Contrast | None = field(default=None, repr=False, compare=False)

    @property
    def lift_se(self) -> float | None:
        """Standard error of the lift by the delta method; None where undefined."""
        if self.contrast is None or self.lift is None or not self.contrast.base:
            return None
        upright = self.contrast.upright()
        return upright.at(self.lift)[0] / upright.base or None

    @property
    def rejects(self) -> bool | None:
        """Whether ``null`` is rejected at alpha; None where there is no p."""
        return None if self.p is None else self.p < self.alpha
