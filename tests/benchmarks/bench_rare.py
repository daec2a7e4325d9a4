"""False alarms of Welch's t-test for few events and for skewed values, by the share of users in the treatment.

    python tests/benchmarks/bench_rare.py

Nothing differs between the arms. "Worse" and "better" are the two sides, 2.5 % each where the test holds; "judged" is
the share of the tests that the floor of ``abtest.stats.normality`` lets through, and "of those" their false alarms.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from abtest.stats.normality import DistributionShape, why_not_normal


class Rates(NamedTuple):
    """Shares of the tests."""

    worse: float
    better: float
    judged: float
    of_those: float


def rates(control: NDArray, treatment: NDArray, judged: NDArray) -> Rates:
    """What the tests say.

    Args:
        control: Users, mean and variance of each test, shape (3, tests).
        treatment: The same.
        judged: Which of them pass the floor, shape (tests,).
    """
    noise = np.stack([arm[2] / arm[0] for arm in (control, treatment)])
    with np.errstate(all="ignore"):
        df = noise.sum(axis=0) ** 2 / (noise[0] ** 2 / (control[0] - 1) + noise[1] ** 2 / (treatment[0] - 1))
        t = (treatment[1] - control[1]) / np.sqrt(noise.sum(axis=0))
        rejected = np.nan_to_num(2.0 * student.sf(np.abs(t), df), nan=1.0) < 0.05
    passed = rejected[judged].mean() if judged.any() else np.nan
    return Rates((rejected & (t < 0)).mean(), (rejected & (t > 0)).mean(), judged.mean(), passed)


def events(expected: float, share: float, *, tests: int, seed: int, n: int = 10_000) -> Rates:
    """A 0/1 metric with so many events expected in the treatment's n users."""
    rng = np.random.default_rng(seed)
    sizes = round(n * (1.0 - share) / share), n
    counts = [rng.binomial(size, expected / n, tests) for size in sizes]
    arms = []
    for size, count in zip(sizes, counts, strict=True):
        mean = count / size
        arms.append(np.stack([np.full(tests, size), mean, mean * (1 - mean) * size / (size - 1)]))
    seen: dict[tuple[int, int], bool] = {}
    for pair in zip(*(count.tolist() for count in counts), strict=True):
        if pair not in seen:
            shapes = [
                DistributionShape(s, k, True, (k, k, k)) for s, k in zip(sizes, pair, strict=True)
            ]  # 0/1: powers are alike
            seen[pair] = why_not_normal(*shapes) is None
    judged = np.array([seen[pair] for pair in zip(*(count.tolist() for count in counts), strict=True)])
    return rates(*arms, judged)


def skewed(sigma: float, n: int, share: float, *, tests: int, seed: int) -> Rates:
    """Log-normal values with n users in the treatment."""
    rng = np.random.default_rng(seed)
    sizes = round(n * (1.0 - share) / share), n
    arms, judged = np.zeros((2, 3, tests)), np.zeros(tests, bool)
    for test in range(tests):
        shapes = []
        for arm, size in enumerate(sizes):
            x = rng.lognormal(0.0, sigma, size)
            arms[arm, :, test] = size, x.mean(), x.var(ddof=1)
            shapes.append(DistributionShape(size, size, False, (x.sum(), (x**2).sum(), (x**3).sum())))
        judged[test] = why_not_normal(*shapes) is None
    return rates(arms[0], arms[1], judged)


def main() -> None:
    print(f"{'metric':54}{'treatment':>10}{'worse':>8}{'better':>8}{'both':>8}{'judged':>8}{'of those':>10}")
    for share in (0.5, 0.2, 0.1):
        for expected in (1, 2, 5, 10, 15, 50):
            _print(
                f"0/1, {expected} events expected in the treatment",
                share,
                events(expected, share, tests=100_000, seed=1),
            )
    for share in (0.5, 0.2, 0.1):
        for sigma in (1.0, 2.0):
            for n in (30, 300, 3000):
                found = skewed(sigma, n, share, tests=4000, seed=2)
                _print(f"log-normal, sigma {sigma:g}, {n:,} users in the treatment", share, found)


def _print(label: str, share: float, found: Rates) -> None:
    both = found.worse + found.better
    cells = f"{found.worse:8.1%}{found.better:8.1%}{both:8.1%}{found.judged:8.0%}{found.of_those:10.1%}"
    print(f"{label:54}{share:10.0%}{cells}", flush=True)


if __name__ == "__main__":
    main()
