"""The runner with a fake trainer: pairs, resumes, refusals, and numbers that scipy confirms."""

import copy
import dataclasses
import json
import math

import jsonschema
import numpy as np
import pytest
from scipy import stats

from abtest.offline.two_arms import run_offline
from abtest.run_folder import RESULTS_FILE
from abtest.scenario_files import load_scenario
from abtest.schema import results_schema
from micrec.errors import MicrecError
from micrec.settings import load_yaml

from .fakes import FakeTrainer, draw_result, fake_baseline, run_fake, tiny_dataset

SCHEMA = results_schema()


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    """Syncing tiny files to disk is most of a fake run's time."""
    monkeypatch.setattr("os.fsync", lambda _: None)


def timeless(results: dict) -> dict:
    """Results without what a clock wrote."""
    results = copy.deepcopy(results)
    del results["runtime_s"]
    for model in results["models"]:
        del model["seconds"]
    return results


class TestRun:
    def test_every_arm_meets_every_seed_in_pairs(self, tmp_path):
        trainer = FakeTrainer()
        run_fake(tmp_path / "run", train=trainer)
        assert trainer.calls == [(False, 0), (True, 0), (False, 1), (True, 1), (False, 2), (True, 2)]

    def test_the_folder_describes_itself(self, tmp_path):
        out = tmp_path / "run"
        results = run_fake(out)
        assert json.loads((out / RESULTS_FILE).read_text("utf-8")) == results
        assert results["scenario"] == load_yaml(out / "scenario.resolved.yaml")
        assert "hit@5" in (out / "report.md").read_text("utf-8")
        assert r"\begin{tabular}" in (out / "table.tex").read_text("utf-8")
        assert results["seeds"] == [0, 1, 2]
        assert [path.name for path in out.rglob("*.partial")] == []

    def test_the_resolved_scenario_repeats_the_run(self, tmp_path):
        first = run_fake(tmp_path / "run")
        scenario, resolved = load_scenario(tmp_path / "run" / "scenario.resolved.yaml")
        again = run_offline(
            scenario,
            tmp_path / "again",
            resolved=resolved,
            command="micrec run tiny.yaml",
            train=FakeTrainer(),
            baseline=fake_baseline,
            read=lambda _: tiny_dataset(),
        )
        assert timeless(again) == timeless(first)

    def test_models_carry_every_figure(self, tmp_path):
        models = run_fake(tmp_path / "run")["models"]
        assert [(model["model"], model["seed"]) for model in models] == [
            ("popularity (baseline)", None),
            ("recent_popularity (baseline)", None),
            ("item_knn (baseline)", None),
            ("ease (baseline)", None),
            ("title_knn (baseline)", None),
            *[("ICAN", seed) for seed in range(3)],
            *[("MicRec", seed) for seed in range(3)],
        ]
        expected = draw_result(2 * 1 + 1, (0.3, 0.4))
        micrec = models[9]
        assert {name: micrec[name] for name in expected.metrics} == expected.metrics
        assert (micrec["slices"], micrec["parameters"]) == (expected.slices, 12)
        assert "log" not in micrec

    def test_switches_name_what_differs(self, tmp_path):
        switches = run_fake(tmp_path / "run", sets=["base.train.epochs=3"])["switches"]
        assert switches["preset"] == "paper"
        assert switches["shared"] == {
            "train.epochs": 3,
            "evaluation.cutoffs": [5, 10],
            "contrast.semantic.encoder": "tfidf",  # always told where titles are read
        }
        assert switches["arms"]["control"] == {f"contrast.{k}.weight": 0.0 for k in ("feature", "semantic", "session")}
        assert switches["arms"]["treatment"]["contrast.semantic.weight"] == 0.3

    def test_a_generated_world_is_drawn_once(self, tmp_path):
        sets = ["data=null", "world.users.count=40", "world.items.count=30", "world.tags.count=40"]
        dies = FakeTrainer(dies_at=2)
        with pytest.raises(KeyboardInterrupt):
            run_fake(tmp_path / "run", sets=sets, train=dies, read=None)
        (clicks,) = (tmp_path / "run" / "world").glob("*/clicks/part-00000.parquet")
        drawn = clicks.stat().st_mtime_ns
        results = run_fake(tmp_path / "run", sets=sets, read=None)
        assert clicks.stat().st_mtime_ns == drawn
        assert results["dataset"]["users"] == 40
        assert len(results["models"]) == 15  # six baselines, three ceilings, two arms of three seeds
        changed = run_fake(tmp_path / "run", sets=[*sets, "world.users.count=41"], read=None, force=True)
        assert changed["dataset"]["users"] == 41


