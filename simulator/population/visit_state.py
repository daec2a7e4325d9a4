"""The visits of one day: what each user brings along, and what the visit has come to so far.

A batch reads and writes what belongs to its own visits only, so that batches cannot matter. A second visit of the day
takes up where the user's first one ended.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simulator.draws import mixed, to_uniform
from simulator.population.attraction import LATELY, Situation
from simulator.population.population_config import PopulationConfig
from simulator.population.responses import DayVisits
from simulator.population.traits import Traits

_OPENING = np.asarray(-1)
_STATIC = 3  # rows of ``static`` before the affinities


@dataclass
class CarryOverState:
    """What users carry from visit to visit, shape (n,) each."""

    item: NDArray[np.int64]  # latest click, -1 = none
    item_s: NDArray[np.float64]  # when
    fatigue: NDArray[np.float64]  # items looked at and not rested from
    fatigue_s: NDArray[np.float64]  # when

    @classmethod
    def nothing(cls, n: int) -> Self:
        """The state of users who have not been here yet."""
        return cls(np.full(n, -1), np.zeros(n), np.zeros(n), np.zeros(n))

    def of(self, rows: NDArray[np.int64]) -> "CarryOverState":
        return CarryOverState(self.item[rows], self.item_s[rows], self.fatigue[rows], self.fatigue_s[rows])

    def put(self, rows: NDArray[np.int64], other: "CarryOverState") -> None:
        """Overwrite ``rows`` with ``other``'s."""
        self.item[rows], self.item_s[rows] = other.item, other.item_s
        self.fatigue[rows], self.fatigue_s[rows] = other.fatigue, other.fatigue_s


