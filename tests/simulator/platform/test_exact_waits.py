"""Waits on the platform against a first-come-first-served queue worked out job by job, for any batch window."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from simulator.platform.engine import Engine
from tests.simulator.platform.fakes import MAKERS, ScriptedUsers, fake_setting, run, table, tiny_keys

VISITS, REQUESTS, MEAN_S = 100, 3, 8.0
NEVER_MS = 1e12
WINDOWS = (None, 5.0, 3_600.0)


def waits_of_a_queue(arrive_s: np.ndarray, service_s: np.ndarray, servers: int) -> np.ndarray:
    """Kiefer & Wolfowitz (1955), one job after the other: the next job takes the server that is free first."""
    free_s, waits = [-np.inf] * servers, []
    for arrive, service in zip(arrive_s.tolist(), service_s.tolist(), strict=True):
        first = free_s.index(min(free_s))
        start = max(arrive, free_s[first])
        free_s[first] = start + service
        waits.append(start - arrive)
    return np.array(waits)


def visitors(load: float, servers: int, *, patience_s: float = 1e9, busy_s: float = 3.0) -> ScriptedUsers:
    """Visits at random moments that bring so much work to servers of ``MEAN_S`` a request."""
    rng = np.random.default_rng(7)
    gap_s = MEAN_S * REQUESTS / (servers * load)
    starts = np.cumsum(rng.exponential(gap_s, VISITS))
    users = rng.integers(0, 200, VISITS)  # some come several times a day
    return ScriptedUsers(
        list(zip(users.tolist(), starts.tolist(), strict=True)),
        n_requests=REQUESTS,
        busy_s=busy_s,
        patience_s=patience_s,
    )


def slow(servers: int, **keys: Any) -> dict[str, Any]:
    latency = {"kind": "exponential", "mean_ms": MEAN_S * 1e3}
    return {"latency": latency, "servers": servers, "deadline_ms": NEVER_MS, **keys}


def stage_keys(stage: str, **keys: Any) -> dict[str, Any]:
    return {"ranking": keys} if stage == "ranking" else {"channels": {stage: keys}}


def serving(folder: Path, stage: str) -> pl.DataFrame:
    """What the stage did on the second day: on the first there is nothing to train a ranking model on."""
    rows = table(folder, "serving", 1).filter(pl.col("stage") == stage)
    return rows.sort("arrived_s", "wait_ms")  # requests of one window reach ranking at the same moment, in any order


@pytest.mark.parametrize("load", [0.5, 0.9, 1.5])
@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize("stage", ["b", "ranking"])
def test_waits_are_those_of_an_exact_queue_whatever_the_batch_window(tmp_path, stage, servers, load):
    logs = []
    for window_s in WINDOWS:
        keys = tiny_keys(pipeline=stage_keys(stage, **slow(servers)), batch_window_s=window_s)
        folder = tmp_path / str(window_s)
        Engine(keys, fake_setting(200), visitors(load, servers), MAKERS, folder).run(2)
        rows = serving(folder, stage)
        found = rows["wait_ms"].to_numpy() / 1e3
        exact = waits_of_a_queue(rows["arrived_s"].to_numpy(), rows["service_ms"].to_numpy() / 1e3, servers)
        assert len(found) == VISITS * REQUESTS
        assert np.abs(found - exact).max() < 1e-9 * max(1.0, exact.max())
        assert exact.mean() > (0.2 if load < 1 else 5.0)  # there is a queue at all
        logs.append(
            [table(folder, name) for name in ("requests", "impressions", "behaviours", "serving", "ground_truth")]
        )
    for others in logs[1:]:
        assert all(one.equals(other) for one, other in zip(logs[0], others, strict=True))


def test_both_stages_slow_and_users_who_give_up_and_come_back(tmp_path):
    """A user who gives up asks again while the old request is still in the channel's queue, and later in ranking's."""

    class Impatient(ScriptedUsers):
        def abandon(self, visits, now_s, request):
            left = super().abandon(visits, now_s, request)
            return left._replace(busy_s=np.full(len(visits), 2.0), leave=request + 1 >= self._n_requests)

        def wait_s(self, visits, request):
            return 5.0 + (visits * 7 + request * 3) % 11

    logs = []
    for window_s in WINDOWS:
        channels = {"b": slow(2), "a": {"servers": 1, "window_ms": 4_000.0, "deadline_ms": NEVER_MS}}
        keys = tiny_keys(pipeline={"channels": channels, "ranking": slow(1)}, batch_window_s=window_s)
        users = visitors(0.9, 1)
        impatient = Impatient(users._visits, n_requests=REQUESTS, busy_s=3.0)
        folder = tmp_path / str(window_s)
        run(folder, impatient, keys, 2, setting=fake_setting(200))
        for stage, servers in (("b", 2), ("ranking", 1)):
            rows = serving(folder, stage)
            exact = waits_of_a_queue(rows["arrived_s"].to_numpy(), rows["service_ms"].to_numpy() / 1e3, servers)
            assert np.abs(rows["wait_ms"].to_numpy() / 1e3 - exact).max() < 1e-9 * exact.max()
        logs.append(
            [table(folder, name) for name in ("requests", "impressions", "behaviours", "serving", "ground_truth")]
        )
    results = logs[0][0]["result"].value_counts().rows()
    assert dict(results)["abandoned"] > 50
    assert dict(results)["slate"] > 50
    for others in logs[1:]:
        assert all(one.equals(other) for one, other in zip(logs[0], others, strict=True))


def test_a_windowed_stage_queues_its_jobs_in_order(tmp_path):
    """Jobs of 4 s windows on one server of 8 s: the start of each is that of an exact queue of windows."""
    keys = tiny_keys(pipeline=stage_keys("b", **slow(1, window_ms=4_000.0)), batch_window_s=None)
    run(tmp_path, visitors(0.9, 1), keys, 2, setting=fake_setting(200))
    rows = serving(tmp_path, "b").with_columns(window=(pl.col("arrived_s") / 4.0).floor())
    jobs = rows.group_by("window").agg(pl.col("service_ms").first(), pl.len()).sort("window")
    closes_s = (jobs["window"].to_numpy() + 1) * 4.0
    waits = waits_of_a_queue(closes_s, jobs["service_ms"].to_numpy() / 1e3, 1)
    start_s = dict(zip(jobs["window"].to_list(), (closes_s + waits).tolist(), strict=True))
    expected = np.array([start_s[window] for window in rows["window"].to_list()]) - rows["arrived_s"].to_numpy()
    assert jobs["len"].max() > 1
    np.testing.assert_allclose(rows["wait_ms"].to_numpy() / 1e3, expected, rtol=0, atol=1e-7)


class GivesUp(ScriptedUsers):
    """Waits ten seconds and leaves."""

    def wait_s(self, visits, request):
        return np.full(len(visits), 10.0)


@pytest.mark.parametrize("stage", ["b", "ranking"])
@pytest.mark.parametrize("seed", range(4))
def test_everything_at_the_same_moments(tmp_path, stage, seed):
    """On whole tens of seconds users give up, come again and ask at once: among equals the cause goes first."""
    rng = np.random.default_rng(seed)
    visits = list(zip(rng.integers(0, 6, 30).tolist(), (10.0 * rng.integers(0, 12, 30)).tolist(), strict=True))
    stages = {name: {"latency": {"kind": "constant", "mean_ms": 0.0}} for name in ("a", "b", "ranking")}
    stages[stage] = slow(1, latency={"kind": "constant", "mean_ms": 20_000.0})
    pipeline = {"channels": {name: stages[name] for name in ("a", "b")}, "ranking": stages["ranking"]}
    logs = []
    for window_s in (None, 5.0, 25.0, 3_600.0):
        folder = tmp_path / str(window_s)
        users = GivesUp(visits, n_requests=2)
        run(folder, users, tiny_keys(pipeline=pipeline, batch_window_s=window_s), 2, setting=fake_setting(20))
        rows = serving(folder, stage)
        exact = waits_of_a_queue(rows["arrived_s"].to_numpy(), rows["service_ms"].to_numpy() / 1e3, 1)
        assert np.abs(rows["wait_ms"].to_numpy() / 1e3 - exact).max() < 1e-9 * max(1.0, exact.max())
        logs.append(
            [table(folder, name) for name in ("requests", "impressions", "behaviours", "serving", "ground_truth")]
        )
    for others in logs[1:]:
        assert all(one.equals(other) for one, other in zip(logs[0], others, strict=True))
