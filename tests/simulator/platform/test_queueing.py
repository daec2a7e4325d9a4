"""Queues against theory, against SimPy's own resource, and by hand."""

import itertools
from math import factorial

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.draws import Draws
from simulator.platform.platform_config import StageConfig
from simulator.platform.queueing import Queue, starts
from simulator.platform.stage import Outcome, Stage


def erlang_c(servers: int, load: float) -> float:
    """Chance of waiting in M/M/c with ``load`` = arrivals * mean service (Erlang, 1917)."""
    top = load**servers / factorial(servers) * servers / (servers - load)
    return top / (sum(load**k / factorial(k) for k in range(servers)) + top)


def resource_starts(arrive_s: list[float], service_s: list[float], servers: int) -> list[float]:
    """The same queue as SimPy processes, one event at a time."""
    env, found = simpy.Environment(), {}
    resource = simpy.Resource(env, servers)

    def job(number: int):
        yield env.timeout(arrive_s[number])
        with resource.request() as request:
            yield request
            found[number] = env.now
            yield env.timeout(service_s[number])

    for number in range(len(arrive_s)):
        env.process(job(number))
    env.run()
    return [found[number] for number in range(len(arrive_s))]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=40, unique_by=lambda job: job[0]),
    st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_starts_are_those_of_simpy(jobs, servers):
    arrive, service = (np.array(part, float) for part in zip(*sorted(jobs), strict=True))
    expected = resource_starts(arrive.tolist(), service.tolist(), servers)
    assert starts(arrive, service, np.full(servers, -np.inf)).tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), min_size=2, max_size=30, unique_by=lambda job: job[0]),
    st.integers(1, 3),
    st.integers(1, 39),
)
@settings(max_examples=60, deadline=None)
def test_a_queue_settled_on_the_way_goes_on_as_if_it_were_not(jobs, servers, cut):
    arrive, service = (np.array(part, float) for part in zip(*sorted(jobs), strict=True))
    tie = np.zeros(len(arrive), np.uint64)
    queue, early = Queue(servers), arrive < cut
    first = queue.join(arrive[early], service[early], tie[early])
    queue.settle(cut)
    second = queue.join(arrive[~early], service[~early], tie[~early])
    assert np.concatenate([first, second]).tolist() == resource_starts(arrive.tolist(), service.tolist(), servers)
    queue.settle(np.inf)
    assert (queue.state.settled, queue.revised) == (len(jobs), False)


def test_a_job_known_later_that_came_first_revises_what_was_told():
    queue, one = Queue(1), np.zeros(1, np.uint64)
    before = queue.state
    assert queue.join(np.array([5.0]), np.array([4.0]), one).tolist() == [5.0]
    assert not queue.revised
    assert queue.join(np.array([3.0]), np.array([4.0]), one).tolist() == [3.0]
    assert queue.revised  # with both known, the first would have started at 7
    queue.state, queue.revised = before, False
    assert queue.join(np.array([5.0, 3.0]), np.array([4.0, 4.0]), np.zeros(2, np.uint64)).tolist() == [7.0, 3.0]


def poisson(n: int, rate: float) -> np.ndarray:
    return np.cumsum(-np.log(Draws(3, "arrivals").uniform(np.arange(n))) / rate)


def stage_of(servers: int, **keys) -> Stage:
    keys = {"latency": {"kind": "exponential", "mean_ms": 100.0}, "deadline_ms": 1e9, **keys}
    return Stage("test", StageConfig.model_validate({"servers": servers, **keys}), seed=1, day_0_s=0.0)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (3, 2.4), (10, 8.0)])
