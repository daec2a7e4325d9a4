"""Raw values of nobody's row: encoded like the tables, faults told at once, unknown values named."""

from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from micrec.data.dataset import Dataset, EntityTable
from micrec.data.encoding import encode_table
from micrec.data.schema import FieldType
from micrec.errors import MicrecError
from micrec.field_encoder import FieldEncoder
from micrec.models.columns import FieldColumns, FieldSpec, field_specs, load_columns
from tests.micrec.factories import random_dataset

FIELDS = ["category", "tags", "price"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))


def encoder_of(table: EntityTable, names: list[str], entity: str = "item") -> FieldEncoder:
    return FieldEncoder.of(entity, field_specs(table, names, id_name=f"{entity}_id"), table)


def tiny_encoder() -> FieldEncoder:
    """Numbers with mean 10 and deviation 2; labels a = 1, b = 2 and x = 1, y = 2, z = 3."""
    specs = [
        FieldSpec("item_id", FieldType.ID, size=9, own_id=True),
        FieldSpec("kind", FieldType.CATEGORICAL, size=3),
        FieldSpec("tags", FieldType.MULTI_CATEGORICAL, size=4),
        FieldSpec("price", FieldType.NUMERIC, mean=10.0, std=2.0),
    ]
    return FieldEncoder("item", specs, {"kind": ["a", "b"], "tags": ["x", "y", "z"], "price": []})


def lists(columns: FieldColumns, name: str) -> list[list[int]]:
    values, offsets = columns.multi[name].values.tolist(), columns.multi[name].offsets.tolist()
    return [values[start:stop] for start, stop in pairwise(offsets)]


def assert_same(found: FieldColumns, expected: FieldColumns) -> None:
    ours, theirs = found.tensors(), expected.tensors()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name


def test_rows_of_the_table_come_out_as_the_table_has_them(dataset):
    """All but the own id, which nobody new has."""
    encoder = encoder_of(dataset.items, FIELDS)
    nobody = np.zeros(len(dataset.items), dtype=bool)
    expected = load_columns(dataset.items, encoder.specs, known=nobody)
    assert_same(encoder.encode(dataset.items.frame.select(FIELDS), len(dataset.items)), expected)


def test_text_is_read_as_the_table_was(dataset, tmp_path: Path):
    """What a CSV file holds: numbers as text, | between the values of a cell."""
    items = dataset.items
    text = items.frame.select(pl.col("category"), pl.col("tags").list.join("|"), pl.col("price"))
    text.write_csv(tmp_path / "items.csv")
    frame = pl.read_csv(tmp_path / "items.csv", infer_schema=False)
    encoder = encoder_of(items, FIELDS)
    assert_same(encoder.encode(frame, len(frame)), encoder.encode(items.frame.select(FIELDS), len(items)))


@pytest.mark.parametrize("values", [[3, 1, None, 3], [True, None, False, True], ["x", None, "", "x"]])
def test_labels_of_any_kind(values):
    """Integers, truth values and texts, the empty text among them."""
    table = encode_table(pl.DataFrame({"item_id": range(4), "f": values}), "item_id", {"f": FieldType.CATEGORICAL})
    codes = encoder_of(table, ["f"]).encode(pl.DataFrame({"f": values}), 4).single["f"]
    np.testing.assert_array_equal(codes.numpy(), table.columns["f"].codes)


def test_what_is_missing_or_unknown():
    frame = pl.DataFrame(
        {"kind": ["b", None, "c"], "tags": [["z", "q", "x", "z"], [], None], "price": [14.0, None, 9.0]}
    )
    columns = tiny_encoder().encode(frame, 3)
    assert columns.n == 3
    assert columns.single["item_id"].tolist() == [0, 0, 0]
    assert columns.single["kind"].tolist() == [2, 0, 0]
    assert lists(columns, "tags") == [[3, 1], [], []]
    assert columns.numbers["price"].tolist() == [2.0, 0.0, -0.5]
    assert tiny_encoder().unknown_values(frame) == {"kind": ["c"], "tags": ["q"]}


def test_no_fields_at_all():
    columns = tiny_encoder().encode(pl.DataFrame(), 2)
    assert columns.single["kind"].tolist() == [0, 0]
    assert lists(columns, "tags") == [[], []]
    assert columns.numbers["price"].tolist() == [0.0, 0.0]
    assert tiny_encoder().unknown_values(pl.DataFrame()) == {}


