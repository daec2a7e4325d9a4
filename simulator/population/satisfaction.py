"""What users do after a click, and how pleased they are with a slate."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.population.population_config import SatisfactionConfig
from simulator.world.behaviour import BehaviourModel
from simulator.world.world import World


class Aftermath(NamedTuple):
    """What follows n clicks."""

    dwell_s: NDArray[np.float64]
    like: NDArray[np.bool_]
    follow: NDArray[np.bool_]
    worth: NDArray[np.float64]  # to the user


class SatisfactionModel:
    """Behaviours after clicks by the world's rates, and what a click is worth.

    Args:
        world: Qualities, titles that lie, rates of behaviours.
        keys: The weights.
    """

    def __init__(self, world: World, keys: SatisfactionConfig) -> None:
        self._keys, self._rates = keys, world.config.behaviour
        self._model = BehaviourModel(world.config.behaviour)
        self._quality = np.asarray(world.quality)
        self._base = 1.0 + keys.quality * self._quality - keys.clickbait * world.catalogue.clickbait

    def __call__(
        self,
        bits: NDArray[np.uint64],
        items: NDArray[np.int64],
        dwell_habit: NDArray[np.float64],
        like_habit: NDArray[np.float64],
    ) -> Aftermath:
        """What follows clicks on items (n,), from the key of each click and its user's habits."""
        done = self._model.draw(bits, dwell_habit, like_habit, self._quality[items])
        worth = self._base[items] + self._keys.like * done.like
        if self._rates.dwell_log_sd > 0.0:
            depth = (np.log(done.dwell_s) - self._rates.dwell_log_mean) / self._rates.dwell_log_sd
            worth += self._keys.dwell * depth
        return Aftermath(done.dwell_s, done.like, done.follow, worth)
