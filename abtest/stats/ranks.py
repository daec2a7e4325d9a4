"""Mann-Whitney's rank-sum test, a check of the mean: is a treatment user above a control user in most pairs?"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from abtest.stats.tails import norm_logsf, p_of_log10

_EXACT = 8  # the smaller arm, as scipy has it: up to here, and without ties, p is exact


class MannWhitney(NamedTuple):
    """Ranks of the treatment among all users.

    Attributes:
        u: Pairs in which the treatment user is larger, ties counting half.
        superiority: u over all pairs: P(T > C) + P(T = C) / 2; 0.5 means no difference.
        p: Two-sided, with ties and a continuity of 1/2 in the normal form, exact in tiny samples without ties; never 0.
        log10_p: Its base-10 logarithm.
        exact: Whether p is exact.
        reason: Why something above is None, else None.
    """

    u: float | None
    superiority: float | None
    p: float | None
    log10_p: float | None
    exact: bool = False
    reason: str | None = None


def mann_whitney(control: ArrayLike, treatment: ArrayLike) -> MannWhitney:
    """Rank-sum test of one value per user.

    Args:
        control: Shape (n,).
        treatment: Shape (m,).

    Raises:
        ValueError: If a value is nan or an arm is not a vector.
    """
    c, t = _sorted(control, "control"), _sorted(treatment, "treatment")
    n, m = len(c), len(t)
    if not n or not m:
        return MannWhitney(None, None, None, None, reason="an arm has no users")
    pooled = np.concatenate([c, t])
    order = np.argsort(pooled, kind="stable")  # two runs: merged, not sorted
    pooled = pooled[order]
    edges = np.flatnonzero(np.concatenate([[True], pooled[1:] != pooled[:-1], [True]]))
    ties = np.diff(edges).astype(np.float64)
    treated = np.diff(np.append(0, np.cumsum(order >= n))[edges])  # treatment users among equals
    u = float((treated * (edges[:-1] + (ties + 1.0) / 2.0)).sum()) - m * (m + 1) / 2.0
    total = n + m
    tied = ties.max() > 1
    share = u / (n * m)
    if min(n, m) <= _EXACT and not tied:
        from scipy.stats import mannwhitneyu

        p = float(mannwhitneyu(t, c, method="exact").pvalue)
        return MannWhitney(u, share, p, math.log10(p), exact=True)
    spread = n * m / 12.0 * (total + 1.0 - float((ties**3 - ties).sum()) / (total * (total - 1.0)))
    if not spread > 0.0:
        return MannWhitney(u, share, None, None, reason="all users have the same value: there is no noise to judge by")
    z = max((abs(u - n * m / 2.0) - 0.5) / math.sqrt(spread), 0.0)
    log10_p = min((float(norm_logsf(z)) + math.log(2.0)) / math.log(10.0), 0.0)
    return MannWhitney(u, share, p_of_log10(log10_p), log10_p)


def _sorted(values: ArrayLike, arm: str) -> NDArray[np.float64]:
    x = np.array(values, np.float64)
    if x.ndim != 1 or np.isnan(x).any():
        raise ValueError(f"values of {arm} must be a vector without nan, got shape {x.shape}.")
    if not (x[1:] >= x[:-1]).all():
        x.sort()
    return x