class TestNumbers:
    def test_effects_against_scipy(self, tmp_path):
        results = run_fake(tmp_path / "run")
        keys = [(effect["family"], effect["metric"], effect["slice"]) for effect in results["effects"]]
        assert keys == [
            ("primary", "hit@5", "all"),
            ("primary", "hit@10", "all"),
            ("secondary", "coverage@5", "all"),
            ("slice", "hit@5", "tail"),
            ("slice", "hit@10", "tail"),
        ]
        by_arm = {arm: [m for m in results["models"] if m["arm"] == arm] for arm in ("control", "treatment")}
        for effect in results["effects"]:
            values = {
                arm: [(m if effect["slice"] == "all" else m["slices"]["tail"])[effect["metric"]] for m in models]
                for arm, models in by_arm.items()
            }
            control, treatment = values["control"], values["treatment"]
            assert effect["p"] == pytest.approx(stats.ttest_rel(treatment, control).pvalue)
            assert effect["welch"]["p"] == pytest.approx(stats.ttest_ind(treatment, control, equal_var=False).pvalue)
            assert effect["control"]["values"] == control
            assert effect["treatment"]["sd"] == pytest.approx(np.std(treatment, ddof=1))
            assert effect["lift"] == pytest.approx(np.mean(treatment) / np.mean(control) - 1)
            assert (effect["truth"], effect["valid"]) == (None, True)

    def test_users_are_averaged_over_seeds(self, tmp_path):
        first, second = run_fake(tmp_path / "run")["effects"][:2]
        seeds = range(3)
        control = np.mean([draw_result(2 * seed, (0.2, 0.4)).user_hits for seed in seeds], axis=0)
        treatment = np.mean([draw_result(2 * seed + 1, (0.3, 0.4)).user_hits for seed in seeds], axis=0)
        for column, effect in enumerate((first, second)):
            expected = stats.ttest_rel(treatment[:, column], control[:, column])
            assert effect["users"]["p"] == pytest.approx(expected.pvalue, rel=1e-5)
            assert effect["users"]["n"] == 60
            assert effect["users"]["lift"] == pytest.approx(effect["lift"], rel=1e-5)

    def test_holm_runs_over_the_primaries_of_all_treatments(self, tmp_path):
        sets = ["arms.other={label: Other, config: {contrast: {feature: {weight: 0.5}}}}"]
        effects = [e for e in run_fake(tmp_path / "run", sets=sets)["effects"] if e["family"] == "primary"]
        assert [effect["treatment"]["arm"] for effect in effects] == ["treatment", "treatment", "other", "other"]
        smallest = min(effects, key=lambda effect: effect["p"])
        assert smallest["p_adjusted"] == pytest.approx(min(1.0, 4 * smallest["p"]))
        assert smallest["significant"] is (smallest["p_adjusted"] < 0.05)

    def test_one_seed_is_no_significance(self, tmp_path):
        effect = run_fake(tmp_path / "run", sets=["seeds=1"])["effects"][0]
        assert (effect["p"], effect["p_adjusted"], effect["significant"], effect["valid"]) == (None, None, None, False)
        assert "at least 2 seeds" in effect["reason"]
        assert effect["users"]["p"] < 1.0

    def test_an_undefined_metric_is_null(self, tmp_path):
        def train(dataset, config, *, folder, progress):
            result = draw_result(config.train.seed, (0.2, 0.3))
            return result._replace(metrics={**result.metrics, "coverage@5": math.nan})

        results = run_fake(tmp_path / "run", train=train)
        effect = results["effects"][2]
        assert (effect["control"]["mean"], effect["control"]["values"], effect["p"]) == (None, [None] * 3, None)
        assert "undefined for at least one seed" in effect["reason"]
        jsonschema.validate(results, SCHEMA)


class TestResume:
    @pytest.mark.parametrize("dies_at", [1, 2, 4, 6])
    def test_a_killed_run_goes_on_to_the_same_result(self, tmp_path, dies_at):
        whole = run_fake(tmp_path / "whole")
        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run_fake(out, train=FakeTrainer(dies_at=dies_at))
        assert not (out / RESULTS_FILE).exists()
        second = FakeTrainer()
        resumed = run_fake(out, train=second)
        assert len(second.calls) == 6 - (dies_at - 1)
        assert second.found == [True] + [False] * (6 - dies_at)  # the killed model finds its checkpoint
        assert timeless(resumed) == timeless(whole)

    def test_more_seeds_keep_the_cells_there_are(self, tmp_path):
        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run_fake(out, train=FakeTrainer(dies_at=5))
        second = FakeTrainer()
        run_fake(out, sets=["seeds=4"], train=second)
        assert second.calls == [(False, 2), (True, 2), (False, 3), (True, 3)]

    def test_cells_of_another_config_are_trained_anew(self, tmp_path):
        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run_fake(out, train=FakeTrainer(dies_at=5))
        second = FakeTrainer()
        run_fake(out, sets=["arms.treatment.config.train.epochs=7"], train=second)
        assert second.calls == [(True, 0), (True, 1), (False, 2), (True, 2)]
        assert second.found == [False, False, True, False]  # no checkpoint of another config is left

    def test_cells_of_other_data_are_trained_anew(self, tmp_path):
        def dataset(text: str):
            folder = tmp_path / "data"
            folder.mkdir(exist_ok=True)
            (folder / "dataset.yaml").write_text("name: x\n", encoding="utf-8")
            (folder / "clicks.parquet").write_text(text, encoding="utf-8")
            return dataclasses.replace(tiny_dataset(), folder=folder)

        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run_fake(out, train=FakeTrainer(dies_at=3), dataset=dataset("one"))
        second = FakeTrainer()
        run_fake(out, train=second, dataset=dataset("two"))
        assert len(second.calls) == 6


