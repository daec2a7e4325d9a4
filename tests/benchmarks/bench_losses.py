"""What does each form of each item loss cost in training, on ICAN and on FISM?

One base without losses and with them, a few steps each in turn in one process, so that a noisy machine hits all alike;
the ratio of each round is to the base without losses in the same round. CPU time is counted, not the clock's.

    python tests/benchmarks/bench_losses.py                        # generated clicks, 10,000 items
    python tests/benchmarks/bench_losses.py --data data/retail --models ican --forms contrast
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from bench_training import OFF, generated

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.store import read_dataset
from micrec.training import Trainer

ON = {"feature": {"weight": 1.0}, "semantic": {"weight": 0.3}, "session": {"weight": 0.1}}
FORMS = ("contrast", "momentum", "barlow_twins", "pseudo_clicks")
SETTINGS = {  # the paper's own training, and one row per session with the full softmax, as in the preset best
    "ican": {"model": {"name": "ican"}},
    "fism": {
        "model": {"name": "fism", "history_length": 200},
        "softmax": {"negatives": "full"},
        "train": {"rows": "session", "context": "before_session", "batch_size": 256},
    },
}


def arms_of(forms: list[str], uniform: int | None, most: int | None, losses: list[str]) -> dict[str, dict]:
    """Keys of ``contrast`` by the name of the row.

    Args:
        forms: Forms of the losses.
        uniform: So many anchors are drawn for the semantic and the session loss; None: clicked items.
        most: ``contrast.most_anchors``.
        losses: Names, and "all" for the three together.
    """
    off = {**OFF, "most_anchors": most}
    if uniform is not None:
        off["uniform_anchors"] = uniform
    arms = {"no loss": off}
    for form in forms:
        on = {name: {**keys, "form": form} for name, keys in ON.items()}
        if uniform is not None:
            on = {name: {**on[name], "anchors": "uniform"} for name in ("semantic", "session")}
        arms |= {f"{name}, {form}": {**off, name: keys} for name, keys in on.items() if name in losses}
        if "all" in losses:
            arms[f"all, {form}"] = {**off, **on}
    return arms


class Arm:
    """One training that goes a few steps at a time."""

    def __init__(self, dataset: Dataset, model: str, contrast: dict, device: str) -> None:
        keys = SETTINGS[model]
        train = {**keys.get("train", {}), "device": device}
        config = Config.model_validate({**keys, "train": train, "contrast": contrast})
        self.trainer = Trainer(dataset, dataset.clicks, config)
        self.trainer.model.train()
        self.order, self.at = self.trainer.order(1), 0

    def run(self, steps: int) -> float:
        """CPU seconds of so many steps."""
        size = self.trainer.config.train.batch_size
        started_s = time.process_time()
        for _ in range(steps):
            self.at = (self.at + size) % max(1, len(self.order) - size)
            self.trainer.step(self.order[self.at : self.at + size])
        return time.process_time() - started_s


def measure(dataset: Dataset, model: str, chosen: dict[str, dict], *, rounds: int, steps: int, device: str) -> None:
    """Print the ratio of every form to the base without losses."""
    arms = {name: Arm(dataset, model, contrast, device) for name, contrast in chosen.items()}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm.run(1)  # warm-up; it fills queues, too
    for _ in range(rounds):
        for name, arm in arms.items():
            seconds[name].append(arm.run(steps))
    for name, values in seconds.items():
        ratios = [value / base for value, base in zip(values, seconds["no loss"], strict=True)]
        print(
            f"{model:5s} {name:26s} {1000 * statistics.median(values) / steps:8,.0f} ms a step   time / no loss "
            f"{statistics.median(ratios):5.2f} [{min(ratios):.2f}, {max(ratios):.2f}]",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset folder instead of generated clicks")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--models", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--uniform", type=int, help="so many uniform anchors for the semantic and the session loss")
    parser.add_argument("--most", type=int, help="so many anchors of a batch at most (contrast.most_anchors)")
    parser.add_argument("--losses", nargs="+", default=[*ON, "all"], choices=[*ON, "all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, device {options.device}")
    dataset = read_dataset(options.data) if options.data else generated(options.items)
    chosen = arms_of(options.forms, options.uniform, options.most, options.losses)
    for model in options.models:
        measure(dataset, model, chosen, rounds=options.rounds, steps=options.steps, device=options.device)


if __name__ == "__main__":
    main()
