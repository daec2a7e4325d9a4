"""Statistics of two models trained on the same seeds and tested on the same users (N27).

Two kinds of luck separate a measured gain from a real one, and each has its own test:

- **Over training seeds**: would other seeds (initial weights, batch order, negatives) show the gain *on this test set*?
  The unit is a seed; the test users are taken as given. ``paired_seeds`` uses that both arms share seeds,
  ``welch_seeds`` does not.
- **Over users**: would other users from the same population show the gain *with these trained models*?
  The unit is a test user, whose hits are averaged over the seeds first. ``paired_users``.

Neither interval contains the other's noise, so a report gives both.
Every relative interval is Fieller's: it holds exactly those lifts the t-test would not reject, so it excludes 0
exactly when p < alpha (the paired forms in closed form; Welch by root search, as its degrees of freedom move).
What cannot be computed is ``None`` with a reason, never 0 and never p = 1.
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]

_ROUNDING = 1e-12  # a spread this small, relative to the values, is rounding and not noise


class PairedTest(NamedTuple):
    """One treatment against the control on one metric.

    Attributes:
        test: What the p-value is, in words.
        control: Mean of the control, in the metric's unit.
        treatment: Mean of the treatment.
        difference: treatment - control.
        difference_ci: Interval of the difference, level 1 - alpha.
        lift: difference / abs(control); 0.05 = five per cent more.
        lift_ci: Fieller interval of the lift.
        t: Student's statistic.
        df: Its degrees of freedom.
        p: Two-sided; never 0 (what underflows is the smallest normal float, ``log10_p`` tells the rest).
        log10_p: Base-10 logarithm of p, exact where p underflows.
        reason: Why something above is None, else None.
    """

    test: str
    control: float | None
    treatment: float | None
    difference: float | None
    difference_ci: Interval | None = None
    lift: float | None = None
    lift_ci: Interval | None = None
    t: float | None = None
    df: float | None = None
    p: float | None = None
    log10_p: float | None = None
    reason: str | None = None


def paired_seeds(control: ArrayLike, treatment: ArrayLike, *, alpha: float = 0.05) -> PairedTest:
    """Paired t-test over training seeds: how the gain would vary with other seeds on this test set.

    Args:
        control: The metric per seed, shape (S,).
        treatment: The same seeds in the same order, shape (S,).
        alpha: 1 - level of the intervals.

    Raises:
        ValueError: If the shapes differ.
    """
    c, t = _vector(control), _vector(treatment)
    return _paired(c, t, np.ones_like(c), alpha, f"paired t over {len(c)} training seeds", "seed")


def paired_users(
    control_hits: ArrayLike, treatment_hits: ArrayLike, clicks: ArrayLike, *, alpha: float = 0.05
) -> PairedTest:
    """Ratio test over users: how the gain would vary with other users, the trained models given.

    The metric is sum(hits) / sum(clicks), a ratio of two sums over the same users; a user's clicks are not
    independent, so the user is the unit and not the click. The difference is the ratio sum(treatment - control) /
    sum(clicks), the lift is sum(treatment) / sum(control) - 1, both with Fieller intervals, whose first-order form is
    the delta method on the linearised residuals.

    Args:
        control_hits: Hits per user, averaged over the seeds, shape (Q,).
        treatment_hits: The same for the treatment, shape (Q,).
        clicks: Test clicks per user, shape (Q,), > 0.
        alpha: 1 - level of the intervals.

    Raises:
        ValueError: If the shapes differ.
    """
    c, t, m = _vector(control_hits), _vector(treatment_hits), _vector(clicks)
    return _paired(c, t, m, alpha, f"paired ratio t over {len(c):,} users", "user")


def welch_seeds(control: ArrayLike, treatment: ArrayLike, *, alpha: float = 0.05) -> PairedTest:
    """Welch's t-test over training seeds, as if the arms shared none: valid, but blind to what pairing cancels.

    Args:
        control: The metric per seed, shape (S,).
        treatment: The metric per seed, any number of seeds.
        alpha: 1 - level of the intervals.
    """
    c, t = _vector(control), _vector(treatment)
    test = "Welch t over training seeds"
    if reason := _unusable(c, t, "seed"):
        return _undefined(test, c, t, reason)
    var_c, var_t = float(c.var(ddof=1)) / len(c), float(t.var(ddof=1)) / len(t)
    blank = _undefined(test, c, t, None)
    if math.sqrt(var_c + var_t) <= _ROUNDING * _size(c, t):
        return blank._replace(reason="neither arm varies over the seeds: there is no noise to judge by")
    difference = float(t.mean() - c.mean())
    df = _welch_df(var_t, var_c, len(t), len(c))
    statistic = difference / math.sqrt(var_c + var_t)
    half = _quantile(alpha, df) * math.sqrt(var_c + var_t)
    p, log10_p = two_sided_p(statistic, df)
    ratio_ci = _welch_fieller(float(t.mean()), float(c.mean()), var_t, var_c, len(t), len(c), alpha)
    done = blank._replace(
        t=statistic, df=df, p=p, log10_p=log10_p, difference_ci=(difference - half, difference + half)
    )
    return _with_lift_ci(done, ratio_ci)


def fieller(numerators: NDArray[np.float64], denominators: NDArray[np.float64], *, alpha: float) -> Interval | None:
    """Fieller's interval of mean(numerators) / mean(denominators), measured on the same units.

    The set of ratios r for which the one-sample t-test of ``numerators - r * denominators`` does not reject.

    Args:
        numerators: Shape (n,), n >= 2.
        denominators: Shape (n,), mean not 0.
        alpha: 1 - level.

    Returns:
        The interval, or None if it is unbounded because the denominators' mean is within noise of 0.
    """
    n = len(numerators)
    mean = float(denominators.mean())
    ratio = float(numerators.mean()) / mean
    residual = numerators - ratio * denominators
    (var_e, cov), (_, var_d) = (np.cov(residual, denominators, ddof=1) / n).tolist()
    q2 = _quantile(alpha, n - 1) ** 2
    bounded = mean**2 - q2 * var_d
    if bounded <= 0:
        return None
    root = math.sqrt(q2 * (q2 * cov**2 + bounded * var_e))
    return ratio + (-q2 * cov - root) / bounded, ratio + (-q2 * cov + root) / bounded


def two_sided_p(t: float, df: float) -> tuple[float, float]:
    """p and log10 p of Student's t; the logarithm stays exact where p would underflow to 0."""
    from scipy.special import stdtr

    p = 2.0 * float(stdtr(df, -abs(t)))
    if p > 1e-290:
        return min(p, 1.0), math.log10(min(p, 1.0))
    log10_p = _log_tail(t, df) / math.log(10.0)
    return max(10.0**log10_p, sys.float_info.min), log10_p


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the p-values that exist; undefined ones (None, nan) are None and do not count.

    Reference: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None and not math.isnan(p))
    adjusted: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, index) in enumerate(order):
        floor = max(floor, min(1.0, p * (len(order) - rank)))
        adjusted[index] = floor
    return adjusted


