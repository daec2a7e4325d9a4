"""A log without titles trains with the semantic loss off: told, and the same as if it had been switched off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from micrec.applicable_config import applicable_config
from micrec.cli.model_commands import app as model_app
from micrec.data.dataset import Dataset
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.fitting import check_inputs, fit
from tests.micrec.factories import random_dataset
from tests.micrec.test_training import config_of


class Lines:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def start(self, *_: object) -> None: ...

    def advance(self, *_: object) -> None: ...

    def finish(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def untitled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    full = random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))
    roles = full.schema.roles.model_copy(update={"title": None})
    return replace(full, schema=full.schema.model_copy(update={"roles": roles}))


def test_training_without_titles_is_training_with_the_semantic_loss_off(untitled: Dataset) -> None:
    progress = Lines()
    check_inputs(untitled, config_of())
    fitted = fit(untitled, config_of(train={"epochs": 1}), progress=progress)
    assert fitted.config.contrast.semantic.weight == 0
    assert any(
        line.startswith("The semantic loss is off") and "set roles.title to title" in line for line in progress.said
    )
    off = fit(untitled, config_of(train={"epochs": 1}, contrast={"semantic": {"weight": 0}}))
    for name, parameter in fitted.model.state_dict().items():
        assert torch.equal(parameter, off.model.state_dict()[name])


def test_what_has_its_field_or_was_chosen_stays(untitled: Dataset) -> None:
    for source in ("taxonomy", "content"):
        config = config_of(contrast={"semantic": {"source": source}})
        assert applicable_config(untitled, config) == (config, [])
    bare = untitled.schema.model_copy(update={"roles": type(untitled.schema.roles)()})
    with pytest.raises(MicrecError, match=r"taxonomy needs roles\.taxonomy"):
        check_inputs(replace(untitled, schema=bare), config_of(contrast={"semantic": {"source": "taxonomy"}}))


def test_a_model_keeps_no_numbers_of_titles_that_are_not_there(untitled: Dataset, tmp_path: Path) -> None:
    """Its vectors are so much shorter, and its scores those of a model whose title numbers are all zero."""
    config = config_of(
        model={"name": "fism", "options": {"title_dim": 5}}, contrast={"semantic": {"weight": 0}}, train={"epochs": 1}
    )
    progress = Lines()
    fitted = fit(untitled, config, progress=progress)
    assert fitted.config.model.options.title_dim == 0
    assert any("names no title: the model has no numbers of titles" in line for line in progress.said)
    assert fitted.model.score_dim == config.model.embedding_dim
    titled = random_dataset(tmp_path / "random", np.random.default_rng(0))
    assert applicable_config(titled, config) == (config, [])


@pytest.mark.parametrize("columns", ["item_id,title,category", "item_id,category", None])
def test_the_documented_path_goes_through(tmp_path: Path, columns: str | None) -> None:
    """Convert two CSV files, train by the paper's preset, evaluate: with titles, without, and without an item table."""
    rng = np.random.default_rng(1)
    rows = "".join(
        f"u{rng.integers(40)},{rng.integers(30)},{1_780_000_000 + 700 * i + rng.integers(600)}\n" for i in range(900)
    )
    (tmp_path / "clicks.csv").write_text("user_id,item_id,timestamp\n" + rows)
    items = []
    if columns is not None:
        cells = {"item_id": "{0}", "title": "red thing {0} of kind {1}", "category": "c{1}"}
        lines = [",".join(cells[c] for c in columns.split(",")).format(i, i % 4) for i in range(30)]
        (tmp_path / "items.csv").write_text("\n".join([columns, *lines]) + "\n")
        items = ["--set", f"items={tmp_path / 'items.csv'}"]
    from micrec.cli.data_commands import app

    run = CliRunner()
    done = run.invoke(app, ["convert", "table", str(tmp_path / "clicks.csv"), str(tmp_path / "d"), *items])
    assert done.exit_code == 0, done.output
    short = ["--set", "train.epochs=1", "--set", "train.device=cpu"]
    done = run.invoke(model_app, ["train", str(tmp_path / "d"), str(tmp_path / "m"), *short])
    assert done.exit_code == 0, done.output
    losses = "feature, semantic, session" if columns and "title" in columns else "feature, session"
    assert f"model: ican + {losses}\n" in done.stdout
    assert ("The semantic loss is off" in done.output) == ("semantic" not in losses)
    done = run.invoke(model_app, ["evaluate", str(tmp_path / "m"), str(tmp_path / "d")])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("titles", "is_on"), [(["red car", "blue car"], True), (["red", "blue"], False), ([None, " "], False)]
)
def test_titles_that_share_no_word_are_none(tmp_path: Path, titles: list, is_on: bool) -> None:
    users, items = (
        pl.DataFrame({"user_id": [1]}),
        pl.DataFrame({"item_id": [1, 2], "name": pl.Series(titles, dtype=pl.String)}),
    )
    schema = DatasetSchema(name="x", items={"name": FieldType.TEXT}, roles=Roles(title="name"))
    clicks = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [1, 2]})
    write_dataset(tmp_path / "d", schema, users, items, clicks)
    config, notes = applicable_config(read_dataset(tmp_path / "d"), config_of())
    assert (config.contrast.semantic.weight > 0) == is_on
    assert is_on or "no two items of x share a word in 'name'" in notes[0]
