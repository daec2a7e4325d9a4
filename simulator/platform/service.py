"""Batches of requests from the moment they are made to the logs: queues, slates, responses, features, rows.

A request is made (``ask``), passes the channels, and is due when the last of them has answered, or when its user gives
up. What is due is worked on as one batch; what it brings about may be due within the same time. Where a request that
became known later turns out to have come first, ``due`` says so, and the caller takes everything back to the last
``mark``.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.platform.last_place import CHOICE
from simulator.platform.logs import DayLog
from simulator.platform.recent import RecentItems
from simulator.platform.serving_plan import ServingPlan
from simulator.platform.slates import FALLBACK, SlateBuilder, Slates
from simulator.platform.stage import Stage
from simulator.platform.timetable import Pending, RequestBatch, Timetable, join_pending, pass_channels, pass_ranking
from simulator.population.responses import Abandonments, DayVisits, Responses

_SLATE, _EMPTY, _ABANDONED = range(3)  # logs.RESULTS
_NONE, _PARTIAL, _POPULAR = range(3)  # logs.FALLBACKS


class PlatformUsers(Protocol):
    """Interface of the users to the platform; :class:`simulator.population.population.Population` describes it.

    Attributes:
        satisfaction: Satisfaction of each user, shape (U,): hidden, for the tables of the ground truth alone.
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

    def remember(self, visits: NDArray[np.int64]) -> Any:
        """All that ``respond`` and ``abandon`` may change for distinct visits (B,), for ``put_back``."""

    def put_back(self, visits: NDArray[np.int64], remembered: Any) -> None:
        """Let visits (B,) be as they were when they were remembered."""

    def end_day(self, day: int) -> None:
        """End the day."""

    def state(self) -> dict[str, NDArray]:
        """State that must be kept between days."""

    def restore(self, state: dict[str, NDArray]) -> None:
        """Restore a state."""


class Replies(NamedTuple):
    """What becomes of visits (B,) after a request."""

    visit: NDArray[np.int64]  # (B,)
    request: NDArray[np.int64]  # (B,) number of the request within the visit
    next_s: NDArray[np.float64]  # (B,) when the user asks again, or leaves
    leave: NDArray[np.bool_]  # (B,)


