"""Statistics of what is clicked: popularity, lifetime, repetition, what goes together, how items are tagged."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.cooccurrence import count_cooccurrences
from micrec.data.dataset import Clicks
from micrec.data.describe import gini
from simulator.realism.log import DAY_S, HOUR_S, Log, Tags
from simulator.realism.statistics import Floats, Kind, Missing, Statistic, require

HEAD_SHARES = (0.01, 0.05, 0.2, 0.5)
LIFETIME_H = (1, 6, 24, 48)
LIFETIME_WINDOW_H = 72
_ZIPF_POINTS = 30
_ZIPF_HEAD = 0.2


def clicks_per_item(log: Log) -> Floats:
    """Clicks of every item with one, over their mean."""
    clicks = log.item_clicks[log.item_clicks > 0]
    return clicks / clicks.mean()


def zipf_slope(log: Log) -> Floats:
    """Minus the slope of log clicks over log rank among the most clicked fifth, at evenly spaced log ranks."""
    clicks = np.sort(log.item_clicks[log.item_clicks > 0])[::-1]
    last = int(_ZIPF_HEAD * len(clicks))
    if last < 5:
        raise Missing("fewer than 25 items with clicks")
    ranks = np.unique(np.geomspace(1, last, _ZIPF_POINTS).astype(np.int64))
    slope, _ = np.polyfit(np.log(ranks), np.log(clicks[ranks - 1]), 1)
    return np.array([max(0.0, -slope)])


def item_gini(log: Log) -> Floats:
    """Gini coefficient of clicks over all items of the table."""
    return np.array([gini(log.item_clicks)])


def head_share(log: Log) -> Floats:
    """Share of the clicks that go to the most clicked 1, 5, 20 and 50 % of the items of the table."""
    clicks = np.sort(log.item_clicks)[::-1]
    taken = np.cumsum(clicks) / clicks.sum()
    return np.array([taken[max(0, round(share * len(clicks)) - 1)] for share in HEAD_SHARES])


def item_lifetime(log: Log) -> Floats:
    """Share of an item's clicks of the first 72 hours that fall within 1, 6, 24 and 48 hours after its first one.

    Items count whose first click lies a day or more after the start of the log, and 72 hours before its end.
    """
    start, end = log.time_s.min(), log.time_s.max()
    first = np.full(log.n_items, np.inf)
    np.minimum.at(first, log.item, log.time_s)
    counts = (first >= start + DAY_S) & (first + LIFETIME_WINDOW_H * HOUR_S <= end)
    age_h = (log.time_s - first[log.item]) / HOUR_S
    later = counts[log.item] & (age_h > 0) & (age_h <= LIFETIME_WINDOW_H)
    if later.sum() < 50:
        raise Missing("fewer than 50 clicks on items that first appear within the log")
    return np.array([(age_h[later] <= hours).mean() for hours in LIFETIME_H])


def repeat_share(log: Log) -> Floats:
    """Share of clicks on an item the user had clicked before."""
    return np.array([log.repeated.mean()])


def repeat_within_session(log: Log) -> Floats:
    """Share of the clicks after the first of a session on an item the session has seen."""
    later = len(log) - len(log.session_start)
    if not later:
        raise Missing("no session of two clicks")
    n_pairs = len(np.unique(log.session * log.n_items + log.item))
    return np.array([(len(log) - n_pairs) / later])


def same_category_next(log: Log) -> Floats:
    """Share of the steps within sessions that stay in the category, over items whose category is known."""
    category = require(log.category, "category")[log.item]
    step = (np.diff(log.session) == 0) & (category[1:] > 0) & (category[:-1] > 0)
    if step.sum() < 50:
        raise Missing("fewer than 50 steps between items of known category")
    return np.array([(category[1:] == category[:-1])[step].mean()])


def category_loyalty(log: Log) -> Floats:
    """Share of the pairs of a user's clicks in different sessions that are of one category, each click alike."""
    category = require(log.category, "category")[log.item].astype(np.int64)
    known = category > 0
    user, session, category = log.user[known], log.session[known], category[known]
    same_all, all_pairs = _pairs(user, category, user, log.n_groups)
    same_near, near_pairs = _pairs(session, category, user, log.n_groups)
    same, pairs, clicks = same_all - same_near, all_pairs - near_pairs, np.bincount(user, minlength=log.n_groups)
    some = pairs > 0
    if some.sum() < 20:
        raise Missing("fewer than 20 users with two sessions")
    return np.array([(same[some] / pairs[some] * clicks[some]).sum() / clicks[some].sum()])


def _pairs(group: NDArray, category: NDArray, user: NDArray, n_users: int) -> tuple[Floats, Floats]:
    """Pairs of clicks of one group, those of one category and all, summed by user; groups are parts of users."""

    def by_user(key: NDArray) -> Floats:
        _, first, counts = np.unique(key, return_index=True, return_counts=True)
        pairs = counts * (counts - 1.0) / 2.0
        return np.bincount(user[first], pairs, minlength=n_users).astype(np.float64)

    return by_user(group * (int(category.max(initial=0)) + 1) + category), by_user(group)


