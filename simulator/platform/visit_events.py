"""The day on a simulated clock: visits begin, ask, are answered, act and ask again, as SimPy processes in seconds.

There is one driver for all arrivals and a process for each visit under way; requests, not impressions or idle users,
are events. Requests of a window of time are worked on together, for speed alone: every request keeps its own times, and
queues serve in the order of arrival whatever the window. A window is first taken whole, in rounds: a round holds at
most one request of each visit, and what a user asks next within the window goes into the next round. Where a request of
a later round turns out to change a wait that has been told, the window is taken back and ends before the first of
these requests; then it has one round only, in which all that happens is known.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.platform.service import Replies, ServiceState

_ROUNDING_S = 1e-6  # the clock may miss a moment by the rounding of a difference


class Arrival(NamedTuple):
    """A future visit."""

    visit: int  # row of the day's visits
    start_s: float  # seconds since the start of the log
    former: int | None  # the same user's visit before it on the same day
    followed: bool  # whether there is another after it


class Ask(NamedTuple):
    """A request that is due in the future, or made but not processed yet."""

    at_s: float
    visit: int
    request: int  # number within the visit, from 0


class Reply(NamedTuple):
    """Where a visit stands at the end of a window."""

    next_s: float  # when the user asks again, or has left
    request: int  # number of the next request
    leave: bool


class Server(Protocol):
    """Works on requests; :class:`simulator.platform.service.Service` says more."""

    @property
    def due_s(self) -> float: ...

    def settle(self, before_s: float) -> None: ...

    def mark(self) -> ServiceState: ...

    def take_back(self, mark: ServiceState) -> None: ...

    def ask(self, visits: NDArray[np.int64], requests: NDArray[np.int64], at_s: NDArray[np.float64]) -> None: ...

    def due(self, before_s: float) -> Replies | None: ...


class _Window(NamedTuple):
    """What came of a window."""

    stands: dict[int, Reply]  # of visits that wait for no answer
    begun: dict[int, Ask]  # first requests of visits that waited for the end of a former one, by that one


class RequestBatcher:
    """Collects the requests of visits, has the server process them window by window, and passes visits the outcome.

    Args:
        env: The clock, in seconds since the start of the log.
        server: Works on the requests.
        window_s: Longest window.
        progress: Called after each window.
    """

    def __init__(
        self, env: simpy.Environment, server: Server, window_s: float, progress: Callable[[], None] = lambda: None
    ) -> None:
        self._env, self._server, self._progress = env, server, progress
        self._most_s = self._span_s = window_s
        self._asks: dict[int, Ask] = {}  # by visit
        self._events: dict[int, simpy.Event] = {}  # by visit
        self._followers: dict[int, Arrival] = {}  # that wait for the end of a visit, by that visit
        self._followed: set[int] = set()  # visits under way after which the same user comes again
        self._ended_s: dict[int, float] = {}  # of visits that are followed
        self._wake = env.event()

    def begin(self, arrival: Arrival) -> simpy.Event:
        """The first request of a visit, at its start or at the end of the user's former one; brings a Reply."""
        if arrival.followed:
            self._followed.add(arrival.visit)
        if arrival.former in self._followed:
            self._followers[arrival.former] = arrival
            return self._expect(arrival.visit)
        ended_s = -np.inf if arrival.former is None else self._ended_s.pop(arrival.former)
        return self.ask(arrival.visit, 0, float(max(arrival.start_s, ended_s)))

    def ask(self, visit: int, request: int, at_s: float) -> simpy.Event:
        """A request; the event brings a :class:`Reply`."""
        self._asks[visit] = Ask(at_s, visit, request)
        return self._expect(visit)

    def run(self) -> Generator:
        """The process that works on window after window."""
        while True:
            while not self._asks and self._server.due_s == np.inf:
                self._wake = self._env.event()
                yield self._wake
            begins_s = min(self._server.due_s, min((ask.at_s for ask in self._asks.values()), default=np.inf))
            if begins_s > self._env.now + _ROUNDING_S:  # visits that rest until then may ask before
                yield self._env.timeout(begins_s - self._env.now)
                continue
            ends_s = begins_s + self._span_s
            if ends_s > self._env.now:
                yield self._env.timeout(ends_s - self._env.now)
            self._server.settle(begins_s)
            mark = self._server.mark()
            window, first_later_s = self._work(ends_s)
            if window is None:
                self._server.take_back(mark)
                ends_s = max(first_later_s, np.nextafter(begins_s, np.inf))
                self._span_s = ends_s - begins_s
                window, _ = self._work(ends_s)
                assert window is not None, "all that arrives in a window of one round is known when it is worked on"
            else:
                self._span_s = min(2.0 * self._span_s, self._most_s)
            self._tell(window, ends_s)
            self._progress()
            yield self._env.timeout(0.0)  # visits that ask again at once have done so

    def _expect(self, visit: int) -> simpy.Event:
        self._events[visit] = event = self._env.event()
        if not self._wake.triggered:
            self._wake.succeed()
        return event

    def _work(self, ends_s: float) -> tuple[_Window | None, float]:
        """One window, in rounds.

        Returns:
            What came of it, None if a wait was told wrongly; and when the first request was made that was not known
            at the beginning.
        """
        asks = sorted(ask for ask in self._asks.values() if ask.at_s < ends_s)
        window, first_later_s = _Window({}, {}), np.inf
        while True:
            if asks:
                at_s, visits, requests = zip(*asks, strict=True)
                self._server.ask(np.array(visits), np.array(requests), np.array(at_s, dtype=np.float64))
            replies = self._server.due(ends_s)
            if replies is None:
                return None, first_later_s
            if not len(replies.visit):
                return window, first_later_s
            asks = []
            for visit, request, next_s, leave in zip(*(part.tolist() for part in replies), strict=True):
                if not leave and next_s < ends_s:
                    asks.append(Ask(next_s, visit, request + 1))
                    continue
                window.stands[visit] = Reply(next_s, request + 1, leave)
                if leave and visit in self._followers:
                    follower = self._followers[visit]
                    ask = Ask(max(follower.start_s, next_s), follower.visit, 0)
                    window.begun[visit] = ask
                    asks += [ask] if ask.at_s < ends_s else []
            asks.sort()
            first_later_s = min([first_later_s, *(ask.at_s for ask in asks[:1])])

    def _tell(self, window: _Window, ends_s: float) -> None:
        """Take in what came of a window, and wake the visits."""
        self._asks = {visit: ask for visit, ask in self._asks.items() if ask.at_s >= ends_s}
        for former, ask in window.begun.items():
            del self._followers[former]
            if ask.at_s >= ends_s:
                self._asks[ask.visit] = ask
        for visit, reply in window.stands.items():
            if reply.leave and visit in self._followed:
                self._followed.remove(visit)
                if visit not in window.begun:
                    self._ended_s[visit] = reply.next_s
            self._events.pop(visit).succeed(reply)


