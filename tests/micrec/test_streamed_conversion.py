"""Conversion in a stream: the same files, notes and errors as when the clicks are held in memory."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from micrec.data import parquet_files, store
from micrec.data.convert import SCRATCH, TABLE, TableReaderConfig, convert
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.progress import NoProgress

ROWS = 300
TEXT = {
    "comma": (",", lambda n: f"u{n % 7}", lambda n: f"i{n % 11}", lambda n: str(1_600_000_000 + 61 * n)),
    "semicolon": (";", lambda n: f"{n % 7:03d}", lambda n: str(n % 11), lambda n: f"2020-09-{n % 20 + 1:02d} 10:00"),
}


class CountedTasks(NoProgress):
    """Names of tasks, their units, and how many of them were told to be done."""

    def __init__(self) -> None:
        self.tasks: list[list[Any]] = []

    def start(self, task: str, total: int, unit: str) -> None:
        self.tasks.append([task, total, 0])

    def advance(self, amount: int, note: str = "") -> None:
        self.tasks[-1][2] += amount


def frame() -> pl.DataFrame:
    """Clicks of every type that the columns may have, not in time order."""
    n = np.arange(ROWS)
    return pl.DataFrame(
        {
            "user_id": pl.Series([f"U{one % 7}" for one in n], dtype=pl.Categorical),
            "item_id": (n % 11).astype(np.float64),
            "timestamp": 1_600_000_000_000 + 61_000 * ((7 * n) % ROWS),
            "dwell_s": pl.Series([f"{one}.50" for one in n]).cast(pl.Decimal(10, 2)),
            "like": n % 2,
            "extra": n,
        }
    )


def csv_text(kind: str) -> str:
    mark, user, item, time = TEXT[kind]
    decimal = "," if mark == ";" else "."
    lines = [mark.join([user(n), f" {item(n)} ", time(n), f"{n}{decimal}5", "TRUE", "x"]) for n in range(ROWS)]
    return "\n".join([mark.join(["USER_ID", "item_id", "timestamp", "dwell_s", "like", "extra"]), *lines]) + "\n"


def write_source(folder: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """A log of that kind, and options to read it."""
    folder.mkdir()
    if kind == "parquet":
        frame().write_parquet(folder / "log.parquet")
        return folder / "log.parquet", {}
    if kind == "parts":
        log = frame().with_columns(pl.col("timestamp") // 1000)
        for day, part in {"2020-09-01": log[:100], "2020-09-02": log[100:].cast({"timestamp": pl.Int32})}.items():
            (folder / f"day={day}").mkdir()
            part.write_parquet(folder / f"day={day}" / "part.parquet")
        return folder, {}
    if kind == "gzip":
        (folder / "log.csv.gz").write_bytes(gzip.compress(csv_text("comma").encode()))
        return folder / "log.csv.gz", {"ids": "lower"}
    if kind == "dropped":
        lines = csv_text("comma").splitlines()
        lines[5] = lines[5].replace(lines[5].split(",")[2], "0")
        (folder / "log.csv").write_text("\n".join(lines) + "\n")
        return folder / "log.csv", {"implausible_times": "drop"}
    if kind == "tables":
        (folder / "clicks.csv").write_text(csv_text("comma"))
        items = "\n".join(["item_id,colour,price", *(f"i{n},c{n % 3},{n}.5" for n in range(12))])
        (folder / "items.csv").write_text(items + "\n")
        return folder, {"roles": {"category": "colour"}}
    (folder / "log.csv").write_text(csv_text(kind))
    return folder / "log.csv", {"timezone": "Europe/Oslo"}


def convert_in_memory(source: Path, out: Path, keys: dict[str, Any]) -> None:
    found = TABLE.read(source, TableReaderConfig.model_validate(keys))
    write_dataset(out, found.schema, found.users, found.items, found.clicks)


def bytes_of_folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["comma", "semicolon", "gzip", "dropped", "tables", "parquet", "parts"])
def test_the_files_are_those_of_clicks_in_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(parquet_files, "ROWS_PER_GROUP", 64)
    source, keys = write_source(tmp_path / "source", kind)
    convert_in_memory(source, tmp_path / "held", keys)
    done = convert("table", source, tmp_path / "streamed", options=keys)
    assert bytes_of_folder(tmp_path / "streamed") == bytes_of_folder(tmp_path / "held")
    assert done.clicks == len(read_dataset(tmp_path / "streamed").clicks) == ROWS - (kind == "dropped")
    assert done.rows == ROWS


FAULTS = {
    "flag": ("like", ["true", "maybe", "no idea", "0", "nope", "never"]),
    "number": ("dwell_s", ["1", "two", "3", "4", "5.5", "-1"]),
    "time": ("timestamp", ["1600000000", "yesterday", "1600000001", "0", "1600000002", "1600000003"]),
    "null time": ("timestamp", ["1600000000", "", "1600000001", "1600000002", "", "1600000003"]),
    "early": ("timestamp", ["1600000000", "0", "1600000001", "1600000002", "5", "1600000003"]),
    "id": ("item_id", ["a", "", "b", "c", "", "d"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_errors_are_those_of_clicks_in_memory_and_nothing_is_left(tmp_path, fault):
    name, cells = FAULTS[fault]
    columns = {
        "user_id": list("abcabc"),
        "item_id": list("xyzxyz"),
        "timestamp": [str(1_600_000_000 + n) for n in range(6)],
    }
    pl.DataFrame(columns | {name: cells}).write_csv(tmp_path / "log.csv")
    with pytest.raises(MicrecError) as held:
        convert_in_memory(tmp_path / "log.csv", tmp_path / "out", {})
    with pytest.raises(MicrecError) as streamed:
        convert("table", tmp_path / "log.csv", tmp_path / "out")
    assert str(streamed.value) == str(held.value)
    assert "row" in str(held.value)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_the_clicks_are_never_collected(tmp_path, monkeypatch):
    """Only what is counted and the ids leave the stream: no frame has as many rows as the log."""
    (tmp_path / "log.csv").write_text(csv_text("comma"))
    monkeypatch.setattr(store, "ROWS_PER_CHUNK", 64)
    collect, longest = pl.LazyFrame.collect, []

    def watched(self: pl.LazyFrame, *args: Any, **kwargs: Any) -> pl.DataFrame:
        longest.append(len(found := collect(self, *args, **kwargs)))
        return found

    monkeypatch.setattr(pl.LazyFrame, "collect", watched)
    convert("table", tmp_path / "log.csv", tmp_path / "out")
    assert max(longest) <= 64


def test_a_cut_file_is_told_by_its_own_name(tmp_path):
    frame().write_parquet(tmp_path / "log.parquet", row_group_size=50)
    whole = (tmp_path / "log.parquet").read_bytes()
    broken = bytearray(whole)
    broken[8:200] = bytes(192)
    (tmp_path / "log.parquet").write_bytes(bytes(broken))
    with pytest.raises(MicrecError, match=r"log\.parquet: cannot be read"):
        convert("table", tmp_path / "log.parquet", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    frame().write_parquet(tmp_path / "log.parquet")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", full)
    monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda *_, **__: None)
    with pytest.raises(MicrecError, match=r"clicks\.parquet: cannot be written \(No space left"):
        convert("table", tmp_path / "log.parquet", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_progress_counts_the_clicks_written_and_checked(tmp_path):
    (tmp_path / "log.csv").write_text(csv_text("comma"))
    progress = CountedTasks()
    convert("table", tmp_path / "log.csv", tmp_path / "out", progress=progress)
    assert [name for name, _, _ in progress.tasks] == [
        "reading log.csv",
        "looking at the times",
        "looking at the ids",
        "writing",
        "checking",
    ]
    assert all(done == total for _, total, done in progress.tasks)
    assert not (tmp_path / "out" / SCRATCH).exists()
