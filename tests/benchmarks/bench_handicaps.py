"""What does it cost a platform to serve worse, and gain to serve better? Signs and sizes, over several worlds.

    python tests/benchmarks/bench_handicaps.py --worlds 6

In each world the same users live the same days once per variant, with the same noise: everybody under the control,
then everybody under a handicap or an improvement. Lifts are of clicks per user, dwell, visits per user, and the chance
that a user of one day is there on the next (stay); satisfaction is a difference in its own standard deviations.
Standard errors are over worlds. Channels and ranking are cheap: item-CF, popular, fresh, tag, and the click model.
"""

import argparse
import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from micrec.settings import apply_overrides, validate
from simulator.channels import channel_trainer
from simulator.draws import mixed, to_uniform
from simulator.platform.engine import Engine
from simulator.platform.model_registry import TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.ports import Candidates, ObservedLog, Requests
from simulator.ranking import CtrTrainer, RankerConfig
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

HISTORY, WARM_UP, DAYS = 5, 1, 4
KINDS = ("item_cf", "popular", "fresh", "tag")
CHANNELS = {kind: {"kind": kind, "k": 60, "quota": 40} for kind in KINDS}
ALL_DOWN = {"faults": [{"from_day": 0, "to_day": DAYS, "down": True}]}
VARIANTS: dict[str, dict[str, Any]] = {
    "control": {},
    "random candidates": {"channels": {**dict.fromkeys(KINDS), "random": {"kind": "random", "k": 150, "quota": 150}}},
    "random ranking": {"ranking": {"kind": "random"}},
    "ranking always late": {"ranking": {"deadline_ms": 0.001}},
    "half of the requests abandoned": {
        "ranking": {"servers": 5000, "deadline_ms": 1e9, "latency": {"kind": "constant", "mean_ms": 8000.0}}
    },
    "all channels down": {"channels": dict.fromkeys(KINDS, ALL_DOWN)},
    "no answer at all": {
        "ranking": {"servers": 5000, "deadline_ms": 1e9, "latency": {"kind": "constant", "mean_ms": 1e7}}
    },
    "without item-CF": {"channels": {"item_cf": None}},
    "a channel that knows tastes": {"channels": {"taste": {"kind": "taste", "k": 60, "quota": 60}}},
    "ranking by true worth": {"ranking": {"kind": "worth"}},
}


