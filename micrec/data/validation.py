"""What makes a dataset valid; every rule that is broken is named with its rows and its cure, all at once."""

import reprlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.datatypes import DataTypeClass

from micrec.data.schema import DatasetSchema, FieldType
from micrec.errors import MicrecError

EXAMPLES = 3
FLOAT32_MAX = float(np.finfo(np.float32).max)
ROLE_TYPES = {
    "title": (FieldType.TEXT,),
    "category": (FieldType.CATEGORICAL, FieldType.ID),
    "taxonomy": (FieldType.CATEGORICAL, FieldType.MULTI_CATEGORICAL, FieldType.ID),
    "content": (FieldType.VECTOR,),
}


class TableSource(NamedTuple):
    """Where a frame comes from: its file, the part of a log in several files, and the row it starts at."""

    file: str
    part: str = ""
    first_row: int = 0


@dataclass
class _BrokenRule:
    count: int = 0
    total: int = 0
    examples: list[str] = field(default_factory=list)


class Faults:
    """Collects errors of input; a rule that rows of many chunks of a log break is one error, with its first rows."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._rules: dict[tuple[str, str, str], _BrokenRule] = {}

    def add(self, text: str) -> None:
        """Add an error once, however often it occurs."""
        self._texts.setdefault(text)

    def rows(self, source: TableSource, values: pl.Series, bad: pl.Series, rule: str, cure: str) -> None:
        """Count the rows where ``bad`` holds (null = not bad); ``values`` is the column as the user wrote it."""
        broken = self._rules.setdefault((f"{source.file}: {values.name}", rule, cure), _BrokenRule())
        broken.total += len(bad)
        rows = bad.fill_null(False).arg_true()
        broken.count += len(rows)
        for row in rows.head(EXAMPLES - len(broken.examples)):
            place = f"{source.part} row" if source.part else "row"
            broken.examples.append(
                f"{place} {source.first_row + row}: {reprlib.repr(values.slice(row, 1).to_list()[0])}"
            )

    def scanned_rows(
        self, source: TableSource, rows: pl.LazyFrame, name: str, bad: pl.Expr, rule: str, cure: str
    ) -> None:
        """As ``rows`` for column ``name`` of a table that is not in memory; it is read again if a row is bad."""
        broken = self._rules.setdefault((f"{source.file}: {name}", rule, cure), _BrokenRule())
        marked = rows.select(pl.col(name), bad.fill_null(False).alias("bad\x1f"))
        total, count = marked.select(pl.len(), pl.col("bad\x1f").sum()).collect(engine="streaming").row(0)
        broken.total += total
        broken.count += count
        if count:
            first = marked.with_row_index("row\x1f").filter(pl.col("bad\x1f")).head(EXAMPLES - len(broken.examples))
            for value, _, row in first.select(name, "bad\x1f", "row\x1f").collect(engine="streaming").iter_rows():
                broken.examples.append(f"row {source.first_row + row}: {reprlib.repr(value)}")

    def texts(self) -> list[str]:
        """One line per error, in the order in which they were first looked for."""
        found = list(self._texts)
        for (place, rule, cure), broken in self._rules.items():
            if broken.count:
                examples = "; ".join(broken.examples) + ("; ..." if broken.count > len(broken.examples) else "")
                found.append(f"{place}: {rule} in {broken.count:,} of {broken.total:,} rows ({examples}): {cure}")
        return found

    def raise_any(self, heading: str) -> None:
        """Raise what was found, if anything.

        Raises:
            MicrecError: All errors, one line each.
        """
        if texts := self.texts():
            raise MicrecError.of(f"{heading} (rows count from 0)", texts)


def check_schema(schema: DatasetSchema, faults: Faults) -> None:
    """Field names that are taken, and roles that name no field or one of the wrong type."""
    for table, key in (("users", "user_id"), ("items", "item_id")):
        if key in getattr(schema, table):
            faults.add(f"dataset.yaml: {table}.{key}: {key} is the key of {table}.parquet, not a field: remove it")
    for role, types in ROLE_TYPES.items():
        name = getattr(schema.roles, role)
        wanted = " or ".join(types)
        if name is None:
            continue
        if name not in schema.items:
            fields = ", ".join(schema.items) or "none"
            faults.add(f"dataset.yaml: roles.{role}: no item field {name!r} (fields: {fields}): name a {wanted} field")
        elif schema.items[name] not in types:
            faults.add(
                f"dataset.yaml: roles.{role}: item field {name!r} is {schema.items[name]}, not {wanted}: "
                f"name another field, or null"
            )


def check_table(
    source: TableSource, table: pl.DataFrame, key: str, fields: dict[str, FieldType], faults: Faults
) -> None:
    """Check the user or item table: the ids of column ``key``, and each field against its declared type."""
    if table.is_empty():
        faults.add(f"{source.file}: the table is empty: write one row per {key}")
    require_columns(source, table.columns, [key, *fields], faults)
    if key in table.columns and ids_or_fault(source, table[key], faults):
        repeated = table[key].is_duplicated() & table[key].is_not_null()
        faults.rows(source, table[key], repeated, "repeated id", f"keep one row per {key}")
    for name, field_type in fields.items():
        if name in table.columns:
            check_field(source, table[name], field_type, faults)


def require_columns(source: TableSource, columns: list[str], required: list[str], faults: Faults) -> None:
    """Each of ``required`` that the file lacks is a fault."""
    place = f"{source.file}/{source.part}" if source.part else source.file
    for name in required:
        if name not in columns:
            faults.add(f"{place}: {name}: missing column (there are: {', '.join(columns)}): add or rename it")


def ids_or_fault(source: TableSource, ids: pl.Series, faults: Faults) -> bool:
    """Whether a column holds outside ids, integers that fit 64 bits or strings; null ids are a fault."""
    faults.rows(source, ids, ids.is_null(), "null id", "give each row its id")
    if id_kind(ids) is None and ids.dtype != pl.Null:
        faults.add(f"{source.file}: {ids.name}: ids are integers or strings, not {ids.dtype}: cast to Int64 or String")
    return id_kind(ids) is not None


def id_kind(ids: pl.Series) -> str | None:
    """``integer`` or ``string``; None for anything else, a UInt64 beyond Int64 included."""
    if ids.dtype in (pl.UInt64, pl.Int128):
        return "integer" if ids.cast(pl.Int64, strict=False).null_count() == ids.null_count() else None
    if ids.dtype.is_integer():
        return "integer"
    return "string" if ids.dtype in (pl.String, pl.Categorical, pl.Enum) else None


def check_field(source: TableSource, values: pl.Series, field_type: FieldType, faults: Faults) -> None:
    """Check one column of a table against the type that the schema declares; an all-null column fits any type."""
    if values.dtype == pl.Null:
        return
    if field_type is FieldType.NUMERIC:
        _check_numeric(source, values, faults)
    elif field_type is FieldType.VECTOR:
        _check_vectors(source, values, faults)
    elif not _STORED_AS[field_type](values.dtype):
        expected, cure = _EXPECTED[field_type]
        faults.add(f"{source.file}: {values.name}: {field_type} needs {expected}, the column is {values.dtype}: {cure}")


def _is_label(dtype: pl.DataType | DataTypeClass) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)


def _is_list_of_labels(dtype: pl.DataType | DataTypeClass) -> bool:
    return isinstance(dtype, pl.List | pl.Array) and (_is_label(dtype.inner) or dtype.inner == pl.Null)


_STORED_AS = {
    FieldType.ID: _is_label,
    FieldType.CATEGORICAL: _is_label,
    FieldType.MULTI_CATEGORICAL: _is_list_of_labels,
    FieldType.TEXT: lambda dtype: dtype in (pl.String, pl.Categorical, pl.Enum),
    FieldType.TIMESTAMP: lambda dtype: dtype.is_numeric() or dtype in (pl.Datetime, pl.Date),
}
_LABELS = ("integers or strings", "cast it to Int64 or String, or declare it numeric")
_EXPECTED = {
    FieldType.ID: _LABELS,
    FieldType.CATEGORICAL: _LABELS,
    FieldType.MULTI_CATEGORICAL: (
        "a list of integers or strings",
        "split it into a list column, or declare it categorical",
    ),
    FieldType.TEXT: ("strings", "cast it to String"),
    FieldType.TIMESTAMP: ("a date, a datetime or a number", "parse it into a Datetime column"),
}


def _check_numeric(source: TableSource, values: pl.Series, faults: Faults) -> None:
    if values.dtype == pl.Boolean or not numbers_or_fault(source, values, faults, "or declare the field categorical"):
        return
    if values.dtype.is_float():
        too_big = values.is_infinite() | (values.is_finite() & (values.abs() > FLOAT32_MAX))
        faults.rows(source, values, too_big, "a number beyond 3.4e38", "write a finite number, or null if unknown")


def numbers_or_fault(source: TableSource, values: pl.Series, faults: Faults, otherwise: str) -> bool:
    """Whether a column holds numbers; text is searched for the rows that are none."""
    if values.dtype.is_numeric():
        return True
    if values.dtype != pl.String:
        faults.add(f"{source.file}: {values.name}: needs numbers, the column is {values.dtype}: cast it, {otherwise}")
        return False
    bad = values.cast(pl.Float64, strict=False).is_null() & values.is_not_null()
    faults.rows(source, values, bad, "text that is not a number", f"write numbers or nulls, {otherwise}")
    if not bad.any():
        faults.add(f"{source.file}: {values.name}: the numbers are stored as text: cast the column to Float64")
    return False


def _check_vectors(source: TableSource, values: pl.Series, faults: Faults) -> None:
    dtype = values.dtype
    if not (isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric()):
        faults.add(f"{source.file}: {values.name}: vector needs a list of numbers, the column is {dtype}: cast it")
        return
    lists = as_lists(values)
    lengths = lists.list.len()
    if values.null_count() == len(values):
        return
    width = lengths.drop_nulls()[0]
    if width == 0:
        faults.add(f"{source.file}: {values.name}: the first vector holds no numbers: write null if there is none")
    faults.rows(source, values, lengths != width, f"a vector of other than {width} numbers", "make all equally long")
    if not lists.drop_nulls().explode().is_finite().all(ignore_nulls=False):
        broken = lists.list.eval((~pl.element().is_finite()).fill_null(True).any()).list.first()
        faults.rows(
            source, values, broken, "a null, NaN or infinity in a vector", "write numbers, or null for no vector"
        )


def as_lists(values: pl.Series) -> pl.Series:
    """A list column from a list, fixed-size array or all-null column."""
    if isinstance(values.dtype, pl.Array):
        return values.cast(pl.List(values.dtype.inner))
    return values.cast(pl.List(pl.String)) if values.dtype == pl.Null else values
