"""Who comes when, and who never comes again: visits at a rate that follows satisfaction, and churn that does too.

A share ``habit`` of the visits is brought about by former ones (a Hawkes process, Biometrika 58, 1971, in steps of
days): with r the user's own rate, a the share and h the visits a day of late, users come at rate (1 - a) r + a h. Its
mean is r, and who has just been here comes again sooner than who has not.
"""

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.population.population_config import PopulationConfig
from simulator.population.responses import DayVisits
from simulator.population.traits import Traits
from simulator.world.visits import APART_S, DAY_S, Calendar

_MOST_SD = 3.0  # satisfaction beyond it moves nobody further


class VisitProcess:
    """Draws visits and departures, the same noise for every arm.

    Args:
        traits: Every user, row by row.
        keys: The population's keys.
    """

    def __init__(self, traits: Traits, keys: PopulationConfig) -> None:
        config = traits.world.config
        self._traits, self._keys = traits, keys.lifecycle
        self._calendar = Calendar(config, max(config.days, config.window_days))
        self._next = Draws(keys.seed, f"coming in world {config.seed}")
        self._visit = Draws(keys.seed, f"visit in world {config.seed}")
        self._churn = Draws(keys.seed, f"churn in world {config.seed}")

    def habit_at(self, time_s: float) -> NDArray[np.float64]:
        """Visits a day of late of every user, shape (U,), as they are on average: none of who has not entered yet."""
        traits = self._traits
        return np.where(traits.arrived_s > time_s, 0.0, traits.world.rate * traits.activity)

    def habit_after(self, day: int, visits: DayVisits, habit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Visits a day of late, shape (U,), in the evening of a day whose morning had ``habit`` and which had these.

        Counts are held against the part of the day in which users could have come: not before they entered, nor within
        two hours of a visit. A quiet day counts for less.
        """
        calendar, arrived_s = self._calendar, self._traits.arrived_s
        weight = calendar.weight[day]
        second, users = visits.start_s - day * DAY_S, len(habit)
        closed = calendar.share_at(second + APART_S) - calendar.share_at(second)
        could = 1.0 - calendar.share_at(arrived_s - day * DAY_S)
        could -= np.bincount(visits.user, closed, minlength=users)
        latest = 1.0 - 0.5 ** (1.0 / self._keys.habit_days)
        surprise = np.bincount(visits.user, minlength=users) / max(weight, 1.0) - min(weight, 1.0) * could * habit
        return habit + latest * surprise

    def visits(
        self, day: int, rows: NDArray[np.int64], satisfaction: NDArray[np.float64], habit: NDArray[np.float64]
    ) -> DayVisits:
        """Visits of users ``rows`` (n,), of that satisfaction and habit (n,), on a day, at least two hours apart.

        A higher rate shortens every wait, with the same noise.
        """
        traits, calendar, share = self._traits, self._calendar, self._keys.habit
        rate = traits.world.rate * traits.activity[rows] * calendar.weight[day]
        rate *= np.exp(self._keys.return_satisfaction * _bounded(satisfaction))
        if share > 0.0:
            rate = (1.0 - share) * rate + share * calendar.weight[day] * habit
        entered = traits.arrived_s[rows] - day * DAY_S
        passed = np.where(entered > 0.0, calendar.share_at(entered), self._wait(rows, day, 0, rate))
        found: list[tuple[NDArray, NDArray, NDArray]] = []
        for ordinal in range(64):
            come = passed < 1.0
            rows, passed, rate = rows[come], passed[come], rate[come]
            if not len(rows):
                break
            second = calendar.second_at(passed)
            found.append((rows, day * DAY_S + second, np.full(len(rows), ordinal)))
            passed = calendar.share_at(second + APART_S) + self._wait(rows, day, ordinal + 1, rate)
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
