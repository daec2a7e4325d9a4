"""A stage of serving: a queue with servers, service times, windows, a deadline and faults."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws, mixed, to_uniform
from simulator.platform.platform_config import LatencyConfig, StageConfig
from simulator.platform.queueing import Floats, Queue, QueueState
from simulator.world.visits import DAY_S

_ERROR = np.asarray(1)


class Outcome(IntEnum):
    """Outcome of a request at a stage."""

    ANSWERED = 0
    LATE = 1  # no answer by the deadline
    ERROR = 2  # an answer, but an error
    DOWN = 3  # refused at once


class ServingOutcome(NamedTuple):
    """What a stage did with B requests."""

    arrive_s: Floats  # (B,) seconds since the start of the log
    wait_s: Floats  # (B,) in window and queue, until a server takes it; 0 where refused
    service_s: Floats  # (B,) on the server; 0 where refused
    over_s: Floats  # (B,) when the platform has its answer or goes on without one
    outcome: NDArray[np.uint8]  # (B,) of Outcome


class Stage:
    """One stage through one day.

    Args:
        name: Its name; stages of the same name share their noise, whatever arm or world they stand in.
        keys: Servers, latency, window, deadline, faults.
        seed: Seed of the platform.
        day_0_s: Start of the first day after the warm-up, from which faults count.
    """

    def __init__(self, name: str, keys: StageConfig, *, seed: int, day_0_s: float) -> None:
        self._keys, self._day_0_s = keys, day_0_s
        self._window_s, self._deadline_s = keys.window_ms / 1e3, keys.deadline_ms / 1e3
        self._draws = Draws(seed, f"serving {name}")
        self._windows = np.zeros(0, np.int64)  # that are in the queue, in order
        self._window_start_s = np.zeros(0)
        self.queue = Queue(keys.servers)

    def serve(self, arrive_s: Floats, bits: NDArray[np.uint64]) -> ServingOutcome:
        """Pass B requests, in any order.

        Args:
            arrive_s: When each comes, shape (B,).
            bits: Key of each request's draws, shape (B,).
        """
        up = ~self._down(arrive_s)
        wait_s, service_s = np.zeros(len(arrive_s)), np.zeros(len(arrive_s))
        if up.any():
            wait_s[up], service_s[up] = self._pass(arrive_s[up], self._draws.bits(bits[up]))
        limit_s = arrive_s + self._deadline_s
        end_s = arrive_s + wait_s + service_s
        outcome = np.where(end_s > limit_s, Outcome.LATE, Outcome.ANSWERED).astype(np.uint8)
        rate = self._error_rate(arrive_s)
        if rate.any():
            failed = to_uniform(mixed(self._draws.bits(bits), _ERROR)) < rate
            outcome[failed & (outcome == Outcome.ANSWERED)] = Outcome.ERROR
        outcome[~up] = Outcome.DOWN
        return ServingOutcome(arrive_s, wait_s, service_s, np.where(up, np.minimum(end_s, limit_s), arrive_s), outcome)

    @property
    def state(self) -> tuple[QueueState, NDArray[np.int64], Floats]:
        """State of the stage's jobs, for ``restore``."""
        return self.queue.state, self._windows, self._window_start_s

    def restore(self, state: tuple[QueueState, NDArray[np.int64], Floats]) -> None:
        """Restore an earlier ``state``."""
        self.queue.state, self._windows, self._window_start_s = state
        self.queue.revised = False

    def settle(self, before_s: float) -> None:
        """No further request will come before ``before_s``."""
        self.queue.settle(before_s)
        if self._window_s:
            keep = (self._windows + 1) * self._window_s >= before_s
            self._windows, self._window_start_s = self._windows[keep], self._window_start_s[keep]

    def _pass(self, arrive_s: Floats, bits: NDArray[np.uint64]) -> tuple[Floats, Floats]:
        """Waits and service times."""
        if not self._window_s:
            service_s = self._service_s(arrive_s, bits)
            return self.queue.join(arrive_s, service_s, bits) - arrive_s, service_s
        window, job = np.unique(np.floor(arrive_s / self._window_s).astype(np.int64), return_inverse=True)
        closes_s: Floats = (window + 1).astype(np.float64) * self._window_s
        service_s = self._service_s(closes_s, self._draws.bits(window))
        new = ~np.isin(window, self._windows)
        begins_s = self.queue.join(closes_s[new], service_s[new], window[new].astype(np.uint64))
        windows = np.concatenate([self._windows, window[new]])
        start_s = np.concatenate([self._window_start_s, begins_s])
        order = np.argsort(windows)
        self._windows, self._window_start_s = windows[order], start_s[order]
        place = np.searchsorted(self._windows, window)
        return self._window_start_s[place][job] - arrive_s, service_s[job]

    def _service_s(self, at_s: Floats, bits: NDArray[np.uint64]) -> Floats:
        service_s = service_times(self._keys.latency, bits)
        for fault in self._keys.faults:
            if fault.slow != 1.0:
                service_s = np.where(
                    self._during(fault.from_day, fault.to_day, at_s), service_s * fault.slow, service_s
                )
        return service_s

    def _down(self, at_s: Floats) -> NDArray[np.bool_]:
        down = np.zeros(len(at_s), bool)
        for fault in self._keys.faults:
            if fault.down:
                down |= self._during(fault.from_day, fault.to_day, at_s)
        return down

    def _error_rate(self, at_s: Floats) -> Floats:
        good = np.ones(len(at_s))
        for fault in self._keys.faults:
            if fault.error_rate:
                good *= np.where(self._during(fault.from_day, fault.to_day, at_s), 1.0 - fault.error_rate, 1.0)
        return 1.0 - good

    def _during(self, from_day: float, to_day: float, at_s: Floats) -> NDArray[np.bool_]:
        day = (at_s - self._day_0_s) / DAY_S
        return (day >= from_day) & (day < to_day)


def service_times(keys: LatencyConfig, bits: NDArray[np.uint64]) -> Floats:
    """Service times in seconds, shape (n,), one per key."""
    mean_s = keys.mean_ms / 1e3
    if keys.kind == "constant" or mean_s == 0.0:
        return np.full(len(bits), mean_s)
    uniform = to_uniform(bits)
    if keys.kind == "exponential":
        return -mean_s * np.log(uniform)
    from scipy.special import ndtri

    times: Floats = mean_s * np.exp(keys.log_sd * ndtri(uniform) - 0.5 * keys.log_sd**2)
    return times
