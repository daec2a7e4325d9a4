"""What makes one recommender beat another: how fast popularity moves, how steep it is, and what goes together.

Two clicks of different users are of one item more often the more popularity is concentrated; less often the farther
apart in time they lie, if popularity drifts. Two clicks in a row belong together if other users have made the same
step more often than a step to an item of the same category that was drawn by its popularity.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.realism.log import Log
from simulator.realism.statistics import Missing

BINS = 20  # of equal time
FAR = 10  # bins apart
SOON, MIDWAY, LATER, AT_LAST = (1, 3), (7, 13), (13, 16), (18, BINS)  # bins apart, from … to before
HEAD = 0.01  # of the items of the table
RARE = 0.1  # of the mean clicks
LEAST_STEPS = 200

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def top_share(log: Log) -> float:
    """Share of the clicks that go to the most clicked hundredth of the items of the table."""
    clicks = np.sort(log.item_clicks)[::-1]
    return float(clicks[: max(1, round(HEAD * len(clicks)))].sum() / clicks.sum())


def hardly_clicked(log: Log) -> float:
    """Share of the items of the table with fewer clicks than a tenth of the mean."""
    return float((log.item_clicks < RARE * log.item_clicks.mean()).mean())


def popularity_drift(log: Log) -> float:
    """How much rarer two users meet on one item half the log apart or more than within a twentieth of it.

    One less the ratio of the two chances, 0 = as often; the first clicks of each user on an item count.
    """
    return _drift(log, FAR, BINS)


def drift_soon(log: Log) -> float:
    """The same a twentieth to an eighth of the log apart."""
    return _drift(log, *SOON)


def drift_midway(log: Log) -> float:
    """The same about half the log apart."""
    return _drift(log, *MIDWAY)


def drift_later(log: Log) -> float:
    """The same two thirds to four fifths of the log apart."""
    return _drift(log, *LATER)


def drift_at_last(log: Log) -> float:
    """The same nine tenths of the log apart or more: less than before that if popularity comes back."""
    return _drift(log, *AT_LAST)


def _drift(log: Log, least: int, most: int) -> float:
    """One less the chance of a meeting ``least`` … ``most - 1`` bins apart over that within one bin."""
    first = ~log.repeated
    place = (log.time_s - log.time_s.min()) / max(log.span_s, 1e-9)
    bins = np.minimum((place[first] * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins * log.n_items + log.item[first], minlength=BINS * log.n_items)
    counts = counts.reshape(BINS, log.n_items).astype(np.float64)
    total = counts.sum(axis=1)
    met = counts @ counts.T - np.diag(total)  # pairs of clicks on one item, by the bins of the two
    pairs = np.outer(total, total) - np.diag(total)
    apart = np.abs(np.subtract.outer(np.arange(BINS), np.arange(BINS)))
    away = (apart >= least) & (apart < most)
    near, far = (met[at].sum() / max(pairs[at].sum(), 1.0) for at in (apart == 0, away))
    if met[apart == 0].sum() < LEAST_STEPS or pairs[away].sum() < LEAST_STEPS:
        raise Missing("too few users meet on an item at about one time")
    return float(1.0 - far / near)


def own_repeats(log: Log) -> float:
    """Share of clicks on what the user clicked in an earlier session, less the share were items dealt anew.

    Anew among users within each twentieth of the log: what is left is the users' own, not what all click at that time.
    A session's further clicks on one item are left out: they say how sessions go on, not what users come back to.
    """
    apart = once_a_session(log)
    return float(apart.repeated.mean()) - dealt_repeats(apart)


def once_a_session(log: Log) -> Log:
    """The log without further clicks on an item within a session."""
    order = np.lexsort((np.arange(len(log)), log.item, log.session))
    same = (np.diff(log.session[order], prepend=-1) == 0) & (np.diff(log.item[order], prepend=-1) == 0)
    kept = np.ones(len(log), bool)
    kept[order[same]] = False
    return _rows(log, kept)


def first_clicks(log: Log) -> Log:
    """The log without clicks on what the user clicked before."""
    return _rows(log, ~log.repeated)


def _rows(log: Log, kept: NDArray[np.bool_]) -> Log:
    def take(values: NDArray | None) -> NDArray | None:
        return None if values is None else values[kept]

    return dataclasses.replace(
        log,
        user=log.user[kept],
        item=log.item[kept],
        time_s=log.time_s[kept],
        dwell_s=take(log.dwell_s),
        like=take(log.like),
        follow=take(log.follow),
    )


def dealt_repeats(log: Log) -> float:
    """Share of clicks on what the user clicked before, were items dealt anew among users in each twentieth."""
    place = (log.time_s - log.time_s.min()) / max(log.span_s, 1e-9)
    dealt = dataclasses.replace(log, item=_shuffled(log.item, np.minimum((place * BINS).astype(np.int64), BINS - 1)))
    return float(dealt.repeated.mean())


def kept_together(log: Log) -> float:
    """Steps within sessions and categories that other users have made as well, less those drawn by popularity."""
    steps, category = _steps(log), _category(log)
    same = steps.within & (category[steps.source] == category[steps.target])
    return _met_again(log, steps.source[same], steps.target[same], steps.user[same])


def linked(log: Log) -> float:
    """The same of steps within sessions to another category."""
    steps, category = _steps(log), _category(log)
    other = steps.within & (category[steps.source] != category[steps.target])
    return _met_again(log, steps.source[other], steps.target[other], steps.user[other])


def comes_back(log: Log) -> float:
    """The same from each click to one of the user's next session, which the log's own steps are not made of."""
    starts, of = log.session_start, np.cumsum(np.diff(log.session, prepend=log.session[:1]) != 0)
    later = np.flatnonzero(of + 1 < len(starts))
    first, count = starts[of[later] + 1], log.session_clicks[of[later] + 1]
    later, first, count = (part[log.user[first] == log.user[later]] for part in (later, first, count))
    target = first + (Draws(0, "click of the next session").uniform(later) * count).astype(np.int64)
    source, target = log.item[later], log.item[target]
    return _met_again(log, source[source != target], target[source != target], log.user[later][source != target])


class _Walk(NamedTuple):
    """Each user's steps from click to click, repeats of one item left out."""

    source: Ints  # (n,) item
    target: Ints  # (n,) item
    user: Ints  # (n,)
    within: NDArray[np.bool_]  # (n,) whether both are of one session


