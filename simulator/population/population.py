"""The users of a platform: they come, respond to slates, and are pleased or not; what they do next follows from that.

Days run in order: :meth:`Population.begin_day`, any number of :meth:`Population.respond` and
:meth:`Population.abandon`, :meth:`Population.end_day`. Every draw is keyed by (seed, user, day, visit, request, item,
purpose), so that the same user in the same situation meets the same chance in every arm, counterfactual world and
process; what differs between arms is what the platform showed. Time is in seconds since the start of the log.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from simulator.draws import halves, mixed, to_uniform
from simulator.population.attraction import Attraction, causes
from simulator.population.examination import Noise, make_examination
from simulator.population.pilot import calibrate
from simulator.population.population_config import PopulationConfig
from simulator.population.responses import NO_CAUSE, Abandonments, DayVisits, Responses
from simulator.population.satisfaction import SatisfactionModel
from simulator.population.traits import Traits
from simulator.population.visit_process import VisitProcess
from simulator.population.visit_state import CarryOverState, VisitState
from simulator.world.clicks import Cause
from simulator.world.visits import DAY_S
from simulator.world.world import SESSION_S, World

_AFTER, _WAIT = (np.asarray(word) for word in (-2, -5))  # what a request's key is mixed with; items are not below -1


class Population:
    """Users 0 … U - 1 of a world over the days of its log.

    Attributes:
        arrived_s: When each user enters the platform, shape (U,): 0 for those who are there from the start; the first
            visit of a cold-start user starts at this moment. May lie beyond the end of the log.
        satisfaction: Satisfaction of each user, shape (U,), in sds of the worth of reference slates; 0 = as on
            reference slates to a user who clicks as readily.
        gone: Who has left for good, shape (U,).
        intercept: Log odds that every utility is raised by, for the configured click rate.
    """

    def __init__(self, world: World, keys: PopulationConfig, first_day: int = 0, only: int | None = None) -> None:
        self._world, self._keys, self._only = world, keys, only
        self._attraction = Attraction(world, keys.utility)
        self._examination = make_examination(keys.examination)
        self._pleasure = SatisfactionModel(world, keys.satisfaction)
        self._calibration = calibrate(world, keys, self._attraction, self._examination, self._pleasure)
        self.intercept = self._calibration.intercept
        users = world.config.users.count
        self._traits = Traits.of(world, np.arange(users))
        readiness = (keys.utility.click_propensity_sd * self._traits.readiness).astype(np.float32)
        self._utility_offset = np.float32(self.intercept) + readiness
        self._reference_utility = self._calibration.worth_to(readiness)  # worth of a reference slate to each
        self._comings = VisitProcess(self._traits, keys)
        self.arrived_s = self._traits.arrived_s
        self.satisfaction, self.gone = np.zeros(users), self._traits.left_s < first_day * DAY_S
        self._carried = CarryOverState.nothing(users)
        self._habit = self._comings.habit_at(first_day * DAY_S)
        self._day = first_day
        self._visiting: VisitState | None = None

    @classmethod
    def build(cls, world: World, keys: PopulationConfig, *, first_day: int = 0, only: int | None = None) -> Self:
        """A population on its first morning, its intercept calibrated on a pilot of users who are in no world.

        Args:
            world: The world; its own history of the days before ``first_day`` leaves no mood behind, but whoever left
                for good in it stays away.
            keys: How its users respond.
            first_day: The day that begins with the first morning.
            only: Let only users 0 … ``only`` - 1 come, who do what they would do among all; None: everybody.

        Raises:
            MicrecError: If the keys contradict each other, such as a click rate beyond what is looked at.
        """
        return cls(world, keys, first_day, only)

    def users_on(self, day: int) -> NDArray[np.int64]:
        """Ids, shape (n,), of users who have entered before the end of ``day`` and not left for good, in order."""
        there = np.flatnonzero((self.arrived_s < (day + 1) * DAY_S) & ~self.gone)
        return there if self._only is None else there[there < self._only]

    def begin_day(self, day: int) -> DayVisits:
        """The visits of ``day``, decided from the users' satisfaction and habit this morning.

        The same noise makes a happier user's visits earlier and more, never other ones.

        Raises:
            ValueError: If days are skipped, the day before has not ended, or the log has no such day.
        """
        if self._visiting is not None or day != self._day or day >= self._world.config.days:
            under_way = "is under way" if self._visiting is not None else "comes next"
            raise ValueError(
                f"begin_day({day}): day {self._day} {under_way}, of {self._world.config.days} days; days run in order."
            )
        rows = self.users_on(day)
        visits = self._comings.visits(day, rows, self.satisfaction[rows], self._habit[rows])
        self._visiting = VisitState(self._traits, self._keys, visits, self._carried)
        return visits

    def respond(
        self,
        visits: NDArray[np.int64],
        slates: NDArray[np.int64],
        now_s: NDArray[np.float64],
        request: NDArray[np.int64],
    ) -> Responses:
        """What the users of B visits do with a slate each.

        Any split into batches, and any order between visits, gives the same; a visit's own requests come in order, and
        so do the visits of one user, as on any clock.

        Args:
            visits: Rows of the day's visits, shape (B,), distinct.
            slates: Item ids, best first, shape (B, K), -1 as padding anywhere, no item twice in a row.
            now_s: When each slate is shown, shape (B,).
            request: Number of the request within the visit from 0, shape (B,): also counts those without a slate.
        """
        visiting = self._under_way()
        items = np.ascontiguousarray(slates.T, dtype=np.int64)  # (K, B): arithmetic runs along the users
        visiting.take_up(visits)
        situation = visiting.situation(visits, now_s)
        start = mixed(visiting.visits.key[visits], request)
        bits = mixed(start, items)
        noise, real = Noise(*halves(bits), start), items >= 0
        utility, link, reasons = self._attraction(items, situation)
        user = visiting.visits.user[visits]
        utility += self._utility_offset[user]
        examined, clicked = self._examination(utility if link is None else utility + link, real, noise)
        place, column = np.nonzero(clicked)
        bought = items[place, column]
        after = self._pleasure(bits[place, column], bought, *visiting.habits[:, visits[column]])
        cause = np.full(items.shape, NO_CAUSE, np.uint8)
        if len(bought):
            cause[place, column] = causes(reasons, place, column)
            if link is not None:
                self._credit_links(cause, utility, link, clicked, real, noise)
        worth = np.bincount(column, after.worth, minlength=len(visits))
        mood = (worth - self._reference_utility[user]) / self._calibration.worth_sd
        looked = examined.sum(axis=0)
        visiting.record(visits, now_s, items, clicked, looked, mood)
        dwell_s = np.bincount(column, after.dwell_s, minlength=len(visits)).astype(np.float64, copy=False)
        busy_s, leave = self._go_on(visits, now_s, start, dwell_s, situation.fatigue + looked)
        return Responses(
            examined=examined.T,
            clicked=clicked.T,
            dwell_s=_spread(clicked, place, column, after.dwell_s.astype(np.float32)),
            like=_spread(clicked, place, column, after.like),
            follow=_spread(clicked, place, column, after.follow),
            cause=cause.T,
            busy_s=busy_s,
            leave=leave,
        )

    def abandon(
        self, visits: NDArray[np.int64], now_s: NDArray[np.float64], request: NDArray[np.int64]
    ) -> Abandonments:
        """What the users of B visits do who get no slate, because none came in time or it was empty; see respond."""
        visiting, keys = self._under_way(), self._keys
        visiting.take_up(visits)
        nothing = np.zeros((1, len(visits)), np.int64)
        lost = np.full(len(visits), -keys.satisfaction.outage)
        visiting.record(visits, now_s, nothing, nothing.astype(bool), nothing[0], lost)
        goes, waits = halves(mixed(mixed(visiting.visits.key[visits], request), _AFTER))
        busy_s = -keys.lifecycle.retry_s * np.log(waits)
        leave = (goes >= keys.lifecycle.retry) | (now_s + busy_s - visiting.visits.start_s[visits] > SESSION_S)
        return Abandonments(np.where(leave, 0.0, busy_s), leave)

    def wait_s(self, visits: NDArray[np.int64], request: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds, shape (B,), that the user waits for the slate before giving up (:meth:`abandon`).

        Log-logistic: half the users give up by ``lifecycle.wait_s``, times their patience.
        """
        visiting = self._under_way()
        uniform = to_uniform(mixed(mixed(visiting.visits.key[visits], request), _WAIT))
        waits: NDArray[np.float64] = self._keys.lifecycle.wait_s * visiting.patience(visits)
        waits *= np.sqrt(uniform / (1.0 - uniform))
        return waits

    def remember(self, visits: NDArray[np.int64]) -> dict[str, NDArray]:
        """All that :meth:`respond` and :meth:`abandon` may change for distinct visits (B,), for :meth:`put_back`."""
        return self._under_way().remember(visits)

    def put_back(self, visits: NDArray[np.int64], remembered: dict[str, NDArray]) -> None:
        """Let visits (B,) be as they were when they were remembered."""
        self._under_way().put_back(visits, remembered)

    def end_day(self, day: int) -> None:
        """Fold the day into the users' satisfaction and fatigue, and let some leave for good.

        Raises:
            ValueError: If ``day`` is not the one under way.
        """
        visiting = self._under_way()
        if day != self._day:
            raise ValueError(f"end_day({day}): day {self._day} is under way.")
        visits, weight = visiting.visits, self._keys.satisfaction.visit_weight
        came = visiting.requests > 0
        for ordinal in range(int(visits.ordinal.max(initial=-1)) + 1):
            rows = np.flatnonzero(came & (visits.ordinal == ordinal))
            users = visits.user[rows]
            mood = visiting.mood[rows] / visiting.requests[rows]
            self.satisfaction[users] += weight * (mood - self.satisfaction[users])
            self._carried.put(users, visiting.left_with(rows))
        if self._keys.lifecycle.habit > 0.0:
            self._habit = self._comings.habit_after(day, visits, self._habit)
        rows = self.users_on(day)
        self.gone[self._comings.leavers(day, rows, self.satisfaction[rows])] = True
        self._day, self._visiting = day + 1, None

    def state(self) -> dict[str, NDArray]:
        """All that must be kept between days, for :meth:`restore`.

        Raises:
            ValueError: If a day is under way.
        """
        if self._visiting is not None:
            raise ValueError(f"day {self._day} is under way: end_day({self._day}) before state().")
        state = {"day": np.array(self._day), "satisfaction": self.satisfaction, "gone": self.gone}
        state["habit"] = self._habit
        return {name: values.copy() for name, values in {**state, **vars(self._carried)}.items()}

    def restore(self, state: dict[str, NDArray]) -> None:
        """Take up from a :meth:`state` of the same world and keys: what follows is identical.

        Raises:
            ValueError: If the arrays do not fit the world.
        """
        shapes = {"day": (), **dict.fromkeys(("satisfaction", "gone", "habit", *vars(self._carried)), self.gone.shape)}
        found = {name: np.shape(values) for name, values in state.items()}
        if found != shapes:
            raise ValueError(f"the state has arrays {found}, but this population has {shapes}.")
        self._day, self._visiting = int(state["day"]), None
        self.satisfaction, self.gone = state["satisfaction"].copy(), state["gone"].copy()
        self._habit = state["habit"].copy()
        self._carried = CarryOverState(**{name: state[name].copy() for name in vars(self._carried)})

    def _under_way(self) -> VisitState:
        if self._visiting is None:
            raise ValueError(f"no day is under way: begin_day({self._day}) first.")
        return self._visiting

    def _credit_links(
        self,
        cause: NDArray[np.uint8],
        utility: NDArray[np.float32],
        link: NDArray[np.float32],
        clicked: NDArray[np.bool_],
        real: NDArray[np.bool_],
        noise: Noise,
    ) -> None:
        """Mark the clicks that would not have happened, with the same noise, had links added nothing to the slate."""
        linked = np.flatnonzero((link > 0).any(axis=0) & clicked.any(axis=0))
        if len(linked):
            without = self._examination(utility[:, linked], real[:, linked], noise.of(linked))[1]
            place, column = np.nonzero(clicked[:, linked] & ~without)
            cause[place, linked[column]] = Cause.LINK

    def _go_on(
        self,
        visits: NDArray[np.int64],
        now_s: NDArray[np.float64],
        start: NDArray[np.uint64],
        dwell_s: NDArray[np.float64],
        fatigue: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Seconds until the next request, and who leaves instead."""
        visiting, keys = self._under_way(), self._keys.lifecycle
        goes, browses = halves(mixed(start, _AFTER))
        busy_s = dwell_s - self._world.config.sessions.browse_s * np.log(browses)
        more = (keys.requests - 1.0) * visiting.patience(visits)  # odds of one more request: visits are geometric
        more = more * np.exp(
            keys.stay_satisfaction * np.clip(visiting.mood_so_far(visits), -3.0, 3.0) - keys.stay_fatigue * fatigue
        )
        leave = goes * (1.0 + more) >= more
        leave |= now_s + busy_s - visiting.visits.start_s[visits] > SESSION_S
        return busy_s, leave


def _spread(
    clicked: NDArray[np.bool_], place: NDArray[np.int64], column: NDArray[np.int64], values: NDArray
) -> NDArray:
    """Values of clicks laid out like the slates, shape (B, K), 0 elsewhere."""
    laid = np.zeros(clicked.shape[::-1], values.dtype)
    laid[column, place] = values
    return laid
