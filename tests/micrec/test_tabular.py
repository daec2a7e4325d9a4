"""Plain CSV and Parquet files."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.data.readers.tabular import _spelt_as_integers, read_tabular
from micrec.data.schema import FieldType
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from tests.micrec.factories import tiny_clicks, tiny_items, tiny_users

CLICKS = "user_id,item_id,timestamp\n7,b,20\n3,a,10\n7,a,15\n"
ITEMS = "item_id,title,genres,price,embedding\na,Alpha,Action|Comedy,1.5,0.5|1\nb,,Comedy||,,2|3\nc,Gamma,,2,\n"
SCHEMA = """
name: shop
licence: CC0
items: {title: text, genres: multi_categorical, price: numeric, embedding: vector}
roles: {title: title, content: embedding}
"""


def write(folder: Path, **texts: str) -> dict[str, Any]:
    """Write ``clicks="..."`` to ``clicks.csv`` and so on, ``schema`` to ``schema.yaml``; their paths by name."""
    paths = {name: folder / ("schema.yaml" if name == "schema" else f"{name}.csv") for name in texts}
    for name, path in paths.items():
        path.write_text(texts[name])
    return paths


def test_clicks_alone_make_their_own_tables(tmp_path: Path) -> None:
    frames = read_tabular(**write(tmp_path, clicks=CLICKS))
    assert frames.users["user_id"].to_list() == [3, 7]
    assert frames.items["item_id"].to_list() == ["a", "b"]
    assert frames.clicks.rows() == [(7, "b", 20), (3, "a", 10), (7, "a", 15)]
    assert frames.dropped == {}
    assert frames.schema.name == "clicks"
    assert frames.schema.time_unit == "s"
    assert frames.schema.provenance["files"] == ["clicks.csv"]


def test_fields_are_parsed_by_the_schema_file(tmp_path: Path) -> None:
    frames = read_tabular(**write(tmp_path, clicks=CLICKS, items=ITEMS, schema=SCHEMA))
    assert (frames.schema.name, frames.schema.licence) == ("shop", "CC0")
    assert frames.items.to_dict(as_series=False) == {
        "item_id": ["a", "b", "c"],
        "title": ["Alpha", None, "Gamma"],
        "genres": [["Action", "Comedy"], ["Comedy"], None],
        "price": [1.5, None, 2.0],
        "embedding": [[0.5, 1.0], [2.0, 3.0], None],
    }
    write_dataset(tmp_path / "out", *frames[:4])
    dataset = read_dataset(tmp_path / "out")
    assert dataset.items.columns["genres"].labels == ("Action", "Comedy")
    assert dataset.clicks.time_ms.tolist() == [10_000, 15_000, 20_000]


def test_the_separator_is_the_schema_files(tmp_path: Path) -> None:
    schema = SCHEMA + "separator: ' / '\n"
    items = ITEMS.replace("|", " / ")
    frames = read_tabular(**write(tmp_path, clicks=CLICKS, items=items, schema=schema))
    assert frames.items["genres"].to_list()[0] == ["Action", "Comedy"]
    assert frames.items["embedding"].to_list()[0] == [0.5, 1.0]


def test_columns_are_renamed_in_every_file_that_has_them(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        clicks="CustomerID,sku,when,watched,user_id\n1,x,5,0.5,ignored\n",
        users="CustomerID,land\n1,uk\n2,\n",
    )
    columns = {"user_id": "CustomerID", "item_id": "sku", "timestamp": "when", "dwell_s": "watched", "country": "land"}
    frames = read_tabular(**paths, columns=columns)
    assert frames.clicks.to_dicts() == [{"user_id": 1, "item_id": "x", "timestamp": 5, "dwell_s": 0.5}]
    assert frames.users.to_dicts() == [{"user_id": 1, "country": "uk"}, {"user_id": 2, "country": None}]
    assert frames.dropped == {"unused columns of clicks.csv: user_id": 1}
    assert frames.schema.provenance["dropped"] == frames.dropped


def test_undeclared_columns_are_left_out_and_counted(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        clicks="user_id,item_id,timestamp,price,quantity\n1,a,5,2,3\n",
        items="item_id,colour,title\na,red,Alpha\n",
        schema="items: {title: text}\n",
    )
    frames = read_tabular(**paths)
    assert frames.items.columns == ["item_id", "title"]
    assert frames.dropped == {
        "unused columns of clicks.csv: price, quantity": 2,
        "unused columns of items.csv: colour": 1,
    }


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet"])
def test_every_format_says_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clicks.{suffix}"
    if suffix == "parquet":
        pl.DataFrame({"user_id": [7, 3, 7], "item_id": ["b", "a", "a"], "timestamp": [20, 10, 15]}).write_parquet(path)
    else:
        text = CLICKS.replace(",", "\t") if suffix == "tsv" else CLICKS
        path.write_bytes(gzip.compress(text.encode()) if suffix == "csv.gz" else text.encode())
    frames = read_tabular(path)
    assert frames.clicks.rows() == [(7, "b", 20), (3, "a", 10), (7, "a", 15)]
    assert frames.schema.name == "clicks"


def test_parquet_tables_keep_their_types(tmp_path: Path) -> None:
    for name, frame in {"clicks": tiny_clicks(), "users": tiny_users(), "items": tiny_items()}.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
    frames = read_tabular(
        tmp_path / "clicks.parquet", users=tmp_path / "users.parquet", items=tmp_path / "items.parquet"
    )
    assert frames.clicks.equals(tiny_clicks())
    assert frames.users.equals(tiny_users())
    assert frames.items.equals(tiny_items())
    assert frames.schema.items["tags"] is FieldType.MULTI_CATEGORICAL


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "20"], [1, 20]),
        (["-1", "0"], [-1, 0]),
        (["1", "007"], ["007", "1"]),
        (["1", "1.0"], ["1", "1.0"]),
        (["1", "x"], ["1", "x"]),
        (["1", str(2**63)], ["1", str(2**63)]),
    ],
)
def test_ids_become_integers_only_if_no_spelling_is_lost(tmp_path: Path, ids: list[str], expected: list) -> None:
    lines = "".join(f"u,{item},1\n" for item in ids)
    frames = read_tabular(**write(tmp_path, clicks="user_id,item_id,timestamp\n" + lines))
    assert sorted(frames.items["item_id"].to_list()) == expected


def test_ids_of_clicks_and_table_stay_of_one_type(tmp_path: Path) -> None:
    """One odd id in the table keeps the ids of the clicks text too."""
    paths = write(tmp_path, clicks="user_id,item_id,timestamp\n1,5,1\n", items="item_id\n5\nA6\n")
    frames = read_tabular(**paths)
    assert frames.clicks["item_id"].to_list() == ["5"]
    assert frames.items["item_id"].to_list() == ["5", "A6"]
    pl.DataFrame({"item_id": [5, 6]}).write_parquet(tmp_path / "items.parquet")
    frames = read_tabular(paths["clicks"], items=tmp_path / "items.parquet")
    assert frames.clicks["item_id"].to_list() == [5]


@given(st.lists(st.none() | st.integers().map(str) | st.text("0123456789-+ .", max_size=3), max_size=5))
@settings(deadline=None)
def test_a_spelling_is_an_integers_if_python_writes_it_so(texts: list[str | None]) -> None:
    def spelt(text: str) -> bool:
        try:
            return str(int(text)) == text and -(2**63) <= int(text) < 2**63
        except ValueError:
            return False

    rows = pl.LazyFrame({"id": pl.Series(texts, dtype=pl.String)})
    assert _spelt_as_integers(rows, "id") == all(spelt(t) for t in texts if t is not None)


@pytest.mark.parametrize(
    ("times", "unit", "first"),
    [
        (["1600000000", "1600000001"], "s", 1_600_000_000),
        (["978300760.5", "978300761"], "s", 978_300_760.5),
        (["1600000000000", "1600000000001"], "ms", 1_600_000_000_000),
        (["2011-12-09 12:50:00", "2011-12-09T12:51"], "datetime", datetime(2011, 12, 9, 12, 50, tzinfo=UTC)),
        (["2011-12-09T12:50:00+02:00", "2011-12-10T00:00:00Z"], "datetime", datetime(2011, 12, 9, 10, 50, tzinfo=UTC)),
        (["2011-12-09", "2011-12-10"], "datetime", datetime(2011, 12, 9, tzinfo=UTC)),
    ],
)
def test_the_unit_of_times_is_guessed_without_a_schema(tmp_path: Path, times: list, unit: str, first: object) -> None:
    lines = "".join(f"1,a,{time}\n" for time in times)
    frames = read_tabular(**write(tmp_path, clicks="user_id,item_id,timestamp\n" + lines))
    assert frames.schema.time_unit == unit
    assert frames.clicks["timestamp"][0] == first


def test_types_are_guessed_without_a_schema(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "item_id": list("abcd"),
            "colour": ["red", "red", "blue", "blue"],
            "title": ["one", "two", "three", "four"],
            "shelf": [1, 1, 2, 2],
            "stock": [4, 7, 1, 9],
            "price": [1.0, 1.0, 1.0, 2.0],
            "new": [True, False, True, False],
            "since": ["2020-01-01", "2020-01-02", "2020-01-01", "2020-01-01"],
        }
    )
    listed: dict[str, list] = {"tags": [["x"], [], ["y"], None], "content": [[0.5], [1.0], [2.0], [3.0]]}
    expected = {
        "colour": "categorical",
        "title": "text",
        "shelf": "categorical",
        "stock": "numeric",
        "price": "numeric",
        "new": "categorical",
        "since": "timestamp",
    }
    clicks = write(tmp_path, clicks=CLICKS)["clicks"]
    frame.write_csv(tmp_path / "items.csv")
    frame.with_columns(pl.Series(name, values) for name, values in listed.items()).write_parquet(tmp_path / "i.parquet")
    from_text = read_tabular(clicks, items=tmp_path / "items.csv")
    from_parquet = read_tabular(clicks, items=tmp_path / "i.parquet")
    assert from_text.schema.items == expected
    assert from_parquet.schema.items == expected | {"tags": "multi_categorical", "content": "vector"}
    assert "guessed" in from_text.schema.provenance["types"]
    for frames in (from_text, from_parquet):
        write_dataset(tmp_path / "out", *frames[:4], overwrite=True)
        assert read_dataset(tmp_path / "out").items.frame["since"][1] == datetime(2020, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("words", ["0,1", "0.0,1.0", "false,True", "False,TRUE"])
def test_flags_may_be_written_as_numbers_or_words(tmp_path: Path, words: str) -> None:
    no, yes = words.split(",")
    text = f"user_id,item_id,timestamp,like\n1,a,1,{no}\n1,a,2,{yes}\n"
    assert read_tabular(**write(tmp_path, clicks=text)).clicks["like"].to_list() == [False, True]


def test_a_byte_order_mark_quotes_and_empty_cells(tmp_path: Path) -> None:
    text = '\ufeffuser_id,item_id,timestamp\n1,"a,""b""",1\n1,c,2\n'
    frames = read_tabular(**write(tmp_path, clicks=text, items='item_id,title\n"a,""b""",""\nc,\n'))
    assert frames.clicks["item_id"].to_list() == ['a,"b"', "c"]
    assert frames.items["title"].to_list() == [None, None]


