"""Plain CSV or Parquet files, with a schema file or without."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import polars as pl
from pydantic import Field

from micrec.data.column_names import how_to_name, match_column
from micrec.data.encoding import CLICK_COLUMNS
from micrec.data.ids import Spelling, distinct, read_ids
from micrec.data.parquet_files import sink_parquet
from micrec.data.readers import DatasetFrames, DatasetScan
from micrec.data.readers.files import existing
from micrec.data.readers.guesses import SEVERAL, guess_roles, guess_separator, guess_type
from micrec.data.readers.report import ReadingReport
from micrec.data.readers.tabular_clicks import with_moments, with_numbers_and_flags
from micrec.data.readers.tabular_fields import parse_fields
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.data.table_files import TableFiles, decimal_commas, open_table, readable_as
from micrec.data.times import Implausible, Unit
from micrec.data.validation import Faults, TableSource, check_schema
from micrec.destination import bytes_of
from micrec.progress import NoProgress, Progress
from micrec.settings import load_yaml, validate

KEYS = {"users": "user_id", "items": "item_id"}


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

    def scan(self, ours: list[str]) -> pl.LazyFrame:
        rows = self.table.rows.select(pl.col(self.theirs[name]).alias(name) for name in ours)
        schema = rows.collect_schema().items()
        labels = [name for name, kind in schema if isinstance(kind, pl.Categorical | pl.Enum)]
        return rows.with_columns(pl.col(name).cast(pl.String) for name in labels)

    def take(self, ours: list[str]) -> pl.LazyFrame:
        with self.reading():
            return self.scan(ours).collect().lazy()

    def stream(self, ours: list[str], scratch: Path, progress: Progress) -> pl.LazyFrame:
        """Parquet files as they lie there; a CSV file, which is slow to parse, as a Parquet file of its texts."""
        if self.table.kind != "CSV":
            return self.scan(ours)
        progress.start(f"reading {self.name}", bytes_of(*self.table.files), "bytes")
        with self.reading():
            sink_parquet(scratch, self.scan(ours), compression="lz4")
        progress.advance(bytes_of(*self.table.files))
        progress.finish()
        return pl.scan_parquet(scratch, glob=False, hive_partitioning=False)

    def reading(self) -> AbstractContextManager[None]:
        return readable_as(self.table.path, self.table.kind, self.table.files)

    def unused(self, ours: list[str]) -> list[str]:
        taken = {self.theirs[name] for name in ours}
        return [name for name in self.header if name not in taken]


class TabularOptions(TypedDict, total=False):
    """The keywords of ``scan_tabular`` that ``read_tabular`` has as well."""

    users: Path | pl.DataFrame | None
    items: Path | pl.DataFrame | None
    schema: Path | None
    columns: Mapping[str, str] | None
    timezone: str | None
    implausible_times: Implausible
    ids: Spelling
    separator: str | None
    types: Mapping[str, FieldType] | None
    roles: Mapping[str, str | None] | None


def read_tabular(clicks: Path | pl.DataFrame, **options: Unpack[TabularOptions]) -> DatasetFrames:
    """As ``scan_tabular``, with the clicks in memory."""
    return scan_tabular(clicks, **options).collected()


def scan_tabular(
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
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> DatasetScan:
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
        scratch: A file to write, so that the clicks are read in streams and never held; it must live as long as they
            are read. None = they are read into memory first.
        progress: Where to report.

    Raises:
        MicrecError: If a file cannot be read, lacks a column, or holds text that does not parse (all such errors at
            once, rows counted from 0 without the header).
    """
    columns, faults, report = dict(columns or {}), Faults(), ReadingReport()
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

    progress, log = progress or NoProgress(), files["clicks"]
    rows = {
        name: file.take(wanted[name])
        if name != "clicks" or scratch is None
        else file.stream(wanted[name], scratch, progress)
        for name, file in files.items()
    }
    names = {name: file.name for name, file in files.items()}
    zone = timezone or ("UTC" if declared is None else declared.timezone)
    with log.reading():
        for name, file in files.items():
            if file.table.kind == "CSV" and not file.table.has_commas_between:
                rows[name] = _decimal_points(rows[name], file.name, report)
        n_rows = int(rows["clicks"].select(pl.len()).collect(engine="streaming").item())
        with _told(progress, "looking at the times", n_rows):
            rows["clicks"], found_unit = with_moments(
                rows["clicks"], names["clicks"], zone, _declared_unit(declared), implausible_times, faults, report
            )
        with _told(progress, "looking at the ids", n_rows):
            _clean_ids(rows, names, ids, faults, report)
            for name, key in KEYS.items():
                _align_ids(rows, key)
                rows.setdefault(name, distinct(rows["clicks"], pl.col(key)).drop_nulls().sort(key).lazy())
    tables = {name: rows[name].collect() for name in KEYS}
    for name, file in files.items():
        unused = file.unused(wanted[name])
        report.drop(f"unused columns of {file.name}: {', '.join(unused)}", len(unused))
    separators: dict[str, str] = {}
    keys = _keys(declared, tables, log.table.path, types or {}, roles, separators, report)
    keys |= {"time_unit": found_unit, "timezone": zone}
    default = "|" if declared is None else declared.separator
    with log.reading():
        rows["clicks"] = with_numbers_and_flags(TableSource(log.name), rows["clicks"], faults)
    for name in KEYS:
        source = TableSource(names.get(name, log.name))
        tables[name] = parse_fields(source, tables[name], keys[name], separators, default, faults, report)
    faults.raise_any(where)
    told = {} if declared is None else dict(declared.provenance)
    made: dict[str, Any] = {"reader": "table", "files": list(names.values()), "rows": n_rows, "dropped": report.dropped}
    if declared is None:
        made["types"] = "guessed from the values; give a schema file to declare them"
    if report.notes:
        made["notes"] = report.notes
    types_of = DatasetSchema.model_validate(keys | {"provenance": told | made})
    return DatasetScan(types_of, tables["users"], tables["items"], rows["clicks"], report.dropped, log.table)


