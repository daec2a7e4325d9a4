"""Things from outside the package, registered by somebody else's module and used through commands and scenarios."""

import importlib
import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec import registry
from micrec.config import Config
from micrec.data.convert import READERS
from micrec.data.split import temporal_split
from micrec.registry import Registry
from micrec.settings import merge
from micrec.towers import TOWERS
from micrec.training import Trainer
from tests.micrec.factories import random_dataset

HERE = Path(__file__).parent / "extension"
NAME = "shop_extension"
WORLD = {
    "users": {"count": 120},
    "items": {"count": 80, "categories": 4, "subcategories": 2, "groups": 2, "providers": 20},
    "tags": {"count": 30},
    "sessions": {"per_user": 8.0},
}
SMALL = {
    "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}},
    "train": {"epochs": 1, "batch_size": 256},
}


@pytest.fixture
def extension(monkeypatch):
    """The other package, imported; what it registers is gone afterwards."""
    monkeypatch.syspath_prepend(str(HERE))
    module = importlib.import_module(NAME)
    yield module
    for where, name, _ in module.THINGS:
        where.remove(name)
    registry._EXTENSIONS.pop(NAME)
    del sys.modules[NAME]


def command(*words: object) -> str:
    """Output of a command that ends well."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refusal(*words: object) -> str:
    """The error of one that is refused."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    return done.stderr


def write(path: Path, data: dict) -> Path:
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def results_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def table(folder: Path) -> Path:
    rows = {
        "ican": {"label": "ICAN", "losses": []},
        "mean": {"label": "mean", "losses": [], "config": {"model": {"name": "mean", "options": {"scale": 2.0}}}},
        "spread": {"label": "spread", "losses": ["spread"]},
    }
    base = merge(SMALL, {"evaluation": {"cutoffs": [5, 10]}, "contrast": {"spread": {"weight": 0.5}}})
    table = {"kind": "table", "name": "mine", "datasets": {"tiny": {"world": WORLD}}, "seeds": 1, "base": base}
    return write(
        folder / "table.yaml", table | {"rows": rows, "metrics": ["hit@5", "half_hit@5"], "baselines": ["by_id"]}
    )


class TestTable:
    def test_tower_item_loss_baseline_and_metric(self, extension, tmp_path):
        """In worker processes, which know of the other package by its name alone."""
        command("run", table(tmp_path), "--out", tmp_path / "run", "--workers", 2)
        models = {model["model"]: model for model in results_of(tmp_path / "run")["models"]}
        own = [name for name in models if not name.endswith("(ceiling)")]  # the dataset is a generated world
        assert own == ["by_id (baseline)", "ICAN", "mean", "spread"]
        for model in models.values():
            assert model["half_hit@5"] == pytest.approx(0.5 * model["hit@5"])
        assert models["mean"]["parameters"] < models["ICAN"]["parameters"]
        trial = json.loads((tmp_path / "run/trials/tiny/spread-seed0/result.json").read_text(encoding="utf-8"))
        assert set(trial["info"]["log"][0]["losses"]) == {"matching", "spread"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("rows.mean.config.model.options={scale: 0}", "options.scale: must be > 0, got 0"),
            (
                "rows.ican.config={model: {options: {scale: 2}}}",
                "options.scale: needs name mean, got ican: leave it out",
            ),
            ("base.contrast.spread.random_items=0", "spread.random_items: must be >= 1, got 0"),
            ("base.contrast.sprea={weight: 1}", "base.contrast.sprea: unknown key"),
            ("baselines=[by_ids]", 'by_id, got "by_ids"'),
        ],
    )
    def test_their_keys_are_checked(self, extension, tmp_path, change, message):
        assert message in refusal("scenario", "check", table(tmp_path), "--set", change)

    def test_their_keys_are_explained(self, extension):
        assert "base.model.options.scale: number > 0; default 1.0" in command("scenario", "explain", "model.options")
        assert "base.contrast.spread.random_items: integer >= 1; default 8" in command(
            "scenario", "explain", "contrast"
        )
        assert ", mean" in command("scenario", "explain", "model.name")

    def test_without_the_package_they_are_unknown(self, tmp_path):
        text = refusal("scenario", "check", table(tmp_path))
        assert "base.contrast.spread: unknown key" in text
        assert "rows.mean.config.model.name: must be one of ican, fm" in text
        assert "rows.spread.losses.0: must be one of feature, semantic, session" in text


