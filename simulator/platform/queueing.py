"""A queue with several servers, first come, first served, computed for many jobs at once.

A job that joins takes the server that is free first: with servers free at F_1 <= ... <= F_c it starts at
max(arrival, F_1), and F_1 becomes its end (Kiefer & Wolfowitz, 1955). Where nobody waits, which one comparison of
sorted arrivals and ends tells, no job need be looked at singly.
"""

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LAST = np.uint64(2**64 - 1)


def starts(arrive_s: Floats, service_s: Floats, free_s: Floats) -> Floats:
    """When each job starts, shape (n,).

    Args:
        arrive_s: Arrivals in order of time, shape (n,).
        service_s: Service times, shape (n,).
        free_s: When each of the servers is free of former jobs, shape (c,).
    """
    ends = np.sort(np.concatenate([free_s, arrive_s + service_s]))
    ended = np.searchsorted(ends, arrive_s, side="right")
    if np.all(ended > np.arange(len(arrive_s))):  # of c + i servers taken before job i, more than i are free again
        return arrive_s.copy()
    heap = sorted(free_s.tolist())
    found = np.empty(len(arrive_s))
    for i, (arrive, service) in enumerate(zip(arrive_s.tolist(), service_s.tolist(), strict=True)):
        start = max(arrive, heap[0])
        found[i] = start
        heapq.heapreplace(heap, start + service)
    return found


class QueueState(NamedTuple):
    """State of a queue; arrays are never changed in place, so that a state can be kept and restored."""

    free_s: Floats  # (c,) when each server is free of settled jobs
    arrive_s: Floats  # (n,) of jobs that are not settled, in the order in which they are served
    service_s: Floats  # (n,)
    start_s: Floats  # (n,) as last given out
    tie: NDArray[np.uint64]  # (n,) orders jobs that arrive at the same moment
    settled: int


class Queue:
    """First come, first served, whatever the order in which jobs are made known within the time that is open.

    Each job gets its start given the jobs known so far. A later one that arrives before it may prove that wrong:
    ``revised`` then says so, and the caller takes up a former ``state`` and makes the jobs known in their order.

    Args:
        servers: Number of servers.

    Attributes:
        revised: Whether the start of a job that had been told is another one by now.
        behind: Whether a job that is made known later stands behind those that arrive at the very same moment, whatever
            its tie: so it is where the one brought the other about, as a user who gives up and asks again at once.
        state: Everything else.
    """

    def __init__(self, servers: int) -> None:
        none = np.zeros(0)
        self.state = QueueState(np.full(servers, -np.inf), none, none, none, np.zeros(0, np.uint64), 0)
        self.revised = self.behind = False

    def join(self, arrive_s: Floats, service_s: Floats, tie: NDArray[np.uint64]) -> Floats:
        """Starts of further jobs, shape (n,); ``tie`` orders those that arrive at the same moment."""
        known = self.state
        if self.behind:
            tie = np.where(np.isin(arrive_s, known.arrive_s), _LAST, tie)  # equal ties keep the order of joining
        is_new, own = _merged(known, arrive_s, tie)
        arrive, service, ties = np.empty(len(is_new)), np.empty(len(is_new)), np.empty(len(is_new), np.uint64)
        for whole, new, old in (
            (arrive, arrive_s, known.arrive_s),
            (service, service_s, known.service_s),
            (ties, tie, known.tie),
        ):
            whole[is_new], whole[~is_new] = new[own], old
        found = starts(arrive, service, known.free_s)
        self.revised |= bool((found[~is_new] != known.start_s).any())
        self.state = known._replace(arrive_s=arrive, service_s=service, start_s=found, tie=ties)
        told = np.empty(len(own))
        told[own] = found[is_new]
        return told

    def settle(self, before_s: float) -> None:
        """No further job will arrive before ``before_s``: those that did are past."""
        known = self.state
        past = known.arrive_s < before_s
        if not past.any():
            return
        ends = known.start_s[past] + known.service_s[past]
        left = ~past
        self.state = QueueState(
            free_s=np.sort(np.concatenate([known.free_s, ends]))[-len(known.free_s) :],
            arrive_s=known.arrive_s[left],
            service_s=known.service_s[left],
            start_s=known.start_s[left],
            tie=known.tie[left],
            settled=known.settled + int(past.sum()),
        )


def _merged(
    known: QueueState, arrive_s: Floats, tie: NDArray[np.uint64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which jobs of all in their order are new, shape (n + m,), and the new ones (m,) in their order."""
    n, own = len(known.arrive_s), np.lexsort((tie, arrive_s))
    place = np.searchsorted(known.arrive_s, arrive_s[own], side="right")
    if n and (known.arrive_s[np.maximum(place - 1, 0)] == arrive_s[own]).any():  # ties decide
        order = np.lexsort((np.concatenate([known.tie, tie]), np.concatenate([known.arrive_s, arrive_s])))
        is_new = order >= n
        return is_new, order[is_new] - n
    is_new = np.zeros(n + len(own), bool)
    is_new[place + np.arange(len(own))] = True
    return is_new, own
