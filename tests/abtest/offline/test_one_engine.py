"""One engine: a two-arm test is a table of two rows, and reference rows stand in every kind without its doing."""

import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from abtest.offline import reference_rows
from abtest.offline.reference_rows import ReferenceRow
from abtest.report.pages import table_layout
from abtest.report.pages.two_arm_verdict import verdict
from abtest.report.tables import cost_table
from abtest.scenario_files import load_scenario
from abtest.schema import results_schema
from micrec.baselines import BASELINES, BaselineModel

from .fakes import SCENARIO, FakeTrainer, draw_result, run_fake, tiny_dataset
from .table_fakes import run_fake_table

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = results_schema()
AGAINST = {"row": "treatment", "against": ["control"]}
AS_TABLE = {  # the scenario of the fakes, written out by hand
    "datasets": {"given": {"data": "given"}},
    "rows": {name: {"label": arm["label"], "config": arm.get("config", {})} for name, arm in SCENARIO["arms"].items()},
    "details": ["coverage@5"],
    "slices": [],
    "comparisons": [
        {**AGAINST},
        {**AGAINST, "metrics": ["coverage@5"], "family": "secondary"},
        {**AGAINST, "slices": None, "family": "slice"},
    ],
    "orderings": [],
    "paper": {},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("abtest.report.pages.table_files.figure_files", lambda _: {})


def without(models: list[dict], *keys: str) -> list[dict]:
    return [{key: value for key, value in model.items() if key not in keys} for model in models]


def fake_of_two_datasets() -> dict:
    return {"train": FakeTrainer(), "read": lambda _: tiny_dataset()}


class TestTwoArmsAreATable:
    def test_the_table_written_out_has_the_same_numbers(self, tmp_path):
        two = run_fake(tmp_path / "two")
        table = run_fake_table(tmp_path / "table", changes=AS_TABLE, **fake_of_two_datasets())
        assert without(table["effects"], "dataset") == two["effects"]
        assert without(table["models"], "seconds", "dataset") == without(two["models"], "seconds", "dataset")
        trials = [sorted(path.name for path in (tmp_path / run / "trials/given").iterdir()) for run in ("two", "table")]
        assert trials[0] == trials[1]
        assert len(trials[0]) == 2 * 3 + sum(model["arm"] is None for model in two["models"])

    def test_a_third_arm_is_a_third_row(self, tmp_path):
        other = {"label": "Other", "config": {"contrast": {"feature": {"weight": 0.5}}}}
        two = run_fake(
            tmp_path / "two", sets=["arms.other={label: Other, config: {contrast: {feature: {weight: 0.5}}}}"]
        )
        rows = {**AS_TABLE["rows"], "other": other}
        comparisons = [{**one, "row": row} for row in ("treatment", "other") for one in AS_TABLE["comparisons"]]
        changes = {**AS_TABLE, "rows": rows, "comparisons": comparisons}
        table = run_fake_table(tmp_path / "table", changes=changes, **fake_of_two_datasets())
        assert without(table["effects"], "dataset") == two["effects"]

    def test_families_of_a_table_are_adjusted_apart_over_all_datasets(self, tmp_path):
        changes = {**AS_TABLE, "datasets": {"one": {"data": "one"}, "two": {"data": "two"}}}
        table = run_fake_table(tmp_path / "table", changes=changes, **fake_of_two_datasets())
        jsonschema.validate(table, SCHEMA)
        for family, count in (("primary", 4), ("secondary", 2), ("slice", 4)):
            members = [effect for effect in table["effects"] if effect["family"] == family]
            assert len(members) == count
            expected = multipletests([effect["p"] for effect in members], method="holm")[1]
            assert [effect["p_adjusted"] for effect in members] == pytest.approx(expected.tolist())
        assert "over each family of the table (primary, secondary, slice)" in table_layout.test_lines(table)[0]

    def test_a_slice_of_a_table_is_tested_on_its_own_figures(self, tmp_path):
        table = run_fake_table(tmp_path / "table", changes=AS_TABLE, **fake_of_two_datasets())
        effect = next(one for one in table["effects"] if (one["slice"], one["metric"]) == ("tail", "hit@5"))
        tails = [
            [draw_result(2 * seed + arm, (rate, 0.4)).slices["tail"]["hit@5"] for seed in range(3)]
            for arm, rate in ((0, 0.2), (1, 0.3))
        ]
        assert effect["p"] == pytest.approx(stats.ttest_rel(tails[1], tails[0]).pvalue)
        assert effect["lift"] == pytest.approx(np.mean(tails[1]) / np.mean(tails[0]) - 1)
        assert (effect["users"], effect["size"]["users"]) == (None, 30)
        assert any("hit@5, tail" in row for row in table_layout.effect_table(table, "given").rows)


def test_the_guide_writes_the_shipped_two_arm_test_out_as_a_table(tmp_path):
    (written,) = re.findall(r"(?s)```yaml\n(kind: table.*?)```", (DOCS / "experiments.md").read_text(encoding="utf-8"))
    (tmp_path / "table.yaml").write_text(written, encoding="utf-8")
    by_hand, _ = load_scenario(tmp_path / "table.yaml")
    short, _ = load_scenario(Path("offline_ab"))
    slices = ["tail", "cold_users"]
    assert by_hand.questions(slices) == short.table().questions(slices)
    assert len(by_hand.questions(slices)) == 4 + 4 + 2 * 4
    for row in ("control", "treatment"):
        assert by_hand.config(by_hand.chosen()[0].keys, row, 3) == short.config(row, 3)
    assert by_hand.chosen()[0].keys.world_config() == short.world
    for key in ("seeds", "preset", "alpha", "baselines", "metrics", "details", "reference_row", "choose_epochs"):
        assert getattr(by_hand, key) == getattr(short.table(), key)


class TestReferenceRows:
    @pytest.fixture
    def asked(self, monkeypatch):
        """A source of one more row, which remembers the datasets on which it was tested."""
        tested = []

        def source(table, run, options):
            def test(dataset, config):
                tested.append((dataset.name, config.evaluation.cutoffs))
                return draw_result(5, (0.6, 0.7))

            yield ReferenceRow("best", "ceiling", test)

        monkeypatch.setattr(reference_rows, "SOURCES", (*reference_rows.SOURCES, source))
        return tested

    def test_a_new_sort_stands_in_a_table(self, tmp_path, asked):
        results = run_fake_table(tmp_path / "run")
        assert asked == [("video", (5, 10)), ("news", (5, 10))]
        jsonschema.validate(results, SCHEMA)
        expected = draw_result(5, (0.6, 0.7)).metrics
        for name in ("video", "news"):
            (model,) = table_layout.groups(results, name)["best (ceiling)"]
            assert {metric: model[metric] for metric in expected} == expected
            assert "best (ceiling)" in [row[0] for row in table_layout.main_table(results, name).rows]

    def test_and_in_a_two_arm_test_once_however_often_it_is_taken_up(self, tmp_path, asked):
        with pytest.raises(KeyboardInterrupt):
            run_fake(tmp_path / "run", train=FakeTrainer(dies_at=2))
        results = run_fake(tmp_path / "run")
        assert asked == [("tiny data", (5, 10))]
        labels = [model["model"] for model in results["models"] if model["arm"] is None]
        assert labels[-1] == "best (ceiling)"
        report = (tmp_path / "run" / "report.md").read_text("utf-8")
        assert "| best (ceiling) |" in report
        (missed,) = re.findall(r"does not pass these baselines: (.*)", report)
        assert "EASE" in missed
        assert "best" not in missed

    def test_a_ceiling_of_the_registry_is_called_one_and_nobody_is_blamed_for_it(self, tmp_path):
        BASELINES.register("all_known", BaselineModel("all known", print, is_ceiling=True))
        try:
            results = run_fake(tmp_path / "run", sets=["baselines=[ease, all_known]"])
        finally:
            BASELINES.remove("all_known")
        labels = [model["model"] for model in results["models"] if model["arm"] is None]
        assert labels == ["ease (baseline)", "all_known (ceiling)"]
        text = " ".join(verdict(results))
        assert "MicRec does not pass these baselines: EASE on" in text
        assert "all known" not in text

    def test_each_tells_its_time(self, tmp_path):
        two, table = run_fake(tmp_path / "two"), run_fake_table(tmp_path / "table")
        for model in [model for model in two["models"] if model["model"] == "ease (baseline)"]:
            model["seconds"] = 12.34
        for model in [model for model in table["models"] if model["model"] == "ease (baseline)"]:
            model["seconds"] = 12.34
        for costs in (cost_table(two), table_layout.cost_table(table, "news")):
            row = next(row for row in costs.rows if row[0] == "EASE (baseline)")
            assert dict(zip(costs.header, row, strict=True))["seconds in all"] == "12.3"
