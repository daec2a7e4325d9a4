"""Memory and time told before a run: against what the kernel reports of whole trainings, and worked by hand."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from micrec.api import resolve_config, train
from micrec.estimates.machine import free_bytes, in_words, resident_bytes, time_in_words
from micrec.estimates.memory import MemoryEstimate, say_memory
from micrec.estimates.pace import PacedProgress
from micrec.estimates.training_memory import model_size, training_memory
from micrec.progress import NoProgress
from micrec.towers import TOWERS
from micrec.training import Trainer

PLAIN = {f"contrast.{name}.weight": 0 for name in ("feature", "semantic", "session")} | {"train.device": "cpu"}
DATA = """
import numpy as np, polars as pl
from micrec.data.schema import DatasetSchema
from micrec.data.store import dataset_of_frames

def made(users, items, clicks):
    rng = np.random.default_rng(0)
    log = pl.DataFrame({
        "user_id": rng.integers(0, users, clicks), "item_id": rng.integers(0, items, clicks),
        "timestamp": 1_600_000_000 + 60 * np.arange(clicks),
    })
    tables = pl.DataFrame({"user_id": np.arange(users)}), pl.DataFrame({"item_id": np.arange(items)})
    return dataset_of_frames(DatasetSchema(name="made", users={}, items={}), *tables, log)
"""
MEASURED = (
    DATA
    + """
import json, sys
import torch
from micrec.api import resolve_config, train
from micrec.estimates.training_memory import training_memory

torch.set_num_threads(1)
size, settings = json.loads(sys.argv[1])
dataset = made(*size)
config = resolve_config(None, None, settings, None)
estimate = training_memory(dataset, config, keeps_checkpoint=False).bytes
train(dataset, config=config)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss knows the parent's
print(json.dumps([estimate, int(peak.split()[1]) * 1024]))
"""
)


class Lines(NoProgress):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def made(users, items, clicks):
    space = {}
    exec(DATA, space)
    return space["made"](users, items, clicks)


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((2_000, 400_000, 8_000), {"model.name": "fm", "train.batch_size": 1024}),  # tables
        ((2_000, 2_000, 10_000), {"model.name": "afn"}),  # activations
        ((100_000, 2_000, 1_200_000), {"model.name": "fm", "model.embedding_dim": 8}),  # clicks
    ],
)
def test_the_estimate_is_within_a_factor_of_two_of_the_measured_peak(size, settings):
    settings = {**PLAIN, "train.epochs": 1, "train.refit": False, **settings}
    if size[2] > 1_000_000:  # a few steps are enough to hold all clicks
        settings |= {"train.batch_size": 200_000, "softmax.negatives": "shared", "softmax.num_negatives": 16}
    command = [sys.executable, "-c", MEASURED, json.dumps([size, settings])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    estimate, peak = json.loads(done.stdout)
    assert peak / 2 <= estimate <= 2 * peak, f"estimated {estimate / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB"


SHARDED = (
    DATA
    + """
import json, sys
import torch
from micrec.api import resolve_config, train
from micrec.estimates.training_memory import training_memory
from micrec.sharded.rank_group import joined

torch.set_num_threads(1)
with joined() as group:
    dataset = made(2_000, 400_000, 8_000)
    config = resolve_config(None, None, json.loads(sys.argv[1]), None)
    estimate = training_memory(dataset, config, keeps_checkpoint=True, processes=group.size).bytes
    train(dataset, sys.argv[2], config=config)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps([group.rank, group.size, estimate, int(peak.split()[1]) * 1024]), flush=True)