def _paired(
    c: NDArray[np.float64], t: NDArray[np.float64], size: NDArray[np.float64], alpha: float, test: str, unit: str
) -> PairedTest:
    if not c.shape == t.shape == size.shape:
        raise ValueError(f"control {c.shape}, treatment {t.shape} and size {size.shape} must have the same {unit}s.")
    if reason := _unusable(c, t, unit) or _unusable(size, size, unit):
        return _undefined(test, c, t, reason)
    blank = _undefined(test, c, t, None, per=float(size.mean()))
    delta = t - c
    se = float(delta.std(ddof=1)) / math.sqrt(len(delta))
    if se <= _ROUNDING * _size(c, t):
        same = float(np.abs(delta).max()) <= _ROUNDING * _size(c, t)
        what = "the arms are equal" if same else "the difference is the same"
        return blank._replace(reason=f"{what} for every {unit}: there is no noise to judge by")
    statistic = float(delta.mean()) / se
    p, log10_p = two_sided_p(statistic, len(delta) - 1)
    difference_ci = fieller(delta, size, alpha=alpha)
    done = blank._replace(t=statistic, df=float(len(delta) - 1), p=p, log10_p=log10_p, difference_ci=difference_ci)
    if difference_ci is None:  # only with sizes so uneven, and so few, that their own mean is in doubt
        done = done._replace(reason=f"too few {unit}s of too uneven size: the interval of the difference is unbounded")
    return _with_lift_ci(done, fieller(t, c, alpha=alpha) if blank.lift is not None else None)


