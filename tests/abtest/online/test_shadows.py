"""An experiment's first day compares models of one age: the treatment's was trained all through the warm-up, unseen."""

from pathlib import Path
from typing import Any

import polars as pl

from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import WARM_UP, Simulation, simulate
from micrec.retrieval import load_bundle
from micrec.settings import merge, validate

BASE = {
    "kind": "online_ab",
    "name": "shadows",
    "world": {"users": {"count": 300}, "items": {"count": 120, "categories": 6, "groups": 2}, "tags": {"count": 30}},
    "history_days": 3,
    "days": 1,
    "platform": {
        "warmup_days": 2,
        "pipeline": {"slate_size": 5, "channels": {"matching": {"kind": "two_tower", "k": 40, "quota": 20}}},
    },
    "base": {
        "model": {"name": "ican", "embedding_dim": 8, "hidden": [8], "options": {"heads": 2}},
        "train": {"epochs": 3, "batch_size": 256, "device": "cpu"},
        "contrast": {"pool_size": 32, "semantic": {"source": "taxonomy"}},
    },
    "arms": {
        "control": {
            "label": "ICAN",
            "config": {"contrast": {loss: {"weight": 0} for loss in ("feature", "semantic", "session")}},
        },
        "treatment": {"label": "MicRec"},
    },
}


def first_day(root: Path, **changes: Any) -> dict[str, dict[str, Any]]:
    """By arm, of its two-tower model on the first day of the experiment: the row of the snapshots, lineage, bytes."""
    scenario = validate(OnlineScenario, merge(BASE, changes), where="test")
    for part in (WARM_UP, "experiment"):
        simulate(scenario, root, Simulation("main", 0, part))
    folder = root / Simulation("main", 0, "experiment").path
    snapshots = pl.read_parquet(folder / "day-0005/snapshots.parquet").filter(pl.col("name") == "matching")
    found = {}
    for arm, row in zip(("control", "treatment"), snapshots.iter_rows(named=True), strict=True):
        serving = folder / f"day-{row['version']:04d}" / "models" / row["source"] / "serving"
        (weights,) = serving.glob("*.safetensors")
        manifest = load_bundle(serving).manifest
        found[arm] = {**row, **manifest["lineage"], "clicks": manifest["trained_clicks"], "bytes": weights.read_bytes()}
    return found


def test_on_the_first_day_both_models_have_seen_as_much(tmp_path):
    found = first_day(tmp_path)
    for fact in ("day", "trained", "version", "status", "versions", "epochs", "clicks"):
        assert found["control"][fact] == found["treatment"][fact]
    assert (found["treatment"]["versions"], found["treatment"]["epochs"]) == (3, 3 + 2 + 2)
    assert found["control"]["bytes"] != found["treatment"]["bytes"]


def test_arms_of_one_config_have_the_same_parameters_on_the_first_day(tmp_path):
    arms = {"treatment": {"config": BASE["arms"]["control"]["config"]}}
    found = first_day(tmp_path, arms=arms, platform={"training": "diverted"})
    assert found["control"]["model"] != found["treatment"]["model"]
    assert found["control"]["bytes"] == found["treatment"]["bytes"]


def test_without_shadows_the_treatment_is_a_beginner(tmp_path):
    found = first_day(tmp_path, platform={"shadow_warm_up": False})
    assert [(found[arm]["versions"], found[arm]["epochs"]) for arm in found] == [(3, 7), (1, 3)]
