"""The Online Retail reader on a few invoice lines whose clicks, fields and drop counts are known by hand."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.data.readers.online_retail import OnlineRetailConfig, is_online_retail, read_online_retail
from micrec.data.readers.title_words import title_words
from micrec.errors import MicrecError

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
NINE, TEN = datetime(2010, 12, 1, 9, 0), datetime(2010, 12, 1, 10, 0)
LINES = [
    ("2", "85123A", "RED BAG", 6, TEN, 2.0, 17850.0, "France"),
    ("1", "85123B", "BLUE BAGS", 6, NINE, 3.0, 17850.0, "United Kingdom"),
    ("1", "71053", "TIN LANTERN", 1, NINE, 9.0, 17850.0, "United Kingdom"),
    ("1", "85123A", "BAG RED", 1, NINE, 4.0, 12346.0, "Norway"),
    ("1", "85123A", "BAG RED", 1, NINE, 0.0, 12346.0, "Norway"),
    ("C3", "71053", "TIN LANTERN", -1, TEN, 9.0, 17850.0, "United Kingdom"),
    ("C4", "71053", "TIN LANTERN", -1, TEN, 9.0, None, "United Kingdom"),
    ("5", "71053", "damaged", -8, TEN, 0.0, None, "United Kingdom"),
    ("6", "71053", "nan", 2, TEN, 9.0, None, "United Kingdom"),
    ("7", "71053", "nan", 0, TEN, 9.0, 12346.0, "Norway"),
]


def frame(lines: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(lines, schema=COLUMNS, orient="row")


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "online_retail.parquet"
    frame(LINES).write_parquet(path)
    return path


def test_every_line_is_a_click_or_counted_under_one_reason(parquet: Path):
    read = read_online_retail(parquet, OnlineRetailConfig())
    assert read.dropped == {
        "lines without a customer": 3,
        "cancelled lines (InvoiceNo starts with C)": 1,
        "other lines with a quantity of zero or less": 1,
    }
    assert len(read.clicks) + sum(read.dropped.values()) == len(LINES)
    assert read.schema.provenance["dropped"] == read.dropped
    assert read.schema.provenance["rows"] == len(LINES)


def test_clicks_are_in_time_order_and_ties_in_file_order(parquet: Path):
    clicks = read_online_retail(parquet, OnlineRetailConfig()).clicks
    nine, ten = NINE.replace(tzinfo=UTC), TEN.replace(tzinfo=UTC)
    assert clicks.rows() == [
        (17850, "85123B", nine),
        (17850, "71053", nine),
        (12346, "85123A", nine),
        (12346, "85123A", nine),
        (17850, "85123A", ten),
    ]


def test_item_fields_are_derived_from_kept_lines(parquet: Path):
    items = read_online_retail(parquet, OnlineRetailConfig(price_bands=2, min_word_items=1)).items
    rows = {row["item_id"]: row for row in items.to_dicts()}
    assert list(rows) == ["71053", "85123A", "85123B"]
    assert rows["85123A"]["title"] == "BAG RED"  # twice, against once RED BAG
    assert rows["71053"]["title"] == "TIN LANTERN"  # "damaged" and "nan" come from dropped lines
    assert rows["85123A"]["design"] == rows["85123B"]["design"] == "85123"
    assert rows["85123B"]["words"] == ["blue", "bag"]  # bags is bag, as another title has bag
    assert [rows[item]["category"] for item in rows] == ["lantern", "bag", "bag"]
    # median positive prices 3 (of 2 and 4), 3 and 9: the lower median 3 parts the bands
    assert [rows[item]["price_band"] for item in rows] == ["above 3.0", "up to 3.0", "up to 3.0"]


def test_country_is_the_most_frequent_and_the_first_seen_among_equals(parquet: Path):
    users = read_online_retail(parquet, OnlineRetailConfig()).users
    assert users.rows() == [(12346, "Norway"), (17850, "United Kingdom")]


def test_an_item_without_any_description_has_no_title(tmp_path: Path):
    path = tmp_path / "x.parquet"
    frame([("1", "A1", "nan", 1, NINE, 1.0, 1.0, "X"), ("1", "B1", None, 1, NINE, 1.0, 1.0, None)]).write_parquet(path)
    read = read_online_retail(path, OnlineRetailConfig(min_word_items=1))
    assert read.items["title"].to_list() == [None, None]
    assert read.items["words"].to_list() == [[], []]
    assert read.items["category"].to_list() == read.items["design"].to_list() == [None, None]
    assert read.users.rows() == [(1, "X")]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_the_csv_layouts_read_like_the_parquet_file(tmp_path: Path, encoding: str):
    """American dates and integer customers, as the UCI sheet is exported; a pound sign in Latin-1 or UTF-8."""
    path = tmp_path / "data.csv"
    text = (
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "1,85123A,BAG £2,6,12/1/2010 9:00,2.55,17850,United Kingdom\n"
        "2,71053,LANTERN,1,12/13/2010 10:05,3.39,,United Kingdom\n"
        "C3,71053,LANTERN,-1,12/13/2010 10:05,3.39,17850.0,United Kingdom\n"
    )
    path.write_bytes(text.encode(encoding))
    read = read_online_retail(path, OnlineRetailConfig())
    assert read.clicks.rows() == [(17850, "85123A", NINE.replace(tzinfo=UTC))]
    assert read.items["title"].to_list() == ["BAG £2"]
    assert list(read.dropped.values()) == [1, 1]


def test_online_retail_two_names_its_columns_otherwise(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text(
        "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
        "1,85123A,BAG,6,2010-12-01 09:00:00,2.55,17850.0,United Kingdom\n"
    )
    assert read_online_retail(path, OnlineRetailConfig()).clicks.rows() == [(17850, "85123A", NINE.replace(tzinfo=UTC))]


def test_a_folder_with_the_one_file_is_fine(parquet: Path):
    (parquet.parent / "NOTICE.md").write_text("CC BY")
    assert is_online_retail(parquet.parent)
    assert len(read_online_retail(parquet.parent, OnlineRetailConfig()).clicks) == 5
    (parquet.parent / "b.csv").write_text("x")
    assert not is_online_retail(parquet.parent)
    with pytest.raises(MicrecError, match=r"exactly one \.parquet or \.csv file, found b\.csv, online_retail\.parquet"):
        read_online_retail(parquet.parent, OnlineRetailConfig())


RANDOM_LINES = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "C3"]),
        st.sampled_from(["10A", "10B", "20"]),
        st.sampled_from(["RED BAG", "BLUE BAG", "nan", None]),
        st.integers(-1, 2),
        st.sampled_from([NINE, TEN]),
        st.just(1.0),
        st.sampled_from([1.0, 2.0, None]),
        st.sampled_from(["France", "Norway"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(RANDOM_LINES)
def test_clicks_and_majorities_equal_those_of_a_plain_loop(lines: list[tuple]):
    kept = [line for line in lines if line[6] is not None and line[0][0] != "C" and line[3] > 0]
    with tempfile.TemporaryDirectory() as folder:
        frame(lines).cast({"CustomerID": pl.Float64, "Description": pl.String}).write_parquet(
            Path(folder) / "x.parquet"
        )
        if not kept:
            with pytest.raises(MicrecError, match="has a customer and a positive quantity"):
                read_online_retail(Path(folder), OnlineRetailConfig())
            return
        read = read_online_retail(Path(folder), OnlineRetailConfig())
    assert len(kept) + sum(read.dropped.values()) == len(lines)
    in_time_order = sorted(kept, key=lambda line: line[4])
    assert read.clicks.select("user_id", "item_id").rows() == [(int(line[6]), line[1]) for line in in_time_order]
    for item, title in read.items.select("item_id", "title").rows():
        assert title == majority(
            [line[2] for line in in_time_order if line[1] == item and line[2] not in ("nan", None)]
        )
    for user, country in read.users.rows():
        assert country == majority([line[7] for line in in_time_order if line[6] == user])


def majority(values: list[str]) -> str | None:
    """The most frequent value, the first seen among equals."""
    return max(values, key=values.count, default=None)


def write(tmp_path: Path, **columns: list) -> Path:
    """A file of one good line but for ``columns``."""
    path = tmp_path / "bad.parquet"
    frame(LINES[:1]).with_columns(**{name: pl.Series(values) for name, values in columns.items()}).write_parquet(path)
    return path


def test_faults_of_the_file_are_told(tmp_path: Path, parquet: Path):
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(parquet.read_bytes()[:-200])
    lacking = tmp_path / "lacking.parquet"
    frame(LINES).drop("Quantity", "Country").write_parquet(lacking)
    for path, message in [
        (tmp_path / "none.parquet", "none.parquet: there is no such file or folder"),
        (cut, r"cut.parquet: cannot be read \(.+\): check that the file is whole"),
        (lacking, "lacking.parquet: columns Quantity, Country missing"),
        (write(tmp_path, CustomerID=[None]), "none of its 1 lines has a customer and a positive quantity"),
    ]:
        with pytest.raises(MicrecError, match=message):
            read_online_retail(path, OnlineRetailConfig())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"Quantity": ["six"]}, r"Quantity: 1 values are not of type Int64 \(row 1: 'six'\)"),
        ({"InvoiceDate": ["2010-13-01 10:00"]}, "InvoiceDate is not written in one way in all lines"),
        ({"CustomerID": ["anna"]}, "cannot be read .*anna|conversion"),
    ],
)
def test_values_of_the_wrong_kind_are_told(tmp_path: Path, columns: dict, message: str):
    with pytest.raises(MicrecError, match=message):
        read_online_retail(write(tmp_path, **columns), OnlineRetailConfig())


def categories(*titles: str) -> list[str | None]:
    frame = pl.DataFrame({"item_id": range(len(titles)), "title": list(titles)}, schema_overrides={"title": pl.String})
    return title_words(frame, min_items=1)["category"].to_list()


def test_the_category_is_the_head_noun():
    assert categories("LUNCH BAG RED RETROSPOT", "JUMBO BAG WITH ZIP", "PINK CUP IN BOX") == ["bag", "bag", "cup"]
    assert categories("SET OF 6 TEA TINS", "RED AND WHITE", None, "4U 2") == ["tins", "white", None, None]


def test_plurals_meet_their_singular_where_it_is_used():
    titles = pl.DataFrame({"item_id": [3, 1, 2], "title": ["BOXES, CANDLES", "box of DOILIES", "DOILY CANDLE GLASS"]})
    found = title_words(titles, min_items=1)
    assert found["item_id"].to_list() == [3, 1, 2]
    assert found["words"].to_list() == [["box", "candle"], ["box", "doily"], ["doily", "candle", "glass"]]


def test_rare_and_stop_words_are_no_tags():
    titles = pl.DataFrame(
        {"item_id": ["a", "b", "c"], "title": ["SET WITH CUP CUP", "SET WITH CUP", "SET WITH JUG JUG"]}
    )
    assert title_words(titles, min_items=2)["words"].to_list() == [["cup"], ["cup"], []]
