"""Plain CSV or Parquet files, with a schema file or without."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import Field

from micrec.data.encoding import CLICK_COLUMNS, TimeUnit
from micrec.data.readers import DatasetFrames
from micrec.data.readers.files import existing, readable
from micrec.data.schema import DatasetSchema, FieldType
from micrec.data.validation import Faults, Source, check_schema, require_columns
from micrec.errors import MicrecError
from micrec.settings import load_yaml, validate

KEYS = {"users": "user_id", "items": "item_id"}
EARLIEST_MS = 100_000_000_000  # as milliseconds March 1973, as seconds the year 5138
CSV_SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET_SUFFIXES = (".parquet", ".pq")
ISO_DATE = r"^\d{4}-\d{2}-\d{2}"


class TabularSchema(DatasetSchema):
    """The schema file: the keys of ``dataset.yaml``, and how a CSV file writes several values in one cell."""

    name: str = Field("", description="Short name, printed in tables; empty: the name of the clicks file.")
    separator: str = Field("|", min_length=1, description="Between the values of a multi-valued or vector cell.")


class _File(NamedTuple):
    """An opened file: its columns by our names (``theirs[ours]``), and its lazy frame under their own."""

    path: Path
    theirs: dict[str, str]
    header: list[str]
    scan: pl.LazyFrame

    def take(self, ours: list[str]) -> pl.DataFrame:
        with readable(self.path):
            return self.scan.select(pl.col(self.theirs[name]).alias(name) for name in ours).collect()

    def unused(self, ours: list[str]) -> list[str]:
        taken = {self.theirs[name] for name in ours}
        return [name for name in self.header if name not in taken]


def read_tabular(
    clicks: Path,
    *,
    users: Path | None = None,
    items: Path | None = None,
    schema: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> DatasetFrames:
    """Read a click log and its tables from ``.csv``, ``.tsv`` (also ``.gz``) or Parquet files.

    Without ``users`` or ``items`` a table is made of the ids in the clicks, sorted. Clicks keep the order of the file.
    A schema file has the keys of ``dataset.yaml`` and ``separator`` (default ``|``), which parts the values of a
    multi-valued or vector cell: ``Action|Comedy``. Columns that it does not declare are left out, and counted.

    Without a schema file types are guessed: a date is ``timestamp``, a list of labels ``multi_categorical``, a list of
    floats ``vector``, a float ``numeric``; text with mostly distinct values is ``text``, such integers are
    ``numeric``, other text and integers are ``categorical``. Click times are dates, or milliseconds if any of them is
    10^11 or more, else seconds.

    Text is parsed by its type: an empty CSV cell is null; dates are ISO 8601, UTC if they name no zone; ``like`` and
    ``follow`` may be 0 and 1. Ids become integers if all of them are spelt as integers; ``007`` keeps all ids text.

    Args:
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``.
        users: ``user_id`` and the user fields.
        items: ``item_id`` and the item fields.
        schema: The schema file.
        columns: The files' names of columns by ours, in whichever file has them: ``{"user_id": "CustomerID"}``.

    Raises:
        MicrecError: If a file cannot be read, lacks a column, or holds text that does not parse (all such faults at
            once, rows counted from 0 without the header).
    """
    columns, faults = dict(columns or {}), Faults()
    declared = None if schema is None else validate(TabularSchema, load_yaml(existing(schema)), where=str(schema))
    paths = {"clicks": clicks, "users": users, "items": items}
    files = {name: _open(path, columns) for name, path in paths.items() if path is not None}
    _check_mapping(columns, files, faults)
    wanted = {name: _wanted(name, file, declared, faults) for name, file in files.items()}
    _check_declared(declared, files, faults)
    faults.raise_any(str(clicks))

    frames = {name: file.take(wanted[name]) for name, file in files.items()}
    for name, key in KEYS.items():
        _align_ids(frames, key)
        frames.setdefault(name, frames["clicks"].select(pl.col(key).drop_nulls().unique().sort()))
    dropped = _dropped({file.path.name: file.unused(wanted[name]) for name, file in files.items()})
    types = _schema(declared, frames, clicks, [file.path.name for file in files.values()], dropped)
    separator = "|" if declared is None else declared.separator
    parsed = {
        name: _parse(frame, name, types, separator, paths[name] or clicks, faults) for name, frame in frames.items()
    }
    faults.raise_any(str(clicks))
    return DatasetFrames(types, parsed["users"], parsed["items"], parsed["clicks"], dropped)


def _open(path: Path, columns: Mapping[str, str]) -> _File:
    """Open a file; a CSV file as text, empty cells as null."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    with readable(existing(path)):
        if path.suffix.lower() in PARQUET_SUFFIXES:
            scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        elif (separator := CSV_SEPARATORS.get(plain.suffix.lower())) is not None:
            scan = pl.scan_csv(path, separator=separator, infer_schema=False, glob=False)
            scan = scan.with_columns(pl.all().replace("", None))
        else:
            raise MicrecError(f"{path}: the ending tells no format: name it .csv, .tsv (or with .gz), or .parquet.")
        header = scan.collect_schema().names()
    mapped = {ours: theirs for ours, theirs in columns.items() if theirs in header}
    kept = {name: name for name in header if name not in mapped.values()}
    return _File(path, kept | mapped, header, scan)


