"""What is clicked most, the latest clicks counting most: the same list for everyone."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from micrec.bounds import Length
from simulator.channels.channel import ChannelConfig, ChannelTrainer, ItemStats
from simulator.channels.lists import best_items, shared_list
from simulator.ports import Candidates, Matcher, ObservedLog, Requests


class PopularConfig(ChannelConfig):
    """Keys of the popular channel."""

    half_life_h: PositiveFloat = Field(48.0, description="Half-life in hours of a click.")
    length: Length = Field(1_000, description="Most items kept.")


class PopularTrainer(ChannelTrainer[PopularConfig]):
    """Items by decayed clicks; one without clicks is not in the list."""

    kind = "popular"

    def learn(self, log: ObservedLog) -> dict[str, NDArray]:
        stats = ItemStats(log)
        scores = stats.clicks(self.keys.half_life_h)
        clicked = scores > 0
        items, best = best_items(stats.ids[clicked], scores[clicked], self.keys.length)
        return {"items": items, "scores": best}

    def serve(self, arrays: Mapping[str, NDArray]) -> Matcher:
        return _Popular(self, arrays["items"], arrays["scores"])


class _Popular:
    def __init__(self, trainer: PopularTrainer, items: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        self._trainer, self._items, self._scores = trainer, items, scores

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        return shared_list(self._items, self._scores, k, self._trainer.hidden(requests))
