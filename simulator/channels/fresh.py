"""What has just been published, up to the second, the better clicked of it first, shuffled anew for each request."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat

from micrec.bounds import Length
from simulator.channels.channel import HOUR_S, ChannelConfig, ChannelTrainer, ItemStats
from simulator.channels.lists import UNIT, best_items, shared_list, sum_by_item
from simulator.draws import mixed, to_uniform
from simulator.ports import Announced, Candidates, Matcher, ObservedLog, Requests

_SHUFFLE = np.asarray(0x66726573)  # purpose of the draws
_OFFSET = 1024.0  # makes every score positive for the fixed-point sums


class FreshConfig(ChannelConfig):
    """Keys of the fresh channel."""

    max_age_h: PositiveFloat = Field(72.0, description="Greatest age of an item in hours at the time of the request.")
    half_life_h: PositiveFloat = Field(24.0, description="Half-life in hours of an item's score.")
    prior_impressions: PositiveFloat = Field(
        50.0,
        description="Weight of the prior: each item starts as if shown this often at the average click rate.",
    )
    explore: NonNegativeFloat = Field(
        0.5, description="Gumbel noise on the log score of each item and request; 0 = the same list for everyone."
    )
    length: Length = Field(500, description="Most items kept.")
    live: bool = Field(
        True, description="Whether items are offered from their publication on; false: from the next version on."
    )


class FreshTrainer(ChannelTrainer[FreshConfig]):
    """Items by log of click rate, smoothed towards the average, and age.

    All ages grow alike, so that scores keep their order through a version's life: what is published in it has the
    average rate, and a negative age at the version's making.
    """

    kind = "fresh"

    def learn(self, log: ObservedLog) -> dict[str, NDArray]:
        keys, stats = self.keys, ItemStats(log)
        shown, clicked = stats.impressions(), stats.impression_clicks()
        average = (clicked.sum() + 1.0) / (shown.sum() + 20.0)
        rate = (clicked + keys.prior_impressions * average) / (shown + keys.prior_impressions)
        score = np.log(rate) - np.log(2.0) * stats.age_s / (keys.half_life_h * HOUR_S)
        young = stats.age_s <= keys.max_age_h * HOUR_S
        items, best = best_items(stats.ids[young], score[young], keys.length)
        published_s = (log.now_s - stats.age_s)[stats.lookup.rows(items)]
        return {
            "items": items,
            "scores": best,
            "published_s": published_s,
            "made_s": np.array(log.now_s),
            "new": np.array(np.log(average)),
        }

    def serve(self, arrays: Mapping[str, NDArray]) -> Matcher:
        return _Fresh(self, arrays)


class _Fresh:
    def __init__(self, trainer: FreshTrainer, arrays: Mapping[str, NDArray]) -> None:
        self._trainer, self._known, self._scores_known = trainer, arrays["items"], arrays["scores"]
        self._made_s, self._new = float(arrays["made_s"]), float(arrays["new"])
        self._published_s = arrays["published_s"]
        self.announce(Announced(np.empty(0, np.int64), np.empty(0)))

    def announce(self, announced: Announced) -> None:
        """See :class:`simulator.ports.LiveMatcher`."""
        late = (announced.at_s > self._made_s) & self._trainer.keys.live
        at_s = announced.at_s[late]
        growth = np.log(2.0) * (at_s - self._made_s) / (self._trainer.keys.half_life_h * HOUR_S)
        items = np.concatenate([announced.items[late], self._known])
        scores = np.concatenate([(self._new + growth).astype(np.float32), self._scores_known])
        order = np.lexsort((items, -scores))
        self._items, self._scores = items[order], scores[order]
        self._from_s = np.concatenate([at_s, np.full(len(self._known), -np.inf)])[order]
        self._until_s = np.concatenate([at_s, self._published_s])[order] + self._trainer.keys.max_age_h * HOUR_S

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        hidden, explore = self._trainer.hidden(requests), self._trainer.keys.explore
        first_s, last_s = requests.now_s.min(initial=np.inf), requests.now_s.max(initial=-np.inf)
        unfit = np.flatnonzero((self._from_s > first_s) | (self._until_s < last_s))  # not yet out, or too old, for some
        if not len(self._items) or (explore == 0 and not len(unfit)):
            return shared_list(self._items, self._scores, k, hidden)
        noisy = np.broadcast_to(self._scores, (len(requests.keys), len(self._items)))
        if explore:
            key = mixed(requests.keys, _SHUFFLE)[:, None]
            noisy = noisy + explore * -np.log(-np.log(to_uniform(mixed(key, self._items[None, :]))))
        items = np.broadcast_to(self._items, noisy.shape)
        if len(unfit):
            items, now_s = items.copy(), requests.now_s[:, None]
            fit = (self._from_s[unfit] <= now_s) & (now_s <= self._until_s[unfit])
            items[:, unfit] = np.where(fit, items[:, unfit], -1)
        lists = sum_by_item(items, np.clip(noisy, 1.0 / UNIT - _OFFSET, _OFFSET - 1.0) + _OFFSET, k, hidden)
        return Candidates(lists.items, lists.scores - np.float32(_OFFSET))
