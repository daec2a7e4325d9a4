"""False alarms with few clusters: ours, and other tests beside it, by clusters, their sizes and what users share.

PYTHONPATH=. python tests/benchmarks/bench_clusters.py [replications] [clusters ...]

All tests see the same data, and are vectorised over the replications. ``ours`` is CR2 with Satterthwaite's degrees of
freedom of the difference under the working model of ``abtest.stats.clusters``, and the same adjusted for a covariate;
in the first replications of every line the p of both are compared with those of the package. ``Welch`` weighs the
arms' degrees of freedom by their estimated variances, ``BM`` is Bell and McCaffrey's model of independent users,
``CR3`` the jackknife's variance with Welch's, ``means`` Welch's test on unweighted means of clusters (another question
where sizes differ), ``G - 2`` takes that many degrees of freedom, and ``bootstrap`` is the wild cluster bootstrap with
the null imposed, over all signs of 8 clusters.
"""

import itertools
import sys
from typing import NamedTuple

import numpy as np
from scipy import stats

from abtest.stats.clusters import SHARED, cluster_moments
from abtest.stats.cuped import cuped
from abtest.stats.welch import welch

Floats = np.ndarray
USERS = 30  # in the middle cluster
CHECKED, RESAMPLED = 10, 2000  # replications: by the package too, by the bootstrap
CELLS = [(s, r, "normal", 1.0) for s in (0.0, 0.3, 0.6, 1.0) for r in (0.02, 0.1, 0.5)]
CELLS += [(0.3, 0.1, "skewed", 1.0), (0.6, 0.1, "skewed", 1.0), (0.0, 0.1, "normal", 2.0), (0.6, 0.1, "normal", 2.0)]


class Arm(NamedTuple):
    """R replications of G clusters: users and sums of the metric, and of a covariate, shape (R, G)."""

    sizes: Floats
    sums: Floats
    before: Floats

    @property
    def mean(self) -> Floats:
        return self.sums.sum(1) / self.sizes.sum(1)

    @property
    def shares(self) -> Floats:
        return self.sizes / self.sizes.sum(1, keepdims=True)

    def variance(self, power: float) -> Floats:
        """CR2 (power 1) and CR3 (power 2) of the mean per user, shape (R,)."""
        e = self.sums - self.sizes * self.mean[:, None]
        return (e**2 / (1.0 - self.shares) ** power).sum(1) / self.sizes.sum(1) ** 2

    def dof(self, shared: float = 0.0) -> tuple[Floats, Floats]:
        """Degrees of freedom of ``variance(1)`` and its expectation under a working model; shape (R,) each."""
        h, q, users = self.shares, 1.0 / (1.0 - self.shares), self.sizes.sum(1, keepdims=True)
        own = h * (1.0 + shared * h.shape[1] * h) / users
        total = own.sum(1, keepdims=True)
        covariance = h[:, :, None] * h[:, None, :] * total[:, :, None]
        covariance -= h[:, :, None] * own[:, None, :] + own[:, :, None] * h[:, None, :]
        place = np.arange(h.shape[1])
        covariance[:, place, place] += own
        trace = (q * covariance[:, place, place]).sum(1)
        return trace**2 / np.einsum("rg,rk,rgk->r", q, q, covariance**2), trace


def drawn(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float, str, float], scale: float) -> Arm:
    """Users per cluster log-normal with sd ``spread``; ``shared`` is the share of the variance between clusters."""
    spread, shared, law, _ = cell
    sizes = np.maximum(np.round(USERS * rng.lognormal(0.0, spread, shape)), 2.0)
    between = rng.normal(size=shape) if law == "normal" else rng.exponential(size=shape) - 1.0
    before = 0.7 * between + np.sqrt(0.51) * rng.normal(size=shape)  # correlates .7 with what the cluster shares
    taste = 5.0 + scale * np.sqrt(shared) * between
    sums = sizes * taste + scale * np.sqrt((1.0 - shared) * sizes) * rng.normal(size=shape)
    return Arm(sizes, sums, sizes * before)


def rejected(c: Arm, t: Arm) -> dict[str, Floats]:
    """By every test, shape (R,) of truth values."""
    found, step = {}, np.abs(t.mean - c.mean)
    (d_c, e_c), (d_t, e_t) = c.dof(), t.dof()
    for name, power in (("Welch", 1.0), ("CR3", 2.0)):
        v, w = c.variance(power), t.variance(power)
        found[name] = step > stats.t.isf(0.025, (v + w) ** 2 / (v**2 / d_c + w**2 / d_t)) * np.sqrt(v + w)
    noise = np.sqrt(c.variance(1.0) + t.variance(1.0))
    found["BM"] = step > stats.t.isf(0.025, (e_c + e_t) ** 2 / (e_c**2 / d_c + e_t**2 / d_t)) * noise
    found["G - 2"] = step > stats.t.isf(0.025, 2 * c.sizes.shape[1] - 2) * noise
    found["means"] = stats.ttest_ind(t.sums / t.sizes, c.sums / c.sizes, axis=1, equal_var=False).pvalue < 0.05
    return found


