"""Raw field values of users and items that are in no table yet, encoded as the model knows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from micrec.data.dataset import EntityTable
from micrec.data.encoding import IdMap
from micrec.data.schema import FieldType
from micrec.data.validation import as_lists
from micrec.errors import MicrecError
from micrec.models.columns import FieldColumns, FieldSpec, Ragged

SEPARATOR = "|"  # between the values of a multi-valued field that is given as text
EXAMPLES = 3


@dataclass(frozen=True)
class FieldEncoder:
    """The fields of one side of the model, and their vocabularies.

    A frame holds one column per field, of the types that the dataset had or as text; a field that is not there is
    missing, as is a null. A value outside the vocabulary is read as missing too, and ``unknown_values`` names it.

    Attributes:
        entity: ``user`` or ``item``, for messages.
        specs: The fields that the model embeds, in order. The own id is not read: nobody new has an id row.
        labels: By field, the outside value of code 1, 2 ...; numeric fields have none.
    """

    entity: str
    specs: Sequence[FieldSpec]
    labels: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, entity: str, specs: Sequence[FieldSpec], table: EntityTable) -> "FieldEncoder":
        """The encoder of the fields ``specs`` as ``table`` encodes them."""
        return cls(entity, specs, {spec.name: table.columns[spec.name].labels for spec in specs if not spec.own_id})

    @property
    def fields(self) -> list[str]:
        """Names of the fields that may be given."""
        return [spec.name for spec in self.specs if not spec.own_id]

    def encode(self, frame: pl.DataFrame, n: int) -> FieldColumns:
        """The rows of ``frame`` as the towers read them.

        Args:
            frame: One column per field that is given; none if there is none.
            n: Number of rows, which a frame without columns cannot tell.

        Raises:
            MicrecError: If a column is no field of the model, or holds values of the wrong kind; all faults at once.
        """
        faults = self._unknown_fields(frame)
        columns = FieldColumns(n=n, single={}, multi={}, numbers={})
        for spec in self.specs:
            given = spec.name in frame.columns and not spec.own_id
            values = frame[spec.name] if given else pl.repeat(None, n, dtype=pl.String, eager=True).alias(spec.name)
            try:
                self._encode_field(spec, values, columns)
            except MicrecError as fault:
                faults.append(str(fault))
        if faults:
            raise MicrecError.of(f"{self.entity} fields", faults)
        return columns

    def unknown_values(self, frame: pl.DataFrame) -> dict[str, list[str]]:
        """By field, the distinct values that the model does not know and reads as missing."""
        unknown = {}
        for spec in self.specs:
            if spec.name not in frame.columns or spec.name not in self._maps:
                continue
            values = _texts(frame[spec.name]).explode() if spec.multi_valued else _single(frame[spec.name])
            values = values.drop_nulls().unique(maintain_order=True)
            if found := values.filter(pl.Series(self._maps[spec.name].positions(values) < 0)).to_list():
                unknown[spec.name] = found
        return unknown

    @cached_property
    def _maps(self) -> dict[str, IdMap]:
        return {
            spec.name: IdMap(pl.Series(self.labels[spec.name], dtype=pl.String))
            for spec in self.specs
            if spec.size and not spec.own_id
        }

    def _unknown_fields(self, frame: pl.DataFrame) -> list[str]:
        there_are = (
            f"the model reads {', '.join(self.fields)}" if self.fields else f"the model reads no {self.entity} field"
        )
        return [f"{name}: unknown field: {there_are}" for name in frame.columns if name not in self.fields]

    def _encode_field(self, spec: FieldSpec, values: pl.Series, columns: FieldColumns) -> None:
        if spec.type is FieldType.NUMERIC:
            columns.numbers[spec.name] = torch.from_numpy(spec.standardise(_numbers(values)))
        elif spec.own_id:
            columns.single[spec.name] = torch.zeros(len(values), dtype=torch.int32)
        elif spec.multi_valued:
            columns.multi[spec.name] = self._encode_lists(spec.name, values)
        else:
            columns.single[spec.name] = torch.from_numpy(self._codes(spec.name, _single(values)))

    def _codes(self, name: str, values: pl.Series) -> NDArray[np.int32]:
        return self._maps[name].positions(values) + np.int32(1)  # 0 = missing or unknown

    def _encode_lists(self, name: str, values: pl.Series) -> Ragged:
        """As the dataset's own lists: a value counts once per row, in the order of first mention."""
        lists = _texts(values).list.drop_nulls().list.unique(maintain_order=True)
        lengths = lists.list.len().fill_null(0).to_numpy()
        rows = np.repeat(np.arange(len(lists)), lengths)
        codes = self._codes(name, lists.filter(pl.Series(lengths > 0)).explode())
        offsets = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows[codes > 0], minlength=len(lists)), out=offsets[1:])
        return Ragged(torch.from_numpy(codes[codes > 0]), torch.from_numpy(offsets))


def _texts(values: pl.Series) -> pl.Series:
    """A list column of texts from lists, or from texts with ``|`` between the values."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return as_lists(values).cast(pl.List(pl.String))
    return values.cast(pl.String).str.split(SEPARATOR)


def _single(values: pl.Series) -> pl.Series:
    if values.dtype.is_nested():
        raise MicrecError(f"{values.name}: takes one value, got a list: give one, or leave the field out")
    return values.cast(pl.String)


def _numbers(values: pl.Series) -> NDArray[np.float32]:
    """NaN = missing. By way of Float64, as a dataset's numbers come, so that both round alike."""
    if values.dtype.is_nested():
        raise MicrecError(f"{values.name}: takes one number, got a list: give one, or leave the field out")
    numbers = values.cast(pl.Float64, strict=False).cast(pl.Float32)
    bad = (numbers.is_null() & values.is_not_null()) | numbers.is_infinite().fill_null(False)
    if bad.any():
        first = ", ".join(repr(value) for value in values.filter(bad).head(EXAMPLES).to_list())
        raise MicrecError(f"{values.name}: must be a finite number, got {first}: give a number, or leave the field out")
    return numbers.fill_null(float("nan")).to_numpy(writable=True)
