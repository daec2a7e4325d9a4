"""Scenarios of tables: layers of config, pairs, and every fault at once under the key the user wrote."""

import pytest
import yaml

from abtest.offline.table_scenario import TableScenario
from abtest.scenario_files import explain_scenario, load_scenario
from micrec.config import Config
from micrec.errors import MicrecError

from .table_fakes import TABLE, table_file


def load(folder, *sets, **changes) -> TableScenario:
    scenario, _ = load_scenario(table_file(folder, **changes), sets)
    assert isinstance(scenario, TableScenario)
    return scenario


def faults_of(folder, *sets, **changes) -> str:
    with pytest.raises(MicrecError) as caught:
        load(folder, *sets, **changes)
    return str(caught.value)


class TestBaselines:
    def test_all_stands_for_every_one_that_knows_no_more_than_a_model(self, tmp_path):
        eleven = {"popularity", "recent_popularity", "segment_popularity", "item_knn", "item_knn_bm25", "ease", "ials"}
        eleven |= {"title_knn", "tag_knn", "field_counts", "transitions"}
        for sets in (["baselines=all"], ['baselines="all"']):
            assert set(load(tmp_path, *sets).baselines) == eleven
        keys = {key: value for key, value in TABLE.items() if key != "baselines"}
        (tmp_path / "none.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
        scenario, resolved = load_scenario(tmp_path / "none.yaml")
        assert set(scenario.baselines) == set(resolved["baselines"]) == eleven  # where a scenario says nothing

    def test_names_stay_in_their_order(self, tmp_path):
        assert load(tmp_path, "baselines=[ease, popularity]").baselines == ("ease", "popularity")
        assert load(tmp_path, "baselines=[]").baselines == ()

    @pytest.mark.parametrize("given", ["every", "[all]", "3"])
    def test_what_is_no_baseline_is_refused(self, tmp_path, given):
        assert "popularity, recent_popularity" in faults_of(tmp_path, f"baselines={given}")


class TestLayers:
    def test_row_over_dataset_over_base_over_preset(self, tmp_path):
        scenario = load(
            tmp_path,
            "base.contrast.semantic.weight=0.5",
            "datasets.news.base.contrast.semantic.weight=0.6",
            "datasets.news.rows.final.train.epochs=4",
        )
        chosen = dict(scenario.chosen())
        weights = {
            (name, row): scenario.config(keys, row, 7).contrast.semantic.weight
            for name, keys in chosen.items()
            for row in scenario.rows
        }
        assert weights == {
            ("video", "ican"): 0,
            ("video", "fea"): 0,
            ("video", "final"): 0.5,
            ("news", "ican"): 0,
            ("news", "fea"): 0,
            ("news", "final"): 0.6,
        }
        final = scenario.config(chosen["news"], "final", 7)
        assert (final.train.epochs, final.train.seed, final.contrast.feature) == (4, 7, Config().contrast.feature)

    def test_losses_switch_off_what_they_do_not_name(self, tmp_path):
        scenario = load(
            tmp_path, "rows.sess={label: s, losses: [session], config: {contrast: {session: {weight: 0.4}}}}"
        )
        contrast = scenario.config(scenario.chosen()[0].keys, "sess", 0).contrast
        assert (contrast.feature.weight, contrast.semantic.weight, contrast.session.weight) == (0, 0, 0.4)

    def test_a_world_extends_another_file(self, tmp_path):
        (tmp_path / "big.yaml").write_text("users: {count: 4000}\nitems: {count: 900}\n", encoding="utf-8")
        world = {"extends": "big.yaml", "name": "w", "items": {"count": 800}}
        scenario = load(tmp_path, datasets={"w": {"world": world, "scale": 0.5}}, paper={})
        config = scenario.chosen()[0].keys.world_config()
        assert (config.users.count, config.items.count) == (2000, 400)

    def test_pairs_without_repeats(self, tmp_path):
        scenario = load(
            tmp_path,
            comparisons=[{"row": "final", "against": ["fea"]}, {"row": "final"}],
            orderings=[
                {"claim": "a", "rising": ["ican", "fea", "final"], "metrics": ["coverage@5", "hit@5"]},
                {"claim": "b", "above": "fea", "below": ["final"]},
            ],
        )
        asked = [(one.row, one.against, one.metric) for one in scenario.questions([])]
        pairs = {
            ("final", "fea"): ["hit@5", "hit@10", "coverage@5"],
            ("final", "ican"): ["hit@5", "hit@10"],
            ("fea", "ican"): ["coverage@5", "hit@5"],
            ("fea", "final"): ["hit@5", "hit@10"],
        }
        assert asked == [(*pair, metric) for pair, metrics in pairs.items() for metric in metrics]

    def test_a_comparison_names_metrics_slices_and_its_family(self, tmp_path):
        scenario = load(
            tmp_path,
            comparisons=[
                {"row": "final", "against": ["ican"], "metrics": ["coverage@5"], "family": "secondary"},
                {"row": "final", "against": ["ican"], "slices": None, "family": "slice"},
                {"row": "final", "against": ["ican"], "slices": ["tail"], "family": "slice"},
            ],
            orderings=[],
        )
        assert [tuple(one) for one in scenario.questions(["tail", "cold"])] == [
            ("final", "ican", "coverage@5", "all", "secondary"),
            ("final", "ican", "hit@5", "tail", "slice"),
            ("final", "ican", "hit@10", "tail", "slice"),
            ("final", "ican", "hit@5", "cold", "slice"),
            ("final", "ican", "hit@10", "cold", "slice"),
        ]


class TestFaults:
    def test_all_at_once(self, tmp_path):
        text = faults_of(
            tmp_path,
            "base.train.epochs=0",
            "rows.fea.config.contrast.temprature=1",
            "rows.final.config.split={test_days: 2}",
            "datasets.news.base.preset=modern",
            "datasets.video.rows.ican={train: {seed: 3}}",
            "datasets.video.wrld={}",
        )
        for line in (
            "tiny.yaml: 6 errors",
            "- base.train.epochs: must be >= 1, got 0",
            "- rows.fea.config.contrast.temprature: unknown key, did you mean temperature?",
            "- rows.final.config.split: all rows share one split",
            "- datasets.news.base.preset: presets are never mixed in one table",
            "- datasets.video.rows.ican.train.seed: every row uses the same seeds",
            "- datasets.video.wrld: unknown key, did you mean world?",
        ):
            assert line in text

    def test_what_is_named_must_be_there(self, tmp_path):
        text = faults_of(
            tmp_path,
            "reference=icann",
            "datasets.video.rows.finale={}",
            "datasets.news.paper=nws",
            "metrics=[hit@7, hit@x]",
            "figure.metrics=[coverage@10]",
            comparisons=[
                {"row": "finl", "against": ["fea", "best"]},
                {"row": "fea", "against": ["fea"]},
                {"row": "fea", "metrics": ["coverage@8"]},
                {"row": "fea", "against": ["ease"]},
            ],
            baselines=["popularity"],
            orderings=[
                {"claim": "a", "rising": ["ican", "gone"]},
                {"claim": "b", "rising": ["ican"]},
                {"claim": "c"},
                {"claim": "d", "above": "fea", "below": ["fea"]},
            ],
        )
        for line in (
            "- reference: no row icann: did you mean ican?",
            "- datasets.video.rows: no row finale: did you mean final?",
            "- datasets.news.paper: the paper has no nws: choose from video",
            "- comparisons.0.row: no row finl: did you mean final?",
            "- comparisons.0.against: no row or baseline best: choose from ican, fea, final, ",
            "- comparisons.3.against: ease is not among baselines: add it there, or name a row",
            "- comparisons.1.against: fea is compared with itself: name another row",
            "- orderings.0.rising: no row gone: choose from ican, fea, final",
            "- orderings.1: orders fewer than two rows: name a second",
            "- orderings.2: must say either rising, or above and below",
            "- orderings.3: sets a row above itself: name another",
            "- metrics: hit@7 needs 7 among base.evaluation.cutoffs (5, 10)",
            "- metrics: hit@x is not a metric: write it as hit@50",
            "- comparisons.2.metrics: coverage@8 needs 8 among base.evaluation.cutoffs (5, 10)",
            "- figure.metrics: coverage@10 is in no table: add it to metrics or details",
        ):
            assert line in text

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("rows.Fea={label: x}", "rows.Fea: differs from fea in capitals only"),
            ("rows.other={label: MicRec}", "rows: label MicRec names several rows"),
            ("rows.a/b={label: x}", "rows.a/b"),
            (
                "rows.fea.losses=[sessions]",
                'rows.fea.losses.0: must be one of feature, semantic, session, got "sessions"',
            ),
            (
                "figure.groups={a: [ican], b: [fea, final]}",
                "figure.groups: groups must have as many rows each, got 1, 2",
            ),
            ("figure={groups: {a: [ican, fea]}, bars: [one]}", "figure.bars: 1 names for 2 bars: name each once"),
            ("datasets={}", "datasets"),
            ("preset=old", 'preset: must be one of paper, modern, best, got "old"'),
        ],
    )
    def test_one_fault(self, tmp_path, override, message):
        changes = {"datasets": {}} if override == "datasets={}" else {}
        assert message in faults_of(tmp_path, override, **changes)

    def test_the_first_seed_must_learn_from_what_the_others_learn_from(self, tmp_path):
        message = "choose_epochs: first_seed trains anew on all clicks before the test, and video, row fea has"
        assert message in faults_of(tmp_path, "rows.fea.config={train: {refit: false}}", choose_epochs="first_seed")


def test_explain_knows_the_keys():
    keys = {setting.key for setting in explain_scenario()}
    assert {"datasets.<name>.scale", "rows.<name>.losses", "factors.<name>.values", "search", "orderings"} <= keys
    assert set(TABLE) <= {key.split(".")[0] for key in keys}
