"""Fields of plain tables of users and items: text is parsed by its type."""

from collections.abc import Mapping

import polars as pl

from micrec.data.readers.guesses import iso_dates, parses_everywhere
from micrec.data.readers.report import ReadingReport
from micrec.data.schema import FieldType
from micrec.data.validation import Faults, TableSource


def parse_fields(
    source: TableSource,
    frame: pl.DataFrame,
    types: Mapping[str, FieldType],
    separators: Mapping[str, str],
    default: str,
    faults: Faults,
    report: ReadingReport,
) -> pl.DataFrame:
    """Text columns by their types; text that does not parse is a fault.

    Args:
        source: The file, for faults.
        frame: The table.
        types: Types of its fields.
        separators: What parts the values of a cell, by field.
        default: What parts them in other fields.
        faults: Where faults go.
        report: Where empty values are counted.
    """
    return frame.with_columns(
        _parse_field(source, frame[name], kind, separators.get(name, default), faults, report)
        for name, kind in types.items()
        if name in frame.columns
    )


def _parse_field(
    source: TableSource, values: pl.Series, kind: FieldType, separator: str, faults: Faults, report: ReadingReport
) -> pl.Series:
    if kind is FieldType.MULTI_CATEGORICAL and (values.dtype == pl.String or values.dtype == pl.List(pl.String)):
        return _labels(values, separator, report)
    if values.dtype.is_decimal():
        return values.cast(pl.Float64)
    if values.dtype != pl.String:
        return values
    if kind is FieldType.NUMERIC:
        cure = "write numbers, or give a schema file with another type"
        return _parsed(source, values, _numbers(values), "text that is not a number", cure, faults)
    if kind is FieldType.TIMESTAMP:
        numbers = _numbers(values)
        dates = numbers if parses_everywhere(values, numbers) else iso_dates(values)
        return _parsed(source, values, dates, "text that is not an ISO date", "write 2011-12-09 12:50:00", faults)
    if kind is FieldType.VECTOR:
        numbers = values.str.split(separator).list.eval(pl.element().str.strip_chars())
        vectors = numbers.cast(pl.List(pl.Float64), strict=False)
        broken = vectors.list.eval(pl.element().is_null().any()).list.first()
        faults.rows(source, values, broken, f"text that is not a list of numbers between {separator!r}", "correct it")
        return vectors
    return values


def _labels(values: pl.Series, separator: str, report: ReadingReport) -> pl.Series:
    """Lists of labels without white space around them; empty ones are dropped and counted."""
    lists = values.str.split(separator) if values.dtype == pl.String else values
    stripped = lists.list.eval(pl.element().str.strip_chars())
    kept = stripped.list.eval(pl.element().filter(pl.element() != ""))
    before, after = (int(found.list.len().fill_null(0).to_numpy().sum()) for found in (lists, kept))
    report.drop(f"empty values between separators of {values.name}", before - after)
    return kept


def _parsed(
    source: TableSource, values: pl.Series, parsed: pl.Series, rule: str, cure: str, faults: Faults
) -> pl.Series:
    faults.rows(source, values, parsed.is_null() & values.is_not_null(), rule, cure)
    return parsed


def _numbers(texts: pl.Series) -> pl.Series:
    """Int64 if every text is spelt as an integer, else Float64 with null for what is no number."""
    integers = texts.cast(pl.Int64, strict=False)
    return integers if integers.count() == texts.count() else texts.cast(pl.Float64, strict=False)
