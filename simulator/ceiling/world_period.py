"""A period of a world's log as a ceiling sees it: the buckets of time that visits fall into, and shares of items."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.ceiling.expected_clicks import SessionModel, TasteDepth
from simulator.ceiling.period_weights import PeriodWeights, period_weights
from simulator.world.catalogue import Catalogue
from simulator.world.clicks import HOUR_S
from simulator.world.seasons import Seasons
from simulator.world.visits import DAY_S, Calendar
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TimeBuckets:
    """Buckets of time of the click generator within a period; T of them.

    Attributes:
        times_s: Their starts, seconds since the start of the log, shape (T,).
        visits: Visits of a user who is present throughout, relative, shape (T,).
        length_s: Length of a bucket.
    """

    times_s: Floats
    visits: Floats
    length_s: float

    def present(self, first_s: Floats, last_s: Floats) -> Floats:
        """Visits of users who come from ``first_s`` to ``last_s`` (B,) only, shape (B, T).

        Whoever is not there in the period at all is taken to be there throughout.
        """
        begin = np.maximum(self.times_s, first_s[:, None])
        overlap = np.clip(np.minimum(self.times_s + self.length_s, last_s[:, None]) - begin, 0.0, self.length_s)
        visits = self.visits * overlap
        return np.where(visits.sum(axis=1, keepdims=True) > 0.0, visits, self.visits)


def time_buckets(config: WorldConfig, bucket_s: float, begin_s: float, end_s: float) -> TimeBuckets:
    """The buckets from ``begin_s`` to ``end_s``, weighted by the daily and weekly profile of visits."""
    first, last = int(begin_s // bucket_s), max(int(begin_s // bucket_s), int(np.ceil(end_s / bucket_s)) - 1)
    starts = (np.arange(first, last + 1) * bucket_s).astype(np.float64)
    edges = np.clip(np.append(starts, starts[-1] + bucket_s), begin_s, max(end_s, begin_s + 1.0))
    calendar = Calendar(config, int(edges[-1] // DAY_S) + 2)
    day = (edges // DAY_S).astype(np.int64)
    passed = calendar.before[day] + calendar.weight[day] * calendar.share_at(edges - day * DAY_S)
    visits = np.diff(passed)
    return TimeBuckets(starts, visits if visits.sum() > 0.0 else np.ones(len(starts)), bucket_s)


def taste_divisions(config: WorldConfig, catalogue: Catalogue) -> list[tuple[NDArray[np.int64], int]]:
    """Segment of each item and number of segments, for each depth of :func:`taste_depths`."""
    keys = config.items
    subcategory = catalogue.subcategory.astype(np.int64)
    subcategories = keys.categories * keys.subcategories
    found = [(catalogue.topic.astype(np.int64), subcategories * keys.topics)] if keys.topics > 1 else []
    found.append((subcategory, subcategories))
    if config.taste.depth.category > 0.0:
        found.append((subcategory // keys.subcategories, keys.categories))
    return found


def taste_depths(config: WorldConfig) -> tuple[TasteDepth, ...]:
    """At which depths interests are acted out: topics, where there are any, then subcategories and categories.

    Atoms are topics, or subcategories where there are none. Clicks on favourites are not among the shares.
    """
    keys = config.items
    depth = config.taste.depth
    total = depth.category + depth.subcategory + depth.topic + depth.item
    atoms = np.arange(keys.categories * keys.subcategories * keys.topics)
    if keys.topics > 1:
        found = [
            TasteDepth(depth.topic / total, atoms, wider=1),
            TasteDepth(depth.subcategory / total, atoms // keys.topics),
        ]
    else:
        found = [TasteDepth((depth.topic + depth.subcategory) / total, atoms)]
    if depth.category > 0.0:
        found.append(TasteDepth(depth.category / total, atoms // (keys.topics * keys.subcategories)))
    return tuple(found)


def session_model(config: WorldConfig, catalogue: Catalogue, times_s: Floats, visits: Floats) -> SessionModel:
    """What all users share in the given buckets of time (T,), visited in proportion to ``visits`` (T,)."""
    divisions = taste_divisions(config, catalogue)
    n_groups = len(catalogue.link_targets)

    def weights(times_s: Floats, visits: Floats, seasons: Seasons | None = None) -> PeriodWeights:
        return period_weights(
            catalogue,
            divisions,
            n_groups,
            half_life_s=config.items.half_life_h * HOUR_S,
            times_s=times_s,
            visits=visits,
            seasons=seasons,
        )

    return SessionModel(
        weights=weights(times_s, visits, Seasons(config)),
        start=weights(np.zeros(1), np.ones(1)),
        depths=taste_depths(config),
        own_share=favourite_share(config),
        link_targets=catalogue.link_targets,
    )


def favourite_share(config: WorldConfig) -> float:
    """Share of the taste clicks that fall on users' favourites."""
    depth = config.taste.depth
    return depth.item / (depth.category + depth.subcategory + depth.topic + depth.item)