def test_waits_are_those_of_erlang_c_and_littles_law_holds(servers, load):
    n, mean_s = 200_000, 0.1
    arrive_s = poisson(n, load / mean_s)
    served = stage_of(servers).serve(arrive_s, Draws(3, "jobs").bits(np.arange(n)))
    waits = erlang_c(servers, load)
    # blocks of 2,000 jobs are all but independent: their spread gives the standard error
    waited = (served.wait_s > 0).reshape(-1, 2_000).mean(axis=1)
    mean_wait_s = served.wait_s.reshape(-1, 2_000).mean(axis=1)
    assert abs(waited.mean() - waits) < 4 * waited.std() / np.sqrt(len(waited))
    expected_s = waits * mean_s / (servers - load)
    assert abs(mean_wait_s.mean() - expected_s) < 4 * mean_wait_s.std() / np.sqrt(len(mean_wait_s))
    # L = lambda W, L counted by walking through all arrivals and departures in order of time
    moments = np.concatenate([arrive_s, served.over_s])
    order = np.argsort(moments, kind="stable")
    inside = np.cumsum(np.repeat([1, -1], n)[order])
    whole_s = moments.max() - moments.min()
    mean_inside = (inside[:-1] * np.diff(moments[order])).sum() / whole_s
    rate, mean_stay_s = n / whole_s, (served.over_s - arrive_s).mean()
    assert mean_inside == pytest.approx(rate * mean_stay_s, rel=1e-9)
    assert mean_inside == pytest.approx(load + waits * load / (servers - load), rel=0.08)


def test_more_servers_no_longer_wait():
    arrive_s, bits = poisson(5_000, 60.0), Draws(3, "jobs").bits(np.arange(5_000))
    waits = [stage_of(servers).serve(arrive_s, bits).wait_s for servers in (7, 8, 9, 20)]
    for fewer, more in itertools.pairwise(waits):
        assert (more <= fewer + 1e-9).all()
    assert waits[0].mean() > 0.01 > waits[-1].mean()


def test_a_window_is_a_latency_and_its_requests_are_one_job():
    stage = stage_of(1, window_ms=100.0, latency={"kind": "constant", "mean_ms": 40.0})
    arrive_s = np.array([0.01, 0.05, 0.12, 0.31])
    served = stage.serve(arrive_s, np.arange(4).astype(np.uint64))
    np.testing.assert_allclose(served.over_s, [0.14, 0.14, 0.24, 0.44])
    np.testing.assert_allclose(served.wait_s, [0.09, 0.05, 0.08, 0.09])
    again = stage.serve(np.array([0.07]), np.zeros(1, np.uint64))  # a later round finds the window's job
    np.testing.assert_allclose(again.over_s, [0.14])
    stage.settle(np.inf)
    assert stage.queue.state.settled == 3


def test_deadlines_and_faults():
    day_s = 86_400.0
    faults = [
        {"from_day": 0.0, "to_day": 0.25, "down": True},
        {"from_day": 0.5, "to_day": 0.75, "slow": 100.0},
        {"from_day": 0.75, "to_day": 1.0, "error_rate": 1.0},
    ]
    stage = stage_of(4, latency={"kind": "constant", "mean_ms": 10.0}, deadline_ms=150.0, faults=faults)
    arrive_s = np.array([0.1, 0.3, 0.6, 0.8]) * day_s
    served = stage.serve(arrive_s, np.arange(4).astype(np.uint64))
    assert served.outcome.tolist() == [Outcome.DOWN, Outcome.ANSWERED, Outcome.LATE, Outcome.ERROR]
    np.testing.assert_allclose(served.over_s - arrive_s, [0.0, 0.01, 0.15, 0.01], atol=1e-9)
    np.testing.assert_allclose(served.service_s, [0.0, 0.01, 1.0, 0.01])


@pytest.mark.parametrize("kind", ["exponential", "lognormal"])
def test_service_times_have_the_mean_they_should(kind):
    stage = stage_of(10_000, latency={"kind": kind, "mean_ms": 20.0, "log_sd": 0.8})
    served = stage.serve(np.arange(40_000.0), Draws(1, "x").bits(np.arange(40_000)))
    assert served.service_s.mean() == pytest.approx(0.02, abs=4 * served.service_s.std() / 200)


def test_errors_come_as_often_as_they_should():
    stage = stage_of(4, faults=[{"from_day": -1.0, "to_day": 9.0, "error_rate": 0.3}])
    served = stage.serve(np.arange(10_000.0), Draws(1, "x").bits(np.arange(10_000)))
    assert (served.outcome == Outcome.ERROR).mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 10_000))
