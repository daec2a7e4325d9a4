"""Ids that look alike to the eye are one, whatever writes them; against Python's own Unicode."""

import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.data.ids import read_ids

names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
decorations = st.sampled_from(["{}", " {}", "{} ", "\t{}\n", "\u200b{}", "{}\ufeff", "\u00a0{} "])


def ids_of(values: pl.Series, **options) -> list:
    rows = pl.LazyFrame({"id": values})
    found = read_ids(rows, "id", **options)
    assert found.faults == ()
    return rows.select(found.value.alias("id")).collect()["id"].to_list()


@settings(max_examples=150, deadline=None)
@given(plain=st.lists(names.filter(lambda text: text.strip() != ""), min_size=1, max_size=6), data=st.data())
def test_decorated_text_is_the_same_id(plain: list[str], data: st.DataObject) -> None:
    written = [
        data.draw(decorations).format(unicodedata.normalize(data.draw(st.sampled_from(["NFC", "NFD"])), text))
        for text in plain
    ]
    for dtype in (pl.String, pl.Categorical):
        found = ids_of(pl.Series(written, dtype=dtype))
        expected = [unicodedata.normalize("NFC", text) for text in plain]
        if all(isinstance(one, str) for one in found):
            assert found == expected
        else:  # all were written as 7.0
            assert [f"{one}.0" for one in found] == [text.rstrip("0") + "0" for text in expected]


@settings(max_examples=100, deadline=None)
@given(numbers=st.lists(st.integers(-(2**53) + 1, 2**53 - 1), min_size=1, max_size=6))
@pytest.mark.parametrize("kind", ["Int64", "Float64", "text", "text.0", "Decimal"])
def test_whole_numbers_are_the_same_ids_in_any_column(kind: str, numbers: list[int]) -> None:
    columns = {
        "Int64": pl.Series(numbers, dtype=pl.Int64),
        "Float64": pl.Series([float(n) for n in numbers]),
        "text": pl.Series([str(n) for n in numbers]),
        "text.0": pl.Series([f"{n}.0" for n in numbers]),
        "Decimal": pl.Series([str(n) for n in numbers]).cast(pl.Decimal(38, 2)),
    }
    assert [int(one) for one in ids_of(columns[kind])] == numbers
    assert ids_of(pl.Series([f"{n:020d}" if n >= 0 else str(n) for n in numbers]), spelling="number") == numbers


@pytest.mark.parametrize("value", [1.5, 2.0**53, float("inf")])
def test_fractions_are_no_ids(value: float) -> None:
    found = read_ids(pl.LazyFrame({"id": [1.0, value]}), "id")
    assert found.faults[0].startswith("id: is a column of fractions, in which large ids run together (1 of 2")


def test_text_that_is_some_number_and_some_not_stays_text_and_is_refused_as_numbers() -> None:
    rows = pl.LazyFrame({"id": ["007", "x"]})
    assert ids_of(rows.collect()["id"]) == ["007", "x"]
    assert "1 of 2 ids are not whole numbers, 'x' first" in read_ids(rows, "id", spelling="number").faults[0]


def test_case_is_told_or_folded() -> None:
    rows = pl.LazyFrame({"id": ["Ann", "ann", "ANN", "bob", "Cy"]})
    assert read_ids(rows, "id").notes == (
        "id: 1 ids differ from another by upper case alone, such as 'ANN' and 'Ann'.",
    )
    assert ids_of(rows.collect()["id"], spelling="lower") == ["ann", "ann", "ann", "bob", "cy"]
