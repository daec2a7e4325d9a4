"""The day on a simulated clock: visits begin, ask, are answered, act and ask again, as SimPy processes in seconds.

There is one driver for all arrivals and a process for each visit under way; requests, not impressions or idle users,
are events. The desk gathers requests for ``gather_s`` of simulated time and works on them in rounds: a round holds at
most one request of each visit, worked on as one batch; what a user asks next within the same time goes into the next
round. Every request keeps its own times, which the clock of the desk does not touch.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

Moments = NDArray[np.float64]
MOST_WRONG = 0.01  # of waits, before less is gathered
LEAST_SPAN_S = 1.0
CALM = 16  # spans without a wrong wait, before more is gathered again


class Coming(NamedTuple):
    """A visit to come."""

    visit: int  # row of the day's visits
    start_s: float  # seconds since the start of the log
    user: int | None  # if the user has several visits on the day


class Ask(NamedTuple):
    """A request at the desk."""

    visit: int
    request: int  # number within the visit, from 0
    at_s: float
    reply: simpy.Event  # with the moment of the user's next act, and whether it is to leave


class Replies(NamedTuple):
    """What becomes of visits (B,) after a request."""

    next_s: Moments  # (B,) when the user asks again, or leaves
    leave: NDArray[np.bool_]  # (B,)


class Desk:
    """Where visits leave their requests."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._asks: list[Ask] = []
        self._knock = env.event()

    def ask(self, visit: int, request: int, at_s: float) -> simpy.Event:
        """Leave a request; the event is its reply."""
        reply = self._env.event()
        self._asks.append(Ask(visit, request, at_s, reply))
        if not self._knock.triggered:
            self._knock.succeed()
        return reply

    def someone(self) -> simpy.Event:
        """Happens when there is a request."""
        if not self._asks:
            self._knock = self._env.event()
        return self._knock

    def earliest_s(self) -> float:
        """When the first of the requests was made."""
        return min(ask.at_s for ask in self._asks)

    def take(self, before_s: float) -> list[Ask]:
        """The requests made before a moment, in order of time."""
        taken = sorted((ask for ask in self._asks if ask.at_s < before_s), key=lambda ask: (ask.at_s, ask.visit))
        self._asks = [ask for ask in self._asks if ask.at_s >= before_s]
        return taken


def arrivals(env: simpy.Environment, comings: Iterable[Coming], desk: Desk) -> Generator:
    """Let the visits of the day begin, in order of time."""
    latest: dict[int, simpy.Process] = {}
    for coming in comings:
        if coming.start_s > env.now:
            yield env.timeout(coming.start_s - env.now)
        former = latest.get(coming.user) if coming.user is not None else None
        process = env.process(visit(env, coming, desk, former))
        if coming.user is not None:
            latest[coming.user] = process


def visit(
    env: simpy.Environment, coming: Coming, desk: Desk, former: simpy.Process | None
) -> Generator[simpy.Event, Any, float]:
    """One visit: ask, act, ask again, until its user leaves; returns its end.

    A visit that would begin while the user's former one still goes on begins at its end.
    """
    at_s = coming.start_s if former is None else max(coming.start_s, (yield former))
    request, leaves = 0, False
    while not leaves:
        if at_s > env.now:
            yield env.timeout(at_s - env.now)
        at_s, leaves = yield desk.ask(coming.visit, request, at_s)
        request += 1
    return at_s


def rounds(
    env: simpy.Environment,
    desk: Desk,
    gather_s: float,
    begin: Callable[[float], float],
    serve: Callable[[NDArray[np.int64], NDArray[np.int64], Moments], Replies],
) -> Generator:
    """The desk at work.

    A queue is told of the requests of one round after those of the round before, though some come earlier. Where that
    would have changed waits, less is gathered at a time, down to a second; after a while in which it would not, more.

    Args:
        env: The clock.
        desk: Where requests lie.
        gather_s: Most simulated seconds whose requests are worked on together.
        begin: Told the beginning of such a time, from before which no request will come any more; gives the share of
            the past waits that requests told of later would have changed.
        serve: Given visits, numbers of request and moments of requests (B,), says what becomes of the visits.
    """
    span_s, calm = gather_s, 0
    while True:
        yield desk.someone()
        wrong = begin(float(np.floor(desk.earliest_s() / span_s) * span_s))
        calm = calm + 1 if wrong == 0.0 else 0
        if wrong > MOST_WRONG:
            span_s = max(span_s / 8, min(LEAST_SPAN_S, gather_s))
        elif calm >= CALM:
            span_s, calm = min(span_s * 2, gather_s), 0
        ends_s = (np.floor(desk.earliest_s() / span_s) + 1) * span_s
        yield env.timeout(max(0.0, ends_s - env.now))
        while asks := desk.take(ends_s):
            visits, requests, at_s, events = zip(*asks, strict=True)
            replies = serve(np.array(visits), np.array(requests), np.array(at_s))
            for event, *reply in zip(events, replies.next_s.tolist(), replies.leave.tolist(), strict=True):
                event.succeed(reply)
            yield env.timeout(0.0)
            yield env.timeout(0.0)  # visits that waited for the end of a former one have asked by now


def run_day(
    opens_s: float,
    comings: Iterable[Coming],
    gather_s: float,
    begin: Callable[[float], float],
    serve: Callable[[NDArray[np.int64], NDArray[np.int64], Moments], Replies],
) -> None:
    """Run the clock from ``opens_s`` until the last visit is over; see :func:`rounds`."""
    env = simpy.Environment(initial_time=opens_s)
    desk = Desk(env)
    env.process(arrivals(env, comings, desk))
    env.process(rounds(env, desk, gather_s, begin, serve))
    env.run()