def co_click_rate(log: Log) -> Floats:
    """Share of the co-clicks (two items in one session) whose pair is met in another session too."""
    order = np.argsort(log.time_s, kind="stable")
    clicks = Clicks(
        log.user[order].astype(np.int32),
        log.item[order].astype(np.int32),
        np.round(log.time_s[order] * 1000).astype(np.int64),
    )
    counts = count_cooccurrences(clicks, log.n_items, SessionsConfig(max_length=50, category_boost=1.0)).counts
    if counts.sum() < 100:
        raise Missing("fewer than 50 co-clicks")
    return np.array([counts[counts > 1].sum() / counts.sum()])


def tags_per_item(log: Log) -> Floats:
    """Tags of every item with one."""
    counts = np.diff(_tags(log).offsets)
    return counts[counts > 0].astype(np.float64)


def tag_use(log: Log) -> Floats:
    """Uses of every tag over their mean."""
    uses = np.bincount(_tags(log).values)[1:]
    uses = uses[uses > 0]
    return uses / uses.mean()


def _tags(log: Log) -> Tags:
    if log.tags is None:
        raise Missing("no tags")
    return log.tags


def category_share(log: Log) -> Floats:
    """Share of the clicks in the first, second, … most clicked category, the first ten."""
    category = require(log.category, "category")[log.item]
    counts = np.sort(np.bincount(category[category > 0], minlength=11)[1:])[::-1]
    if not counts.sum():
        raise Missing("no click in a known category")
    return counts[:10] / counts.sum()


_popularity = partial(Statistic, group="popularity")
_repetition = partial(Statistic, group="repetition", kind=Kind.CURVE, unit="share of clicks")
_items = partial(Statistic, group="items")

CATALOGUE = [
    _popularity(
        "clicks_per_item",
        kind=Kind.DISTRIBUTION,
        of=clicks_per_item,
        unit="x mean",
        meaning="Clicks of an item with clicks, over the mean.",
        log_scale=True,
    ),
    _popularity(
        "zipf_slope",
        kind=Kind.CURVE,
        of=zipf_slope,
        unit="slope",
        meaning="Slope of log clicks over log rank in the head, sign turned.",
        points=("slope",),
        shares=False,
    ),
    _popularity(
        "gini",
        kind=Kind.CURVE,
        of=item_gini,
        unit="Gini",
        meaning="Gini coefficient of clicks over the items of the table.",
        points=("Gini",),
    ),
    _popularity(
        "head_share",
        kind=Kind.CURVE,
        of=head_share,
        unit="share of clicks",
        meaning="Share of the clicks that go to the most clicked items.",
        points=tuple(f"top {share:.0%}" for share in HEAD_SHARES),
    ),
    _popularity(
        "item_lifetime",
        kind=Kind.CURVE,
        of=item_lifetime,
        unit="share of clicks",
        meaning=f"Share of an item's clicks in {LIFETIME_WINDOW_H} h from its first that fall within the first hours.",
        points=tuple(f"{hours} h" for hours in LIFETIME_H),
    ),
    _repetition("repeat_share", of=repeat_share, meaning="Clicks on what the user clicked before.", points=("share",)),
    _repetition(
        "repeat_within_session",
        of=repeat_within_session,
        meaning="Clicks on what the session has clicked, among those after its first.",
        points=("share",),
    ),
    Statistic(
        "category_loyalty",
        "repetition",
        Kind.CURVE,
        category_loyalty,
        "share of pairs",
        "Pairs of a user's clicks in different sessions that are of one category.",
        points=("share",),
    ),
    Statistic(
        "same_category_next",
        "co_clicks",
        Kind.CURVE,
        same_category_next,
        "share of steps",
        "Steps within sessions that stay in the category.",
        points=("share",),
    ),
    Statistic(
        "co_click_rate",
        "co_clicks",
        Kind.CURVE,
        co_click_rate,
        "share of co-clicks",
        "Co-clicks of two items that are met together in another session too.",
        points=("share",),
    ),
    _items(
        "tags_per_item",
        kind=Kind.DISTRIBUTION,
        of=tags_per_item,
        unit="tags",
        meaning="Tags of an item.",
        log_scale=True,
    ),
    _items(
        "tag_use",
        kind=Kind.DISTRIBUTION,
        of=tag_use,
        unit="x mean",
        meaning="Items of a tag, over the mean.",
        log_scale=True,
    ),
    _items(
        "category_share",
        kind=Kind.CURVE,
        of=category_share,
        unit="share of clicks",
        meaning="Share of the clicks in the most clicked categories.",
        points=tuple(str(rank) for rank in range(1, 11)),
    ),
]
