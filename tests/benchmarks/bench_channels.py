"""How many requests per second does each channel answer, the merge join, the ranking model score, on one core?

    python tests/benchmarks/bench_channels.py --items 20000 --clicks 100000

A world of the given size is drawn, every model is trained on its log, and batches of random users with 20 of the log's
clicks ask each for its list: 200 items, 500 of the two-tower channel as in the paper, 300 of the merge and the ranking.
Rounds alternate between the models and the best of them counts, as other processes only ever slow one down. Beside the
rate stands a floor: what the machine would need at least for the bytes that a request must touch, at the rate of a
copy, and for the multiplications, at the rate of a matrix product, both measured in the same run.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from micrec.config import Config
from micrec.settings import build_config
from simulator.channels import CHANNELS, channel_trainer
from simulator.channels.two_tower.two_tower_trainer import TwoTowerTrainer
from simulator.merge import merge
from simulator.ports import Matcher, ObservedLog, Requests
from simulator.ranking import CtrTrainer
from simulator.world.item_table import item_frame
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

K, TWO_TOWER_K, CANDIDATES, SLATE = 200, 500, 300, 10


def draw_log(n_items: int, n_clicks: int, rng: np.random.Generator) -> ObservedLog:
    """A world's clicks, and slates of ten random items by popularity, a click on one in twelve."""
    users = max(100, n_clicks // 13)
    keys = {"users": {"count": users}, "items": {"count": n_items}, "sessions": {"per_user": 2.6}}
    world = World.build(WorldConfig.model_validate(keys))
    shard = world.history(0, users)
    clicks = shard.clicks.sort("timestamp", maintain_order=True)
    items, end_s = item_frame(world.config, world.catalogue)[:n_items], world.start_s + world.config.days * 86_400
    weights = np.bincount(clicks["item_id"].to_numpy(), minlength=n_items) + 1.0
    n = n_clicks * 10
    shown = pl.DataFrame(
        {
            "user_id": np.repeat(rng.integers(0, users, n // SLATE), SLATE),
            "item_id": rng.choice(n_items, n, p=weights / weights.sum()),
            "timestamp": np.repeat(np.sort(rng.integers(world.start_s, end_s, n // SLATE)), SLATE),
            "position": np.tile(np.arange(SLATE), n // SLATE),
            "channel": np.zeros(n, np.int8),
            "clicked": rng.random(n) < 1 / 12,
        }
    )
    return ObservedLog(shard.users, items, clicks, shown, float(end_s - world.start_s), world.start_s)


def draw_requests(log: ObservedLog, batch: int, rng: np.random.Generator) -> Requests:
    """Random users with 20 clicks of the log each."""
    recent = rng.choice(log.clicks["item_id"].to_numpy(), (batch, 20))
    users, keys = rng.integers(0, len(log.users), batch), rng.integers(0, 1 << 62, batch).astype(np.uint64)
    return Requests(users, recent, np.full(batch, log.now_s), keys)


def best_s(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Shortest time of each task over rounds that alternate between them."""
    times: dict[str, float] = {}
    for _ in range(rounds + 1):  # the first warms up
        for name, task in tasks.items():
            started_s = time.perf_counter()
            task()
            times[name] = min(times.get(name, np.inf), time.perf_counter() - started_s)
    return times


def machine(rounds: int) -> tuple[float, float]:
    """Bytes per second of a copy, counted once for reading and once for writing, and multiply-adds per second."""
    source, a, b = np.ones(1 << 23), np.ones((256, 64), np.float32), np.ones((64, 20_000), np.float32)
    times = best_s({"copy": source.copy, "product": lambda: a @ b}, rounds)
    return 2 * source.nbytes / times["copy"], a.shape[0] * a.shape[1] * b.shape[1] / times["product"]


def baselines(log: ObservedLog, config: Config) -> dict[str, tuple[float, float]]:
    """(bytes, multiply-adds) that a request cannot do without."""
    dim, fields, n = config.model.embedding_dim, 5, len(log.items)
    out = 12 * K  # ids and scores written
    entry = 8 + 4  # id and score read of each entry that is summed
    tower = fields * (3 * dim * dim + dim * dim + 8 * dim * dim) + (fields + 4) * dim * 128 + 128 * 64 + 64 * 64
    return {
        "popular": (out, 0),
        "fresh": (500 * entry + out, 0),
        "tag": (8 * K * entry + out, 0),
        "follow": (out, 0),
        "item_cf": (20 * 50 * entry + out, 0),
        "two_tower": (4 * n + 12 * TWO_TOWER_K + 20 * fields * dim * 4, n * dim + tower),
        "merge": (4 * K * entry + TWO_TOWER_K * entry + 25 * CANDIDATES, 0),
        "rank": (CANDIDATES * (8 + 4 + 9 * 4) + 20 * 50 * entry, 0),
    }


def bench(log: ObservedLog, matchers: dict[str, Matcher], ranker, batch: int, rounds: int, rng) -> dict[str, float]:
    """Requests per second of everything, for one batch size."""
    requests = draw_requests(log, batch, rng)
    lists = [m.retrieve(requests, TWO_TOWER_K if name == "two_tower" else K) for name, m in matchers.items()]
    candidates = rng.integers(0, len(log.items), (batch, CANDIDATES))
    tasks: dict[str, Callable[[], object]] = {
        name: (lambda m=m, name=name: m.retrieve(requests, TWO_TOWER_K if name == "two_tower" else K))
        for name, m in matchers.items()
    }
    quotas = [50] * len(lists)
    tasks["merge"] = lambda: merge(lists, "quota", quotas, CANDIDATES)
    tasks["rank"] = lambda: ranker.score(requests, candidates)
    return {name: batch / seconds for name, seconds in best_s(tasks, rounds).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--clicks", type=int, default=100_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    log = draw_log(args.items, args.clicks, rng)
    print(f"{len(log.items):,} items, {len(log.users):,} users, {len(log.clicks):,} clicks")
    contrast = {loss: {"weight": 0} for loss in ("feature", "semantic", "session")}
    config = build_config("paper", {"train": {"epochs": args.epochs}, "contrast": contrast})
    trainers = {kind: channel_trainer(kind, {}) for kind in CHANNELS} | {"two_tower": TwoTowerTrainer(config)}
    models, train_s = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, trainer in (trainers | {"rank": CtrTrainer()}).items():
            started_s = time.perf_counter()
            trainer.train(log, previous=None, folder=Path(temporary) / name, seed=0)
            train_s[name] = time.perf_counter() - started_s
            models[name] = trainer.load(Path(temporary) / name)
    ranker = models.pop("rank")
    rates = {batch: bench(log, models, ranker, batch, args.rounds, rng) for batch in args.batches}
    bytes_per_s, products_per_s = machine(args.rounds)
    print(f"copy {bytes_per_s / 1e9:.1f} GB/s, product {products_per_s / 1e9:.1f} G multiply-adds/s")
    print(
        f"{'':10} {'train s':>8} "
        + " ".join(f"{f'B={b}':>10}" for b in args.batches)
        + f" {'floor us':>9} {'share':>6}"
    )
    for name, (moved, products) in baselines(log, config).items():
        floor_s = moved / bytes_per_s + products / products_per_s
        best = max(rates[batch][name] for batch in args.batches)
        row = " ".join(f"{rates[batch][name]:10,.0f}" for batch in args.batches)
        print(f"{name:10} {train_s.get(name, 0):8.2f} {row} {floor_s * 1e6:9.2f} {best * floor_s:6.1%}")
    print(f"rank scores {max(rates[b]['rank'] for b in args.batches) * CANDIDATES / 1e6:.1f} M items/s")


if __name__ == "__main__":
    main()
