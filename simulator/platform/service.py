"""A batch of requests from the desk to the logs: timetable, slates, the users' responses, features, rows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.platform.logs import DayLog
from simulator.platform.plan import Plan
from simulator.platform.recent import RecentItems
from simulator.platform.slates import FALLBACK, Kitchen, Slates
from simulator.platform.stage import Stage
from simulator.platform.timetable import Asked, Timetable, schedule
from simulator.platform.visits import Replies
from simulator.population.responses import Abandonments, DayVisits, Responses

_SLATE, _EMPTY, _ABANDONED = range(3)  # logs.RESULTS
_NONE, _PARTIAL, _POPULAR = range(3)  # logs.FALLBACKS


class Users(Protocol):
    """What the platform asks of its users; :class:`simulator.population.population.Population` says more.

    Attributes:
        satisfaction: Of each user, shape (U,): hidden, for the oracle's tables alone.
        gone: Who has left for good, shape (U,): likewise.
    """

    satisfaction: NDArray[np.float64]
    gone: NDArray[np.bool_]

    def begin_day(self, day: int) -> DayVisits:
        """The visits of a day, in order of their start."""

    def respond(
        self,
        visits: NDArray[np.int64],
        slates: NDArray[np.int64],
        now_s: NDArray[np.float64],
        request: NDArray[np.int64],
    ) -> Responses:
        """What the users of visits (B,) do with slates (B, K)."""

    def abandon(
        self, visits: NDArray[np.int64], now_s: NDArray[np.float64], request: NDArray[np.int64]
    ) -> Abandonments:
        """What the users of visits (B,) do who get no slate."""

    def wait_s(self, visits: NDArray[np.int64], request: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds, shape (B,), that they wait for a slate."""

    def end_day(self, day: int) -> None:
        """The day is over."""

    def state(self) -> dict[str, NDArray]:
        """All that must be kept between days."""

    def restore(self, state: dict[str, NDArray]) -> None:
        """Take up from a state."""