class VisitState:
    """A day's visits under way.

    Args:
        traits: Every user, row by row.
        keys: The population's keys.
        visits: The day's visits.
        carried: What each user brings along this morning.
    """

    def __init__(self, traits: Traits, keys: PopulationConfig, visits: DayVisits, carried: CarryOverState) -> None:
        rows, n = visits.user, len(visits.user)
        self._keys, self.visits = keys, visits
        self.topic = traits.interests_at(rows, visits.start_s)
        self.staples = traits.staples(rows, self.topic)
        self.favourites = traits.favourites(rows, self.topic, visits.start_s)
        affinity = traits.affinity(to_uniform(mixed(visits.key, _OPENING)))
        self.static = np.empty((_STATIC + len(affinity), n), np.float32)
        self.static[0], self.static[1] = traits.habits.novelty[rows], traits.follows[rows]
        self.static[2], self.static[_STATIC:] = traits.habits.patience[rows], affinity
        self.habits = np.stack([traits.habits.dwell[rows], traits.habits.like[rows]])
        self.lately = np.full((n, LATELY), -1, np.int32)  # items clicked in the visit, newest first
        self.brought = carried.of(rows)
        self.clicks, self.requests = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.last_s = visits.start_s.copy()  # of the latest request
        self.looked, self.mood = np.zeros(n), np.zeros(n)  # items looked at; sum of satisfaction over requests
        self._former = _former(visits)
        self._fading = (keys.utility.link_fading ** np.arange(LATELY)).astype(np.float32)[:, None]

    def take_up(self, rows: NDArray[np.int64]) -> None:
        """Let visits (B,) that now begin go on from the same user's former visit of the day, if there was one."""
        begins = rows[(self.requests[rows] == 0) & (self._former[rows] >= 0)]
        if not len(begins):
            return
        former = self._former[begins]
        came = self.requests[former] > 0
        self.brought.put(begins[came], self.left_with(former[came]))

    def remember(self, rows: NDArray[np.int64]) -> dict[str, NDArray]:
        """All that a request may change for visits (B,)."""
        return {name: values[rows] for name, values in self._changing().items()}

    def put_back(self, rows: NDArray[np.int64], remembered: dict[str, NDArray]) -> None:
        """Let visits (B,) be as they were when they were remembered."""
        for name, values in self._changing().items():
            values[rows] = remembered[name]

    def _changing(self) -> dict[str, NDArray]:
        own = {name: getattr(self, name) for name in ("lately", "clicks", "requests", "last_s", "looked", "mood")}
        return own | {f"brought.{name}": values for name, values in vars(self.brought).items()}

    def situation(self, rows: NDArray[np.int64], now_s: NDArray[np.float64]) -> Situation:
        """The state of visits (B,)."""
        static = self.static.take(rows, axis=1)
        lately = np.empty((LATELY + 1, len(rows)), np.int64)
        lately[:LATELY] = self.lately.take(rows, axis=0).T
        lately[LATELY] = self.brought.item[rows]
        memory_s = self._keys.utility.link_memory_h * 3_600.0
        left = np.empty(lately.shape, np.float32)
        left[:LATELY] = self._fading
        left[LATELY] = np.exp2((self.brought.item_s[rows] - now_s) / memory_s)
        left[LATELY] *= self._keys.utility.link_fading ** self.clicks[rows]
        return Situation(
            now_s=now_s,
            topic=self.topic.take(rows, axis=1),
            favourites=self.favourites.take(rows, axis=2),
            affinity=static[_STATIC:],
            staples=self.staples.take(rows, axis=1),
            novelty=static[0],
            follows=static[1],
            lately=lately,
            link_left=left,
            fatigue=self.fatigue(rows, now_s),
        )

    def fatigue(self, rows: NDArray[np.int64], now_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Items looked at in this visit, and what is left of the fatigue that was brought along, shape (B,)."""
        rest_s = self._keys.lifecycle.rest_h * 3_600.0
        left = np.exp2((self.brought.fatigue_s[rows] - now_s) / rest_s)
        left *= self.brought.fatigue[rows]
        left += self.looked[rows]
        return left

    def patience(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """A trait of the users of visits (B,), mean 1."""
        return self.static[2].take(rows).astype(np.float64)

    def mood_so_far(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean satisfaction with the requests of visits (B,)."""
        mood: NDArray[np.float64] = self.mood[rows] / self.requests[rows]
        return mood

    def record(
        self,
        rows: NDArray[np.int64],
        now_s: NDArray[np.float64],
        items: NDArray[np.int64],
        clicked: NDArray[np.bool_],
        looked: NDArray[np.int64],
        mood: NDArray[np.floating],
    ) -> None:
        """Note what visits (B,) did with items (K, B): their clicks, items looked at (B,), satisfaction (B,)."""
        self.last_s[rows] = now_s
        self.requests[rows] += 1
        self.looked[rows] += looked
        self.mood[rows] += mood
        clicks = clicked.sum(axis=0)
        if not clicks.any():
            return
        self.clicks[rows] += clicks
        place, column = np.nonzero(clicked)
        back = clicks[column] - np.cumsum(clicked, axis=0)[place, column]  # clicks of the slate after this one
        late = back < LATELY
        lately = self.lately.take(rows, axis=0).T
        steps = np.arange(LATELY)[:, None]
        moved = np.take_along_axis(lately, np.maximum(steps - clicks, 0), axis=0)  # back, behind the slate's clicks
        moved[back[late], column[late]] = items[place[late], column[late]]
        self.lately[rows] = moved.T

    def left_with(self, rows: NDArray[np.int64]) -> CarryOverState:
        """What the users of visits (B,) carry on from them."""
        item, last_s = self.lately[rows, 0].astype(np.int64), self.last_s[rows]
        clicked = item >= 0
        return CarryOverState(
            item=np.where(clicked, item, self.brought.item[rows]),
            item_s=np.where(clicked, last_s, self.brought.item_s[rows]),
            fatigue=self.fatigue(rows, last_s),
            fatigue_s=last_s,
        )


def _former(visits: DayVisits) -> NDArray[np.int64]:
    """Row of the same user's visit before, -1 = none."""
    order = np.lexsort((visits.ordinal, visits.user))
    former = np.full(len(order), -1)
    same = visits.user[order][1:] == visits.user[order][:-1]
    former[order[1:][same]] = order[:-1][same]
    return former
