"""A/A calibration on your own log: how often are metrics significant by chance, and how often are intervals right?

Users are split into two arms at random, thousands of times; each split is a row of zeros and ones times the table of
bucket sums, so 10,000 splits of a log of any size are one matrix product. Every split is tested by Welch's test as a
report would be, on means and linearised ratios. A planted lift multiplies the treatment's values by 1 + lift; as the
interval inverts the test, its coverage is then the test's own, up to rounding, and it is counted all the same.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.stats.buckets import BucketSums
from abtest.stats.contrast import check_alpha
from abtest.stats.estimate import Interval
from abtest.stats.terms import Term, columns_of, name_of

Floats = NDArray[np.float64]

_SPLITS = 500  # per matrix product
_UNITS = 4_096  # that a split moves: buckets are grouped anew for each product


class Planted(NamedTuple):
    """What the splits say about a lift that is known.

    Attributes:
        coverage: Share of the splits whose Welch-Fieller interval holds the lift.
        coverage_ci: Clopper-Pearson interval of that share, level 99 %.
        power: Share of the splits with p < alpha.
    """

    coverage: float
    coverage_ci: Interval
    power: float


class AaCalibration(NamedTuple):
    """One metric over all splits.

    Attributes:
        metric: Its name.
        users: Users of the log.
        splits: Re-randomisations with a p.
        alpha: Level of the tests.
        rate: Share of the splits with p < alpha.
        rate_ci: Clopper-Pearson interval of the rate, level 99 %.
        ks: Largest distance of the p-values' distribution from the uniform.
        ks_p: Kolmogorov's p for that.
        planted: Lift to coverage and power.
        sound: Whether the rate lies within three standard deviations of alpha, those of the splits and of the buckets'
            own variance together; None where there is no p.
        reason: Why there is none, else None.
    """

    metric: str
    users: int
    splits: int
    alpha: float
    rate: float | None
    rate_ci: Interval | None
    ks: float | None
    ks_p: float | None
    planted: Mapping[float, Planted]
    sound: bool | None
    reason: str | None = None


def calibrate(
    sums: BucketSums,
    metrics: Sequence[Term],
    *,
    splits: int = 10_000,
    treatment_share: float = 0.5,
    alpha: float = 0.05,
    lifts: Sequence[float] = (0.02, 0.05, 0.1),
    seed: int = 0,
) -> list[AaCalibration]:
    """False-positive rate, uniformity of p, and coverage and power at planted lifts, for each metric.

    Args:
        sums: Bucket sums of the log, made for these metrics.
        metrics: Columns or (numerator, denominator) pairs.
        splits: Re-randomisations.
        treatment_share: Chance of a bucket to be in the treatment.
        alpha: Level of the tests.
        lifts: Lifts to plant, > -1.
        seed: Random seed of the splits.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_alpha(alpha)
    if splits < 1 or not 0.0 < treatment_share < 1.0 or any(lift <= -1.0 for lift in lifts):
        raise ValueError(
            f"need splits >= 1, a share within (0, 1), lifts > -1; got {splits}, {treatment_share}, {lifts}."
        )
    rng = np.random.default_rng(seed)
    table = sums.table()
    whole = table.sum(axis=0)
    arms = []
    for start in range(0, splits, _SPLITS):
        units = _units(table, rng)
        size = min(_SPLITS, splits - start)
        dealt = (rng.random((size, len(units)), dtype=np.float32) < treatment_share).astype(np.float64)
        arms.append(dealt @ units)
    treatment = np.concatenate(arms)
    control = whole - treatment
    moved = min(len(table), _UNITS)
    return [_calibration(sums, term, control, treatment, moved, alpha, lifts) for term in metrics]


def binomial_interval(hits: int, n: int, level: float = 0.99) -> Interval:
    """Clopper-Pearson interval of a share."""
    tail = (1.0 - level) / 2.0
    low = float(special.betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1.0 - tail)) if hits < n else 1.0
    return low, high


