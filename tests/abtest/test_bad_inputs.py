"""Bad input on the command line: one clear error with the place, the value, the rule and the cure, and no trace of it.

Every case exits with code 2, prints a single error to stderr and nothing to stdout, and leaves the disk as it was.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.scenario_kinds import SCENARIO_KINDS
from tests.micrec.factories import write_random

KINDS_RULE = f"kind: must be one of {', '.join(SCENARIO_KINDS)}"

Break = Callable[[Path], object]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_random(tmp_path / "data", np.random.default_rng(0), n_users=10, n_items=12, n_clicks=60)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def error_of(home: Path, *arguments: object) -> str:
    """The one error of a command that must not change anything below ``home``; memory may be told before it."""
    before, folders = tree(home), sorted(home.rglob("*"))
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    said, _, error = result.stderr.partition("error: ")
    assert all(line.startswith("needs about ") for line in said.splitlines())
    assert error
    assert "error: " not in error
    assert "Traceback" not in result.stderr
    assert tree(home) == before
    assert sorted(home.rglob("*")) == folders
    return error.strip()


def change(file: str, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> Break:
    """Rewrites one Parquet file of a dataset folder."""
    return lambda folder: edit(pl.read_parquet(folder / file)).write_parquet(folder / file)


def put(frame: pl.DataFrame, column: str, value: str | None, *, rows: int) -> pl.DataFrame:
    """The frame with ``value`` in the first rows of a column."""
    return frame.with_columns(
        pl.when(pl.int_range(pl.len()) >= rows).then(column).otherwise(pl.lit(value)).alias(column)
    )


def cut(file: str) -> Break:
    """Keeps the first half of a file."""

    def halve(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])

    return halve


def change_schema(**keys: object) -> Break:
    def edit(folder: Path) -> None:
        path = folder / "dataset.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys, sort_keys=False))

    return edit


BROKEN_DATA: dict[str, tuple[Break, str]] = {
    "an unknown item id": (
        change("clicks.parquet", lambda f: put(f, "item_id", "zzz", rows=4)),
        "clicks.parquet: item_id: unknown item id in 4 of 60 rows (row 0: 'zzz'; row 1: 'zzz'; row 2: 'zzz'; ...): "
        "add them to items.parquet or leave these clicks out",
    ),
    "null timestamps": (
        change("clicks.parquet", lambda f: put(f, "timestamp", None, rows=2)),
        "clicks.parquet: timestamp: null timestamp in 2 of 60 rows (row 0: None; row 1: None): "
        "give each click its time",
    ),
    "text in a numeric field": (
        change("items.parquet", lambda f: put(f, "price", "dear", rows=1)),
        "items.parquet: price: text that is not a number in 1 of 12 rows (row 0: 'dear'): "
        "write numbers or nulls, or declare the field categorical",
    ),
    "a missing column": (
        change("items.parquet", lambda f: f.drop("category")),
        "items.parquet: category: missing column (there are: item_id, title, tags, price, content): add or rename it",
    ),
    "a truncated file": (
        cut("items.parquet"),
        "items.parquet: no readable Parquet file, perhaps cut short",
    ),
    "truncated clicks": (
        cut("clicks.parquet"),
        "clicks.parquet: no readable Parquet file, perhaps cut short",
    ),
    "no schema": (
        lambda folder: (folder / "dataset.yaml").unlink(),
        "dataset.yaml: the file is missing: write one with the name and the fields of the dataset",
    ),
    "a role without a field": (
        change_schema(roles={"title": "headline"}),
        "dataset.yaml: roles.title: no item field 'headline' (fields: title, category, tags, price, content): "
        "name a text field",
    ),
}


@pytest.mark.parametrize("command", ["describe", "train"])
@pytest.mark.parametrize("case", BROKEN_DATA)
def test_broken_datasets(data, tmp_path, case, command):
    damage, message = BROKEN_DATA[case]
    damage(data)
    out = [tmp_path / "out"] if command == "train" else []
    assert error_of(tmp_path, command, data, *out).startswith(
        f"{data}: not a valid dataset (rows count from 0): {message}"
    )


def test_all_faults_of_a_dataset_are_told_at_once(data, tmp_path):
    for case in ("an unknown item id", "text in a numeric field", "a role without a field"):
        BROKEN_DATA[case][0](data)
    lines = error_of(tmp_path, "train", data, tmp_path / "out").splitlines()
    assert lines[0].endswith(": 3 errors")
    assert [line[: line.index(":", 4)] for line in lines[1:]] == [
        "  - dataset.yaml",
        "  - items.parquet",
        "  - clicks.parquet",
    ]


CONFIG_FAULTS: dict[str, tuple[list[str], str]] = {
    "an unknown key": (["contrast.temprature=1"], "contrast.temprature: unknown key, did you mean temperature?"),
    "a key of another part": (["train.learning_rate=1"], "did you mean optim.learning_rate?"),
    "a negative temperature": (["contrast.temperature=-1"], "contrast.temperature: must be > 0, got -1"),
    "an infinite temperature": (["softmax.temperature=.inf"], "softmax.temperature: must be a finite number, got"),
    "a learning rate of nothing": (["optim.learning_rate=.nan"], "optim.learning_rate: must be a finite number, got"),
    "text for a number": (["train.epochs=many"], 'train.epochs: must be an integer from 1 to 10,000, got "many"'),
    "an unknown model": (["model.name=icann"], "model.name: must be one of ican, fm, youtube_dnn, deepfm, autoint"),
    "an unknown metric": (["train.metric=auc"], "train.metric: must be mrr or hit@N, hit_pairs@N, user_hit@N"),
    "heads that do not divide": (
        ["model.options.heads=7"],
        "model: options.heads must divide embedding_dim 64, got 7: use one of 1, 2, 4, 8, 16, 32, 64",
    ),
    "positions without a sequence": (
        ["model.options.positions=true"],
        "model: options.positions need behaviour_tokens sequence, got field: set that, or positions to false",
    ),
    "item terms without FM": (
        ["model.options.item_terms=true"],
        "model.options.item_terms: needs name fm, got ican: leave it out",
    ),
    "an id tower without ids": (
        ["model.item_tower=id", "model.item_id=false"],
        "model: item_tower id needs item_id true, got false: set item_id to true, or item_tower to mlp",
    ),
    "an empty train part": (
        ["split.test_fraction=0.999"],
        "split: the train part is empty (60 clicks; 0 train, 0 validation, 60 test): lower split.test_days, "
        "split.test_fraction or split.valid_fraction",
    ),
    "a test part of all days": (["split.test_days=30"], "split: the train part is empty (60 clicks;"),
    "unknown item fields": (
        ["model.item_fields=[category, colour, size]"],
        "model.item_fields: no field colour, size in the dataset; choose from category, tags, price",
    ),
    "unknown user fields": (
        ["model.user_fields=[contry]"],
        "model.user_fields: no field contry in the dataset; choose from country, age",
    ),
    "correlated masks of one field": (
        ["contrast.feature.mask=cfm", "model.item_fields=[]", "contrast.semantic.weight=0"],
        "contrast.feature.mask: cfm splits the item fields between two views, and the model reads only the item id: "
        "add a field (model.item_fields, model.item_id), or use mask element",
    ),
    "an unknown device": (["train.device=tpu7"], "train.device: cannot use 'tpu7' here"),
    "an override without a value": (["train.epochs"], "--set: train.epochs: must read key=value"),
}


@pytest.mark.parametrize("case", CONFIG_FAULTS)
def test_configs_that_cannot_be_trained(data, tmp_path, case):
    sets, message = CONFIG_FAULTS[case]
    options = [part for override in sets for part in ("--set", override)]
    assert message in error_of(tmp_path, "train", data, tmp_path / "out", *options)


def test_vectors_that_no_field_holds(data, tmp_path):
    change_schema(roles={"category": "category"})(data)
    assert error_of(tmp_path, "train", data, tmp_path / "out", "--set", "contrast.semantic.source=content") == (
        "semantic positives: contrast.semantic.source: content needs roles.content, which dataset.yaml leaves null: "
        "name an item field there, choose another source, or set contrast.semantic.weight to 0."
    )


def test_an_unknown_preset(data, tmp_path):
    message = error_of(tmp_path, "train", data, tmp_path / "out", "--preset", "papr")
    assert message == "config: preset: must be one of paper, modern, best, got papr."


@pytest.mark.parametrize("command", ["describe", "train", "evaluate", "index"])
def test_a_missing_dataset(data, tmp_path, command):
    given = {
        "describe": [tmp_path / "none"],
        "train": [tmp_path / "none", tmp_path / "out"],
        "evaluate": [tmp_path / "out", tmp_path / "none"],
        "index": [tmp_path / "out", tmp_path / "none", tmp_path / "bundle"],
    }
    assert error_of(tmp_path, command, *given[command]) == (
        f"{tmp_path / 'none'}: there is no such dataset folder: check the path, or make one with micrec convert."
    )


def test_an_unknown_reader(tmp_path):
    source = tmp_path / "clicks.csv"
    source.write_text("user_id,item_id,timestamp\n1,2,3\n")
    assert error_of(tmp_path, "convert", "movielense", source, tmp_path / "out") == (
        "reader: there is no 'movielense': use one of online-retail, kuairand, movielens, recbole, table, auto."
    )


def test_a_source_without_a_column(tmp_path):
    source = tmp_path / "clicks.csv"
    source.write_text("user,item_id,timestamp\n1,2,3\n")
    message = error_of(tmp_path, "convert", "table", source, tmp_path / "out")
    assert (
        "clicks.csv: user_id: missing column (there are: user, item_id, timestamp): name it with --columns user_id=user"
        in message
    )


SCENARIO = {
    "kind": "offline_ab",
    "arms": {"control": {"label": "ICAN"}, "treatment": {"label": "MicRec", "config": {}}},
}
SCENARIO_FAULTS: dict[str, tuple[dict[str, object], str]] = {
    "an unknown kind": (
        {"kind": "offline"},
        f'{KINDS_RULE}, got "offline"',
    ),
    "no kind": (
        {"kind": None},
        f"{KINDS_RULE}, got null",
    ),
    "an unknown key": ({"seedz": 3}, "seedz: unknown key, did you mean seeds?"),
    "a metric without a cutoff there": (
        {"metrics": {"primary": ["hit@7"]}},
        "metrics.primary: hit@7 needs 7 among base.evaluation.cutoffs (50, 100, 200, 500)",
    ),
    "a fault in an arm": (
        {"base": {"model": {"options": {"heads": 7}}}, "arms": SCENARIO["arms"]},
        "base.model: options.heads must divide embedding_dim 64, got 7",
    ),
    "a missing dataset": ({"data": "nowhere"}, "nowhere: there is no such dataset folder: check the path"),
}


@pytest.mark.parametrize("case", SCENARIO_FAULTS)
def test_scenarios_that_cannot_be_run(tmp_path, case):
    keys, message = SCENARIO_FAULTS[case]
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SCENARIO | keys))
    assert message in error_of(tmp_path, "run", path, "--out", tmp_path / "run")


def test_a_scenario_that_is_not_there(tmp_path):
    message = error_of(tmp_path, "run", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert message.endswith("none.yaml: cannot be read (No such file or directory): check the path.")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("base.model.item_fields=[colour]", "model.item_fields: no field colour in the dataset"),
        ("base.split.test_days=1000", "split: the train part is empty"),
        ("arms.treatment.config.model.user_fields=[shoe_size]", "model.user_fields: no field shoe_size in the dataset"),
    ],
)
def test_arms_that_do_not_fit_the_dataset_are_refused_before_the_run_folder_appears(data, tmp_path, override, message):
    scenario = Path(__file__).parents[2] / "scenarios" / "offline_ab.yaml"
    arguments = ["run", scenario, "--set", f"data={data}", "--set", override, "--out", tmp_path / "run"]
    assert message in error_of(tmp_path, *arguments)
