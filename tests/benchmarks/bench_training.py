"""How fast does a step train, and what do the three item losses cost?

ICAN and MicRec at the paper's dimensions (D = 64, 128-64-64, 20 clicks, 20 negatives, batch 4,096), turn and turn
about in one process, so that a noisy machine hits both alike.

    python tests/benchmarks/bench_training.py                      # generated clicks, 10k and 100k items
    python tests/benchmarks/bench_training.py --data data/retail   # a dataset folder
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from micrec.config import Config
from micrec.data.dataset import Clicks, Column, Dataset, EntityTable
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.data.store import read_dataset
from micrec.experiment import peak_memory_mb
from micrec.training import Trainer

OFF = {"feature": {"weight": 0.0}, "semantic": {"weight": 0.0}, "session": {"weight": 0.0}}


def generated(n_items: int, *, n_users: int = 20_000, n_clicks: int = 400_000, n_tags: int = 5000) -> Dataset:
    """Zipf clicks in sessions of about ten, items with an id, a category, tags and a title of tag words."""
    rng = np.random.default_rng(0)
    popularity = 1.0 / np.arange(1, n_items + 1) ** 0.8
    items = rng.choice(n_items, n_clicks, p=popularity / popularity.sum()).astype(np.int32)
    users = np.repeat(rng.integers(0, n_users, n_clicks // 10), 10).astype(np.int32)
    times = np.repeat(np.sort(rng.integers(0, 30 * 86_400_000, n_clicks // 10)), 10) + np.tile(
        np.arange(10) * 1000, n_clicks // 10
    )
    tags = rng.integers(1, n_tags + 1, (n_items, 3)).astype(np.int32)
    titles = [f"word{a} word{b} word{c}" for a, b, c in tags.tolist()]
    category = rng.integers(1, 51, n_items).astype(np.int32)
    columns = {
        "category": Column("category", FieldType.CATEGORICAL, 51, codes=category, labels=tuple(map(str, range(50)))),
        "tags": Column(
            "tags",
            FieldType.MULTI_CATEGORICAL,
            n_tags + 1,
            values=tags.ravel(),
            offsets=np.arange(n_items + 1, dtype=np.int64) * 3,
            labels=tuple(map(str, range(n_tags))),
        ),
    }
    country = Column(
        "country",
        FieldType.CATEGORICAL,
        21,
        codes=rng.integers(1, 21, n_users).astype(np.int32),
        labels=tuple("abcdefghijklmnopqrst"),
    )
    schema = DatasetSchema(
        name=f"generated-{n_items}",
        users={"country": FieldType.CATEGORICAL},
        items={"title": FieldType.TEXT, "category": FieldType.CATEGORICAL, "tags": FieldType.MULTI_CATEGORICAL},
        roles=Roles(title="title", category="category", taxonomy="tags"),
    )
    item_ids = pl.Series("item_id", np.arange(n_items))
    return Dataset(
        schema,
        EntityTable(pl.Series("user_id", np.arange(n_users)), {"country": country}, pl.DataFrame()),
        EntityTable(item_ids, columns, pl.DataFrame({"item_id": item_ids, "title": titles})),
        Clicks(users, items, times.astype(np.int64)),
    )


class Arm:
    """One model that trains a few steps at a time."""

    def __init__(self, dataset: Dataset, contrast: dict, *, device: str, extra: dict) -> None:
        config = Config.model_validate({"contrast": contrast, "train": {"device": device}, **extra})
        self.trainer = Trainer(dataset, dataset.clicks, config)
        self.trainer.model.train()
        self.trainer.contrast.train()
        self.order = self.trainer.order(1)
        self.size = config.train.batch_size
        self.at = 0

    def run(self, steps: int) -> float:
        """Seconds for some steps."""
        started_s = time.perf_counter()
        for _ in range(steps):
            begin = self.at * self.size % (len(self.order) - self.size)
            self.trainer.step(self.order[begin : begin + self.size])
            self.at += 1
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started_s


def measure(dataset: Dataset, *, rounds: int, steps: int, device: str, extra: dict) -> None:
    arms = {
        "ICAN": Arm(dataset, OFF, device=device, extra=extra),
        "MicRec": Arm(dataset, {}, device=device, extra=extra),
    }
    for arm in arms.values():
        arm.run(2)  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            seconds[name].append(arm.run(steps))
    per_step = {name: statistics.median(values) / steps for name, values in seconds.items()}
    ratios = [b / a for a, b in zip(seconds["ICAN"], seconds["MicRec"], strict=True)]
    size = arms["ICAN"].size
    fields = len(arms["ICAN"].trainer.data.fields.item_specs)
    print(
        f"{dataset.name:20s} {len(dataset.items):9,} items {fields} item fields  "
        + "  ".join(f"{name} {size / s:9,.0f} samples/s" for name, s in per_step.items())
        + f"  MicRec/ICAN {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        + f"  peak {peak_memory_mb():,.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="dataset folder instead of generated clicks")
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ids-only", action="store_true", help="item ids alone, as the peers' rows")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    extra = {"model": {"item_fields": []}} if options.ids_only else {}
    print(f"torch {torch.__version__}, {options.threads} threads, device {options.device}")
    datasets = [read_dataset(options.data)] if options.data else map(generated, options.items)
    for dataset in datasets:
        measure(dataset, rounds=options.rounds, steps=options.steps, device=options.device, extra=extra)


if __name__ == "__main__":
    main()