def test_all_faults_at_once():
    frame = pl.DataFrame(
        {"colour": ["red"], "item_id": ["i1"], "kind": [["a"]], "tags": ["x"], "price": ["1e999"]},
    )
    with pytest.raises(MicrecError) as caught:
        tiny_encoder().encode(frame, 1)
    assert str(caught.value).splitlines() == [
        "item fields: 4 errors",
        "  - colour: unknown field: the model reads kind, tags, price: leave it out",
        "  - item_id: unknown field: the model reads kind, tags, price: leave it out",
        "  - kind: takes one value, got a list: give one, or leave the field out",
        "  - price: must be a finite number, got '1e999': give a number, or leave the field out",
    ]


def test_a_model_without_fields_says_so():
    with pytest.raises(MicrecError, match="user fields: age: unknown field: the model reads no user field"):
        FieldEncoder("user", [], {}).encode(pl.DataFrame({"age": [3]}), 1)


@pytest.mark.parametrize("value", ["old", "nan", [3.0], float("inf"), "4e38"])
def test_numbers_must_be_finite(value):
    frame = pl.DataFrame({"price": [value]})
    if value == "nan":  # what tables write for a missing number
        assert tiny_encoder().encode(frame, 1).numbers["price"].tolist() == [0.0]
        return
    with pytest.raises(MicrecError, match=r"price: (must be a finite number|takes one number), got"):
        tiny_encoder().encode(frame, 1)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["a", "b", "c", None]),
                "tags": st.none() | st.lists(st.sampled_from("xyzq"), max_size=5),
                "price": st.none() | st.floats(-1e6, 1e6, width=32),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_row_stands_for_itself(rows):
    """Encoding rows one by one, in plain Python, gives the same."""
    schema = {"kind": pl.String, "tags": pl.List(pl.String), "price": pl.Float64}
    columns = tiny_encoder().encode(pl.DataFrame(rows, schema=schema), len(rows))
    kinds, tags = {"a": 1, "b": 2}, {"x": 1, "y": 2, "z": 3}
    assert columns.single["kind"].tolist() == [kinds.get(row["kind"], 0) for row in rows]
    expected = [[tags[t] for t in dict.fromkeys(row["tags"] or []) if t in tags] for row in rows]
    assert lists(columns, "tags") == expected
    prices = [0.0 if row["price"] is None else (row["price"] - 10.0) / 2.0 for row in rows]
    np.testing.assert_allclose(columns.numbers["price"].numpy(), prices, rtol=1e-6)


def numbered_encoder() -> FieldEncoder:
    """Labels that were whole numbers, truth values, text, and a list of whole numbers."""
    labels = {"band": ["1", "12", "7"], "member": ["false", "true"], "country": ["fr", "uk"], "shelves": ["3", "4"]}
    labels["age"] = []
    kinds = dict.fromkeys(labels, FieldType.CATEGORICAL)
    kinds |= {"shelves": FieldType.MULTI_CATEGORICAL, "age": FieldType.NUMERIC}
    specs = [FieldSpec(name, kinds[name], size=len(found) + 1 if found else 0) for name, found in labels.items()]
    return FieldEncoder("user", specs, labels)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("country", 3, "takes text such as 'fr' or 'uk', got 3 (int)"),
        ("country", 2.5, "takes text such as 'fr' or 'uk', got 2.5 (float)"),
        ("country", True, "takes text such as 'fr' or 'uk', got True (bool)"),
        ("country", b"uk", "takes text such as 'fr' or 'uk', got b'uk' (bytes)"),
        ("country", ["uk"], "takes one value, got a list"),
        ("country", {"uk": 1}, "takes text such as 'fr' or 'uk', got {'uk': 1} (dict)"),
        ("country", np.int64(3), "takes text such as 'fr' or 'uk', got"),
        ("band", 1.5, "takes a whole number such as 1 or 12, got 1.5 (float)"),
        ("band", True, "takes a whole number such as 1 or 12, got True (bool)"),
        ("band", float("inf"), "takes a whole number such as 1 or 12, got inf (float)"),
        ("member", 1, "takes text such as 'false' or 'true', got 1 (int)"),
        ("shelves", 3, "takes a list, or text with | between the values, got 3 (int)"),
        ("shelves", [3, "4", 4.5], "takes a whole number such as 3 or 4, got 4.5 (float)"),
        ("shelves", [[3]], "takes a whole number such as 3 or 4, got [3] (list)"),
        ("shelves", {3, 4}, "takes a list, or text with | between the values, got"),
        ("age", [3], "must be a finite number, got [3] (list)"),
        ("age", "old", "must be a finite number, got 'old'"),
        ("age", b"3", "must be a finite number, got b'3' (bytes)"),
        ("age", float("inf"), "must be a finite number, got inf"),
        ("age", object, "must be a finite number, got <class 'object'> (type)"),
        ("age", 10**400, "must be a finite number, got"),
    ],
)
def test_values_of_another_type_are_told(field, value, told):
    encoder = numbered_encoder()
    with pytest.raises(MicrecError) as refused:
        encoder.encode(encoder.row({field: value}), 1)
    assert f"user fields: {field}: {told}" in str(refused.value)
    assert "or leave the field out" in str(refused.value)


