"""What the fuzzer tries: for each area, a command on an input that was sound until something was changed in it."""

import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from tests.robustness.mutations import (
    NASTY_VALUES,
    YAML_TEXTS,
    break_bytes,
    break_csv,
    break_data,
    break_table,
    break_text,
    typo,
)


@dataclass(frozen=True)
class Case:
    """One command to try.

    Attributes:
        arguments: Words after ``micrec``.
        change: What was changed, in words.
        forbidden: Whether a rule of the schema says that it must be refused; None where none was asked.
        absent: What must not exist if the command is refused.
        accepted_codes: Exit codes that mean that it did its work.
    """

    arguments: list[str]
    change: str
    forbidden: bool | None = None
    absent: tuple[Path, ...] = ()
    accepted_codes: tuple[int, ...] = field(default=(0,))


Maker = Callable[[Path, Path, random.Random], Case]
AREAS: dict[str, Maker] = {}


def area(make: Maker) -> Maker:
    """Register a maker of cases: it gets the materials, an empty folder, and a generator."""
    AREAS[make.__name__] = make
    return make


@area
def scenario_file(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A shipped scenario with a place of its data, or of its text, changed."""
    name = rng.choice(sorted(path.name for path in (materials / "scenarios").glob("*.yaml")))
    _link_all(materials / "scenarios", folder / "scenarios", without=name)
    text = (materials / "scenarios" / name).read_text(encoding="utf-8")
    file = folder / "scenarios" / name
    forbidden = None
    if rng.random() < 0.6:
        data, change = break_data(yaml.safe_load(text), rng)
        file.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        forbidden = _scenario_is_forbidden(data)
    elif rng.random() < 0.7:
        broken, change = break_text(text, rng)
        file.write_text(broken, encoding="utf-8", errors="replace")
    else:
        content, change = break_bytes(text.encode(), rng)
        file.write_bytes(content)
    return Case(["scenario", "check", str(file)], f"{name}: {change}", forbidden)


@area
def scenario_override(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A shipped scenario with one to three keys set on the command line."""
    name = rng.choice(
        sorted(path.name for path in (materials / "scenarios").glob("*.yaml") if "metrics" not in path.name)
    )
    arguments = ["scenario", "check", str(materials / "scenarios" / name)]
    sets = [_override(_scenario_keys(), rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    for text in sets:
        arguments += ["--set", text]
    return Case(arguments, f"{name}: {', '.join(text[:80] for text in sets)}")


@area
def world_file(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A world whose file or overrides were changed, made at a small scale."""
    name = rng.choice(("tiny.yaml", "grocery.yaml"))
    text = (materials / "scenarios" / "worlds" / name).read_text(encoding="utf-8")
    file = folder / name
    forbidden = None
    if rng.random() < 0.7:
        data, change = break_data(yaml.safe_load(text), rng)
        file.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        forbidden = _has_nan(data)
    else:
        broken, change = break_text(text, rng)
        file.write_text(broken, encoding="utf-8", errors="replace")
    scale = rng.choice(("0.02", "0.02", "0.02", "0.02", "0", "-1", "nan", "1e9", "1e-9", "x"))
    out = folder / "out"
    arguments = ["world", str(file), "--out", str(out), "--scale", scale, "--workers", "1"]
    return Case(arguments, f"{name}: {change}, scale {scale}", forbidden, absent=(out,))


@area
def experiment_log(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A log of an experiment with other types, values, names, separators, or bytes."""
    name = rng.choice(("users.parquet", "days.parquet", "events.csv", "users.csv"))
    log, change = _broken_table(materials / name, folder, rng)
    arguments = ["analyze", str(log), "--control", rng.choice(("A", "A", "A", "C")), "--treatment", "B"]
    options: list[list[str]] = [
        [], [], [], ["--looks", "daily"], ["--slices", "country"], ["--rows", "events"], ["--rows", "parts"],
        ["--no-checks"], ["--planned-days", rng.choice(("1", "7", "0", "-3", "999999"))],
        ["--alpha", rng.choice(("0.1", "0", "1", "2", "nan"))], ["--weights", rng.choice(("A=1,B=3", "A=0,B=1", "x"))],
        ["--columns", rng.choice(("clicks=likes", "clicks=clicks*1000000", "clicks=nosuch", "dwell_s=dwell_s/0", "x"))],
        ["--split-by-hash", "s"], ["--dedupe", "user_id"], ["--min-users", rng.choice(("0", "5", "-1"))],
    ]  # fmt: skip
    arguments += rng.choice(options)
    out = folder / "out"
    if rng.random() < 0.3:
        arguments += ["--out", str(out)]
    return Case(arguments, f"{name}: {change}; {' '.join(arguments[2:])}", absent=(out,))


@area
def planning(materials: Path, folder: Path, rng: random.Random) -> Case:
    """Power and A/A with odd numbers."""
    number = lambda: rng.choice(  # noqa: E731
        ("0.02", "1", "2.5", "100", "0", "-1", "nan", "inf", "1e308", "1e-308", "2%", "x", "1e30", "", "0.5", "1000000")
    )
    if rng.random() < 0.7:
        arguments = ["power", "--mean", number(), "--sd", number(), "--lift", number()]
        for option in ("--users", "--users-per-day", "--alpha", "--power", "--treatment-share"):
            if rng.random() < 0.3:
                arguments += [option, number()]
    else:
        arguments = ["aa", str(materials / "users.parquet"), "--splits", rng.choice(("10", "0", "-1", "x", "50"))]
        if rng.random() < 0.5:
            arguments += ["--lift", number()]
    numbers = [_number(text) for text in arguments[1:]]
    forbidden = True if any(value is not None and not math.isfinite(value) for value in numbers) else None
    return Case(arguments, " ".join(arguments), forbidden)


@area
def click_log(materials: Path, folder: Path, rng: random.Random) -> Case:
    """Plain tables to convert, with other types, values, names, separators, or bytes."""
    name = rng.choice(("clicks.csv", "clicks.parquet"))
    log, change = _broken_table(materials / name, folder, rng)
    out = folder / "out"
    arguments = ["convert", "table", str(log), str(out)]
    if rng.random() < 0.6:
        items: Path = materials / "items.csv"
        if rng.random() < 0.5:
            items, more = _broken_table(items, folder, rng)
            change += f"; items: {more}"
        arguments += ["--set", f"items={items}"]
    if rng.random() < 0.2:
        arguments += ["--columns", rng.choice(("user_id=item_id", "item_id=nosuch", "x=y", "timestamp=user_id", "="))]
    return Case(arguments, f"{name}: {change}", absent=(out,))


@area
def dataset_folder(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A dataset folder with one of its files changed."""
    data = folder / "data"
    shutil.copytree(materials / "world", data)
    file = rng.choice(sorted(path for path in data.rglob("*") if path.is_file() and "ground_truth" not in path.parts))
    change = _break_file(file, rng)
    commands = [
        ["describe", str(data)],
        ["describe", str(data), "--test-days", rng.choice(("1", "0", "-1", "100000", "2"))],
        ["describe", str(data), "--test-fraction", rng.choice(("0.2", "0", "1", "-1", "nan", "0.999999"))],
        ["train", str(data), str(folder / "out"), "--set", "train.epochs=1", "--set", "model.embedding_dim=4"],
    ]
    return Case(rng.choice(commands), f"{file.relative_to(data)}: {change}")


@area
def training_keys(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A training whose config keys were set to odd values."""
    arguments = ["train", str(materials / "world"), str(folder / "out"), "--preset", rng.choice(("paper", "modern"))]
    sets = ["train.epochs=1", "model.embedding_dim=8", "model.hidden=[8]"]
    sets += [_override(_config_keys(), rng) for _ in range(rng.choice((1, 1, 2)))]
    for text in sets:
        arguments += ["--set", text]
    return Case(arguments, ", ".join(text[:80] for text in sets[3:]), absent=(folder / "out" / "model",))


@area
def model_folder(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A trained model with its manifest or its tensors changed."""
    model = folder / "model"
    shutil.copytree(materials / "model", model)
    file = rng.choice(sorted(path for path in model.rglob("*") if path.is_file()))
    change = _break_file(file, rng)
    commands = [
        ["evaluate", str(model), str(materials / "world")],
        ["index", str(model), str(materials / "world"), str(folder / "out")],
    ]
    return Case(rng.choice(commands), f"{file.name}: {change}")


@area
def bundle_folder(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A serving bundle with its manifest or its tensors changed, or odd questions to it."""
    bundle = folder / "bundle"
    shutil.copytree(materials / "bundle", bundle)
    change = "sound"
    if rng.random() < 0.7:
        file = rng.choice(sorted(path for path in bundle.rglob("*") if path.is_file()))
        change = f"{file.name}: {_break_file(file, rng)}"
    odd = rng.choice(("0", "3", "-1", "x", "", "999999999999999999999", "1.5", "🍺", "a,b"))
    questions = [
        ["--user", "0"], ["--user", odd], ["--history", odd], ["--history", f"1,{odd},2"], ["--field", f"gender={odd}"],
        ["--field", odd], ["-k", rng.choice(("1", "5", "100000", "0", "1000000000000"))], ["--hide-seen"], [],
        ["--new-items", str(materials / "items.csv")], ["--json"],
    ]  # fmt: skip
    question = [*rng.choice(questions), *rng.choice(questions)]
    return Case(["recommend", str(bundle), *question], f"{change}; {' '.join(question)}")


@area
def run_folder(materials: Path, folder: Path, rng: random.Random) -> Case:
    """A folder with the files of another run, or of another program, in the way of a new one."""
    out = folder / "out"
    kind = rng.choice(("run", "analysis", "file", "foreign", "empty"))
    if kind == "run":
        shutil.copytree(materials / "run", out)
        files = sorted(path for path in out.rglob("*") if path.is_file())
        file = rng.choice(files)
        change = f"{file.relative_to(out)}: {_break_file(file, rng)}"
        for gone in rng.sample(files, rng.choice((0, 1, 1, 3))):
            gone.unlink(missing_ok=True)
            change += f", {gone.relative_to(out)} removed"
    elif kind == "analysis":
        shutil.copytree(materials / "analysis", out)
        change = "an analysis"
    elif kind == "file":
        out.write_text("mine", encoding="utf-8")
        change = "a file"
    elif kind == "foreign":
        out.mkdir()
        (out / rng.choice(("letters.txt", "results.json", "scenario.resolved.yaml", ".hidden"))).write_text("mine")
        change = "somebody's files"
    else:
        out.mkdir()
        change = "an empty folder"
    scenario = str(materials / "scenarios" / "table1.yaml")
    arguments = ["run", scenario, "--set", f"data={materials / 'world'}", "--out", str(out), "--workers", "1"]
    if rng.random() < 0.4:
        arguments += ["--force"]
    return Case(arguments, f"{change}; {' '.join(arguments[7:])}")


# -- parts -----------------------------------------------------------------------------------------------------------


def _link_all(source: Path, target: Path, *, without: str) -> None:
    """``target`` shows the entries of ``source`` but for one."""
    target.mkdir()
    for path in source.iterdir():
        if path.name != without:
            os.symlink(path, target / path.name)


def _broken_table(path: Path, folder: Path, rng: random.Random) -> tuple[Path, str]:
    """A table with its values, its text or its bytes changed, in ``folder``."""
    table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    kind = rng.choice(("table", "table", "text" if path.suffix == ".csv" else "table", "bytes"))
    new = folder / path.name
    if kind == "table":
        table, change = break_table(table, rng)
        try:
            if path.suffix == ".parquet" or any(d in (pl.List, pl.Binary, pl.Null) for d in table.schema.dtypes()):
                new = new.with_suffix(".parquet")
                table.write_parquet(new)
            else:
                table.write_csv(new)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError):
            new.write_bytes(b"")
            change += " (cannot be written: empty)"
        return new, change
    content = path.read_bytes()
    broken, change = break_csv(content.decode(), rng) if kind == "text" else break_bytes(content, rng)
    new.write_bytes(broken)
    return new, change


def _break_file(file: Path, rng: random.Random) -> str:
    """Change a file in place, as befits its kind; says what was done."""
    content = file.read_bytes()
    kind = rng.random()
    if file.suffix == ".parquet" and kind < 0.6:
        table, change = break_table(pl.read_parquet(file, hive_partitioning=False), rng)
        table.write_parquet(file)
        return change
    if file.suffix in (".json", ".yaml") and kind < 0.8:
        text = content.decode()
        data, change = break_data(json.loads(text) if file.suffix == ".json" else yaml.safe_load(text), rng)
        dump = json.dumps(data, default=str) if file.suffix == ".json" else yaml.safe_dump(data, allow_unicode=True)
        file.write_text(dump, encoding="utf-8")
        return change
    if kind < 0.05:
        file.unlink()
        return "removed"
    broken, change = break_bytes(content, rng)
    file.write_bytes(broken)
    return change


def _override(keys: list[str], rng: random.Random) -> str:
    """``key=value`` with a key that exists, or nearly, and any value."""
    key = rng.choice(keys).replace("<name>", rng.choice(("control", "treatment", "x", "popular")))
    if rng.random() < 0.15:
        key = typo(key, rng)
    if rng.random() < 0.03:
        key = ".".join(["a"] * rng.choice((1, 50, 3000)))
    plain = (0, 1, 2, 5, 10, 100, 1000, 100_000, 0.1, 0.5, 1.5, -1, True, False)
    value = rng.choice((rng.choice(NASTY_VALUES), rng.choice(YAML_TEXTS), rng.choice(plain), rng.choice(plain)))
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"{key}={text}".replace("\x00", "")  # an argument of a process holds no NUL


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _has_nan(data: Any) -> bool | None:
    """True if a number is NaN, else None: other rules are not asked."""
    if isinstance(data, Mapping):
        return True if any(_has_nan(value) for value in data.values()) else None
    if isinstance(data, list):
        return True if any(_has_nan(value) for value in data) else None
    return True if isinstance(data, float) and math.isnan(data) else None


def _scenario_is_forbidden(data: Any) -> bool | None:
    """Whether JSON Schema, made from the scenario's model but judged by another library, forbids the data."""
    if not isinstance(data, dict):
        return True
    from jsonschema import Draft202012Validator

    from abtest.scenario_kinds import SCENARIO_KINDS
    from micrec.config import Config

    kind = data.get("kind")
    if any("extends" in part for part in _mappings(data)):
        return None
    if not isinstance(kind, str) or kind not in SCENARIO_KINDS:
        return True
    if _has_nan(data):
        return True
    data = {"name": "x", **data}
    base = data.get("base")
    if isinstance(base, dict) and not Draft202012Validator(_schema_of(Config)).is_valid(base):
        return True
    return True if not Draft202012Validator(_schema_of(SCENARIO_KINDS[kind].schema)).is_valid(data) else None


def _mappings(data: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings within plain data."""
    if isinstance(data, Mapping):
        yield data
    for part in data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ():
        yield from _mappings(part)


_SCHEMAS: dict[str, Any] = {}


def _schema_of(model: Any) -> Any:
    """The JSON Schema of a model, with places that take a world's file left open."""
    if model.__name__ not in _SCHEMAS:
        _SCHEMAS[model.__name__] = model.model_json_schema()
    return _SCHEMAS[model.__name__]


def _scenario_keys() -> list[str]:
    from abtest.scenario_files import explain_scenario

    return [setting.key for setting in explain_scenario()]


def _config_keys() -> list[str]:
    from micrec.config import Config
    from micrec.settings import explain

    return [setting.key for setting in explain(Config)]