def arrivals(env: simpy.Environment, coming: Iterable[Arrival], batcher: RequestBatcher) -> Generator:
    """Let the visits of the day begin, in order of time."""
    for arrival in coming:
        if arrival.start_s > env.now:
            yield env.timeout(arrival.start_s - env.now)
        env.process(visit(env, arrival, batcher))


def visit(env: simpy.Environment, arrival: Arrival, batcher: RequestBatcher) -> Generator[simpy.Event, Any, float]:
    """One visit: ask, act, ask again, until its user leaves; returns its end.

    A visit that would begin while the user's former one still goes on begins at its end.
    """
    reply = yield batcher.begin(arrival)
    while not reply.leave:
        if reply.next_s > env.now:
            yield env.timeout(reply.next_s - env.now)
        reply = yield batcher.ask(arrival.visit, reply.request, reply.next_s)
    return float(reply.next_s)


def run_day(
    opens_s: float,
    coming: Iterable[Arrival],
    window_s: float,
    server: Server,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Run the clock from ``opens_s`` until the last visit is over; see :class:`RequestBatcher`."""
    env = simpy.Environment(initial_time=opens_s)
    batcher = RequestBatcher(env, server, window_s, progress)
    env.process(arrivals(env, coming, batcher))
    env.process(batcher.run())
    env.run()