def online(folder: Path, **channels: dict) -> Path:
    stages = {
        "matching": {"kind": "two_tower", "k": 40, "quota": 20},
        "popular": {"kind": "popular", "k": 40, "quota": 20},
        **channels,
    }
    scenario = {
        "kind": "online_ab",
        "name": "mine",
        "world": WORLD,
        "history_days": 3,
        "days": 1,
        "looks": "final",
        "truth": False,
        "possible": None,
        "base": SMALL,
        "platform": {"warmup_days": 0, "pipeline": {"channels": stages}},
        "arms": {"control": {"label": "A"}, "treatment": {"label": "also A"}},
    }
    return write(folder / "online.yaml", scenario)


def trained(folder: Path) -> dict[str, bytes]:
    """Files of the models of the first day, by channel; their folders' numbers tell the keys."""
    (models,) = folder.glob("worlds/**/day-0003/models")
    return {
        f"{path.relative_to(models).parts[0].rpartition('-')[0]}/{path.name}": path.read_bytes()
        for path in models.rglob("*")
        if path.is_file()
    }


def test_a_channel_serves_and_leaves_the_others_alone(extension, tmp_path):
    newest = {"kind": "newest", "k": 30, "quota": 20, "options": {"length": 25}}
    command("run", online(tmp_path, newest=newest), "--out", tmp_path / "with", "--workers", 1)
    (log,) = (tmp_path / "with").glob("worlds/**/day-0003/**/impressions*.parquet")
    shown = pl.read_parquet(log)
    assert "newest" in json.dumps(results_of(tmp_path / "with")["sections"])
    assert len(shown) > 0
    command("run", online(tmp_path), "--out", tmp_path / "without", "--workers", 1)
    before, after = trained(tmp_path / "without"), trained(tmp_path / "with")
    assert {name.partition("/")[0] for name in after} == {"matching", "popular", "newest"}
    assert {name: after[name] for name in before} == before  # its training takes nothing from their random streams
    wrong = online(tmp_path, newest={**newest, "options": {"lenght": 3}})
    assert "did you mean length" in refusal("scenario", "check", wrong)


def test_a_ranking_model_orders_the_slates(extension, tmp_path):
    """Highest ids first in every slate of the second day; on the first no impression was there to learn from."""
    path = online(tmp_path)
    ranked = ["--set", "days=2", "--set", "platform.pipeline.ranking={kind: id_order, options: {highest: true}}"]
    command("run", path, "--out", tmp_path / "run", "--workers", 1, *ranked)
    shown = pl.concat(map(pl.read_parquet, (tmp_path / "run").glob("worlds/**/day-0004/**/impressions*.parquet")))
    shown = shown.filter(pl.col("channel") != "fallback").sort("position")
    slates = shown.group_by("visit", "request", maintain_order=True).agg("item_id")["item_id"].to_list()
    assert len(slates) > 10
    assert max(map(len, slates)) > 5
    assert all(slate == sorted(slate, reverse=True) for slate in slates)
    asked = refusal("scenario", "check", path, "--set", "platform.pipeline.ranking={kind: id_order, options: {hig: 1}}")
    assert "hig: unknown key, did you mean highest?" in asked
    asked = refusal("scenario", "check", path, "--set", "platform.pipeline.ranking.kind=id_ordr")
    assert "ranking.kind: must be one of ctr, id_order, got id_ordr" in asked


def test_an_item_loss_leaves_the_others_alone(extension, tmp_path):
    """Before their first step both trainers hold the same weights, draw the same items and see the same losses."""
    dataset = random_dataset(tmp_path / "data", np.random.default_rng(0))
    paper = {"feature": {"weight": 1.0}, "semantic": {"weight": 1.0, "svd_dim": 4}, "session": {"weight": 1.0}}
    losses, states, starts = [], [], []
    for more in ({}, {"spread": {"weight": 0.5}}):
        config = Config.model_validate(merge(SMALL, {"contrast": {**paper, **more}}))
        trainer = Trainer(dataset, dataset.clicks[temporal_split(dataset.clicks, config.split).train], config)
        starts.append(trainer.parameters())
        losses.append({name: loss.item() for name, loss in trainer.losses(torch.arange(200)).items()})
        states.append({name: generator.get_state() for name, generator in trainer.generators.items()})
    assert set(losses[1]) - set(losses[0]) == {"spread"}
    assert {name: losses[1][name] for name in losses[0]} == losses[0]
    assert all(torch.equal(states[1][name], state) for name, state in states[0].items())
    assert all(torch.equal(starts[1][name], start) for name, start in starts[0].items())
    assert losses[1]["spread"] > 0


