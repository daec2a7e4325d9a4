"""Writing and reading dataset folders."""

import itertools
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.data import store
from micrec.data.dataset import Column, Dataset
from micrec.data.encoding import IdMap
from micrec.data.schema import DatasetSchema, FieldType
from micrec.data.store import new_folder, read_dataset, write_dataset
from micrec.errors import MicrecError
from tests.micrec.factories import (
    START_S,
    random_frames,
    tiny_clicks,
    tiny_items,
    tiny_schema,
    tiny_users,
    write_tiny,
)

TINY = (tiny_schema(), tiny_users(), tiny_items(), tiny_clicks())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decoded(column: Column) -> list[object]:
    """The outside values of a column, one by one."""
    if column.numbers is not None:
        return [None if math.isnan(number) else float(number) for number in column.numbers]
    if column.codes is not None:
        return [None if code == 0 else column.labels[code - 1] for code in column.codes]
    assert column.values is not None
    assert column.offsets is not None
    bounds = zip(column.offsets[:-1], column.offsets[1:], strict=True)
    return [[column.labels[code - 1] for code in column.values[start:stop]] for start, stop in bounds]


def test_the_hand_written_dataset_is_encoded_as_documented(tmp_path: Path) -> None:
    dataset = read_dataset(write_tiny(tmp_path / "tiny"))
    assert dataset.folder == tmp_path / "tiny"
    assert dataset.schema == tiny_schema()
    assert dataset.users.ids.to_list() == [30, 10, 20]
    assert dataset.items.ids.to_list() == ["d", "a", "b", "c"]
    assert (dataset.users.lookup(10), dataset.users.lookup("20"), dataset.items.lookup("nobody")) == (1, 2, -1)
    clicks = dataset.clicks
    assert clicks.time_ms.tolist() == [(START_S + after_s) * 1000 for after_s in (0, 60, 60, 4000, 7200, 9000)]
    assert clicks.user_ids.tolist() == [0, 1, 0, 2, 1, 0]  # at second 60 user 10 comes first, as in the file
    assert clicks.item_ids.tolist() == [0, 2, 1, 1, 1, 0]
    assert clicks.dwell_s is not None
    assert clicks.dwell_s.tolist() == [2, 3, 4, 5, 1, 6]
    assert clicks.like is not None
    assert clicks.like.tolist() == [False, False, True, False, True, False]
    assert clicks.follow is None
    assert (clicks.user_ids.dtype, clicks.item_ids.dtype, clicks.time_ms.dtype) == (np.int32, np.int32, np.int64)


def test_the_fields_of_the_hand_written_dataset_are_encoded_as_documented(tmp_path: Path) -> None:
    dataset = read_dataset(write_tiny(tmp_path / "tiny"))
    assert list(dataset.items.columns) == ["category", "tags", "price"]  # a title is not embedded
    category, tags, price = dataset.items.columns.values()
    assert category.labels == ("light", "mug")
    assert category.codes is not None
    assert category.codes.tolist() == [2, 2, 1, 0]
    assert category.size == 3
    assert tags.values is not None
    assert tags.offsets is not None
    assert (tags.labels, tags.values.tolist(), tags.offsets.tolist()) == (("x", "y"), [1, 2, 2], [0, 2, 3, 3, 3])
    assert price.numbers is not None
    np.testing.assert_array_equal(price.numbers, np.array([2.5, np.nan, 7.0, 1.0], dtype=np.float32))
    assert dataset.items.frame["title"].to_list() == ["red mug", "blue mug", None, "lamp"]


def test_arrays_can_be_written_to(tmp_path: Path) -> None:
    """Read-only arrays make torch.from_numpy warn."""
    dataset = read_dataset(write_tiny(tmp_path / "tiny"))
    columns = [*dataset.users.columns.values(), *dataset.items.columns.values()]
    arrays = [a for c in columns for a in (c.codes, c.values, c.offsets, c.numbers) if a is not None]
    arrays += [a for a in vars(dataset.clicks).values() if isinstance(a, np.ndarray)]
    assert all(array.flags.writeable for array in arrays)