@dataclass
class Service:
    """Serves the visits of one day.

    Attributes:
        day: Number of the day.
        visits: The day's visits.
        arm: Number of the arm of each visit, shape (V,).
        users: The population.
        plan: Who serves whom.
        stages: By id.
        missing: Ids of models of which there is no good snapshot.
        kitchen: Makes slates.
        recent: The feature store: latest clicks.
        follows: The feature store: latest items whose provider was followed.
        log: Where rows go.
        start_s: Start of the log, seconds since 1970-01-01 UTC.
        seed: Seed of the platform.
        n_requests: Requests served so far.
        n_over: Visits that are over.
    """

    day: int
    visits: DayVisits
    arm: NDArray[np.int64]
    users: Users
    plan: Plan
    stages: Mapping[str, Stage]
    missing: Collection[str]
    kitchen: Kitchen
    recent: RecentItems
    follows: RecentItems
    log: DayLog
    start_s: int
    seed: int
    n_requests: int = 0
    n_over: int = 0
    _draws: Draws = field(init=False)

    def __post_init__(self) -> None:
        self._draws = Draws(self.seed, "request")

    def settle(self, before_s: float) -> float:
        """No request from before this moment will come any more; the share of the settled jobs that were overtaken."""
        before = self._jobs()
        for stage in self.stages.values():
            stage.settle(before_s)
        self.log.flush()
        overtaken, settled = self._jobs() - before
        return float(overtaken / max(settled, 1))

    def serve(self, visits: NDArray[np.int64], requests: NDArray[np.int64], at_s: NDArray[np.float64]) -> Replies:
        """One request each of distinct visits (B,), made at ``at_s`` (B,)."""
        user = self.visits.user[visits]
        asked = Asked(
            visits, requests, user, self.arm[visits], at_s, self._draws.bits(self.visits.key[visits], requests)
        )
        timetable = schedule(asked, self.plan, self.stages, self.missing)
        slates = self.kitchen.make(asked, self.recent.of(user), self.follows.of(user), timetable)
        gone_s = at_s + self.users.wait_s(visits, requests)
        result = np.where(slates.items[:, 0] < 0, _EMPTY, _SLATE)
        result[timetable.answered_s > gone_s] = _ABANDONED
        replies = self._respond(asked, timetable, slates, result, gone_s)
        self._log_requests(asked, timetable, slates, result)
        self._log_serving(asked, timetable, slates)
        self.kitchen.shown.end(visits[replies.leave])
        self.n_requests += len(visits)
        self.n_over += int(replies.leave.sum())
        return replies

    def _jobs(self) -> NDArray[np.int64]:
        """Jobs overtaken and jobs settled, of all stages."""
        queues = [stage.queue for stage in self.stages.values()]
        return np.array([sum(queue.overtaken for queue in queues), sum(queue.settled for queue in queues)])

    def _respond(
        self,
        asked: Asked,
        timetable: Timetable,
        slates: Slates,
        result: NDArray[np.int64],
        gone_s: NDArray[np.float64],
    ) -> Replies:
        """Show the slates, or none, and take in what users do."""
        next_s, leave = np.empty(len(result)), np.empty(len(result), bool)
        none = np.flatnonzero(result != _SLATE)
        if len(none):
            until_s = np.minimum(timetable.answered_s, gone_s)[none]
            left = self.users.abandon(asked.visit[none], until_s, asked.request[none])
            next_s[none], leave[none] = until_s + left.busy_s, left.leave
        rows = np.flatnonzero(result == _SLATE)
        if len(rows):
            now_s = timetable.answered_s[rows]
            items = slates.items[rows]
            did = self.users.respond(asked.visit[rows], items, now_s, asked.request[rows])
            next_s[rows], leave[rows] = now_s + did.busy_s, did.leave
            self.recent.take(asked.user[rows], items, did.clicked)
            self.follows.take(asked.user[rows], items, did.follow)
            self.kitchen.see(asked, rows, items)
            self._log_slates(asked, rows, now_s, slates, did)
        return Replies(next_s, leave)

    def _log_requests(self, asked: Asked, timetable: Timetable, slates: Slates, result: NDArray[np.int64]) -> None:
        fallback = np.where(timetable.n_answered < timetable.n_asked, _PARTIAL, _NONE)
        fallback[(slates.channel == FALLBACK).any(axis=1)] = _POPULAR
        columns = {
            **self._of_request(asked, np.arange(len(result))),
            "asked_s": asked.at_s,
            "answered_s": timetable.answered_s,
            "result": result,
            "fallback": fallback,
            "ranked": timetable.ranked,
            "candidates": slates.candidates,
            "shown": np.where(result == _SLATE, (slates.items >= 0).sum(axis=1), 0),
        }
        self.log.add("requests", asked.at_s, asked.visit, columns)

    def _log_serving(self, asked: Asked, timetable: Timetable, slates: Slates) -> None:
        names = (*self.plan.channels, "ranking")
        for passage in (*timetable.channels, *timetable.ranking):
            number = names.index(passage.name)
            ranking = passage.name == "ranking"
            offered = slates.candidates if ranking else slates.offered[:, number]
            merged = slates.candidates if ranking else slates.merged[:, number]
            columns = {
                **self._of_request(asked, passage.rows),
                "stage": np.full(len(passage.rows), number),
                "arrived_s": passage.served.arrive_s,
                "wait_ms": passage.served.wait_s * 1e3,
                "service_ms": passage.served.service_s * 1e3,
                "outcome": passage.served.outcome,
                "offered": offered[passage.rows],
                "merged": merged[passage.rows],
            }
            self.log.add("serving", asked.at_s[passage.rows], asked.visit[passage.rows], columns)

    def _log_slates(
        self, asked: Asked, rows: NDArray[np.int64], now_s: NDArray[np.float64], slates: Slates, did: Responses
    ) -> None:
        """Impressions, behaviours and the hidden truth of the slates shown in ``rows``."""
        at, place = np.nonzero(slates.items[rows] >= 0)
        row = rows[at]
        before_s = np.cumsum(did.dwell_s, axis=1, dtype=np.float64) - did.dwell_s  # dwell on the clicks above
        channel = slates.channel[row, place].astype(np.int64)
        columns = {
            **self._of_request(asked, row),
            "timestamp": np.floor(self.start_s + now_s[at]).astype(np.int64),
            "item_id": slates.items[row, place],
            "position": place,
            "channel": np.where(channel == FALLBACK, len(self.plan.channels), channel),
            "score": slates.scores[row, place],
            "propensity": slates.propensity[row, place],
            "offered_by": slates.offered_by[row, place],
            "clicked": did.clicked[at, place],
            "examined": did.examined[at, place],
            "cause": did.cause[at, place],
        }
        self.log.add("impressions", asked.at_s[row], asked.visit[row], columns)
        self.log.add("oracle", asked.at_s[row], asked.visit[row], columns)
        hit = np.flatnonzero(columns["clicked"])
        clicks = {name: values[hit] for name, values in columns.items()}
        at, place, row = at[hit], place[hit], row[hit]
        clicks["timestamp"] = np.floor(self.start_s + now_s[at] + before_s[at, place]).astype(np.int64)
        clicks |= {
            "dwell_s": did.dwell_s[at, place],
            "like": did.like[at, place],
            "follow": did.follow[at, place],
        }
        self.log.add("behaviours", asked.at_s[row], asked.visit[row], clicks)

    def _of_request(self, asked: Asked, rows: NDArray[np.int64]) -> dict[str, NDArray]:
        return {
            "day": np.full(len(rows), self.day, np.int32),
            "visit": asked.visit[rows].astype(np.int32),
            "request": asked.request[rows].astype(np.int16),
            "user_id": asked.user[rows],
            "arm": asked.arm[rows].astype(np.int8),
        }
