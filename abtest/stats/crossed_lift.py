"""Interval of a relative gain over training seeds and users at once, the noise of seeds pooled over many comparisons.

A gain that was measured with few seeds on few users has two kinds of noise. One estimate of the variance of each is
added, and Satterthwaite's degrees of freedom say how sure the sum is (Satterthwaite 1946). As the users' part is that
of means over the seeds, and the seeds' part that of means over the users, what both share is counted twice: the
interval is a little too wide rather than too narrow (Owen 2007, The pigeonhole bootstrap).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class MeasuredLift(NamedTuple):
    """One comparison before its interval is known.

    Attributes:
        lift: Treatment / control - 1, of the means over seeds; None where the control is 0.
        by_seed: The same of each seed, shape (S,).
        users_se: Standard error over users, the trained models given.
        users: Test users.
    """

    lift: float | None
    by_seed: tuple[float, ...]
    users_se: float
    users: int


class LiftInterval(NamedTuple):
    """One comparison with its interval.

    Attributes:
        lift: As measured.
        lift_ci: Its interval, or None where it is undefined.
        seeds_se: Standard error over seeds, from the pooled standard deviation.
        users_se: Standard error over users.
        df: Satterthwaite's degrees of freedom of both together.
    """

    lift: float | None
    lift_ci: tuple[float, float] | None
    seeds_se: float | None
    users_se: float | None
    df: float | None


def measured_lift(
    control: ArrayLike, treatment: ArrayLike, control_hits: ArrayLike, treatment_hits: ArrayLike
) -> MeasuredLift:
    """A comparison of two models with the same seeds and test users.

    Args:
        control: The metric per seed, shape (S,).
        treatment: The same seeds in the same order, shape (S,).
        control_hits: Hits per user, averaged over the seeds, shape (Q,).
        treatment_hits: The same for the treatment, shape (Q,).
    """
    c, t = np.asarray(control, dtype=np.float64), np.asarray(treatment, dtype=np.float64)
    hits_c, hits_t = np.asarray(control_hits, dtype=np.float64), np.asarray(treatment_hits, dtype=np.float64)
    if not (c > 0).all() or hits_c.sum() <= 0 or len(hits_c) < 2:
        return MeasuredLift(None, (), math.nan, len(hits_c))
    lift = float(t.mean() / c.mean()) - 1.0
    residual = hits_t - (1.0 + lift) * hits_c
    users_se = float(residual.std(ddof=1)) * math.sqrt(len(residual)) / float(hits_c.sum())
    return MeasuredLift(lift, tuple((t / c - 1.0).tolist()), users_se, len(residual))


def crossed_intervals(lifts: Sequence[MeasuredLift], *, alpha: float) -> list[LiftInterval]:
    """Intervals over seeds and users, the standard deviation over seeds being that of all comparisons together.

    Args:
        lifts: The comparisons; the noise of training is taken to be alike in all of them.
        alpha: 1 - level.
    """
    from scipy.special import stdtrit

    spreads = [np.var(one.by_seed, ddof=1) for one in lifts for _ in one.by_seed[1:]]  # weighted by S - 1
    pooled, seeds_df = (float(np.mean(spreads)), len(spreads)) if spreads else (math.nan, 0)
    found = []
    for one in lifts:
        if one.lift is None or not spreads:
            found.append(LiftInterval(one.lift, None, None, None, None))
            continue
        seeds, users = pooled / len(one.by_seed), one.users_se**2
        if seeds + users == 0.0:
            found.append(LiftInterval(one.lift, None, 0.0, 0.0, None))
            continue
        df = (seeds + users) ** 2 / (seeds**2 / seeds_df + users**2 / (one.users - 1))
        half = float(stdtrit(df, 1.0 - alpha / 2.0)) * math.sqrt(seeds + users)
        found.append(LiftInterval(one.lift, (one.lift - half, one.lift + half), math.sqrt(seeds), math.sqrt(users), df))
    return found
