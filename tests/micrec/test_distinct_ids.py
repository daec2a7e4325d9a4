"""Text ids of long logs: each id is looked at once, and what is told counts rows."""

import polars as pl
import pytest

from micrec.data import ids
from micrec.data.ids import read_ids


@pytest.mark.parametrize("batch", [1, 7, 1 << 20])
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
    ],
    ids=["lower", "upper", "digits", "fractions", "two cases", "twins", "space", "accents", "empty"],
)
def test_what_is_read_and_told(monkeypatch, batch, values, read, notes):
    monkeypatch.setattr(ids, "_BATCH_ROWS", batch)
    rows = pl.LazyFrame({"u": pl.Series(values, dtype=pl.String)})
    found = read_ids(rows, "u")
    assert rows.select(found.value).collect().to_series().to_list() == read
    assert len(found.notes) == len(notes)
    assert all(note.startswith(part) for note, part in zip(found.notes, notes, strict=True))
