"""When each request is answered: through all channels at once, then through ranking. What they answer plays no part.

A request joins the channels' queues when it is made and the ranking queue when the last channel has answered, which may
be long after; between the two it is pending.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.platform.queueing import Floats
from simulator.platform.serving_plan import ServedArm as Server
from simulator.platform.serving_plan import ServingPlan
from simulator.platform.stage import Outcome, ServingOutcome, Stage


class RequestBatch(NamedTuple):
    """Requests (B,)."""

    visit: NDArray[np.int64]  # row of the day's visits
    request: NDArray[np.int64]  # number within the visit, from 0
    user: NDArray[np.int64]
    arm: NDArray[np.int64]  # number of the arm in the plan
    at_s: Floats  # seconds since the start of the log
    key: NDArray[np.uint64]  # of every draw that the platform makes for the request


class StageResult(NamedTuple):
    """Some of the requests through one stage."""

    name: str  # of the channel, or "ranking"
    model: str  # id of the model
    rows: NDArray[np.int64]  # (n,) of the requests
    served: ServingOutcome  # (n,)


class Timetable(NamedTuple):
    """When requests (B,) are answered, and by which channels."""

    channels: list[StageResult]
    ranking: list[StageResult]
    n_asked: NDArray[np.int8]  # (B,) channels asked
    n_answered: NDArray[np.int8]  # (B,) of which answered
    ranked: NDArray[np.bool_]  # (B,) whether the ranking stage answered
    answered_s: Floats  # (B,)

    def take(self, rows: NDArray[np.int64]) -> "Timetable":
        """The timetable of some of the requests."""
        channels = take_results(self.channels, rows, len(self.ranked))
        ranking = take_results(self.ranking, rows, len(self.ranked))
        return Timetable._make([channels, ranking, *(part[rows] for part in self[2:])])


class Pending(NamedTuple):
    """Requests (B,) that have been through the channels, and not through ranking."""

    asked: RequestBatch
    channels: list[StageResult]  # by name in the order of the plan
    n_asked: NDArray[np.int8]  # (B,) channels asked
    n_answered: NDArray[np.int8]  # (B,) of which answered
    ready_s: Floats  # (B,) when the last channel has answered, or the platform goes on without it
    gone_s: Floats  # (B,) when the user gives up
    given_up: NDArray[np.bool_]  # (B,) whether the user has; ranking still takes the request
    candidates: NDArray[np.int32]  # (B,) where the user has given up: what the slate would have been made of
    offered: NDArray[np.int32]  # (B, S) likewise, by channel
    merged: NDArray[np.int32]  # (B, S) likewise
    from_popular: NDArray[np.bool_]  # (B,) likewise, whether from the fallback list

    @property
    def n(self) -> int:
        """B."""
        return len(self.ready_s)

    def take(self, rows: NDArray[np.int64]) -> "Pending":
        """Some of the requests."""
        asked = RequestBatch._make(part[rows] for part in self.asked)
        channels = take_results(self.channels, rows, self.n)
        return Pending._make([asked, channels, *(part[rows] for part in self[2:])])


def take_results(results: Sequence[StageResult], rows: NDArray[np.int64], n: int) -> list[StageResult]:
    """Results of some of ``n`` requests, with the requests renumbered."""
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    found = []
    for result in results:
        kept = np.flatnonzero(place[result.rows] >= 0)
        if len(kept):
            served = ServingOutcome._make(part[kept] for part in result.served)
            found.append(result._replace(rows=place[result.rows[kept]], served=served))
    return found


def join_pending(parts: Sequence[Pending], plan: ServingPlan) -> Pending:
    """The requests of all ``parts`` (at least one), in their order."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(part.n for part in parts)])
    found: dict[tuple[str, str], list[StageResult]] = {}
    for part, offset in zip(parts, offsets[:-1], strict=True):
        for result in part.channels:
            moved = result._replace(rows=result.rows + offset)
            found.setdefault((result.name, result.model), []).append(moved)
    channels = [
        StageResult(
            name,
            model,
            np.concatenate([one.rows for one in same]),
            ServingOutcome._make(np.concatenate(part) for part in zip(*(one.served for one in same), strict=True)),
        )
        for (name, model), same in found.items()
    ]
    channels.sort(key=lambda result: plan.channels.index(result.name))
    asked = RequestBatch._make(np.concatenate(part) for part in zip(*(part.asked for part in parts), strict=True))
    rest = (np.concatenate(part) for part in zip(*(part[2:] for part in parts), strict=True))
    return Pending._make([asked, channels, *rest])