def _units(table: Floats, rng: np.random.Generator) -> Floats:
    """The buckets in at most ``_UNITS`` random groups, so that no one grouping's luck decides."""
    if len(table) <= _UNITS:
        return table
    order = rng.permutation(len(table))
    starts = np.linspace(0, len(table), _UNITS, endpoint=False).astype(np.int64)
    grouped: Floats = np.add.reduceat(table[order], starts, axis=0)
    return grouped


def _calibration(
    sums: BucketSums,
    term: Term,
    control: Floats,
    treatment: Floats,
    units: int,
    alpha: float,
    lifts: Sequence[float],
) -> AaCalibration:
    users = int(sums.n.sum())
    value_c, noise_c, dof_c = _values(sums, term, control)
    value_t, noise_t, dof_t = _values(sums, term, treatment)
    p = _p(value_t - value_c, noise_c, noise_t, dof_c, dof_t)
    known = np.isfinite(p)
    n = int(known.sum())
    if not n:
        why = "no split has a p: the metric does not vary, or there are too few users"
        return AaCalibration(name_of(term), users, 0, alpha, None, None, None, None, {}, None, why)
    hits = int((p[known] < alpha).sum())
    ordered = np.sort(p[known])
    steps = np.arange(n + 1) / n
    ks = float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))
    ks_p = float(special.kolmogorov(ks * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))))
    planted = {}
    for lift in lifts:
        scale = 1.0 + lift
        null = _p(scale * value_t - scale * value_c, scale**2 * noise_c, scale**2 * noise_t, dof_c, dof_t)[known]
        found = _p(scale * value_t - value_c, noise_c, scale**2 * noise_t, dof_c, dof_t)[known]
        held = int((null >= alpha).sum())
        planted[float(lift)] = Planted(held / n, binomial_interval(held, n), float((found < alpha).mean()))
    z = -float(special.ndtri(alpha / 2.0))
    bucket_noise = z * math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi) * math.sqrt(2.0 / units)
    slack = 3.0 * math.hypot(math.sqrt(alpha * (1.0 - alpha) / n), bucket_noise)
    rate = hits / n
    sound = abs(rate - alpha) <= slack
    return AaCalibration(name_of(term), users, n, alpha, rate, binomial_interval(hits, n), ks, ks_p, planted, sound)


def _values(sums: BucketSums, term: Term, arm: Floats) -> tuple[Floats, Floats, Floats]:
    """Value, squared standard error and degrees of freedom of a metric in each split's arm, shape (R,) each."""
    n, shifted, products = arm[:, 0], arm[:, 1 : 1 + len(sums.columns)], arm[:, 1 + len(sums.columns) :]
    at = [sums.columns.index(name) for name in columns_of(term)]

    def cov(a: int, b: int) -> Floats:
        product = products[:, sums.pairs.index((min(a, b), max(a, b)))]
        centred: Floats = (product - shifted[:, a] * shifted[:, b] / n) / (n - 1.0)
        return centred

    with np.errstate(divide="ignore", invalid="ignore"):
        mean = [sums.shift[a] + shifted[:, a] / n for a in at]
        if isinstance(term, str):
            return mean[0], np.maximum(cov(at[0], at[0]), 0.0) / n, n - 1.0
        value = mean[0] / mean[1]
        variance = cov(at[0], at[0]) - 2.0 * value * cov(at[0], at[1]) + value**2 * cov(at[1], at[1])
        return value, np.maximum(variance, 0.0) / mean[1] ** 2 / n, n - 1.0


def _p(difference: Floats, noise_c: Floats, noise_t: Floats, dof_c: Floats, dof_t: Floats) -> Floats:
    """Two-sided Welch p of each split; nan where undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = noise_c + noise_t
        share = noise_c / total
        df = 1.0 / (share**2 / dof_c + (1.0 - share) ** 2 / dof_t)
        t = np.where(total > 0.0, difference / np.sqrt(total), np.nan)
        p: Floats = 2.0 * special.stdtr(df, -np.abs(t))
    return p
