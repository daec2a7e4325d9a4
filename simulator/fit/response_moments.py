"""Keys of dwell, like and follow: the Gaussian copula of simulator.world.behaviour, read backwards.

Two clicks of one user, or on one item, share what belongs to the user or the item, so how often both are liked, or how
their log dwells go together, tells its weight free of noise.
"""

import numpy as np
from numpy.typing import NDArray

from simulator.fit.findings import Findings
from simulator.realism.log import Log
from simulator.realism.response_statistics import LEAST_DWELL_S, log_dwell, pair_mean
from simulator.world.behaviour import both_tails

_LEAST_EVENTS = 30
_MOST = 0.95  # of a correlation


def fit_responses(log: Log, findings: Findings) -> None:
    """Set the keys of ``behaviour`` that the columns of the log tell of."""
    quality = None
    if log.dwell_s is None:
        findings.keep("no dwell in the log", "behaviour.dwell_user", "behaviour.dwell_quality")
    else:
        quality = _fit_dwell(log, findings)
    if log.like is None or log.like.sum() < _LEAST_EVENTS:
        reason = "no like in the log" if log.like is None else "too few likes"
        findings.keep(reason, *(f"behaviour.{key}" for key in ("like_rate", "like_user", "like_quality", "like_dwell")))
    else:
        _fit_like(log, log.like, quality, findings)
    if log.follow is None or log.follow.sum() < _LEAST_EVENTS:
        reason = "no follow in the log" if log.follow is None else "too few follows"
        findings.keep(reason, "behaviour.follow_rate", "behaviour.follow_given_like")
    else:
        _fit_follow(log, log.follow, findings)


def _fit_dwell(log: Log, findings: Findings) -> float:
    dwell = log_dwell(log)
    mean, sd, shortest = float(dwell.mean()), float(dwell.std()), float((dwell <= np.log(LEAST_DWELL_S)).mean())
    source = f"of log dwell; {shortest:.1%} are read as {LEAST_DWELL_S:g} s"
    findings.set("behaviour.dwell_log_mean", round(mean, 3), f"mean {source}")
    findings.set("behaviour.dwell_log_sd", round(min(sd, 3.0), 3), f"sd {source}")
    z = (dwell - mean) / max(sd, 1e-9)
    user, item = (_root(pair_mean(groups, z)) for groups in (log.user, log.item))
    shrink = min(1.0, 0.99 / max(np.hypot(user, item), 1e-9))
    user, item = user * shrink, item * shrink
    findings.set(
        "behaviour.dwell_user", round(user, 3), "root of the variance of log dwell between users, noise removed"
    )
    findings.set(
        "behaviour.dwell_quality", round(item, 3), "root of the variance of log dwell between items, noise removed"
    )
    return item


def _fit_like(log: Log, like: NDArray[np.bool_], dwell_quality: float | None, findings: Findings) -> None:
    rate = float(like.mean())
    findings.set("behaviour.like_rate", round(rate, 5), "likes per click")
    user = _liability_correlation(log.user, like, rate)
    item = np.sqrt(max(0.0, _liability_correlation(log.item, like, rate)))
    direct = 0.0
    if log.dwell_s is not None and dwell_quality is not None:
        with_dwell = _correlation_with_dwell(log, like, rate)
        direct = (with_dwell - dwell_quality * item) / (1.0 - dwell_quality**2)
        direct = float(np.clip(direct, -_MOST, _MOST))
        findings.set(
            "behaviour.like_dwell",
            round(direct, 3),
            f"mean log dwell of liked clicks (correlation {with_dwell:.3f}), less what quality explains",
        )
    else:
        findings.keep("no dwell in the log", "behaviour.like_dwell")
    dwell_user = findings.found["behaviour.dwell_user"].value if "behaviour.dwell_user" in findings.found else 0.0
    own = np.sqrt(max(0.0, user - (direct * dwell_user) ** 2))
    quality = item - direct * (dwell_quality or 0.0)
    spent = own**2 + item**2 + direct**2 * (1.0 - (dwell_quality or 0.0) ** 2)
    shrink = min(1.0, np.sqrt(0.98 / max(spent, 1e-9)))
    findings.set(
        "behaviour.like_user", round(float(own * shrink), 3), "how often two clicks of one user are both liked"
    )
    findings.set(
        "behaviour.like_quality", round(float(quality * shrink), 3), "how often two clicks on one item are both liked"
    )


def _fit_follow(log: Log, follow: NDArray[np.bool_], findings: Findings) -> None:
    rate = float(follow.mean())
    findings.set("behaviour.follow_rate", round(rate, 6), "follows per click")
    if log.like is None or log.like.sum() < _LEAST_EVENTS:
        findings.keep("too few likes", "behaviour.follow_given_like")
        return
    liked = float(log.like.mean())
    given = float(follow[log.like].mean())
    least, most = both_tails(liked, rate, -0.99) / liked, min(liked, rate) / liked
    given = float(np.clip(given, max(least * 1.01, 1e-6), most * 0.99))
    findings.set("behaviour.follow_given_like", round(given, 6), "follows per liked click")


def _root(variance: float) -> float:
    return float(np.sqrt(np.clip(variance, 0.0, _MOST**2))) if np.isfinite(variance) else 0.0


def _liability_correlation(groups: NDArray[np.int64], event: NDArray[np.bool_], rate: float) -> float:
    """Correlation of the normals behind two events of one group, from how often both happen; 0 without pairs."""
    from scipy.optimize import brentq

    both = pair_mean(groups, event.astype(np.float64))
    if not np.isfinite(both) or both <= rate**2:
        return 0.0
    if both >= both_tails(rate, rate, _MOST):
        return _MOST
    return float(brentq(lambda rho: both_tails(rate, rate, rho) - both, 0.0, _MOST, xtol=1e-4))


def _correlation_with_dwell(log: Log, like: NDArray[np.bool_], rate: float) -> float:
    """Correlation of log dwell with the normal behind a like: E[z | like] = correlation * density / rate."""
    from scipy.special import ndtri

    dwell = log_dwell(log)
    z = (dwell - dwell.mean()) / max(float(dwell.std()), 1e-9)
    threshold = ndtri(1.0 - rate)
    density = np.exp(-0.5 * threshold**2) / np.sqrt(2.0 * np.pi)
    return float(np.clip(z[like].mean() * rate / density, -_MOST, _MOST))