def _steps(log: Log) -> _Walk:
    order = np.lexsort((np.arange(len(log)), log.time_s, log.user))
    user, item, session = log.user[order], log.item[order], log.session[order]
    step = (user[1:] == user[:-1]) & (item[1:] != item[:-1])
    return _Walk(item[:-1][step], item[1:][step], user[1:][step], (session[1:] == session[:-1])[step])


def _category(log: Log) -> Ints:
    return np.zeros(log.n_items, np.int64) if log.category is None else log.category.astype(np.int64)


def _met_again(log: Log, source: Ints, target: Ints, user: Ints) -> float:
    """Share of pairs that another user has stepped between, less that of pairs with a drawn target.

    The drawn one is the target of another pair, of the same category.
    """
    if len(source) < LEAST_STEPS:
        raise Missing(f"fewer than {LEAST_STEPS} such steps")
    made = _Steps(_steps(log), log.n_items)
    drawn = _shuffled(target, _category(log)[target])
    fair = drawn != source
    chance = made.by_others(source[fair], drawn[fair], user[fair]).mean()
    return float(made.by_others(source, target, user).mean() - chance)


class _Steps:
    """Who has stepped between which two items."""

    def __init__(self, walk: _Walk, n_items: int) -> None:
        self._n_items = n_items
        key, who = self._key(walk.source, walk.target), walk.user
        order = np.lexsort((who, key))
        key, who = key[order], who[order]
        new = np.ones(len(key), bool)
        new[1:] = (key[1:] != key[:-1]) | (who[1:] != who[:-1])
        self._keys, first, self._users = np.unique(key[new], return_index=True, return_counts=True)
        self._only = who[new][first]

    def by_others(self, source: Ints, target: Ints, who: Ints) -> NDArray[np.bool_]:
        """Whether anybody else has made each step."""
        key = self._key(source, target)
        place = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return (self._keys[place] == key) & ((self._users[place] > 1) | (self._only[place] != who))

    def _key(self, source: Ints, target: Ints) -> Ints:
        return np.minimum(source, target) * self._n_items + np.maximum(source, target)


def _shuffled(target: Ints, category: Ints) -> Ints:
    """The targets in another order within each category, drawn by a key of their place."""
    by_category = np.argsort(category, kind="stable")
    drawn = np.lexsort((Draws(0, "steps shuffled").uniform(np.arange(len(target))), category))
    result = np.empty_like(target)
    result[by_category] = target[drawn]
    return result
