"""The grid: what is tried, what is chosen, on which clicks, and what a killed run keeps."""

import itertools

import jsonschema
import pytest

from abtest.offline.grid import GridTrial, run_grid, search
from abtest.offline.grid_scenario import GridScenario
from abtest.scenario_files import load_scenario
from abtest.schema import results_schema
from micrec.errors import MicrecError

from .fakes import draw_result, fake_baseline, tiny_dataset
from .table_fakes import TABLE, TableTrainer, table_file

GRID = {
    "kind": "grid",
    "datasets": {"video": {"data": "video"}},
    "tune": "final",
    "factors": {
        "weight": {"keys": ["contrast.feature.weight"], "values": [0.1, 0.5, 1.0]},
        "negatives": {
            "keys": ["contrast.feature.negatives", "contrast.session.negatives"],
            "values": [10, 50],
        },
    },
    "choose_by": "hit@5",
    "seeds": 2,
    "search_seeds": 2,
    "paper": {},
    "figure": {},
}
for _key in ("comparisons", "orderings"):
    GRID[_key] = TABLE[_key]


class GridTrainer(TableTrainer):
    """Best on validation with weight 0.5 and 10 negatives; the test period would say otherwise."""

    def __init__(self, dies_at=None):
        super().__init__(dies_at)
        self.parts = []

    def __call__(self, dataset, config, *, folder, progress, part="test"):
        self.parts.append(part)
        super().__call__(dataset, config, folder=folder, progress=progress)
        feature = config.contrast.feature
        good = 0.2 * (feature.weight == 0.5) + 0.1 * (feature.negatives == 10)
        rate = 0.4 + (good if part == "valid" else -good)
        return draw_result(config.train.seed, (rate, 0.8))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("abtest.report.pages.table_files.figure_files", lambda _: {})


def load(folder, *sets) -> tuple[GridScenario, dict]:
    scenario, resolved = load_scenario(table_file(folder, **GRID), sets)
    assert isinstance(scenario, GridScenario)
    return scenario, resolved


def run(out, *sets, train=None, **given):
    scenario, resolved = load(out.parent, *sets)
    fakes = {"train": train or GridTrainer(), "baseline": fake_baseline, "read": lambda path: tiny_dataset(path.name)}
    return run_grid(scenario, out, resolved=resolved, command="micrec run tiny.yaml", **fakes, **given)


class TestSearch:
    """Against a known landscape, with no training."""

    @staticmethod
    def searched(scenario: GridScenario, scores: dict):
        asked = []

        def try_all(settings):
            asked.append(settings)
            return [GridTrial(dict(s), [scores[tuple(s.values())]], 1.0) for s in settings]

        return search(scenario, scenario.chosen()[0], try_all), asked

    def test_factorial_tries_every_combination(self, tmp_path):
        scenario, _ = load(tmp_path, "search=factorial")
        pairs = list(itertools.product([0.1, 0.5, 1.0], [10, 50]))
        scores = {pair: float(place == 3) for place, pair in enumerate(pairs)}
        found, _ = self.searched(scenario, scores)
        assert [tuple(trial.setting.values()) for trial in found.trials] == pairs
        assert tuple(found.chosen.values()) == pairs[3]

    def test_coordinate_goes_from_the_rows_own_setting_one_factor_at_a_time(self, tmp_path):
        scenario, _ = load(tmp_path)
        scores = {(0.1, 50): 1.0, (0.5, 50): 3.0, (1.0, 50): 2.0, (0.5, 10): 4.0}
        found, asked = self.searched(scenario, scores)
        assert tuple(found.start.values()) == (1.0, 50)
        assert tuple(found.chosen.values()) == (0.5, 10)
        assert len(found.trials) == 4  # of six combinations
        assert len(asked) == 3

    def test_a_tie_keeps_what_there_was(self, tmp_path):
        scenario, _ = load(tmp_path, "rounds=5")
        scores = dict.fromkeys(itertools.product([0.1, 0.5, 1.0], [10, 50]), 1.0)
        found, asked = self.searched(scenario, scores)
        assert found.chosen == found.start
        assert len(asked) == 3  # the second round would change nothing

    def test_a_second_round_goes_on_from_the_first(self, tmp_path):
        scores = {(0.1, 50): 2.0, (0.5, 50): 1.0, (1.0, 50): 1.0, (0.1, 10): 3.0, (0.5, 10): 4.0, (1.0, 10): 0.0}
        one, _ = self.searched(load(tmp_path)[0], scores)
        two, _ = self.searched(load(tmp_path, "rounds=2")[0], scores)
        assert tuple(one.chosen.values()) == (0.1, 10)
        assert tuple(two.chosen.values()) == (0.5, 10)


