"""How near a design comes to the truth: bias, coverage, and the smallest lift that it finds.

Every design estimates the same thing, the relative difference in clicks per visit, as a ratio of two sums over its
units (users, clusters or periods) with CR2 noise, see :mod:`abtest.stats.clusters`; the truth is that of two whole
worlds with the same users and noise. What a treatment does to how often users come is in neither: no switchback could
see it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.arms import CONTROL
from abtest.online.designs import USER, Unit
from abtest.stats.clusters import cluster_moments
from abtest.stats.estimate import Estimate
from abtest.stats.mean_interval import mean_interval
from abtest.stats.welch import welch

COLUMNS = ("clicks", "visits")
POWER = 0.8

Floats = NDArray[np.float64]


class DesignRun(NamedTuple):
    """One experiment under one design.

    Attributes:
        lift: Its estimate.
        ci: Its interval; None where there is none.
        se: Standard error of the lift.
        df: Degrees of freedom.
        units: Units of both arms.
        truth: True lift of the same world.
    """

    lift: float
    ci: tuple[float, float] | None
    se: float
    df: float
    units: int
    truth: float


class Score(NamedTuple):
    """A design over replications; lifts are shares.

    Attributes:
        name: Of the design.
        runs: Experiments that could be judged.
        units: Units of both arms, mean.
        bias: Mean of estimate - truth.
        bias_ci: Its interval over replications.
        covered: Experiments whose interval holds their truth.
        se: Root of the mean squared standard error of one experiment.
        mde: Smallest lift that one experiment finds with 80 % power.
        rmse: Root of squared bias, less what luck adds to it, plus ``se`` squared: how far off one experiment is.
        days: Days after which the smallest lift is the one wanted; None: never, or not asked.
    """

    name: str
    runs: int
    units: float
    bias: float
    bias_ci: tuple[float, float] | None
    covered: int
    se: float
    mde: float
    rmse: float
    days: int | None


def measure(sums: pl.DataFrame, unit: Unit, clusters: NDArray[np.int64], treatment: str, *, alpha: float) -> Estimate:
    """The estimate of one experiment.

    Args:
        sums: See :func:`abtest.online.unit_sums.unit_sums`.
        unit: What was assigned.
        clusters: Cluster of each user, shape (U,); read for clusters alone.
        treatment: Name of the treatment's arm.
        alpha: Level.
    """
    keyed = sums.with_columns(unit=_units(sums, unit, clusters))
    arms = []
    for arm in (CONTROL, treatment):
        own = keyed.filter(pl.col("arm") == arm).group_by("unit").agg(pl.col(*COLUMNS).sum()).sort("unit")
        size = np.ones(len(own)) if unit != "cluster" else _users_of(keyed, arm, own["unit"])
        arms.append(cluster_moments(COLUMNS, own.select(COLUMNS).to_numpy().astype(float), size))
    control, treated = arms
    return welch(control, treated, COLUMNS, alpha=alpha)


def true_lift(control: pl.DataFrame, treatment: pl.DataFrame) -> float:
    """The true lift of clicks per visit, between two whole worlds."""
    before, after = (float(one["clicks"].sum()) / float(one["visits"].sum()) for one in (control, treatment))
    return after / before - 1.0


def measured(estimate: Estimate, truth: float) -> DesignRun | None:
    """What is kept of an experiment; None where it could not be judged."""
    if estimate.lift is None or estimate.lift_se is None or estimate.df is None:
        return None
    units = estimate.control.n + estimate.treatment.n
    return DesignRun(estimate.lift, estimate.lift_ci, estimate.lift_se, estimate.df, units, truth)


def score(
    name: str,
    runs: Sequence[DesignRun],
    *,
    alpha: float,
    days: int,
    wanted: float | None,
    growth: Sequence[Floats] = (),
) -> Score | None:
    """A design's score; None where no experiment could be judged.

    Args:
        name: Of the design.
        runs: Its experiments.
        alpha: Level.
        days: Days of each.
        wanted: Lift that a longer experiment should find; None: not asked.
        growth: For units that stay in an arm, clicks of each unit of control by day, an array (units, days) per
            experiment: how much of the noise is the units' own, which no longer experiment averages out.
    """
    if not runs:
        return None
    errors = [one.lift - one.truth for one in runs]
    bias = float(np.mean(errors))
    se = math.sqrt(float(np.mean([one.se**2 for one in runs])))
    mde = float(np.mean([smallest_lift(one.se, one.df, alpha) for one in runs]))
    luck = float(np.var(errors, ddof=1)) / len(errors) if len(errors) > 1 else 0.0
    rmse = math.sqrt(max(bias**2 - luck, 0.0) + se**2)
    covered = sum(one.ci is not None and one.ci[0] <= one.truth <= one.ci[1] for one in runs)
    longer = None if wanted is None else days_for(days, (wanted / mde) ** 2, growth)
    units = float(np.mean([one.units for one in runs]))
    return Score(name, len(runs), units, bias, mean_interval(errors, alpha), covered, se, mde, rmse, longer)


def smallest_lift(se: float, df: float, alpha: float) -> float:
    """Lift found with 80 % power by a t-test with this noise."""
    from scipy.special import stdtrit

    return float(-stdtrit(df, alpha / 2) + stdtrit(df, POWER)) * se


def days_for(days: int, share: float, growth: Sequence[Floats]) -> int | None:
    """Days after which squared noise is ``share`` of what it is after ``days``; None if never.

    Without ``growth``, new units come with the days, and noise falls as with independent ones. With it, the mean of a
    unit over days keeps the unit's own level, and only the luck of days averages out.
    """
    if not growth or growth[0].shape[1] < 2:
        return math.ceil(days / share)
    luck = float(np.mean([one.var(axis=1, ddof=1).mean() for one in growth]))
    whole = float(np.mean([one.mean(axis=1).var(ddof=1) for one in growth]))
    own = max(whole - luck / days, 0.0)
    left = share * (own + luck / days) - own
    return math.ceil(luck / left) if left > 0.0 else None


def sound(one: Score, alpha: float) -> bool:
    """Whether so many intervals holding the truth are to be expected of a sound design, at 99 %."""
    from scipy.stats import binom

    return bool(one.covered >= binom.ppf(0.01, one.runs, 1.0 - alpha))


def recommend(scores: Sequence[Score], alpha: float) -> Score | None:
    """The design whose experiments are least far off, among those whose intervals can be believed."""
    sane = [one for one in scores if sound(one, alpha)] or list(scores)
    return min(sane, key=lambda one: one.rmse, default=None)


def reason(chosen: Score, scores: Sequence[Score], alpha: float) -> str:
    """Why that design, in numbers."""
    told = (
        f"{chosen.name}: one experiment is off by {100 * chosen.rmse:.1f} points (bias {100 * chosen.bias:+.1f}, noise "
        f"{100 * chosen.se:.1f}); it finds lifts of {100 * chosen.mde:.1f} %"
    )
    others = [one for one in scores if one is not chosen]
    unsound = [one.name for one in others if not sound(one, alpha)]
    rest = [one for one in others if one.name not in unsound]
    if rest:
        second = min(rest, key=lambda one: one.rmse)
        told += f". Next: {second.name}, off by {100 * second.rmse:.1f} points (bias {100 * second.bias:+.1f})"
        if second.rmse < 1.1 * chosen.rmse:
            told += ", too near to tell the two apart with so few replications"
    if unsound:
        told += f". Not to be believed: {', '.join(unsound)}, whose intervals miss the truth too often"
    return f"{told}."


def clicks_by_day(sums: pl.DataFrame, unit: Unit, clusters: NDArray[np.int64]) -> Floats | None:
    """Clicks of each of control's units by day, (units, days); None for periods, which do not stay."""
    if unit == "period":
        return None
    own = sums.filter(pl.col("arm") == CONTROL)
    own = own.with_columns(unit=_units(own, unit, clusters))
    table = own.pivot("period", index="unit", values="clicks", aggregate_function="sum").fill_null(0)
    found: Floats = table.drop("unit").to_numpy().astype(float)
    if unit == "cluster":  # clusters differ in size, which the ratio takes out
        found = found / np.maximum(found.sum(axis=1, keepdims=True), 1.0) * found.sum() / len(found)
    return found


def scores_of(runs: Mapping[str, Sequence[DesignRun]], **given: object) -> list[Score]:
    """Scores of all designs that could be judged, the user split first."""
    found = [score(name, own, **given) for name, own in runs.items()]  # type: ignore[arg-type]
    return sorted((one for one in found if one is not None), key=lambda one: one.name != USER)


def _units(sums: pl.DataFrame, unit: Unit, clusters: NDArray[np.int64]) -> pl.Series:
    if unit == "period":
        return sums["period"]
    users = sums["user_id"].to_numpy()
    return pl.Series(clusters[users] if unit == "cluster" else users)


def _users_of(keyed: pl.DataFrame, arm: str, units: pl.Series) -> Floats:
    """Users of each unit, in the order of ``units``."""
    counts = keyed.filter(pl.col("arm") == arm).group_by("unit").agg(pl.col("user_id").n_unique()).sort("unit")
    assert counts["unit"].equals(units, check_names=False)
    return counts["user_id"].to_numpy().astype(float)
