"""How the clicks of each segment of a catalogue fall on its items, averaged over the visits of a period.

Item i of a segment that is out at time t has weight appeal_i, times 2^(-age / half-life) if it fades, and its share is
that weight over the segment's, turned into the chance of a draw where items have seasons (``simulator.world.seasons``).
Times are those of the generator's buckets (``simulator.world.clicks``), so the shares are exact.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from simulator.world.catalogue import Catalogue
from simulator.world.seasons import Seasons, seasonal_shares

CLASSES = 64  # of items that a session avoids together
_CLASS_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def avoidance_class(items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of the 64 classes of items each belongs to; a session draws again what is of a class it has clicked."""
    with np.errstate(over="ignore"):
        return ((items.astype(np.uint64) * _CLASS_FACTOR) >> np.uint64(58)).astype(np.int64)


def weights_at(catalogue: Catalogue, half_life_s: float, time_s: float) -> tuple[NDArray, NDArray]:
    """Weights of all items at a time: of the usual segments, and of the one in which everything fades; each (N,)."""
    age_s = time_s - catalogue.published_s
    out = age_s >= 0.0
    faded = np.where(out, catalogue.appeal * np.exp2(-np.maximum(age_s, 0.0) / half_life_s), 0.0)
    return np.where(catalogue.evergreen, np.where(out, catalogue.appeal, 0.0), faded), faded


@dataclass(frozen=True)
class Division:
    """A division of N items into S segments and the share of each item within its own.

    Attributes:
        segment: Segment of each item, shape (N,).
        share: Share of the segment's clicks that fall on the item, shape (N,).
        empty: Share of the period in which nothing of the segment is out, and everything is drawn from instead, (S,).
        item_class: Avoidance class of each item, shape (N,).
    """

    segment: NDArray[np.int64]
    share: NDArray[np.float64]
    empty: NDArray[np.float64]
    item_class: NDArray[np.int64]

    @cached_property
    def by_class(self) -> NDArray[np.float64]:
        """Share of each avoidance class, shape (S, 64)."""
        place = self.segment * CLASSES + self.item_class
        size = len(self.empty) * CLASSES
        return np.bincount(place, self.share, minlength=size).reshape(-1, CLASSES).astype(np.float64)

    @cached_property
    def by_item(self) -> sp.csr_array:
        """Share of each item in its segment, shape (N, S)."""
        n = len(self.segment)
        return sp.csr_array(sp.coo_array((self.share, (np.arange(n), self.segment)), shape=(n, len(self.empty))))

    def by(self, other: NDArray[np.int64], size: int) -> sp.csr_array:
        """Share of each segment of another division of the items, shape (S, size)."""
        shape = (len(self.empty), size)
        return sp.csr_array(sp.coo_array((self.share, (self.segment, other)), shape=shape))


@dataclass(frozen=True)
class PeriodWeights:
    """Shares of the items in all segments.

    Attributes:
        taste: One division for each depth of taste.
        group: The hidden groups.
        everything: The whole catalogue, one segment.
        fresh: The whole catalogue with every item fading, one segment.
    """

    taste: tuple[Division, ...]
    group: Division
    everything: Division
    fresh: Division


def period_weights(
    catalogue: Catalogue,
    taste: list[tuple[NDArray[np.int64], int]],
    n_groups: int,
    *,
    half_life_s: float,
    times_s: NDArray[np.float64],
    visits: NDArray[np.float64],
    seasons: Seasons | None = None,
) -> PeriodWeights:
    """Shares averaged over times.

    Args:
        catalogue: The items.
        taste: Segment of each item (N,) and number of segments, for each depth of taste.
        n_groups: Number of hidden groups.
        half_life_s: In which fading weights halve.
        times_s: Starts of the generator's buckets, shape (T,).
        visits: Relative number of visits in each, shape (T,).
        seasons: Which items are in season when; None = draws that know no season, such as those of staples.
    """
    ids = np.arange(len(catalogue))
    whole = np.zeros(len(catalogue), np.int64)
    divisions = [*taste, (catalogue.group.astype(np.int64), n_groups), (whole, 1), (whole, 1)]
    shares = [np.zeros(len(catalogue)) for _ in divisions]
    empty = [np.zeros(size) for _, size in divisions]
    for time_s, part in zip(times_s, visits / visits.sum(), strict=True):
        usual, fading = weights_at(catalogue, half_life_s, time_s)
        for place, (segment, size) in enumerate(divisions):
            weight = fading if place == len(divisions) - 1 else usual
            total = np.bincount(segment, weight, minlength=size)
            share = weight / np.where(total > 0.0, total, 1.0)[segment]
            if seasons is not None and seasons.any:
                share = seasonal_shares(share, seasons.factor(ids, time_s), segment, size)
            shares[place] += part * share
            empty[place] += part * (total <= 0.0)
    classes = avoidance_class(np.arange(len(catalogue)))
    made = [
        Division(segment, share, nothing, classes)
        for (segment, _), share, nothing in zip(divisions, shares, empty, strict=True)
    ]
    return PeriodWeights(tuple(made[: len(taste)]), *made[len(taste) :])
