"""From a difference and its independent parts of noise to the test, the interval and the interval of the lift.

Every estimator ends here: raw means, ratios, CUPED and strata differ only in the parts they bring. The lift interval is
the set of lifts rho for which the t-test of ``difference - rho * abs(base)`` does not reject, with Welch-Satterthwaite
degrees of freedom that move with rho; at rho = 0 that test is the one that gives p, so stars and interval agree.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from abtest.stats.estimate import Estimate, Group, Interval
from abtest.stats.noise_parts import Contrast, NoisePart
from abtest.stats.tails import p_of_log10, t_quantile, two_sided_log10_p

__all__ = [
    "Contrast",
    "Distribution",
    "LiftMethod",
    "NoisePart",
    "agreeing",
    "check_alpha",
    "critical_t",
    "invert",
    "judge",
    "lift_interval",
]

LiftMethod = Literal["welch-fieller", "delta", "log-delta"]
Distribution = Literal["t", "normal"]

UNBOUNDED = "control mean too close to 0, relative interval unbounded"
ZERO_CONTROL = "control mean is 0: a relative lift is undefined"
NOT_POSITIVE = "log-delta needs positive means in both arms"
NOT_ONE_INTERVAL = "the lifts that the test accepts do not form one interval: too few users in an arm"
NO_NOISE = "neither arm varies: there is no noise to judge by"

_SAME = 1e-9  # a bound this near to 0, relative to the width of its interval, is 0 up to rounding


def judge(
    contrast: Contrast,
    n_control: int,
    n_treatment: int,
    *,
    method: str,
    alpha: float,
    lift: LiftMethod = "welch-fieller",
    distribution: Distribution = "t",
    mean_treatment: float | None = None,
    null: float = 0.0,
) -> Estimate:
    """The estimate that a contrast supports.

    Args:
        contrast: Difference, base and noise.
        n_control: Users of the control.
        n_treatment: Users of the treatment.
        method: How the contrast came about, in words.
        alpha: 1 - level of the intervals, within (0, 1).
        lift: How the interval of the lift is made.
        distribution: ``normal`` takes the variances as known.
        mean_treatment: The treatment's value where it is known more exactly than as base + difference.
        null: Lift that p is for, as a share: 0 for "no difference", 0.01 for "a lift of one per cent".
    """
    check_alpha(alpha)
    if distribution == "normal":
        contrast = contrast.normal()
    difference, base = contrast.difference, contrast.base
    se, df = contrast.at(0.0)
    groups = Group(n_control, base), Group(n_treatment, base + difference if mean_treatment is None else mean_treatment)
    ratio = difference / abs(base) if base != 0.0 else None
    blank = Estimate(method, alpha, *groups, difference=difference, lift=ratio, null=null, contrast=contrast)
    if not se > 0.0:
        return replace(blank, se=0.0, reason=NO_NOISE)
    half = critical_t(alpha, df) * se
    interval = (difference - half, difference + half)
    if null == 0.0:
        t = difference / se
    elif base == 0.0:
        return replace(blank, se=se, df=df, difference_ci=interval, reason=ZERO_CONTROL)
    else:
        edge_se, df = contrast.upright().at(null)
        t = (difference - null * abs(base)) / edge_se
    log10_p = float(two_sided_log10_p(t, df))
    p = p_of_log10(log10_p)
    if null == 0.0:
        interval = agreeing(interval, p < alpha) or interval
    lift_ci, reason = lift_interval(contrast, alpha=alpha, method=lift, rejects=p < alpha, null=null)
    return replace(
        blank, difference_ci=interval, se=se, df=df, t=t, p=p, log10_p=log10_p, lift_ci=lift_ci, reason=reason
    )


def lift_interval(
    contrast: Contrast,
    *,
    alpha: float,
    method: LiftMethod = "welch-fieller",
    rejects: bool | None = None,
    null: float = 0.0,
) -> tuple[Interval | None, str | None]:
    """Interval of the lift, or None and why.

    Args:
        contrast: Difference, base and noise.
        alpha: 1 - level.
        method: ``welch-fieller`` inverts the test; ``delta`` and ``log-delta`` are there to compare.
        rejects: Whether the test of the lift ``null`` rejects, which the inverted test must agree with.
        null: The lift tested.
    """
    if contrast.base == 0.0:
        return None, ZERO_CONTROL
    upright = contrast.upright()
    if method == "welch-fieller":
        bounds = invert(upright, lambda df: critical_t(alpha, df))
        if bounds is None:
            return None, UNBOUNDED
        agreed = bounds if rejects is None else agreeing(bounds, rejects, null)
        return agreed, None if agreed else NOT_ONE_INTERVAL
    centre = upright.difference / upright.base
    se = upright.at(centre)[0] / upright.base
    if method == "delta":  # degrees of freedom of the difference, as gbstats has them
        half = critical_t(alpha, upright.at(0.0)[1]) * se
        return (centre - half, centre + half), None
    ratio = 1.0 + centre
    if contrast.base < 0.0 or ratio <= 0.0:
        return None, NOT_POSITIVE
    stretch = math.exp(critical_t(alpha, upright.at(centre)[1]) * se / ratio)  # df of the logarithm, as tea-tasting
    return (ratio / stretch - 1.0, ratio * stretch - 1.0), None


def invert(contrast: Contrast, critical: Callable[[float], float]) -> Interval | None:
    """Lifts around difference / base that a test with this critical value (of its df) accepts; None if unbounded.

    Args:
        contrast: With a positive base.
        critical: Degrees of freedom to the largest \\|t\\| that is accepted.
    """
    base = contrast.base
    se_base, df_base = contrast.of_base()
    if base <= critical(df_base) * se_base:
        return None

    def excess(rho: float) -> float:
        """Above 0 where the lift is rejected."""
        se, df = contrast.at(rho)
        return abs(contrast.difference - rho * base) - critical(df) * se

    from scipy.optimize import brentq

    centre = contrast.difference / base
    step = contrast.at(centre)[0] / base
    if step == 0.0:
        return centre, centre
    bounds = []
    for side in (-1.0, 1.0):
        inner, outer = 0.0, step
        while excess(centre + side * outer) <= 0.0:
            inner, outer = outer, 2.0 * outer
            if not math.isfinite(outer) or outer > 1e200 * step:
                return None
        low, high = centre + side * inner, centre + side * outer
        bounds.append(float(brentq(excess, low, high, xtol=1e-15 * max(abs(centre), step), rtol=1e-14)))
    return bounds[0], bounds[1]


def agreeing(bounds: Interval, rejects: bool, null: float = 0.0) -> Interval | None:
    """The interval with a bound that rounding put on the wrong side of the null moved onto the right one.

    None if neither bound is so near.
    """
    low, high = bounds
    if rejects != (low <= null <= high):
        return bounds
    if min(abs(low - null), abs(high - null)) > _SAME * (high - low):
        return None
    if abs(low - null) < abs(high - null):
        return (math.nextafter(null, math.inf) if rejects else null, high)
    return (low, math.nextafter(null, -math.inf) if rejects else null or -0.0)


def critical_t(alpha: float, df: float) -> float:
    """The t with P(|T| > t) = alpha, accurate for any alpha > 0."""
    return -t_quantile(alpha / 2.0, df)


def check_alpha(alpha: float) -> None:
    """Check a significance level.

    Raises:
        ValueError: If alpha is not within (0, 1).
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie within (0, 1), got {alpha}: 0.05 gives 95 % intervals.")
