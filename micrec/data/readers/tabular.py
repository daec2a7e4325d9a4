"""Plain CSV or Parquet files, with a schema file or without."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from pydantic import Field

from micrec.data.column_names import how_to_name, match_column
from micrec.data.encoding import CLICK_COLUMNS
from micrec.data.ids import Spelling, read_ids
from micrec.data.readers import DatasetFrames
from micrec.data.readers.files import existing
from micrec.data.readers.guesses import SEVERAL, guess_roles, guess_separator, guess_type, iso_dates, parses_everywhere
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.data.table_files import TableFiles, holds_decimal_commas, open_table, readable_as
from micrec.data.times import Implausible, Unit, read_times
from micrec.data.validation import Faults, TableSource, check_schema
from micrec.settings import load_yaml, validate

KEYS = {"users": "user_id", "items": "item_id"}
_DROP_TIMES = "--set implausible_times=drop"


class TabularSchema(DatasetSchema):
    """The schema file: the keys of ``dataset.yaml``, and how a CSV file writes several values in one cell."""

    name: str = Field("", description="Short name, printed in tables; empty: the name of the clicks file.")
    separator: str = Field("|", min_length=1, description="Between the values of a multi-valued or vector cell.")


class _File(NamedTuple):
    """An opened table: its columns by our names (``theirs[ours]``)."""

    table: TableFiles
    theirs: dict[str, str]
    header: list[str]

    @property
    def name(self) -> str:
        return self.table.path.name

    def take(self, ours: list[str]) -> pl.DataFrame:
        with readable_as(self.table.path, self.table.kind, self.table.files):
            frame = self.table.rows.select(pl.col(self.theirs[name]).alias(name) for name in ours).collect()
        labels = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Categorical | pl.Enum)]
        return frame.with_columns(pl.col(name).cast(pl.String) for name in labels)

    def unused(self, ours: list[str]) -> list[str]:
        taken = {self.theirs[name] for name in ours}
        return [name for name in self.header if name not in taken]


class _Report:
    """What was assumed and left out on the way, in words."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.dropped: dict[str, int] = {}

    def note(self, file: str, text: str) -> None:
        self.notes.append(f"{file}: {text}")

    def drop(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count


def read_tabular(
    clicks: Path | pl.DataFrame,
    *,
    users: Path | pl.DataFrame | None = None,
    items: Path | pl.DataFrame | None = None,
    schema: Path | None = None,
    columns: Mapping[str, str] | None = None,
    timezone: str | None = None,
    implausible_times: Implausible = "refuse",
    ids: Spelling = "as_written",
    separator: str | None = None,
    types: Mapping[str, FieldType] | None = None,
    roles: Mapping[str, str | None] | None = None,
) -> DatasetFrames:
    """Read a click log and its tables from CSV or Parquet files, folders of part files, or frames in memory.

    Without ``users`` or ``items`` a table is made of the ids in the clicks, sorted. Clicks keep the order of the file.
    A schema file has the keys of ``dataset.yaml`` and ``separator`` (default ``|``), which parts the values of a
    multi-valued or vector cell: ``Action|Comedy``. Columns that it does not declare are left out, and counted.

    Without a schema file types are guessed: a date is ``timestamp``, a list of labels ``multi_categorical``, a list of
    floats ``vector``, a float ``numeric``; text with mostly distinct values is ``text``, such integers are
    ``numeric``, other text and integers are ``categorical``. Names in common use go before values: ``title`` is text,
    ``category`` and ``provider`` are categorical, ``tags`` and ``genres`` hold several values. Roles are guessed from
    names and types; what was guessed is noted in the provenance.

    Text is parsed by its type: an empty CSV cell is null, white space around cells does not count; ``like`` and
    ``follow`` may be 0 and 1. Times are read as :mod:`micrec.data.times` says. Ids become integers if all of them are
    spelt as integers; ``007`` keeps all ids text.

    Args:
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``.
        users: ``user_id`` and the user fields.
        items: ``item_id`` and the item fields.
        schema: The schema file.
        columns: The files' names of columns by ours, in whichever file has them: ``{"user_id": "CustomerID"}``.
        timezone: Zone of times that name none, and of the dataset's days; None = the schema file's, else UTC.
        implausible_times: Whether single clicks before 1990 or in the future are refused or dropped.
        ids: "as_written", "number" (007 and 7.0 are 7) or "lower" (A7 is a7).
        separator: Between the cells of a CSV line; None = recognised.
        types: Types of fields, instead of the guessed ones.
        roles: Roles of item fields, instead of the guessed ones.

    Raises:
        MicrecError: If a file cannot be read, lacks a column, or holds text that does not parse (all such errors at
            once, rows counted from 0 without the header).
    """
    columns, faults, report = dict(columns or {}), Faults(), _Report()
    declared = None if schema is None else validate(TabularSchema, load_yaml(existing(schema)), where=str(schema))
    given = {"clicks": clicks, "users": users, "items": items}
    files = {
        name: _open(_table(name, one, columns, separator), columns, report)
        for name, one in given.items()
        if one is not None
    }
    where = str(files["clicks"].table.path)
    _check_mapping(columns, files, faults)
    wanted = {name: _wanted(name, file, declared, faults) for name, file in files.items()}
    _check_declared(declared, files, faults)
    _check_fields("types", types or {}, wanted, faults)
    faults.raise_any(where)

    frames = {name: file.take(wanted[name]) for name, file in files.items()}
    for name, file in files.items():
        if file.table.kind == "CSV" and not file.table.has_commas_between:
            frames[name] = _decimal_points(frames[name], file.name, report)
    names = {name: file.name for name, file in files.items()}
    n_rows = len(frames["clicks"])
    zone = timezone or ("UTC" if declared is None else declared.timezone)
    unit = _declared_unit(declared)
    frames["clicks"], found_unit = _times(
        frames["clicks"], names["clicks"], zone, unit, implausible_times, faults, report
    )
    _clean_ids(frames, names, ids, faults, report)
    for name, key in KEYS.items():
        _align_ids(frames, key)
        frames.setdefault(name, frames["clicks"].select(pl.col(key).drop_nulls().unique().sort()))
    for name, file in files.items():
        unused = file.unused(wanted[name])
        report.drop(f"unused columns of {file.name}: {', '.join(unused)}", len(unused))
    separators: dict[str, str] = {}
    keys = _keys(declared, frames, files["clicks"].table.path, types or {}, roles, separators, report)
    keys |= {"time_unit": found_unit, "timezone": zone}
    fields: dict[str, dict[str, FieldType]] = {name: keys[name] for name in KEYS}
    default = "|" if declared is None else declared.separator
    for name in frames:
        source = TableSource(names.get(name, names["clicks"]))
        frames[name] = _parse(source, frames[name], name, fields, separators, default, faults, report)
    faults.raise_any(where)
    told = {} if declared is None else dict(declared.provenance)
    made: dict[str, Any] = {"reader": "table", "files": list(names.values()), "rows": n_rows, "dropped": report.dropped}
    if declared is None:
        made["types"] = "guessed from the values; give a schema file to declare them"
    if report.notes:
        made["notes"] = report.notes
    types_of = DatasetSchema.model_validate(keys | {"provenance": told | made})
    return DatasetFrames(types_of, frames["users"], frames["items"], frames["clicks"], report.dropped)


def _table(name: str, given: Path | pl.DataFrame, columns: Mapping[str, str], separator: str | None) -> TableFiles:
    """A table of files, CSV cells as text and empty ones as null; or of a frame, as it is."""
    if isinstance(given, pl.DataFrame):
        return TableFiles(Path(name), (), "frame", given.lazy(), ())
    return open_table(given, separator=separator, as_text=True, spelled=_id_names(columns))


def _open(table: TableFiles, columns: Mapping[str, str], report: _Report) -> _File:
    """The table's columns by our names, which are those of the mapping, or else the columns' own."""
    path = table.path
    for note in table.notes:
        report.note(path.name, note)
    header = table.rows.collect_schema().names()
    mapped = {ours: found for ours, theirs in columns.items() if (found := match_column(theirs, header)) is not None}
    for ours in CLICK_COLUMNS:
        found = match_column(ours, header)
        if ours not in columns and found is not None and found != ours:
            mapped[ours] = found
            report.note(path.name, f"The column {found!r} is read as {ours}.")
    kept = {name: name for name in header if name not in mapped.values()}
    return _File(table, kept | mapped, header)


def _id_names(columns: Mapping[str, str]) -> list[str]:
    """Names of id columns in the files: their cells are kept as they are, and cleaned where that is counted."""
    return [name for key in KEYS.values() for name in (key, columns.get(key)) if name is not None]


def _check_mapping(columns: Mapping[str, str], files: Mapping[str, _File], faults: Faults) -> None:
    known = list(dict.fromkeys(name for file in files.values() for name in file.header))
    for ours, theirs in columns.items():
        if match_column(theirs, known) is None:
            close = difflib.get_close_matches(theirs, known, n=1)
            cure = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
            faults.add(f"columns: {ours}: no file has a column {theirs!r}, {cure}")


def _wanted(name: str, file: _File, declared: TabularSchema | None, faults: Faults) -> list[str]:
    """Our names of the columns to take from a file; a required one that is missing is an error."""
    if name == "clicks":
        required, optional = list(CLICK_COLUMNS[:3]), list(CLICK_COLUMNS[3:])
    elif declared is None:
        required, optional = [KEYS[name]], list(file.theirs)
    else:
        required, optional = [KEYS[name], *getattr(declared, name)], []
    for column in required:
        if column not in file.theirs:
            free = [theirs for ours, theirs in file.theirs.items() if ours not in required]
            option = how_to_name(column, free)
            if option.endswith("...") and column == KEYS.get(name) and (short := match_column("id", free)) is not None:
                option = option.replace("...", short)
            cure = f"name it with {option}" if column in CLICK_COLUMNS else f"add it, or name it with {option}"
            faults.add(f"{file.name}: {column}: missing column (there are: {', '.join(file.header)}): {cure}")
    return [column for column in dict.fromkeys([*required, *optional]) if column in file.theirs]


def _check_declared(declared: TabularSchema | None, files: Mapping[str, _File], faults: Faults) -> None:
    if declared is None:
        return
    check_schema(declared, faults)
    for name in KEYS:
        if name not in files and getattr(declared, name):
            fields = ", ".join(getattr(declared, name))
            faults.add(f"schema: {name}: fields are declared ({fields}) but no {name} file is given: give it, or none")


def _check_fields(option: str, named: Mapping[str, object], wanted: Mapping[str, list[str]], faults: Faults) -> None:
    known = [field for name, key in KEYS.items() for field in wanted.get(name, []) if field != key]
    for field in named:
        if field not in known:
            close = difflib.get_close_matches(field, known, n=1)
            cure = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
            faults.add(f"{option}.{field}: no user or item field of that name, {cure}")


def _declared_unit(declared: TabularSchema | None) -> Unit | None:
    """The unit of numbers that the schema file names; None leaves it to their size."""
    if declared is None or "time_unit" not in declared.model_fields_set or declared.time_unit == "datetime":
        return None
    return declared.time_unit


def _times(
    clicks: pl.DataFrame,
    file: str,
    zone: str,
    unit: Unit | None,
    implausible: Implausible,
    faults: Faults,
    report: _Report,
) -> tuple[pl.DataFrame, str]:
    """The clicks with times as numbers of s or ms, or as datetimes in UTC; and the unit."""
    rows = clicks.lazy()
    times = read_times(rows, "timestamp", timezone=zone, implausible=implausible, option=_DROP_TIMES, unit=unit)
    for fault in times.faults:
        faults.add(f"{file}: {fault}")
    for note in times.notes:
        report.note(file, note)
    for reason, count in times.dropped:
        report.drop(reason, count)
    if times.faults:
        return clicks, "s"
    if times.unit in ("s", "ms") and times.value is not None:
        value, found = times.value, str(times.unit)
    elif times.unit is not None:
        value, found = times.instants.dt.timestamp("ms"), "ms"
    else:
        kind = clicks.schema["timestamp"]
        is_kept = isinstance(kind, pl.Datetime) and (zone == "UTC" or kind.time_zone is not None)
        value, found = (pl.col("timestamp") if is_kept else times.instants.cast(pl.Datetime("ms", "UTC"))), "datetime"
    rows = rows.with_columns(value.alias("timestamp"), *([] if times.kept is None else [times.kept.alias("kept\x1f")]))
    if times.kept is not None:
        rows = rows.filter(pl.col("kept\x1f")).drop("kept\x1f")
    return rows.collect(), found


def _decimal_points(frame: pl.DataFrame, file: str, report: _Report) -> pl.DataFrame:
    """Numbers such as ``1,5`` with a decimal point, in a file whose cells are not separated by commas."""
    kept = (*CLICK_COLUMNS[:3], *SEVERAL)
    found = [
        name
        for name, kind in frame.schema.items()
        if kind == pl.String and name not in kept and holds_decimal_commas(frame[name])
    ]
    for name in found:
        report.note(file, f"{name}: the numbers are written with a decimal comma: 1,5 is read as 1.5.")
    return frame.with_columns(pl.col(name).str.replace(",", ".", literal=True) for name in found)


def _clean_ids(
    frames: dict[str, pl.DataFrame], names: Mapping[str, str], spelling: Spelling, faults: Faults, report: _Report
) -> None:
    """Ids without white space, whole numbers as such; what was changed is counted."""
    for name, frame in list(frames.items()):
        for key in KEYS.values():
            if key not in frame.columns:
                continue
            found = read_ids(frame.lazy(), key, spelling=spelling, warn_of_case=spelling != "lower")
            for fault in found.faults:
                faults.add(f"{names[name]}: {fault}")
            for note in found.notes:
                report.note(names[name], note)
            if not found.faults:
                frames[name] = frames[name].with_columns(found.value.alias(key))


def _align_ids(frames: dict[str, pl.DataFrame], key: str) -> None:
    """The ids of ``key`` as integers in every frame that has them, if no spelling is lost by it; else as text."""
    having = [name for name, frame in frames.items() if key in frame.columns and not frame.schema[key].is_nested()]
    kind: type[pl.DataType] | None = None
    if all(_spelt_as_integers(frames[name][key]) for name in having):
        kind = pl.Int64
    elif any(frames[name].schema[key] in (pl.String, pl.UInt64, pl.Int128) for name in having):
        kind = pl.String
    if kind is not None:
        for name in having:
            frames[name] = frames[name].with_columns(pl.col(key).cast(kind))


def _spelt_as_integers(ids: pl.Series) -> bool:
    if ids.dtype != pl.String:
        return ids.dtype.is_integer() and ids.dtype != pl.UInt64
    return bool(ids.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(ids).all())


def _keys(
    declared: TabularSchema | None,
    frames: Mapping[str, pl.DataFrame],
    clicks: Path,
    types: Mapping[str, FieldType],
    roles: Mapping[str, str | None] | None,
    separators: dict[str, str],
    report: _Report,
) -> dict[str, Any]:
    """The keys of ``dataset.yaml``: the declared ones, or guesses; separators of guessed fields are put down."""
    keys: dict[str, Any]
    if declared is not None:
        keys = declared.model_dump(exclude={"separator", "provenance"})
    else:
        keys = {"name": ""}
        for name, key in KEYS.items():
            keys[name] = {}
            for field in frames[name].drop(key).columns:
                values = frames[name][field]
                if (between := guess_separator(values)) is not None and field not in types:
                    separators[field] = between
                    report.note(name, f"{field}: holds several values a cell, parted by {between!r}.")
                keys[name][field] = types.get(field) or guess_type(values, is_split=field in separators)
    if declared is None or roles is not None:
        found = guess_roles(keys["items"]) if declared is None else Roles.model_validate(keys["roles"])
        keys["roles"] = Roles.model_validate(found.model_dump() | dict(roles or {}))
        if declared is None:
            _tell_roles(keys["roles"], bool(keys["items"]), report)
    return keys | {"name": keys["name"] or clicks.name.split(".")[0] or clicks.resolve().name}


def _tell_roles(roles: Roles, has_fields: bool, report: _Report) -> None:
    told = [f"{role} = {field}" for role, field in roles.model_dump().items() if field is not None]
    if told:
        report.note("items", f"Roles: {', '.join(told)}; name others with --set roles.title=... and so on.")
    if roles.title is None and has_fields:
        report.note("items", "No field is a title: the semantic loss stays off; name one with --set roles.title=...")


def _parse(
    source: TableSource,
    frame: pl.DataFrame,
    name: str,
    fields: Mapping[str, Mapping[str, FieldType]],
    separators: Mapping[str, str],
    default: str,
    faults: Faults,
    report: _Report,
) -> pl.DataFrame:
    """Text columns by their types; text that does not parse is a fault."""
    types = {"dwell_s": FieldType.NUMERIC} if name == "clicks" else fields[name]
    columns = [
        _parse_field(source, frame[c], kind, separators.get(c, default), faults, report)
        for c, kind in types.items()
        if c in frame.columns
    ]
    if name == "clicks":
        columns += [_parse_flags(source, frame[c], faults) for c in ("like", "follow") if c in frame.columns]
    return frame.with_columns(columns)


def _parse_field(
    source: TableSource, values: pl.Series, kind: FieldType, separator: str, faults: Faults, report: _Report
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


def _labels(values: pl.Series, separator: str, report: _Report) -> pl.Series:
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


def _parse_flags(source: TableSource, values: pl.Series, faults: Faults) -> pl.Series:
    if values.dtype == pl.Boolean:
        return values
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        faults.add(f"{source.file}: {values.name}: holds {values.dtype}: write true or false, or leave the column out")
        return pl.Series(values.name, [None] * len(values), dtype=pl.Boolean)
    words = values.cast(pl.String).str.to_lowercase().replace({"1.0": "1", "0.0": "0"})
    flags = words.replace_strict(
        {"1": True, "true": True, "0": False, "false": False}, default=None, return_dtype=pl.Boolean
    )
    return _parsed(source, values, flags, "neither true nor false", "write true or false, or 1 or 0", faults)