@contextmanager
def _told(progress: Progress, task: str, n_rows: int) -> Iterator[None]:
    """Report a task over all clicks that says nothing on the way."""
    progress.start(task, n_rows, "clicks")
    yield
    progress.advance(n_rows)
    progress.finish()


def _table(name: str, given: Path | pl.DataFrame, columns: Mapping[str, str], separator: str | None) -> TableFiles:
    """A table of files, CSV cells as text and empty ones as null; or of a frame, as it is."""
    if isinstance(given, pl.DataFrame):
        return TableFiles(Path(name), (), "frame", given.lazy(), ())
    return open_table(given, separator=separator, as_text=True, spelled=_id_names(columns))


def _open(table: TableFiles, columns: Mapping[str, str], report: ReadingReport) -> _File:
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


def _decimal_points(rows: pl.LazyFrame, file: str, report: ReadingReport) -> pl.LazyFrame:
    """Numbers such as ``1,5`` with a decimal point, in a file whose cells are not separated by commas."""
    kept = (*CLICK_COLUMNS[:3], *SEVERAL)
    texts = [name for name, kind in rows.collect_schema().items() if kind == pl.String and name not in kept]
    if not texts:
        return rows
    holding = rows.select(decimal_commas(name) for name in texts).collect(engine="streaming").row(0, named=True)
    found = [name for name in texts if holding[name]]
    for name in found:
        report.note(file, f"{name}: the numbers are written with a decimal comma: 1,5 is read as 1.5.")
    return rows.with_columns(pl.col(name).str.replace(",", ".", literal=True) for name in found)


def _clean_ids(
    tables: dict[str, pl.LazyFrame], names: Mapping[str, str], spelling: Spelling, faults: Faults, report: ReadingReport
) -> None:
    """Ids without white space, whole numbers as such; what was changed is counted."""
    for name, rows in tables.items():
        for key in KEYS.values():
            if key not in rows.collect_schema():
                continue
            found = read_ids(rows, key, spelling=spelling, warn_of_case=spelling != "lower")
            for fault in found.faults:
                faults.add(f"{names[name]}: {fault}")
            for note in found.notes:
                report.note(names[name], note)
            if not found.faults:
                tables[name] = tables[name].with_columns(found.value.alias(key))


def _align_ids(tables: dict[str, pl.LazyFrame], key: str) -> None:
    """The ids of ``key`` as integers in every table that has them, if no spelling is lost by it; else as text."""
    schemas = {name: rows.collect_schema() for name, rows in tables.items()}
    having = [name for name, schema in schemas.items() if key in schema and not schema[key].is_nested()]
    kind: type[pl.DataType] | None = None
    if all(_spelt_as_integers(tables[name], key) for name in having):
        kind = pl.Int64
    elif any(schemas[name][key] in (pl.String, pl.UInt64, pl.Int128) for name in having):
        kind = pl.String
    if kind is not None:
        for name in having:
            tables[name] = tables[name].with_columns(pl.col(key).cast(kind))


def _spelt_as_integers(rows: pl.LazyFrame, key: str) -> bool:
    kind, ids = rows.collect_schema()[key], pl.col(key)
    if kind != pl.String:
        return kind.is_integer() and kind != pl.UInt64
    same = ids.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(ids)
    return bool(rows.select(same.all()).collect(engine="streaming").item())


def _keys(
    declared: TabularSchema | None,
    frames: Mapping[str, pl.DataFrame],
    clicks: Path,
    types: Mapping[str, FieldType],
    roles: Mapping[str, str | None] | None,
    separators: dict[str, str],
    report: ReadingReport,
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


def _tell_roles(roles: Roles, has_fields: bool, report: ReadingReport) -> None:
    told = [f"{role} = {field}" for role, field in roles.model_dump().items() if field is not None]
    if told:
        report.note("items", f"Roles: {', '.join(told)}; name others with --set roles.title=... and so on.")
    if roles.title is None and has_fields:
        report.note("items", "No field is a title: the semantic loss stays off; name one with --set roles.title=...")
