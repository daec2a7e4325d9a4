"""The ceilings as rows beside a world's models: their order, where they stand, and who reads the truth."""

import itertools
import shutil

import numpy as np
import polars as pl
import pytest

import micrec
from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import NO_CEILING, affordable, left_out
from micrec.comparison import left_out_lines
from micrec.config import Config, EvalConfig
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset
from micrec.evaluation import evaluation_task
from micrec.evaluation.way_to_ceiling import way_to_ceiling
from micrec.experiment import evaluate_baseline
from simulator.ceiling import ITEMS_KNOWN, STRUCTURE_KNOWN, USERS_KNOWN, register_ceilings
from simulator.ceiling.ceilings import missing_ground_truth
from simulator.world.generate import generate_world
from tests.simulator.worlds import small_config

TOPICS = ("items.topics=4", "taste.depth={topic: 0.7, subcategory: 0.2, item: 0.1}")
CONFIG = Config.model_validate(
    {
        "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}},
        "train": {"epochs": 1, "batch_size": 512, "device": "cpu"},
        "contrast": {"pool_size": 32, "semantic": {"svd_dim": 8}},
        "evaluation": {"cutoffs": [5, 20, 50]},
    }
)
CEILINGS = ("users_known", "items_known", "structure_known")
RIVALS = ("popularity", "recent_popularity", "item_knn", "ease")


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_ceilings()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return generate_world(small_config(*TOPICS), tmp_path_factory.mktemp("ceiling") / "world").folder


def judged(data, names, part="test", **evaluation):
    dataset = read_dataset(data)
    config = CONFIG.model_copy(update={"evaluation": CONFIG.evaluation.model_copy(update=evaluation)})
    split = temporal_split(dataset.clicks, config.split, dataset.schema.days)
    task = evaluation_task(dataset, split, config.evaluation, part)
    inputs = BaselineInputs.of(task, dataset, config)
    return {name: evaluate_baseline(name, inputs) for name in names}


@pytest.fixture(scope="module")
def results(data):
    return judged(data, (*RIVALS, *CEILINGS))


def gain(higher, lower, column):
    """Mean gain in hits a click and its standard error, by user."""
    gained = (higher.user_hits[:, column] - lower.user_hits[:, column]).astype(float)
    return gained.sum() / higher.lines, np.sqrt((gained**2).sum()) / higher.lines


@pytest.mark.parametrize("column", range(3))
def test_no_rival_is_above_a_ceiling_beyond_noise(results, column):
    for rival in RIVALS:
        for ceiling in CEILINGS:
            difference, error = gain(results[ceiling], results[rival], column)
            assert difference > -2.0 * error, (rival, ceiling)
    for higher, lower in itertools.pairwise(CEILINGS):
        difference, error = gain(results[higher], results[lower], column)
        assert difference > -2.0 * error


def test_the_ceilings_are_far_above_popularity(results):
    for ceiling in CEILINGS:
        difference, error = gain(results[ceiling], results["popularity"], 0)
        assert difference > 5.0 * error


def test_the_way_to_the_ceiling_is_a_share(results):
    way = way_to_ceiling(results)
    low, high = (results[name].metrics["hit@20"] for name in ("popularity", "users_known"))
    assert set(way) == {"recent_popularity", "item_knn", "ease", "items_known", "structure_known"}
    assert way["ease"][20] == pytest.approx((results["ease"].metrics["hit@20"] - low) / (high - low))
    assert not way_to_ceiling({name: results[name] for name in RIVALS})


@pytest.mark.parametrize("evaluation", [{"users": "all"}, {"seen": "filter"}])
def test_the_order_holds_for_other_questions(data, evaluation):
    """New users, whose fields are all that is known of them; seen items left out."""
    found = judged(data, ("popularity", *CEILINGS), **evaluation)
    for higher, lower in itertools.pairwise((*CEILINGS, "popularity")):
        difference, error = gain(found[higher], found[lower], 1)
        assert difference > -2.0 * error


