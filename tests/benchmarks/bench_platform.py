"""How many requests per second does the whole funnel serve on one core, where does the time go, and what is the floor?

    python tests/benchmarks/bench_platform.py --users 60000 --items 20000 --days 3

Five channels (two-tower by matrix product and partial sort in NumPy, top 500 of all items; item-CF, popular, fresh and
tag as they are), 300 candidates ranked, slates of 10, users of :mod:`simulator.population`, all queues, logs and
checkpoints. Rates are per second of processor time of the one process, beside wall time, as the machine is shared;
``--processes 2`` runs the same on two cores at once and adds up.

    python tests/benchmarks/bench_platform.py --users 6000 --items 5000 --days 14 --log-days 3

Is memory flat in requests, and the rate over simulated time? Once ``--log-days`` days are over, what trainers see has
its full size; ``--log-days 0`` keeps all days.

The floor is the arithmetic that no funnel of this size can do without, at the speed it has here when done alone.
"""

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from micrec.settings import validate
from simulator.channels import channel_trainer
from simulator.platform import service, slates
from simulator.platform.engine import Engine
from simulator.platform.model_registry import TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.ports import Candidates, ObservedLog, Requests
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

DIM, TOP, RANKED, SLATE = 64, 500, 300, 10


class TwoTower:
    """Random embeddings, exact top k."""

    def __init__(self, users: int, items: int) -> None:
        rng = np.random.default_rng(0)
        self._users = rng.standard_normal((users, DIM), np.float32)
        self._items = rng.standard_normal((items, DIM), np.float32)

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        folder.mkdir()

    def load(self, folder: Path) -> "TwoTower":
        return self

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        scores = self._users[requests.user_ids] @ self._items.T
        top = np.argpartition(scores, -k, axis=1)[:, -k:]
        found = np.take_along_axis(scores, top, axis=1)
        order = np.argsort(-found, axis=1)
        return Candidates(np.take_along_axis(top, order, axis=1), np.take_along_axis(found, order, axis=1))

    def score(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        products = np.einsum("bd,bcd->bc", self._users[requests.user_ids], self._items[items])
        return np.where(items >= 0, products, -np.inf).astype(np.float32)


class Clock:
    """Processor seconds by part; parts within parts are taken off the outer one."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = defaultdict(float)
        self._inner_s = [0.0]

    def timed(self, part: str, function: Callable) -> Callable:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._inner_s.append(0.0)
            began_s = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                whole_s = time.process_time() - began_s
                self.spent_s[part] += whole_s - self._inner_s.pop()
                self._inner_s[-1] += whole_s

        return wrapped


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serve the days; what it took."""
    world = World.build(
        WorldConfig.model_validate(
            {
                "days": args.days,
                "users": {"count": args.users},
                "items": {"count": args.items, "providers": 1_000},
                "sessions": {"per_user": 6.0},
            }
        )
    )
    setting = PlatformInputs.of(world)
    clock = Clock()
    two_tower = TwoTower(args.users, len(setting.items))
    kinds = {
        kind: (lambda options, kind=kind: channel_trainer(kind, options))
        for kind in ("item_cf", "popular", "fresh", "tag")
    }
    makers = TrainerFactories({"two_tower": lambda options: two_tower, **kinds}, {"ctr": lambda options: two_tower})
    channels = {kind: {"kind": kind, "k": 100} for kind in kinds} | {"two_tower": {"kind": "two_tower", "k": TOP}}
    keys = validate(
        PlatformConfig,
        {
            "warmup_days": args.days,
            "log_days": args.log_days or None,
            "pipeline": {"channels": {name: {**channel, "servers": 64} for name, channel in channels.items()}},
        },
        where="benchmark",
    )
    population = Population.build(world, PopulationConfig())
    for name in ("respond", "wait_s", "abandon"):
        setattr(population, name, clock.timed("users", getattr(population, name)))
    slates.merge = clock.timed("merge", slates.merge)
    slates.SlateBuilder._retrieve = retrieve_timed(clock, slates.SlateBuilder._retrieve)
    slates.SlateBuilder._rank = clock.timed("ranking", slates.SlateBuilder._rank)
    slates.SlateBuilder._choose = clock.timed("slate", slates.SlateBuilder._choose)
    slates.Shown.mask = clock.timed("shown", slates.Shown.mask)
    slates.without = clock.timed("shown", slates.without)
    slates.SlateBuilder.make = clock.timed("slates, rest", slates.SlateBuilder.make)
    for name in ("pass_channels", "pass_ranking", "join_pending"):
        setattr(service, name, clock.timed("timetable", getattr(service, name)))
    for name in ("_log_requests", "_log_serving", "_log_slates"):
        setattr(service.Service, name, clock.timed("log rows", getattr(service.Service, name)))
    for name in ("ask", "due"):
        setattr(service.Service, name, clock.timed("service, rest", getattr(service.Service, name)))
    for name in ("_remember", "mark"):
        setattr(service.Service, name, clock.timed("marks", getattr(service.Service, name)))
    service.DayLog.flush = clock.timed("log files", service.DayLog.flush)
    Engine._serve = clock.timed("SimPy", Engine._serve)
    Engine._morning = clock.timed("mornings", Engine._morning)
    folder = Path(tempfile.mkdtemp(prefix="bench-platform-"))
    rates, rss, held, mornings = [], [], [], []
    try:
        engine = Engine(keys, setting, population, makers, folder / "run")
        began = time.perf_counter(), time.process_time()
        for day in range(args.days):
            morning_s = clock.spent_s["mornings"]
            before_s = time.process_time() - morning_s
            engine.run(day + 1)
            spent_s = time.process_time() - clock.spent_s["mornings"] - before_s
            mornings.append(clock.spent_s["mornings"] - morning_s)
            table = pl.scan_parquet(folder / "run" / f"day-{day:04d}" / "requests-*.parquet")
            rates.append(table.select(pl.len()).collect().item() / spent_s)
            held.append(held_mb())
            rss.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        wall_s, cpu_s = time.perf_counter() - began[0], time.process_time() - began[1]
        requests = pl.scan_parquet(folder / "run" / "day-*" / "requests-*.parquet").select(pl.len()).collect().item()
        size = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    finally:
        shutil.rmtree(folder)
    return {
        "requests": requests,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "rates": rates,
        "rss": rss,
        "held": held,
        "mornings": mornings,
        "bytes": size / requests,
        "parts": dict(clock.spent_s),
    }


def held_mb() -> float:
    """Memory that the process holds now (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 1e6


def retrieve_timed(clock: Clock, function: Callable) -> Callable:
    """Times each channel apart."""
    by_name: dict[str, Callable] = {}

    def wrapped(self: Any, name: str, *args: Any) -> Any:
        return by_name.setdefault(name, clock.timed(f"channel {name}", function))(self, name, *args)

    return wrapped


def floor_us(items: int) -> dict[str, float]:
    """Microseconds of processor time per request of the bare arithmetic, in batches of 256."""
    rng = np.random.default_rng(0)
    tower = TwoTower(256, items)
    user = np.arange(256)
    candidates = rng.integers(items, size=(256, RANKED))
    scores = tower._users @ tower._items.T

    def measured(function: Callable) -> float:
        times = []
        for _ in range(7):
            began_s = time.process_time()
            function()
            times.append(time.process_time() - began_s)
        return float(np.median(times)) / 256 * 1e6

    return {
        f"{items} x {DIM} products": measured(lambda: tower._users[user] @ tower._items.T),
        f"top {TOP} of {items}": measured(lambda: np.argpartition(scores, -TOP, axis=1)),
        f"{RANKED} x {DIM} products of gathered rows": measured(
            lambda: np.einsum("bd,bcd->bc", tower._users[user], tower._items[candidates])
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--log-days", type=int, default=14)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    flops, read = 2 * args.items * DIM, args.items * DIM * 4 / 256 + RANKED * DIM * 4
    print(
        f"floor per request: {flops / 1e6:.2f} MFLOP of products, {args.items} scores to part, {read / 1e3:.0f} kB read"
    )
    floor = floor_us(args.items)
    for name, us in floor.items():
        print(f"  {name}: {us:.0f} us")
    if args.processes == 1:
        results = [run(args)]
    else:
        with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
            results = pool.map(run, [args] * args.processes)
    for result in results:
        served_s = result["cpu_s"] - result["parts"]["mornings"]
        per_request_us = served_s / result["requests"] * 1e6
        print(
            f"{result['requests']:,} requests in {result['wall_s']:.1f} s, {result['cpu_s']:.1f} s of processor time, "
            f"{result['parts']['mornings']:.1f} s of them mornings: {1e6 / per_request_us:,.0f} requests/s, "
            f"{per_request_us:.0f} us each, floor {sum(floor.values()) / per_request_us:.0%} of it"
        )
        print("  by day: " + ", ".join(f"{rate:,.0f}/s" for rate in result["rates"]))
        print("  mornings: " + ", ".join(f"{spent_s:.1f} s" for spent_s in result["mornings"]))
        print("  memory held after each day: " + ", ".join(f"{mb:,.0f} MB" for mb in result["held"]))
        print("  peak memory after each day: " + ", ".join(f"{mb:,.0f} MB" for mb in result["rss"]))
        print(f"  logs: {result['bytes']:.0f} bytes a request")
        for part, spent_s in sorted(result["parts"].items(), key=lambda part: -part[1]):
            print(f"  {part:20s} {spent_s / result['requests'] * 1e6:6.1f} us")
    if len(results) > 1:
        print(
            f"together {sum(result['requests'] / result['wall_s'] for result in results):,.0f} requests/s of wall time"
        )


if __name__ == "__main__":
    main()
