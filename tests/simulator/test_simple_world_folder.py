"""The simple world on disk, and the command that writes it."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from micrec.data.store import read_dataset
from micrec.errors import MicrecError
from simulator.cli import app
from simulator.world.simple import SimpleWorld, load_simple_world, make_simple_world
from tests.simulator.simple_worlds import (
    SMALL,
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first = contents(make_simple_world(SimpleWorld.model_validate(SMALL), tmp_path / "a"))
    again = contents(make_simple_world(SimpleWorld.model_validate(SMALL), tmp_path / "b"))
    other = contents(make_simple_world(SimpleWorld.model_validate({**SMALL, "seed": 1}), tmp_path / "c"))
    oracle = {f"oracle/{name}.parquet" for name in ("links", "items", "users")}
    assert set(first) == {"dataset.yaml", "users.parquet", "items.parquet", "clicks.parquet", *oracle}
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_the_dataset_loads_and_hides_the_truth(tmp_path: Path) -> None:
    folder = make_simple_world(SimpleWorld.model_validate(SMALL), tmp_path / "world")
    with_oracle = read_dataset(folder)
    assert len(with_oracle.users) == 300
    assert set(with_oracle.items.columns) == {"category", "subcategory", "tags", "provider"}
    hidden = {"taste_tag", "link_group", "appeal", "quality", "interests", "interest_share", "activity"}
    assert not hidden & {*with_oracle.items.frame.columns, *with_oracle.users.frame.columns}
    assert {field.name for field in dataclasses.fields(with_oracle.clicks)} >= {"dwell_s", "like", "follow"}
    assert with_oracle.clicks.dwell_s is not None
    assert with_oracle.schema.provenance["config"] == SimpleWorld.model_validate(SMALL).model_dump()
    shutil.rmtree(folder / "oracle")
    assert read_dataset(folder).fingerprint == with_oracle.fingerprint


def test_a_taken_folder_is_kept_unless_told(tmp_path: Path) -> None:
    config = SimpleWorld.model_validate(SMALL)
    before = contents(make_simple_world(config, tmp_path / "world"))
    with pytest.raises(MicrecError, match="exists"):
        make_simple_world(SimpleWorld.model_validate({**SMALL, "seed": 1}), tmp_path / "world")
    assert contents(tmp_path / "world") == before
    make_simple_world(SimpleWorld.model_validate({**SMALL, "seed": 1}), tmp_path / "world", overwrite=True)
    assert contents(tmp_path / "world") != before


def test_a_world_without_clicks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MicrecError, match=r"no user clicked: raise users \(1\) or sessions_per_user \(1e-09\)"):
        make_simple_world(SimpleWorld(users=1, sessions_per_user=1e-9), tmp_path / "world")
    assert list(tmp_path.iterdir()) == []


# The command and its errors


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["world-simple", *arguments])


def test_command_writes_the_world_it_is_asked_for(tmp_path: Path) -> None:
    preset = tmp_path / "small.yaml"
    preset.write_text(yaml.safe_dump(SMALL))
    out = tmp_path / "world"
    result = run(str(out), "--config", str(preset), "--users", "50", "--link-strength", "0", "--set", "novelty=0.2")
    assert result.exit_code == 0, result.output
    assert "50 users, 400 items, 7 days, seed 0" in result.output
    config = yaml.safe_load((out / "dataset.yaml").read_text())["provenance"]["config"]
    assert (config["users"], config["items"], config["link_strength"], config["novelty"]) == (50, 400, 0.0, 0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users", "0"], "users: must be > 0, got 0"),
        (["--set", "linkstrength=0.1"], "linkstrength: unknown key, did you mean link_strength?"),
        (["--link-strength", "1.5"], "link_strength: must be <= 1, got 1.5"),
        (["--set", "tags=5"], "tags: must be >= categories x subcategories = 30, so that each has a tag, got 5"),
        (["--set", "categories=60"], "tags: must be >= categories x subcategories = 180, so that each has a tag"),
        (["--set", "popularity_share=0.99"], "novelty: must be <= 1 - popularity_share = 0.01: taste has the rest"),
        (["--set", "dwell_log_mean=.nan"], "dwell_log_mean"),
        (["--config", "no-such.yaml"], "no-such.yaml: cannot be read"),
    ],
)
def test_bad_keys_get_one_clear_error_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run(str(tmp_path / "world"), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(MicrecError, match=r"2 faults\n  - users: .*\n  - novelty: .*"):
        load_simple_world(None, {"users": -1, "novelty": 2.0})
