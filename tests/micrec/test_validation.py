"""Every fault a dataset folder can have gets one line that names file, column, count, rows, and cure."""

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from micrec.data import store
from micrec.data.store import read_dataset
from micrec.errors import MicrecError
from tests.micrec.factories import START_S, tiny_clicks, tiny_items, tiny_schema, tiny_users, write_tiny


def faults_of(folder: Path) -> str:
    with pytest.raises(MicrecError) as caught:
        read_dataset(folder)
    return str(caught.value)


def items(**columns: list | pl.Series) -> pl.DataFrame:
    return tiny_items().with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def clicks(**columns: list | pl.Series) -> pl.DataFrame:
    return tiny_clicks().with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def users(**columns: list | pl.Series) -> pl.DataFrame:
    return tiny_users().with_columns(**{name: pl.Series(values) for name, values in columns.items()})


CLICK_FAULTS = [
    (
        clicks(item_id=["a", "x", "b", "y", "x", "z"]),
        "clicks.parquet: item_id: unknown item id in 4 of 6 rows (row 1: 'x'; row 3: 'y'; row 4: 'x'; ...): "
        "add them to items.parquet or leave these clicks out",
    ),
    (
        clicks(user_id=[10, 30, 99, 30, 20, 30]),
        "clicks.parquet: user_id: unknown user id in 1 of 6 rows (row 2: 99): "
        "add them to users.parquet or leave these clicks out",
    ),
    (
        clicks(user_id=["10", "30", "10", "30", "20", "30"]),
        "clicks.parquet: user_id: the ids are String, those of users.parquet are Int64: "
        "write both as integers or both as strings",
    ),
    (
        clicks(user_id=[10.0, 30.0, 10.0, 30.0, 20.0, 30.0]),
        "clicks.parquet: user_id: ids are integers or strings, not Float64: cast to Int64 or String",
    ),
    (
        clicks(item_id=["a", None, "b", "a", None, "d"]),
        "clicks.parquet: item_id: null id in 2 of 6 rows (row 1: None; row 4: None): give each row its id",
    ),
    (
        clicks(timestamp=[1, None, 2, 3, None, 4]),
        "clicks.parquet: timestamp: null timestamp in 2 of 6 rows (row 1: None; row 4: None): give each click its time",
    ),
    (
        clicks(timestamp=[None] * 6),
        "clicks.parquet: timestamp: null timestamp in 6 of 6 rows (row 0: None; row 1: None; row 2: None; ...): "
        "give each click its time",
    ),
    (
        clicks(timestamp=["1", "2", "soon", "3", "4", "5"]),
        "clicks.parquet: timestamp: text that is not a number in 1 of 6 rows (row 2: 'soon'): "
        "write numbers or nulls, or set time_unit to datetime and parse them",
    ),
    (
        clicks(timestamp=[START_S * 1000] * 6),
        "clicks.parquet: timestamp: no moment before the year 10000 in 6 of 6 rows (row 0: 1600000000000; "
        "row 1: 1600000000000; row 2: 1600000000000; ...): timestamps are read as s; if that is wrong, correct "
        "time_unit in dataset.yaml",
    ),
    (
        clicks(timestamp=[1.0, float("nan"), 2.0, float("inf"), 3.0, 4.0]),
        "clicks.parquet: timestamp: no moment before the year 10000 in 2 of 6 rows (row 1: nan; row 3: inf): "
        "timestamps are read as s; if that is wrong, correct time_unit in dataset.yaml",
    ),
    (
        clicks(timestamp=[0] * 6).with_columns(pl.col("timestamp").cast(pl.Datetime("us"))),
        "clicks.parquet: timestamp: the values are Datetime(time_unit='us', time_zone=None), time_unit is s: "
        "set time_unit to datetime",
    ),
    (
        clicks(dwell_s=[1.0, -2.0, float("nan"), None, float("inf"), 0.0]),
        "clicks.parquet: dwell_s: a dwell time that is null, infinite or negative in 4 of 6 rows "
        "(row 1: -2.0; row 2: nan; row 3: None; ...): write seconds >= 0",
    ),
    (
        clicks(like=[0, 1, 0, 1, 0, 1]),
        "clicks.parquet: like: a boolean column is needed, this one is Int64: "
        "write true or false, or leave the column out",
    ),
    (
        clicks(follow=[True, None, False, True, True, True]),
        "clicks.parquet: follow: null in 1 of 6 rows (row 1: None): write true or false",
    ),
    (
        tiny_clicks().drop("timestamp"),
        "clicks.parquet: timestamp: missing column (there are: user_id, item_id, dwell_s, like): add or rename it",
    ),
    (tiny_clicks().clear(), "clicks: the log is empty: write at least one click"),
    (
        [tiny_clicks(), tiny_clicks().drop("like")],
        "clicks: like: some parts have the column and others lack it: write it in all",
    ),
    (
        [tiny_clicks(), clicks(item_id=["a", "a", "x", "a", "a", "a"])],
        "clicks: item_id: unknown item id in 1 of 12 rows (part-00001.parquet row 2: 'x'): "
        "add them to items.parquet or leave these clicks out",
    ),
    (
        [tiny_clicks(), tiny_clicks().drop("item_id")],
        "clicks/part-00001.parquet: item_id: missing column (there are: user_id, timestamp, dwell_s, like): "
        "add or rename it",
    ),
]


