"""Every command with an output: never into what it reads, and told before the work where it cannot be written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec import fitting
from micrec.data.store import write_dataset
from micrec.destination import check_destination, check_room
from micrec.errors import MicrecError
from tests.abtest.online.tiny_runs import scenario_file
from tests.micrec.factories import random_frames

SMALL = {
    "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}, "history_length": 4},
    "contrast": {name: {"weight": 0.0} for name in ("feature", "semantic", "session")},
    "train": {"batch_size": 128, "device": "cpu", "metric": "hit@5", "threads": 1, "epochs": 1},
    "evaluation": {"cutoffs": [5]},
}

FEW_WORLDS = ["--replications", 2, "--only", "holdout", "--workers", 1]
PLANNED = ["--control", "control", "--treatment", "treatment", "--lift", "5%"]


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class Home:
    """Inputs of all commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.model, self.log = folder / "data", folder / "model", folder / "log"
        self.other, self.tables, self.bundle = folder / "other", folder / "tables", folder / "bundle"
        self.config, self.world, self.scenario = (folder / f"{name}.yaml" for name in ("small", "tiny", "ab"))

    def fill(self) -> None:
        write_dataset(self.data, *random_frames(np.random.default_rng(0)))
        write_dataset(self.other, *random_frames(np.random.default_rng(1)))
        self.tables.mkdir()
        for part in range(2):
            frame = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "timestamp": [1_700_000_000 + part] * 2})
            frame.write_csv(self.tables / f"part-{part}.csv")
        self.log.mkdir()
        arms = {"user_id": range(200), "arm": ["control", "treatment"] * 100, "clicks": [1, 2, 3, 4] * 50}
        pl.DataFrame(arms).write_parquet(self.log / "part-0.parquet")
        self.config.write_text(yaml.safe_dump(SMALL))
        self.world.write_text(
            yaml.safe_dump({"name": "tiny", "users": {"count": 50}, "items": {"count": 60}, "days": 3})
        )
        scenario = {"kind": "offline_ab", "data": str(self.data), "seeds": 1, "base": SMALL}
        scenario |= {"metrics": {"primary": ["hit@5"], "secondary": []}}
        scenario |= {"arms": {name: {"label": name} for name in ("control", "treatment")}}
        self.scenario.write_text(yaml.safe_dump(scenario))
        (self.folder / "table.yaml").write_text(
            yaml.safe_dump({"kind": "statistics", "datasets": {"one": {"data": str(self.data)}}})
        )
        assert call("train", self.data, self.model, "--config", self.config).exit_code == 0
        assert call("index", self.model, self.data, self.bundle).exit_code == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    home.fill()
    return home


def commands(home: Home) -> dict[str, tuple[list[Path], Callable[[Path], list[object]]]]:
    """By name: what a command reads, and its arguments for a given output."""
    return {
        "train": ([home.data], lambda out: ["train", home.data, out, "--config", home.config, "--force"]),
        "index": ([home.data, home.model], lambda out: ["index", home.model, home.data, out, "--force"]),
        "export": ([home.bundle], lambda out: ["export", home.bundle, out, "--force"]),
        "plan": ([home.log], lambda out: ["plan", home.log, *PLANNED, "--out", out, "--force"]),
        "convert": ([home.tables], lambda out: ["convert", "table", home.tables, out, "--force"]),
        "convert a dataset": ([home.data], lambda out: ["convert", "table", home.data, out, "--force"]),
        "map": ([home.data, home.model], lambda out: ["map", home.model, home.data, "--out", out, "--force"]),
        "realism": ([home.data, home.other], lambda out: ["realism", home.data, home.other, "--out", out, "--force"]),
        "fit": ([home.data], lambda out: ["fit", home.data, "--out", out, "--force"]),
        "world": ([], lambda out: ["world", home.world, "--out", out, "--workers", 1, "--force"]),
        "analyze": ([home.log], lambda out: ["analyze", home.log, "--out", out, "--force"]),
        "tune": ([home.data], lambda out: ["tune", home.data, "--trials", 1, "--workers", 1, "--out", out, "--force"]),
        "run": ([home.data], lambda out: ["run", home.scenario, "--out", out, "--workers", 1, "--force"]),
        "design": ([], lambda out: ["design", scenario_file(), *FEW_WORLDS, "--out", out, "--force"]),
        "run a table": ([home.data], lambda out: ["run", home.folder / "table.yaml", "--out", out, "--force"]),
    }


