"""Activity, new users and churn from when users are first and last seen and how often they come.

The world's visits in closed form: an old user's are a Poisson process given one falls into the window, a new user
appears at a uniform moment, and both stay for an exponential time. Over a log-normal activity, that gives the mean
number of sessions, the share of users with one, the second moment, and the mean first and last appearance; the four
unknowns follow by least squares. A process without new users and churn is the same backwards in time, which is how the
two are told apart from plain rarity.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.realism.log import DAY_S, Log
from simulator.realism.visit_statistics import sessions_per_user
from simulator.world.visits import APART_S

Floats = NDArray[np.float64]

_WEIGHTS = np.array([10.0, 2.0, 0.5, 3.0, 3.0])  # of the moments below, in their order


class VisitMoments(NamedTuple):
    """Moments of the users' sessions in a window."""

    log_mean: float  # log of the mean sessions per user
    single: float  # share of users with one session
    log_second: float  # log of mean square over squared mean
    first: float  # mean first appearance, share of the window
    last: float  # mean last appearance


class Visitors(NamedTuple):
    """The keys of the world behind them."""

    activity_sd: float
    new_share: float
    churn_per_day: float


def observed(log: Log, start_s: float, days: float) -> VisitMoments:
    """The moments of a log that starts at ``start_s`` and lasts ``days`` days."""
    counts = sessions_per_user(log)
    ends = np.append(log.user_start[1:], len(log)) - 1
    place = (log.time_s - start_s) / (days * DAY_S)
    return VisitMoments(
        log_mean=float(np.log(counts.mean())),
        single=float((counts == 1).mean()),
        log_second=float(np.log((counts**2).mean() / counts.mean() ** 2)),
        first=float(place[log.user_start].mean()),
        last=float(place[ends].mean()),
    )


def solve(moments: VisitMoments, days: float) -> Visitors:
    """The keys whose moments are nearest."""
    from scipy.optimize import least_squares
    from scipy.special import expit, logit

    def residuals(x: Floats) -> Floats:
        rate, sd = np.exp(x[0]), 3.0 * expit(x[1])
        return _WEIGHTS * (np.array(expected(rate, Visitors(sd, expit(x[2]), expit(x[3])), days)) - np.array(moments))

    start_rate = np.log(np.exp(moments.log_mean) / days)
    best = min(
        (
            least_squares(residuals, [start_rate, logit(sd / 3.0), logit(new), logit(churn)], max_nfev=200)
            for sd, new, churn in ((1.0, 0.2, 0.3 / days), (0.5, 0.05, 0.02 / days))
        ),
        key=lambda result: float(result.cost),
    )
    _, sd, new, churn = best.x
    return Visitors(3.0 * float(expit(sd)), float(expit(new)), float(expit(churn)))


def expected(rate: float, keys: Visitors, days: float, nodes: int = 48) -> VisitMoments:
    """The moments of a world.

    Args:
        rate: Visits a day of a user of activity 1.
        keys: Activity, new users, churn.
        days: Length of the window.
        nodes: Quantiles of activity and of entry.
    """
    from scipy.special import ndtri

    middle = (np.arange(nodes) + 0.5) / nodes
    activity = np.exp(keys.activity_sd * ndtri(middle))
    visits_a_day = (rate * activity / (1.0 + rate * activity * APART_S / DAY_S))[:, None]
    old = -np.log1p(middle[None, :] * np.expm1(-visits_a_day * days)) / visits_a_day
    new = np.broadcast_to(middle[None, :] * days, old.shape)
    parts = [_given_entry(visits_a_day, entry, keys.churn_per_day, days) for entry in (old, new)]
    mean, single, square, first, last = (1.0 - keys.new_share) * parts[0] + keys.new_share * parts[1]
    return VisitMoments(np.log(mean), single, np.log(square / mean**2), first / days, last / days)


def _given_entry(rate: Floats, entry: Floats, churn: float, days: float) -> Floats:
    """Mean, share of ones, mean square of the visits, and mean first and last of them in days."""
    hazard = max(-np.log1p(-min(churn, 1.0 - 1e-9)), 1e-9)
    left = days - entry
    stay = -np.expm1(-hazard * left) / hazard  # mean time between the first visit and leaving or the end
    stay_2 = 2.0 / hazard**2 * np.maximum(-np.expm1(-hazard * left) - hazard * left * np.exp(-hazard * left), 0.0)
    gone = np.exp(-(hazard + rate) * left)
    single = hazard / (hazard + rate) * (1.0 - gone) + gone
    mean = 1.0 + rate * stay
    square = 1.0 + 3.0 * rate * stay + rate**2 * stay_2
    last = entry + stay - (1.0 - single) / rate
    return np.array([mean.mean(), single.mean(), square.mean(), entry.mean(), last.mean()])
