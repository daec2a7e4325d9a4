"""A whole experiment on a tiny platform: files, truth, workers, kills, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from abtest.analysis.plan import AnalysisPlan
from abtest.cli.main import app
from abtest.online.truth import true_lifts
from abtest.scenario_files import load_scenario
from abtest.scenario_kinds import SCENARIO_KINDS
from abtest.schema import results_schema

CHANNELS = {
    "item_cf": {"kind": "item_cf", "k": 40, "quota": 30},
    "popular": {"kind": "popular", "k": 40, "quota": 30},
}
TINY = {
    "kind": "online_ab",
    "world": {
        "users": {"count": 400},
        "items": {"count": 200, "categories": 4, "subcategories": 2, "groups": 2, "providers": 20},
        "tags": {"count": 30},
    },
    "history_days": 3,
    "days": 2,
    "looks": "final",
    "platform": {"warmup_days": 1, "pipeline": {"channels": CHANNELS}},
    "arms": {
        "control": {"label": "both"},
        "treatment": {"label": "ten", "pipeline": {"merge": {"candidates": 10}, "channels": {"item_cf": None}}},
    },
}


def written(folder: Path, **keys: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **keys}), encoding="utf-8")
    return path


def run(path: Path, out: Path, **more: object) -> dict:
    scenario, resolved = load_scenario(path)
    return SCENARIO_KINDS[scenario.kind].run(scenario, out, resolved=resolved, **{"workers": 1, **more})


def measures(out: Path) -> dict[str, bytes]:
    files = sorted((out / "worlds").rglob("measures/*"))
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("online")
    results = run(written(folder), folder / "run")
    return folder, results


def test_results_are_what_the_schema_says_and_every_file_is_there(finished):
    folder, results = finished
    stored = json.loads((folder / "run" / "results.json").read_text(encoding="utf-8"))
    jsonschema.validate(stored, results_schema())
    assert stored["kind"] == "online_ab"
    assert {"report.html", "report.md", "table.tex", "scenario.resolved.yaml"} <= {
        path.name for path in (folder / "run").iterdir()
    }
    acc = next(one for one in results["effects"] if one["metric"] == "ACC" and one["slice"] == "all")
    assert acc["control"]["arm"] == "both"
    assert acc["truth"]["lift"] != 0
    assert acc["truth"]["se"] > 0
    assert results["identical_arms"] is None


def test_any_number_of_workers_gives_the_same_files(finished, tmp_path):
    folder, _ = finished
    run(folder / "tiny.yaml", tmp_path / "run", workers=2)
    assert measures(tmp_path / "run") == measures(folder / "run")
    assert measures(tmp_path / "run")


def test_the_resolved_scenario_repeats_the_run(finished, tmp_path):
    folder, _ = finished
    run(folder / "run" / "scenario.resolved.yaml", tmp_path / "run")
    assert measures(tmp_path / "run") == measures(folder / "run")


def days_on_disk(out: Path) -> int:
    """Finished days of a run that another process writes: os.walk passes over what it has just renamed."""
    return sum(name.startswith("day-") for _, folders, _ in os.walk(out / "worlds") for name in folders)


def test_killed_at_any_moment_it_goes_on_to_the_same_files(finished, tmp_path):
    folder, _ = finished
    out = tmp_path / "run"
    command = [sys.executable, "-m", "abtest", "run", str(folder / "tiny.yaml"), "--out", str(out), "--workers", "1"]
    for days in (1, 3):  # killed once some days are on disk, twice
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and days_on_disk(out) < days:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
    assert not (out / "results.json").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert measures(out) == measures(folder / "run")


def test_identical_arms_change_nothing_for_anybody(tmp_path):
    path = written(tmp_path, arms={"control": {"label": "A"}, "treatment": {"label": "also A"}})
    results = run(path, tmp_path / "run")
    worlds = {
        part: pl.read_parquet(tmp_path / "run/worlds/main/000" / part / "measures/days.parquet").drop("arm")
        for part in ("experiment", "control", "treatment")
    }
    assert worlds["experiment"].equals(worlds["control"])
    assert worlds["experiment"].equals(worlds["treatment"])
    truths = [one["truth"] for one in results["effects"] if one["truth"]]
    assert truths
    assert {(truth["lift"], truth["se"]) for truth in truths} == {(0.0, 0.0)}
    note = "The arms control and treatment are identical: this compares a platform with itself."
    assert results["identical_arms"] == note
    for report in ("report.md", "report.html"):
        assert note in (tmp_path / "run" / report).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dais": 3}, "did you mean days"),
        ({"platform": {"seed": 1}}, "platform.seed: belongs to the scenario"),
        ({"truth": False, "experiment": False}, "switch one on"),
        ({"variants": {"a": {"days": 1}}, "doses": {"values": [0.0, 1.0]}}, "makes the variants"),
        ({"arms": {"control": {"label": "A"}}}, "at least one other arm"),
        ({"world": {"users": {"count": -1}}}, "world.users.count"),
        ({"base": {"split": {"test_days": 3}}}, "base.split: does nothing on a simulated platform"),
        ({"base": {"evaluation": {"cutoffs": [5]}}}, "base.evaluation: does nothing on a simulated platform"),
        ({"base": {"train": {"patience": 3}}}, "base.train.patience: does nothing on a simulated platform"),
        ({"variants": {"a": {"base": {"split": {}}}}}, "base.split: does nothing on a simulated platform"),
        (
            {"arms": {**TINY["arms"], "b": {"label": "b", "config": {"evaluation": {}}}}},
            "arms.b.config.evaluation: does nothing on a simulated platform",
        ),
        ({"arms": {**TINY["arms"], "warmup": {"label": "w"}}}, "arms.warmup: is the name of a folder of every run"),
        ({"arms": {**TINY["arms"], "Experiment": {"label": "e"}}}, "arms.Experiment: is the name of a folder"),
        ({"arms": {**TINY["arms"], "Control": {"label": "c"}}}, "arms.control: differs from Control in capitals only"),
        ({"arms": {**TINY["arms"], "treatment": {"label": "B", "pipeline": {"slate": 3}}}}, "slate"),
    ],
)
def test_a_bad_scenario_is_refused_before_anything_is_written(tmp_path, keys, message):
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["run", str(written(tmp_path, **keys)), "--out", str(out)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()


def test_a_finished_run_and_another_ones_folder_are_kept(finished, tmp_path):
    folder, _ = finished
    again = CliRunner().invoke(app, ["run", str(folder / "tiny.yaml"), "--out", str(folder / "run")])
    assert again.exit_code == 2
    assert "--force" in again.stderr
    out = tmp_path / "run"
    out.mkdir()
    (out / "scenario.resolved.yaml").write_text("kind: online_ab\n", encoding="utf-8")
    other = CliRunner().invoke(app, ["run", str(folder / "tiny.yaml"), "--out", str(out)])
    assert other.exit_code == 2
    assert "another scenario" in other.stderr


def test_a_channel_that_is_always_late_is_seen_in_the_funnel(tmp_path):
    late = {"kind": "popular", "k": 40, "quota": 30, "deadline_ms": 1.0, "latency": {"kind": "constant", "mean_ms": 50}}
    platform = {"warmup_days": 1, "pipeline": {"channels": {**CHANNELS, "late": late}}}
    run(written(tmp_path, platform=platform, truth=False), tmp_path / "run")
    facts = json.loads((tmp_path / "run/worlds/main/000/experiment/measures/facts.json").read_text(encoding="utf-8"))
    stages = [row for row in facts["stages"] if row["stage"] == "late"]
    assert stages
    assert all(row["late"] == row["jobs"] for row in stages)
    assert "none" not in {row["fallback"] for row in facts["outcomes"]}


def user_days(rows: list[tuple[int, int, float]]) -> pl.DataFrame:
    """(user, clicks, dwell) on one day."""
    table = pl.DataFrame(rows, schema=["user_id", "clicks", "dwell_s"], orient="row")
    return table.with_columns(arm=pl.lit("x"), day=pl.lit(1), impressions=pl.lit(10), cold=pl.col("user_id") % 2 == 0)


def test_true_lifts_are_those_of_the_sums_and_their_error_is_paired():
    control = user_days([(user, 1 + user % 5, 10.0 * user) for user in range(200)])
    treatment = control.with_columns(clicks=pl.col("clicks") + (pl.col("user_id") % 4 == 0))
    plan = AnalysisPlan(control="A", treatments=("B",), rows="days")
    found = true_lifts(control, treatment, plan)
    lift = found["ACC", "all", "B"]
    assert lift.lift == pytest.approx(50 / 600)
    # delta method by hand: per-user (b - r a) / mean(a)
    a, b = control["clicks"].to_numpy().astype(float), treatment["clicks"].to_numpy().astype(float)
    spread = (b - b.sum() / a.sum() * a) / a.mean()
    assert lift.se == pytest.approx(spread.std(ddof=1) / len(a) ** 0.5)
    assert found["ADT", "all", "B"] == (0.0, 0.0)
    assert found["CTR", "all", "B"].lift == pytest.approx(50 / 600)
    assert found["ACC-c", "cold", "B"].lift == pytest.approx(50 / 300)