class ServiceState(NamedTuple):
    """Where the service stood, to be taken up again."""

    stages: dict[str, Any]
    pending: tuple[Pending, ...]
    rows: dict[str, int]
    n_requests: int
    n_over: int


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
        slate_builder: Builds the slates.
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
    users: PlatformUsers
    plan: ServingPlan
    stages: Mapping[str, Stage]
    missing: Collection[str]
    slate_builder: SlateBuilder
    recent: RecentItems
    follows: RecentItems
    log: DayLog
    start_s: int
    seed: int
    n_requests: int = 0
    n_over: int = 0
    _draws: Draws = field(init=False)
    _pending: list[Pending] = field(default_factory=list)
    _undo: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draws = Draws(self.seed, "request")

    def settle(self, before_s: float) -> None:
        """No request from before this moment will be made, and none is due before it."""
        for stage in self.stages.values():
            stage.settle(before_s)
        asked_s = [part.asked.at_s.min() for part in self._pending if part.n]
        self.log.flush(min([before_s, *asked_s]))

    @property
    def due_s(self) -> float:
        """When the first of the pending requests is due; infinite if none is pending."""
        return float(min([_due_s(part).min() for part in self._pending if part.n], default=np.inf))

    def mark(self) -> ServiceState:
        """Where the service stands, for ``take_back``; forgets former marks."""
        self._undo = []
        for stage in self.stages.values():
            stage.queue.behind = False
        stages = {name: stage.state for name, stage in self.stages.items()}
        return ServiceState(stages, tuple(self._pending), self.log.mark(), self.n_requests, self.n_over)

    def take_back(self, mark: ServiceState) -> None:
        """Undo everything since the latest mark; requests are then made known in the order of their causes."""
        for name, state in mark.stages.items():
            self.stages[name].restore(state)
            self.stages[name].queue.behind = True
        self._pending, self.n_requests, self.n_over = list(mark.pending), mark.n_requests, mark.n_over
        self.log.drop_after(mark.rows)
        for visits, users, recent, follows, shown in reversed(self._undo):
            self.users.put_back(visits, users)
            self.recent.put_back(self.visits.user[visits], recent)
            self.follows.put_back(self.visits.user[visits], follows)
            self.slate_builder.shown.put_back(visits, shown)
        self._undo = []

    def ask(self, visits: NDArray[np.int64], requests: NDArray[np.int64], at_s: NDArray[np.float64]) -> None:
        """One request each of distinct visits (B,), made at ``at_s`` (B,)."""
        keys = self._draws.bits(self.visits.key[visits], requests)
        asked = RequestBatch(visits, requests, self.visits.user[visits], self.arm[visits], at_s, keys)
        gone_s = at_s + self.users.wait_s(visits, requests)
        self._pending.append(pass_channels(asked, gone_s, self.plan, self.stages, self.missing))

    def due(self, before_s: float) -> Replies | None:
        """Work on all that is due before a moment.

        Returns:
            What becomes of the visits; None if a request made known since the mark has changed a wait that was told
            before: nothing that happened since then is right.
        """
        if not self._pending or self._revised():
            return None if self._revised() else _NO_REPLIES
        pending = join_pending(self._pending, self.plan)
        is_due = _due_s(pending) < before_s
        if not is_due.any():
            self._pending = [pending]
            return _NO_REPLIES
        ranked = np.flatnonzero(pending.ready_s < before_s)
        timetable = pass_ranking(pending.take(ranked), self.plan, self.stages, self.missing)
        if self._revised():
            return None
        replies = []
        gives_up = np.flatnonzero(is_due & ~pending.given_up & (pending.gone_s < pending.ready_s))
        if len(gives_up):
            pending, left = self._give_up(pending, gives_up)
            replies.append(left)
        if len(ranked):
            replies.append(self._answer(pending.take(ranked), timetable))
        rest = np.flatnonzero(pending.ready_s >= before_s)
        self._pending = [pending.take(rest)] if len(rest) else []
        self.n_over += sum(int(part.leave.sum()) for part in replies)
        return Replies._make(np.concatenate(part) for part in zip(*replies, strict=True))

    def _revised(self) -> bool:
        return any(stage.queue.revised for stage in self.stages.values())

    def _remember(self, visits: NDArray[np.int64]) -> None:
        """Keep what is about to change."""
        user = self.visits.user[visits]
        kept = (self.users.remember(visits), self.recent.of(user), self.follows.of(user))
        self._undo.append((visits, *kept, self.slate_builder.shown.remember(visits)))

    def _slates(self, asked: RequestBatch, timetable: Timetable) -> Slates:
        return self.slate_builder.make(asked, self.recent.of(asked.user), self.follows.of(asked.user), timetable)

    def _give_up(self, pending: Pending, rows: NDArray[np.int64]) -> tuple[Pending, Replies]:
        """Users who will not wait until the channels have answered; what the slate would have been made of is kept."""
        part = pending.take(rows)
        asked, nothing = part.asked, np.zeros(part.n, bool)
        self._remember(asked.visit)
        slates = self._slates(asked, Timetable(part.channels, [], part.n_asked, part.n_answered, nothing, part.gone_s))
        replies = self._abandon(asked, part.gone_s)
        changed = {
            "given_up": np.ones(part.n, bool),
            "candidates": slates.candidates,
            "offered": slates.offered,
            "merged": slates.merged,
            "from_popular": (slates.channel == FALLBACK).any(axis=1),
        }
        columns = {}
        for name, values in changed.items():
            columns[name] = getattr(pending, name).copy()
            columns[name][rows] = values
        return pending._replace(**columns), replies

    def _abandon(self, asked: RequestBatch, until_s: NDArray[np.float64]) -> Replies:
        """Users who get no slate; ``until_s`` (B,) is when they know."""
        left = self.users.abandon(asked.visit, until_s, asked.request)
        self.slate_builder.shown.end(asked.visit[left.leave])
        return Replies(asked.visit, asked.request, until_s + left.busy_s, left.leave)

    def _answer(self, ranked: Pending, timetable: Timetable) -> Replies:
        """Requests that have passed ranking: slates, responses, and the rows of all of them."""
        waiting = np.flatnonzero(~ranked.given_up)
        counts = {name: getattr(ranked, name).copy() for name in ("candidates", "offered", "merged", "from_popular")}
        result, shown = np.full(ranked.n, _ABANDONED), np.zeros(ranked.n, np.int64)
        replies = _NO_REPLIES
        if len(waiting):
            whole = len(waiting) == ranked.n
            part, times = (ranked, timetable) if whole else (ranked.take(waiting), timetable.take(waiting))
            self._remember(part.asked.visit)
            slates = self._slates(part.asked, times)
            result[waiting] = np.where(slates.items[:, 0] < 0, _EMPTY, _SLATE)
            result[waiting[times.answered_s > part.gone_s]] = _ABANDONED
            replies = self._respond(part.asked, times, slates, result[waiting], part.gone_s)
            shown[waiting] = np.where(result[waiting] == _SLATE, (slates.items >= 0).sum(axis=1), 0)
            for name in ("candidates", "offered", "merged"):
                counts[name][waiting] = getattr(slates, name)
            counts["from_popular"][waiting] = (slates.channel == FALLBACK).any(axis=1)
        self._log_requests(ranked.asked, timetable, counts, result, shown)
        self._log_serving(ranked.asked, timetable, counts)
        self.n_requests += ranked.n
        return replies

    def _respond(
        self,
        asked: RequestBatch,
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
            left = self._abandon(RequestBatch._make(part[none] for part in asked), until_s)
            next_s[none], leave[none] = left.next_s, left.leave
        rows = np.flatnonzero(result == _SLATE)
        if len(rows):
            now_s = timetable.answered_s[rows]
            items = slates.items[rows]
            self._log_policies(asked, rows, now_s, slates)
            did = self.users.respond(asked.visit[rows], items, now_s, asked.request[rows])
            next_s[rows], leave[rows] = now_s + did.busy_s, did.leave
            self.recent.take(asked.user[rows], items, did.clicked)
            self.follows.take(asked.user[rows], items, did.follow)
            self.slate_builder.see(asked, rows, items)
            self._log_slates(asked, rows, now_s, slates, did)
            self.slate_builder.shown.end(asked.visit[rows[did.leave]])
        return Replies(asked.visit, asked.request, next_s, leave)

    def _log_requests(
        self,
        asked: RequestBatch,
        timetable: Timetable,
        counts: Mapping[str, NDArray],
        result: NDArray[np.int64],
        shown: NDArray[np.int64],
    ) -> None:
        fallback = np.where(timetable.n_answered < timetable.n_asked, _PARTIAL, _NONE)
        fallback[counts["from_popular"]] = _POPULAR
        columns = {
            **self._of_request(asked, np.arange(len(result))),
            "asked_s": asked.at_s,
            "answered_s": timetable.answered_s,
            "result": result,
            "fallback": fallback,
            "ranked": timetable.ranked,
            "candidates": counts["candidates"],
            "shown": shown,
        }
        self.log.add("requests", asked.at_s, asked.visit, columns)

    def _log_serving(self, asked: RequestBatch, timetable: Timetable, counts: Mapping[str, NDArray]) -> None:
        names = (*self.plan.channels, "ranking")
        for result in (*timetable.channels, *timetable.ranking):
            number = names.index(result.name)
            ranking = result.name == "ranking"
            offered = counts["candidates"] if ranking else counts["offered"][:, number]
            merged = counts["candidates"] if ranking else counts["merged"][:, number]
            columns = {
                **self._of_request(asked, result.rows),
                "stage": np.full(len(result.rows), number),
                "arrived_s": result.served.arrive_s,
                "wait_ms": result.served.wait_s * 1e3,
                "service_ms": result.served.service_s * 1e3,
                "outcome": result.served.outcome,
                "offered": offered[result.rows],
                "merged": merged[result.rows],
            }
            self.log.add("serving", asked.at_s[result.rows], asked.visit[result.rows], columns)

    def _log_slates(
        self, asked: RequestBatch, rows: NDArray[np.int64], now_s: NDArray[np.float64], slates: Slates, did: Responses
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
            "channel_place": slates.channel_place[row, place],
            "score": slates.scores[row, place],
            "propensity": slates.propensity[row, place],
            "offered_by": slates.offered_by[row, place],
            "clicked": did.clicked[at, place],
            "examined": did.examined[at, place],
            "cause": did.cause[at, place],
        }
        self.log.add("impressions", asked.at_s[row], asked.visit[row], columns)
        self.log.add("ground_truth", asked.at_s[row], asked.visit[row], columns)
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

    def _log_policies(
        self, asked: RequestBatch, rows: NDArray[np.int64], now_s: NDArray[np.float64], slates: Slates
    ) -> None:
        """What each policy would have put on the last place of full slates, and what the user would have done.

        The users answer each of these slates and are put back: the same visit, the same noise, one item exchanged.
        """
        for number in range(slates.policies.shape[1]):
            choice = slates.policies[rows, number]
            full = (choice["item_id"] >= 0) & (slates.items[rows, -1] >= 0)
            some, choice = rows[full], choice[full]
            visits, items = asked.visit[some], slates.items[some].copy()
            items[:, -1] = choice["item_id"]
            before = self.users.remember(visits)
            did = self.users.respond(visits, items, now_s[full], asked.request[some])
            self.users.put_back(visits, before)
            columns = {**self._of_request(asked, some), **{name: choice[name] for name in CHOICE.names or ()}}
            channel = choice["channel"].astype(np.int64)
            columns["channel"] = np.where(channel == FALLBACK, len(self.plan.channels), channel)
            columns |= {"policy": np.full(len(some), number), "clicked": did.clicked[:, -1]}
            for table in ("policies", "ground_truth_policies"):
                self.log.add(table, asked.at_s[some], visits, columns)

    def _of_request(self, asked: RequestBatch, rows: NDArray[np.int64]) -> dict[str, NDArray]:
        return {
            "day": np.full(len(rows), self.day, np.int32),
            "visit": asked.visit[rows].astype(np.int32),
            "request": asked.request[rows].astype(np.int16),
            "user_id": asked.user[rows],
            "arm": asked.arm[rows].astype(np.int8),
        }


_NO_REPLIES = Replies(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))


def _due_s(pending: Pending) -> NDArray[np.float64]:
    """When each request (B,) is due: once the channels have answered, or its user gives up before."""
    return np.where(pending.given_up, pending.ready_s, np.minimum(pending.ready_s, pending.gone_s))
