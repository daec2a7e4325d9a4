"""Who comes when, and who never comes again: visits at a rate that follows satisfaction, and churn that does too."""

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.population.keys import PopulationKeys
from simulator.population.responses import DayVisits
from simulator.population.traits import Traits
from simulator.world.visits import APART_S, DAY_S, Calendar

_MOST_SD = 3.0  # satisfaction beyond it moves nobody further


class Comings:
    """Draws visits and departures, the same noise for every arm.

    Args:
        traits: Every user, row by row.
        keys: The population's keys.
    """

    def __init__(self, traits: Traits, keys: PopulationKeys) -> None:
        config = traits.world.config
        self._traits, self._keys = traits, keys.lifecycle
        self._calendar = Calendar(config, max(config.days, config.window_days))
        self._next = Draws(keys.seed, f"coming in world {config.seed}")
        self._visit = Draws(keys.seed, f"visit in world {config.seed}")
        self._churn = Draws(keys.seed, f"churn in world {config.seed}")

    def visits(self, day: int, rows: NDArray[np.int64], satisfaction: NDArray[np.float64]) -> DayVisits:
        """Visits of users ``rows`` (n,), of that satisfaction (n,), on a day; they lie at least two hours apart.

        A higher rate shortens every wait, with the same noise.
        """
        traits, calendar = self._traits, self._calendar
        rate = traits.world.rate * traits.activity[rows] * calendar.weight[day]
        rate *= np.exp(self._keys.return_satisfaction * _bounded(satisfaction))
        entered = traits.arrived_s[rows] - day * DAY_S
        share = np.where(entered > 0.0, calendar.share_at(entered), self._wait(rows, day, 0, rate))
        found: list[tuple[NDArray, NDArray, NDArray]] = []
        for ordinal in range(64):
            come = share < 1.0
            rows, share, rate = rows[come], share[come], rate[come]
            if not len(rows):
                break
            second = calendar.second_at(share)
            found.append((rows, day * DAY_S + second, np.full(len(rows), ordinal)))
            share = calendar.share_at(second + APART_S) + self._wait(rows, day, ordinal + 1, rate)
        user, start_s, number = (
            np.concatenate([part[column] for part in found] or [np.zeros(0, np.int64)]) for column in range(3)
        )
        order = np.lexsort((user, start_s))
        user, start_s, number = user[order], start_s[order].astype(np.float64), number[order]
        return DayVisits(user, start_s, number, self._visit.bits(user, day * 64 + number))

    def leavers(self, day: int, rows: NDArray[np.int64], satisfaction: NDArray[np.float64]) -> NDArray[np.int64]:
        """Which of users ``rows`` (n,) never come again after ``day``."""
        stays = 1.0 - self._traits.world.config.users.churn_per_day
        hazard = 1.0 - stays ** np.exp(-self._keys.churn_satisfaction * _bounded(satisfaction))
        return rows[self._churn.uniform(rows, day) < hazard]

    def _wait(self, rows: NDArray[np.int64], day: int, ordinal: int, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the day's intensity that passes until the next visit."""
        return -np.log(self._next.uniform(rows, day * 64 + ordinal)) / rate


def _bounded(satisfaction: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(satisfaction, -_MOST_SD, _MOST_SD)
