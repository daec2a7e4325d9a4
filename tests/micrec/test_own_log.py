"""A log of one's own: names, spellings, times and parts as people have them, from files to a dataset."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from micrec.cli.data_commands import app
from micrec.config import SplitConfig
from micrec.data.convert import convert
from micrec.data.readers.tabular import read_tabular
from micrec.data.schema import DatasetSchema
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError

S = int(datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp())
HEADER = "user_id,item_id,timestamp\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


WRITINGS = {
    "s": lambda m: str(int(m.timestamp())),
    "ms": lambda m: str(int(m.timestamp()) * 1_000),
    "us": lambda m: str(int(m.timestamp()) * 10**6),
    "ns": lambda m: str(int(m.timestamp()) * 10**9),
    "fractions": lambda m: f"{int(m.timestamp())}.0",
    "Z": lambda m: m.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "offset": lambda m: m.astimezone(ZoneInfo("America/New_York")).isoformat(),
    "local": lambda m: m.astimezone(ZoneInfo("Europe/Oslo")).strftime("%Y-%m-%d %H:%M:%S"),
    "local compact": lambda m: m.astimezone(ZoneInfo("Europe/Oslo")).strftime("%Y%m%d%H%M%S"),
}


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_click_has_its_moment_in_any_writing(tmp_path: Path, writing: str, kind: str) -> None:
    moments = [datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(minutes=17 * i) for i in range(1, 90) if i % 7]
    moments = [
        m for m in moments if not datetime(2026, 10, 25, 1, tzinfo=UTC) <= m < datetime(2026, 10, 25, 2, tzinfo=UTC)
    ]
    texts = [WRITINGS[writing](m) for m in moments]
    table = pl.DataFrame({"user_id": 1, "item_id": range(len(texts)), "timestamp": texts})
    getattr(table, f"write_{kind}")(tmp_path / f"clicks.{kind}")
    convert("table", tmp_path / f"clicks.{kind}", tmp_path / "d", options={"timezone": "Europe/Oslo"})
    dataset = read_dataset(tmp_path / "d")
    assert dataset.clicks.time_ms.tolist() == [int(m.timestamp()) * 1_000 for m in moments]
    assert dataset.schema.timezone == "Europe/Oslo"


def test_a_column_of_two_units_is_refused_and_zeros_are_dropped_when_asked(tmp_path: Path) -> None:
    halves = [S + i for i in range(6)] + [(S + i) * 1_000 for i in range(6, 10)]
    path = write(tmp_path / "clicks.csv", HEADER + "".join(f"u,{i},{t}\n" for i, t in enumerate(halves)))
    with pytest.raises(MicrecError, match=r"timestamp: times in milliseconds in 4 of 10 rows \(row 6: "):
        convert("table", path, tmp_path / "d")
    path = write(tmp_path / "clicks.csv", HEADER + f"u,1,{S}\nu,2,0\nv,1,{S + 5}\nv,3,-1\n")
    with pytest.raises(MicrecError, match=r"times before 1990 in 2 of 4 rows .*--set implausible_times=drop"):
        convert("table", path, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    done = convert("table", path, tmp_path / "d", options={"implausible_times": "drop"})
    assert (done.clicks, done.dropped) == (2, {"timestamp: times before 1990": 2})


@pytest.mark.parametrize(
    ("clicks", "items", "expected"),
    [
        (["1.0", "2.0"], ["1", "2"], [1, 2]),
        (["1", "2"], ["1.0", "2.0"], [1, 2]),
        (["u1 ", "u1", "\u200bu2"], ["u1", " u2"], ["u1", "u2"]),
        (["cafe\u0301"], ["café"], ["café"]),
        (["007"], ["007"], ["007"]),
        (["7"], ["7", "x"], ["7", "x"]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ids_that_look_alike_are_one(tmp_path: Path, clicks: list, items: list, expected: list, kind: str) -> None:
    log = pl.DataFrame({"user_id": "a", "item_id": clicks, "timestamp": S})
    getattr(log, f"write_{kind}")(tmp_path / f"clicks.{kind}")
    getattr(pl.DataFrame({"item_id": items}), f"write_{kind}")(tmp_path / f"items.{kind}")
    convert("table", tmp_path, tmp_path / "d")
    dataset = read_dataset(tmp_path / "d")
    assert dataset.items.ids.to_list() == expected
    assert len(dataset.clicks) == len(clicks)


def test_a_float_column_of_whole_numbers_holds_ids(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [1.0, 2.0], "item_id": [5.0, 6.0], "timestamp": [S, S]}).write_parquet(
        tmp_path / "clicks.pq"
    )
    pl.DataFrame({"item_id": ["5", "6"]}).write_parquet(tmp_path / "items.pq")
    convert("table", tmp_path, tmp_path / "d")
    assert read_dataset(tmp_path / "d").items.ids.to_list() == [5, 6]
    pl.DataFrame({"user_id": [1.5], "item_id": [5], "timestamp": [S]}).write_parquet(tmp_path / "clicks.pq")
    with pytest.raises(MicrecError, match="user_id: is a column of fractions"):
        convert("table", tmp_path, tmp_path / "d", overwrite=True)


@pytest.mark.parametrize(
    ("clicks", "items", "option", "parts"),
    [
        ("00001", "1", "number", ["1 of the 1 unknown ids differ by their spelling", "'00001' and '1'", "ids=number"]),
        ("1", "0001.0", "number", ["'1' and '0001.0'", "ids=number"]),
        ("SKU-1", "sku-1", "lower", ["'SKU-1' and 'sku-1'", "ids=lower"]),
    ],
)
def test_ids_that_differ_by_spelling_are_told_with_the_option_that_helps(
    tmp_path: Path, clicks: str, items: str, option: str, parts: list[str]
) -> None:
    write(tmp_path / "clicks.csv", f"{HEADER}a,{clicks},{S}\na,{items},{S}\n")
    write(tmp_path / "items.csv", f"item_id\n{items}\nx{items}\n" if option == "lower" else f"item_id\n{items}\n")
    with pytest.raises(MicrecError) as fault:
        convert("table", tmp_path, tmp_path / "d")
    assert all(part in str(fault.value) for part in parts), str(fault.value)
    convert("table", tmp_path, tmp_path / "d", options={"ids": option})
    assert len(set(read_dataset(tmp_path / "d").clicks.item_ids.tolist())) == 1


def test_ids_of_other_case_stay_two_and_are_told(tmp_path: Path) -> None:
    write(tmp_path / "clicks.csv", f"{HEADER}Ann,1,{S}\nann,2,{S}\nbob,2,{S}\n")
    done = convert("table", tmp_path / "clicks.csv", tmp_path / "d")
    assert done.users == 3
    assert any("'Ann' and 'ann'" in note for note in done.notes)


@pytest.mark.parametrize(
    ("separator", "cell"), [(",", '"Action, Drama,, "'), ("|", "Action | Drama|"), (";", "Action;Drama")]
)
def test_values_of_a_cell_are_stripped_and_empty_ones_counted(tmp_path: Path, separator: str, cell: str) -> None:
    paths = {
        "clicks": write(tmp_path / "clicks.csv", f"{HEADER}a,1,{S}\n"),
        "items": write(tmp_path / "items.csv", f"item_id,kinds\n1,{cell}\n"),
        "schema": write(tmp_path / "s.yaml", f"items: {{kinds: multi_categorical}}\nseparator: '{separator}'\n"),
    }
    frames = read_tabular(**paths)
    assert frames.items["kinds"].to_list() == [["Action", "Drama"]]
    empty = {",": 2, "|": 1, ";": 0}[separator]
    assert frames.dropped == ({"empty values between separators of kinds": empty} if empty else {})


def test_a_folder_of_parts_is_a_click_log(tmp_path: Path) -> None:
    for day in (2, 3):
        folder = tmp_path / "log" / f"day=2026-11-{day:02d}"
        folder.mkdir(parents=True)
        ids = pl.Series([1, 2], dtype=pl.Int32 if day == 2 else pl.Int64)
        pl.DataFrame({"User_ID": ids, "sku": ["a", "b"], "ts": [S * 10**6, S * 10**6]}).write_parquet(
            folder / "p.parquet"
        )
    names = ["--columns", "item_id=sku,timestamp=ts"]
    done = CliRunner().invoke(app, ["convert", "auto", str(tmp_path / "log"), str(tmp_path / "d"), *names])
    assert done.exit_code == 0, done.output
    dataset = read_dataset(tmp_path / "d")
    assert (len(dataset.clicks), dataset.name) == (4, "log")
    assert set(dataset.clicks.time_ms.tolist()) == {S * 1_000}


def test_missing_columns_are_told_with_the_options(tmp_path: Path) -> None:
    write(tmp_path / "c.csv", f"visitorid;asin;event_time\n1;2;{S}\n")
    done = CliRunner().invoke(app, ["convert", "table", str(tmp_path / "c.csv"), str(tmp_path / "d")])
    assert done.exit_code == 2
    for option in ("user_id=visitorid", "item_id=asin", "timestamp=event_time"):
        assert f"--columns {option}" in done.stderr
    flags = ["--columns", "user_id=visitorid,item_id=asin", "--columns", "timestamp=event_time"]
    assert (
        CliRunner().invoke(app, ["convert", "table", str(tmp_path / "c.csv"), str(tmp_path / "d"), *flags]).exit_code
        == 0
    )


def test_types_and_roles_are_guessed_from_names_and_told(tmp_path: Path) -> None:
    write(tmp_path / "clicks.csv", HEADER + "".join(f"u,{i},{S + i}\n" for i in range(4)))
    write(
        tmp_path / "items.csv",
        "item_id,name,category_id,brand,genres,price,image_url\n"
        '0,Red,10,x,"a, b",1.5,http://a\n1,Red,11,y,c,2,http://b\n2,Blue,12,z,"a, c",3,http://c\n3,Blue,13,w,b,4,http://d\n',
    )
    done = convert("table", tmp_path, tmp_path / "d")
    schema = read_dataset(tmp_path / "d").schema
    assert schema.items == {
        "name": "text",
        "category_id": "categorical",
        "brand": "categorical",
        "genres": "multi_categorical",
        "price": "numeric",
        "image_url": "text",
    }
    assert schema.roles.model_dump() == {
        "title": "name",
        "category": "category_id",
        "taxonomy": "genres",
        "content": None,
    }
    assert any("title = name" in note for note in done.notes)
    options = {"roles": {"title": "image_url"}, "types": {"price": "categorical"}}
    convert("table", tmp_path, tmp_path / "d", options=options, overwrite=True)
    schema = read_dataset(tmp_path / "d").schema
    assert (schema.roles.title, schema.items["price"]) == ("image_url", "categorical")


def test_coarse_times_and_a_last_day_cut_short_are_told(tmp_path: Path) -> None:
    days = "".join(f"u,{i},2026-11-{i:02d}\n" for i in range(1, 9))
    done = convert("table", write(tmp_path / "a.csv", HEADER + days), tmp_path / "a")
    assert any("dates without a time of day: every one-hour session" in note for note in done.notes)
    clicks = "".join(
        f"u,{h},{S - 12 * 3_600 + day * 86_400 + h * 3_601}\n"
        for day in range(5)
        for h in range(24)
        if day < 4 or h < 9
    )
    done = convert("table", write(tmp_path / "b.csv", HEADER + clicks), tmp_path / "b")
    assert next(note for note in done.notes if "cut short" in note).startswith(
        "The last day of the log ends at 08:00 UTC, earlier than each of the 4 days before it"
    )


def test_test_days_are_days_of_the_log(tmp_path: Path) -> None:
    """Against Python's calendar: days of a zone that start at four, over a change of clocks."""
    zone = ZoneInfo("Europe/Oslo")
    rng = np.random.default_rng(5)
    times = np.sort(rng.integers(0, 9 * 86_400, 400)) + int(datetime(2026, 10, 20, tzinfo=UTC).timestamp())
    write(tmp_path / "clicks.csv", HEADER + "".join(f"u{i % 5},{i % 7},{t}\n" for i, t in enumerate(times)))
    schema = write(tmp_path / "schema.yaml", "timezone: Europe/Oslo\nday_starts_at: 04:00\n")
    convert("table", tmp_path / "clicks.csv", tmp_path / "d", options={"schema": schema})
    dataset = read_dataset(tmp_path / "d")
    dates = [(datetime.fromtimestamp(t, zone).replace(tzinfo=None) - timedelta(hours=4)).date() for t in times]
    for n in (1, 3, 5):
        first = dates[-1] - timedelta(days=n - 1)
        split = temporal_split(dataset.clicks, SplitConfig(test_days=n), dataset.schema.days)
        assert split.n - split.n_fit == sum(date >= first for date in dates)


