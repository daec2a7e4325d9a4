"""Statistics of what follows a click: dwell, like, follow, how they depend on each other and on the user."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from simulator.realism.log import Log
from simulator.realism.statistics import Floats, Kind, Missing, Statistic, require

DWELL_EDGES_S = (5.0, 15.0, 45.0, 120.0)
LEAST_DWELL_S = 0.5  # shorter dwells, zero included, are read as this where a logarithm is taken
_LEAST_EVENTS = 30


def log_dwell(log: Log) -> Floats:
    """Logarithm of dwell in seconds, shape (n,)."""
    dwell: Floats = np.log(np.maximum(require(log.dwell_s, "dwell"), LEAST_DWELL_S))
    return dwell


def pair_mean(groups: NDArray[np.int64], values: Floats) -> float:
    """Mean of the product of the values of two different clicks of one group, each click counted alike.

    For centred values it is the variance between groups, free of the noise within them. NaN if no group has two.
    """
    n = np.bincount(groups)
    total, squares = np.bincount(groups, values), np.bincount(groups, values**2)
    some = n > 1
    if not some.any():
        return float("nan")
    return float(((total**2 - squares)[some] / (n[some] - 1)).sum() / n[some].sum())


def like_by_dwell(log: Log) -> Floats:
    """Likes per click with dwell up to 5, 15, 45, 120 s and beyond; NaN where fewer than 100 clicks are."""
    like, place = _events(log, "like"), np.searchsorted(DWELL_EDGES_S, require(log.dwell_s, "dwell"))
    clicks = np.bincount(place, minlength=5)
    rates = np.bincount(place, like, minlength=5) / np.maximum(clicks, 1)
    return np.where(clicks >= 100, rates, np.nan)


def rate(log: Log, name: str) -> Floats:
    """Share of clicks followed by a behaviour."""
    return np.array([_column(log, name).mean()])


def rate_given(log: Log, name: str, given: str) -> Floats:
    """Share of a behaviour among the clicks with another."""
    event, condition = _column(log, name), _events(log, given)
    return np.array([event[condition].mean()])


def like_spread(log: Log) -> Floats:
    """Sd of the users' like rates, free of noise, over the mean rate."""
    like = _events(log, "like").astype(np.float64)
    variance = pair_mean(log.user, like - like.mean())
    return np.array([np.sqrt(max(0.0, variance)) / like.mean()])


def dwell_share(log: Log, of: str) -> Floats:
    """Share of the variance of log dwell that lies between users, or between items."""
    dwell = log_dwell(log)
    variance = dwell.var()
    if variance == 0:
        raise Missing("dwell never differs")
    between = pair_mean(log.user if of == "user" else log.item, dwell - dwell.mean())
    return np.array([max(0.0, between) / variance])


def _column(log: Log, name: str) -> NDArray[np.bool_]:
    return require(log.like if name == "like" else log.follow, name)


def _events(log: Log, name: str) -> NDArray[np.bool_]:
    events = _column(log, name)
    if events.sum() < _LEAST_EVENTS:
        raise Missing(f"fewer than {_LEAST_EVENTS} of {name}")
    return events


_response = partial(Statistic, group="behaviour", kind=Kind.CURVE)

RESPONSES = [
    Statistic(
        "dwell",
        "behaviour",
        Kind.DISTRIBUTION,
        lambda log: require(log.dwell_s, "dwell"),
        "s",
        "Seconds spent on a clicked item.",
        log_scale=True,
    ),
    _response(
        "dwell_user_share",
        of=partial(dwell_share, of="user"),
        unit="share of variance",
        meaning="Variance of log dwell between users.",
        points=("users",),
    ),
    _response(
        "dwell_item_share",
        of=partial(dwell_share, of="item"),
        unit="share of variance",
        meaning="Variance of log dwell between items.",
        points=("items",),
    ),
    _response(
        "like_rate", of=partial(rate, name="like"), unit="per click", meaning="Likes per click.", points=("like",)
    ),
    _response(
        "follow_rate",
        of=partial(rate, name="follow"),
        unit="per click",
        meaning="Follows per click.",
        points=("follow",),
    ),
    _response(
        "like_by_dwell",
        of=like_by_dwell,
        unit="per click",
        meaning="Likes per click by seconds of dwell.",
        points=("<= 5 s", "<= 15 s", "<= 45 s", "<= 120 s", "> 120 s"),
    ),
    _response(
        "follow_given_like",
        of=partial(rate_given, name="follow", given="like"),
        unit="per like",
        meaning="Follows per liked click.",
        points=("follow",),
    ),
    _response(
        "like_given_follow",
        of=partial(rate_given, name="like", given="follow"),
        unit="per follow",
        meaning="Likes per click with a follow.",
        points=("like",),
    ),
    _response(
        "like_spread",
        of=like_spread,
        unit="sd / mean",
        meaning="Spread of the users' like rates, noise removed.",
        points=("users",),
        shares=False,
    ),
]
