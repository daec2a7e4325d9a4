"""Many noisy effects at once: how much they truly differ, one test of whether they do, and each one shrunken.

Effects y_i with known noise s_i are draws from normal true effects: y_i ~ N(theta_i, s_i^2), theta_i ~ N(mu, tau^2).
``between`` estimates mu and tau as meta-analysis does (Paule and Mandel 1982) and tests tau = 0 by Cochran's Q.
``shrunken`` gives the posterior of each theta_i with tau integrated over the prior s0 / (s0 + tau)^2, s0^2 the harmonic
mean of the s_i^2 (DuMouchel 1994), and mu over a flat one: with the few slices of a test a plugged-in tau would make
intervals too short (empirical Bayes with the spread's own uncertainty).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.stats.estimate import Interval

Floats = NDArray[np.float64]
_GRID = 150  # points of tau
_HALVINGS = 40


class Between(NamedTuple):
    """The spread of true effects.

    Attributes:
        mean: Mean true effect.
        mean_se: Its standard error.
        sd: Standard deviation of the true effects, tau.
        q: Cochran's Q.
        df: Effects less one.
        p: Of "all true effects are equal"; None with fewer than two effects.
    """

    mean: float
    mean_se: float
    sd: float
    q: float
    df: int
    p: float | None


class Shrunken(NamedTuple):
    """A true effect, given all the measured ones.

    Attributes:
        effect: Posterior mean.
        interval: Its central credible interval.
        weight: How much of the measured effect's distance from the mean is left, 0 to 1.
    """

    effect: float
    interval: Interval
    weight: float


def between(effects: Sequence[float], noise: Sequence[float]) -> Between:
    """Mean and spread of true effects, and the test that there is no spread.

    Args:
        effects: Measured effects, at least one.
        noise: Their standard errors, > 0.

    Raises:
        ValueError: If lengths differ, there is no effect, or a number is not finite or a standard error not positive.
    """
    y, variance = _checked(effects, noise)
    weights = 1.0 / variance
    fixed = float(weights @ y / weights.sum())
    q, df = float(weights @ (y - fixed) ** 2), len(y) - 1
    tau2 = _paule_mandel(y, variance)
    weights = 1.0 / (variance + tau2)
    p = float(special.chdtrc(df, q)) if df else None
    return Between(float(weights @ y / weights.sum()), float(weights.sum() ** -0.5), math.sqrt(tau2), q, df, p)


def shrunken(effects: Sequence[float], noise: Sequence[float], *, alpha: float = 0.05) -> list[Shrunken]:
    """Every effect shrunken towards their mean, with an interval.

    Args:
        effects: Measured effects, at least two.
        noise: Their standard errors, > 0.
        alpha: 1 - level of the intervals.

    Raises:
        ValueError: As ``between``, or with fewer than two effects.
    """
    y, variance = _checked(effects, noise)
    if len(y) < 2:
        raise ValueError("effects must be at least two: one alone has nothing to be shrunken to.")
    s0 = math.sqrt(len(y) / float((1.0 / variance).sum()))
    share = (np.arange(_GRID) + 0.5) / _GRID
    tau2 = (s0 * share / (1.0 - share)) ** 2  # quantiles of the prior: each point has the same prior weight
    total = variance[None, :] + tau2[:, None]  # (grid, effects)
    mean_var = 1.0 / (1.0 / total).sum(axis=1)
    mean = (y / total).sum(axis=1) * mean_var
    log_like = 0.5 * (np.log(mean_var) - np.log(total).sum(axis=1) - ((y - mean[:, None]) ** 2 / total).sum(axis=1))
    chance = np.exp(log_like - log_like.max())
    chance /= chance.sum()
    keep = tau2[:, None] / total  # of the distance from the mean
    centre = mean[:, None] + keep * (y - mean[:, None])
    spread = np.sqrt(keep * variance + (1.0 - keep) ** 2 * mean_var[:, None])
    low, high = (_quantiles(centre, spread, chance, at) for at in (alpha / 2, 1 - alpha / 2))
    effect, weight = chance @ centre, chance @ keep
    return [Shrunken(float(effect[i]), (float(low[i]), float(high[i])), float(weight[i])) for i in range(len(y))]


def _checked(effects: Sequence[float], noise: Sequence[float]) -> tuple[Floats, Floats]:
    y, se = np.asarray(effects, np.float64), np.asarray(noise, np.float64)
    if y.shape != se.shape or y.ndim != 1 or not len(y):
        raise ValueError(f"effects and noise must be vectors of one length > 0, got {y.shape} and {se.shape}.")
    if not (np.isfinite(y).all() and np.isfinite(se).all() and (se > 0).all()):
        raise ValueError("effects and noise must be finite, and noise > 0.")
    return y, se**2


def _paule_mandel(y: Floats, variance: Floats) -> float:
    """The tau^2 at which the weighted squares of the distances from the mean are what they should be; 0 if none is."""

    def excess(tau2: float) -> float:
        weights = 1.0 / (variance + tau2)
        return float(weights @ (y - weights @ y / weights.sum()) ** 2) - (len(y) - 1)

    if len(y) < 2 or excess(0.0) <= 0.0:
        return 0.0
    low, high = 0.0, float(variance.max())
    while excess(high) > 0.0:
        low, high = high, 4.0 * high
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return (low + high) / 2.0


def _quantiles(centre: Floats, spread: Floats, chance: Floats, at: float) -> Floats:
    """Quantile of each column's mixture of normals, whose components have these chances."""
    reach = 12.0 * spread.max(axis=0)
    low, high = centre.min(axis=0) - reach, centre.max(axis=0) + reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        below = chance @ special.ndtr((middle - centre) / spread) < at
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2.0
