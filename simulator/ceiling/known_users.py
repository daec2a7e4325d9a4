"""The ceiling of somebody who knows the users: every latent of theirs, read from the draws that made them."""

import numpy as np
from numpy.typing import NDArray

from simulator.ceiling.expected_clicks import UserTraits
from simulator.draws import Draws, mixed, to_uniform
from simulator.world.catalogue import Catalogue
from simulator.world.item_sampler import WeightedItemSampler
from simulator.world.users import UserDraws, capped_mean, interest_cumulative
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

    def traits(self, users: NDArray[np.int64], time_s: float) -> UserTraits:
        """Traits of users (B,), their interests being those at ``time_s``."""
        config = self._config
        atoms = self._atoms(users, time_s)
        weights = np.diff(self._cumulative, prepend=0.0)
        habits = self._draws.habits(users)
        rows = np.arange(len(users))[:, None]
        interests = np.zeros((len(users), config.items.categories * config.items.subcategories))
        np.add.at(interests, (rows, atoms), weights)
        staples = self._staples(users, atoms, time_s)
        more = (config.sessions.clicks - 1.0) * habits.patience
        readiness = capped_mean(config.links.strength, config.links.susceptibility_sd)
        return UserTraits(
            interests=interests,
            foci=atoms,
            focus_weights=np.broadcast_to(weights, atoms.shape),
            focus=config.sessions.focus,
            own_items=staples,
            own_taste=np.zeros(staples.shape),
            own_repeat=np.full(staples.shape, 1.0 / staples.shape[1]),
            causes=cause_shares(config, habits.novelty),
            follows=np.minimum(readiness * habits.susceptibility, 1.0),
            goes_on=more / (1.0 + more),
        )

    def _atoms(self, users: NDArray[np.int64], time_s: float) -> NDArray[np.int64]:
        """The narrowest segment of each interest at a time, shape (B, K)."""
        slots = np.arange(self._config.taste.interests)
        epochs = self._draws.epochs(int(time_s // 86_400) + 1)
        interests = self._draws.interests(users, epochs)
        moment = np.full(len(users), time_s)
        epoch = np.stack([self._draws.epoch_at(users, np.full(len(users), k), moment) for k in slots], axis=1)
        return interests[np.arange(len(users))[:, None], epoch, slots].astype(np.int64)

    def _staples(self, users: NDArray[np.int64], atoms: NDArray[np.int64], time_s: float) -> NDArray[np.int64]:
        """The items each user clicks again and again, with repeats, shape (B, staples)."""
        which = np.arange(self._config.choice.staples)
        key = self._staple.bits(users[:, None], which)
        slot = np.searchsorted(self._cumulative, to_uniform(key))
        segment = np.take_along_axis(atoms, slot, axis=1)
        uniform = to_uniform(mixed(key, _STAPLE)).ravel()
        start = np.zeros(segment.size, np.int64)
        item = self._shelf.pick(segment.ravel(), start, uniform)
        missing = np.flatnonzero(item < 0)
        if len(missing):
            everything = np.full(len(missing), self._shelf.evergreen_share.shape[0] - 2)
            bucket = np.full(len(missing), int(time_s // self._shelf.bucket_s))
            item[missing] = self._shelf.pick(everything, bucket, uniform[missing])
        return item.reshape(segment.shape)


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
