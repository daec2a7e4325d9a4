"""``micrec scenario``, from a folder that is no checkout."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.scenario_files import load_scenario
from abtest.scenario_kinds import SCENARIO_KINDS
from micrec.shipped import shipped_files


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def micrec(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_list_names_every_shipped_file():
    result = micrec("scenario", "list")
    assert result.exit_code == 0
    first_words = {line.split()[0] for line in result.output.splitlines() if line and not line.startswith(" ")}
    assert set(shipped_files()) <= first_words


@pytest.mark.parametrize("name", sorted(shipped_files()))
def test_a_copy_means_the_same_as_the_original(name):
    assert micrec("scenario", "copy", name).exit_code == 0
    copied = Path(f"{Path(name).name}.yaml")
    if name == "metrics":
        return
    result = micrec("scenario", "check", copied)
    assert result.exit_code == 0, result.output
    if "/" not in name:
        assert load_scenario(copied)[1] == load_scenario(Path(name))[1]


def test_a_copy_never_replaces_a_file():
    Path("aa.yaml").write_text("mine")
    result = micrec("scenario", "copy", "aa")
    assert result.exit_code == 2
    assert "exists already" in result.output
    assert Path("aa.yaml").read_text() == "mine"


@pytest.mark.parametrize("kind", list(SCENARIO_KINDS))
def test_every_kind_is_explained_with_its_own_keys(kind):
    result = micrec("scenario", "explain", kind)
    assert result.exit_code == 0
    keys = {line.split(":")[0] for line in result.output.splitlines() if not line.startswith(" ")}
    assert "kind" in keys
    top = {key.split(".")[0] for key in keys}
    assert top == set(SCENARIO_KINDS[kind].schema.model_fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quickstart", "--set", "platform.pipeline.diversity.field=nosuch"], "the world has no field nosuch"),
        (["quickstart", "--set", "platform.pipeline.ranking.options.crossed=x"], "the world has no field x"),
        (["quickstart", "--set", "platform.pipeline.channels.tag.kind=tag", "--set",
          "platform.pipeline.channels.tag.options.fields=[q]"], "the world has no field q"),
        (["quickstart", "--set", "arms.treatment.config.model.item_fields=[q]"], "arms.treatment: model.item_fields"),
        (["quickstart", "--set", "world.users.count=1000000000"], "keeps its users in memory"),
        (["quickstart", "--set", "replications=1000000000"], "replications: must be <= 10,000"),
        (["quickstart", "--set", "history_days=4000"], "history_days: must be <= 3,650"),
        (["quickstart", "--set", "platform.pipeline.merge.candidates=99999999999999999999"], "must be <= 1,000,000"),
        (["offline_ab", "--set", "data=nosuch"], "no such dataset folder"),
        (["offline_ab", "--set", "base.model.user_fields=[q]"], "arms control, treatment: model.user_fields"),
        (["table2", "--set", "data=nosuch"], "no such dataset folder"),
        (["table2", "--set", "rows.fm.config.model.item_fields=[q]"], "datasets.video: rows.fm: model.item_fields"),
        (["table1", "--set", "data=nosuch"], "no such dataset folder"),
    ],
)  # fmt: skip
def test_what_run_refuses_is_not_called_valid(arguments, message):
    result = micrec("scenario", "check", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_world_that_extends_a_shipped_one(tmp_path):
    Path("mine.yaml").write_text("extends: worlds/tiny\nusers: {count: 77}\n")
    result = micrec("scenario", "check", "mine.yaml")
    assert result.exit_code == 0
    assert "world of 77 users, 1,500 items" in result.output
    made = micrec("world", "mine.yaml", "--out", "data", "--workers", "1")
    assert made.exit_code == 0, made.output
    assert "77 users" in made.output
