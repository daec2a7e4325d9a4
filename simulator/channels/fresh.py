"""What has just been published, the better clicked of it first, each request with a shuffle of its own."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from simulator.channels.channel import HOUR_S, ChannelKeys, ChannelTrainer, Shelf
from simulator.channels.lists import UNIT, best_items, shared_list, sum_by_item
from simulator.draws import mixed, to_uniform
from simulator.ports import Candidates, Matcher, ObservedLog, Requests

_SHUFFLE = np.asarray(0x66726573)  # purpose of the draws
_OFFSET = 1024.0  # makes every score positive for the fixed-point sums


class FreshKeys(ChannelKeys):
    """Keys of the fresh channel."""

    max_age_h: PositiveFloat = Field(72.0, description="Hours since publication after which an item is no news.")
    half_life_h: PositiveFloat = Field(24.0, description="Hours of age that halve an item's score.")
    prior_impressions: PositiveFloat = Field(
        50.0, description="Impressions at the average click rate that each item is credited with."
    )
    explore: NonNegativeFloat = Field(
        0.5, description="Gumbel noise on the log score of each item and request; 0 = the same list for everyone."
    )
    length: PositiveInt = Field(500, description="Most items kept.")


class FreshTrainer(ChannelTrainer[FreshKeys]):
    """Items by log of click rate, smoothed towards the average, and age."""

    kind = "fresh"

    def learn(self, log: ObservedLog) -> dict[str, NDArray]:
        keys, shelf = self.keys, Shelf(log)
        shown, clicked = shelf.impressions(), shelf.impression_clicks()
        average = (clicked.sum() + 1.0) / (shown.sum() + 20.0)
        rate = (clicked + keys.prior_impressions * average) / (shown + keys.prior_impressions)
        score = np.log(rate) - np.log(2.0) * shelf.age_s / (keys.half_life_h * HOUR_S)
        young = shelf.age_s <= keys.max_age_h * HOUR_S
        items, best = best_items(shelf.ids[young], score[young], keys.length)
        return {"items": items, "scores": best}

    def serve(self, arrays: Mapping[str, NDArray]) -> Matcher:
        return _Fresh(self, arrays["items"], arrays["scores"])


class _Fresh:
    def __init__(self, trainer: FreshTrainer, items: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        self._trainer, self._items, self._scores = trainer, items, scores

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        hidden, explore = self._trainer.hidden(requests), self._trainer.keys.explore
        if explore == 0 or not len(self._items):
            return shared_list(self._items, self._scores, k, hidden)
        key = mixed(requests.keys, _SHUFFLE)[:, None]
        gumbel = -np.log(-np.log(to_uniform(mixed(key, self._items[None, :]))))
        noisy = np.clip(self._scores + explore * gumbel, 1.0 / UNIT - _OFFSET, _OFFSET - 1.0) + _OFFSET
        lists = sum_by_item(np.broadcast_to(self._items, noisy.shape), noisy, k, hidden)
        return Candidates(lists.items, lists.scores - np.float32(_OFFSET))
