"""Distances of two samples: Kolmogorov-Smirnov and Wasserstein, on a line or around a clock."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Distance(NamedTuple):
    """How far two samples are apart."""

    ks: float  # largest difference of the distribution functions, in [0, 1]
    wasserstein: float  # mean way a unit of mass has to go, in the unit of the samples


def distance(first: Floats, second: Floats, period: float | None = None) -> Distance:
    """Distances of samples (n,) and (m,), neither empty.

    Args:
        first: A sample.
        second: Another.
        period: Length of the circle the values lie on, 0 … period, where they are times of a clock: Wasserstein mass
            may then go the short way round. KS starts at 0 all the same.
    """
    values = np.sort(np.concatenate([first, second]))
    gap = _share_up_to(first, values) - _share_up_to(second, values)
    ks = float(np.abs(gap).max())
    if period is None:
        return Distance(ks, float(np.abs(gap[:-1]) @ np.diff(values)))
    width = np.diff(values, append=values[0] + period)
    return Distance(ks, float(np.abs(gap - _median(gap, width)) @ width))


def relative_difference(first: Floats, second: Floats) -> float:
    """Sum of absolute differences of two curves of numbers >= 0 over half the sum of both: 0 = equal, 2 = disjoint."""
    total = float((np.abs(first) + np.abs(second)).sum())
    return 2.0 * float(np.abs(first - second).sum()) / total if total > 0 else 0.0


def _share_up_to(sample: Floats, values: Floats) -> Floats:
    return np.searchsorted(np.sort(sample), values, side="right") / len(sample)


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, 0.5 * reached[-1])])