def test_a_missing_id_is_left_for_the_store_to_refuse(tmp_path: Path) -> None:
    """A reader that drops nothing hands on what it cannot know to be wrong."""
    frames = read_tabular(**write(tmp_path, clicks="user_id,item_id,timestamp\n1,a,1\n,a,2\n"))
    with pytest.raises(MicrecError, match=r"clicks.parquet: user_id: null id in 1 of 2 rows \(row 1: None\)"):
        write_dataset(tmp_path / "out", *frames[:4])


HEADER = "user_id,item_id,timestamp"
TABULAR_FAULTS = [
    (
        {"clicks": "user,item_id,timestamp\n"},
        "clicks.csv: user_id: missing column (there are: user, item_id, timestamp)",
    ),
    (
        {"clicks": f"{HEADER}\n1,a,5\n1,a,soon\n"},
        "clicks.csv: timestamp: text that is not a number in 1 of 2 rows (row 1: 'soon'): write all times in one way",
    ),
    (
        {"clicks": f"{HEADER}\n1,a,2020-01-01\n1,a,01/02/2020\n1,a,2020-13-01\n"},
        "clicks.csv: timestamp: text that is not an ISO date in 2 of 3 rows "
        "(row 1: '01/02/2020'; row 2: '2020-13-01'): "
        "write 2011-12-09 12:50:00",
    ),
    (
        {"clicks": f"{HEADER},like\n1,a,5,yes\n"},
        "clicks.csv: like: neither true nor false in 1 of 1 rows (row 0: 'yes'): write true or false, or 1 or 0",
    ),
    (
        {"clicks": CLICKS, "items": ITEMS.replace("1.5", "cheap"), "schema": SCHEMA},
        "items.csv: price: text that is not a number in 1 of 3 rows (row 0: 'cheap')",
    ),
    (
        {"clicks": CLICKS, "items": ITEMS.replace("2|3", "2|x"), "schema": SCHEMA},
        "items.csv: embedding: text that is not a list of numbers between '|' in 1 of 3 rows "
        "(row 1: '2|x'): correct it",
    ),
    (
        {"clicks": CLICKS, "items": "item_id,title\na,A\n", "schema": SCHEMA},
        "items.csv: genres: missing column (there are: item_id, title)",
    ),
    (
        {"clicks": CLICKS, "schema": SCHEMA},
        "schema: items: fields are declared (title, genres, price, embedding) but no items file is given",
    ),
    (
        {"clicks": CLICKS, "items": ITEMS, "schema": "seperator: ','\n"},
        "seperator: unknown key, did you mean separator?",
    ),
    ({"clicks": CLICKS, "items": ITEMS, "schema": "roles: {title: title}\n"}, "roles.title: no item field 'title'"),
    ({"clicks": f"{HEADER}\n1,a,5,6\n"}, "clicks.csv: cannot be read (found more fields than defined in 'Schema')"),
    ({"clicks": ""}, "clicks.csv: cannot be read (empty CSV)"),
]


