"""Sound inputs that the fuzzer breaks, made once: scenarios, logs, a dataset, a model, a bundle, run folders."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[2]
TINY_WORLD = (
    "users.count=60",
    "items.count=80",
    "days=3",
)
SMALL_MODEL = (
    "model.embedding_dim=8",
    "model.hidden=[8]",
    "train.epochs=1",
    "train.batch_size=256",
    "contrast.projector_dim=8",
)


def make_materials(folder: Path) -> Path:
    """Make all materials in ``folder``, unless a former call has; returns it."""
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "scenarios", folder / "scenarios")
    user_log().write_parquet(folder / "users.parquet")
    user_log().write_csv(folder / "users.csv")
    day_log().write_parquet(folder / "days.parquet")
    event_log().write_csv(folder / "events.csv")
    clicks().write_csv(folder / "clicks.csv")
    clicks().write_parquet(folder / "clicks.parquet")
    items().write_csv(folder / "items.csv")
    model_options = [part for key in SMALL_MODEL for part in ("--set", key)]
    world_options = [part for key in TINY_WORLD for part in ("--set", key)]
    world, scenario = folder / "scenarios/worlds/tiny.yaml", folder / "scenarios/table1.yaml"
    commands: list[list[object]] = [
        ["world", world, "--out", folder / "world", "--workers", "1", *world_options],
        ["train", folder / "world", folder / "model", *model_options],
        ["index", folder / "model", folder / "world", folder / "bundle"],
        ["analyze", folder / "users.parquet", "--control", "A", "--treatment", "B", "--out", folder / "analysis"],
        ["run", scenario, "--set", f"data={folder / 'world'}", "--out", folder / "run", "--workers", "1"],
    ]
    micrec(commands)
    (folder / "complete").touch()
    return folder


IN_ONE_PROCESS = """
import json, sys
from abtest.cli.main import app
for arguments in json.load(sys.stdin):
    try:
        app(arguments, prog_name="micrec")
    except SystemExit as stop:
        if stop.code:
            raise
"""


def micrec(commands: list[list[object]]) -> None:
    """Run commands that must succeed, one after another in a new process, which imports but once."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", IN_ONE_PROCESS], cwd=ROOT, input=words, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def user_log(n: int = 400) -> pl.DataFrame:
    """One row per user of an experiment with two arms."""
    rng = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "user_id": np.arange(n),
            "arm": np.where(rng.random(n) < 0.5, "A", "B"),
            "clicks": rng.poisson(5, n),
            "dwell_s": rng.lognormal(4, 1, n).round(3),
            "likes": rng.poisson(0.3, n),
            "follows": rng.poisson(0.1, n),
            "cold": rng.random(n) < 0.2,
            "pre_clicks": rng.poisson(5, n),
            "country": rng.choice(["NO", "SE", "DK"], n),
        }
    )


def day_log(n: int = 120) -> pl.DataFrame:
    """One row per user and day."""
    rng = np.random.default_rng(2)
    users = user_log(n).select("user_id", "arm")
    days = pl.DataFrame({"day": [f"2026-11-{d:02}" for d in range(1, 8)]})
    log = users.join(days, how="cross")
    return log.with_columns(
        clicks=pl.Series(rng.poisson(1, len(log))), dwell_s=pl.Series(rng.exponential(60, len(log)).round(2))
    )


def event_log(n: int = 3000) -> pl.DataFrame:
    """One row per event."""
    rng = np.random.default_rng(3)
    user = rng.integers(0, 200, n)
    return pl.DataFrame(
        {
            "user_id": user,
            "arm": np.where(user % 2 == 0, "A", "B"),
            "timestamp": 1_793_000_000 + np.sort(rng.integers(0, 6 * 86_400, n)),
            "event": rng.choice(["impression", "click", "like", "follow"], n, p=[0.7, 0.25, 0.03, 0.02]),
            "dwell_s": rng.exponential(20, n).round(2),
        }
    )


def clicks(n: int = 1500) -> pl.DataFrame:
    """A click log with optional columns."""
    rng = np.random.default_rng(4)
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in rng.integers(0, 60, n)],
            "item_id": [f"i{i}" for i in rng.integers(0, 80, n)],
            "timestamp": 1_700_000_000 + np.sort(rng.integers(0, 20 * 86_400, n)),
            "dwell_s": rng.exponential(30, n).round(1),
            "like": rng.random(n) < 0.1,
        }
    )


def items() -> pl.DataFrame:
    """The items of ``clicks``."""
    rng = np.random.default_rng(5)
    words = np.array(["red", "tea", "cup", "lamp", "old", "tin", "box", "blue"])
    return pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(80)],
            "title": [" ".join(rng.choice(words, 3)) for _ in range(80)],
            "category": rng.choice(["home", "kitchen", "garden"], 80),
            "tags": ["|".join(rng.choice(words, 2)) for _ in range(80)],
            "price": rng.uniform(1, 20, 80).round(2),
        }
    )