def _check_mapping(columns: Mapping[str, str], files: Mapping[str, _File], faults: Faults) -> None:
    known = list(dict.fromkeys(name for file in files.values() for name in file.header))
    for ours, theirs in columns.items():
        if theirs not in known:
            close = difflib.get_close_matches(theirs, known, n=1)
            cure = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
            faults.add(f"columns: {ours}: no file has a column {theirs!r}, {cure}")


def _wanted(name: str, file: _File, declared: TabularSchema | None, faults: Faults) -> list[str]:
    """Our names of the columns to take from a file; the required ones are a fault if they are missing."""
    if name == "clicks":
        required, optional = list(CLICK_COLUMNS[:3]), list(CLICK_COLUMNS[3:])
    elif declared is None:
        required, optional = [KEYS[name]], list(file.theirs)
    else:
        required, optional = [KEYS[name], *getattr(declared, name)], []
    require_columns(Source(file.path.name), list(file.theirs), required, faults)
    return [column for column in dict.fromkeys([*required, *optional]) if column in file.theirs]


def _check_declared(declared: TabularSchema | None, files: Mapping[str, _File], faults: Faults) -> None:
    if declared is None:
        return
    check_schema(declared, faults)
    for name in KEYS:
        if name not in files and getattr(declared, name):
            fields = ", ".join(getattr(declared, name))
            faults.add(f"schema: {name}: fields are declared ({fields}) but no {name} file is given: give it, or none")


def _dropped(unused: Mapping[str, list[str]]) -> dict[str, int]:
    return {f"unused columns of {file}: {', '.join(names)}": len(names) for file, names in unused.items() if names}


def _align_ids(frames: dict[str, pl.DataFrame], key: str) -> None:
    """Turn the ids of ``key`` into integers in every frame that has them, if no spelling is lost by it."""
    having = [name for name, frame in frames.items() if key in frame.columns]
    if all(_spelt_as_integers(frames[name][key]) for name in having):
        for name in having:
            frames[name] = frames[name].with_columns(pl.col(key).cast(pl.Int64))


def _spelt_as_integers(ids: pl.Series) -> bool:
    if ids.dtype != pl.String:
        return ids.dtype.is_integer() and ids.dtype != pl.UInt64
    return bool(ids.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(ids).all())


def _schema(
    declared: TabularSchema | None,
    frames: Mapping[str, pl.DataFrame],
    clicks: Path,
    names: list[str],
    dropped: dict[str, int],
) -> DatasetSchema:
    """The schema of the dataset: the declared one, or a guess."""
    provenance: dict[str, object] = {"reader": "table", "files": names, "dropped": dropped}
    if declared is not None:
        keys = declared.model_dump(exclude={"separator"})
        provenance = declared.provenance | provenance
    else:
        keys = {"name": "", "time_unit": _guess_unit(frames["clicks"]["timestamp"])}
        for name, key in KEYS.items():
            table = frames[name].drop(key)
            keys[name] = {column: _guess_type(table[column]) for column in table.columns}
        provenance["types"] = "guessed from the values; give a schema file to declare them"
    keys |= {"name": keys["name"] or clicks.name.split(".")[0], "provenance": provenance}
    return DatasetSchema.model_validate(keys)