NAMES = list(commands(Home(Path())))


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(arguments: list[object]) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, (arguments, result.output, result.exception)
    assert "Traceback" not in result.output
    return str(result.stderr)


def test_every_command_with_an_output_is_among_them():
    """A command that takes a place to write to must stand above."""
    taking = set()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        if {"out"} & set(command.callback.__annotations__):
            taking.add(name)
    assert taking == {name.split()[0] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inside", ["", "new", "deep/er", "../{}/x", "link"])
def test_nothing_is_written_into_what_is_read(home, tmp_path, name, inside):
    inputs, arguments = commands(home)[name]
    before = bytes_below(home.folder)
    for read in inputs:
        out = read / inside.format(read.name)
        if inside == "link":
            out = tmp_path / "link"
            out.unlink(missing_ok=True)
            out.symlink_to(read)
        message = refused(arguments(out))
        told = ("is or lies in", "exists", "is not empty", "which is read, lies in it", "no run")
        assert any(words in message for words in told), message
        if inside in ("new", "deep/er"):
            assert f"is or lies in {read}, which is read" in message, message
        assert bytes_below(home.folder) == before


@pytest.mark.parametrize("name", ["convert", "realism", "run", "world", "train", "index"])
def test_nothing_that_is_read_is_replaced(tmp_path, name):
    """An input within a folder that --force replaces or empties."""
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    home.fill()
    out = tmp_path / "out"
    if name == "convert":
        write_dataset(out, *random_frames(np.random.default_rng(2)))
        shutil.move(home.tables / "part-0.csv", out / "clicks.csv")
        arguments = ["convert", "table", out / "clicks.csv", out, "--force"]
    elif name == "world":
        write_dataset(out, *random_frames(np.random.default_rng(2)))
        shutil.copy(home.world, out / "w.yaml")
        arguments = ["world", out / "w.yaml", "--out", out, "--force"]
    elif name == "realism":
        assert call("realism", home.data, home.other, "--out", out, "--no-ranking", "--no-classifier").exit_code == 0
        shutil.move(home.other, out / "other")
        arguments = ["realism", home.data, out / "other", "--out", out, "--force"]
    elif name == "run":
        out.mkdir()
        (out / "scenario.resolved.yaml").write_text("kind: offline_ab\n")
        shutil.move(home.data, out / "world")
        arguments = ["run", home.scenario, "--set", f"data={out / 'world'}", "--out", out, "--force"]
    elif name == "train":
        shutil.move(home.model, out)
        shutil.move(home.data, out / "model" / "data")
        arguments = ["train", out / "model" / "data", out, "--config", home.config, "--force"]
    else:
        assert call("index", home.model, home.data, out).exit_code == 0
        shutil.move(home.data, out / "data")
        arguments = ["index", home.model, out / "data", out, "--force"]
    before = bytes_below(tmp_path)
    message = refused(arguments)
    assert "which is read, lies in it" in message, message
    assert bytes_below(tmp_path) == before


def read_only(monkeypatch, folder: Path) -> None:
    """As a read-only file system is: permission bits do not bind everybody."""
    real, real_access = os.open, os.access

    def refuse(path, flags, *rest, **more):
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and not isinstance(path, int) and Path(path).resolve().is_relative_to(folder):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", real_access)


PLACES = ("a file in the way", "read-only", "no permission", "small disk", "long name")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_cannot_be_written_is_told_before_the_work(home, tmp_path, monkeypatch, name, place):
    _, arguments = commands(home)[name]
    root = tmp_path / "root"
    root.mkdir()
    out = root / "a" / "b"
    if place == "a file in the way":
        (root / "a").write_text("mine")
        told = "is a file, where a folder is needed|exists|is a file: give a folder"
    elif place == "read-only":
        read_only(monkeypatch, root)
        told = "cannot be written, as .* cannot .Read-only file system.: name another place"
    elif place == "no permission":
        monkeypatch.setattr(os, "access", lambda path, mode, **_: not Path(path).is_relative_to(root))
        told = "cannot be written, as .* cannot .Permission denied.: name another place"
    elif place == "small disk":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5_000, 5_000))
        told = r"takes (about )?[\d.]+ .B( or more)?, its disk has 0.0 .B left"
    else:
        out = root / ("n" * 300)
        told = "shorten it|File name too long|name another"
    for module in ("micrec.data.store.read_dataset", "micrec.fitting.fit", "simulator.world.world.World.build"):
        monkeypatch.setattr(module, unreachable)
    message = refused(arguments(out))
    assert pl.Series([message]).str.contains(told)[0], message
    assert list(root.rglob("*")) == ([root / "a"] if place == "a file in the way" else [])


