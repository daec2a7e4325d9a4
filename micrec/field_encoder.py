"""Raw field values of users and items that are in no table yet, encoded as the model knows them."""

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from numbers import Real
from typing import Any

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
_CURE = "or leave the field out"
_LISTS = (list, tuple, np.ndarray, pl.Series)
_TRUTH_VALUES = {"true", "false"}


@dataclass(frozen=True)
class FieldEncoder:
    """The fields of one side of the model, and their vocabularies.

    A frame holds one column per field, of the types that the dataset had or as text; a field that is not there is
    missing, as is a null. A value of another type is refused. A value of the right type that is outside the vocabulary
    is read as missing, and ``unknown_values`` names it.

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

    def row(self, values: Mapping[str, Any]) -> pl.DataFrame:
        """One row for ``encode`` from plain values.

        Args:
            values: By field: text or whole numbers as the dataset had them, numbers, or for a multi-valued field a
                list of them, or text with ``|`` between them; None is missing.

        Raises:
            MicrecError: If a name is no field of the model, or a value is of another type; all errors at once.
        """
        if not isinstance(values, Mapping):
            raise MicrecError(
                f"{self.entity} fields: must be a mapping of values by field, got {_shown(values)}: give "
                "{} where none is known."
            )
        specs = {spec.name: spec for spec in self.specs if not spec.own_id}
        faults = self._unknown_fields(values)
        columns = {}
        for name, value in values.items():
            try:
                if name in specs:
                    columns[name] = self._cell(specs[name], value)
            except MicrecError as fault:
                faults.append(str(fault))
        if faults:
            raise MicrecError.of(f"{self.entity} fields", faults)
        return pl.DataFrame(columns)

    def encode(self, frame: pl.DataFrame, n: int) -> FieldColumns:
        """The rows of ``frame`` as the towers read them.

        Args:
            frame: One column per field that is given; none if there is none.
            n: Number of rows, which a frame without columns cannot tell.

        Raises:
            MicrecError: If a column is no field of the model, or holds values of the wrong kind; all errors at once.
        """
        faults = self._unknown_fields(frame.columns)
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
            given = frame[spec.name]
            values = self._texts(spec.name, given).explode() if spec.multi_valued else self._single(spec.name, given)
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

    def _unknown_fields(self, names: Iterable[str]) -> list[str]:
        there_are = (
            f"the model reads {', '.join(self.fields)}" if self.fields else f"the model reads no {self.entity} field"
        )
        return [f"{name}: unknown field: {there_are}: leave it out" for name in names if name not in self.fields]

    # -- one value -----------------------------------------------------------------------------------------------

    def _cell(self, spec: FieldSpec, value: Any) -> pl.Series:
        """One value as a series of length 1."""
        if spec.type is FieldType.NUMERIC:
            kind = pl.String if isinstance(value, str) else pl.Float64
            number = pl.Series(spec.name, [_number(spec.name, value)], dtype=kind)
            _numbers(number)  # refuses what is none
            return number
        if not spec.multi_valued:
            if isinstance(value, _LISTS):
                raise MicrecError(f"{spec.name}: takes one value, got a list: give one, {_CURE}")
            return pl.Series([self._label(spec.name, value)], dtype=pl.String)
        if value is None or isinstance(value, str):
            return pl.Series([value], dtype=pl.String)
        if not isinstance(value, _LISTS):
            raise MicrecError(
                f"{spec.name}: takes a list, or text with {SEPARATOR} between the values, got {_shown(value)}: give "
                f"a list, {_CURE}"
            )
        return pl.Series([[self._label(spec.name, one) for one in value]], dtype=pl.List(pl.String))

    def _label(self, name: str, value: Any) -> str | None:
        """A value of a field of labels as the vocabulary spells it; None if it is missing."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool | np.bool_):
            if self._holds_truth_values(name):
                return str(bool(value)).lower()
        elif isinstance(value, Real):
            if value != value:  # NaN, as pandas writes what is missing
                return None
            if self._holds_integers(name) and value % 1 == 0:
                return str(int(value))  # type: ignore[call-overload]
        raise MicrecError(f"{name}: {self._wants(name)}, got {_shown(value)}: give that, {_CURE}")

    def _wants(self, name: str) -> str:
        known = list(self.labels.get(name, ()))[:2]
        kind = "a whole number" if self._holds_integers(name) and known else "text"
        shown = known if kind == "a whole number" else map(repr, known)
        return f"takes {kind}" + (f" such as {' or '.join(shown)}" if known else "")

    def _holds_integers(self, name: str) -> bool:
        """Whether the values of a field were whole numbers, or may have been."""
        return name in self._integer_fields

    def _holds_truth_values(self, name: str) -> bool:
        return {label.lower() for label in self.labels.get(name, ())} <= _TRUTH_VALUES

    @cached_property
    def _integer_fields(self) -> frozenset[str]:
        return frozenset(
            name for name, labels in self.labels.items() if all(re.fullmatch(r"[+-]?\d+", label) for label in labels)
        )

    # -- a column of values --------------------------------------------------------------------------------------

    def _encode_field(self, spec: FieldSpec, values: pl.Series, columns: FieldColumns) -> None:
        if spec.type is FieldType.NUMERIC:
            columns.numbers[spec.name] = torch.from_numpy(spec.standardise(_numbers(values)))
        elif spec.own_id:
            columns.single[spec.name] = torch.zeros(len(values), dtype=torch.int32)
        elif spec.multi_valued:
            columns.multi[spec.name] = self._encode_lists(spec.name, values)
        else:
            columns.single[spec.name] = torch.from_numpy(self._codes(spec.name, self._single(spec.name, values)))

    def _codes(self, name: str, values: pl.Series) -> NDArray[np.int32]:
        return self._maps[name].positions(values) + np.int32(1)  # 0 = missing or unknown

    def _encode_lists(self, name: str, values: pl.Series) -> Ragged:
        """As the dataset's own lists: a value counts once per row, in the order of first mention."""
        lists = self._texts(name, values).list.drop_nulls().list.unique(maintain_order=True)
        lengths = lists.list.len().fill_null(0).to_numpy()
        rows = np.repeat(np.arange(len(lists)), lengths)
        codes = self._codes(name, lists.filter(pl.Series(lengths > 0)).explode())
        offsets = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows[codes > 0], minlength=len(lists)), out=offsets[1:])
        return Ragged(torch.from_numpy(codes[codes > 0]), torch.from_numpy(offsets))

    def _texts(self, name: str, values: pl.Series) -> pl.Series:
        """A list column of texts from lists, or from texts with ``|`` between the values."""
        if isinstance(values.dtype, pl.List | pl.Array):
            lists = as_lists(values)
            self._single(name, lists.explode())  # refuses what the values cannot be
            if lists.dtype.inner.is_float():  # type: ignore[attr-defined]
                lists = lists.list.eval(pl.element().fill_nan(None)).cast(pl.List(pl.Int64))
            return lists.cast(pl.List(pl.String))
        if values.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            raise MicrecError(
                f"{name}: takes lists, or text with {SEPARATOR} between the values, got a column of {values.dtype}: "
                f"give lists, {_CURE}"
            )
        return values.cast(pl.String).str.split(SEPARATOR)

    def _single(self, name: str, values: pl.Series) -> pl.Series:
        """A column of texts from one of labels.

        Raises:
            MicrecError: If its type is none that the field can have had.
        """
        dtype = values.dtype
        if dtype.is_nested():
            raise MicrecError(f"{name}: takes one value, got a list: give one, {_CURE}")
        if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
            return values.cast(pl.String)
        if dtype == pl.Boolean and self._holds_truth_values(name):
            return values.cast(pl.String)
        if self._holds_integers(name):
            if dtype.is_integer():
                return values.cast(pl.String)
            if dtype.is_float() and (values.drop_nans().drop_nulls() % 1 == 0).all():  # integers with gaps, of pandas
                return values.fill_nan(None).cast(pl.Int64).cast(pl.String)
        first = f", {values.drop_nulls()[0]!r} first" if values.count() else ""
        raise MicrecError(f"{name}: {self._wants(name)}, got a column of {dtype}{first}: give that, {_CURE}")


