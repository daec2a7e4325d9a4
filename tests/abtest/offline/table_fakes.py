"""A small table's scenario and a trainer whose hit rates depend on the losses that are on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from abtest.scenario_files import load_scenario
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.progress import Progress

from .fakes import CUTOFFS, SIX, FakeResult, draw_result, fake_baseline, tiny_dataset

TABLE: dict[str, Any] = {
    "kind": "table",
    "name": "tiny",
    "title": "Tiny table",
    "datasets": {"video": {"data": "video", "paper": "video"}, "news": {"data": "news", "label": "News & more"}},
    "seeds": 3,
    "base": {"evaluation": {"cutoffs": list(CUTOFFS)}},
    "rows": {
        "ican": {"label": "ICAN", "losses": []},
        "fea": {"label": "RFM* (fea)", "losses": ["feature"]},
        "final": {"label": "MicRec"},
    },
    "metrics": ["hit@5", "hit@10"],
    "details": ["coverage@5"],
    "baselines": SIX,
    "slices": ["tail"],
    "comparisons": [{"row": "final"}],
    "orderings": [{"claim": "Each loss adds", "rising": ["ican", "fea", "final"]}],
    "paper": {"video": {"label": "Video-636M", "rows": {"ican": {"hit@5": 0.2}, "final": {"hit@5": 0.3}}}},
}


def rates_of(config: Config) -> tuple[float, float]:
    """hit@5 and hit@10 that the fake trainer aims at: each loss adds a tenth."""
    contrast = config.contrast
    on = sum(loss.weight > 0 for loss in (contrast.feature, contrast.semantic, contrast.session))
    return 0.2 + 0.1 * on, 0.4 + 0.1 * on


class TableTrainer:
    """Remembers what it trained, in order; may stop like a kill before call ``dies_at`` (from 1)."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.calls: list[tuple[str, float, int]] = []  # (dataset, hit rate, seed)
        self.configs: list[Config] = []

    def __call__(
        self, dataset: Dataset, config: Config, *, folder: Path, progress: Progress, part: str = "test"
    ) -> FakeResult:
        rates = rates_of(config)
        self.calls.append((dataset.name, rates[0], config.train.seed))
        self.configs.append(config)
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        result = draw_result(config.train.seed * 7 + round(10 * rates[0]), rates)
        info = {**result.info, "validation_metric": rates[0], "part": part}
        return result._replace(info=info)


def table_file(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TABLE, **changes}, sort_keys=False), encoding="utf-8")
    return path


def run_fake_table(
    out: Path, *, sets: Sequence[str] = (), changes: Mapping[str, Any] | None = None, **given: Any
) -> dict[str, Any]:
    """``run_table`` on the tiny table with fakes; keyword arguments go to it."""
    from abtest.offline.table_run import run_table

    scenario, resolved = load_scenario(table_file(out.parent, **(changes or {})), sets)
    fakes = {"train": TableTrainer(), "baseline": fake_baseline, "read": lambda path: tiny_dataset(Path(path).name)}
    return run_table(scenario, out, resolved=resolved, command="micrec run tiny.yaml", **{**fakes, **given})
