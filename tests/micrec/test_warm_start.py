"""A training from an earlier model: rows follow their ids, new ones are fresh, and nothing judged was seen before."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import micrec
from micrec.checkpoint import load_checkpoint, save_checkpoint
from micrec.config import Config
from micrec.data.store import dataset_of_frames
from micrec.errors import MicrecError
from micrec.progress import NoProgress
from micrec.settings import merge
from micrec.training import Trainer
from micrec.warm_start import VOCABULARY, EarlierModel
from tests.micrec.factories import random_frames
from tests.micrec.serving import SMALL

MONTH_S = 30 * 86_400
FM = merge(SMALL, {"model": {"name": "fm", "user_id": True, "item_bias": True}, "split": {"test_fraction": 0.2}})


def frames(seed: int, users: int, items: int, clicks: int) -> tuple:
    return random_frames(np.random.default_rng(seed), n_users=users, n_items=items, n_clicks=clicks)


@pytest.fixture(scope="module")
def before():
    return dataset_of_frames(*frames(5, 20, 40, 400))


@pytest.fixture(scope="module")
def grown():
    """A month later: the same users and items in another order, new ones among them, and new clicks behind the old."""
    old, (schema, users, items, clicks) = frames(5, 20, 40, 400), frames(6, 26, 50, 400)
    later = clicks.with_columns(pl.col("timestamp") + MONTH_S)
    return dataset_of_frames(schema, users.reverse(), items.reverse(), pl.concat([old[3], later]))


@pytest.fixture(scope="module")
def folder(before, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("earlier") / "run"
    micrec.train(before, out, config=FM)
    return out


def trainer_of(dataset) -> Trainer:
    return Trainer(dataset, dataset.clicks[:600], Config.model_validate(FM))


def rows_of(model, dataset) -> dict[str, torch.Tensor]:
    """The vector of each item by its outside id."""
    table = model.item_fields.tables["item_id"].weight.detach()
    return dict(zip(dataset.items.ids.to_list(), table[1:], strict=True))


def test_rows_follow_their_ids_and_new_ones_are_fresh(before, grown, folder):
    old, warm, cold = micrec.load_model(folder, before).fitted.model, trainer_of(grown), trainer_of(grown)
    told = EarlierModel.read(folder / "model").carry_into(warm.model, grown)
    known, now, fresh = rows_of(old, before), rows_of(warm.model, grown), rows_of(cold.model, grown)
    assert len(known) == 40
    for item in grown.items.ids:
        assert torch.equal(now[item], known.get(item, fresh[item]))
    assert any("item field item_id: 40 rows carried, 10 fresh" in line for line in told)
    assert any("user field user_id: 20 rows carried, 6 fresh" in line for line in told)
    assert told[-1].endswith("fresh: the optimiser")


def test_labels_of_other_fields_are_matched_by_name(before, grown, folder):
    old, warm = micrec.load_model(folder, before).fitted.model, trainer_of(grown)
    EarlierModel.read(folder / "model").carry_into(warm.model, grown)
    labels, now = before.items.columns["category"].labels, grown.items.columns["category"].labels
    for label in set(labels) & set(now):
        mine, theirs = list(now).index(label) + 1, list(labels).index(label) + 1
        tables = warm.model.item_fields.tables, old.item_fields.tables
        assert torch.equal(tables[0]["category"].weight[mine], tables[1]["category"].weight[theirs])


def test_no_vector_is_carried_where_the_axes_are_those_of_another_log(before, grown, tmp_path):
    """Items start from EASE of the new log; vectors of users' fields would be multiplied by other axes."""
    config = merge(FM, {"model": {"name": "fism", "user_id": False, "options": {"start": "ease"}}})
    micrec.train(before, tmp_path / "run", config=config)
    warm, cold = (Trainer(grown, grown.clicks[:600], Config.model_validate(config)) for _ in range(2))
    told = EarlierModel.read(tmp_path / "run" / "model").carry_into(warm.model, grown)
    fresh = {name for name, _ in warm.model.named_parameters() if name.startswith(("item_fields.", "user_fields."))}
    assert {name.split(".")[0] for name in fresh} == {"item_fields", "user_fields"}
    assert all(name in told[-1] for name in fresh)
    for name, parameter in warm.model.named_parameters():
        if name in fresh:
            assert torch.equal(parameter, dict(cold.model.named_parameters())[name])


def test_the_first_epoch_is_ahead_of_a_fresh_one(before, grown, tmp_path):
    class Lines(NoProgress):
        def say(self, line: str) -> None:
            lines.append(line)

    lines: list[str] = []
    config = merge(FM, {"optim": {"learning_rate": 0.02}})
    micrec.train(before, tmp_path / "run", config=merge(config, {"train": {"epochs": 8}}))
    cold = micrec.train(grown, config=config)
    warm = micrec.train(grown, config=config, start_from=tmp_path / "run", progress=Lines())
    assert any("rows carried" in line for line in lines)
    losses = [model.fitted.state.log[0]["losses"]["matching"] for model in (warm, cold)]
    assert losses[0] < losses[1]


def test_an_interrupted_training_is_not_gone_on_with_from_another_start(grown, folder, tmp_path):
    two = merge(FM, {"train": {"epochs": 2}})

    class StopAtSecond(NoProgress):
        epochs = 0

        def start(self, task: str, total: int, unit: str) -> None:
            self.epochs += "refit" in task
            if self.epochs == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        micrec.train(grown, tmp_path / "run", config=two, start_from=folder, progress=StopAtSecond())
    with pytest.raises(MicrecError, match="belongs to another config or dataset"):
        micrec.train(grown, tmp_path / "run", config=two)
    whole = micrec.train(grown, config=two, start_from=folder)
    resumed = micrec.train(grown, tmp_path / "run", config=two, start_from=folder)
    for name, tensor in whole.fitted.model.state_dict().items():
        assert torch.equal(tensor, resumed.fitted.model.state_dict()[name])


class TestRefused:
    def test_a_model_that_knows_clicks_to_be_judged_by(self, before, folder):
        with pytest.raises(MicrecError, match=r"was trained on clicks until .*, and the test clicks begin at"):
            micrec.train(before, config=merge(FM, {"split": {"test_fraction": 0.5}}), start_from=folder)

    def test_another_base(self, grown, folder):
        with pytest.raises(MicrecError, match=r"is a fm, and model.name is youtube_dnn: set model.name=fm"):
            micrec.train(grown, config=merge(SMALL, {"model": {"name": "youtube_dnn"}}), start_from=folder)

    def test_a_model_without_its_ids(self, grown, folder, tmp_path):
        tensors, manifest = load_checkpoint(folder / "model")
        del tensors[VOCABULARY]
        save_checkpoint(tmp_path / "old" / "model", tensors, manifest)
        with pytest.raises(MicrecError, match="do not keep their ids: train it anew"):
            micrec.train(grown, config=FM, start_from=tmp_path / "old")
