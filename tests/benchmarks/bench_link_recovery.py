"""Does the session loss find planted links, and does it find nothing where there are none?

ICAN with and without the session loss, everything else alike, on small worlds with links of strength 0 and of a high
one. Each seed is a world and a training of its own, the same for both models; the gain is the paired difference of
cross-category link recall, with a 95 % t interval over the seeds.

    python tests/benchmarks/bench_link_recovery.py                  # 5 seeds, a minute and a half on one core
    python tests/benchmarks/bench_link_recovery.py --seeds 3 --strengths 0 0.1 0.3
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from micrec.config import Config
from micrec.data.store import read_dataset
from micrec.experiment import run_baseline, run_model
from micrec.settings import build_config
from simulator.world.generate import generate_world
from simulator.world.world_config import WorldConfig

K = 20
METRIC = f"link_recall_cross@{K}"


def world(strength: float, seed: int, users: int) -> WorldConfig:
    return WorldConfig.model_validate(
        {
            "seed": seed,
            "users": {"count": users},
            "items": {"count": 600, "categories": 8, "subcategories": 2, "groups": 3},
            "sessions": {"per_user": 6.0},
            "links": {"density": 0.5, "targets": 2, "strength": strength},
        }
    )


def config(session: float, seed: int, args: argparse.Namespace) -> Config:
    off = {"weight": 0.0}
    keys = {
        "model": {"embedding_dim": 32, "hidden": [64, 32], "options": {"heads": 4}},
        "contrast": {"feature": off, "semantic": off, "session": {"weight": session}},
        "split": {"valid_fraction": 0.0},
        "train": {"seed": seed, "epochs": args.epochs, "device": "cpu", "threads": 1},
        "evaluation": {"cutoffs": [K]},
    }
    return build_config(args.preset, keys)


def measure(strength: float, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Link recall of both models, of item-kNN, and by chance."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_dataset(generate_world(world(strength, seed, args.users), Path(folder) / "world").folder)
        without, with_session = (
            run_model(dataset, config(weight, seed, args)).metrics for weight in (0.0, args.weight)
        )
        floor = run_baseline("item_knn", dataset, config(0.0, seed, args)).metrics
    return {
        "chance": without[f"{METRIC}_chance"],
        "item_knn": floor[METRIC],
        "ican": without[METRIC],
        "ican + session": with_session[METRIC],
        "hit gain": with_session[f"hit@{K}"] - without[f"hit@{K}"],
    }


def interval(values: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4f} [{values.mean() - half:+.4f}, {values.mean() + half:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.6])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--weight", type=float, default=0.5, help="weight of the session loss where it is on")
    parser.add_argument("--preset", default="modern")
    args = parser.parse_args()
    print(f"{METRIC}, {args.seeds} seeds, preset {args.preset}, {args.epochs} epochs, session weight {args.weight:g}")
    for strength in args.strengths:
        rows = [measure(strength, seed, args) for seed in range(args.seeds)]
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        means = ", ".join(f"{name} {columns[name].mean():.4f}" for name in list(columns)[:4])
        print(f"strength {strength:g}: {means}", flush=True)
        print(f"  gain of the session loss: {interval(columns['ican + session'] - columns['ican'])}")
        print(f"  its gain in hit@{K}: {interval(columns['hit gain'])}", flush=True)


if __name__ == "__main__":
    main()
