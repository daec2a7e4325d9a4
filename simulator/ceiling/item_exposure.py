"""How many clicks the items of a world would have had in a log, each for one unit of its appeal.

A click is drawn from one segment of one division of the catalogue: a segment of taste, a hidden group (a "similar"
click or a followed link), everything, or everything fading. Item i of the segment gets it with the share

    p_i = a_i f_i / sum of a_j f_j over the segment,

with a the appeal and f what is left of it at the time. So if r is the chance of a click to be drawn from a segment, the
expected clicks of item i are a_i e_i with

    e_i = sum over the segments of i and clicks of r p_i / a_i.

The causes of clicks have known shares, and the click before says which groups may be drawn from. How many taste clicks
fall on a segment is told by those of its clicks that nothing else explains. What a session has clicked is drawn again,
twice at most; with R the share of these items in the segment, p_i becomes p_i (1 + R + R²) for all others and p_i R²
for them. Where users click an item once at most (``choice.once``), there are more draws, and p_i becomes 0 for a
session's, or a user's, own items.

Approximate: how much a user likes a segment is the share of the user's and the session's other clicks that fall on it;
staples and favourites count as taste clicks; of the items that share an avoidance class with one clicked nothing is
taken away; the share of an earlier item is that of the time it was clicked, for as long as a fading item lasts on
average, and at most nine tenths of an item's clicks; what is drawn from everything in the end under ``choice.once`` is
left out.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.ceiling.click_evidence import PastClicks, SessionSteps, session_steps
from simulator.ceiling.drawn_segments import DrawnSegments, Repeats, SegmentDraws
from simulator.ceiling.period_weights import weights_at
from simulator.ceiling.world_period import favourite_share, taste_depths, taste_divisions
from simulator.world.catalogue import Catalogue
from simulator.world.clicks import HOUR_S, ONCE_TRIES
from simulator.world.seasons import Seasons, seasonal_shares
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]
_AVOIDED_TRIES = 2  # further draws of what the session has clicked
_LEAST_LEFT = 0.1  # of the clicks to expect, whatever was clicked before, as the loss is only roughly known
_SCALE_STEPS = 20  # of the fixed point that gives taste its share of the clicks


class ItemDivision(NamedTuple):
    """A way to divide the N items that clicks are drawn by.

    Attributes:
        segment: Segment of each item, shape (N,).
        size: Number of segments.
        fades: Whether evergreen items fade in it as well.
        chance: Chance that a click is drawn from the segment of its item, by what came before it, shape (C,).
        drawn: Which segments clicks may have been drawn from.
    """

    segment: NDArray[np.int64]
    size: int
    fades: bool
    chance: Floats
    drawn: DrawnSegments


class ItemExposure:
    """The clicks of a log, and what any appeal of the items lets them expect.

    Args:
        config: The world.
        catalogue: Its items; their appeal is not looked at.
        bucket_s: Length of the click generator's buckets of time.
        history: Clicks of the log, in order of user and time, at least one.
    """

    def __init__(self, config: WorldConfig, catalogue: Catalogue, bucket_s: float, history: PastClicks) -> None:
        self._config, self._catalogue, self._item = config, catalogue, history.item
        steps, choice = session_steps(config, catalogue, history), config.choice
        self._by_taste = steps.stays * (choice.taste + choice.similar * steps.opens + choice.repeat)
        self._taste = _taste(config, catalogue, history, steps, self._by_taste)
        self._others = _others(config, catalogue, history, steps)
        buckets, self._bucket = np.unique(steps.start_s // bucket_s, return_inverse=True)
        self._times_s = buckets * bucket_s

    def of(self, appeal: Floats) -> Floats:
        """Clicks to expect of each item for one unit of its appeal, shape (N,).

        Args:
            appeal: Appeal of all items, which says how much of a segment is whose, shape (N,), > 0.
        """
        divisions = [*self._taste, *self._others]
        share = self._clicked_shares(appeal)
        chances = [*self._taste_chances(share), *(one.drawn.draws.chance for one in self._others)]
        whole, all_lost, totals = np.zeros(len(appeal)), np.zeros(len(appeal)), []
        for division, chance, own in zip(divisions, chances, share, strict=True):
            drawn, lost = division.drawn.expected(chance, own)
            all_lost += np.bincount(self._item, lost, minlength=len(appeal))
            draws = division.drawn.draws
            place, size = self._bucket[draws.click] * division.size + draws.segment, len(self._times_s) * division.size
            totals.append(np.bincount(place, drawn, minlength=size).reshape(-1, division.size))
        for time, shares in enumerate(self._shares(appeal)):
            for division, total, one in zip(divisions, totals, shares, strict=True):
                whole += total[time][division.segment] * one
        result: Floats = np.maximum(whole - all_lost, _LEAST_LEFT * whole) / appeal
        return result

    def _clicked_shares(self, appeal: Floats) -> Floats:
        """Share of each click's item in its segment of each division, shape (divisions, C)."""
        share = np.empty((len(self._taste) + len(self._others), len(self._item)))
        order = np.argsort(self._bucket, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(self._bucket))[:-1])
        for rows, shares in zip(parts, self._shares(appeal), strict=True):
            share[:, rows] = [one[self._item[rows]] for one in shares]
        return share

    def _taste_chances(self, share: Floats) -> Floats:
        """Chance that each click is a taste click of its segment, given its item, for each depth of taste, (D, C).

        Clicks of taste are given their known number: their odds are all multiplied by the same.
        """
        depths = len(self._taste)
        others = sum((one.chance * own for one, own in zip(self._others, share[depths:], strict=True)), np.zeros(1))
        odds = np.stack([one.chance for one in self._taste]) * share[:depths]
        odds = np.maximum(odds, 1e-300)
        scale, wanted = 1.0, float(self._by_taste.sum())
        for _ in range(_SCALE_STEPS):
            chances = scale * odds / (scale * odds.sum(axis=0) + others)
            scale *= wanted / max(float(chances.sum()), 1e-300)
        return chances

    def _shares(self, appeal: Floats) -> Iterator[list[Floats]]:
        """Share of every item in its segment of each division, (N,) each, bucket by bucket of the log."""
        catalogue, seasons = replace(self._catalogue, appeal=appeal), Seasons(self._config)
        half_life_s, ids = self._config.items.half_life_h * HOUR_S, np.arange(len(appeal))
        for time_s in self._times_s:
            usual, fading = weights_at(catalogue, half_life_s, float(time_s))
            shares = []
            for division in (*self._taste, *self._others):
                weight = fading if division.fades else usual
                total = np.bincount(division.segment, weight, minlength=division.size)
                share = weight / np.maximum(total, 1e-300)[division.segment]
                if seasons.any:
                    factor = seasons.factor(ids, float(time_s))
                    share = seasonal_shares(share, factor, division.segment, division.size)
                shares.append(share)
            yield shares