@pytest.mark.parametrize(("texts", "expected"), TABULAR_FAULTS, ids=[text[:30] for _, text in TABULAR_FAULTS])
def test_faults_of_plain_files(tmp_path: Path, texts: dict[str, str], expected: str) -> None:
    with pytest.raises(MicrecError) as caught:
        read_tabular(**write(tmp_path, **texts))
    assert expected in str(caught.value)


def test_faults_of_several_files_are_told_at_once(tmp_path: Path) -> None:
    paths = write(tmp_path, clicks=f"{HEADER}\n1,a,x\n", users="user_id,since\n1,2020-01-01\n2,then\n")
    (tmp_path / "schema.yaml").write_text("users: {since: timestamp}")
    with pytest.raises(
        MicrecError, match=r"2 errors\n.*users.csv: since: text that is not an ISO date|2 errors\n.*clicks.csv"
    ):
        read_tabular(**paths, schema=tmp_path / "schema.yaml")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"user_id": "custmer"}, "columns: user_id: no file has a column 'custmer', did you mean customer?"),
        ({"user_id": "zzz"}, "columns: user_id: no file has a column 'zzz', there are: customer, item_id, timestamp"),
    ],
)
def test_a_mapping_of_a_column_that_no_file_has(tmp_path: Path, columns: dict[str, str], expected: str) -> None:
    clicks = write(tmp_path, clicks="customer,item_id,timestamp\n1,a,1\n")["clicks"]
    with pytest.raises(MicrecError) as caught:
        read_tabular(clicks, columns=columns)
    assert expected in str(caught.value)
    assert "user_id: missing column (there are: customer, item_id, timestamp)" in str(caught.value)


