"""``micrec tune`` from the search to the report: one reading of the test part, for winner, presets and baselines."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.offline.tuned_table import TuneRequest, run_tuning
from abtest.report.pages.tune_sections import history_figure, parallel_figure, standing_lines, tuned_sections
from abtest.schema import results_schema
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.settings import build_config, load_yaml
from micrec.tuning.search_space import SHIPPED_SPACE
from tests.micrec.factories import write_random

from .fakes import FakeResult, draw_result

pytest.importorskip("optuna")

SPACE: dict[str, Any] = {
    "base": {
        "model": {"embedding_dim": 8},
        "train": {"epochs": 1, "batch_size": 256, "patience": 0},
        "contrast": {loss: {"weight": 0.0} for loss in ("feature", "semantic", "session")},
        "evaluation": {"cutoffs": [5, 10]},
    },
    "branches": {
        "dnn": {
            "preset": "paper",
            "config": {"model": {"name": "youtube_dnn"}},
            "search": {
                "optim.learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
                "model.user_id": {"values": [True, False]},
            },
        }
    },
}
TRIALS = 11


class RowTrainer:
    """Trains nothing; the tuned model (the only one with 8 numbers) is ahead. Notes what was asked for."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.configs: list[Config] = []
        self.dies_at = dies_at

    def __call__(self, dataset: Dataset, config: Config, **given: Any) -> FakeResult:
        assert given.get("part", "test") == "test"
        self.configs.append(config)
        if len(self.configs) == self.dies_at:
            raise KeyboardInterrupt
        rates = (0.5, 0.8) if config.model.embedding_dim == 8 else (0.4, 0.8)
        return draw_result(config.train.seed + len(config.model.name), rates, n_users=600)


