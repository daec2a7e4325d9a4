"""The shipped tables: what they train is what the paper's tables say, and the command runs them on a dataset folder."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.offline.table_scenario import TableScenario
from abtest.scenario_files import load_scenario
from micrec.fitting import fit
from micrec.presets import PAPER
from micrec.settings import build_config, differences, flatten, merge
from tests.micrec.factories import random_dataset, write_random

SCENARIOS = Path(__file__).parents[3] / "scenarios"
OFF = {loss: {"weight": 0} for loss in ("feature", "semantic", "session")}
TINY = {  # small models on a small log
    "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}},
    "contrast": {"projector_dim": 8, "pool_size": 32},
    "train": {"epochs": 1, "batch_size": 128, "metric": "hit@5", "device": "cpu"},
    "evaluation": {"cutoffs": [5, 10]},
}
SMALL = [
    "base.model={embedding_dim: 8, hidden: [8], options: {heads: 2}}",
    "base.contrast={projector_dim: 8, pool_size: 32}",
    "base.train={epochs: 1, batch_size: 128, metric: hit@5, device: cpu}",
    "base.evaluation={cutoffs: [5, 10]}",
    "metrics=[hit@5, hit@10]",
    "details=[coverage@5, link_recall_cross@5]",
    "figure={metrics: [hit@5]}",
    "seeds=2",
]


def load(name: str) -> TableScenario:
    scenario, _ = load_scenario(SCENARIOS / f"{name}.yaml")
    assert isinstance(scenario, TableScenario)
    return scenario


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(name: str, data: Path, out: Path, *more: str):
    sets = itertools.chain.from_iterable(("--set", one) for one in (f"data={data}", *SMALL, *more))
    return call("run", SCENARIOS / f"{name}.yaml", *sets, "--out", out, "--workers", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_random(tmp_path_factory.mktemp("log"), np.random.default_rng(0), n_clicks=900)


class TestWhatTheTablesTrain:
    def test_weights_of_the_paper_on_both_datasets(self):
        for name in ("table2", "table4"):
            scenario = load(name)
            weights = {
                dataset: [getattr(scenario.config(keys, "final", 0).contrast, loss).weight for loss in OFF]
                for dataset, keys in scenario.chosen()
            }
            assert weights == {"video": [1.0, 0.3, 0.1], "news": [1.0, 0.1, 0.1]}

    def test_rows_differ_from_micrec_in_their_losses_and_model_alone(self):
        scenario = load("table2")
        keys = scenario.chosen()[0].keys
        final = scenario.config(keys, "final", 3)
        for row in scenario.rows:
            changed = differences(scenario.config(keys, row, 3), final)
            parts = {key.rsplit(".", 1)[0] for key in changed}
            assert parts <= {"model", *(f"contrast.{loss}" for loss in OFF)}, row
            assert set(changed) <= {"model.name", *(f"contrast.{loss}.weight" for loss in OFF)} or row in ("rfm", "cfm")
        assert scenario.config(keys, "final", 3).contrast == PAPER.contrast

    @pytest.mark.parametrize("name", ["table2", "table4", "figure3", "universality", "grid"])
    def test_models_that_are_tested_have_seen_all_clicks_before_the_test(self, name):
        """Else items first clicked on the validation days are untrained, but for the semantic loss."""
        scenario, _ = load_scenario(SCENARIOS / f"{name}.yaml")
        for _, keys in scenario.chosen():
            assert all(scenario.config(keys, row, 0).train.refit for row in scenario.rows)

    def test_table_4_removes_one_loss_a_row_and_then_all(self):
        scenario = load("table4")
        keys = scenario.chosen()[0].keys
        off = {
            row: {loss for loss in OFF if getattr(scenario.config(keys, row, 0).contrast, loss).weight == 0}
            for row in scenario.rows
        }
        singles = {f"no_{loss}": {loss} for loss in OFF}
        assert off == {"final": set(), **singles, "none": set(OFF)}

    def test_rfm_star_is_micrec_with_the_feature_loss_alone(self, tmp_path):
        """Equal by the paper: the same config, and in training the identical losses and embeddings."""
        scenario = load("table2")
        row = scenario.config(scenario.chosen()[0].keys, "fea", 5)
        alone = {"contrast": {**OFF, "feature": {"weight": PAPER.contrast.feature.weight}}}
        same = build_config("paper", merge(scenario.base, alone, {"train": {"seed": 5}}))
        assert row == same
        dataset = random_dataset(tmp_path / "log", np.random.default_rng(1))
        logs = []
        for config in (row, same):
            small = build_config("paper", merge(config.model_dump(), TINY))
            fitted = fit(dataset, small)
            assert fitted.config.contrast.semantic.weight == 0
            assert fitted.config.contrast.feature.mask == "element"
            logs.append([{k: v for k, v in entry.items() if k not in ("seconds",)} for entry in fitted.state.log])
        assert logs[0] == logs[1]
        assert "feature" in json.dumps(logs[0])

    def test_universality_pairs_each_base_with_its_losses(self):
        scenario = load("universality")
        keys = scenario.chosen()[0].keys
        pairs = [ordering.rising for ordering in scenario.orderings]
        assert [row for pair in pairs for row in pair] == list(scenario.rows)
        for base, full in pairs:
            changed = differences(scenario.config(keys, full, 0), scenario.config(keys, base, 0))
            assert set(changed) == {f"contrast.{loss}.weight" for loss in OFF}

    @pytest.mark.parametrize(
        ("name", "loss", "keys"),
        [
            ("dose_titles", "semantic", ["signals.titles"]),
            ("dose_fields", "feature", ["signals.tags", "signals.provider"]),
            ("dose_links", "session", ["links.strength"]),
        ],
    )
    def test_a_dose_moves_what_its_loss_needs_and_its_rows_differ_by_the_loss_alone(self, name, loss, keys):
        scenario, _ = load_scenario(SCENARIOS / f"{name}.yaml")
        tables = scenario.tables()
        assert list(tables) == [loss, "placebo"]
        worlds = [keys_.world.model_dump() for _, keys_ in tables[loss].chosen()]
        first, last = (flatten(world) for world in (worlds[0], worlds[-1]))
        assert {key for key in first if first[key] != last[key]} == {*keys, "seed"}
        assert {first[key] for key in keys} == {0}
        assert len(worlds) == 3 * 5
        for name, changed in ((loss, f"contrast.{loss}.weight"), ("placebo", "train.batch_size")):
            table = tables[name]
            assert list(table.datasets) == list(tables[loss].datasets)
            base, other = (table.config(table.chosen()[0].keys, row, 0) for row in table.rows)
            assert list(differences(other, base)) == [changed]

    def test_the_map_has_the_three_losses_over_the_same_base_worlds(self):
        scenario, _ = load_scenario(SCENARIOS / "when.yaml")
        assert set(scenario.panels) == set(OFF)
        left = [[one.dataset for one in scenario.squares(name) if one.dial == 0] for name in scenario.panels]
        assert left[0] == left[1] == left[2]

    @pytest.mark.parametrize("name", ["when", "when_best"])
    def test_the_rows_of_a_map_differ_by_the_loss_alone(self, name):
        scenario, _ = load_scenario(SCENARIOS / f"{name}.yaml")
        for loss, table in scenario.tables().items():
            panel = scenario.panels[loss]
            with_loss, without = (table.config(table.chosen()[0].keys, row, 0) for row in (panel.row, panel.against))
            assert list(differences(with_loss, without)) == [f"contrast.{loss}.weight"]
            assert getattr(without.contrast, loss).weight == 0 < getattr(with_loss.contrast, loss).weight

    def test_the_map_of_a_model_that_hears_is_on_the_same_worlds_and_reads_no_titles(self):
        maps = [load_scenario(SCENARIOS / f"{name}.yaml")[0] for name in ("when", "when_best")]
        assert maps[0].worlds() == maps[1].worlds()
        table = maps[1].tables()["semantic"]
        config = table.config(table.chosen()[0].keys, "semantic", 0)
        assert (config.model.options.title_dim, config.contrast.semantic.form) == (0, "pseudo_clicks")

    @pytest.mark.parametrize(("name", "items"), [("titles", 2_010), ("titles_large", 10_050)])
    def test_the_worlds_of_titles_differ_in_what_titles_tell(self, name, items):
        configs = [keys.world_config() for _, keys in load(name).chosen()]
        worlds = [flatten(config.model_dump()) for config in configs]
        assert {key for key in worlds[0] if worlds[0][key] != worlds[1][key]} == {"name", "signals.titles"}
        assert worlds[0]["items.count"] == items

    def test_the_grid_is_the_papers(self):
        scenario, _ = load_scenario(SCENARIOS / "grid.yaml")
        values = {name: factor.values for name, factor in scenario.factors.items()}
        weights = (0.05, 0.1, 0.3, 0.5, 1.0)
        assert values == {
            **{f"{loss} weight": weights for loss in OFF},
            "mask ratio": (0.3, 0.5, 0.7, 0.9),
            "negatives": (10, 20, 50),
        }
        assert len(scenario.combinations()) == 1500


class TestCommand:
    def test_table_2_runs_on_any_dataset_folder(self, data, tmp_path):
        out = tmp_path / "run"
        done = run("table2", data, out)
        assert done.exit_code == 0, done.output
        assert f"report: {out / 'report.html'}" in done.stdout
        assert "The claims" in done.stdout
        assert "Each loss adds" in done.stdout
        results = json.loads((out / "results.json").read_text("utf-8"))
        assert len({m["arm"] for m in results["models"]}) == 1 + 10
        names = {path.name for path in out.iterdir()}
        assert {"report.md", "table.tex", "table.csv", "trials.csv", "figure.png", "figure.pdf"} <= names
        assert "link_recall" in (out / "report.md").read_text("utf-8")
        again = run("table2", data, out)
        assert again.exit_code == 2
        assert "use --force" in again.stderr

    def test_the_grid_runs_too(self, data, tmp_path):
        small = ["factors={ratio: {keys: [contrast.feature.ratio], values: [0.3, 0.5]}}", "choose_by=hit@5"]
        done = run("grid", data, tmp_path / "run", *small)
        assert done.exit_code == 0, done.output
        results = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
        (search,) = results["search"].values()
        assert [trial["setting"] for trial in search["trials"]] == [{"ratio": 0.5}, {"ratio": 0.3}]
        best = max(search["trials"], key=lambda trial: trial["mean"])
        assert search["chosen"] == best["setting"]

    def test_bad_input_is_told_at_once_with_exit_code_2(self, tmp_path):
        sets = ["--set", "datasets.vdeo.rows.ican={}", "--set", "reference=ikan", "--set", "metrics=[hit@51]"]
        done = call("run", SCENARIOS / "table2.yaml", *sets, "--out", tmp_path / "run")
        assert done.exit_code == 2
        assert "reference: no row ikan: did you mean ican?" in done.stderr
        assert "metrics: hit@51 needs 51 among" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_is_not_there(self, tmp_path):
        done = call("run", SCENARIOS / "table1.yaml", "--set", "data=nowhere", "--out", tmp_path / "run")
        assert done.exit_code == 2
        assert "nowhere" in done.stderr
        assert not (tmp_path / "run").exists()

    def test_check_says_what_would_be_trained(self):
        done = call("scenario", "check", SCENARIOS / "table2.yaml")
        assert done.exit_code == 0
        assert "datasets video, news" in done.stdout
        assert "5 seeds: 100 models" in done.stdout
