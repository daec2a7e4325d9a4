"""The ceiling of somebody who knows the users: every latent of theirs, read from the draws that made them."""

import numpy as np
from numpy.typing import NDArray

from simulator.ceiling.expected_clicks import UserTraits
from simulator.ceiling.world_period import favourite_share
from simulator.draws import Draws, mixed, to_uniform
from simulator.world.catalogue import Catalogue
from simulator.world.item_sampler import WeightedItemSampler
from simulator.world.taste import TasteShelf
from simulator.world.users import UserDraws, capped_mean, interest_cumulative
from simulator.world.visits import DAY_S
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]
_STAPLE = np.asarray(3)  # as in simulator.world.clicks


class KnownUsers:
    """The traits of any users of a world at any time.

    Args:
        config: The world.
        catalogue: Its items.
        shelf: Where its items are drawn from, which says what a user's staples are.
    """

    def __init__(self, config: WorldConfig, catalogue: Catalogue, shelf: WeightedItemSampler) -> None:
        self._config, self._catalogue, self._shelf = config, catalogue, shelf
        self._draws = UserDraws(config)
        self._staple = Draws(config.seed, "staple")
        self._cumulative = interest_cumulative(config)
        self._taste = TasteShelf(config, shelf)

    def traits(self, users: NDArray[np.int64], time_s: float) -> UserTraits:
        """Traits of users (B,), their interests being those at ``time_s``."""
        config = self._config
        topics = self._topics(users, time_s)
        weights = np.diff(self._cumulative, prepend=0.0)
        habits = self._draws.habits(users)
        rows = np.arange(len(users))[:, None]
        interests = np.zeros((len(users), config.items.categories * config.items.subcategories * config.items.topics))
        np.add.at(interests, (rows, topics), weights)
        staples, favourites = self._staples(users, topics, time_s), self._favourites(users, topics, time_s)
        of_interest = np.repeat(np.arange(len(weights)), favourites.shape[1] // len(weights))
        each = favourite_share(config) * weights[of_interest] * len(weights) / max(favourites.shape[1], 1)
        more = (config.sessions.clicks - 1.0) * habits.patience
        readiness = capped_mean(config.links.strength, config.links.susceptibility_sd)
        return UserTraits(
            interests=interests,
            foci=topics,
            focus_weights=np.broadcast_to(weights, topics.shape),
            focus=1.0 - (1.0 - config.sessions.focus) * (1.0 - config.signals.sessions),
            own_items=np.concatenate([favourites, staples], axis=1),
            own_taste=_beside(each, staples, before=True),
            own_focus=_beside(of_interest, staples, before=True, blank=-1),
            own_repeat=_beside(np.full(staples.shape[1], 1.0 / staples.shape[1]), favourites, before=False),
            causes=cause_shares(config, habits.novelty),
            follows=np.minimum(readiness * habits.susceptibility, 1.0),
            goes_on=more / (1.0 + more),
        )

    def _topics(self, users: NDArray[np.int64], time_s: float) -> NDArray[np.int64]:
        """The topic of each interest at a time, or its subcategory where there are no topics, shape (B, K)."""
        slots = np.arange(self._config.taste.interests)
        interests = self._draws.interests(users, self._draws.epochs(int(time_s // DAY_S) + 1))
        topics = self._draws.topics(users, interests)
        moment = np.full(len(users), time_s)
        epoch = np.stack([self._draws.epoch_at(users, np.full(len(users), k), moment) for k in slots], axis=1)
        return topics[np.arange(len(users))[:, None], epoch, slots].astype(np.int64)

    def _staples(self, users: NDArray[np.int64], topics: NDArray[np.int64], time_s: float) -> NDArray[np.int64]:
        """The items each user clicks again and again, with repeats, shape (B, staples)."""
        which = np.arange(self._config.choice.staples)
        key = self._staple.bits(users[:, None], which)
        slot = np.searchsorted(self._cumulative, to_uniform(key))
        segment = self._taste.staple_segment(np.take_along_axis(topics, slot, axis=1), key).ravel()
        now = np.full(segment.size, int(time_s // self._shelf.bucket_s))
        uniform = to_uniform(mixed(key, _STAPLE)).ravel()
        return self._taste.pick(segment, np.zeros_like(now), uniform, at_last=now).reshape(key.shape)

    def _favourites(self, users: NDArray[np.int64], topics: NDArray[np.int64], time_s: float) -> NDArray[np.int64]:
        """Favourites of the first interest, then of the second …, shape (B, K * favourites), or none."""
        found = self._taste.favourites(self._draws, users, topics.T, np.full(len(users), time_s))  # (K, F, B)
        return found.transpose(2, 0, 1).reshape(len(users), -1).astype(np.int64)


def _beside(values: NDArray, others: NDArray[np.int64], *, before: bool, blank: int = 0) -> NDArray:
    """The same row for everybody (B, M), beside blanks for other items (B, O)."""
    row = np.broadcast_to(values, (len(others), len(values)))
    parts = [row, np.full(others.shape, blank)] if before else [np.full(others.shape, blank), row]
    return np.concatenate(parts, axis=1)


def cause_shares(config: WorldConfig, novelty: Floats) -> Floats:
    """Shares of taste, popular, fresh, similar, repeat where no link is followed, shape (B, 5).

    Args:
        config: The world.
        novelty: Relative leaning to fresh items, shape (B,).
    """
    choice = config.choice
    fresh = np.minimum(capped_mean(choice.fresh, choice.novelty_sd) * novelty, 1.0)
    others = np.array([choice.taste, choice.popular, 0.0, choice.similar, choice.repeat])
    shares = (1.0 - fresh)[:, None] * others / max(others.sum(), 1e-300)
    shares[:, 2] = fresh
    return shares
