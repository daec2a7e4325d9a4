"""Clicks in mapped files: the same numbers as in memory, written whole, and anew when the dataset changes."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from micrec.cli.data_commands import app
from micrec.config import Config, EvalConfig, SessionsConfig, SplitConfig
from micrec.data import mapped, sorting, spilled_pairs, store
from micrec.data.array_space import DiskSpace, MemorySpace
from micrec.data.cooccurrence import count_cooccurrences
from micrec.data.dataset import CLICK_ARRAYS
from micrec.data.describe import describe
from micrec.data.histories import group_by_user
from micrec.data.sorting import counts_of, distinct, stable_order, stably_sorted
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.estimates.machine import memory_bytes
from micrec.evaluation.task import evaluation_task
from micrec.progress import NoProgress
from micrec.training import Trainer
from tests.micrec.factories import random_frames, write_random, write_tiny


@pytest.fixture
def small_blocks(monkeypatch):
    """As if memory held but 37 clicks, and the bounds of 7 bins of items."""
    monkeypatch.setattr(sorting, "BLOCK_ROWS", 37)
    monkeypatch.setattr(spilled_pairs, "_MOST_BINS", 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log in three files, out of order across and within them."""
    schema, users, items, clicks = random_frames(np.random.default_rng(5))
    shuffled = clicks.sample(fraction=1.0, shuffle=True, seed=1)
    write_dataset(tmp_path / "log", schema, users, items, [shuffled[:100], shuffled[100:450], shuffled[450:]])
    return tmp_path / "log"


def same_clicks(one, other) -> None:
    for name in CLICK_ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.one_of(st.integers(-5, 5), st.integers(-(2**62), 2**62)), max_size=60),
    block=st.integers(1, 70),
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_sorting_block_by_block_is_a_stable_argsort(tmp_path_factory, keys, block, on_disk):
    space = DiskSpace(tmp_path_factory.getbasetemp()) if on_disk else MemorySpace()
    values = np.array(keys, np.int64)
    order = np.argsort(values, kind="stable")
    found = stably_sorted(values, [np.arange(len(keys), dtype=np.int16), None], space=space, block_rows=block)
    np.testing.assert_array_equal(found[0], values[order])
    np.testing.assert_array_equal(found[1], order)
    np.testing.assert_array_equal(found[2], order)
    np.testing.assert_array_equal(stable_order(values), order)
    np.testing.assert_array_equal(distinct(values), np.unique(values))


def test_counts_are_those_of_bincount(small_blocks):
    values = np.random.default_rng(0).integers(0, 9, 1000)
    np.testing.assert_array_equal(counts_of(values, 12), np.bincount(values, minlength=12))


def test_mapped_clicks_are_those_in_memory(folder, small_blocks):
    resident, found = read_dataset(folder, mapped=False), read_dataset(folder, mapped=True)
    same_clicks(found.clicks, resident.clicks)
    assert all(isinstance(getattr(found.clicks, name), np.memmap) for name in CLICK_ARRAYS)
    assert not any(isinstance(getattr(resident.clicks, name), np.memmap) for name in CLICK_ARRAYS)
    assert found.clicks.space.on_disk
    assert not resident.clicks.space.on_disk


def test_a_folder_once_mapped_is_mapped_again_without_decoding(folder, monkeypatch):
    assert not read_dataset(folder).clicks.space.on_disk
    read_dataset(folder, mapped=True)
    monkeypatch.setattr(store.ClickEncoder, "encode", lambda *_: pytest.fail("decoded again"))
    assert read_dataset(folder).clicks.space.on_disk
    for path in folder.rglob("*.parquet"):  # as a copy of the folder has it
        os.utime(path, ns=(1, 1))
    assert read_dataset(folder).clicks.space.on_disk


def test_a_log_larger_than_memory_is_mapped_without_being_asked_for(folder, monkeypatch):
    monkeypatch.setattr(mapped, "memory_bytes", lambda: 2 * 600 * mapped.READING_BYTES)
    assert not read_dataset(folder).clicks.space.on_disk
    monkeypatch.setattr(mapped, "memory_bytes", lambda: 2 * 600 * mapped.READING_BYTES - 1)
    assert read_dataset(folder).clicks.space.on_disk


