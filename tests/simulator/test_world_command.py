"""``micrec world``: the folder it writes, and the one clear error, exit code 2, that a bad file gets."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner, Result

from micrec.data.store import read_dataset
from simulator.cli.world_commands import app
from simulator.world import disk
from simulator.world.files import load_world
from simulator.world.generate import generate_world
from tests.simulator.worlds import SMALL, small_config

PRESETS = Path(__file__).parents[2] / "scenarios" / "worlds"


def run(folder: Path, keys: dict | str | None = None, *arguments: str) -> Result:
    """The command on a world file of its own, writing ``folder / world``."""
    file = folder / "bad.yaml"
    file.write_text(keys if isinstance(keys, str) else yaml.safe_dump({**SMALL, **(keys or {})}))
    return CliRunner().invoke(app, ["world", str(file), "--out", str(folder / "world"), "--workers", "1", *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# The folder


@pytest.mark.parametrize("items", [300, 30_000])
def test_the_memory_told_beforehand_is_within_a_factor_of_two(tmp_path, items):
    """Of the peak of a process that does nothing else."""
    program = (
        "import sys; from pathlib import Path; from simulator.world.files import load_world; "
        "from simulator.world.generate import generate_world; from simulator.world.needs import world_memory; "
        "config = load_world(Path('tiny'), ['users.count=500', f'items.count={sys.argv[1]}']); "
        "generate_world(config, Path(sys.argv[2])); "
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')); "  # not of its parent
        "print(world_memory(config).bytes, 1024 * int(peak.split()[1]))"
    )
    command = [sys.executable, "-c", program, str(items), str(tmp_path / "world")]
    told, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert peak / 2 <= told <= 2 * peak


def test_the_command_writes_the_world_it_is_asked_for(tmp_path):
    result = run(tmp_path, None, "--set", "users.count=1000", "--set", "links.strength=0", "--scale", "0.5")
    assert result.exit_code == 0, result.output
    assert re.search(r"500 users, 400 items, [\d,]+ clicks, [\d.]+ MB, in [\d.]+ s", result.stdout)
    assert "next: micrec describe" in result.stdout
    config = yaml.safe_load((tmp_path / "world/dataset.yaml").read_text())["provenance"]["config"]
    assert (config["name"], config["users"]["count"], config["items"]["count"]) == ("bad", 500, 400)
    assert config["links"]["strength"] == 0
    assert sorted(contents(tmp_path / "world")) == [
        "README.md",
        "clicks/part-00000.parquet",
        "dataset.yaml",
        "ground_truth/clicks/part-00000.parquet",
        "ground_truth/items.parquet",
        "ground_truth/links.parquet",
        "ground_truth/users.parquet",
        "items.parquet",
        "users.parquet",
    ]


def test_the_dataset_loads_and_hides_the_truth(tmp_path):
    out = generate_world(small_config("content.dim=4"), tmp_path / "world").folder
    dataset = read_dataset(out)
    assert (len(dataset.users), len(dataset.items)) == (1_500, 800)
    assert set(dataset.items.columns) == {"category", "subcategory", "tags", "provider"}
    hidden = {"link_group", "appeal", "quality", "evergreen", "clickbait", "duplicate_of", "activity", "interests"}
    assert not hidden & {*dataset.items.frame.columns, *dataset.users.frame.columns}
    assert {field.name for field in dataclasses.fields(dataset.clicks)} >= {"dwell_s", "like", "follow"}
    assert dataset.clicks.like is not None
    assert dataset.schema.provenance["config"] == small_config("content.dim=4").model_dump(mode="json")
    shutil.rmtree(out / "ground_truth")
    assert read_dataset(out).fingerprint == dataset.fingerprint


def test_causes_lie_beside_the_clicks(tmp_path):
    out = generate_world(small_config("links.strength=0.5"), tmp_path / "world").folder
    causes = pl.read_parquet(out / "ground_truth/clicks/part-00000.parquet")["cause"]
    clicks = pl.read_parquet(out / "clicks/part-00000.parquet")
    assert len(causes) == len(clicks)
    assert set(causes.unique()) == {"taste", "popular", "fresh", "similar", "repeat", "link"}
    groups = pl.read_parquet(out / "ground_truth/items.parquet")
    links = pl.read_parquet(out / "ground_truth/links.parquet").select("source_group", "target_group")
    steps = (
        clicks.with_columns(causes)
        .join(groups.select("item_id", "link_group"), on="item_id", maintain_order="left")
        .with_columns(pl.col("link_group").shift().alias("source_group"))
        .filter(cause="link")
        .rename({"link_group": "target_group"})
    )
    assert len(steps) > 100
    assert len(steps.join(links, on=["source_group", "target_group"], how="semi")) > 0.999 * len(steps)


def test_a_log_shorter_than_the_window_lists_only_what_was_there(tmp_path):
    """Users who come later and items published later are left out; the rest are those of the whole window."""
    whole, short = (generate_world(small_config(f"days={days}"), tmp_path / str(days)) for days in (14, 3))
    assert short.users < whole.users == 1_500
    assert short.items < whole.items == 800
    dataset = read_dataset(short.folder)
    assert len(dataset.clicks) == short.clicks
    assert set(dataset.clicks.user_ids) == set(range(short.users))


def test_a_taken_folder_is_kept_unless_told(tmp_path):
    assert run(tmp_path).exit_code == 0
    before = contents(tmp_path / "world")
    taken = run(tmp_path, {"seed": 1})
    assert (taken.exit_code, contents(tmp_path / "world")) == (2, before)
    assert "exists: name another folder, or overwrite it" in taken.stderr
    assert run(tmp_path, {"seed": 1}, "--force").exit_code == 0
    assert contents(tmp_path / "world") != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml", "world"]


@pytest.mark.parametrize(
    ("preset", "scale"), [("tiny", 1.0), ("video", 0.001), ("news", 0.002), ("grocery", 0.5), ("topics", 1.0)]
)
def test_the_space_asked_for_is_enough_and_not_absurd(tmp_path, preset, scale):
    config = load_world(PRESETS / f"{preset}.yaml", scale=scale)
    made = generate_world(config, tmp_path / preset)
    assert made.bytes <= disk.needed_bytes(config) <= 2 * made.bytes + 2 * disk.FIXED_BYTES


# Bad files


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"link": {"strength": 0.1}}, "link: unknown key, did you mean links?"),
        ({"links": {"strenght": 0.1}}, "links.strenght: unknown key, did you mean strength?"),
        ({"strength": 0.1}, "strength: unknown key, did you mean"),
        ({"links": {"strength": 1.5}}, "links.strength: must be <= 1, got 1.5"),
        ({"behaviour": {"like_rate": 1.0}}, "behaviour.like_rate: must be < 1, got 1"),
        ({"behaviour": {"dwell_log_mean": float("nan")}}, "behaviour.dwell_log_mean: must be a"),
        ({"choice": {"taste": 0.9}}, "choice: taste, popular, fresh, similar and repeat must sum to 1, got 1.35"),
        ({"behaviour": {"dwell_user": 0.9, "dwell_quality": 0.9}}, "behaviour: dwell_user² + dwell_quality² must be"),
        (
            {"taste": {"depth": {"item": 0.2}}},
            "taste.depth: category, subcategory, topic and item must sum to 1, got 1.2",
        ),
        ({"items": {"clicks_per_item": 0}}, "items.clicks_per_item: must be > 0, got 0"),
        (
            {"items": {"clicks_per_item": 1e9}},
            "items.clicks_per_item: 1e+09 makes 0 items of 1,500 users with 20 clicks",
        ),
        ({"items": {"topics": 1000, "subcategories": 100}}, "items.topics: 1,000 in each of 2,000 subcategories makes"),
        ({"links": {"targets": 43}}, "links.targets is 43, but only 42 groups lie in other categories"),
        ({"users": {"count": -5}}, "users.count: must be >= 1, got -5"),
        ({"items": {"count": 0}}, "items.count: must be >= 1, got 0"),
        ({"users": {"fields": {"age": {"values": -1}}}}, "users.fields.age.values: must be >= 1, got -1"),
        (
            {"users": {"fields": {"age": {"values": 3, "efect": 1}}}},
            "users.fields.age.efect: unknown key, did you mean effect?",
        ),
        ({"sessions": {"hourly": [1.0] * 23}}, "sessions.hourly: must be 24 rates, not all 0, got 23"),
        ({"sessions": {"hourly": [1.0] * 24}}, "sessions.hourly: the rate of hour 3 must be 0"),
        ({"sessions": {"per_user": 500.0}}, "sessions.per_user: 500 cannot be reached within 14 days"),
        ({"items": {"count": 14, "new_share": 1.0}}, "items.new_share: leaves no item at the start of the log"),
        ({"items": {"half_life_h": 0.001}}, "items.half_life_h: half_life_s=3.6 fades items by"),
        ({"behaviour": {"follow_given_like": 0.9}}, "behaviour: follow_given_like 0.9 makes more follows of likes"),
        ({"start": "yesterday"}, "start: must be"),
        ("users: [", "not valid YAML"),
        ("users: 3", "users: must be a mapping of keys, got 3"),
        ("- users", "must hold a mapping of keys"),
        ("users: {count: 5}\nusers: {count: 6}", "key 'users' appears twice"),
    ],
)
def test_a_bad_file_gets_one_clear_error_and_nothing_is_written(tmp_path, keys, message):
    result = run(tmp_path, keys)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "users.count=0"], "users.count: must be >= 1, got 0"),
        (["--set", "users.count"], "users.count: must read key=value"),
        (["--scale", "0"], "--scale: must be > 0, got 0"),
        (["--scale", "-1"], "--scale: must be > 0, got -1"),
        (["--scale", "nan"], "--scale: must be > 0, got nan"),
        (
            ["--set", "links.targets=40", "--scale", "0.001"],
            "at scale 0.001: top level: links.targets is 40, but only 21",
        ),
        (["--set", "users.count=2000000000", "--set", "sessions.clicks=100"], "the world takes about 9,"),
    ],
)
def test_a_bad_option_gets_one_clear_error_and_nothing_is_written(tmp_path, arguments, message):
    result = run(tmp_path, None, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_all_faults_are_told_at_once(tmp_path):
    result = run(tmp_path, {"seed": -1, "links": {"strength": 2}, "itmes": {}})
    assert result.exit_code == 2
    assert "bad.yaml: 3 errors" in result.stderr
    assert all(key in result.stderr for key in ("seed: ", "links.strength: ", "itmes: "))


def test_not_enough_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    result = run(tmp_path)
    assert result.exit_code == 2
    assert (
        "world: the world takes about 0.0 GB, its disk has 0.0 GB left: choose another disk for --out" in result.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_disk_that_fills_up_is_told_and_the_next_run_goes_on(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        result = run(tmp_path)
    assert result.exit_code == 2
    assert "items.parquet: cannot be written (No space left on device): check the free space" in result.stderr
    assert not (tmp_path / "world").exists()
    assert run(tmp_path).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml", "world"]


def test_a_world_without_clicks_is_refused_and_leaves_nothing(tmp_path):
    result = run(tmp_path, {"users": {"count": 1, "new_share": 1.0}, "days": 1})
    assert result.exit_code == 2
    assert "no user clicks within 1 days: raise days" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]
