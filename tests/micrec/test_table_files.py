"""One file or a folder of part files: the types that every row fits."""

import csv
import gzip
import io
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from micrec.data import table_files
from micrec.data.table_files import open_table
from micrec.errors import MicrecError

CELLS = st.lists(
    st.one_of(
        st.integers(-(10**22), 10**22).map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.sampled_from(["007", "true", "False", "", "  ", " 5 ", "x", "1,5", "12,345", "a;b", '"', "é"]),
    ),
    min_size=1,
    max_size=12,
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def python_type(cells: list[str]) -> type:
    """The narrowest of int, float, bool and str that Python reads every cell as."""
    there = [cell.strip() for cell in cells if cell.strip()]

    def all_are(parse: type) -> bool:
        try:
            for cell in there:
                parse(cell)
        except ValueError:
            return False
        return True

    if not there:
        return str
    if all_are(int):
        return int if all(-(2**63) <= int(cell) < 2**63 for cell in there) else str
    if all_are(float):
        return float
    return bool if all(cell.lower() in ("true", "false") for cell in there) else str


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=CELLS, separator=st.sampled_from([",", ";", "\t", "|"]), guessed=st.sampled_from([1, 2, 10_000]))
def test_a_column_has_the_type_that_all_its_cells_fit(
    cells: list[str], separator: str, guessed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "ROWS_GUESSED", guessed)
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([["row", "value"], *enumerate(cells)])
    table = open_table(write(tmp_path / "t.csv", text.getvalue()))
    found = table.rows.collect()
    assert found["row"].to_list() == list(range(len(cells)))
    kind = python_type(cells)
    if any("decimal comma: 1,5" in note for note in table.notes):
        cells, kind = [cell.replace(",", ".") for cell in cells], float
    expected = [None if not cell.strip() else cell.strip() for cell in cells]
    if kind is bool:
        assert found["value"].to_list() == [None if c is None else c.lower() == "true" for c in expected]
    else:
        assert found["value"].to_list() == [None if c is None else kind(c) for c in expected]


@pytest.mark.parametrize(("late", "dtype"), [("1.5", pl.Float64), ("x", pl.String), ("3", pl.Int64), ("", pl.Int64)])
def test_types_are_those_of_the_whole_file(tmp_path: Path, late: str, dtype: pl.DataType) -> None:
    body = "".join(f"{row},{row}\n" for row in range(10_001))
    found = open_table(write(tmp_path / "t.csv", f"user_id,v\n{body}5,{late}\n")).rows.collect()
    assert found.schema == {"user_id": pl.Int64, "v": dtype}
    assert len(found) == 10_002


def test_empty_cells_first_and_numbers_late(tmp_path: Path) -> None:
    body = "x,\n" * 10_001
    assert open_table(write(tmp_path / "t.csv", f"a,v\n{body}y,7\n")).rows.collect()["v"].to_list()[-1] == 7


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "t.TSV.GZ", "t.csv.zst"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_recognised_in_any_file(tmp_path: Path, name: str, separator: str) -> None:
    text = "\ufeff" + "user_id,arm,note\n1,A,x y\n2,B,\n".replace(",", separator)
    content = text.encode()
    if name.lower().endswith(".gz"):
        content = gzip.compress(content)
    (tmp_path / name).write_bytes(content)
    if name.endswith(".zst"):
        pl.DataFrame({"user_id": [1, 2], "arm": ["A", "B"], "note": ["x y", None]}).lazy().sink_csv(
            tmp_path / name, separator=separator, compression="zstd"
        )
    rows = open_table(tmp_path / name).rows.collect()
    assert rows.to_dict(as_series=False) == {"user_id": [1, 2], "arm": ["A", "B"], "note": ["x y", None]}