def test_a_folder_that_cannot_be_written_is_read_into_memory_unless_mapping_was_asked_for(folder, monkeypatch):
    monkeypatch.setattr(mapped, "memory_bytes", lambda: 1)
    monkeypatch.setattr(store.os, "access", lambda *_: False)
    assert not read_dataset(folder).clicks.space.on_disk
    assert read_dataset(folder, mapped=True).clicks.space.on_disk


def test_memory_of_the_machine_is_known():
    assert 1 << 28 < memory_bytes() <= 1 << 62


@pytest.mark.parametrize("what", ["clicks", "users", "schema", "a file more", "a column cut", "no manifest"])
def test_columns_of_other_files_are_written_anew(tmp_path, what):
    folder = write_random(tmp_path / "log", np.random.default_rng(1))
    before = read_dataset(folder, mapped=True).clicks
    _, users, _, clicks = random_frames(np.random.default_rng(1))
    if what == "clicks":
        clicks.with_columns(pl.col("timestamp") + 5).write_parquet(folder / "clicks.parquet")
    elif what == "users":
        users.reverse().write_parquet(folder / "users.parquet")
    elif what == "schema":
        text = (folder / "dataset.yaml").read_text().replace("time_unit: s", "time_unit: ms")
        (folder / "dataset.yaml").write_text(text)
    elif what == "a file more":
        (folder / "clicks").mkdir()
        (folder / "clicks.parquet").rename(folder / "clicks" / "part-00000.parquet")
        clicks.write_parquet(folder / "clicks" / "part-00001.parquet")
    elif what == "a column cut":
        os.truncate(folder / "mapped" / "item_ids", 8)
    else:
        (folder / "mapped" / "mapped.json").write_text("{")
    found = read_dataset(folder, mapped=True).clicks
    same_clicks(found, read_dataset(folder, mapped=False).clicks)
    if what not in ("a column cut", "no manifest"):
        assert len(found) != len(before) or any(
            not np.array_equal(getattr(found, name), getattr(before, name)) for name in CLICK_ARRAYS
        )


def test_an_invalid_log_is_refused_as_ever_and_leaves_nothing(tmp_path):
    clicks = pl.DataFrame({"user_id": [10, 99], "item_id": ["a", "b"], "timestamp": [1_600_000_000] * 2})
    folder = write_tiny(tmp_path / "bad", clicks=clicks)
    with pytest.raises(MicrecError) as plain:
        read_dataset(folder, mapped=False)
    with pytest.raises(MicrecError, match="unknown user id") as found:
        read_dataset(folder, mapped=True)
    assert str(found.value) == str(plain.value)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "clicks.parquet", "dataset.yaml", "items.parquet", "users.parquet"
    ]  # fmt: skip


def test_an_interrupted_mapping_leaves_no_columns(folder, monkeypatch):
    monkeypatch.setattr(store, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        read_dataset(folder, mapped=True)
    assert not (folder / "mapped").exists()
    monkeypatch.undo()
    assert read_dataset(folder, mapped=True).clicks.space.on_disk


def test_no_room_is_told_before_the_work(folder, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 1 << 50)
    with pytest.raises(MicrecError, match="mapped click log takes"):
        read_dataset(folder, mapped=True)


def test_kept_users_of_a_mapped_log(folder, small_blocks):
    keep = np.arange(40) % 3 == 0
    kept = read_dataset(folder, mapped=True, keep_users=keep).clicks
    same_clicks(kept, read_dataset(folder, mapped=False, keep_users=keep).clicks)


def test_arrays_of_a_disk_leave_no_file(tmp_path):
    space = DiskSpace(tmp_path)
    array, writer = space.empty(5, np.int32), space.writer(np.int64)
    array[:] = 7
    writer.append(np.arange(3, dtype=np.int32))
    writer.append(np.arange(2))
    assert array.tolist() == [7] * 5
    assert writer.done().tolist() == [0, 1, 2, 0, 1]
    assert space.writer(np.int8).done().tolist() == []
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told(tmp_path):
    with pytest.raises(MicrecError, match="cannot hold arrays of the log"):
        DiskSpace(tmp_path).empty(1 << 58, np.int64)


@pytest.mark.parametrize("mode", ["window", "gap"])
@pytest.mark.parametrize("count", ["session", "occurrence"])
def test_cooccurrence_is_the_same(folder, small_blocks, mode, count):
    config = SessionsConfig(mode=mode, count=count, max_s=7200, max_length=4, top_partners=3)
    resident, found = (
        count_cooccurrences(read_dataset(folder, mapped=one).clicks, 30, config, chunk_pairs=29)
        for one in (False, True)
    )
    for name, value in vars(resident).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
        assert getattr(found, name).__class__ is value.__class__ or isinstance(getattr(found, name), np.memmap)


def test_histories_are_the_same(folder, small_blocks):
    resident, found = (group_by_user(read_dataset(folder, mapped=one).clicks, 40, times=True) for one in (False, True))
    for name, values in resident._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)