def _with_lift_ci(result: PairedTest, ratio_ci: Interval | None) -> PairedTest:
    """Turn an interval of treatment / control into one of the lift, which is relative to abs(control)."""
    if result.lift is None or result.control is None:
        return result._replace(reason="the control mean is 0: a relative lift is undefined")
    if ratio_ci is None:
        return result._replace(reason="the control mean is within noise of 0: the relative interval is unbounded")
    low, high = sorted(math.copysign(1.0, result.control) * (bound - 1.0) for bound in ratio_ci)
    return result._replace(lift_ci=(low, high))


def _undefined(
    test: str, c: NDArray[np.float64], t: NDArray[np.float64], reason: str | None, per: float = 1.0
) -> PairedTest:
    """The point estimates alone, as far as they exist."""
    usable = len(c) > 0 and len(t) > 0 and bool(np.isfinite(c).all() and np.isfinite(t).all())
    if not usable:
        return PairedTest(test, None, None, None, reason=reason)
    control, treatment = float(c.mean()) / per, float(t.mean()) / per
    lift = (treatment - control) / abs(control) if control != 0 else None
    return PairedTest(test, control, treatment, treatment - control, lift=lift, reason=reason)


def _unusable(c: NDArray[np.float64], t: NDArray[np.float64], unit: str) -> str | None:
    if min(len(c), len(t)) < 2:
        return f"{min(len(c), len(t))} {unit}: at least 2 {unit}s are needed to see any spread"
    if not (np.isfinite(c).all() and np.isfinite(t).all()):
        return f"the metric is undefined for at least one {unit}"
    return None


def _welch_fieller(
    mean_t: float, mean_c: float, var_t: float, var_c: float, n_t: int, n_c: int, alpha: float
) -> Interval | None:
    """Ratios r = mean_t / mean_c that Welch's test of ``treatment - r * control`` does not reject."""
    from scipy.optimize import brentq

    if abs(mean_c) <= _quantile(alpha, n_c - 1) * math.sqrt(var_c):
        return None

    def excess(ratio: float) -> float:
        """Above 0 where the ratio is rejected."""
        se = math.sqrt(var_t + ratio**2 * var_c)
        if se == 0.0:
            return math.inf
        df = _welch_df(var_t, ratio**2 * var_c, n_t, n_c)
        return abs(mean_t - ratio * mean_c) / se - _quantile(alpha, df)

    centre = mean_t / mean_c
    step = math.sqrt(var_t + centre**2 * var_c) / abs(mean_c)
    bounds = []
    for side in (-1.0, 1.0):
        reach = next((r for r in (step * 2.0**k for k in range(100)) if excess(centre + side * r) > 0), None)
        if reach is None:
            return None
        inner = centre + side * (reach / 2.0 if reach > step else 0.0)
        bounds.append(float(brentq(excess, inner, centre + side * reach, xtol=1e-15, rtol=1e-13)))
    return bounds[0], bounds[1]


def _welch_df(var_a: float, var_b: float, n_a: int, n_b: int) -> float:
    """Welch-Satterthwaite degrees of freedom of two squared standard errors; scale-free against underflow."""
    share = var_a / (var_a + var_b)
    return 1.0 / (share**2 / (n_a - 1) + (1.0 - share) ** 2 / (n_b - 1))


def _quantile(alpha: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 1.0 - alpha / 2.0))


def _log_tail(t: float, df: float) -> float:
    """Natural log of the two-sided tail: the incomplete beta function I_x(df / 2, 1 / 2) at x = df / (df + t^2).

    Its hypergeometric factor 2F1(a + 1/2, 1; a + 1; x) is Gauss's continued fraction, evaluated backwards.
    """
    from scipy.special import betaln

    a, log_x = df / 2.0, -math.log1p(t * t / df)
    x = math.exp(log_x)
    fraction = 1.0
    for n in range(60, 0, -1):
        fraction = 1.0 - x * n * (n - 0.5) / ((a + 2 * n - 1) * (a + 2 * n)) / fraction
        fraction = 1.0 - x * (a + n - 0.5) * (a + n - 1) / ((a + 2 * n - 2) * (a + 2 * n - 1)) / fraction
    return a * log_x + 0.5 * math.log1p(-x) - math.log(a) - float(betaln(a, 0.5)) - math.log(fraction)


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must have shape (n,), got {array.shape}.")
    return array


def _size(c: NDArray[np.float64], t: NDArray[np.float64]) -> float:
    return float(max(np.abs(c).max(), np.abs(t).max()))