def _taste(
    config: WorldConfig, catalogue: Catalogue, history: PastClicks, steps: SessionSteps, by_taste: Floats
) -> list[ItemDivision]:
    """The depths of taste."""
    repeats = _repeats(config, history, steps, catalogue.evergreen[history.item])
    focus, own = config.sessions.focus, favourite_share(config)
    found = []
    depths = zip(taste_divisions(config, catalogue), taste_depths(config), strict=True)
    for place, ((segment, size), depth) in enumerate(depths):
        clicked = segment[history.item]
        overall = np.bincount(clicked, minlength=size)[clicked] / len(clicked)
        by_user = _share_of_others(history.user, clicked, size, overall)
        liked = focus * _share_of_others(steps.session, clicked, size, by_user) + (1.0 - focus) * by_user
        chance = by_taste * (depth.share + own * (place == 0)) * liked
        draws = SegmentDraws(np.arange(len(clicked)), clicked, chance)
        found.append(ItemDivision(segment, size, False, chance, DrawnSegments(repeats, clicked, draws)))
    return found


def _others(config: WorldConfig, catalogue: Catalogue, history: PastClicks, steps: SessionSteps) -> list[ItemDivision]:
    """The hidden groups, everything, and everything fading."""
    choice, item, evergreen = config.choice, history.item, catalogue.evergreen[history.item]
    group, whole = catalogue.group.astype(np.int64), np.zeros(len(catalogue), np.int64)
    targets = catalogue.link_targets[group[np.roll(item, 1)]].astype(np.int64)
    targets[steps.opens] = -1
    click, column = np.nonzero(targets >= 0)
    followed = (1.0 - steps.stays[click]) / (targets >= 0).sum(axis=1)[click]
    goes_on = np.flatnonzero(~steps.opens)
    draws = SegmentDraws(
        np.append(goes_on, click),
        np.append(group[item[goes_on - 1]], targets[click, column]),
        np.append(choice.similar * steps.stays[goes_on], followed),
    )
    by_group = steps.stays * choice.similar * steps.alike + steps.linked
    drawn = DrawnSegments(_repeats(config, history, steps, evergreen), group[item], draws)
    found = [ItemDivision(group, len(catalogue.link_targets), False, by_group, drawn)]
    for share, fades in ((choice.popular, False), (choice.fresh, True)):
        draws = SegmentDraws(np.arange(len(item)), whole[item], steps.stays * share)
        repeats = _repeats(config, history, steps, evergreen & (not fades))
        found.append(ItemDivision(whole, 1, fades, draws.chance, DrawnSegments(repeats, whole[item], draws)))
    return found


def _repeats(config: WorldConfig, history: PastClicks, steps: SessionSteps, lasts: NDArray[np.bool_]) -> Repeats:
    """What is not clicked again: a session's items, or a user's, until they have faded unless they last (C,)."""
    once = config.choice.once
    return Repeats(
        within=history.user if once == "log" else steps.session,
        item=history.item,
        time_s=history.time_s,
        until_s=np.where(lasts, np.inf, history.time_s + config.items.half_life_h * HOUR_S / np.log(2.0)),
        tries=_AVOIDED_TRIES if once == "none" else ONCE_TRIES,
        last_stays=once == "none",
    )


def _share_of_others(within: NDArray[np.int64], segment: NDArray[np.int64], size: int, prior: Floats) -> Floats:
    """Share of the other clicks of each click's session or user that are of its segment, shape (C,).

    Args:
        within: Session or user of each click, shape (C,).
        segment: Segment of each click, shape (C,).
        size: Number of segments.
        prior: Shares to begin with, which count as one click, shape (C,).
    """
    _, which, count = np.unique(within * size + segment, return_inverse=True, return_counts=True)
    others = np.bincount(within)[within] - 1
    result: Floats = (count[which] - 1 + prior) / (others + 1.0)
    return result
