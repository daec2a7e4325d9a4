"""Raw values of nobody's row: encoded like the tables, faults told at once, unknown values named."""

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
        "item fields: 4 faults",
        "  - colour: unknown field: the model reads kind, tags, price",
        "  - item_id: unknown field: the model reads kind, tags, price",
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