class TestRun:
    def test_the_choice_is_made_on_validation_and_then_tested(self, tmp_path):
        trainer = GridTrainer()
        results = run(tmp_path / "run", train=trainer)
        jsonschema.validate(results, results_schema())
        assert results["search"]["video"]["chosen"] == {"weight": 0.5, "negatives": 10}
        trials, tests = trainer.configs[:8], trainer.configs[8:]
        assert trainer.parts == ["valid"] * 8 + ["test"] * 6
        assert all(not config.train.refit for config in trials)
        assert {config.train.seed for config in trials} == {100, 101}
        assert {config.train.seed for config in tests} == {0, 1}
        chosen = tests[2].contrast
        assert (chosen.feature.weight, chosen.feature.negatives, chosen.session.negatives) == (0.5, 10, 10)
        assert chosen.semantic.negatives == 50
        assert tests[0].contrast.feature.weight == 0.0
        assert results["switches"]["datasets"]["video"]["rows"]["final"] == {
            "contrast.feature.weight": 0.5,
            "contrast.feature.negatives": 10,
            "contrast.session.negatives": 10,
        }
        report = (tmp_path / "run" / "report.md").read_text("utf-8")
        assert "4 trials, coordinate search, 2 training seed(s) each" in report
        assert "Chosen: weight 0.5, negatives 10" in report

    def test_a_killed_search_goes_on_trial_by_trial(self, tmp_path):
        whole = run(tmp_path / "whole")
        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run(out, train=GridTrainer(dies_at=6))
        second = GridTrainer()
        resumed = run(out, train=second)
        assert len(second.calls) == 14 - 5
        for results in (whole, resumed):
            for trial in results["search"]["video"]["trials"]:
                del trial["seconds"]
        assert resumed["search"] == whole["search"]
        assert resumed["effects"] == whole["effects"]

    def test_an_unknown_metric_stops_after_the_first_trial(self, tmp_path):
        trainer = GridTrainer()
        with pytest.raises(MicrecError, match=r"choose_by: no metric hits@5: did you mean hit@5\?"):
            run(tmp_path / "run", "choose_by=hits@5", train=trainer)
        assert len(trainer.calls) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tune=finale", "tune: no row finale: did you mean final?"),
        ("base.split={valid_fraction: 0}", "base.split.valid_fraction: must be > 0: a setting is chosen on"),
        (
            "factors.weight.keys=[contrast.feature.wieght]",
            "factors.weight.contrast.feature.wieght: unknown key, did you mean weight?",
        ),
        ("factors.weight.values=[0.1, -1]", "factors.weight.contrast.feature.weight: must be >= 0, got -1"),
        (
            "factors.negatives.keys=[contrast.feature.weight]",
            "factors.negatives.keys: contrast.feature.weight is varied by weight as well",
        ),
        ("factors.weight.keys=[train.seed]", "factors.weight.keys: train.seed must be the same in every trial"),
        ("search=random", 'search: must be one of coordinate, factorial, got "random"'),
    ],
)
def test_what_is_refused(tmp_path, override, message):
    with pytest.raises(MicrecError) as caught:
        load(tmp_path, override)
    assert message in str(caught.value)
