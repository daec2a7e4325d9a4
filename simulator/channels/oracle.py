"""The channel of somebody who knows the users: the items that each would click most readily.

It is no model: it is handed the hidden truth of the world, ranks items by the population's own utility, and learns
nothing from the log. An arm with it shows the largest lift that any matching model could bring on a platform with the
same other channels and the same ranking. What it does not know is the visit under way: which interest opened it, how
tired the user is, which of the latest clicks belong to it. It takes the mean affinity over the openings, and the links
of the latest click at full strength.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simulator.arrays import load_arrays, save_arrays
from simulator.channels.channel import ChannelConfig
from simulator.channels.lists import no_candidates
from simulator.draws import mixed, to_uniform
from simulator.population.attraction import LATELY, Attraction, Situation
from simulator.population.population_config import PopulationConfig
from simulator.population.traits import Traits
from simulator.ports import Candidates, ObservedLog, Requests
from simulator.world.users import interest_cumulative
from simulator.world.world import World
from simulator.world.world_config import Share

ORACLE = "oracle"  # the kind in a pipeline
_KNOWN = np.asarray(7)  # what a request's key is mixed with
_CELLS = 2_000_000  # requests times items appraised together


class OracleConfig(ChannelConfig):
    """Keys of the oracle channel."""

    share: Share = Field(
        1.0,
        description="Share of the requests, drawn at random, for which it has items: two arms with different shares "
        "differ by as much as a test is to find.",
    )


class OracleTrainer:
    """Versions of the oracle are all the same: what it knows does not come from the log.

    Args:
        keys: Of the channel.
        world: The hidden truth.
        population: How the users respond.
    """

    def __init__(self, keys: OracleConfig, world: World, population: PopulationConfig) -> None:
        self._keys, self._world, self._population = keys, world, population

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        """Write an empty version; see :class:`simulator.ports.MatcherTrainer`."""
        save_arrays(folder, f"{ORACLE} channel", {"now_s": np.array(log.now_s)}, self._keys.model_dump(mode="json"))

    def load(self, folder: Path) -> "OracleMatcher":
        """The oracle.

        Raises:
            MicrecError: If the folder is damaged.
        """
        load_arrays(folder, f"{ORACLE} channel")
        return OracleMatcher(self._keys, self._world, self._population)


class OracleMatcher:
    """Retrieves by utility."""

    def __init__(self, keys: OracleConfig, world: World, population: PopulationConfig) -> None:
        self._keys, self._world = keys, world
        self._attraction = Attraction(world, population.utility)
        self._traits = Traits.of(world, np.arange(world.config.users.count))
        cumulative = interest_cumulative(world.config)
        before = np.append(0.0, cumulative[:-1])
        openings = self._traits.affinity((cumulative + before) / 2.0)  # (S, S), one column for each opening
        self._affinity = openings @ np.diff(cumulative, prepend=0.0).astype(np.float32)

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        """The ``k`` published items of the highest utility to each user; nothing for requests beyond the share."""
        if self._keys.share == 1.0:
            return self._best(requests, k)
        found = no_candidates(len(requests.keys), k)
        known = np.flatnonzero(to_uniform(mixed(requests.keys, _KNOWN)) < self._keys.share)
        asked = Requests._make(part[known] if len(part) else part for part in requests)  # follows may be missing
        best = self._best(asked, k)
        found.items[known], found.scores[known] = best.items, best.scores
        return found

    def _best(self, requests: Requests, k: int) -> Candidates:
        n = len(self._world.catalogue)
        found = no_candidates(len(requests.user_ids), k)
        step = max(1, _CELLS // n)
        for first in range(0, len(requests.user_ids), step):
            part = slice(first, first + step)
            utility = self._utility(requests, part)
            best = np.argsort(-utility, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(utility, best, axis=1)
            width = best.shape[1]
            found.items[part, :width] = np.where(np.isneginf(scores), -1, best)
            found.scores[part, :width] = scores
        return found

    def _utility(self, requests: Requests, part: slice) -> NDArray[np.float32]:
        """Log odds of a click (B, N) but for what all items share; -inf what may not be offered."""
        catalogue, now_s = self._world.catalogue, requests.now_s[part]
        recent = requests.recent_items[part]
        items = np.repeat(np.arange(len(catalogue))[:, None], len(now_s), axis=1)
        appraisal = self._attraction(items, self._situation(requests.user_ids[part], recent[:, 0], now_s))
        utility = appraisal.utility if appraisal.link is None else appraisal.utility + appraisal.link
        utility[catalogue.published_s[:, None] > now_s] = -np.inf
        if self._keys.hide_recent:
            column, place = np.nonzero(recent >= 0)
            utility[recent[column, place], column] = -np.inf
        return np.ascontiguousarray(utility.T, dtype=np.float32)

    def _situation(self, users: NDArray[np.int64], latest: NDArray[np.int64], now_s: NDArray[np.float64]) -> Situation:
        traits, n = self._traits, len(users)
        topic = traits.interests_at(users, now_s)
        lately = np.full((LATELY + 1, n), -1, np.int64)
        lately[LATELY] = latest
        return Situation(
            now_s=now_s,
            topic=topic,
            favourites=traits.favourites(users, topic, now_s),
            affinity=np.repeat(self._affinity[:, None], n, axis=1),
            staples=traits.staples(users, topic),
            novelty=traits.habits.novelty[users].astype(np.float32),
            follows=traits.follows[users].astype(np.float32),
            lately=lately,
            link_left=np.ones(lately.shape, np.float32),
            fatigue=np.zeros(n),
        )
