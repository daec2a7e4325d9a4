"""A dataset of a few clicks and a trainer that needs no time, with hits that add up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import yaml

from abtest.scenario_files import load_scenario
from micrec.config import Config
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.progress import Progress

CUTOFFS = (5, 10)
SIX = ["popularity", "recent_popularity", "item_knn", "ease", "title_knn", "field_counts"]  # the last has no field here

SCENARIO: dict[str, Any] = {
    "kind": "offline_ab",
    "name": "tiny",
    "data": "given",
    "seeds": 3,
    "base": {"evaluation": {"cutoffs": list(CUTOFFS)}},
    "arms": {
        "control": {
            "label": "ICAN",
            "config": {"contrast": {loss: {"weight": 0} for loss in ("feature", "semantic", "session")}},
        },
        "treatment": {"label": "MicRec"},
    },
    "metrics": {"primary": ["hit@5", "hit@10"], "secondary": ["coverage@5"]},
    "baselines": SIX,
}


class FakeResult(NamedTuple):
    metrics: dict[str, float]
    slices: dict[str, dict[str, float]]
    user_hits: np.ndarray
    user_lines: np.ndarray
    info: dict[str, Any]


def tiny_dataset(name: str = "tiny data") -> Dataset:
    """Three users, two titled items, twenty clicks, in memory: enough for the default split."""

    def table(key: str, n: int) -> EntityTable:
        frame = pl.DataFrame({key: list(range(n)), "title": [f"word {i}" for i in range(n)]})
        return EntityTable(ids=frame[key], columns={}, frame=frame)

    clicks = Clicks(
        user_ids=np.tile(np.array([0, 1, 2, 0], dtype=np.int32), 5),
        item_ids=np.tile(np.array([0, 1, 0, 1], dtype=np.int32), 5),
        time_ms=np.arange(20, dtype=np.int64),
    )
    schema = DatasetSchema(name=name, items={"title": FieldType.TEXT}, roles=Roles(title="title"))
    return Dataset(schema=schema, users=table("user_id", 3), items=table("item_id", 2), clicks=clicks)


def draw_result(seed: int, rates: Sequence[float], n_users: int = 60) -> FakeResult:
    """Hits of users whose taste depends on nothing, whose luck on ``seed``, and whose hit rates are given."""
    clicks = np.random.default_rng(0).integers(1, 9, n_users)
    rng = np.random.default_rng(seed)
    hits = np.stack([rng.binomial(clicks, rate) for rate in rates], axis=1)
    metrics = {f"hit@{n}": float(share) for n, share in zip(CUTOFFS, hits.sum(0) / clicks.sum(), strict=True)}
    half = slice(0, n_users // 2)
    tail = {f"hit@{n}": float(s) for n, s in zip(CUTOFFS, hits[half].sum(0) / clicks[half].sum(), strict=True)}
    tail |= {"users": float(n_users // 2), "lines": float(clicks[half].sum())}
    metrics |= {"coverage@5": 0.1 + 0.01 * rng.random()}
    info = {"parameters": 12, "train_samples_per_s": 1e4 + seed, "best_epoch": 3, "log": [{"epoch": 1}]}
    return FakeResult(metrics, {"tail": tail}, hits.astype(float), clicks.astype(float), info)


class FakeTrainer:
    """Counts its calls; may stop like a kill before call ``dies_at`` (from 1), leaving a checkpoint behind."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.calls: list[tuple[bool, int]] = []  # (is treatment, seed)
        self.found: list[bool] = []  # whether a checkpoint lay there

    def __call__(self, dataset: Dataset, config: Config, *, folder: Path, progress: Progress) -> FakeResult:
        treatment = config.contrast.feature.weight > 0
        self.calls.append((treatment, config.train.seed))
        self.found.append((folder / "checkpoint").exists())
        folder.mkdir(exist_ok=True)
        (folder / "checkpoint").write_text("half way", encoding="utf-8")
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        return draw_result(config.train.seed * 2 + treatment, (0.3, 0.4) if treatment else (0.2, 0.4))


def fake_baseline(name: str, dataset: Dataset, config: Config) -> FakeResult:
    return draw_result(99, (0.1, 0.2) if name == "popularity" else (0.25, 0.45))


def scenario_file(folder: Path, **changes: Any) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump({**SCENARIO, **changes}), encoding="utf-8")
    return path


def run_fake(out: Path, *, sets: Sequence[str] = (), dataset: Dataset | None = None, **kwargs: Any) -> dict[str, Any]:
    """``run_offline`` on the tiny scenario with fakes; keyword arguments go to it."""
    from abtest.offline.two_arms import run_offline

    scenario, resolved = load_scenario(scenario_file(out.parent), sets)
    fakes = {"train": FakeTrainer(), "baseline": fake_baseline, "read": lambda _: dataset or tiny_dataset()}
    return run_offline(scenario, out, resolved=resolved, command="micrec run tiny.yaml", **{**fakes, **kwargs})
