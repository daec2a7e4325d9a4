"""What trainers can learn from: the observed log, and nothing of the world's truth."""

import dataclasses
import sys

import polars as pl
import pytest

from micrec.config import Config
from simulator.channels import CHANNELS, channel_trainer
from simulator.channels.two_tower.two_tower_trainer import TwoTowerTrainer
from simulator.ports import ObservedLog
from simulator.ranking import CtrTrainer
from simulator.world.item_table import ground_truth_items, ground_truth_links, item_frame
from tests.simulator.channels.logs import random_log
from tests.simulator.worlds import small_history, small_world

DATA = (".parquet", ".csv", ".json", ".yaml", ".npz", ".npy", ".safetensors")
_opened: list[str] | None = None


def _audit(event, arguments):
    if _opened is not None and event == "open" and isinstance(arguments[0], str):
        _opened.append(arguments[0])


sys.addaudithook(_audit)  # the interpreter's own record of every file it opens; it cannot be taken off, only be idle


def _refuse(*_arguments, **_keywords):
    raise AssertionError("a trainer reads a table from a file")


def trainers():
    config = Config.model_validate(
        {
            "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}},
            "train": {"epochs": 1, "batch_size": 512, "device": "cpu"},
            "contrast": {"pool_size": 32, "semantic": {"svd_dim": 8}},
        }
    )
    channels = {kind: channel_trainer(kind, {}) for kind in CHANNELS if kind != "two_tower"}
    return channels | {"two_tower": TwoTowerTrainer(config), "rank": CtrTrainer()}


def test_the_log_holds_nothing_but_tables_and_times():
    fields = {field.name: field.type for field in dataclasses.fields(ObservedLog)}
    assert fields == {
        "users": pl.DataFrame,
        "items": pl.DataFrame,
        "clicks": pl.DataFrame,
        "impressions": pl.DataFrame,
        "now_s": float,
        "start_s": int,
    }


def test_the_worlds_tables_share_no_trait_with_the_truth():
    """Users, items and clicks as the world gives them out, beside the oracle's tables of the same."""
    world, shard = small_world(), small_history()
    config, catalogue = world.config, world.catalogue
    pairs = (
        (item_frame(config, catalogue), ground_truth_items(config, catalogue)),
        (shard.users, shard.ground_truth_users),
        (shard.clicks, shard.causes),
        (item_frame(config, catalogue), ground_truth_links(config, catalogue)),
    )
    for seen, hidden in pairs:
        assert set(seen.columns) & set(hidden.columns) <= {"user_id", "item_id"}


@pytest.mark.parametrize("name", [*CHANNELS, "rank"])
def test_a_trainer_opens_no_data_but_its_own_versions(name, tmp_path, monkeypatch):
    global _opened
    trainer, log = trainers()[name], random_log()
    trainer.train(log, previous=None, folder=tmp_path / "v0", seed=0)  # what is imported on the way is read now
    monkeypatch.chdir(tmp_path)
    for reader in (reader for reader in dir(pl) if reader.startswith(("read_", "scan_"))):  # they open files unseen
        monkeypatch.setattr(pl, reader, _refuse)
    _opened = []
    try:
        trainer.train(log, previous=tmp_path / "v0", folder=tmp_path / "v1", seed=0)
        trainer.load(tmp_path / "v1")
        opened = [path for path in _opened if path.endswith(DATA)]
    finally:
        _opened = None
    assert [path for path in opened if not path.startswith(str(tmp_path))] == []
    assert opened
