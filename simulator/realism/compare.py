"""Two logs compared on the fixed statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from micrec.errors import MicrecError
from simulator.realism.distances import distance, relative_difference
from simulator.realism.log import Log
from simulator.realism.statistics import Kind, Missing, Statistic

Floats = NDArray[np.float64]

ALIKE, NEAR = 0.10, 0.30  # largest KS and scaled distance of each verdict
LEAST_SD = 0.1  # least unit of a Wasserstein distance on a log scale: a spread of a tenth


class RealismVerdict(StrEnum):
    """What a distance means: the worse of KS and scaled distance decides."""

    ALIKE = "alike"
    NEAR = "near"
    APART = "apart"
    MISSING = "missing"


@dataclass(frozen=True)
class StatisticComparison:
    """One statistic of the real log against the synthetic one.

    Attributes:
        statistic: Which.
        real: Sample or curve of the real log; empty if missing.
        synthetic: Likewise.
        ks: Largest difference of the distribution functions, or of two points of a curve of shares; None if missing or
            no shares.
        distance: Wasserstein distance over the real standard deviation (log scale where the statistic has one), or
            for curves the relative difference, 0 … 2; None if missing.
        floor: The same distance between two halves of the real users; what chance alone makes of it. None if unknown.
        reason: Why it is missing.
    """

    statistic: Statistic
    real: Floats
    synthetic: Floats
    ks: float | None = None
    distance: float | None = None
    floor: float | None = None
    reason: str = ""

    @property
    def verdict(self) -> RealismVerdict:
        if self.distance is None:
            return RealismVerdict.MISSING
        worst = max(self.ks or 0.0, self.distance)
        return (
            RealismVerdict.ALIKE if worst <= ALIKE else RealismVerdict.NEAR if worst <= NEAR else RealismVerdict.APART
        )


def compare(
    real: Log, synthetic: Log, statistics: Sequence[Statistic], *, floor: bool = True
) -> list[StatisticComparison]:
    """Compare two logs.

    Args:
        real: The log to match.
        synthetic: The log that should match it.
        statistics: What to compare.
        floor: Whether to compare halves of the real users too, which doubles the work.

    Raises:
        MicrecError: If not one statistic can be had from both.
    """
    halves = real.halves() if floor else None
    results = [_compare(statistic, real, synthetic, halves) for statistic in statistics]
    if all(result.distance is None for result in results):
        reasons = "; ".join(f"{result.statistic.name}: {result.reason}" for result in results)
        raise MicrecError(f"{real.name} and {synthetic.name}: have no statistic in common ({reasons}).")
    return results


def mean_distance(comparisons: Sequence[StatisticComparison]) -> float:
    """Mean scaled distance over the statistics that both logs have."""
    return float(np.mean([c.distance for c in comparisons if c.distance is not None]))


def mean_ks(comparisons: Sequence[StatisticComparison]) -> float:
    """Mean KS over the statistics that both logs have."""
    return float(np.mean([c.ks for c in comparisons if c.ks is not None]))


def _compare(statistic: Statistic, real: Log, synthetic: Log, halves: tuple[Log, Log] | None) -> StatisticComparison:
    values: list[Floats] = []
    reasons: list[str] = []
    for log in (real, synthetic):
        try:
            values.append(statistic.values(log))
        except Missing as missing:
            values.append(np.zeros(0))
            reasons.append(f"{log.name}: {missing}")
    if reasons:
        return StatisticComparison(statistic, values[0], values[1], reason="; ".join(reasons))
    measured = _distances(statistic, values[0], values[1])
    if measured is None:
        return StatisticComparison(statistic, values[0], values[1], reason="no point of the curve in both")
    return StatisticComparison(statistic, values[0], values[1], *measured, floor=_floor(statistic, halves))


def _floor(statistic: Statistic, halves: tuple[Log, Log] | None) -> float | None:
    if halves is None or not min(len(half) for half in halves):
        return None
    try:
        measured = _distances(statistic, statistic.values(halves[0]), statistic.values(halves[1]))
    except Missing:
        return None
    return None if measured is None else measured[1]


def _distances(statistic: Statistic, real: Floats, synthetic: Floats) -> tuple[float | None, float] | None:
    """KS and scaled distance."""
    if statistic.kind is Kind.CURVE:
        both = ~np.isnan(real) & ~np.isnan(synthetic)
        if not both.any():
            return None
        real, synthetic = real[both], synthetic[both]
        ks = float(np.abs(real - synthetic).max()) if statistic.shares else None
        return ks, relative_difference(real, synthetic)
    if statistic.log_scale:
        real, synthetic = np.log1p(real), np.log1p(synthetic)
    apart = distance(real, synthetic, statistic.period)
    return apart.ks, apart.wasserstein / max(float(real.std()), LEAST_SD)
