"""A queue with several servers, first come, first served, worked out for many jobs at once.

A job that joins takes the server that is free first: with servers free at F_1 <= ... <= F_c it starts at
max(arrival, F_1), and F_1 becomes its end (Kiefer & Wolfowitz, 1955). Where nobody waits, which one comparison of
sorted arrivals and ends tells, no job need be looked at singly.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


class Queue:
    """Jobs join in any order within the time that is open; each is told its start given those known so far.

    Args:
        servers: Number of servers.

    Attributes:
        overtaken: Jobs whose start would have been another, had all those before them been known when they joined.
        settled: Jobs that are past.
    """

    def __init__(self, servers: int) -> None:
        self._free_s = np.full(servers, -np.inf)
        self._arrive_s, self._service_s, self._told_s = np.zeros(0), np.zeros(0), np.zeros(0)
        self._tie = np.zeros(0, np.uint64)
        self.overtaken = 0
        self.settled = 0

    def join(self, arrive_s: Floats, service_s: Floats, tie: NDArray[np.uint64]) -> Floats:
        """Starts of further jobs, shape (n,); ``tie`` orders those that arrive at the same moment."""
        n = len(self._arrive_s)
        arrive = np.concatenate([self._arrive_s, arrive_s])
        service = np.concatenate([self._service_s, service_s])
        ties = np.concatenate([self._tie, tie])
        order = np.lexsort((ties, arrive))
        found = np.empty(len(arrive))
        found[order] = starts(arrive[order], service[order], self._free_s)
        self._arrive_s, self._service_s, self._tie = arrive, service, ties
        self._told_s = np.concatenate([self._told_s, found[n:]])
        return found[n:]

    def settle(self, before_s: float) -> None:
        """No further job will arrive before ``before_s``: those that did are past."""
        if not len(self._arrive_s):
            return
        order = np.lexsort((self._tie, self._arrive_s))
        arrive, service = self._arrive_s[order], self._service_s[order]
        told, ties = self._told_s[order], self._tie[order]
        past = int(np.searchsorted(arrive, before_s, side="left"))
        start = starts(arrive[:past], service[:past], self._free_s)
        self.overtaken += int((start != told[:past]).sum())
        self.settled += past
        servers = len(self._free_s)
        self._free_s = np.sort(np.concatenate([self._free_s, start + service[:past]]))[-servers:]
        self._arrive_s, self._service_s = arrive[past:], service[past:]
        self._told_s, self._tie = told[past:], ties[past:]
