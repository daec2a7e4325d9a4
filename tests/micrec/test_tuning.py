"""The search of settings: what may be tried, the same trials after a kill, and nothing of the test part."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from micrec import fitting
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.errors import MicrecError
from micrec.presets import PRESETS
from micrec.settings import build_config, load_yaml
from micrec.tuning import study as studies
from micrec.tuning import tune_trial
from micrec.tuning.findings import best_config, best_trial, best_yaml, findings, importance, trials_of
from micrec.tuning.search import DIED, SearchRequest, search
from micrec.tuning.search_space import SearchDimension, load_space
from micrec.tuning.study import load_study, requeue

from .factories import random_dataset

pytest.importorskip("optuna")

SPACE: dict[str, Any] = {
    "base": {
        "model": {"embedding_dim": 8, "history_length": 10},
        "train": {"epochs": 3, "batch_size": 128, "patience": 0},
        "contrast": {loss: {"weight": 0.0} for loss in ("feature", "semantic", "session")},
        "evaluation": {"cutoffs": [5]},
    },
    "branches": {
        "dnn": {
            "preset": "paper",
            "config": {"model": {"name": "youtube_dnn"}},
            "search": {
                "optim.learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
                "model.user_id": {"values": [True, False]},
                "softmax.num_negatives": {"low": 5, "high": 25},
            },
        },
        "linear": {
            "preset": "best",
            "config": {"model": {"options": {"title_dim": 0}}},
            "search": {"model.half_life_days": {"values": [1.0, 180.0, None]}},
        },
    },
}
KEPT = ("index", "branch", "start", "state", "value", "by_epoch", "settings", "reason")


class Killed(BaseException):
    """Ends a run as a kill does: nothing is tidied up."""


def space_file(folder: Path, **changes: Any) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({**SPACE, **changes}), encoding="utf-8")
    return path


def request(folder: Path, *, sets: tuple[str, ...] = (), **given: Any) -> SearchRequest:
    space, same = load_space(space_file(folder), sets)
    return SearchRequest(space, same, **{"metric": "hit@5", "trials": 6, **given})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return random_dataset(tmp_path_factory.mktemp("data") / "shop", np.random.default_rng(3))


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)


def told(study: Any) -> list[dict[str, Any]]:
    return [{key: one[key] for key in KEPT} for one in trials_of(study)]


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A search that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return search(request(folder), dataset, folder, "mark")


class TestSpace:
    def test_the_shipped_space_begins_with_the_three_presets(self):
        space, same = load_space(None)
        for name in ("linear", "modern", "paper"):
            preset = space.branches[name].preset
            assert space.config(name, space.start(name, same), same) == PRESETS[preset]

    def test_a_key_that_is_set_is_not_searched(self, tmp_path):
        space, same = load_space(space_file(tmp_path), ["model.user_id=true"])
        assert "model.user_id" not in space.branches["dnn"].search
        assert space.config("dnn", {}, same).model.user_id

    @pytest.mark.parametrize(
        ("key", "dimension", "said"),
        [
            ("model.embeding_dim", {"values": [8, 16]}, "branches.dnn.search.model.embeding_dim: unknown key"),
            ("model.embedding_dim", {"values": [8, -1]}, "branches.dnn.search.model.embedding_dim: must be"),
            ("model.embedding_dim", {"values": [16, 32]}, "the search starts at 8: it must be one of its values"),
            ("train.seed", {"values": [0, 1]}, "train.seed: is set by the search itself"),
            ("evaluation.seen", {"values": ["keep", "filter"]}, "evaluation.seen: must be the same in every trial"),
            ("model.dropout", {"low": 0.5, "high": 0.1}, "low must be below high, got 0.5 and 0.1"),
            ("model.dropout", {"low": 0.0, "high": 0.1, "log": True}, "log needs a range with low > 0"),
            ("model.dropout", {"values": [0.0]}, "values: needs two or more, each once"),
            ("model.dropout", {"low": 0.0}, "needs either values, or low and high"),
            ("model.options.layers", {"values": [1, 2]}, "branches.dnn.search"),
        ],
    )
    def test_mistakes_are_named_with_their_key(self, tmp_path, key, dimension, said):
        branches = {"dnn": {**SPACE["branches"]["dnn"], "search": {key: dimension}}}
        with pytest.raises(MicrecError) as fault:
            load_space(space_file(tmp_path, branches=branches))
        assert said in str(fault.value)

    def test_all_mistakes_are_said_at_once(self, tmp_path):
        branches = {"dnn": {"preset": "paper", "search": {"a.b": {"values": [1, 2]}, "c": {"values": [1, 2]}}}}
        with pytest.raises(MicrecError) as fault:
            load_space(space_file(tmp_path, branches=branches))
        assert "a.b" in str(fault.value) or "search.a" in str(fault.value)
        assert "search.c" in str(fault.value)

    @pytest.mark.parametrize("sets", ["train.seed=3", "preset=best", "train.metric=hit@100"])
    def test_what_the_search_sets_is_not_set(self, tmp_path, sets):
        with pytest.raises(MicrecError, match="is set by the search itself"):
            load_space(space_file(tmp_path), [sets])

    def test_validation_clicks_are_needed(self, tmp_path):
        with pytest.raises(MicrecError, match="settings are chosen on validation clicks"):
            load_space(space_file(tmp_path), ["split.valid_fraction=0"])

    def test_places_run_from_0_to_1(self):
        assert [SearchDimension(values=(1.0, None, "a")).place(one) for one in (1.0, None, "a")] == [0.0, 0.5, 1.0]
        log = SearchDimension(low=0.01, high=1.0, log=True)
        assert [log.place(one) for one in (0.01, 0.1, 1.0)] == pytest.approx([0.0, 0.5, 1.0])
        assert SearchDimension(low=1, high=5).holds(3)
        assert not SearchDimension(low=1, high=5).holds(3.5)
        assert not SearchDimension(low=1.0, high=5.0).holds(True)


class TestSearch:
    def test_it_begins_at_each_branchs_own_values(self, whole):
        first, second, *others = trials_of(whole)
        assert [first["branch"], second["branch"]] == ["dnn", "linear"]
        assert [first["start"], second["start"]] == [True, True]
        assert first["settings"]["optim.learning_rate"] == 0.001
        assert second["settings"]["model.half_life_days"] == 180.0
        assert len(others) == 4
        assert not any(one["start"] for one in others)

    def test_a_value_is_the_best_of_its_epochs(self, whole):
        for one in trials_of(whole):
            if one["state"] == "finished":
                assert one["value"] == max(one["by_epoch"])
                assert one["by_epoch"].index(one["value"]) + 1 == one["best_epoch"]

    def test_the_same_seed_gives_the_same_trials_and_another_gives_others(self, dataset, whole, tmp_path):
        again = search(request(tmp_path), dataset, tmp_path, "mark")
        assert told(again) == told(whole)
        other = tmp_path / "other"
        other.mkdir()
        assert told(search(request(tmp_path, seed=1), dataset, other, "mark")) != told(whole)

    @pytest.mark.parametrize(("trial", "epoch"), [(0, 1), (3, 2), (5, 1)])
    def test_a_killed_search_goes_on_to_the_same_trials(self, dataset, whole, tmp_path, monkeypatch, trial, epoch):
        trained: list[int] = []
        before = fitting.Trainer.epoch

        def epoch_of(self: Any, *args: Any, **given: Any) -> Any:
            trained.append(1)
            return before(self, *args, **given)

        monkeypatch.setattr(fitting.Trainer, "epoch", epoch_of)
        report = tune_trial.load_study

        def dying(folder: Path, index: int = 0) -> Any:
            study = report(folder, index)
            ask = study.ask

            def asked(*args: Any, **given: Any) -> Any:
                one = ask(*args, **given)
                said = one.report

                def reported(value: float, step: int) -> None:
                    said(value, step)
                    if index == trial and step == epoch:
                        raise Killed

                one.report = reported
                return one

            study.ask = asked
            return study

        with monkeypatch.context() as patch:
            patch.setattr(tune_trial, "load_study", dying)
            with pytest.raises(Killed):
                search(request(tmp_path), dataset, tmp_path, "mark")
        assert (tmp_path / "search" / f"trial-{trial}").exists()
        study = search(request(tmp_path), dataset, tmp_path, "mark")
        assert told(study) == told(whole)
        assert len(trained) == sum(len(one["by_epoch"]) for one in trials_of(whole))  # no epoch was trained twice
        assert list((tmp_path / "search").iterdir()) == []

    def test_more_trials_go_on_from_those_that_are_there(self, dataset, whole, tmp_path):
        search(request(tmp_path, trials=2), dataset, tmp_path, "mark")
        assert told(search(request(tmp_path), dataset, tmp_path, "mark")) == told(whole)

    def test_a_kill_while_starting_points_are_queued_queues_none_twice(self, dataset, whole, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("optuna.Study.set_user_attr", _killed)
            with pytest.raises(Killed):
                search(request(tmp_path), dataset, tmp_path, "mark")
        assert told(search(request(tmp_path), dataset, tmp_path, "mark")) == told(whole)

    def test_another_search_in_the_same_folder_is_refused(self, dataset, tmp_path):
        search(request(tmp_path, trials=1), dataset, tmp_path, "mark")
        with pytest.raises(MicrecError, match="holds a search with another seed"):
            search(request(tmp_path, trials=1, seed=1), dataset, tmp_path, "mark")
        with pytest.raises(MicrecError, match="holds a search with another dataset"):
            search(request(tmp_path, trials=1), dataset, tmp_path, "other mark")

    def test_nothing_of_the_test_part_is_used(self, dataset, whole, tmp_path, monkeypatch):
        """With other test clicks the trials are the same, and no evaluation of the test part is made."""
        parts: list[str] = []
        asked = fitting.evaluation_task

        def spy(data: Dataset, split: Any, config: Any, part: str) -> Any:
            parts.append(part)
            return asked(data, split, config, part)

        monkeypatch.setattr(fitting, "evaluation_task", spy)
        test = temporal_split(dataset.clicks, PRESETS["paper"].split, dataset.schema.days).test
        items = dataset.clicks.item_ids.copy()
        items[test] = np.random.default_rng(0).permutation(items[test])[::-1]
        assert (items != dataset.clicks.item_ids).any()
        scrambled = dataclasses.replace(dataset, clicks=dataclasses.replace(dataset.clicks, item_ids=items))
        assert told(search(request(tmp_path), scrambled, tmp_path, "mark")) == told(whole)
        assert set(parts) == {"valid"}

    def test_a_failed_trial_is_named_and_the_search_goes_on(self, dataset, tmp_path, monkeypatch):
        train = tune_trial._trained

        def failing(task: Any, study: Any, trial: Any, *rest: Any) -> float:
            if trial.user_attrs["branch"] == "dnn":
                raise MicrecError("model.item_tower: does not fit")
            return train(task, study, trial, *rest)

        monkeypatch.setattr(tune_trial, "_trained", failing)
        found = trials_of(search(request(tmp_path, trials=2), dataset, tmp_path, "mark"))
        assert [one["state"] for one in found] == ["failed", "finished"]
        assert found[0]["reason"] == "model.item_tower: does not fit"
        assert best_trial(found)["branch"] == "linear"

    def test_if_all_fail_the_reasons_are_told(self, dataset, tmp_path, monkeypatch):
        def failing(*given: Any) -> float:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(tune_trial, "_trained", failing)
        with pytest.raises(MicrecError, match=r"no trial finished:\n  RuntimeError: out of memory"):
            search(request(tmp_path, trials=2), dataset, tmp_path, "mark")

    def test_a_trial_whose_process_died_counts_as_failed(self, dataset, tmp_path):
        search(request(tmp_path, trials=1), dataset, tmp_path, "mark")
        study = load_study(tmp_path)
        study.ask()
        requeue(study, DIED)
        assert trials_of(load_study(tmp_path))[-1]["reason"] == DIED

    def test_when_time_is_up_one_trial_has_finished_and_no_other_begins(self, dataset, tmp_path):
        found = trials_of(search(request(tmp_path, minutes=1e-9, trials=None), dataset, tmp_path, "mark"))
        assert [one["state"] for one in found] == ["finished"]

    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 1, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)])
    def test_no_two_trials_have_one_index_whichever_worker_asks_first(self, dataset, tmp_path, monkeypatch, order):
        """Two trials are queued, for the tasks 0 and 1; who takes one of them for another task leaves its own place."""
        given = request(tmp_path)
        starts = [
            studies.parameters(given.space, name, given.space.start(name, given.every_trial()))
            for name in given.space.branches
        ]
        study = studies.open_study(tmp_path, {"data": "mark"}, starts)
        folders: list[str] = []
        monkeypatch.setattr(tune_trial, "_trained", lambda *given: folders.append(given[4].name) or 0.5)
        for index in order:
            task = tune_trial.TrialTask(tmp_path, given.space, given.every_trial(), index, None, 0.0)
            tune_trial.run_trial(task, dataset)
        assert sorted(folders) == [f"trial-{index}" for index in range(4)]
        assert sorted(one["index"] for one in trials_of(study)) == [0, 1, 2, 3]

    def test_trials_run_side_by_side(self, dataset, tmp_path):
        found = trials_of(search(request(tmp_path, workers=2, trials=3), dataset, tmp_path, "mark"))
        assert [one["index"] for one in found] == [0, 1, 2]
        assert {one["branch"] for one in found[:2]} == {"dnn", "linear"}
        assert next(one["value"] for one in found if one["start"]) is not None

    def test_without_optuna_the_line_that_installs_it_is_said(self, monkeypatch):
        import builtins

        known = builtins.__import__

        def missing(name: str, *rest: Any, **given: Any) -> Any:
            if name == "optuna":
                raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
            return known(name, *rest, **given)

        monkeypatch.setattr(builtins, "__import__", missing)
        with pytest.raises(MicrecError, match=r'pip install "micrec\[tune\]"'):
            studies.optuna()


class TestFindings:
    def test_best_yaml_is_a_config_that_training_takes(self, whole, tmp_path):
        asked = request(tmp_path)
        best = best_trial(trials_of(whole))
        config = best_config(asked, best)
        path = tmp_path / "best.yaml"
        path.write_text(best_yaml(config, best, "a # shop\n", "hit@5"), encoding="utf-8")
        keys = load_yaml(path)
        assert build_config(keys["preset"], keys) == config
        assert config.train.refit
        assert config.train.metric == "hit@5"
        trained = dict(best["settings"])
        assert all(_value(config, key) == value for key, value in trained.items())

    def test_the_best_is_the_highest_and_of_equal_ones_the_first(self):
        values = [0.1, 0.3, 0.3, None]
        found = [{"index": i, "value": v, "state": "finished" if v else "failed"} for i, v in enumerate(values)]
        assert best_trial(found)["index"] == 1

    def test_importance_finds_the_key_that_decides(self, tmp_path):
        """One key makes the value, another none of it: fANOVA gives the first nearly all."""
        import optuna

        study = optuna.create_study()
        floats = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in ("one/a", "one/b")}
        rng = np.random.default_rng(0)
        for index in range(40):
            a, b = rng.random(2)
            study.add_trial(
                optuna.trial.create_trial(
                    params={"one/a": a, "one/b": b},
                    distributions=floats,
                    value=float(a),
                    user_attrs={"branch": "one", "index": index},
                )
            )
        found = importance(study, trials_of(study), 0)
        assert found["branches"] is None
        assert found["keys"]["one"]["trials"] == 40
        assert found["keys"]["one"]["keys"]["a"] > 0.9
        assert list(found["keys"]["one"]["keys"]) == ["a", "b"]

    def test_the_share_between_branches(self):
        from micrec.tuning.findings import _between

        apart = [{"branch": "a", "value": 0.1}, {"branch": "a", "value": 0.1}, {"branch": "b", "value": 0.3}]
        assert _between(apart, ["a", "b"]) == pytest.approx(1.0)
        mixed = [{"branch": b, "value": v} for b in "ab" for v in (0.1, 0.3)]
        assert _between(mixed, ["a", "b"]) == pytest.approx(0.0)

    def test_findings_are_plain_and_say_what_was_asked(self, whole, tmp_path):
        import json

        found = findings(whole, request(tmp_path))
        json.dumps(found)
        assert found["best"]["value"] == max(one["value"] for one in found["trials"] if one["value"] is not None)
        assert found["trials_wanted"] == 6
        assert found["metric"] == "hit@5"


def _killed(*given: Any) -> None:
    raise Killed


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config
