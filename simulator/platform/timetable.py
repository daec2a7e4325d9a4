"""When each request is answered: through all channels at once, then through ranking. What they answer plays no part."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.platform.plan import Plan
from simulator.platform.plan import Served as Server
from simulator.platform.queueing import Floats
from simulator.platform.stage import Outcome, Served, Stage


class Asked(NamedTuple):
    """Requests (B,)."""

    visit: NDArray[np.int64]  # row of the day's visits
    request: NDArray[np.int64]  # number within the visit, from 0
    user: NDArray[np.int64]
    arm: NDArray[np.int64]  # number of the arm in the plan
    at_s: Floats  # seconds since the start of the log
    key: NDArray[np.uint64]  # of every draw that the platform makes for the request


class Passage(NamedTuple):
    """Some of the requests through one stage."""

    name: str  # of the channel, or "ranking"
    model: str  # id of the model
    rows: NDArray[np.int64]  # (n,) of the requests
    served: Served  # (n,)


class Timetable(NamedTuple):
    """Of requests (B,)."""

    channels: list[Passage]
    ranking: list[Passage]
    n_asked: NDArray[np.int8]  # (B,) channels asked
    n_answered: NDArray[np.int8]  # (B,) of which answered
    ranked: NDArray[np.bool_]  # (B,) whether the ranking stage answered
    answered_s: Floats  # (B,)


def schedule(asked: Asked, plan: Plan, stages: Mapping[str, Stage], missing: Collection[str]) -> Timetable:
    """Pass requests through the stages of their arms.

    Args:
        asked: The requests, in any order.
        plan: Who serves whom.
        stages: By id; they take in the load.
        missing: Ids of models of which there is no good snapshot: they count as down.
    """
    batch = len(asked.at_s)
    n_asked, n_answered = np.zeros(batch, np.int8), np.zeros(batch, np.int8)
    ready_s = asked.at_s.copy()
    channels: list[Passage] = []
    for name in plan.channels:
        servers = [next((c for c in arm.channels if c.name == name), None) for arm in plan.arms]
        for passage in _pass(servers, asked, asked.at_s, stages, missing):
            rows, served = passage.rows, passage.served
            n_asked[rows] += 1
            n_answered[rows] += served.outcome == Outcome.ANSWERED
            ready_s[rows] = np.maximum(ready_s[rows], served.over_s)
            channels.append(passage)
    ranked, answered_s = np.zeros(batch, bool), np.empty(batch)
    ranking = list(_pass([arm.ranking for arm in plan.arms], asked, ready_s, stages, missing))
    for passage in ranking:
        ranked[passage.rows] = passage.served.outcome == Outcome.ANSWERED
        answered_s[passage.rows] = passage.served.over_s
    return Timetable(channels, ranking, n_asked, n_answered, ranked, answered_s)


def _pass(
    servers: list[Server | None],
    asked: Asked,
    arrive_s: Floats,
    stages: Mapping[str, Stage],
    missing: Collection[str],
) -> Iterator[Passage]:
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
            for field in Served._fields:
                getattr(served, field)[~lost] = getattr(there, field)
        for model in dict.fromkeys(server.model for server in servers if server is not None and server.stage == stage):
            of_model = np.array([server is not None and server.model == model for server in servers])
            some = np.flatnonzero(of_model[asked.arm[rows]])
            if len(some):
                name = next(server.name for server in servers if server is not None)
                yield Passage(name, model, rows[some], Served._make(part[some] for part in served))


def _refused(arrive_s: Floats) -> Served:
    n = len(arrive_s)
    return Served(arrive_s.copy(), np.zeros(n), np.zeros(n), arrive_s.copy(), np.full(n, Outcome.DOWN, np.uint8))