labels = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4)
ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True),
    st.lists(labels, min_size=1, max_size=6, unique=True),
)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, list]:
    """Users, items and clicks as plain lists."""
    user_ids, item_ids = draw(ids), draw(ids)
    n_items = len(item_ids)
    category = draw(st.sampled_from([labels, st.integers(-(2**31), 2**31)]))

    def column(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=n_items, max_size=n_items))

    click = st.tuples(st.sampled_from(user_ids), st.sampled_from(item_ids), st.integers(-50, 50))
    return {
        "users": user_ids,
        "items": item_ids,
        "category": column(st.none() | category),
        "tags": column(st.none() | st.lists(st.none() | labels, max_size=4)),
        "price": column(st.none() | st.floats(allow_infinity=False, width=32)),
        "clicks": draw(st.lists(click, min_size=1, max_size=12)),
    }


@settings(max_examples=30, deadline=None)
@given(world=worlds(), n_parts=st.integers(0, 3))
def test_what_is_written_is_read_back(world: dict[str, list], n_parts: int) -> None:
    schema = DatasetSchema(
        name="roundtrip",
        time_unit="ms",
        items={
            "category": FieldType.CATEGORICAL,
            "tags": FieldType.MULTI_CATEGORICAL,
            "price": FieldType.NUMERIC,
        },
    )
    fields = {name: world[name] for name in ("category", "tags", "price")}
    items = pl.DataFrame({"item_id": world["items"]} | fields, schema_overrides={"price": pl.Float32}, strict=False)
    clicks = pl.DataFrame(world["clicks"], schema=["user_id", "item_id", "timestamp"], orient="row")
    cuts = np.linspace(0, len(clicks), n_parts + 1).astype(int)
    parts = clicks if n_parts == 0 else [clicks[a:b] for a, b in itertools.pairwise(cuts)]
    with tempfile.TemporaryDirectory() as parent:
        write_dataset(Path(parent) / "data", schema, pl.DataFrame({"user_id": world["users"]}), items, parts)
        dataset = read_dataset(Path(parent) / "data")
    check_against(dataset, world)


def check_against(dataset: Dataset, world: dict[str, list]) -> None:
    """Compare with plain Python over the lists."""
    users, items = dataset.users.ids.to_list(), dataset.items.ids.to_list()
    assert (users, items) == (world["users"], world["items"])
    clicks = dataset.clicks
    read = [(users[u], items[i], t) for u, i, t in zip(clicks.user_ids, clicks.item_ids, clicks.time_ms, strict=True)]
    assert read == sorted(world["clicks"], key=lambda click: click[2])
    columns = dataset.items.columns
    assert decoded(columns["category"]) == [None if v is None else str(v) for v in world["category"]]
    assert decoded(columns["tags"]) == [
        list(dict.fromkeys(v for v in tags or [] if v is not None)) for tags in world["tags"]
    ]
    assert decoded(columns["price"]) == [None if v is None or math.isnan(v) else v for v in world["price"]]
    for name in ("category", "tags"):
        assert list(columns[name].labels) == sorted(set(columns[name].labels))
        assert columns[name].size == len(columns[name].labels) + 1


@given(
    keys=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 99), min_size=1, max_size=20, unique=True),
    asked=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 105), max_size=20),
)
@settings(deadline=None)
def test_an_id_map_finds_exactly_its_keys(keys: list[int], asked: list[int | None]) -> None:
    found = IdMap(pl.Series(keys, dtype=pl.Int64)).positions(pl.Series(asked, dtype=pl.Int64))
    assert found.tolist() == [keys.index(value) if value in keys else -1 for value in asked]


@pytest.mark.parametrize("n_items", [5, 300])
def test_flat_and_hashed_id_maps_agree(n_items: int) -> None:
    rng = np.random.default_rng(0)
    keys, asked = rng.permutation(2 * n_items)[:n_items], rng.integers(-5, 3 * n_items, 1000)
    texts = IdMap(pl.Series(keys).cast(pl.String)).positions(pl.Series(asked).cast(pl.String))
    np.testing.assert_array_equal(IdMap(pl.Series(keys)).positions(pl.Series(asked)), texts)