@pytest.mark.parametrize(("key", "value"), [("timezone", "Oslo"), ("day_starts_at", "25:00"), ("day_starts_at", 1.5)])
def test_keys_of_the_days_are_checked(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        DatasetSchema.model_validate({"name": "x", key: value})
    assert DatasetSchema.model_validate({"name": "x", "day_starts_at": 600}).day_starts_at == "10:00"


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_a_dataset_with_zeros_among_its_times_is_refused(tmp_path: Path, unit: str) -> None:
    scale = 1 if unit == "s" else 1_000
    users, items = pl.DataFrame({"user_id": [1]}), pl.DataFrame({"item_id": [1]})
    schema = DatasetSchema(name="x", time_unit=unit)
    clicks = pl.DataFrame({"user_id": 1, "item_id": 1, "timestamp": [S * scale, 0, S * scale, -5, S * scale]})
    with pytest.raises(
        MicrecError, match=r"times before 1990 beside later ones in 2 of 5 rows \(row 1: 0; row 3: -5\)"
    ):
        write_dataset(tmp_path / "d", schema, users, items, clicks)
    whole = clicks.with_columns(timestamp=pl.Series([0, 1, 2, 3, 4]))
    write_dataset(tmp_path / "d", schema, users, items, whole)
    assert len(read_dataset(tmp_path / "d").clicks) == 5


def test_ids_beyond_64_bits_decimal_commas_and_short_keys(tmp_path: Path) -> None:
    ids = pl.Series([2**64 - 1, 5], dtype=pl.UInt64)
    pl.DataFrame({"user_id": ids, "item_id": [1, 2], "timestamp": [S, S]}).write_parquet(tmp_path / "clicks.parquet")
    convert("table", tmp_path / "clicks.parquet", tmp_path / "d")
    assert set(read_dataset(tmp_path / "d").users.ids.to_list()) == {str(2**64 - 1), "5"}
    write(tmp_path / "c.csv", f"user_id;item_id;timestamp;dwell_s\n1;2;{S};1,5\n2;3;{S};2\n")
    write(tmp_path / "i.csv", "id;name;price;tags\n2;Red;9,99;1,5\n3;Blue;10;2,7\n")
    with pytest.raises(MicrecError, match="name it with --columns item_id=id"):
        convert("table", tmp_path / "c.csv", tmp_path / "d", options={"items": tmp_path / "i.csv"}, overwrite=True)
    options = {"items": tmp_path / "i.csv", "columns": {"item_id": "id"}}
    convert("table", tmp_path / "c.csv", tmp_path / "d", options=options, overwrite=True)
    dataset = read_dataset(tmp_path / "d")
    assert dataset.clicks.dwell_s is not None
    assert dataset.clicks.dwell_s.tolist() == [1.5, 2.0]
    assert dataset.items.frame["price"].to_list() == [9.99, 10.0]
    assert dataset.items.frame["tags"].to_list() == [["1", "5"], ["2", "7"]]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([b"\xff", b"b", b"c", b"d"]),
        pl.Series([{"a": 1}] * 4),
        pl.Series([None] * 4, dtype=pl.Time),
        pl.Series([1, 2, 3, 4], dtype=pl.Duration),
        pl.Series([[b"a"]] * 4),
    ],
    ids=lambda values: str(values.dtype),
)
def test_a_field_of_a_type_that_no_model_reads_is_named(tmp_path, values):
    clicks = pl.DataFrame({"user_id": [1, 2] * 8, "item_id": [0, 1, 2, 3] * 4, "timestamp": range(16)})
    clicks.write_parquet(tmp_path / "clicks.parquet")
    pl.DataFrame({"item_id": [0, 1, 2, 3], "price": values}).write_parquet(tmp_path / "items.parquet")
    items = f"items={tmp_path / 'items.parquet'}"
    done = CliRunner().invoke(
        app, ["convert", "table", str(tmp_path / "clicks.parquet"), str(tmp_path / "d"), "--set", items]
    )
    assert done.exit_code == 2, done.output
    assert "items.parquet: price: " in done.output
    assert not (tmp_path / "d").exists()
