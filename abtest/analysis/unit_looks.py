"""How alike two looks at units above the user are: Z of both days, as ratios over the same units.

The mean per user after a day is the units' sums so far over their users so far. Both days' are columns of the units
there on the later day, so their covariance is that of clusters, whoever has come in between.
"""

import math

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.daily import DailyMoments, over, there
from abtest.analysis.metrics import Metric
from abtest.stats.terms import Term, linear, undefined


def correlation_of_units(
    daily: DailyMoments, arms: tuple[str, str], metric: Metric, before: int, day: int
) -> float | None:
    """Correlation of Z after two days, where nothing differs; None where one is undefined.

    Args:
        daily: Moments of units.
        arms: Control and treatment.
        metric: What is followed.
        before: The earlier day.
        day: The later one.
    """
    terms: list[Term] = []
    for until in (before, day):
        value = over(metric, 1, until)
        terms.append((value, there(until)) if isinstance(value, str) else value)
        terms += [(there(until, name), there(until)) for name in daily.covariates]
    groups = [daily.of(arm, day) for arm in arms]
    if any(undefined(group, term, "") for group in groups for term in terms):
        return None
    found = [linear(group, terms) for group in groups]
    noise = sum(one.cov / one.n for one in found)
    assert isinstance(noise, np.ndarray)
    size = len(terms) // 2
    left = np.zeros((2, len(terms)))
    for row, start in enumerate((0, size)):
        left[row, start] = 1.0
        left[row, start + 1 : start + size] = -_slopes(noise[start : start + size, start : start + size])
    shared = left @ noise @ left.T
    whole = math.sqrt(max(shared[0, 0], 0.0) * max(shared[1, 1], 0.0))
    return float(shared[0, 1]) / whole if whole > 0.0 else None


def _slopes(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the first on the others, by their covariance."""
    scale = np.sqrt(np.diag(noise)[1:])
    slopes, at = np.zeros(len(scale)), np.flatnonzero(scale > 0.0)
    if len(at):
        unit = scale[at]
        correlation = noise[np.ix_(1 + at, 1 + at)] / np.outer(unit, unit)
        slopes[at] = np.linalg.lstsq(correlation, noise[1 + at, 0] / unit, rcond=1e-10)[0] / unit
    return slopes
