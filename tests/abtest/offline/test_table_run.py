"""Tables with a fake trainer: pairs, resumes, files, numbers that scipy confirms."""

import copy
import csv
import io
import json

import jsonschema
import numpy as np
import pytest
from scipy import stats

from abtest.offline.table_run import run_table
from abtest.run_folder import RESULTS_FILE
from abtest.scenario_files import load_scenario
from abtest.schema import results_schema
from abtest.stats.seed_and_user_tests import holm
from micrec.errors import MicrecError

from .fakes import SIX, draw_result, fake_baseline, tiny_dataset
from .table_fakes import TableTrainer, run_fake_table

SCHEMA = results_schema()


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing takes most of a fake run's time; test_picture draws."""
    monkeypatch.setattr(
        "abtest.report.pages.table_files.figure_files", lambda _: {"figure.png": b"", "figure.pdf": b""}
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("abtest.report.pages.table_files.figure_files", lambda _: {})
        return run_fake_table(tmp_path_factory.mktemp("table") / "run")


def timeless(results: dict) -> dict:
    results = copy.deepcopy(results)
    del results["runtime_s"]
    for model in results["models"]:
        del model["seconds"]
    return results


class TestRun:
    def test_every_row_meets_every_seed_of_every_dataset_in_pairs(self, tmp_path):
        trainer = TableTrainer()
        run_fake_table(tmp_path / "run", train=trainer)
        rates = [0.2, pytest.approx(0.3), 0.5]
        assert trainer.calls == [(name, rate, s) for name in ("video", "news") for s in range(3) for rate in rates]

    def test_rows_of_one_seed_differ_in_what_the_row_says_alone(self, tmp_path):
        trainer = TableTrainer()
        sets = [
            "datasets.news.base={contrast: {semantic: {weight: 0.7}}}",
            "datasets.news.rows.fea={train: {epochs: 2}}",
        ]
        run_fake_table(tmp_path / "run", train=trainer, sets=sets)
        weights = [
            (c.contrast.feature.weight, c.contrast.semantic.weight, c.contrast.session.weight, c.train.epochs)
            for c in trainer.configs
        ]
        assert weights[:3] == [(0, 0, 0, 10), (1.0, 0, 0, 10), (1.0, 0.3, 0.1, 10)]
        assert weights[9:12] == [(0, 0, 0, 10), (1.0, 0, 0, 2), (1.0, 0.7, 0.1, 10)]

    def test_the_first_seed_chooses_how_long_the_others_train(self, tmp_path):
        trainer = TableTrainer()
        run_fake_table(tmp_path / "run", train=trainer, sets=["choose_epochs=first_seed"])
        asked = {(c.train.seed, c.split.valid_fraction > 0, c.train.epochs) for c in trainer.configs}
        assert asked == {(0, True, 10), (1, False, 3), (2, False, 3)}  # the fake's best epoch is 3
        assert len(trainer.configs) == 18

    def test_a_single_seed_needs_no_other_to_follow_it(self, tmp_path):
        trainer = TableTrainer()
        run_fake_table(tmp_path / "run", train=trainer, sets=["choose_epochs=first_seed", "seeds=1"])
        assert [c.split.valid_fraction > 0 for c in trainer.configs] == [True] * 6

    @pytest.mark.parametrize(
        ("key", "told"), [("", True), ("choose_epochs=each_seed", False), ("base.split.valid_fraction=0", False)]
    )
    def test_the_report_says_who_chose(self, tmp_path, key, told):
        sets = ["choose_epochs=first_seed", *([key] if key else [])]
        run_fake_table(tmp_path / "run", sets=sets)
        for name in ("report.md", "report.html"):
            text = (tmp_path / "run" / name).read_text(encoding="utf-8")
            assert ("was chosen on the validation clicks with seed 0" in text) == told

    def test_a_killed_run_keeps_the_choice_of_its_first_seed(self, tmp_path):
        out, sets = tmp_path / "run", ["choose_epochs=first_seed"]
        with pytest.raises(KeyboardInterrupt):
            run_fake_table(out, train=TableTrainer(dies_at=5), sets=sets)
        second = TableTrainer()
        run_fake_table(out, train=second, sets=sets)
        assert [c.train.seed for c in second.configs[:2]] == [1, 1]
        assert {c.train.epochs for c in second.configs[:2]} == {3}
        assert len(second.calls) == 18 - 4

    @pytest.mark.parametrize("dies_at", [1, 5, 12])
    def test_a_killed_run_goes_on_to_the_same_result(self, tmp_path, dies_at, results):
        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run_fake_table(out, train=TableTrainer(dies_at=dies_at))
        assert not (out / RESULTS_FILE).exists()
        second = TableTrainer()
        assert timeless(run_fake_table(out, train=second)) == timeless(results)
        assert len(second.calls) == 18 - (dies_at - 1)

    def test_a_finished_run_is_not_overwritten_but_with_force(self, tmp_path):
        out = tmp_path / "run"
        run_fake_table(out)
        trainer = TableTrainer()
        with pytest.raises(MicrecError, match="holds a finished run: use --force"):
            run_fake_table(out, train=trainer)
        assert trainer.calls == []
        run_fake_table(out, train=trainer, force=True)
        assert len(trainer.calls) == 18

    def test_data_stands_for_all_datasets(self, tmp_path):
        results = run_fake_table(tmp_path / "run", sets=["data=some/shop.v2"])
        assert list(results["datasets"]) == ["shop-v2"]
        assert results["datasets"]["shop-v2"]["paper"] == "video"
        assert {model["dataset"] for model in results["models"]} == {"shop-v2"}

    def test_the_resolved_scenario_repeats_the_run(self, tmp_path):
        first = run_fake_table(tmp_path / "run", sets=["data=some/shop"])
        scenario, resolved = load_scenario(tmp_path / "run" / "scenario.resolved.yaml")
        again = run_table(
            scenario,
            tmp_path / "again",
            resolved=resolved,
            command="micrec run tiny.yaml",
            train=TableTrainer(),
            baseline=fake_baseline,
            read=lambda path: tiny_dataset(path.name),
        )
        assert timeless(again) == timeless(first)

    def test_all_bad_datasets_are_told_before_anything_is_written(self, tmp_path):
        def read(path):
            raise MicrecError(f"{path}: no dataset")

        with pytest.raises(MicrecError, match=r"(?s)video: no dataset.*news: no dataset"):
            run_fake_table(tmp_path / "run", read=read)
        assert not (tmp_path / "run").exists()

    def test_what_was_not_evaluated_stops_after_the_first_model(self, tmp_path):
        trainer = TableTrainer()
        sets = ["metrics=[hits@5]", "details=[coverge@5, link_recall@5]", "slices=[cold]"]
        with pytest.raises(MicrecError) as caught:
            run_fake_table(tmp_path / "run", train=trainer, sets=sets)
        assert len(trainer.calls) == 1
        text = str(caught.value)
        assert "metrics: no metric hits@5: did you mean hit@5?" in text
        assert "details: no metric coverge@5: did you mean coverage@5?" in text
        assert "slices: no slice cold: choose from tail" in text
        assert "link_recall" not in text


class TestAgainstBaselines:
    def test_a_row_is_tested_against_baselines_over_seeds_and_users(self, tmp_path):
        changes = {"comparisons": [{"row": "final", "against": ["fea", "baselines"], "metrics": ["hit@5"]}]}
        results = run_fake_table(tmp_path / "run", changes={**changes, "orderings": []})
        effects = [one for one in results["effects"] if one["dataset"] == "video"]
        assert [one["control"]["arm"] for one in effects] == ["fea", *(f"{name} (baseline)" for name in SIX[:-1])]
        against = effects[1]
        simple = next(m for m in results["models"] if m["model"] == f"{SIX[0]} (baseline)" and m["dataset"] == "video")
        assert against["control"]["values"] == [simple["hit@5"]] * 3
        ours = against["treatment"]["values"]
        assert against["p"] == pytest.approx(stats.ttest_1samp(np.array(ours) - simple["hit@5"], 0.0).pvalue)
        assert against["users"]["p"] is not None
        report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
        assert report.count("EASE (baseline)") > 1
        jsonschema.validate(results, SCHEMA)

    def test_a_baseline_that_a_dataset_cannot_have_is_not_tested_there(self, tmp_path):
        names = ["popularity", "field_counts"]  # the tiny datasets have no fields
        changes = {"baselines": names, "comparisons": [{"row": "final", "against": names}], "orderings": []}
        results = run_fake_table(tmp_path / "run", changes=changes)
        assert "field_counts" in results["datasets"]["video"]["left_out"]
        assert {one["control"]["arm"] for one in results["effects"]} == {"popularity (baseline)"}


class TestNumbers:
    def test_results_follow_the_schema(self, results):
        jsonschema.validate(results, SCHEMA)
        broken = copy.deepcopy(results)
        broken["orderings"][0]["verdict"] = "maybe"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)

    def test_tests_against_scipy(self, results):
        effects = results["effects"]
        pairs = [("final", "ican"), ("final", "fea"), ("fea", "ican")]
        assert [(e["dataset"], e["treatment"]["arm"], e["control"]["arm"], e["metric"]) for e in effects] == [
            (data, *pair, metric) for data in ("video", "news") for pair in pairs for metric in ("hit@5", "hit@10")
        ]
        seeds = range(3)
        for effect in effects[:2]:
            column = ("hit@5", "hit@10").index(effect["metric"])
            runs = {
                row: [draw_result(seed * 7 + mark, (rate, rate + 0.2)) for seed in seeds]
                for row, mark, rate in (("ican", 2, 0.2), ("final", 5, 0.5))
            }
            values = {row: [run.metrics[effect["metric"]] for run in members] for row, members in runs.items()}
            assert effect["p"] == pytest.approx(stats.ttest_rel(values["final"], values["ican"]).pvalue)
            welch = stats.ttest_ind(values["final"], values["ican"], equal_var=False)
            assert effect["welch"]["p"] == pytest.approx(welch.pvalue)
            users = {
                row: np.mean([run.user_hits[:, column] for run in members], axis=0) for row, members in runs.items()
            }
            expected = stats.ttest_rel(users["final"], users["ican"])
            assert effect["users"]["p"] == pytest.approx(expected.pvalue, rel=1e-4)

    def test_holm_runs_over_the_whole_table(self, results):
        effects = results["effects"]
        assert [e["p_adjusted"] for e in effects] == pytest.approx(holm([e["p"] for e in effects]))
        assert len(effects) == 12

    def test_files(self, tmp_path):
        out = tmp_path / "run"
        results = run_fake_table(out)
        assert json.loads((out / RESULTS_FILE).read_text("utf-8")) == results
        report = (out / "report.md").read_text("utf-8")
        assert "News &amp; more" in report
        assert "paper hit@5" in report
        assert "Each loss adds" in (out / "report.html").read_text("utf-8")
        rows = list(csv.DictReader(io.StringIO((out / "table.csv").read_text("utf-8"))))
        mine = next(
            r for r in rows if (r["dataset"], r["row"], r["metric"], r["slice"]) == ("video", "final", "hit@5", "all")
        )
        models = [m for m in results["models"] if m["arm"] == "final" and m["dataset"] == "video"]
        assert float(mine["mean"]) == pytest.approx(np.mean([m["hit@5"] for m in models]))
        assert (mine["seeds"], mine["paper"]) == ("3", "0.3")
        cells = list(csv.DictReader(io.StringIO((out / "trials.csv").read_text("utf-8"))))
        assert len(cells) == 2 * (5 + 9)
        assert float(cells[2]["tail.hit@5"]) == results["models"][2]["slices"]["tail"]["hit@5"]