@pytest.mark.parametrize(("faulty", "expected"), CLICK_FAULTS, ids=lambda value: "" if isinstance(value, str) else None)
def test_faults_of_the_clicks(tmp_path: Path, faulty: pl.DataFrame | list[pl.DataFrame], expected: str) -> None:
    folder = write_tiny(tmp_path / "d", clicks=faulty)
    assert faults_of(folder) == f"{folder}: not a valid dataset (rows count from 0): {expected}"


ITEM_FAULTS = [
    (
        items(price=["2", "cheap", None, "?"]),
        "items.parquet: price: text that is not a number in 2 of 4 rows (row 1: 'cheap'; row 3: '?'): "
        "write numbers or nulls, or declare the field categorical",
    ),
    (
        items(price=["2", "3", None, "4.5"]),
        "items.parquet: price: the numbers are stored as text: cast the column to Float64",
    ),
    (
        items(price=[[1], [2], [3], [4]]),
        "items.parquet: price: needs numbers, the column is List(Int64): cast it, or declare the field categorical",
    ),
    (
        items(price=[1.0, float("-inf"), float("nan"), 1e39]),
        "items.parquet: price: a number beyond 3.4e38 in 2 of 4 rows (row 1: -inf; row 3: 1e+39): "
        "write a finite number, or null if unknown",
    ),
    (
        items(category=[1.0, 2.0, 3.0, None]),
        "items.parquet: category: categorical needs integers or strings, the column is Float64: "
        "cast it to Int64 or String, or declare it numeric",
    ),
    (
        items(tags=["x|y", "y", "", None]),
        "items.parquet: tags: multi_categorical needs a list of integers or strings, the column is String: "
        "split it into a list column, or declare it categorical",
    ),
    (items(title=[1, 2, 3, 4]), "items.parquet: title: text needs strings, the column is Int64: cast it to String"),
    (
        tiny_items().drop("price", "tags"),
        "items.parquet: tags: missing column (there are: item_id, title, category): add or rename it\n"
        "items.parquet: price: missing column (there are: item_id, title, category): add or rename it",
    ),
    (
        items(item_id=["d", "a", "b", "a"]),
        "items.parquet: item_id: repeated id in 2 of 4 rows (row 1: 'a'; row 3: 'a'): keep one row per item_id",
    ),
    (
        items(item_id=["d", "a", "b", None]),
        "items.parquet: item_id: null id in 1 of 4 rows (row 3: None): give each row its id",
    ),
    (
        items(item_id=pl.Series([1, 2, 3, 2**63], dtype=pl.UInt64)),
        "items.parquet: item_id: ids are integers or strings, not UInt64: cast to Int64 or String",
    ),
    (tiny_items().clear(), "items.parquet: the table is empty: write one row per item_id"),
]


@pytest.mark.parametrize(("faulty", "expected"), ITEM_FAULTS, ids=lambda value: "" if isinstance(value, str) else None)
def test_faults_of_the_items(tmp_path: Path, faulty: pl.DataFrame, expected: str) -> None:
    """What they lead to in the clicks, unknown ids, is left aside."""
    lines = faults_of(write_tiny(tmp_path / "d", items=faulty)).splitlines()
    told = [line[line.index("items.parquet: ") :] for line in lines if "items.parquet: " in line]
    assert told == expected.splitlines()


