"""Text ids of long logs: each id is looked at once, and what is told counts rows."""

import polars as pl
import pytest

from micrec.data.ids import read_ids


@pytest.mark.parametrize(
    ("values", "read", "notes"),
    [
        (["u1", "u2-x", None] * 5, ["u1", "u2-x", None] * 5, []),
        (["A1", "A2"] * 5, ["A1", "A2"] * 5, []),
        (["1.5", "2"] * 5, ["1.5", "2"] * 5, []),
        (["1.0", "2.0"] * 5, [1, 2] * 5, ["u: ids such as 1.0 are read as whole numbers, 1."]),
        (["A", "b"] * 5, ["A", "b"] * 5, []),
        (["a", "A", "b"] * 5, ["a", "A", "b"] * 5, ["u: 1 ids differ from another by upper case alone, such as"]),
        (["x"] * 9 + [" x"] * 4, ["x"] * 13, ["u: 4 ids were read without white space or invisible characters."]),
        (["é"] * 3 + ["e\u0301"] * 2, ["é"] * 5, ["u: 2 ids were read without"]),
        ([None] * 4, [None] * 4, []),
        (["a", ""] * 3, ["a", None] * 3, []),
    ],
    ids=["lower", "upper", "digits", "fractions", "two cases", "twins", "space", "accents", "empty", "blank"],
)
def test_what_is_read_and_told(values, read, notes):
    rows = pl.LazyFrame({"u": pl.Series(values, dtype=pl.String)})
    found = read_ids(rows, "u")
    assert rows.select(found.value).collect().to_series().to_list() == read
    assert len(found.notes) == len(notes)
    assert all(note.startswith(part) for note, part in zip(found.notes, notes, strict=True))


@pytest.mark.parametrize(
    ("values", "scale", "read"),
    [
        (["7", "-12", None], 0, [7, -12, None]),
        (["7", "12"], 9, [7, 12]),
        (["900719925474099312", "900719925474099313"], 0, [900719925474099312, 900719925474099313]),
        (
            ["12345678901234567890123", "12345678901234567890124"],
            2,
            ["12345678901234567890123", "12345678901234567890124"],
        ),
        (["100", "1000"], 2, [100, 1000]),
    ],
    ids=["numbers", "with places", "beyond floats", "beyond integers", "zeros at the end"],
)
def test_decimal_ids_are_exact(values, scale, read):
    """A warehouse's NUMERIC: no two ids run together, however long."""
    column = pl.Series(values, dtype=pl.String).cast(pl.Decimal(38, scale))
    rows = pl.LazyFrame({"u": column})
    assert rows.select(read_ids(rows, "u").value).collect().to_series().to_list() == read


def test_decimal_ids_with_fractions_are_refused():
    rows = pl.LazyFrame({"u": pl.Series(["1.50", "2.00"]).cast(pl.Decimal(10, 2))})
    assert read_ids(rows, "u").faults == ("u: 1 of 2 ids are not whole numbers: write integers or text.",)