def test_a_metric_and_an_estimator_of_experiments(extension, tmp_path):
    rng = np.random.default_rng(0)
    clicks, seen = rng.poisson(4.0, 400), rng.poisson(20.0, 400)
    log = pl.DataFrame(
        {"user_id": range(400), "arm": ["A", "B"] * 200, "clicks": clicks, "dwell_s": clicks * 9.0, "impressions": seen}
    )
    log.write_csv(tmp_path / "log.csv")
    command("analyze", tmp_path / "log.csv", "--control", "A", "--treatment", "B", "--out", tmp_path / "run")
    effects = {effect["metric"]: effect for effect in results_of(tmp_path / "run")["effects"]}
    difference = seen[1::2].mean() - seen[::2].mean()
    assert effects["views"]["difference"] == pytest.approx(difference)
    assert effects["views"]["others"]["plain"]["difference"] == pytest.approx(difference)
    assert "the plain difference" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


class TestReader:
    @pytest.fixture
    def source(self, tmp_path):
        path = tmp_path / "log.pairs"
        path.write_text("ann mug\nbob mug\nann tea\n", encoding="utf-8")
        return path

    @pytest.mark.parametrize("name", ["pairs", "auto"])
    def test_registered(self, extension, source, tmp_path, name):
        assert "pairs ->" in command("convert", name, source, tmp_path / "data", "--set", "start=1600000000")
        clicks = pl.read_parquet(tmp_path / "data" / "clicks.parquet")
        assert clicks["item_id"].to_list() == ["mug", "mug", "tea"]
        assert "Pairs: lines of a user and an item" in command("convert", "--list")

    def test_by_an_entry_point(self, extension, source, tmp_path, monkeypatch):
        """An installed package that nobody has imported."""
        READERS.remove("pairs")
        point = EntryPoint("installed-pairs", f"{NAME}:PAIRS", "micrec.readers")
        monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
        monkeypatch.setattr(READERS, "_loaded", False)
        assert "installed-pairs ->" in command("convert", "auto", source, tmp_path / "data")
        READERS.remove("installed-pairs")
        READERS.register("pairs", extension.PAIRS)

    def test_removed(self, source, tmp_path):
        assert "reader: there is no 'pairs'" in refusal("convert", "pairs", source, tmp_path / "data")


class TestScenarioKind:
    def test_it_is_checked_run_printed_and_explained(self, extension, tmp_path):
        path = write(tmp_path / "words.yaml", {"kind": "words", "text": "one two three"})
        assert f"{path}: valid: words, a text of 13" in command("scenario", "check", path)
        printed = command("run", path, "--out", tmp_path / "run", "--set", "text=four words stand here")
        assert "4 words" in printed
        assert results_of(tmp_path / "run")["scenario"] == {
            "kind": "words",
            "name": "words",
            "text": "four words stand here",
        }
        assert "text: text; default required" in command("scenario", "explain", "words")
        assert "words.yaml: text: is required" in refusal("scenario", "check", write(path, {"kind": "words"}))

    def test_without_the_package_it_is_unknown(self, tmp_path):
        assert 'got "words"' in refusal("run", write(tmp_path / "words.yaml", {"kind": "words", "text": ""}))


def test_modules_that_register_are_told_to_other_processes(extension):
    assert NAME in registry.extensions()
    registry.import_extensions(["no_such_module_at_all", NAME])
    assert "mean" in TOWERS


def test_a_broken_extension_says_so(tmp_path, monkeypatch):
    (tmp_path / "broken_extension.py").write_text("import no_such_module_at_all\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        registry.import_extensions(["broken_extension"])


def test_every_kind_of_thing_is_tried(extension):
    """One of each registry of the three packages, so that a new registry gets its test."""

    known = {
        value.plural
        for name, module in list(sys.modules.items())
        if name.startswith(("micrec", "simulator", "abtest"))
        for value in vars(module).values()
        if isinstance(value, Registry)
    }
    assert known == {where.plural for where, _, _ in extension.THINGS}