def unreachable(*_: object, **__: object) -> None:
    raise AssertionError("the work began before the place was looked at")


def test_the_room_for_checkpoints_is_asked_for_before_the_first_step(home, tmp_path, monkeypatch):
    """Free space between what every command asks for and what this training writes."""
    steps = []
    monkeypatch.setattr("micrec.training.Trainer.step", lambda *_, **__: steps.append(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 1_500_000))
    wide = ("--set", "model.hidden=[1024, 512]", "--set", "train.epochs=2")
    message = refused(["train", home.data, tmp_path / "out", "--config", home.config, *wide])
    assert "out/checkpoint: the training of ican takes " in message
    assert "its disk has 1.5 MB left" in message
    assert steps == []


def test_the_room_for_checkpoints_is_what_they_take(home, tmp_path, monkeypatch):
    """The estimate is at most what two checkpoints weigh, and not far below."""
    told, saved, save = [], [], fitting.save_checkpoint

    def weigh(folder: Path, tensors, manifest) -> None:
        save(folder, tensors, manifest)
        saved.append(sum(path.stat().st_size for path in folder.glob("*.safetensors")))

    monkeypatch.setattr(fitting, "check_room", lambda _, needs, what: told.append(needs))
    monkeypatch.setattr(fitting, "save_checkpoint", weigh)
    wide = ("--set", "model.hidden=[256, 128]", "--set", "train.epochs=2", "--set", "train.refit=false")
    assert call("train", home.data, tmp_path / "out", "--config", home.config, *wide).exit_code == 0
    assert len(saved) == 2
    assert 0.7 * 2 * max(saved) < told[0] <= 2 * max(saved)


def test_a_disk_with_the_very_room_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 50, 50))
    check_room(tmp_path / "none", 50)
    with pytest.raises(MicrecError, match=r"none: the result takes 0.0 MB or more, its disk has 0.0 MB left"):
        check_room(tmp_path / "none", 51)


def test_a_shipped_name_is_no_place(tmp_path):
    """The world called tiny may be written to a folder tiny, and be replaced there."""
    for options in ((), ("--force",)):
        result = call("world", "tiny", "--out", "tiny", "--scale", 0.05, "--workers", 1, *options)
        assert result.exit_code == 0, result.output
    assert "there is no such dataset folder" in refused(["train", "none", "none"])


def test_looking_leaves_nothing_behind(tmp_path):
    check_destination(tmp_path / "a" / "b" / "c", replaced=True)
    (tmp_path / "there").mkdir()
    check_destination(tmp_path / "there", tmp_path / "other", replaced=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
