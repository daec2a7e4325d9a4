"""Who the users are: fields, interests that follow from them, and hidden habits; all keyed by the user's id."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulator.draws import Draws, halves, mixed
from simulator.world.visits import DAY_S
from simulator.world.world_config import WorldConfig


@dataclass(frozen=True)
class Habits:
    """Hidden traits of users (B,)."""

    patience: NDArray[np.float64]  # (B,) relative mean of clicks after the first of a session, mean 1
    susceptibility: NDArray[np.float64]  # (B,) relative readiness to follow links, mean 1
    novelty: NDArray[np.float64]  # (B,) relative leaning to fresh items, mean 1
    dwell: NDArray[np.float64]  # (B,) standard normal: lingers or skims
    like: NDArray[np.float64]  # (B,) standard normal: likes readily or never


class UserDraws:
    """Draws the traits of any users of a world."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._fields = {name: Draws(config.seed, f"user field {name}") for name in config.users.fields}
        self._spread = {
            name: _zipf_cumulative(field.values, field.exponent) for name, field in config.users.fields.items()
        }
        self._effects = {name: self._effect_table(name) for name in config.users.fields}
        self._interest = Draws(config.seed, "interest")
        self._topic = Draws(config.seed, "interest topic")
        self._phase = Draws(config.seed, "drift phase")
        self._habits = Draws(config.seed, "habits")

    def field_values(self, users: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Index of the value of each field, shape (B,)."""
        return {name: np.searchsorted(self._spread[name], draws.uniform(users)) for name, draws in self._fields.items()}

    def habits(self, users: NDArray[np.int64]) -> Habits:
        """The hidden traits that are not taste."""
        config = self._config

        def positive(sd: float, number: int) -> NDArray[np.float64]:
            return np.exp(sd * self._habits.normal(users, number) - 0.5 * sd**2)

        return Habits(
            patience=positive(config.sessions.patience_sd, 0),
            susceptibility=positive(config.links.susceptibility_sd, 1),
            novelty=positive(config.choice.novelty_sd, 2),
            dwell=self._habits.normal(users, 3),
            like=self._habits.normal(users, 4),
        )

    def interests(self, users: NDArray[np.int64], epochs: int) -> NDArray[np.int32]:
        """Subcategory of each interest in each epoch of drift, shape (B, epochs, interests)."""
        config = self._config
        odds = self.category_odds(users)  # (B, C)
        cumulative = np.cumsum(odds, axis=1)
        slots = config.taste.interests
        interests = np.empty((len(users), epochs, slots), np.int32)
        start = self._interest.bits(users)
        for epoch in range(epochs):
            for slot in range(slots):
                which, within = halves(mixed(start, np.asarray(epoch * 16 + slot)))
                category = (cumulative < (which * cumulative[:, -1])[:, None]).sum(axis=1)
                subcategory = (within * config.items.subcategories).astype(np.int64)
                interests[:, epoch, slot] = category * config.items.subcategories + subcategory
        return interests

    def topics(self, users: NDArray[np.int64], interests: NDArray[np.int32]) -> NDArray[np.int32]:
        """The user's own topic of each interest, drawn evenly within its subcategory, as :attr:`Catalogue.topic`.

        Args:
            users: Ids, shape (B,).
            interests: Subcategories of :meth:`interests`, shape (B, epochs, interests).

        Returns:
            Topics, shape (B, epochs, interests); equal to ``interests`` where ``items.topics`` is 1.
        """
        topics = self._config.items.topics
        if topics == 1:
            return interests
        _, epochs, slots = interests.shape
        number = np.arange(epochs)[:, None] * 16 + np.arange(slots)
        within = (self._topic.uniform(users[:, None, None], number) * topics).astype(np.int32)
        return interests * np.int32(topics) + within

    def epochs(self, days: int) -> int:
        """How many epochs of drift ``days`` days can touch."""
        drift = self._config.taste.drift_days
        return 1 if drift == 0 else int(days / drift) + 2

    def epoch_at(
        self, users: NDArray[np.int64], slots: NDArray[np.int64], time_s: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Epoch of each user's interest at a time, shape (B,): interests are replaced at moments of their own."""
        drift = self._config.taste.drift_days
        if drift == 0:
            return np.zeros(len(users), np.int64)
        return (time_s / (drift * DAY_S) + self._phase.uniform(users, slots)).astype(np.int64)

    def begins_s(
        self, users: NDArray[np.int64], slots: NDArray[np.int64], epoch: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """When the interest of an epoch begins, shape (B,), seconds; negative for the first, which is there already."""
        return (epoch - self._phase.uniform(users, slots)) * self._config.taste.drift_days * DAY_S

    def category_odds(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Odds of an interest to be of each category, by the users' fields, shape (B, C)."""
        base = -self._config.taste.category_exponent * np.log1p(np.arange(self._config.items.categories))
        log_odds = np.broadcast_to(base, (len(users), len(base))).copy()
        for name, values in self.field_values(users).items():
            log_odds += self._effects[name][values]
        return np.exp(log_odds)

    def _effect_table(self, name: str) -> NDArray[np.float64]:
        """What each value adds to the log odds of each category, shape (values, C)."""
        field = self._config.users.fields[name]
        values, categories = np.arange(field.values)[:, None], np.arange(self._config.items.categories)[None, :]
        return field.effect * Draws(self._config.seed, f"user field effect {name}").normal(values, categories)


def capped_mean(mean: float, sd: float) -> float:
    """Factor of a habit of log sd ``sd`` and mean 1 whose product, capped at 1, has ``mean`` over the users."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    if sd == 0.0 or mean == 0.0:
        return mean
    if mean == 1.0:
        return float("inf")

    def excess(log_factor: float) -> float:
        capped_above = 0.5 * sd - log_factor / sd  # of the standard normal behind the habit
        return float(np.exp(log_factor) * ndtr(capped_above - sd) + ndtr(-capped_above) - mean)

    return float(np.exp(brentq(excess, np.log(mean) - 1e-9, 60.0 + sd**2)))


def interest_cumulative(config: WorldConfig) -> NDArray[np.float64]:
    """Cumulative weights of the interests, shape (K,), the last 1."""
    weights = np.exp(-config.taste.focus * np.arange(config.taste.interests))
    cumulative: NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    return cumulative


def user_frame(config: WorldConfig, users: NDArray[np.int64], draws: UserDraws) -> pl.DataFrame:
    """The visible user table: ``user_id`` and the fields, values as text."""
    columns: dict[str, pl.Series] = {"user_id": pl.Series(users)}
    for name, values in draws.field_values(users).items():
        labels = pl.Series([f"{name}_{value}" for value in range(config.users.fields[name].values)])
        columns[name] = labels.gather(values)
    return pl.DataFrame(columns)


def _zipf_cumulative(values: int, exponent: float) -> NDArray[np.float64]:
    weights = np.arange(1, values + 1) ** -float(exponent)
    cumulative: NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    cumulative[-1] = 1.0
    return cumulative
