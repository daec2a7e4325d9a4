"""What each click of a history says to somebody who knows the items: its chance by taste, and by anything else."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.ceiling.period_weights import weights_at
from simulator.ceiling.world_period import favourite_share, taste_depths, taste_divisions
from simulator.world.catalogue import Catalogue
from simulator.world.clicks import HOUR_S
from simulator.world.seasons import Seasons, seasonal_shares
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]
SESSION_GAP_S = 3_600.0  # sessions lie further apart


class PastClicks(NamedTuple):
    """Clicks in order of user and time; C of them.

    Attributes:
        user: Row of the user, shape (C,).
        item: Item, shape (C,).
        time_s: Seconds since the start of the log, shape (C,).
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    time_s: Floats


class ClickEvidence(NamedTuple):
    """Chances of clicks (C,) by what made them; those of other causes than taste and repeat are ``background``.

    Attributes:
        session: Number of the session, never falling, shape (C,).
        start_s: Start of the session, shape (C,).
        background: Chance of the item by popularity, freshness, likeness to the item before or a link, shape (C,).
        taste: Chance by taste at each depth if the interest is of the item's own segment there, shape (D, C); the
            depths are those of ``taste_depths``.
        own: Chance of a taste click on a favourite, and of the item among those of its atom, their product, (C,).
        repeat: As ``taste`` and ``own`` together, for a staple, as the interests foresee it, shape (D, C).
        by_taste: Chance that the click is one of taste, shape (C,).
        by_repeat: Chance that the click is a repeat, shape (C,).
    """

    session: NDArray[np.int64]
    start_s: Floats
    background: Floats
    taste: Floats
    own: Floats
    repeat: Floats
    by_taste: Floats
    by_repeat: Floats


class SessionSteps(NamedTuple):
    """How each of C clicks follows from the one before it in its session, whatever the items' appeal.

    Attributes:
        session: Number of the session, never falling, shape (C,).
        start_s: Start of the session, shape (C,).
        opens: Whether the click is the first of its session, shape (C,).
        alike: Whether it is of the group of the click before, shape (C,).
        stays: Chance that no link was followed to it, shape (C,).
        linked: Chance that a link was followed to its group, shape (C,).
    """

    session: NDArray[np.int64]
    start_s: Floats
    opens: NDArray[np.bool_]
    alike: NDArray[np.bool_]
    stays: Floats
    linked: Floats


def session_steps(config: WorldConfig, catalogue: Catalogue, history: PastClicks) -> SessionSteps:
    """Sessions of a history, and what the click before says of each; users follow links as all do on average."""
    opens = np.ones(len(history.user), bool)
    opens[1:] = (np.diff(history.user) != 0) | (np.diff(history.time_s) > SESSION_GAP_S)
    session = np.cumsum(opens) - 1
    before = np.where(opens, -1, np.roll(history.item, 1))
    group = catalogue.group.astype(np.int64)
    targets = catalogue.link_targets[group[before]]  # (C, targets)
    n_targets = np.where(opens, 0, (targets >= 0).sum(axis=1))
    stays = np.where(n_targets > 0, 1.0 - config.links.strength, 1.0).astype(np.float64)
    reached = (targets == group[history.item][:, None]).any(axis=1) & (n_targets > 0)
    return SessionSteps(
        session=session,
        start_s=history.time_s[opens][session],
        opens=opens,
        alike=~opens & (group[before] == group[history.item]),
        stays=stays,
        linked=(1.0 - stays) * reached / np.maximum(n_targets, 1),
    )


def click_evidence(config: WorldConfig, catalogue: Catalogue, bucket_s: float, history: PastClicks) -> ClickEvidence:
    """Evidence of each click; users are taken to lean to fresh items and to follow links as all do on average.

    Args:
        config: The world.
        catalogue: Its items.
        bucket_s: Length of the generator's buckets of time.
        history: The clicks.
    """
    steps = session_steps(config, catalogue, history)
    group = catalogue.group.astype(np.int64)
    shares = _Shares(config, catalogue, bucket_s, steps.start_s, Seasons(config))
    by_group = shares.of(group, len(catalogue.link_targets), history.item)
    everything, fresh = shares.whole(history.item)
    choice = config.choice
    free = choice.popular * everything + choice.fresh * fresh + choice.similar * steps.alike * by_group
    background = steps.stays * free + steps.linked * by_group
    by_taste = steps.stays * (choice.taste + choice.similar * steps.opens)
    start = _Shares(config, catalogue, bucket_s, np.zeros(len(steps.start_s)))
    divisions = taste_divisions(config, catalogue)
    depth_shares = np.array([depth.share for depth in taste_depths(config)])[:, None]
    now = np.stack([shares.of(*division, history.item) for division in divisions])
    then = np.stack([start.of(*division, history.item) for division in divisions])
    own_share = favourite_share(config)
    own_depth = own_share * (np.arange(len(divisions)) == 0)[:, None]  # those not known fall on the atoms
    return ClickEvidence(
        session=steps.session,
        start_s=steps.start_s,
        background=background,
        taste=by_taste * depth_shares * now,
        own=by_taste * own_share * now[0],
        repeat=steps.stays * choice.repeat * (depth_shares + own_depth) * then,
        by_taste=by_taste,
        by_repeat=steps.stays * choice.repeat,
    )


class _Shares:
    """Shares of clicked items in their segments at the buckets of their sessions."""

    def __init__(
        self,
        config: WorldConfig,
        catalogue: Catalogue,
        bucket_s: float,
        start_s: Floats,
        seasons: Seasons | None = None,
    ) -> None:
        self._catalogue, self._half_life_s = catalogue, config.items.half_life_h * HOUR_S
        self._seasons = seasons if seasons is not None and seasons.any else None
        buckets, self._which = np.unique(start_s // bucket_s, return_inverse=True)
        self._times_s = buckets * bucket_s

    def of(self, segment: NDArray[np.int64], size: int, items: NDArray[np.int64]) -> Floats:
        """Share of each item (C,) in its segment of a division."""
        result = np.zeros(len(items))
        for rows, time_s, usual, _ in self._by_time():
            result[rows] = self._share(usual, segment, size, time_s)[items[rows]]
        return result

    def whole(self, items: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Share of each item (C,) in everything, and in everything fading."""
        everything, fresh = np.zeros(len(items)), np.zeros(len(items))
        segment = np.zeros(len(self._catalogue), np.int64)
        for rows, time_s, usual, fading in self._by_time():
            everything[rows] = self._share(usual, segment, 1, time_s)[items[rows]]
            fresh[rows] = self._share(fading, segment, 1, time_s)[items[rows]]
        return everything, fresh

    def _share(self, weight: Floats, segment: NDArray[np.int64], size: int, time_s: float) -> Floats:
        """Share of every item in its segment at a time, shape (N,)."""
        total = np.bincount(segment, weight, minlength=size)
        share: Floats = weight / np.maximum(total, 1e-300)[segment]
        if self._seasons is None:
            return share
        return seasonal_shares(share, self._seasons.factor(np.arange(len(weight)), time_s), segment, size)

    def _by_time(self) -> Iterator[tuple[NDArray[np.int64], float, Floats, Floats]]:
        """Clicks of each bucket, its time, and the weights of all items then, usual and fading."""
        order = np.argsort(self._which, kind="stable")
        ends = np.cumsum(np.bincount(self._which, minlength=len(self._times_s)))
        for time_s, rows in zip(self._times_s, np.split(order, ends[:-1]), strict=True):
            yield rows, float(time_s), *weights_at(self._catalogue, self._half_life_s, float(time_s))