@pytest.mark.parametrize(
    ("unit", "times", "expected"),
    [
        ("s", pl.Series([0.5, 2.0]), [500, 2000]),
        ("ms", pl.Series([7, -8]), [-8, 7]),
        ("datetime", pl.Series(["1970-01-02T00:00:01", "1970-01-01T00:00:00"]).str.to_datetime(), [0, 86_401_000]),
        ("datetime", pl.Series(["1970-01-03", "1970-01-02"]).str.to_date(), [86_400_000, 172_800_000]),
        (
            "datetime",
            pl.Series(["1970-01-01T01:00:00", "1970-01-01T02:00:00"]).str.to_datetime(time_zone="Europe/Berlin"),
            [0, 3_600_000],
        ),
    ],
)
def test_times_of_any_unit_become_milliseconds(
    tmp_path: Path, unit: str, times: pl.Series, expected: list[int]
) -> None:
    clicks = pl.DataFrame({"user_id": [10, 20], "item_id": ["a", "b"], "timestamp": times})
    write_tiny(tmp_path / "d", schema=tiny_schema(time_unit=unit), clicks=clicks)
    assert read_dataset(tmp_path / "d").clicks.time_ms.tolist() == expected


def test_small_chunks_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = random_frames(np.random.default_rng(1), n_clicks=100)
    shuffled = frames[3].sample(fraction=1.0, shuffle=True, seed=2)
    write_dataset(tmp_path / "one", *frames[:3], shuffled)
    write_dataset(tmp_path / "parts", *frames[:3], (shuffled[start : start + 33] for start in range(0, 100, 33)))
    whole = read_dataset(tmp_path / "one").clicks
    monkeypatch.setattr(store, "ROWS_PER_CHUNK", 7)
    for name in ("one", "parts"):
        chunked = read_dataset(tmp_path / name).clicks
        for field, values in vars(whole).items():
            np.testing.assert_array_equal(vars(chunked)[field], values)