def bootstrapped(rng: np.random.Generator, c: Arm, t: Arm) -> Floats:
    """Wild cluster bootstrap (Cameron, Gelbach, Miller 2008), null imposed, studentised by CR2."""
    sizes, sums = np.concatenate([c.sizes, t.sizes], 1), np.concatenate([c.sums, t.sums], 1)
    clusters, per = sizes.shape[1], c.sizes.shape[1]
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=clusters))) if clusters <= 8 else None
    found = np.empty(len(sizes), bool)
    for at, (n, s) in enumerate(zip(sizes, sums, strict=True)):
        flips = signs if signs is not None else rng.choice((-1.0, 1.0), (999, clusters))
        mean = s.sum() / n.sum()
        draws = n * mean + flips * (s - n * mean)  # (B, G)
        t_of = []
        for values in (s[None], draws):
            arms = [Arm(np.broadcast_to(n[part], values[:, part].shape), values[:, part], values[:, part])
                    for part in (slice(None, per), slice(per, None))]  # fmt: skip
            noise = np.sqrt(arms[0].variance(1.0) + arms[1].variance(1.0))
            t_of.append(np.abs(arms[1].mean - arms[0].mean) / noise)
        found[at] = np.mean(t_of[1] >= t_of[0][0] - 1e-9) < 0.05
    return found


def ours(c: Arm, t: Arm) -> dict[str, Floats]:
    """p of a mean, and of the same adjusted for a covariate, shape (R,)."""
    (d_c, e_c), (d_t, e_t) = c.dof(SHARED), t.dof(SHARED)
    dof = (e_c + e_t) ** 2 / (e_c**2 / d_c + e_t**2 / d_t)
    noise = [[0.0, 0.0], [0.0, 0.0]]  # covariance of the differences of metric and covariate
    for arm in (c, t):
        both = (arm, arm._replace(sums=arm.before))
        e = [one.sums - one.sizes * one.mean[:, None] for one in both]
        for i in range(2):
            for j in range(2):
                noise[i][j] = noise[i][j] + (e[i] * e[j] / (1.0 - arm.shares)).sum(1) / arm.sizes.sum(1) ** 2
    step = t.mean - c.mean, (t.before.sum(1) / t.sizes.sum(1)) - (c.before.sum(1) / c.sizes.sum(1))
    slope = noise[0][1] / noise[1][1]
    rest = noise[0][0] - slope * noise[0][1]
    left = (2 * c.sizes.shape[1] - 3) / (2 * c.sizes.shape[1] - 2)
    loss = (1.0 + step[1] ** 2 / noise[1][1] / dof) / left
    plain = 2.0 * stats.t.sf(np.abs(step[0]) / np.sqrt(noise[0][0]), dof)
    adjusted = 2.0 * stats.t.sf(np.abs(step[0] - slope * step[1]) / np.sqrt(rest * loss), dof * left)
    check(c, t, plain, adjusted)
    return {"ours": plain < 0.05, "ours, CUPED": adjusted < 0.05}


def check(c: Arm, t: Arm, plain: Floats, adjusted: Floats) -> None:
    """Whether the package says the same of the first replications."""
    for at in range(CHECKED):
        arms = [
            cluster_moments(("y", "x"), np.column_stack([one.sums[at], one.before[at]]), one.sizes[at])
            for one in (c, t)
        ]
        found = welch(*arms, "y").p, cuped(*arms, "y", ["x"]).estimate.p
        np.testing.assert_allclose(found, (plain[at], adjusted[at]), rtol=1e-6)


def main(replications: int, clusters: list[int]) -> None:
    names = ["ours", "ours, CUPED", "Welch", "BM", "CR3", "means", "G - 2", "bootstrap"]
    print(f"false alarms in %, {replications:,} replications: a standard error of {21.8 / replications**0.5:.2f}")
    print(f"{'clusters':>8} {'sd':>4} {'shared':>6} {'law':>7} {'scale':>5} " + " ".join(f"{n:>11}" for n in names))
    for count in clusters:
        for number, cell in enumerate(CELLS):
            rng = np.random.default_rng([7, count, number])
            arms = [drawn(rng, (replications, count // 2), cell, scale) for scale in (1.0, cell[3])]
            found = ours(*arms) | rejected(*arms)
            few = [Arm(*(column[:RESAMPLED] for column in arm)) for arm in arms]
            if count <= 8:
                found["bootstrap"] = bootstrapped(rng, *few)
            rates = " ".join(f"{100 * found[n].mean():>11.2f}" if n in found else " " * 11 for n in names)
            print(f"{count:>8} {cell[0]:>4} {cell[1]:>6} {cell[2]:>7} {cell[3]:>5} {rates}", flush=True)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(numbers[0] if numbers else 20_000, numbers[1:] or [8, 20, 100])
