"""How fast does each base model train and get evaluated, beside ICAN, and what do the three item losses cost on it?

All bases at the paper's dimensions (D = 64, 128-64-64, 20 clicks, 20 negatives, batch 4,096) on one set of clicks, a
few steps each in turn, so that a noisy machine hits all alike; the ratios are to ICAN in the same round.

    python tests/benchmarks/bench_bases.py                       # generated clicks, 10k items
    python tests/benchmarks/bench_bases.py --data data/retail    # a dataset folder
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from bench_training import OFF, Arm, generated

from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset
from micrec.evaluation import evaluation_task
from micrec.fitting import Fitted, RunState
from micrec.towers import TOWERS


def measure_training(dataset: Dataset, arms: dict[str, Arm], *, rounds: int, steps: int) -> None:
    """Samples/s of every arm, and the ratio of its time to ICAN's."""
    for arm in arms.values():
        arm.run(2)  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            seconds[name].append(arm.run(steps))
    for name, values in seconds.items():
        ratios = [value / base for value, base in zip(values, seconds["ican"], strict=True)]
        speed = arms[name].size * steps / statistics.median(values)
        print(
            f"{name:22s} {speed:9,.0f} samples/s   time / ICAN's {statistics.median(ratios):5.2f} "
            f"[{min(ratios):.2f}, {max(ratios):.2f}]",
            flush=True,
        )


def measure_evaluation(dataset: Dataset, arms: dict[str, Arm]) -> None:
    """Users/s of exact ranking with coverage, the user tower included."""
    for name, arm in arms.items():
        config, trainer = arm.trainer.config, arm.trainer
        task = evaluation_task(
            dataset, temporal_split(dataset.clicks, config.split, dataset.schema.days), config.evaluation, "test"
        )
        fitted = Fitted(trainer.model.eval(), trainer.data.fields, config, RunState(), len(trainer.data))
        fitted.evaluate(task)  # warm-up
        started_s = time.perf_counter()
        fitted.evaluate(task)
        print(f"{name:22s} {len(task) / (time.perf_counter() - started_s):9,.0f} users/s evaluated", flush=True)
        trainer.model.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset folder instead of generated clicks")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--models", nargs="+", default=list(TOWERS), choices=list(TOWERS))
    parser.add_argument("--losses", action="store_true", help="each base with the three item losses too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, device {options.device}")
    dataset = read_dataset(options.data) if options.data else generated(options.items)
    names = ["ican", *(name for name in options.models if name != "ican")]
    arms = {name: Arm(dataset, OFF, device=options.device, extra={"model": {"name": name}}) for name in names}
    if options.losses:
        arms |= {
            f"{name} + losses": Arm(dataset, {}, device=options.device, extra={"model": {"name": name}})
            for name in names
        }
    measure_training(dataset, arms, rounds=options.rounds, steps=options.steps)
    measure_evaluation(dataset, {name: arm for name, arm in arms.items() if "losses" not in name})


if __name__ == "__main__":
    main()
