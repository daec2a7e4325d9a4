"""Evidence maps: raw logs as datasets, gains with intervals over seeds and users, forecasts beside them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
import yaml

from abtest.offline.evidence_map import agreement, run_evidence_map
from abtest.offline.evidence_map_scenario import EvidenceMapScenario
from abtest.report.pages.evidence_section import evidence_section
from abtest.scenario_files import load_scenario
from abtest.schema import results_schema
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError

from .fakes import CUTOFFS, FakeResult, draw_result, fake_baseline

GAINS = {"feature": 0.0, "semantic": 0.15, "session": -0.1}


def scenario_keys(folder: Path) -> dict[str, Any]:
    return {
        "kind": "evidence_map",
        "name": "tiny-evidence",
        "datasets": {
            "world": {
                "world": {
                    "users": {"count": 60},
                    "items": {"count": 60, "categories": 3, "subcategories": 2, "groups": 2, "providers": 8},
                    "tags": {"count": 12},
                }
            },
            "log": {"label": "a log", "log": {"path": str(folder / "log.csv")}},
            "absent": {"log": {"path": str(folder / "nowhere.csv")}},
        },
        "seeds": 3,
        "base": {"evaluation": {"cutoffs": list(CUTOFFS)}},
        "rows": {
            "base": {"label": "base", "losses": []},
            "feature": {"label": "+ feature", "losses": ["feature"]},
            "semantic": {"label": "+ semantic", "losses": ["semantic"]},
            "session": {"label": "+ session", "losses": ["session"]},
            "all": {"label": "+ all"},
        },
        "metrics": ["hit@5"],
        "baselines": ["popularity"],
    }


def write_log(folder: Path) -> None:
    """Users who like one of three kinds of items each, over some days."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 12)
    items = 10 * (users % 3) + rng.integers(0, 10, len(users))
    order = rng.permutation(len(users))
    hours = 1_600_000_000 + 3600 * np.arange(len(users))
    pl.DataFrame({"user_id": users[order], "item_id": items[order], "timestamp": hours}).write_csv(folder / "log.csv")


class LossTrainer:
    """Each loss gains what ``GAINS`` says."""

    def __init__(self) -> None:
        self.datasets: set[str] = set()

    def __call__(self, dataset: Dataset, config: Config, **given: Any) -> FakeResult:
        self.datasets.add(dataset.name)
        rate = 0.4 + sum(GAINS[loss] for loss in config.contrast.on)
        return draw_result(config.train.seed * 7 + len(config.contrast.on), (rate, 0.8), n_users=600)


def load(folder: Path, *sets: str) -> tuple[EvidenceMapScenario, dict[str, Any]]:
    path = folder / "evidence.yaml"
    path.write_text(yaml.safe_dump(scenario_keys(folder), sort_keys=False), encoding="utf-8")
    scenario, resolved = load_scenario(path, sets)
    assert isinstance(scenario, EvidenceMapScenario)
    return scenario, resolved


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    write_log(folder)
    return folder


@pytest.fixture(scope="module")
def results(folder):
    scenario, resolved = load(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        return run_evidence_map(
            scenario, folder / "run", resolved=resolved, command="", train=LossTrainer(), baseline=fake_baseline
        )


def squares(results: dict[str, Any], dataset: str) -> dict[str, dict[str, Any]]:
    return {one["row"]: one for one in results["evidence"]["squares"] if one["dataset"] == dataset}


class TestLogs:
    def test_a_raw_log_is_converted_and_a_missing_one_left_out_with_a_word(self, folder, results):
        assert list(results["datasets"]) == ["world", "log"]
        assert results["datasets"]["log"]["clicks"] == 480
        scenario, _ = load(folder)
        assert f"absent is left out: {folder / 'nowhere.csv'} is not there" in scenario.work()

    def test_a_log_that_changed_is_converted_anew(self, folder, tmp_path):
        from abtest.offline.dataset_run import converted
        from abtest.offline.table_scenario import LogConfig

        log = tmp_path / "log.csv"
        log.write_bytes((folder / "log.csv").read_bytes())
        first = converted(LogConfig(path=log), tmp_path / "made")
        made = (first / "dataset.yaml").stat().st_mtime_ns
        assert (converted(LogConfig(path=log), tmp_path / "made") / "dataset.yaml").stat().st_mtime_ns == made
        log.write_text("\n".join(log.read_text(encoding="utf-8").splitlines()[:200]) + "\n", encoding="utf-8")
        converted(LogConfig(path=log), tmp_path / "made")
        assert pl.read_parquet(first / "clicks.parquet").height == 199

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("datasets.log.log.reader=kuairnd", "datasets.log.log.reader: no reader kuairnd: did you mean kuairand?"),
            ("datasets.log.data=shop", "datasets.log: has data and log"),
            ("metrics=[coverage@5]", "metrics: none is HIT"),
            ("rows={base: {label: base}}", "rows: there is one row alone"),
            ("datasets={a: {log: {path: nowhere.csv}}}", "datasets: none is there: a is left out: nowhere.csv"),
        ],
    )
    def test_mistakes_are_named(self, folder, change, said):
        with pytest.raises(MicrecError, match=said.replace("?", r"\?")):
            load(folder, change)


class TestSquares:
    def test_each_square_holds_the_planted_gain_and_says_on_which_side_it_lies(self, results):
        for name in ("world", "log"):
            found = squares(results, name)
            for row, gain in GAINS.items():
                low, high = found[row]["lift_ci"]
                assert low < gain / 0.4 < high
            assert [found[row]["outcome"] for row in GAINS] == ["open", "gain", "loss"]

    def test_a_forecast_stands_beside_rows_of_one_loss_alone(self, results):
        world, log = squares(results, "world"), squares(results, "log")
        assert world["all"]["forecast"] is None
        assert world["semantic"]["forecast"]["signal"] == "titles"
        assert world["session"]["forecast"]["signal"] == "sessions"
        assert log["semantic"]["forecast"] is None  # it has no titles
        assert log["feature"]["forecast"] is None  # nor fields

    def test_results_fit_the_schema_and_the_report_says_the_numbers(self, folder, results):
        jsonschema.validate(json.loads((folder / "run" / "results.json").read_text(encoding="utf-8")), results_schema())
        section = evidence_section(results)
        gains = next(block for block in section.tables if block.title == "Gain in hit@5")
        assert [row[0] for row in gains.rows] == [one["label"] for one in results["datasets"].values()]
        page = (folder / "run" / "report.html").read_text(encoding="utf-8")
        assert section.title in page
        assert "no signal" in page
        assert "items known" in (folder / "run" / "table.tex").read_text(encoding="utf-8")  # which one dataset has


def square(auc: float | None, lift: float | None) -> dict[str, Any]:
    return {"metric": "hit@5", "forecast": None if auc is None else {"auc": auc}, "lift": lift}


def test_agreement_is_kendalls_tau_of_what_has_both():
    rising = [square(0.5, -0.1), square(0.6, 0.0), square(0.7, 0.2), square(None, 9.0), square(0.9, None)]
    assert agreement(rising, "hit@5")["tau"] == pytest.approx(1.0)
    assert agreement(rising, "hit@5")["squares"] == 3
    assert agreement([*rising, square(0.8, -0.2)], "hit@5")["tau"] == pytest.approx(0.0)
    assert agreement(rising[:2], "hit@5")["tau"] is None
    assert agreement([square(0.5, 0.1)] * 4, "hit@5")["tau"] is None