def _number(name: str, value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value  # text is read, or refused, where columns are
    try:
        if isinstance(value, Real | Decimal | np.bool_):
            return float(value)
    except OverflowError:  # an integer beyond all floats
        pass
    raise MicrecError(f"{name}: must be a finite number, got {_shown(value)}: give a number, {_CURE}")


def _shown(value: Any) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def _numbers(values: pl.Series) -> NDArray[np.float32]:
    """NaN = missing. By way of Float64, as a dataset's numbers come, so that both round alike."""
    if values.dtype.is_nested():
        raise MicrecError(f"{values.name}: takes one number, got a list: give one, {_CURE}")
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Boolean, pl.Null, pl.Categorical, pl.Enum)):
        raise MicrecError(f"{values.name}: takes numbers, got a column of {values.dtype}: give numbers, {_CURE}")
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    numbers = values.cast(pl.Float64, strict=False).cast(pl.Float32)
    bad = (numbers.is_null() & values.is_not_null()) | numbers.is_infinite().fill_null(False)
    if bad.any():
        first = ", ".join(repr(value) for value in values.filter(bad).head(EXAMPLES).to_list())
        raise MicrecError(f"{values.name}: must be a finite number, got {first}: give a number, {_CURE}")
    return numbers.fill_null(float("nan")).to_numpy(writable=True)