"""
)


def test_the_estimate_of_each_of_two_processes_is_within_a_factor_of_two(tmp_path):
    """A table of 400,000 x 64 divided between two processes under torchrun, checkpoints included."""
    settings = {**PLAIN, "train.epochs": 1, "train.refit": False, "model.name": "fm", "train.batch_size": 1024}
    (tmp_path / "sharded.py").write_text(SHARDED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "sharded.py"), json.dumps(settings), str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert sorted(rank for rank, *_ in found) == [0, 1]
    for rank, size, estimate, peak in found:
        assert size == 2
        message = f"rank {rank}: estimated {estimate / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB"
        assert peak / 2 <= estimate <= 2 * peak, message


def test_processes_divide_the_large_tables_and_the_rows_of_a_step():
    dataset = made(3_000, 20_000, 20_000)
    config = resolve_config(None, None, {**PLAIN, "model.name": "fm", "train.shard_rows": 10_000}, None)
    size = model_size(dataset, dataset.clicks, config)
    assert size.divided == 20_001 * config.model.embedding_dim  # items, and a row for none
    one, four = (training_memory(dataset, config, processes=processes) for processes in (1, 4))
    assert "whole tables, to be read or written" not in one.parts
    assert four.parts["whole tables, to be read or written"] == 12 * size.divided
    assert four.parts["tables and optimiser"] < one.parts["tables and optimiser"] / 2
    assert four.parts["one step"] < one.parts["one step"]
    assert "start fewer processes" in str(four.warning(free=1, processes=4))
    assert "fewer --workers" not in str(four.warning(free=1, processes=4))


@pytest.mark.parametrize("name", TOWERS)
def test_parameters_are_counted_as_they_are(name):
    """Tables are counted without being made; the count is that of the model."""
    dataset = made(300, 200, 2_000)
    config = resolve_config(None, None, {**PLAIN, "model.name": name, "model.user_id": True}, None)
    model = Trainer(dataset, dataset.clicks, config).model
    assert model_size(dataset, dataset.clicks, config).numbers == sum(one.numel() for one in model.parameters())


def test_each_size_moves_its_own_part():
    """Twice the width: twice the tables. Twice the batch: about twice a step. Twice the log: twice its clicks."""

    def parts(clicks=20_000, **settings):
        keys = {key.replace("__", "."): value for key, value in settings.items()}
        return training_memory(
            made(3_000, 2_000, clicks), resolve_config(None, None, {**PLAIN, "model.name": "fm", **keys}, None)
        ).parts

    base = parts()
    assert parts(model__embedding_dim=128)["tables and optimiser"] == 2 * base["tables and optimiser"]
    assert parts(train__batch_size=2048)["one step"] == pytest.approx(base["one step"] / 2, rel=0.6)
    assert parts(softmax__num_negatives=40)["one step"] > base["one step"]
    assert parts(clicks=40_000)["training clicks"] > base["training clicks"] * 1.4
    assert parts(train__refit=False)["tables and optimiser"] > base["tables and optimiser"]  # keeps the best epoch


def test_the_line_names_the_largest_parts_and_a_warning_the_cure():
    estimate = MemoryEstimate({"libraries": 400_000_000, "tables": 2_700_000_000}, {"tables": "lower model.dim"})
    assert estimate.line() == "needs about 3.1 GB of memory (tables 2.7 GB, libraries 400 MB)"
    assert estimate.warning(free=4_000_000_000) is None
    told = estimate.warning(free=1_000_000_000)
    assert told is not None
    assert "3.1 GB more are needed and 1.0 GB are free" in told
    assert "lower model.dim" in told
    assert "fewer --workers" in (estimate.warning(free=4_000_000_000, processes=2) or "")
    lines = Lines()
    say_memory(lines, MemoryEstimate({"tables": 10**15}, {"tables": "lower model.dim"}), each="each model")
    assert lines.lines[0].startswith("each model needs about 1,000,000.0 GB of memory")
    assert lines.lines[1].startswith("warning:")


def test_training_says_it_once_and_records_it(tmp_path):
    dataset, lines = made(300, 200, 2_000), Lines()
    model = train(dataset, tmp_path, settings={**PLAIN, "model.name": "fm", "train.epochs": 1}, progress=lines)
    told = [line for line in lines.lines if line.startswith("needs about")]
    assert len(told) == 1
    expected = training_memory(dataset, model.config).bytes / 1e6
    assert model.to_dict()["estimated_memory_mb"] == pytest.approx(expected, abs=0.1)
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["state"]["estimate"]["memory_mb"] == pytest.approx(expected, abs=0.1)


def test_time_is_told_once_from_the_pace_of_the_first_steps(monkeypatch):
    """Steps of 100 samples take 1 s after a slow first one; 10 epochs of 10,000 samples are left."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    lines, known = Lines(), []
    progress = PacedProgress(lines, lambda: 10.0, known.append)
    progress.start("train epoch 1", 10_000, "samples")
    for seconds in (60.0, 1.0, 1.0, 1.0, 1.0):
        now[0] += seconds
        progress.advance(100)
    progress.finish()
    assert known == [1000.0]
    assert lines.lines == [
        "needs about 17 min at this pace (100 samples/s, up to 10 epochs; stopping early and validation not counted)"
    ]


def test_short_trainings_are_not_told(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    lines, known = Lines(), []
    progress = PacedProgress(lines, lambda: 1.0, known.append)
    progress.start("preparing", 10_000, "clicks")  # no steps
    progress.advance(5_000)
    progress.start("train epoch 1", 500, "samples")
    for _ in range(5):
        now[0] += 1.0
        progress.advance(100)
    assert known == [5.0]
    assert lines.lines == []


def test_words():
    assert [in_words(size) for size in (3_140_000_000, 12_400_000)] == ["3.1 GB", "12 MB"]
    assert [time_in_words(seconds) for seconds in (45, 840, 12_600)] == ["45 s", "14 min", "3.5 h"]


@pytest.mark.skipif(sys.platform != "linux", reason="sizes come from /proc, which only Linux has")
def test_the_machine_tells():
    held = np.ones(30_000_000)
    assert resident_bytes() > held.nbytes
    assert (free_bytes() or 0) > 0


def test_a_gpu_holds_what_lies_on_it():
    dataset = made(300, 200, 2_000)
    config = resolve_config(None, None, {**PLAIN, "train.device": "cuda"}, None)
    estimate = training_memory(dataset, config)
    assert estimate.device == "cuda"
    assert "libraries" not in estimate.parts
    assert torch.device(estimate.device).type == "cuda"
