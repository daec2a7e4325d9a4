"""Clusters of users that were assigned together: households, regions, or blocks of time of a switchback.

The mean per user of an arm of G clusters is ``sum S_g / N`` with cluster sums S_g, sizes n_g and N = sum n_g. Its noise
is that of the residuals ``e_g = S_g - n_g mean``, whatever goes on within a cluster:

    CR2:  sum e_g^2 / (1 - n_g / N) / N^2

(Bell, McCaffrey 2002; Pustejovsky, Tipton 2018, with an identity working matrix), which is unbiased with independent
users, and with G of equal size the plain variance of G cluster means.

Its degrees of freedom are Satterthwaite's under a working model in which the users of a cluster share a small part of
their variance: G - 1 for equal sizes and fewer the more the sizes differ (Imbens, Kolesar 2016, with the correlation
fixed to ``SHARED`` over the mean size of a cluster). Of a difference of two arms each arm weighs by its variance under
that model, and not, as by Welch, by the estimated one: with four clusters an arm that is so rough that Welch's test
raises 4 % false alarms of 5. With independent users as the model, very unequal sizes raise up to 7 %. False alarms of
all of these at 8, 20 and 100 clusters: ``tests/benchmarks/bench_clusters.py``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from abtest.stats.moments import Moments

Floats = NDArray[np.float64]

SHARED = 0.3  # correlation of users times mean size of a cluster, under the working model of degrees of freedom


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
        return Moments(tuple(names), 1, mean, np.zeros((len(names), len(names))), 0.0, 1.0 / users)
    shares = sizes / users
    residuals = (sums - sizes[:, None] * mean) / np.sqrt(1.0 - shares)[:, None]
    comoment = residuals.T @ residuals * ((clusters - 1) * clusters / users**2)
    return Moments(tuple(names), clusters, mean, comoment, *working_model(shares, users))


def working_model(shares: Floats, users: float) -> tuple[float, float]:
    """Degrees of freedom of the CR2 variance of a mean over users under the working model, and its expectation.

    Args:
        shares: Share h of the arm's users in each cluster, shape (G,), G > 1.
        users: Of the arm.

    Returns:
        ``tr(A V)^2 / tr(A V A V)`` of the quadratic form A of the residuals under the model's covariance V, in sums
        over clusters; and ``tr(A V)``, in units of the variance of a user.
    """
    h, q = shares, 1.0 / (1.0 - shares)
    own = h * (1.0 + SHARED * len(h) * h) / users  # variance of a cluster's part of the mean, h_g times its own mean
    total = float(own.sum())
    common = h**2 * total - 2.0 * h * own
    trace = float(q @ (own + common))
    hh, oo, ho = float(q @ h**2), float(q @ own**2), float(q @ (h * own))
    squares = float(q**2 @ ((own + common) ** 2 - common**2))
    squares += 2.0 * hh * oo + total**2 * hh**2 + 2.0 * ho**2 - 4.0 * total * hh * ho
    return trace**2 / squares, trace