class Hidden:
    """A ranking model that sees what no real one can: the world."""

    def __init__(self, world: World, kind: str) -> None:
        self._world, self._kind = world, kind
        self._traits = Population.build(world, PopulationConfig(), first_day=HISTORY)._traits
        catalogue = world.catalogue
        log_appeal = np.log(catalogue.appeal)
        self._appeal = (log_appeal - log_appeal.mean()) / log_appeal.std()
        self._worth = 0.5 * np.asarray(world.quality) - 2.0 * catalogue.clickbait

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        folder.mkdir()

    def load(self, folder: Path) -> "Hidden":
        return self

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        everything = np.arange(self._world.config.items.count)
        scores = self.score(requests, np.broadcast_to(everything, (len(requests.keys), len(everything))))
        published = self._world.catalogue.published_s <= requests.now_s[:, None]
        items = np.where(published, -scores, np.inf).argsort(axis=1)[:, :k]
        return Candidates(items, np.take_along_axis(scores, items, axis=1))

    def score(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        noise = to_uniform(mixed(requests.keys[:, None], items))
        if self._kind == "random":
            return np.where(items >= 0, noise, -np.inf).astype(np.float32)
        interests = self._traits.interests_at(requests.user_ids, requests.now_s)  # (S, B)
        likes = (interests[:, :, None] == self._world.catalogue.subcategory[items][None]).any(axis=0)
        scores = 2.0 * likes + 0.5 * self._appeal[items] + 1e-3 * noise
        scores += self._worth[items]
        return np.where(items >= 0, scores, -np.inf).astype(np.float32)


@functools.cache
def _world(seed: int, users: int, items: int) -> World:
    """The world that every variant of a seed lives in."""
    config = {
        "seed": seed,
        "days": HISTORY + WARM_UP + DAYS,
        "users": {"count": users},
        "items": {"count": items, "providers": 80},
        "sessions": {"per_user": 8.0},
    }
    return World.build(WorldConfig.model_validate(config))


def live(seed: int, variant: str, folder: Path, users: int, items: int, sets: Sequence[str] = ()) -> dict[str, float]:
    """The days of one world under one variant; figures of all users together."""
    world = _world(seed, users, items)
    setting = PlatformInputs.of(world, first_day=HISTORY)
    population_config = validate(PopulationConfig, apply_overrides({}, sets), where="--set")
    population = Population.build(world, population_config, first_day=HISTORY)
    channels = {kind: (lambda options, kind=kind: channel_trainer(kind, options)) for kind in KINDS}
    rankers: dict[str, Any] = {
        "ctr": lambda options: CtrTrainer(validate(RankerConfig, options, where="ranking")),
        **{kind: (lambda options, kind=kind: Hidden(world, kind)) for kind in ("random", "worth")},
    }
    makers = TrainerFactories(
        {**channels, **{kind: (lambda options, kind=kind: Hidden(world, kind)) for kind in ("random", "taste")}},
        rankers,
    )
    keys = validate(
        PlatformConfig,
        {
            "warmup_days": WARM_UP,
            "pipeline": {"channels": CHANNELS},
            "arms": {"all": {"pipeline": VARIANTS[variant]}},
        },
        where="benchmark",
    )
    Engine(keys, setting, population, makers, folder).run(WARM_UP + DAYS)
    days = [folder / f"day-{HISTORY + WARM_UP + day:04d}" for day in range(DAYS)]
    requests = pl.concat([pl.read_parquet(day / "requests-*.parquet") for day in days])
    behaviours = pl.concat([pl.read_parquet(day / "behaviours-*.parquet") for day in days])
    there = {day: set(part["user_id"].to_list()) for (day,), part in requests.group_by("day")}
    pairs = [(there[day], there[day + 1]) for day in sorted(there) if day + 1 in there]
    clickbait = world.catalogue.clickbait[behaviours["item_id"].to_numpy()] if len(behaviours) else np.zeros(1)
    figures = {
        "clicks": len(behaviours) / users,
        "dwell": float(behaviours["dwell_s"].sum()) / users,
        "visits": requests.select("day", "visit").n_unique() / users,
        "requests": len(requests) / users,
        "stay": sum(len(today & tomorrow) for today, tomorrow in pairs) / max(sum(len(today) for today, _ in pairs), 1),
        "satisfaction": float(population.satisfaction.mean()),
        "clickbait": float(np.mean(clickbait)),
        "gone": float(population.gone.mean()),
        "abandoned": float((requests["result"] == "abandoned").mean()),
    }
    shutil.rmtree(folder)
    return figures


def study(
    worlds: int, variants: Sequence[str], users: int, items: int, *, workers: int = 1, sets: Sequence[str] = ()
) -> dict[str, list[dict[str, float]]]:
    """Figures of each variant in each world."""
    folder = Path(tempfile.mkdtemp(prefix="handicaps-"))
    if workers == 1:  # no process forked from one whose thread pools have run
        alone = {
            variant: [live(seed, variant, folder / f"{place}-{seed}", users, items, sets) for seed in range(worlds)]
            for place, variant in enumerate(variants)
        }
        shutil.rmtree(folder)
        return alone
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {
            (variant, seed): pool.submit(live, seed, variant, folder / f"{place}-{seed}", users, items, sets)
            for place, variant in enumerate(variants)
            for seed in range(worlds)
        }
        found = {variant: [jobs[variant, seed].result() for seed in range(worlds)] for variant in variants}
    shutil.rmtree(folder)
    return found


def lifts(found: Mapping[str, list[dict[str, float]]], variant: str, figure: str) -> np.ndarray:
    """Relative change against the control in each world; of satisfaction the difference."""
    control = np.array([world[figure] for world in found["control"]])
    values = np.array([world[figure] for world in found[variant]])
    return values - control if figure == "satisfaction" else values / control - 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=6)
    parser.add_argument("--users", type=int, default=1500)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), help="Only this one; repeatable.")
    parser.add_argument("--set", dest="sets", action="append", default=[], help="Key of the population; repeatable.")
    args = parser.parse_args()
    variants = args.variant or list(VARIANTS)
    if "control" not in variants:
        variants = ["control", *variants]
    found = study(args.worlds, variants, args.users, args.items, workers=args.workers, sets=args.sets)
    control = {name: np.mean([world[name] for world in found["control"]]) for name in found["control"][0]}
    print("control: " + ", ".join(f"{name} {value:.3f}" for name, value in control.items()))
    print(f"{'lift (se over worlds)':32}" + "".join(f"{name:>19}" for name in ("clicks", "dwell", "visits", "stay")))
    for variant in variants:
        if variant == "control":
            continue
        cells = ""
        for figure in ("clicks", "dwell", "visits", "stay"):
            change = lifts(found, variant, figure)
            cells += f"{100 * change.mean():+9.1f} ({100 * change.std(ddof=1) / np.sqrt(len(change)):4.1f}) %"
        mood = lifts(found, variant, "satisfaction")
        rest = {name: np.mean([world[name] for world in found[variant]]) for name in ("clickbait", "abandoned", "gone")}
        print(
            f"{variant:32}{cells}  satisfaction {mood.mean():+.2f} ({mood.std(ddof=1) / np.sqrt(len(mood)):.2f}), "
            + ", ".join(f"{name} {100 * value:.1f} %" for name, value in rest.items())
        )


if __name__ == "__main__":
    main()