def fake_baseline(name: str, dataset: Dataset, config: Config) -> FakeResult:
    return draw_result(99, (0.6, 0.9) if name == "ease" else (0.2, 0.3), n_users=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    write_random(folder / "shop", np.random.default_rng(3))
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    return folder


def asked(folder: Path, **changes: Any) -> TuneRequest:
    given = {"data": folder / "shop", "trials": TRIALS, "metric": "hit@5", "space": folder / "space.yaml", "seeds": 2}
    return TuneRequest(**{**given, "sets": ("evaluation.cutoffs=[5,10]",), **changes})


def run(folder: Path, out: Path, trainer: RowTrainer, **changes: Any) -> dict[str, Any]:
    return run_tuning(asked(folder, **changes), out, workers=1, train=trainer, baseline=fake_baseline)


@pytest.fixture(scope="module")
def trainer() -> RowTrainer:
    return RowTrainer()


@pytest.fixture(scope="module")
def results(folder, trainer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        return run(folder, folder / "run", trainer)


class TestTest:
    def test_winner_and_presets_are_trained_with_the_same_seeds_and_baselines_stand_beside(self, trainer, results):
        rows = {(model["arm"], model["seed"]) for model in results["models"] if model["arm"]}
        assert rows == {(row, seed) for row in ("tuned", "paper", "modern", "best") for seed in (0, 1)}
        assert {"ease (baseline)", "title_knn (baseline)"} <= {model["model"] for model in results["models"]}

    def test_each_row_has_its_own_presets_config(self, trainer, folder):
        best = load_yaml(folder / "run" / "best.yaml")
        wanted = [build_config(best["preset"], best)]
        wanted += [build_config(name, {"evaluation": {"cutoffs": [5, 10]}}) for name in ("paper", "modern", "best")]
        assert [_bare(one) for one in trainer.configs[:4]] == [_bare(one) for one in wanted]

    def test_the_line_names_what_the_winner_does_not_pass(self, results):
        baselines, presets = standing_lines(results)
        assert baselines.startswith("The tuned model does not pass EASE (below it at every N); at every N it is above ")
        assert "preset paper (above it at 5, not distinguishable at 10)" in presets
        worse = [one for one in results["tuning"]["standings"] if one["other"] == "ease (baseline)"]
        assert all(one["lift_ci"][1] < 0 for one in worse)

    def test_results_fit_the_schema(self, folder, results):
        stored = json.loads((folder / "run" / "results.json").read_text(encoding="utf-8"))
        jsonschema.validate(stored, results_schema())
        assert stored["kind"] == "tune"
        assert len(stored["tuning"]["trials"]) == TRIALS

    def test_the_report_has_history_importance_and_every_trial(self, folder, results):
        standing, mattered, searched, *_ = tuned_sections(results)
        assert "What mattered in branch dnn" in [block.title for block in mattered.blocks]
        assert len(searched.tables[0].rows) == TRIALS
        best = next(one.y for one in history_figure(results).series if one.name == "best so far")
        assert best == sorted(best)
        figure = parallel_figure(results, "dnn")
        assert figure is not None
        assert all(value is None or 0.0 <= value <= 1.0 for one in figure.series for value in one.y)
        page = (folder / "run" / "report.html").read_text(encoding="utf-8")
        assert all(title in page for title in (standing.title, mattered.title, searched.title))
        assert "preset paper." not in page  # each row has its own


class TestResuming:
    def test_a_search_whose_test_was_begun_is_closed(self, folder, tmp_path):
        """A kill in the test: the same command, even with more trials, searches no further."""
        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run(folder, out, RowTrainer(dies_at=3), trials=2)
        assert (out / "best.yaml").exists()
        assert not (out / "results.json").exists()
        again = RowTrainer()
        results = run(folder, out, again, trials=5)
        assert len(results["tuning"]["trials"]) == 2
        assert len(again.configs) == 6  # two of eight models were done

    def test_a_finished_run_is_kept_unless_forced(self, folder, results):
        with pytest.raises(MicrecError, match="holds a finished run"):
            run(folder, folder / "run", RowTrainer())

    def test_force_starts_a_new_search(self, folder, tmp_path):
        out = tmp_path / "run"
        run(folder, out, RowTrainer(), trials=1, compare=())
        results = run_tuning(
            asked(folder, trials=1, compare=(), seed=5),
            out,
            workers=1,
            force=True,
            train=RowTrainer(),
            baseline=fake_baseline,
        )
        assert results["tuning"]["seed"] == 5
        assert len(results["tuning"]["trials"]) == 1
        assert results["seeds"] == [5, 6]


class TestCommand:
    def test_it_prints_the_space(self):
        done = CliRunner().invoke(app, ["tune", "--print-space"])
        assert done.exit_code == 0
        assert done.output == SHIPPED_SPACE.read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ([], "--minutes or --trials: one of the two is needed"),
            (["--minutes", "0"], "minutes: must be > 0, got 0"),
            (["--trials", "1", "--metric", "hit50"], "--metric: must be mrr or"),
            (["--trials", "1", "--compare", "papre"], "compare"),
            (["--trials", "1", "--space", "nowhere.yaml"], "nowhere.yaml"),
            (["--trials", "1", "--set", "train.seed=1"], "train.seed"),
        ],
    )
    def test_mistakes_end_with_2_and_write_nothing(self, folder, tmp_path, options, said):
        out = tmp_path / "run"
        done = CliRunner().invoke(app, ["tune", str(folder / "shop"), "--out", str(out), *options])
        assert done.exit_code == 2
        assert said in done.output
        assert not out.exists()

    def test_train_takes_the_preset_of_its_config(self, folder, results, tmp_path):
        """What ``best.yaml`` holds is what ``micrec train --config`` trains."""
        best = folder / "run" / "best.yaml"
        done = CliRunner().invoke(app, ["train", str(folder / "shop"), str(tmp_path / "model"), "--config", str(best)])
        assert done.exit_code == 0, done.output
        assert "youtube_dnn" in done.output
        done = CliRunner().invoke(
            app, ["train", str(folder / "shop"), str(tmp_path / "other"), "--config", str(best), "--preset", "best"]
        )
        assert done.exit_code == 2
        assert "name one" in done.output


def _bare(config: Config) -> dict[str, Any]:
    """A config but for its preset's name, seed and metric, which a table sets for all rows or leaves."""
    keys = config.model_dump(mode="json", exclude={"preset": True, "train": {"seed"}})
    return keys
