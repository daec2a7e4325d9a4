"""The clicks of plain tables, as a lazy table: times, numbers and flags are understood by reading it in streams."""

import polars as pl

from micrec.data.readers.report import ReadingReport
from micrec.data.times import Implausible, Unit, read_times
from micrec.data.validation import Faults, TableSource

FLAGS = ("like", "follow")
_DROP_TIMES = "--set implausible_times=drop"
_FLAG_WORDS = {"1": True, "true": True, "0": False, "false": False}


def with_moments(
    rows: pl.LazyFrame,
    file: str,
    zone: str,
    unit: Unit | None,
    implausible: Implausible,
    faults: Faults,
    report: ReadingReport,
) -> tuple[pl.LazyFrame, str]:
    """The clicks with times as numbers of s or ms, or as datetimes in UTC; and the unit."""
    times = read_times(rows, "timestamp", timezone=zone, implausible=implausible, option=_DROP_TIMES, unit=unit)
    for fault in times.faults:
        faults.add(f"{file}: {fault}")
    for note in times.notes:
        report.note(file, note)
    for reason, count in times.dropped:
        report.drop(reason, count)
    if times.faults:
        return rows, "s"
    if times.unit in ("s", "ms") and times.value is not None:
        value, found = times.value, str(times.unit)
    elif times.unit is not None:
        value, found = times.instants.dt.timestamp("ms"), "ms"
    else:
        kind = rows.collect_schema()["timestamp"]
        is_kept = isinstance(kind, pl.Datetime) and (zone == "UTC" or kind.time_zone is not None)
        value, found = (pl.col("timestamp") if is_kept else times.instants.cast(pl.Datetime("ms", "UTC"))), "datetime"
    kept = [] if times.kept is None else [times.kept.alias("kept\x1f")]
    rows = rows.with_columns(value.alias("timestamp"), *kept)
    return (rows.filter(pl.col("kept\x1f")).drop("kept\x1f") if kept else rows), found


def with_numbers_and_flags(source: TableSource, rows: pl.LazyFrame, faults: Faults) -> pl.LazyFrame:
    """Dwell times and flags that are text as what they say; what they do not say is a fault."""
    schema = rows.collect_schema()
    columns = [_flags(source, rows, name, schema[name], faults) for name in FLAGS if name in schema]
    if "dwell_s" in schema:
        columns.insert(0, _dwell_s(source, rows, schema["dwell_s"], faults))
    return rows.with_columns(columns)


def _dwell_s(source: TableSource, rows: pl.LazyFrame, kind: pl.DataType, faults: Faults) -> pl.Expr:
    """Int64 if every text is spelt as an integer, else Float64."""
    value = pl.col("dwell_s")
    if kind.is_decimal():
        return value.cast(pl.Float64)
    if kind != pl.String:
        return value
    integers, numbers = value.cast(pl.Int64, strict=False), value.cast(pl.Float64, strict=False)
    n, whole = rows.select(n=value.count(), whole=integers.count()).collect(engine="streaming").row(0)
    parsed = integers if n == whole else numbers
    cure = "write numbers, or give a schema file with another type"
    bad = parsed.is_null() & value.is_not_null()
    faults.scanned_rows(source, rows, "dwell_s", bad, "text that is not a number", cure)
    return parsed


def _flags(source: TableSource, rows: pl.LazyFrame, name: str, kind: pl.DataType, faults: Faults) -> pl.Expr:
    value = pl.col(name)
    if kind == pl.Boolean:
        return value
    if kind.is_nested() or kind == pl.Binary:
        faults.add(f"{source.file}: {name}: holds {kind}: write true or false, or leave the column out")
        return pl.lit(None, pl.Boolean).alias(name)
    words = value.cast(pl.String).str.to_lowercase().replace({"1.0": "1", "0.0": "0"})
    flags = words.replace_strict(_FLAG_WORDS, default=None, return_dtype=pl.Boolean)
    bad = flags.is_null() & value.is_not_null()
    faults.scanned_rows(source, rows, name, bad, "neither true nor false", "write true or false, or 1 or 0")
    return flags