def test_words_for_no_value_are_empty_in_a_column_of_numbers_alone(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", "a,b,c\n1,NULL,x\n\\N,1.5,NULL\n 3 ,NaN,y\n"))
    found = table.rows.collect()
    assert found["a"].to_list() == [1, None, 3]
    assert found["b"].to_list()[:2] == [None, 1.5]
    assert found["c"].to_list() == ["x", "NULL", "y"]
    assert any(note.startswith("a: 1 cells such as") for note in table.notes)


def test_a_separator_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a^b\n1^2\n")
    assert open_table(path, separator="^").rows.collect().rows() == [(1, 2)]
    with pytest.raises(MicrecError, match="must be one character"):
        open_table(path, separator="::")


def test_ids_keep_their_zeros_and_numbers_do_not(tmp_path: Path) -> None:
    rows = open_table(write(tmp_path / "t.csv", "user_id,sku,clicks\n007,01,03\n"), spelled=["sku"]).rows.collect()
    assert rows.rows() == [("007", "01", 3)]


def test_decimal_commas_are_read_where_nothing_else_is_meant(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", "a;b;c\n1,5;1,234;1,234,567\n2;12,345;2\n"))
    assert table.rows.collect().rows()[0] == (1.5, "1,234", "1,234,567")
    assert any("a: the numbers are written with a decimal comma" in note for note in table.notes)
    assert sum("may be a decimal comma" in note for note in table.notes) == 2


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (pl.Series([1], dtype=pl.Int32), pl.Series([2**40]), [1, 2**40]),
        (pl.Series([1], dtype=pl.UInt8), pl.Series([-2], dtype=pl.Int16), [1, -2]),
        (pl.Series([1]), pl.Series([2.5]), [1.0, 2.5]),
        (pl.Series([1.5], dtype=pl.Float32), pl.Series([2.5]), [1.5, 2.5]),
        (pl.Series([True]), pl.Series([3]), [1, 3]),
        (pl.Series(["7"]), pl.Series([8]), [7, 8]),
        (pl.Series(["u7"]), pl.Series([8]), ["u7", "8"]),
        (pl.Series(["a"], dtype=pl.Categorical), pl.Series(["b"]), ["a", "b"]),
        (pl.Series([None], dtype=pl.Null), pl.Series([8]), [None, 8]),
        (pl.Series([date(2026, 11, 1)]), pl.Series(["2026-11-02"]), ["2026-11-01", "2026-11-02"]),
        (
            pl.Series([date(2026, 11, 1)]),
            pl.Series([datetime(2026, 11, 2, 5)]),
            [datetime(2026, 11, 1), datetime(2026, 11, 2, 5)],
        ),
        (
            pl.Series([datetime(2026, 11, 1)]).cast(pl.Datetime("ms")),
            pl.Series([datetime(2026, 11, 2)]).cast(pl.Datetime("ns")),
            [datetime(2026, 11, 1), datetime(2026, 11, 2)],
        ),
        (pl.Series([[1]]), pl.Series([[2, 3]]), [[1], [2, 3]]),
    ],
)
def test_parts_of_different_types_are_read_with_the_type_that_holds_both(
    tmp_path: Path, one: pl.Series, two: pl.Series, expected: list
) -> None:
    for number, column in enumerate((one, two)):
        pl.DataFrame({"v": column, "n": [number]}).write_parquet(tmp_path / f"part-{number}.parquet")
    table = open_table(tmp_path)
    assert table.rows.collect(engine="streaming").sort("n")["v"].to_list() == expected
    assert one.dtype == two.dtype or one.dtype == pl.Null or table.notes[0].startswith("v: is ")


