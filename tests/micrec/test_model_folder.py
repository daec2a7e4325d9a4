"""A model on disk: the same after the round trip, refused where it does not fit."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.evaluation import evaluation_task
from micrec.fitting import Fitted, fit
from micrec.model_folder import load_model, save_model
from micrec.retrieval import Retriever
from micrec.settings import merge
from tests.micrec.factories import random_frames

SMALL = {
    "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}, "history_length": 4, "id_dropout": 0.1},
    "softmax": {"num_negatives": 5},
    "contrast": {name: {"weight": 0} for name in ("feature", "semantic", "session")},
    "sessions": {"category_boost": float("inf")},
    "train": {"batch_size": 128, "epochs": 2, "device": "cpu", "metric": "ndcg@3"},
    "evaluation": {"cutoffs": [3, 10]},
}


def written(folder, *, name: str = "random", **changes: pl.DataFrame) -> Dataset:
    """The random dataset, with ``users`` or ``items`` replaced."""
    schema, users, items, clicks = random_frames(np.random.default_rng(0))
    frames = {"users": users, "items": items} | changes
    write_dataset(folder, schema.model_copy(update={"name": name}), frames["users"], frames["items"], clicks)
    return read_dataset(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return written(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> Fitted:
    return fit(dataset, Config.model_validate(SMALL))


def test_a_round_trip_changes_nothing(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "model")
    loaded = load_model(tmp_path / "model", dataset, device="cpu")
    assert loaded.config == fitted.config
    assert loaded.config.sessions.category_boost == float("inf")
    assert loaded.state == fitted.state
    assert loaded.trained_clicks == fitted.trained_clicks
    assert loaded.fields.item_specs == fitted.fields.item_specs
    for name, weight in fitted.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name]), name
    split = temporal_split(dataset.clicks, fitted.config.split)
    task = evaluation_task(dataset, split, fitted.config.evaluation, "test")
    assert loaded.evaluate(task).metrics == fitted.evaluate(task).metrics


def test_without_refit_ids_seen_in_validation_alone_stay_unknown(dataset, tmp_path):
    """What counts as known is a matter of the clicks trained on, which the manifest keeps."""
    small = fit(dataset, Config.model_validate(merge(SMALL, {"train": {"refit": False}, "model": {"user_id": True}})))
    save_model(small, dataset, tmp_path / "model")
    loaded = load_model(tmp_path / "model", dataset, device="cpu")
    for part in ("users", "items"):
        ours, theirs = getattr(small.fields, part).tensors(), getattr(loaded.fields, part).tensors()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_manifest_is_for_people_too(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["kind"] == "model"
    assert manifest["dataset_name"] == "random"
    assert manifest["config"]["train"]["epochs"] == 2
    assert manifest["item_specs"][1] | {"mean": 0.0} == {
        "name": "category",
        "type": "categorical",
        "size": 6,
        "mean": 0.0,
        "std": 1.0,
        "own_id": False,
    }
    assert manifest["checkpoint"]["torch"] == torch.__version__


def test_a_dataset_with_other_ids_is_refused(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "model")
    users = dataset.users.frame.sort("user_id", descending=True)
    other = written(tmp_path / "other", name="other", users=users)
    with pytest.raises(
        MicrecError, match=r"model: trained on dataset 'random' with other user or item ids than 'other'"
    ):
        load_model(tmp_path / "model", other)


@pytest.mark.parametrize("change", [pl.col("category").replace("c0", "c9"), pl.col("price") + 1.0])
def test_a_dataset_with_other_field_values_is_refused(fitted, dataset, tmp_path, change):
    """Embedding rows go by the order of the values: a renamed one would shift them silently."""
    save_model(fitted, dataset, tmp_path / "model")
    other = written(tmp_path / "other", items=dataset.items.frame.with_columns(change))
    assert other.fingerprint == dataset.fingerprint
    with pytest.raises(MicrecError, match=r"fields of 'random' have other values than at the training.*train anew"):
        load_model(tmp_path / "model", other)


def test_fields_that_the_model_does_not_read_may_change(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "model")
    other = written(tmp_path / "other", items=dataset.items.frame.with_columns(title=pl.lit("untitled")))
    load_model(tmp_path / "model", other, device="cpu")


def test_other_folders_are_told_apart(fitted, dataset, tmp_path):
    Retriever.build(fitted, dataset).save(tmp_path / "bundle")
    with pytest.raises(MicrecError, match="bundle: holds a serving bundle, not a trained model: give a folder that"):
        load_model(tmp_path / "bundle", dataset)
    with pytest.raises(MicrecError, match="none: there is no such folder: give a folder that micrec train wrote"):
        load_model(tmp_path / "none", dataset)


def test_a_finished_model_is_replaced_on_demand_only(fitted, dataset, tmp_path):
    folder = tmp_path / "model"
    save_model(fitted, dataset, folder)
    with pytest.raises(MicrecError, match="model: holds a trained model: name another folder, or replace it"):
        save_model(fitted, dataset, folder)
    other = fit(dataset, Config.model_validate(merge(SMALL, {"train": {"seed": 1}})))
    save_model(other, dataset, folder, overwrite=True)
    assert load_model(folder, dataset, device="cpu").config.train.seed == 1
    assert len(list(folder.iterdir())) == 2


def test_a_config_edited_by_hand_is_checked(fitted, dataset, tmp_path):
    folder = tmp_path / "model"
    save_model(fitted, dataset, folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"epochs": 2', '"epochs": 0'), encoding="utf-8")
    with pytest.raises(MicrecError, match=r"manifest\.json: config\.train\.epochs: must be >= 1, got 0"):
        load_model(folder, dataset)