def test_values_of_the_right_type_are_read():
    encoder = numbered_encoder()
    values = {"country": "uk", "band": 12, "member": True, "shelves": [4, "3", None, 4], "age": np.float32(5)}
    found = encoder.encode(encoder.row(values), 1)
    codes = {name: found.single[name].item() for name in ("country", "band", "member")}
    assert codes == {"country": 2, "band": 2, "member": 2}
    assert lists(found, "shelves") == [[2, 1]]
    assert found.numbers["age"].item() == 5.0
    for name, value in {"band": 7.0, "shelves": np.array([3.0, 4.0]), "age": "5", "country": np.str_("fr")}.items():
        found = encoder.encode(encoder.row({name: value}), 1)
        if name == "shelves":
            assert lists(found, name) == [[1, 2]]
        elif name == "age":
            assert found.numbers[name].item() == 5.0
        else:
            assert found.single[name].item() == {"band": 3, "country": 1}[name]
    nothing = encoder.encode(encoder.row(dict.fromkeys(values)), 1)
    assert [nothing.single[name].item() for name in codes] == [0, 0, 0]
    assert encoder.encode(encoder.row({"country": float("nan")}), 1).single["country"].item() == 0


def test_all_values_of_another_type_are_told_at_once():
    with pytest.raises(MicrecError, match=r"user fields: 3 errors\n  - contry: unknown(.|\n)*country: (.|\n)*age: "):
        numbered_encoder().row({"contry": "uk", "country": 3, "age": []})
    with pytest.raises(MicrecError, match=r"user fields: must be a mapping of values by field, got \['uk'\] \(list\)"):
        numbered_encoder().row(["uk"])


@pytest.mark.parametrize(
    ("field", "column", "told"),
    [
        ("country", [3, 4], "takes text such as 'fr' or 'uk', got a column of Int64, 3 first"),
        ("country", [0.5, None], "takes text such as 'fr' or 'uk', got a column of Float64, 0.5 first"),
        ("band", [1.5, 1.0], "takes a whole number such as 1 or 12, got a column of Float64, 1.5 first"),
        ("band", [True, False], "takes a whole number such as 1 or 12, got a column of Boolean, True first"),
        ("country", [[1], [2]], "takes one value, got a list"),
        ("shelves", [3, 4], "takes lists, or text with | between the values, got a column of Int64"),
        ("shelves", [[0.5], [3.0]], "takes a whole number such as 3 or 4, got a column of Float64, 0.5 first"),
        ("age", [date(2026, 1, 1)] * 2, "takes numbers, got a column of Date"),
    ],
)
def test_columns_of_another_type_are_told(field, column, told):
    with pytest.raises(MicrecError) as refused:
        numbered_encoder().encode(pl.DataFrame({field: column}), 2)
    assert f"user fields: {field}: {told}" in str(refused.value)


def test_integers_that_became_fractions_for_gaps_are_read_as_integers():
    frame = pl.DataFrame({"band": [12.0, None, float("nan")], "shelves": [[4.0, None], None, [3.0, float("nan")]]})
    found = numbered_encoder().encode(frame, 3)
    assert found.single["band"].tolist() == [2, 0, 0]
    assert lists(found, "shelves") == [[2], [], [1]]
