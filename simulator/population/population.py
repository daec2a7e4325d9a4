"""The users of a platform: they come, respond to slates, and are pleased or not; what they do next follows from that.

Days run in order: :meth:`Population.begin_day`, any number of :meth:`Population.respond` and
:meth:`Population.abandon`, :meth:`Population.end_day`. Every draw is keyed by (seed, user, day, visit, request, item,
purpose), so that the same user in the same situation meets the same chance in every arm, counterfactual world and
process; what differs between arms is what the platform showed. Time is in seconds since the start of the log.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from simulator.population.keys import PopulationKeys
from simulator.population.responses import Abandonments, DayVisits, Responses
from simulator.world.world import World


class Population:
    """Users 0 … U - 1 of a world over the days of its log.

    Attributes:
        arrived_s: When each user enters the platform, shape (U,): 0 for those who are there from the start; the first
            visit of a cold-start user starts at this moment. May lie beyond the end of the log.
    """

    arrived_s: NDArray[np.float64]

    @classmethod
    def build(cls, world: World, keys: PopulationKeys) -> Self:
        """A population on its first morning, its intercepts calibrated on a pilot of users who are in no world.

        Raises:
            MicrecError: If the keys contradict each other, such as a click rate beyond what is looked at.
        """
        raise NotImplementedError

    def users_on(self, day: int) -> NDArray[np.int64]:
        """Ids, shape (n,), of users who have entered before the end of ``day`` and not left for good, in order."""
        raise NotImplementedError

    def begin_day(self, day: int) -> DayVisits:
        """The visits of ``day``, decided from the users' satisfaction this morning.

        The same noise makes a happier user's visits earlier and more, never other ones.

        Raises:
            ValueError: If days are skipped or the day before has not ended.
        """
        raise NotImplementedError

    def respond(
        self,
        visits: NDArray[np.int64],
        slates: NDArray[np.int64],
        now_s: NDArray[np.float64],
        request: NDArray[np.int64],
    ) -> Responses:
        """What the users of B visits do with a slate each.

        Any split into batches, and any order between visits, gives the same; a visit's own requests come in order, and
        so do the visits of one user, as on any clock. A visit occurs at most once in a batch.

        Args:
            visits: Rows of the day's visits, shape (B,), distinct.
            slates: Item ids, best first, shape (B, K), -1 as padding anywhere.
            now_s: When each slate is shown, shape (B,).
            request: Number of the request within the visit from 0, shape (B,): also counts those without a slate.
        """
        raise NotImplementedError

    def abandon(
        self, visits: NDArray[np.int64], now_s: NDArray[np.float64], request: NDArray[np.int64]
    ) -> Abandonments:
        """What the users of B visits do who get no slate, because none came in time or it was empty; see respond."""
        raise NotImplementedError

    def wait_s(self, visits: NDArray[np.int64], request: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds, shape (B,), that the user waits for the slate before giving up (:meth:`abandon`)."""
        raise NotImplementedError

    def end_day(self, day: int) -> None:
        """Fold the day into the users' satisfaction and fatigue, and let some leave for good.

        Raises:
            ValueError: If ``day`` is not the one under way.
        """
        raise NotImplementedError

    def state(self) -> dict[str, NDArray]:
        """All that must be kept between days, for :meth:`restore`.

        Raises:
            ValueError: If a day is under way.
        """
        raise NotImplementedError

    def restore(self, state: dict[str, NDArray]) -> None:
        """Take up from a :meth:`state` of the same world and keys: what follows is identical.

        Raises:
            ValueError: If the arrays do not fit the world.
        """
        raise NotImplementedError
