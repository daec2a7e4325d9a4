"""Runs of one tiny platform under ``--set`` overrides, each simulated once however many tests look at it."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import yaml

from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import EXPERIMENT, WARM_UP, Simulation, simulate, simulations_of
from abtest.scenario_files import load_scenario

CHANNELS = {
    "popular": {"kind": "popular", "k": 40, "quota": 20},
    "item_cf": {"kind": "item_cf", "k": 40, "quota": 20},
}
TINY: dict[str, Any] = {
    "kind": "online_ab",
    "name": "tiny",
    "world": {
        "users": {"count": 200},
        "items": {"count": 120, "categories": 4, "subcategories": 2, "groups": 2, "providers": 20},
        "tags": {"count": 30},
        "sessions": {"per_user": 12.0},
    },
    "history_days": 3,
    "days": 2,
    "looks": "final",
    "truth": {"worlds": False},
    "possible": None,
    "base": {
        "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}},
        "train": {"epochs": 1, "batch_size": 256},
    },
    "platform": {"warmup_days": 0, "pipeline": {"channels": CHANNELS}},
    "arms": {"control": {"label": "A"}, "treatment": {"label": "also A"}},
}

_HOME = tempfile.TemporaryDirectory(prefix="tiny-runs-")  # emptied when the process ends


def scenario_file() -> Path:
    """The scenario, written once."""
    path = Path(_HOME.name) / "tiny.yaml"
    if not path.exists():
        path.write_text(yaml.safe_dump(TINY, sort_keys=False), encoding="utf-8")
    return path


def tiny(*overrides: str) -> OnlineScenario:
    """The tiny scenario with overrides."""
    scenario, _ = load_scenario(scenario_file(), list(overrides))
    assert isinstance(scenario, OnlineScenario)
    return scenario


class Run(NamedTuple):
    """One simulated world and the warm-up before it.

    Attributes:
        scenario: What was run.
        folder: Of the world.
        base: Of the warm-up; the same as ``folder`` where there is none.
    """

    scenario: OnlineScenario
    folder: Path
    base: Path

    def table(self, name: str, *, warm_up: bool = False) -> pl.DataFrame:
        """A table of the platform's log, of all days of the experiment or of the warm-up."""
        files = sorted((self.base if warm_up else self.folder).glob(f"day-*/**/{name}*.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files])

    @property
    def days(self) -> pl.DataFrame:
        """The row per user and day that the analysis reads."""
        return pl.read_parquet(self.folder / "measures" / "days.parquet")

    @property
    def facts(self) -> dict[str, Any]:
        found = json.loads((self.folder / "measures" / "facts.json").read_text(encoding="utf-8"))
        assert isinstance(found, dict)
        return found

    def models(self, name: str) -> list[Path]:
        """Folders of a channel's versions, in order of their day; those of its only model."""
        return sorted(self.folder.glob(f"day-*/models/{name}-*"))

    def day(self, table: str, day: int) -> pl.DataFrame:
        """A table's rows of a day of the experiment, 0 the first."""
        return self.table(table).filter(pl.col("day") == self.scenario.experiment_day + day)

    def published_s(self) -> pl.DataFrame:
        """When each item was published, seconds since the start of the log."""
        from simulator.world.world import World

        catalogue = World.build(self.scenario.world_config(0)).catalogue
        return pl.DataFrame({"item_id": range(len(catalogue)), "published_s": catalogue.published_s})


@functools.lru_cache(maxsize=200)
def run(*overrides: str, part: str = EXPERIMENT) -> Run:
    """Simulate the tiny scenario with overrides: the experiment, or everybody in one arm."""
    scenario = tiny(*overrides, *([] if part == EXPERIMENT else ["truth.worlds=true"]))
    root = Path(tempfile.mkdtemp(dir=_HOME.name))
    for one in simulations_of(scenario):
        if one.part in (WARM_UP, part):
            simulate(scenario, root, one)
    folder = root / Simulation("main", 0, part).path
    base = root / Simulation("main", 0, WARM_UP).path
    return Run(scenario, folder, base if base.exists() else folder)