def pass_channels(
    asked: RequestBatch, gone_s: Floats, plan: ServingPlan, stages: Mapping[str, Stage], missing: Collection[str]
) -> Pending:
    """Pass requests through the channels of their arms.

    Args:
        asked: The requests, in any order.
        gone_s: When their users give up, shape (B,).
        plan: Who serves whom.
        stages: By id; they take in the load.
        missing: Ids of models of which there is no good snapshot: they count as down.
    """
    batch = len(asked.at_s)
    n_asked, n_answered = np.zeros(batch, np.int8), np.zeros(batch, np.int8)
    ready_s = asked.at_s.copy()
    channels: list[StageResult] = []
    for name in plan.channels:
        servers = [next((c for c in arm.channels if c.name == name), None) for arm in plan.arms]
        for result in _pass(servers, asked, asked.at_s, stages, missing):
            rows, served = result.rows, result.served
            n_asked[rows] += 1
            n_answered[rows] += served.outcome == Outcome.ANSWERED
            ready_s[rows] = np.maximum(ready_s[rows], served.over_s)
            channels.append(result)
    return Pending(
        asked=asked,
        channels=channels,
        n_asked=n_asked,
        n_answered=n_answered,
        ready_s=ready_s,
        gone_s=gone_s,
        given_up=np.zeros(batch, bool),
        candidates=np.zeros(batch, np.int32),
        offered=np.zeros((batch, len(plan.channels)), np.int32),
        merged=np.zeros((batch, len(plan.channels)), np.int32),
        from_popular=np.zeros(batch, bool),
    )


def pass_ranking(
    pending: Pending, plan: ServingPlan, stages: Mapping[str, Stage], missing: Collection[str]
) -> Timetable:
    """Pass requests whose channels have answered through the ranking stages of their arms; see ``pass_channels``."""
    batch = pending.n
    ranked, answered_s = np.zeros(batch, bool), np.empty(batch)
    ranking = list(_pass([arm.ranking for arm in plan.arms], pending.asked, pending.ready_s, stages, missing))
    for result in ranking:
        ranked[result.rows] = result.served.outcome == Outcome.ANSWERED
        answered_s[result.rows] = result.served.over_s
    return Timetable(pending.channels, ranking, pending.n_asked, pending.n_answered, ranked, answered_s)


def _pass(
    servers: list[Server | None],
    asked: RequestBatch,
    arrive_s: Floats,
    stages: Mapping[str, Stage],
    missing: Collection[str],
) -> Iterator[StageResult]:
    """Requests through the stages of one name; all arms that share a stage join its queue at once."""
    for stage in dict.fromkeys(server.stage for server in servers if server is not None):
        of_stage = np.array([server is not None and server.stage == stage for server in servers])
        rows = np.flatnonzero(of_stage[asked.arm])
        if not len(rows):
            continue
        lost = np.array([server is not None and server.model in missing for server in servers])[asked.arm[rows]]
        served = _refused(arrive_s[rows])
        if not lost.all():
            there = stages[stage].serve(arrive_s[rows][~lost], asked.key[rows][~lost])
            for field in ServingOutcome._fields:
                getattr(served, field)[~lost] = getattr(there, field)
        for model in dict.fromkeys(server.model for server in servers if server is not None and server.stage == stage):
            of_model = np.array([server is not None and server.model == model for server in servers])
            some = np.flatnonzero(of_model[asked.arm[rows]])
            if len(some):
                name = next(server.name for server in servers if server is not None)
                yield StageResult(name, model, rows[some], ServingOutcome._make(part[some] for part in served))


def _refused(arrive_s: Floats) -> ServingOutcome:
    n = len(arrive_s)
    return ServingOutcome(
        arrive_s.copy(), np.zeros(n), np.zeros(n), arrive_s.copy(), np.full(n, Outcome.DOWN, np.uint8)
    )
