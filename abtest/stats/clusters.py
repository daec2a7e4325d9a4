"""Clusters of users that were assigned together: households, regions, or blocks of time of a switchback.

The mean per user of an arm of G clusters is ``sum S_g / N`` with cluster sums S_g, sizes n_g and N = sum n_g. Its noise
is that of the residuals ``e_g = S_g - n_g mean``, whatever goes on within a cluster:

    CR2:  sum e_g^2 / (1 - n_g / N) / N^2

(Bell, McCaffrey 2002; Pustejovsky, Tipton 2018, with an identity working matrix), which is unbiased with independent
users, and with G of equal size the plain variance of G cluster means. Its degrees of freedom are Satterthwaite's under
that working matrix: G - 1 for equal sizes and fewer the more the sizes differ.

So are those of a difference of two arms: each arm weighs by the variance that it has under the working matrix, 1 / N,
and not, as by Welch, by the variance that was estimated. With four clusters an arm that estimate is so rough that
Welch's test raises 3.3 to 4.6 % false alarms of 5; weighing by the working matrix it is 4.3 to 5.6 %. False alarms at
8, 20 and 100 clusters, also of other tests: ``tests/benchmarks/bench_clusters.py``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from abtest.stats.moments import Moments

Floats = NDArray[np.float64]


def cluster_moments(names: Sequence[str], sums: Floats, sizes: Floats) -> Moments:
    """Moments of an arm whose units are clusters: means per user, and the spread from which CR2 noise follows.

    Every estimator on moments takes them: ``variance / n`` of a column is the CR2 variance of its mean per user, and
    of a ratio or an adjusted mean that of its linearised residuals.

    Args:
        names: K columns.
        sums: Sum of each column over the users of each cluster, shape (G, K).
        sizes: Users of each cluster, > 0, shape (G,).

    Raises:
        ValueError: If the shapes differ or a cluster has no user.
    """
    if sums.shape != (len(sizes), len(names)):
        raise ValueError(f"sums must have shape ({len(sizes)}, {len(names)}), got {sums.shape}.")
    if not len(sizes):
        return Moments.empty(names)
    if not (sizes > 0).all():
        raise ValueError("sizes must be > 0: leave out clusters without users.")
    clusters, users = len(sizes), float(sizes.sum())
    mean = sums.sum(axis=0) / users
    if clusters == 1:
        return Moments(tuple(names), 1, mean, np.zeros((len(names), len(names))), 0.0, round(users))
    shares = sizes / users
    residuals = (sums - sizes[:, None] * mean) / np.sqrt(1.0 - shares)[:, None]
    comoment = residuals.T @ residuals * ((clusters - 1) * clusters / users**2)
    return Moments(tuple(names), clusters, mean, comoment, satterthwaite_dof(shares), round(users))


def satterthwaite_dof(shares: Floats) -> float:
    """Degrees of freedom of the CR2 variance of a mean over users, if users were independent.

    Args:
        shares: Share of the arm's users in each cluster, shape (G,), G > 1.
    """
    spread = shares**2 / (1.0 - shares)
    return float(1.0 / (np.sum(shares**2) + np.sum(spread) ** 2 - np.sum(spread**2)))