def test_faults_of_the_users(tmp_path: Path) -> None:
    text = faults_of(write_tiny(tmp_path / "d", users=users(user_id=[30, 30, 20], age=["41", "x", None])))
    assert "users.parquet: user_id: repeated id in 2 of 3 rows (row 0: 30; row 1: 30): keep one row per user_id" in text
    assert "users.parquet: age: text that is not a number in 1 of 3 rows (row 1: 'x')" in text
    assert "clicks.parquet: user_id: unknown user id in 2 of 6 rows (row 0: 10; row 2: 10)" in text


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        (
            [[1.0, 2.0], [1.0], None, [3.0, 4.0]],
            "a vector of other than 2 numbers in 1 of 4 rows (row 1: [1.0]): make all equally long",
        ),
        (
            [[1.0, 2.0], [1.0, float("nan")], None, [None, 4.0]],
            "a null, NaN or infinity in a vector in 2 of 4 rows (row 1: [1.0, nan]; row 3: [None, 4.0]): "
            "write numbers, or null for no vector",
        ),
        (
            pl.Series([[], [], None, []], dtype=pl.List(pl.Float64)),
            "the first vector holds no numbers: write null if there is none",
        ),
        ([["a"], ["b"], None, None], "vector needs a list of numbers, the column is List(String): cast it"),
        ([1.0, 2.0, None, None], "vector needs a list of numbers, the column is Float64: cast it"),
    ],
)
def test_faults_of_vectors(tmp_path: Path, vectors: list | pl.Series, expected: str) -> None:
    schema = tiny_schema(items={"content": "vector"}, roles={"content": "content"})
    table = pl.DataFrame({"item_id": ["d", "a", "b", "c"], "content": pl.Series(vectors, strict=False)})
    text = faults_of(write_tiny(tmp_path / "d", schema=schema, items=table))
    assert text.endswith(f"items.parquet: content: {expected}")


def test_missing_vectors_are_no_fault(tmp_path: Path) -> None:
    schema = tiny_schema(items={"content": "vector"}, roles={"content": "content"})
    for name, vectors in {"some": [[1, 2], None, [3, 4], None], "none": [None] * 4}.items():
        table = pl.DataFrame({"item_id": ["d", "a", "b", "c"], "content": vectors})
        dataset = read_dataset(write_tiny(tmp_path / name, schema=schema, items=table))
        assert dataset.items.frame["content"].to_list() == vectors


def test_a_table_field_that_is_no_time(tmp_path: Path) -> None:
    text = faults_of(write_tiny(tmp_path / "d", schema=tiny_schema(items={"title": "timestamp"}, roles={})))
    assert text.endswith(
        "items.parquet: title: timestamp needs a date, a datetime or a number, the column is String: "
        "parse it into a Datetime column"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"roles": {"title": "titel"}}, "roles.title: no item field 'titel' (fields: title, category, tags, price): "),
        (
            {"roles": {"category": "price"}},
            "roles.category: item field 'price' is numeric, not categorical or id: name another field, or null",
        ),
        ({"roles": {"taxonomy": "title"}}, "roles.taxonomy: item field 'title' is text, not categorical or multi_"),
        ({"roles": {"content": "tags"}}, "roles.content: item field 'tags' is multi_categorical, not vector"),
        ({"items": {"item_id": "id"}, "roles": {}}, "items.item_id: item_id is the key of items.parquet, not a field"),
    ],
)
def test_faults_of_the_schema(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    assert f"dataset.yaml: {expected}" in faults_of(write_tiny(tmp_path / "d", schema=tiny_schema(**changes)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "dataset.yaml: the file is empty: write the name and the fields of the dataset"),
        ("name: x\nitmes: {}\n", "dataset.yaml: itmes: unknown key, did you mean items?"),
        ("items: {}\n", "dataset.yaml: name: is required"),
        ("name: x\nitems: {price: numbers}\n", r"dataset.yaml: items.price: .*'numeric'.*got \"numbers\""),
        ("name: x\ntime_unit: h\n", r"dataset.yaml: time_unit: must be one of s, ms, datetime, got \"h\""),
        ("name: x\nmicrec_dataset: 2\n", "dataset.yaml: micrec_dataset: must be 1, got 2"),
        ("name: [x\n", "dataset.yaml: line 2, column 1: not valid YAML"),
        ("- a\n", "dataset.yaml: must hold a mapping"),
        ("name: x\nname: y\n", "dataset.yaml: line 2, column 1: not valid YAML: key 'name' appears twice"),
        ("name: !!python/object/apply:os.system [echo]\n", "dataset.yaml: line 1, column 7: not valid YAML: could not"),
    ],
)
def test_faults_of_the_schema_file(tmp_path: Path, text: str, expected: str) -> None:
    folder = write_tiny(tmp_path / "d")
    (folder / "dataset.yaml").write_text(text)
    assert re.search(expected, faults_of(folder))