def test_the_validation_part_has_its_own_period(data):
    found = judged(data, ("ease", "users_known"), part="valid")
    difference, error = gain(found["users_known"], found["ease"], 1)
    assert difference > 3.0 * error


def test_a_dataset_without_its_truth_has_no_ceiling(data, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(data, folder)
    assert missing_ground_truth(read_dataset(folder)) is None
    truth = folder / "ground_truth" / "items.parquet"
    other = pl.read_parquet(truth).with_columns(appeal=pl.col("appeal") * 1.5)
    other.write_parquet(truth)
    assert "not what this version draws" in missing_ground_truth(read_dataset(folder))
    shutil.rmtree(folder / "ground_truth")
    assert missing_ground_truth(read_dataset(folder)) == "its folder holds no ground_truth"


def test_a_log_of_another_source_has_no_ceiling(data, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(data, folder)
    schema = (folder / "dataset.yaml").read_text(encoding="utf-8")
    (folder / "dataset.yaml").write_text(schema.replace("micrec world", "a shop"), encoding="utf-8")
    assert missing_ground_truth(read_dataset(folder)) == "it is not a generated world in a folder"


def test_lists_for_single_clicks_have_no_ceiling_and_it_is_told_why(data):
    dataset = read_dataset(data)
    names = ["popularity", *CEILINGS]
    assert affordable(names, dataset, CONFIG.evaluation) == names
    rolling = EvalConfig(history="rolling")
    assert affordable(names, dataset, rolling) == ["popularity"]
    assert left_out(names, dataset, rolling) == dict.fromkeys(CEILINGS, NO_CEILING)
    told = [line for line in left_out_lines(dataset, rolling) if "known:" in line]
    assert sorted(told) == [f"left out: {name.replace('_', ' ')}: {NO_CEILING}" for name in sorted(CEILINGS)]
    assert not [line for line in left_out_lines(dataset, CONFIG.evaluation) if "known:" in line]


def test_a_log_has_no_ceiling_to_miss(data, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(data, folder)
    shutil.rmtree(folder / "ground_truth")
    told = left_out_lines(read_dataset(folder), EvalConfig(history="rolling"))
    assert not [line for line in told if "known" in line]


def test_ceilings_are_named_once_however_often_they_register():
    register_ceilings()
    assert BASELINES["users_known"] is USERS_KNOWN
    assert BASELINES["items_known"] is ITEMS_KNOWN
    assert USERS_KNOWN.is_ceiling
    assert ITEMS_KNOWN.is_ceiling
    assert BASELINES["structure_known"] is STRUCTURE_KNOWN
    assert STRUCTURE_KNOWN.is_ceiling


def test_training_never_reads_the_truth_and_evaluation_does(data, tmp_path, monkeypatch):
    read = []

    def watched(function):
        def watching(source, *arguments, **keywords):
            read.append(str(source))
            return function(source, *arguments, **keywords)

        return watching

    for name in ("read_parquet", "scan_parquet"):
        monkeypatch.setattr(pl, name, watched(getattr(pl, name)))
    model = micrec.train(data, tmp_path / "with", config=CONFIG)
    assert read
    assert not [path for path in read if "ground_truth" in path]
    found = micrec.evaluate(model)
    assert [path for path in read if "ground_truth" in path]
    assert set(CEILINGS) <= set(found.models)
    blind = tmp_path / "blind"
    shutil.copytree(data, blind)
    shutil.rmtree(blind / "ground_truth")
    alone = micrec.evaluate(micrec.train(blind, tmp_path / "without", config=CONFIG))
    assert "users_known" not in alone.models
    name = next(iter(alone.models))
    alike = dict(alone.models[name].metrics.items())
    assert alike == {metric: found.models[name].metrics[metric] for metric in alike}  # the same model to the bit