def test_types_that_nothing_holds_are_refused_with_file_and_column(tmp_path: Path) -> None:
    pl.DataFrame({"v": [[1]], "t": [datetime(2026, 11, 1)]}).write_parquet(tmp_path / "a.parquet")
    zoned = pl.Series([datetime(2026, 11, 1)]).dt.replace_time_zone("UTC")
    pl.DataFrame({"v": [1], "t": zoned}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(MicrecError, match="2 errors") as fault:
        open_table(tmp_path)
    for part in ("v: is List(Int64) in a.parquet, Int64 in b.parquet", "no type holds both", "t: is Datetime"):
        assert part in str(fault.value)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_folders_name_a_column(tmp_path: Path, kind: str) -> None:
    for day, country in (("2026-11-01", "NO"), ("2026-11-02", "__HIVE_DEFAULT_PARTITION__"), ("2026-11-02", "a%2Fb")):
        folder = tmp_path / "log" / f"day={day}" / f"country={country}" / "week=7"
        folder.mkdir(parents=True)
        frame = pl.DataFrame({"user_id": [1, 2]})
        getattr(frame, f"write_{kind}")(folder / f"part-0.{kind}")
    (tmp_path / "log" / "_SUCCESS").touch()
    (tmp_path / "log" / "_temporary").mkdir()
    pl.DataFrame({"broken": [1]}).write_csv(tmp_path / "log" / "_temporary" / "x.csv")
    rows = open_table(tmp_path / "log").rows.collect().unique().sort("day", "country", "user_id", nulls_last=True)
    assert rows.select("day", "country", "week", "user_id").rows()[::2] == [
        ("2026-11-01", "NO", 7, 1),
        ("2026-11-02", "a/b", 7, 1),
        ("2026-11-02", None, 7, 1),
    ]


def test_csv_parts_may_differ_in_order_separator_and_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y\n1,2\n")
    write(tmp_path / "b.csv", "y;x;z\n3.5;4;late\n")
    table = open_table(tmp_path)
    assert table.rows.collect().rows(named=True) == [{"x": 1, "y": 2.0, "z": None}, {"x": 4, "y": 3.5, "z": "late"}]
    assert any("z: 1 part file lacks the column, a.csv first" in note for note in table.notes)


def test_names_of_columns_are_stripped(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "t.csv", "user_id, item_id,'arm'\n1,2,A\n"))
    assert table.rows.collect().columns == ["user_id", "item_id", "arm"]
    assert "The column ' item_id' is read as 'item_id'." in table.notes


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "line 3 of t.csv has 3 cells and the header 2"),
        ("t.csv", "a,b\nø,1\n".encode("latin-1"), "save the file as UTF-8"),
        ("t.csv", "a,b\n1,1\n".encode("utf-16"), "is written in UTF-16"),
        ("t.csv", b"a,a\n1,1\n", "two columns are called 'a'"),
        ("t.csv", b"", "cannot be read (empty CSV)"),
        ("t.parquet", b"PAR1 no more", "t.parquet: cannot be read ("),
        ("t.xlsx", b"", "the ending tells no format: name it .csv"),
    ],
)
def test_broken_files_are_refused_in_words(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MicrecError) as fault:
        open_table(tmp_path / name).rows.collect()
    assert part in str(fault.value)


def test_a_folder_of_two_kinds_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MicrecError, match="holds no"):
        open_table(tmp_path)
    write(tmp_path / "a.csv", "a\n1\n")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(MicrecError, match="both Parquet and CSV"):
        open_table(tmp_path)


@pytest.mark.parametrize("late", ["7", "1.5", "x", " 8", "", "008", "99999999999999999999", "true", "1,5"])
@pytest.mark.parametrize("early", ["1", "2.5"])
def test_a_late_cell_gives_the_type_that_a_look_at_every_row_gives(tmp_path, monkeypatch, early, late):
    """The quick cast to the guessed type settles nothing that the full count would not."""
    cells = [early] * 40 + [late, early]
    for name in ("u_id", "x"):
        (tmp_path / "log.csv").write_text("\n".join([f"{name},y", *(f'"{cell}",b' for cell in cells)]) + "\n")
        found = []
        for guessed in (20, 1000):
            monkeypatch.setattr(table_files, "ROWS_GUESSED", guessed)
            table = open_table(tmp_path / "log.csv")
            found.append((table.rows.collect(), table.notes))
        assert found[0][0].equals(found[1][0])
        assert found[0][0].schema == found[1][0].schema
        assert found[0][1] == found[1][1]