def test_no_such_folder(tmp_path: Path) -> None:
    assert "nowhere: there is no such dataset folder: check the path" in faults_of(tmp_path / "nowhere")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_text("user_id,item_id\n1,2\n")


@pytest.mark.parametrize("spoil", [cut, empty, garbled])
@pytest.mark.parametrize("name", ["users.parquet", "items.parquet", "clicks.parquet"])
def test_a_file_that_is_not_parquet(tmp_path: Path, spoil: Callable[[Path], None], name: str) -> None:
    folder = write_tiny(tmp_path / "d")
    spoil(folder / name)
    text = faults_of(folder)
    assert f"{name}: no readable Parquet file, perhaps cut short (" in text
    assert " errors" not in text, "a table that cannot be read is not blamed on the clicks"


def test_missing_files(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "d")
    for name in ("dataset.yaml", "users.parquet", "items.parquet", "clicks.parquet"):
        (folder / name).unlink()
    assert faults_of(folder) == (
        f"{folder}: not a valid dataset (rows count from 0): 4 errors\n"
        "  - dataset.yaml: the file is missing: write one with the name and the fields of the dataset\n"
        "  - users.parquet: the file is missing: put it into the folder\n"
        "  - items.parquet: the file is missing: put it into the folder\n"
        "  - clicks.parquet: the file is missing, and so are clicks/part-*.parquet: put the clicks there"
    )


def test_without_a_schema_the_files_are_still_opened(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "d")
    (folder / "dataset.yaml").write_text("nmae: x")
    cut(folder / "clicks.parquet")
    text = faults_of(folder)
    assert "nmae: unknown key, did you mean name?" in text
    assert "clicks.parquet: no readable Parquet file" in text


def test_two_logs_or_foreign_files_are_refused(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "d", clicks=[tiny_clicks()])
    tiny_clicks().write_parquet(folder / "clicks" / "extra.parquet")
    assert "clicks/extra.parquet: the files of a log are named part-*.parquet: rename or remove it" in faults_of(folder)
    tiny_clicks().write_parquet(folder / "clicks.parquet")
    assert "clicks.parquet: there are parts in clicks/ too: remove one of the two" in faults_of(folder)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    folder = write_tiny(
        tmp_path / "d",
        schema=tiny_schema(roles={"title": "name"}),
        users=users(age=["x", "y", "z"]),
        items=items(item_id=["a", "a", "b", "c"]),
        clicks=clicks(timestamp=[None, 1, 2, 3, 4, 5], dwell_s=[-1.0, 0, 0, 0, 0, 0]),
    )
    text = faults_of(folder)
    assert text.splitlines()[0].endswith("6 errors")
    for place in ("roles.title", "age", "items.parquet: item_id", "clicks.parquet: item_id", ": timestamp", "dwell_s"):
        assert text.count(place) == 1, place


def test_rows_are_counted_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny(tmp_path / "d", clicks=clicks(item_id=["x", "a", "a", "y", "a", "z"]))
    whole = faults_of(folder)
    assert "unknown item id in 3 of 6 rows (row 0: 'x'; row 3: 'y'; row 5: 'z'):" in whole
    monkeypatch.setattr(store, "ROWS_PER_CHUNK", 2)
    assert faults_of(folder) == whole
