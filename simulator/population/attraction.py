"""What draws a user to an item: the causes of the organic history, as log odds.

Where the history picks an item *because of* an interest, its appeal, its freshness, the item just clicked, a staple or
a planted link, an item on a slate gains for each of these that it has. Arrays lie place by place, shape (K, B).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.population.population_config import UtilityConfig
from simulator.world.clicks import Cause
from simulator.world.seasons import Seasons
from simulator.world.world import World

LATELY = 6  # latest clicks of a visit that count
_LEAST_APPEAL = np.float32(-3.0)  # standard deviations: what has faded further pulls no less

VARIANTS: dict[str, dict[str, float]] = {
    "balanced": {},
    "taste": {"taste": 1.5, "popularity": 1 / 3},
    "popularity": {"taste": 1 / 3, "popularity": 1.5},
    "organic_links": {"link": 0.0},
}

Items = NDArray[np.int64]
Numbers = NDArray[np.float32]


class Situation(NamedTuple):
    """All of B users that decides what they make of items now."""

    now_s: NDArray[np.float64]  # (B,)
    topic: NDArray[np.int32]  # (S, B) of each interest; subcategories where the world has no topics
    favourites: NDArray[np.int32]  # (S, F, B) own items of each interest
    affinity: Numbers  # (S, B) of each interest in this visit, 0 … 1
    staples: NDArray[np.int32]  # (T, B) items
    novelty: Numbers  # (B,) leaning to fresh items, mean 1
    follows: Numbers  # (B,) readiness to follow links, 0 … 1
    lately: NDArray[np.int64]  # (LATELY + 1, B) items clicked in the visit, newest first; then the latest before it
    link_left: Numbers  # (LATELY + 1, B) what is left of the pull of each one's links
    fatigue: NDArray[np.float64]  # (B,) items looked at and not rested from


class Appraisal(NamedTuple):
    """How items stand with users."""

    utility: Numbers  # (K, B) log odds, links left out, intercept too
    link: Numbers | None  # (K, B) what links add; None where they add nothing
    reasons: dict[Cause, Numbers]  # (K, B) what some causes add


class Attraction:
    """Appraises any items for any users of a world.

    Args:
        world: The hidden truth.
        keys: The weights.
    """

    def __init__(self, world: World, keys: UtilityConfig) -> None:
        catalogue, times = world.catalogue, VARIANTS[keys.variant]
        self.keys = keys.model_copy(update={name: getattr(keys, name) * factor for name, factor in times.items()})
        self._half_life_s = world.config.items.half_life_h * 3_600.0
        log_appeal = np.log(catalogue.appeal)
        sd = max(float(log_appeal.std()), 1e-9)
        self._depths = world.config.taste.depth
        self._topics, self._subcategories = world.config.items.topics, world.config.items.subcategories
        self._topic = _padded(catalogue.topic, -1)
        self._subcategory = _padded(catalogue.subcategory, -1)
        self._group = _padded(catalogue.group, -1)
        self._published = _padded((catalogue.published_s / self._half_life_s).astype(np.float32), 0)  # half-lives
        self._appeal = _padded(((log_appeal - log_appeal.mean()) / sd).astype(np.float32), 0)
        self._fading = _padded(np.where(catalogue.evergreen, 0.0, np.log(2.0) / sd).astype(np.float32), 0)
        self._seasons = Seasons(world.config)
        self._appeal_sd, self._bucket_s = sd, world.shelf.bucket_s
        self._title = _padded((self.keys.clickbait * catalogue.clickbait).astype(np.float32), 0)
        targets = np.where(catalogue.link_targets < 0, -2, catalogue.link_targets)
        self._targets = np.stack([_padded(column[catalogue.group].astype(np.int32), -2) for column in targets.T])
        self._has_links = self.keys.link != 0.0 and world.config.links.strength > 0 and bool((targets >= 0).any())

    def __call__(self, items: Items, situation: Situation) -> Appraisal:
        """Utilities of items (K, B), -1 as padding, whose utility has no meaning."""
        keys, s = self.keys, situation
        subcategory, group = self._subcategory.take(items), self._group.take(items)
        popular, fresh = self._appeal_now(items, s)
        taste = self._taste(items, subcategory, s)
        staple = (s.staples[:, None] == items).any(axis=0) * np.float32(keys.staple)
        reasons = {Cause.TASTE: taste, Cause.POPULAR: popular, Cause.FRESH: fresh, Cause.REPEAT: staple}
        utility = taste + popular
        utility += fresh
        utility += staple
        utility += self._title.take(items)
        utility += (keys.weariness * s.fatigue).astype(np.float32)
        if (s.lately[0] >= 0).any():
            visit = s.lately[:LATELY]
            reasons[Cause.SIMILAR] = (self._group.take(visit[0]) == group) * np.float32(keys.similarity)
            utility += reasons[Cause.SIMILAR]
            utility += (visit[:, None] == items).any(axis=0) * np.float32(keys.clicked)
            same = self._subcategory.take(visit)[:, None] == subcategory
            utility += np.add.reduce(same.view(np.int8), axis=0, dtype=np.int8) * np.float32(keys.satiation)
        return Appraisal(utility, self._links(group, s), reasons)

    def _taste(self, items: Items, subcategory: NDArray[np.int32], s: Situation) -> Numbers:
        """What interests add: of each, the shares of taste.depth at which the item meets it."""
        pull = np.float32(self.keys.taste) * s.affinity
        taste = np.zeros(items.shape, np.float32)
        for share, matches in self._matches(items, subcategory, s):
            taste += np.float32(share) * (matches * pull[:, None]).sum(axis=0)
        return taste

    def _matches(
        self, items: Items, subcategory: NDArray[np.int32], s: Situation
    ) -> Iterator[tuple[float, NDArray[np.bool_]]]:
        """Share of each depth, and which items (K, B) meet each interest at it, shape (S, K, B)."""
        depth = self._depths
        interest = s.topic // np.int32(self._topics) if self._topics > 1 else s.topic
        if depth.category > 0.0:
            number = np.int32(self._subcategories)
            yield depth.category, (interest // number)[:, None] == np.where(items < 0, -1, subcategory // number)
        if depth.subcategory > 0.0:
            yield depth.subcategory, interest[:, None] == subcategory
        if depth.topic > 0.0:
            yield depth.topic, s.topic[:, None] == self._topic.take(items)
        if depth.item > 0.0:
            yield depth.item, (s.favourites[:, :, None] == items).any(axis=1)

    def _appeal_now(self, items: Items, s: Situation) -> tuple[Numbers, Numbers]:
        """What appeal and freshness add."""
        age = (s.now_s / self._half_life_s).astype(np.float32) - self._published.take(items)  # half-lives
        np.maximum(age, np.float32(0.0), out=age)
        popular = self._appeal.take(items) - self._fading.take(items) * age
        if self._seasons.any:
            left = self._seasons.factor(items, s.now_s // self._bucket_s * self._bucket_s)
            popular += (np.log(left) / self._appeal_sd).astype(np.float32)
        np.maximum(popular, _LEAST_APPEAL, out=popular)
        popular *= np.float32(self.keys.popularity)
        fresh = np.exp2(-age)
        fresh *= np.float32(self.keys.freshness) * s.novelty
        return popular, fresh

    def _links(self, group: NDArray[np.int32], s: Situation) -> Numbers | None:
        """The strongest link to each item."""
        if not self._has_links:
            return None
        targets = self._targets.take(s.lately, axis=1)  # (targets, LATELY + 1, B)
        hits = (targets[:, :, None] == group).any(axis=0)
        if not hits.any():
            return None
        left = hits * s.link_left[:, None]
        pull: Numbers = left.max(axis=0)
        pull *= np.float32(self.keys.link) * s.follows
        return pull


def causes(reasons: dict[Cause, Numbers], place: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The strongest reason for n items of slates, links aside; appeal where nothing speaks for the item."""
    strongest = np.full(len(place), Cause.POPULAR, np.uint8)
    most = np.maximum(reasons[Cause.POPULAR][place, column], np.float32(1e-6))
    for cause, pull in reasons.items():
        here = pull[place, column]
        strongest[here > most] = cause
        np.maximum(most, here, out=most)
    return strongest


def _padded(values: NDArray, padding: float) -> NDArray:
    """With a last entry that the index -1 finds."""
    return np.append(values, np.asarray(padding, values.dtype))
