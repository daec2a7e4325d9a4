"""What is given of the users of a world: interests, habits, activity, and when they enter."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws, mixed, to_uniform
from simulator.world.taste import TasteShelf
from simulator.world.users import Habits, UserDraws, capped_mean, interest_cumulative
from simulator.world.visits import VisitDraws
from simulator.world.world import World

_STAPLE = np.asarray(3)  # as the history has it
_CHUNK = 65_536


@dataclass(frozen=True)
class Traits:
    """Traits of n users, one row each.

    Attributes:
        users: Ids, shape (n,).
        activity: Relative visit rate, shape (n,).
        arrived_s: When each enters, shape (n,); 0 for those who are there from the start.
        left_s: When each leaves for good in the world's own history, shape (n,).
        habits: The world's :class:`Habits`.
        follows: Readiness to follow links, shape (n,), 0 … 1, of mean links.strength, as the history has it.
        readiness: Leaning to click, standard normal, shape (n,).
        topics: Topic of each interest in each epoch of drift, shape (n, epochs, S); subcategories where the world has
            no topics.
    """

    world: World
    users: NDArray[np.int64]
    activity: NDArray[np.float64]
    arrived_s: NDArray[np.float64]
    left_s: NDArray[np.float64]
    habits: Habits
    follows: NDArray[np.float64]
    readiness: NDArray[np.float64]
    topics: NDArray[np.int32]

    @classmethod
    def of(cls, world: World, users: NDArray[np.int64]) -> Self:
        config, draws, visits = world.config, UserDraws(world.config), VisitDraws(world.config, world.rate)
        epochs = draws.epochs(config.days)
        chunks = [users[first : first + _CHUNK] for first in range(0, len(users), _CHUNK)]
        activity = visits.activity(users)
        first_s, left_s = visits.presence(users, activity)
        habits = draws.habits(users)
        follows = capped_mean(config.links.strength, config.links.susceptibility_sd) * habits.susceptibility
        return cls(
            world=world,
            users=users,
            activity=activity,
            arrived_s=np.where(visits.is_new(users), first_s, 0.0),
            left_s=left_s,
            habits=habits,
            follows=np.minimum(follows, 1.0),
            readiness=Draws(config.seed, "click readiness").normal(users),
            topics=np.concatenate([draws.topics(chunk, draws.interests(chunk, epochs)) for chunk in chunks]),
        )

    def interests_at(self, rows: NDArray[np.int64], time_s: NDArray[np.float64]) -> NDArray[np.int32]:
        """Topic of each interest at a time, shape (S, B), for rows (B,); see :attr:`topics`."""
        draws = UserDraws(self.world.config)
        slots = self.topics.shape[2]
        now = np.empty((slots, len(rows)), np.int32)
        for slot in range(slots):
            epoch = draws.epoch_at(self.users[rows], np.full(len(rows), slot), time_s)
            now[slot] = self.topics[rows, epoch, slot]
        return now

    def staples(self, rows: NDArray[np.int64], topic: NDArray[np.int32]) -> NDArray[np.int32]:
        """Items that users return to, shape (T, B), -1 where there is none, given topics of their interests (S, B)."""
        config = self.world.config
        shelf = TasteShelf(config, self.world.shelf)
        which = np.arange(config.choice.staples)[:, None]
        key = Draws(config.seed, "staple").bits(self.users[rows], which)
        slot = np.searchsorted(interest_cumulative(config), to_uniform(key))
        segment = shelf.staple_segment(np.take_along_axis(topic, slot, axis=0), key).ravel()
        items = shelf.pick_known(segment, np.zeros(len(segment), np.int64), to_uniform(mixed(key, _STAPLE)).ravel())
        return items.reshape(key.shape).astype(np.int32)

    def favourites(
        self, rows: NDArray[np.int64], topic: NDArray[np.int32], time_s: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        """Own items of each interest at a time, shape (S, F, B), given its topic (S, B); F = 0 if none are clicked."""
        config = self.world.config
        return TasteShelf(config, self.world.shelf).favourites(UserDraws(config), self.users[rows], topic, time_s)

    def affinity(self, opening: NDArray[np.float64]) -> NDArray[np.float32]:
        """Weight of each interest in a visit, shape (S, B), 0 … 1; uniforms (B,) decide which interest opened it.

        The square root of the chance that a click from taste follows the interest, so that minor ones count.
        """
        config, cumulative = self.world.config, interest_cumulative(self.world.config)
        weights = np.diff(cumulative, prepend=0.0)[:, None]
        opened = np.searchsorted(cumulative, opening) == np.arange(len(cumulative))[:, None]
        share = config.sessions.focus * opened + (1.0 - config.sessions.focus) * weights
        return np.sqrt(share).astype(np.float32)