def _guess_type(values: pl.Series) -> FieldType:
    dtype = values.dtype
    if isinstance(dtype, pl.List | pl.Array):
        return FieldType.VECTOR if dtype.inner.is_float() else FieldType.MULTI_CATEGORICAL
    if dtype in (pl.Datetime, pl.Date) or _all_parse(values, _iso_dates(values)):
        return FieldType.TIMESTAMP
    mostly_distinct = values.n_unique() > len(values) / 2
    if dtype.is_integer() or _all_parse(values, values.cast(pl.Int64, strict=False)):
        return FieldType.NUMERIC if mostly_distinct else FieldType.CATEGORICAL
    if dtype.is_numeric() or _all_parse(values, values.cast(pl.Float64, strict=False)):
        return FieldType.NUMERIC
    return FieldType.TEXT if mostly_distinct and dtype == pl.String else FieldType.CATEGORICAL


def _guess_unit(times: pl.Series) -> TimeUnit:
    if times.dtype in (pl.Datetime, pl.Date) or _iso_dates(times.drop_nulls().head(1)).count():
        return "datetime"
    largest = times.cast(pl.Float64, strict=False).max()
    return "ms" if isinstance(largest, float) and largest >= EARLIEST_MS else "s"


def _all_parse(values: pl.Series, parsed: pl.Series) -> bool:
    """Whether text holds anything, and ``parsed`` has a value wherever it does."""
    return values.dtype == pl.String and 0 < values.count() == parsed.count()


def _iso_dates(texts: pl.Series) -> pl.Series:
    """Datetimes in UTC from text; null where it is no ISO date."""
    if texts.dtype != pl.String:
        return pl.Series(texts.name, [None] * len(texts), dtype=pl.Datetime("ms", "UTC"))
    iso = texts.to_frame("text").select(pl.when(pl.col("text").str.contains(ISO_DATE)).then("text"))["text"]
    return iso.alias(texts.name).str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)


def _parse(
    frame: pl.DataFrame, name: str, schema: DatasetSchema, separator: str, path: Path, faults: Faults
) -> pl.DataFrame:
    """Text columns by their types; text that does not parse is a fault."""
    source = Source(path.name)
    if name == "clicks":
        is_date = schema.time_unit == "datetime"
        types = {"timestamp": FieldType.TIMESTAMP if is_date else FieldType.NUMERIC, "dwell_s": FieldType.NUMERIC}
    else:
        types = getattr(schema, name)
    columns = [
        _parse_field(source, frame[c], kind, separator, faults) for c, kind in types.items() if c in frame.columns
    ]
    if name == "clicks":
        columns += [_parse_flags(source, frame[c], faults) for c in ("like", "follow") if c in frame.columns]
    return frame.with_columns(columns)


def _parse_field(source: Source, values: pl.Series, kind: FieldType, separator: str, faults: Faults) -> pl.Series:
    if values.dtype != pl.String:
        return values
    if kind is FieldType.NUMERIC:
        cure = "write numbers, or give a schema file with another type (for timestamp: time_unit datetime)"
        return _parsed(source, values, _numbers(values), "text that is not a number", cure, faults)
    if kind is FieldType.TIMESTAMP:
        numbers = _numbers(values)
        dates = numbers if _all_parse(values, numbers) else _iso_dates(values)
        return _parsed(source, values, dates, "text that is no ISO date", "write 2011-12-09 12:50:00", faults)
    if kind is FieldType.MULTI_CATEGORICAL:
        return values.str.split(separator).list.eval(pl.element().filter(pl.element() != ""))
    if kind is FieldType.VECTOR:
        vectors = values.str.split(separator).cast(pl.List(pl.Float64), strict=False)
        broken = vectors.list.eval(pl.element().is_null().any()).list.first()
        faults.rows(source, values, broken, f"text that is no list of numbers parted by {separator!r}", "correct it")
        return vectors
    return values


def _parsed(source: Source, values: pl.Series, parsed: pl.Series, rule: str, cure: str, faults: Faults) -> pl.Series:
    faults.rows(source, values, parsed.is_null() & values.is_not_null(), rule, cure)
    return parsed


def _numbers(texts: pl.Series) -> pl.Series:
    """Int64 if every text is spelt as an integer, else Float64 with null for what is no number."""
    integers = texts.cast(pl.Int64, strict=False)
    return integers if integers.count() == texts.count() else texts.cast(pl.Float64, strict=False)


def _parse_flags(source: Source, values: pl.Series, faults: Faults) -> pl.Series:
    if values.dtype == pl.Boolean:
        return values
    words = values.cast(pl.String).str.to_lowercase().replace({"1.0": "1", "0.0": "0"})
    flags = words.replace_strict(
        {"1": True, "true": True, "0": False, "false": False}, default=None, return_dtype=pl.Boolean
    )
    return _parsed(source, values, flags, "neither true nor false", "write true or false, or 1 or 0", faults)