class TestRefusals:
    def test_a_finished_run_is_not_overwritten(self, tmp_path):
        out = tmp_path / "run"
        run_fake(out)
        before = (out / RESULTS_FILE).read_bytes()
        trainer = FakeTrainer()
        with pytest.raises(MicrecError, match=r"holds a finished run: use --force"):
            run_fake(out, train=trainer)
        assert trainer.calls == []
        assert (out / RESULTS_FILE).read_bytes() == before

    def test_force_starts_afresh_and_spares_what_is_not_ours(self, tmp_path):
        out = tmp_path / "run"
        run_fake(out)
        (out / "notes.txt").write_text("mine", encoding="utf-8")
        trainer = FakeTrainer()
        run_fake(out, train=trainer, force=True)
        assert len(trainer.calls) == 6
        assert trainer.found == [False] * 6
        assert (out / "notes.txt").read_text("utf-8") == "mine"

    def test_a_folder_that_is_no_run_is_never_touched(self, tmp_path):
        out = tmp_path / "home"
        out.mkdir()
        (out / "trials").mkdir()
        (out / "trials" / "precious").write_text("x", encoding="utf-8")
        with pytest.raises(MicrecError, match=r"is not empty and holds no run"):
            run_fake(out, force=True)
        assert (out / "trials" / "precious").exists()
        (tmp_path / "file").write_text("x", encoding="utf-8")
        with pytest.raises(MicrecError, match=r"is a file: give a folder"):
            run_fake(tmp_path / "file")

    def test_bad_data_leave_nothing_behind(self, tmp_path):
        def read(folder):
            raise MicrecError("bad data")

        with pytest.raises(MicrecError, match="bad data"):
            run_fake(tmp_path / "run", read=read)
        assert not (tmp_path / "run").exists()
        run_fake(tmp_path / "run")
        with pytest.raises(MicrecError, match="bad data"):
            run_fake(tmp_path / "run", read=read, force=True)
        assert (tmp_path / "run" / RESULTS_FILE).exists()

    def test_unknown_metrics_and_slices_stop_after_the_first_model(self, tmp_path):
        trainer = FakeTrainer()
        sets = ["metrics.primary=[hits@5]", "metrics.secondary=[mrr]", "metrics.slices=[cold]"]
        with pytest.raises(MicrecError) as caught:
            run_fake(tmp_path / "run", sets=sets, train=trainer)
        assert len(trainer.calls) == 1
        assert "metrics.primary: no metric hits@5: did you mean hit@5?" in str(caught.value)
        assert "metrics.secondary: no metric mrr: choose from hit@5, hit@10, coverage@5" in str(caught.value)
        assert "metrics.slices: no slice cold: choose from tail" in str(caught.value)

    def test_hits_that_do_not_add_up_are_a_bug(self, tmp_path):
        def train(dataset, config, *, folder, progress):
            result = draw_result(0, (0.2, 0.3))
            return result._replace(metrics={**result.metrics, "hit@10": 0.9})

        with pytest.raises(ValueError, match=r"hit@10 is 0\.9, but its users' hits give"):
            run_fake(tmp_path / "run", train=train)

    def test_a_broken_trial_says_what_to_delete(self, tmp_path):
        out = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            run_fake(out, train=FakeTrainer(dies_at=3))
        (out / "trials" / "given" / "control-seed0" / "result.json").write_text("{", encoding="utf-8")
        with pytest.raises(MicrecError, match=r"result\.json: cannot be read .*delete .*control-seed0"):
            run_fake(out)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run_fake(tmp_path_factory.mktemp("schema") / "run")


class TestSchema:
    def test_results_are_valid(self, results):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        jsonschema.validate(results, SCHEMA)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("effects", 0, "p"), 0),
            (("effects", 0, "p"), None),  # with no reason
            (("effects", 0, "lift_ci"), [1]),
            (("effects", 0, "verdict"), "good"),
            (("effects", 0, "users", "extra"), 1),
            (("effects", 0, "welch", "p_adjusted"), 1.5),
            (("models", 0, "hit@5"), [1]),
            (("seeds",), []),
            (("schema",), "micrec-results/2"),
            (("extra",), 1),
        ],
    )
    def test_what_is_refused(self, results, path, value):
        broken = copy.deepcopy(results)
        node = broken
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)