def test_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Long enough for an unstable sort to show."""
    rng = np.random.default_rng(4)
    rows = list(zip([10] * 500, rng.choice(list("abcd"), 500).tolist(), rng.integers(0, 3, 500).tolist(), strict=True))
    clicks = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    dataset = read_dataset(write_tiny(tmp_path / "d", clicks=clicks))
    items = dataset.items.ids.gather(dataset.clicks.item_ids).to_list()
    assert items == [item for _, item, _ in sorted(rows, key=lambda row: row[2])]


def test_array_and_category_columns_are_read(tmp_path: Path) -> None:
    """Fixed-size arrays and dictionary-coded strings are as good as lists and strings."""
    items = tiny_items().with_columns(
        pl.col("item_id", "category").cast(pl.Categorical),
        tags=pl.Series([["x", "y"], ["y", "y"], [None, "x"], None], dtype=pl.Array(pl.String, 2)),
        content=pl.Series([[1.0, 2.0]] * 3 + [None], dtype=pl.Array(pl.Float32, 2)),
    )
    schema = tiny_schema(items={"category": "categorical", "tags": "multi_categorical", "content": "vector"}, roles={})
    dataset = read_dataset(write_tiny(tmp_path / "d", schema=schema, items=items))
    assert dataset.items.ids.to_list() == ["d", "a", "b", "c"]
    assert decoded(dataset.items.columns["category"]) == ["mug", "mug", "light", None]
    assert decoded(dataset.items.columns["tags"]) == [["x", "y"], ["y"], ["x"], []]


def test_an_all_null_column_is_a_field_without_values(tmp_path: Path) -> None:
    nulls = {name: pl.Series([None] * 4) for name in ("title", "category", "tags", "price")}
    dataset = read_dataset(write_tiny(tmp_path / "d", items=pl.DataFrame({"item_id": ["a", "b", "c", "d"], **nulls})))
    assert decoded(dataset.items.columns["category"]) == [None] * 4
    assert decoded(dataset.items.columns["tags"]) == [[]] * 4
    assert decoded(dataset.items.columns["price"]) == [None] * 4


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_dataset(tmp_path / name, *random_frames(np.random.default_rng(3)))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_existing_dataset_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", *TINY)
    before = contents(tmp_path / "d")
    with pytest.raises(MicrecError, match=r"d: exists: name another folder, or overwrite it"):
        write_dataset(tmp_path / "d", *random_frames(np.random.default_rng(0)))
    assert contents(tmp_path / "d") == before
    write_dataset(tmp_path / "d", *random_frames(np.random.default_rng(0)), overwrite=True)
    assert read_dataset(tmp_path / "d").name == "random"
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for name in ("home", "file"):
        with pytest.raises(MicrecError, match="exists and is not a dataset folder: name another one"):
            write_dataset(tmp_path / name, *TINY, overwrite=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b"):
        write_dataset(folder, *TINY)
        assert len(read_dataset(folder).clicks) == 6


def failing_parts() -> Iterator[pl.DataFrame]:
    yield tiny_clicks()
    raise RuntimeError("the source broke")


@pytest.mark.parametrize("existed", [False, True])
def test_a_failure_half_way_changes_nothing(tmp_path: Path, existed: bool) -> None:
    if existed:
        write_dataset(tmp_path / "d", *TINY)
    before = contents(tmp_path)
    with pytest.raises(RuntimeError, match="the source broke"):
        write_dataset(tmp_path / "d", *TINY[:3], failing_parts(), overwrite=True)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["d"] if existed else [])


def test_invalid_data_are_not_written(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", *TINY)
    before = contents(tmp_path)
    bad = tiny_clicks().with_columns(item_id=pl.lit("nowhere"))
    with pytest.raises(MicrecError, match=r"(?s)tiny: not a valid dataset, nothing was written.*unknown item id"):
        write_dataset(tmp_path / "d", *TINY[:3], [tiny_clicks(), bad], overwrite=True)
    assert contents(tmp_path) == before


def test_a_failed_swap_puts_the_old_dataset_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "d", *TINY)
    before = contents(tmp_path)
    replace = os.replace

    def broken(source: Path, target: Path) -> None:
        if source.name.endswith(".partial"):
            raise OSError("disk gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(MicrecError, match=r"d: cannot be written \(disk gone\)"):
        write_dataset(tmp_path / "d", *random_frames(np.random.default_rng(0)), overwrite=True)
    assert contents(tmp_path) == before


def test_a_kill_between_the_two_renames_is_repaired_by_the_next_attempt(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", *TINY)
    before = contents(tmp_path / "d")
    (tmp_path / "d").rename(tmp_path / ".d.previous")
    with pytest.raises(MicrecError, match=r"overwriting it was interrupted; rename .*\.d\.previous back"):
        read_dataset(tmp_path / "d")
    with pytest.raises(MicrecError, match="exists"):
        write_dataset(tmp_path / "d", *random_frames(np.random.default_rng(0)))
    assert contents(tmp_path / "d") == before


KILLED = """
import os, signal, sys
from pathlib import Path
from micrec.data.store import write_dataset
from tests.micrec.factories import tiny_clicks, tiny_items, tiny_schema, tiny_users

def parts():
    yield tiny_clicks()
    os.kill(os.getpid(), signal.SIGKILL)

write_dataset(Path(sys.argv[1]), tiny_schema(name="new"), tiny_users(), tiny_items(), parts(), overwrite=True)
"""


def test_a_kill_half_way_leaves_the_old_dataset_and_the_next_attempt_cleans_up(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", *TINY)
    before = contents(tmp_path / "d")
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "d")], cwd=root, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert contents(tmp_path / "d") == before
    assert (tmp_path / ".d.partial" / "clicks" / "part-00000.parquet").exists()
    write_dataset(tmp_path / "d", *TINY, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_new_folder_can_hold_further_files(tmp_path: Path) -> None:
    with new_folder(tmp_path / "d") as folder:
        store.write_tables(folder, *TINY)
        (folder / "ground_truth").mkdir()
        assert not (tmp_path / "d").exists()
    assert (tmp_path / "d" / "ground_truth").is_dir()
    assert len(read_dataset(tmp_path / "d").items) == 4


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(
        MicrecError, match=r"users.parquet: cannot be written \(No space left on device\): check the free"
    ):
        write_dataset(tmp_path / "d", *TINY)
    assert list(tmp_path.iterdir()) == []
