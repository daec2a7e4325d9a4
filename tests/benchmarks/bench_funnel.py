"""How many requests per second does the platform serve with the models that scenarios use, and where does time go?

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/benchmarks/bench_funnel.py --users 20000 --items 20000 --days 2

The funnel of ``bench_platform.py``, nothing stood in for: a two-tower channel (ICAN of the ``paper`` preset, trained
for ``--epochs``, exact search of the top 500), item-CF, popular, fresh and tag, the logistic ranking model on 300
candidates. One day of warm-up gives it impressions. Rates are per second of processor time of one process; mornings,
which train and deploy, are told apart.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import polars as pl

from micrec.settings import build_config, validate
from simulator.channels.two_tower.two_tower_config import TwoTowerConfig
from simulator.channels.two_tower.two_tower_trainer import TwoTowerMatcher
from simulator.platform.engine import Engine
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.platform.registered_models import registered_trainers
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.ranking import CtrRanker
from simulator.ranking.click_features import ClickFeatures
from simulator.world.world import World
from simulator.world.world_config import WorldConfig
from tests.benchmarks.bench_platform import SLATE, TOP, Clock

QUOTA_KINDS = ("item_cf", "popular", "fresh", "tag")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=2, help="of the experiment, after a week of history")
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    days = 8 + args.days
    keys = {
        "days": days,
        "window_days": days,
        "users": {"count": args.users},
        "items": {"count": args.items, "providers": 1_000},
        "sessions": {"per_user": 6.0},
    }
    world = World.build(WorldConfig.model_validate(keys))
    setting = PlatformInputs.of(world, first_day=7)
    config = build_config("paper", {"train": {"epochs": args.epochs, "threads": 1}, "contrast": off()})
    options = {
        "config": json.loads(config.model_dump_json()),
        "serving": json.loads(TwoTowerConfig(warm_epochs=1).model_dump_json()),
    }
    channels = {kind: {"kind": kind, "k": 100, "servers": 64} for kind in QUOTA_KINDS}
    channels["two_tower"] = {"kind": "two_tower", "k": TOP, "servers": 64, "options": options}
    pipeline = {"channels": channels, "slate_size": SLATE, "ranking": {"servers": 64}}
    platform = validate(PlatformConfig, {"warmup_days": 1, "pipeline": pipeline}, where="benchmark")
    population = Population.build(world, PopulationConfig(), first_day=7)
    clock = Clock()
    Engine._morning = clock.timed("mornings", Engine._morning)
    TwoTowerMatcher.retrieve = clock.timed("two-tower, search", TwoTowerMatcher.retrieve)
    TwoTowerMatcher.query = clock.timed("two-tower, user embedding", TwoTowerMatcher.query)
    CtrRanker.score_nominated = clock.timed("ranking, scores", CtrRanker.score_nominated)
    ClickFeatures.request = clock.timed("ranking, look-ups of requests", ClickFeatures.request)
    folder = Path(tempfile.mkdtemp(prefix="bench-funnel-"))
    try:
        engine = Engine(platform, setting, population, registered_trainers(), folder / "run")
        for day in range(1 + args.days):
            before = dict(clock.spent_s)
            began_s = time.process_time()
            engine.run(day + 1)
            spent_s = time.process_time() - began_s
            table = pl.scan_parquet(folder / "run" / f"day-{7 + day:04d}" / "requests-*.parquet")
            requests = table.select(pl.len()).collect().item()
            parts = {part: spent - before.get(part, 0.0) for part, spent in clock.spent_s.items()}
            serving_s = spent_s - parts.pop("mornings")
            print(
                f"day {day}: {requests:,} requests, {requests / serving_s:,.0f} requests/s, "
                f"{serving_s / requests * 1e6:.0f} us each; morning {spent_s - serving_s:.1f} s"
            )
            for part, part_s in sorted(parts.items(), key=lambda one: -one[1]):
                print(f"  {part:32s} {part_s / requests * 1e6:6.1f} us")
    finally:
        shutil.rmtree(folder)


def off() -> dict[str, dict[str, int]]:
    """No contrastive loss: training is not what is measured."""
    return {loss: {"weight": 0} for loss in ("feature", "semantic", "session")}


if __name__ == "__main__":
    main()