@pytest.mark.parametrize("history", ["frozen", "rolling"])
def test_evaluation_asks_the_same(folder, small_blocks, history):
    config, tasks = EvalConfig(history=history, seen="filter"), []
    for one in (False, True):
        dataset = read_dataset(folder, mapped=one)
        tasks.append(evaluation_task(dataset, temporal_split(dataset.clicks, SplitConfig()), config, "test"))
    for name in ("user_ids", "begin", "end", "target_items", "target_counts", "target_repeats", "train_clicks"):
        np.testing.assert_array_equal(getattr(tasks[0], name), getattr(tasks[1], name), err_msg=name)
    for one, other in zip(tasks[0].clock, tasks[1].clock, strict=True):
        np.testing.assert_array_equal(one, other)


def test_statistics_are_the_same(folder, small_blocks):
    resident, found = (
        describe(read_dataset(folder, mapped=one), SplitConfig(), SessionsConfig()).to_dict() for one in (False, True)
    )
    assert found == resident


CONFIGS = {
    "paper": {},
    "blocks": {"train": {"shuffle": "blocks", "block_rows": 20, "window_blocks": 3}},
    "sessions": {
        "preset": "modern",
        "train": {"rows": "session", "context": "before_session", "shuffle": "blocks", "block_rows": 7},
        "model": {"half_life_days": 2.0, "popularity_half_life_days": 1.0},
    },
    "profile": {"train": {"context": "profile"}, "softmax": {"negatives": "popularity"}},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_model_to_the_bit(folder, small_blocks, name):
    keys = CONFIGS[name] | {"train": {"batch_size": 64, "device": "cpu", **CONFIGS[name].get("train", {})}}
    config, found = Config.model_validate(keys), []
    for one in (False, True):
        dataset = read_dataset(folder, mapped=one)
        trainer = Trainer(dataset, dataset.clicks[:480], config)
        log = trainer.epoch(NoProgress())
        found.append((trainer.parameters(), log.losses))
    assert found[0][1] == found[1][1]
    assert found[0][0].keys() == found[1][0].keys()
    for key, values in found[0][0].items():
        assert torch.equal(values, found[1][0][key]), key


def test_the_manifest_says_what_it_was_made_from(folder):
    read_dataset(folder, mapped=True)
    found = json.loads((folder / "mapped" / "mapped.json").read_text())
    assert found["clicks"] == 600
    assert set(found["files"]) == {
        "dataset.yaml", "users.parquet", "items.parquet",
        *(f"clicks/part-0000{n}.parquet" for n in range(3)),
    }  # fmt: skip


def test_the_command_encodes_and_later_ones_map(folder):
    found = CliRunner().invoke(app, ["encode", str(folder)])
    assert (found.exit_code, found.stdout.splitlines()[0]) == (0, f"600 clicks in {folder / 'mapped'}")
    assert read_dataset(folder).clicks.space.on_disk
    described = CliRunner().invoke(app, ["describe", str(folder), "--json"])
    assert json.loads(described.stdout)["clicks"] == 600
    missing = CliRunner().invoke(app, ["encode", str(folder / "none")])
    assert missing.exit_code == 2
    assert "there is no such dataset folder" in missing.stderr
