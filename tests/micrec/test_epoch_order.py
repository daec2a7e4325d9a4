"""The order of an epoch: every row once, by the seed alone, and block by block where it is asked for."""

import numpy as np
import pytest
import torch

from micrec.config import Config, TrainConfig
from micrec.data.array_space import DiskSpace, MemorySpace
from micrec.epoch_order import BlockOrder
from micrec.errors import MicrecError
from micrec.settings import validate
from micrec.training import Trainer
from tests.micrec.factories import random_dataset


def order_of(n: int, seed: int = 0, *, size: int = 10, window: int = 3) -> BlockOrder:
    return BlockOrder(torch.arange(n) * 2, size, window, torch.Generator().manual_seed(seed))


def whole(order: BlockOrder) -> list[int]:
    return order[:].tolist()


@pytest.mark.parametrize("n", [1, 9, 10, 11, 30, 95, 300])
def test_every_row_comes_once(n):
    order = order_of(n)
    assert len(order) == n
    assert sorted(whole(order)) == [2 * row for row in range(n)]


def test_the_seed_alone_decides():
    assert whole(order_of(95, 1)) == whole(order_of(95, 1)) != whole(order_of(95, 2))


def test_batches_are_parts_of_one_order():
    order, again = order_of(95), order_of(95)
    batches = [again[at : at + 17].tolist() for at in range(0, 95, 17)]
    assert [row for batch in batches for row in batch] == whole(order)
    assert again[90:200].tolist() == whole(order)[90:]
    assert again[40:40].tolist() == []


def test_places_may_be_asked_for_in_any_order():
    order = order_of(200)
    late, early = order[150:170].tolist(), order[3:9].tolist()
    assert (late, early) == (whole(order_of(200))[150:170], whole(order_of(200))[3:9])


def test_a_window_holds_whole_blocks_in_random_order():
    order = order_of(120, size=10, window=3)
    windows = [whole(order)[at : at + 30] for at in range(0, 120, 30)]
    blocks = [{row // 20 for row in window} for window in windows]
    assert all(len(found) == 3 for found in blocks)
    assert set().union(*blocks) == set(range(12))
    assert [sorted(window) != window for window in windows] == [True] * 4
    assert blocks != [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}]


def test_one_window_shuffles_all_rows():
    """Positions of neighbours are then as far apart as in a shuffle of rows: a third of the length on average."""
    order = torch.argsort(order_of(3_000, size=100, window=30)[:])
    apart = order.diff().abs().float().mean() / len(order)
    assert apart == pytest.approx(1 / 3, abs=0.02)


def test_a_block_order_has_no_steps():
    with pytest.raises(ValueError, match="steps of 1, got 2"):
        order_of(10)[::2]


def test_two_windows_are_kept_at_most():
    order = order_of(900)
    for at in range(0, 900, 7):
        order[at : at + 7]
        assert sum(map(len, order._kept.values())) <= 60


@pytest.mark.parametrize("rows", ["click", "session"])
@pytest.mark.parametrize("shuffle", ["rows", "blocks"])
def test_an_epoch_is_the_same_in_memory_and_on_disk(tmp_path, rows, shuffle):
    dataset, found = random_dataset(tmp_path / "log", np.random.default_rng(2)), []
    keys = {"rows": rows, "context": "before_session", "shuffle": shuffle, "block_rows": 16, "window_blocks": 4}
    config = Config.model_validate({"train": keys | {"device": "cpu"}})
    for space in (MemorySpace(), DiskSpace(tmp_path)):
        object.__setattr__(dataset.clicks, "space", space)
        trainer = Trainer(dataset, dataset.clicks, config)
        found.append([trainer.order(epoch)[: len(trainer._rows)].tolist() for epoch in (1, 2)])
        assert sorted(found[-1][0]) == trainer._rows.tolist()
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_keys_change_the_order(tmp_path):
    dataset, orders = random_dataset(tmp_path / "log", np.random.default_rng(2)), []
    for keys in ({}, {"shuffle": "blocks"}, {"shuffle": "blocks", "block_rows": 50}, {
        "shuffle": "blocks", "block_rows": 50, "window_blocks": 2
    }):  # fmt: skip
        config = Config.model_validate({"train": {"device": "cpu", "block_rows": 10, "window_blocks": 5} | keys})
        trainer = Trainer(dataset, dataset.clicks, config)
        orders.append(tuple(trainer.order(1)[: len(dataset.clicks)].tolist()))
    assert len(set(orders)) == 4
    assert len({tuple(sorted(order)) for order in orders}) == 1


@pytest.mark.parametrize("key", ["block_rows", "window_blocks"])
def test_an_order_has_rows_and_blocks(key):
    with pytest.raises(MicrecError, match=rf"train: {key}: must be >= 1, got 0"):
        validate(TrainConfig, {key: 0}, where="train")
    with pytest.raises(MicrecError, match=r"train: shuffle: must be .*rows.*blocks"):
        validate(TrainConfig, {"shuffle": "none"}, where="train")