def test_missing_files_and_unknown_endings(tmp_path: Path) -> None:
    with pytest.raises(MicrecError, match=r"nowhere.csv: there is no such file"):
        read_tabular(tmp_path / "nowhere.csv")
    (tmp_path / "clicks.xlsx").write_text("")
    with pytest.raises(MicrecError, match=r"clicks.xlsx: the ending tells no format: name it .csv"):
        read_tabular(tmp_path / "clicks.xlsx")


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_bytes(b"user_id,item_id,timestamp\n1,caf\xe9,1\n")
    with pytest.raises(MicrecError, match=r"clicks.csv: cannot be read \(invalid utf-8 sequence"):
        read_tabular(tmp_path / "clicks.csv")


def test_categories_of_parquet_files_are_read_as_their_text(tmp_path: Path) -> None:
    paths = write(tmp_path, clicks=CLICKS)
    items = pl.DataFrame({"item_id": ["a", "b"], "colour": ["red", None], "size": ["s", "m"]})
    kinds = {"item_id": pl.Categorical(), "colour": pl.Categorical(), "size": pl.Enum(["s", "m"])}
    items.cast(kinds).write_parquet(tmp_path / "items.parquet")
    frames = read_tabular(paths["clicks"], items=tmp_path / "items.parquet")
    assert frames.items.to_dict(as_series=False) == items.to_dict(as_series=False)
    items.write_parquet(tmp_path / "text.parquet")
    assert frames.schema.items == read_tabular(paths["clicks"], items=tmp_path / "text.parquet").schema.items
