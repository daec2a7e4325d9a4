"""Poisson bootstrap: intervals without a variance formula, as a check of those with one.

Each replicate weighs every user by a Poisson(1) number. Users with the same value need not be told apart: the weight of
c users is Poisson(c), so a count metric is resampled from its histogram however many users it has. Values that are too
many to list are first summed in random groups of users, which are then what is resampled.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abtest.stats.contrast import ZERO_CONTROL, check_alpha
from abtest.stats.estimate import Interval

Floats = NDArray[np.float64]

_UNITS = 8_192  # distinct values, or groups of users, that are weighed one by one
_MANY, _UNITS_OF_MANY = 250_000, 2_048  # above so many users fewer groups: sums of a hundred and more are near normal
_BATCH = 1 << 18  # weights at once: they stay in the cache


class Bootstrap(NamedTuple):
    """Percentile intervals over the replicates.

    Attributes:
        difference: treatment - control on the data as they are.
        difference_ci: Its interval.
        se: Standard deviation of the difference over the replicates.
        lift: difference / abs(control).
        lift_ci: Its interval; None where a replicate's control mean is not on the control's side of 0.
        replicates: How many.
        reason: Why something above is None, else None.
    """

    difference: float | None
    difference_ci: Interval | None
    se: float | None
    lift: float | None
    lift_ci: Interval | None
    replicates: int
    reason: str | None = None


def poisson_bootstrap(
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    control_per: ArrayLike | None = None,
    treatment_per: ArrayLike | None = None,
    rng: np.random.Generator,
    replicates: int = 2_000,
    alpha: float = 0.05,
) -> Bootstrap:
    """Bootstrap of the difference and the lift of a mean, or of a ratio of sums.

    Args:
        control: One value per user, shape (n,).
        treatment: The same of the treatment.
        control_per: Denominator of each user, for a ratio; users of both arms or of none.
        treatment_per: The same of the treatment.
        rng: Where the weights come from.
        replicates: How many, >= 100.
        alpha: 1 - level of the intervals.

    Raises:
        ValueError: If an argument is out of range, shapes differ, or a value is not finite.
    """
    check_alpha(alpha)
    if replicates < 100:
        raise ValueError(f"replicates must be >= 100, got {replicates}: fewer have no tails.")
    if (control_per is None) != (treatment_per is None):
        raise ValueError("give the denominators of both arms or of none.")
    arms = [_pairs(control, control_per, "control"), _pairs(treatment, treatment_per, "treatment")]
    if any(len(values) < 2 for values, _ in arms):
        return Bootstrap(None, None, None, None, None, replicates, "an arm has fewer than 2 users")
    if any(per.sum() == 0.0 for _, per in arms):
        return Bootstrap(None, None, None, None, None, replicates, "a denominator sums to 0")
    point_c, point_t = (float(values.sum() / per.sum()) for values, per in arms)
    difference = point_t - point_c
    lift = difference / abs(point_c) if point_c != 0.0 else None
    draws = [_replicated(values, per, replicates, rng) for values, per in arms]
    if not all(np.isfinite(draw).all() for draw in draws):
        why = "a replicate has no users left: too few for a bootstrap"
        return Bootstrap(difference, None, None, lift, None, replicates, why)
    gaps = draws[1] - draws[0]
    interval = _percentiles(gaps, alpha)
    se = float(gaps.std(ddof=1))
    if lift is None:
        return Bootstrap(difference, interval, se, None, None, replicates, ZERO_CONTROL)
    if (draws[0] * point_c <= 0.0).any():
        why = "control mean too close to 0, relative interval unbounded"
        return Bootstrap(difference, interval, se, lift, None, replicates, why)
    return Bootstrap(difference, interval, se, lift, _percentiles(gaps / np.abs(draws[0]), alpha), replicates)


def _pairs(values: ArrayLike, per: ArrayLike | None, arm: str) -> tuple[Floats, Floats]:
    x = np.asarray(values, np.float64)
    y = np.ones_like(x) if per is None else np.asarray(per, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"values of {arm} must be finite vectors of one shape, got {x.shape} and {y.shape}.")
    return x, y


def _replicated(values: Floats, per: Floats, replicates: int, rng: np.random.Generator) -> Floats:
    """The metric in each replicate, shape (R,); nan where no user is left."""
    sums, counts = _units(values, per, rng)
    result = np.empty(replicates)
    step = max(_BATCH // len(sums), 1)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        weights = rng.poisson(counts, (size, len(counts))).astype(np.float64)
        top, bottom = (weights @ (sums / counts[:, None])).T
        with np.errstate(divide="ignore", invalid="ignore"):
            result[start : start + size] = np.where(bottom != 0.0, top / bottom, np.nan)
    return result


def _units(values: Floats, per: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """What is resampled: sums of value and denominator, shape (D, 2), and how many equal users make them up, (D,)."""
    users = len(values)
    if users <= _UNITS:
        return np.stack([values, per], axis=1), np.ones(users)
    if (per == 1.0).all() and len(np.unique(values[: 4 * _UNITS])) <= _UNITS:
        distinct, counts = np.unique(values, return_counts=True)
        if len(distinct) <= _UNITS:
            totals = np.stack([distinct * counts, counts.astype(np.float64)], axis=1)
            return totals, counts.astype(np.float64)
    group = rng.permutation(users) % (_UNITS if users <= _MANY else _UNITS_OF_MANY)
    totals = np.stack([np.bincount(group, values), np.bincount(group, per)], axis=1)
    return totals, np.ones(len(totals))


def _percentiles(values: Floats, alpha: float) -> Interval:
    low, high = np.quantile(values, [alpha / 2.0, 1.0 - alpha / 2.0])
    return float(low), float(high)
