"""From a public log to a dataset folder: the readers by name, and the conversion."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import polars as pl
from pydantic import Field, field_validator
from rich.markup import escape
from rich.table import Table

from micrec.config import Frozen
from micrec.data.log_times import notes_on_times
from micrec.data.readers import DatasetFrames, DatasetScan, Reader
from micrec.data.readers.files import existing, files_like
from micrec.data.readers.kuairand import KUAIRAND
from micrec.data.readers.movielens import MOVIELENS
from micrec.data.readers.online_retail import ONLINE_RETAIL
from micrec.data.readers.recbole import RECBOLE
from micrec.data.readers.tabular import TabularOptions, read_tabular, scan_tabular
from micrec.data.schema import FieldType
from micrec.data.store import SCHEMA_FILE, click_times, count_clicks, new_folder, write_tables
from micrec.data.table_files import CSV_ENDINGS, PARQUET_ENDINGS, kind_of, readable_as
from micrec.data.times import check_timezone
from micrec.destination import LEAST_BYTES, bytes_of, check_destination, refuse_around, refuse_inside
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from micrec.registry import Registry
from micrec.settings import explain, validate

AUTO = "auto"
SCRATCH = "clicks-as-read.parquet"  # within the folder while it is written
LEAST_SHARE = 100  # a dataset takes this fraction of its source's bytes, or more
TABLE_PATTERNS = tuple(ending.removeprefix(".") for ending in (*CSV_ENDINGS, *PARQUET_ENDINGS))


class TableReaderConfig(Frozen):
    """Options of the reader ``table``."""

    users: Path | None = Field(None, description="File of the user table.")
    items: Path | None = Field(None, description="File of the item table.")
    schema_file: Path | None = Field(None, alias="schema", description="YAML file with field types and roles.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="The files' column names by ours, as in columns.user_id=CustomerID."
    )
    timezone: str | None = Field(None, description="Zone of times that name none, and of the days: Europe/Oslo.")
    implausible_times: Literal["refuse", "drop"] = Field(
        "refuse", description="What to do with single clicks before 1990 or in the future."
    )
    ids: Literal["as_written", "number", "lower"] = Field(
        "as_written", description="number: 007 and 7.0 are 7; lower: A7 is a7."
    )
    separator: str | None = Field(None, description="Between the cells of a CSV line; null = recognised.")
    types: dict[str, FieldType] = Field(
        default_factory=dict, description="Types of fields instead of the guessed ones, as in types.genres=text."
    )
    roles: dict[Literal["title", "category", "taxonomy", "content"], str | None] = Field(
        default_factory=dict, description="Item fields by their role, as in roles.title=name."
    )

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                check_timezone(name, "")
            except MicrecError as fault:
                raise ValueError(str(fault).removeprefix(": ")) from None
        return name


class TablesBeside(TypedDict):
    """The tables of users and items, and the schema file."""

    users: Path | pl.DataFrame | None
    items: Path | pl.DataFrame | None
    schema: Path | None


def read_table(source: Path, options: TableReaderConfig) -> DatasetFrames:
    """Read plain tables: ``source`` is the clicks file, a folder of ``clicks``, ``users``, ``items`` files (or folders)
    and ``schema.yaml``, all but the first optional, or a folder of part files of the clicks; a file named in the
    options goes first.

    Raises:
        MicrecError: As ``read_tabular``, or if a folder has no clicks file, or two files for one table.
    """
    clicks, beside = _found_tables(source, options)
    return read_tables(clicks, options, **beside)


def scan_table(source: Path, options: TableReaderConfig, scratch: Path, progress: Progress) -> DatasetScan:
    """As ``read_table``, with the clicks in a stream; ``scratch`` is a file that may be written."""
    clicks, beside = _found_tables(source, options)
    return scan_tabular(clicks, **_keywords(options, beside), scratch=scratch, progress=progress)


def read_tables(
    clicks: Path | pl.DataFrame, options: TableReaderConfig, **tables: Unpack[TablesBeside]
) -> DatasetFrames:
    """Read plain tables, each a file, a folder of part files, or a frame in memory; see ``scan_tabular``."""
    return read_tabular(clicks, **_keywords(options, tables))


def _keywords(options: TableReaderConfig, tables: TablesBeside) -> TabularOptions:
    return {
        **tables,
        "columns": options.columns,
        "timezone": options.timezone,
        "implausible_times": options.implausible_times,
        "ids": options.ids,
        "separator": options.separator,
        "types": options.types,
        "roles": {str(role): field for role, field in options.roles.items()} or None,
    }


def _found_tables(source: Path, options: TableReaderConfig) -> tuple[Path, TablesBeside]:
    """The clicks of a file or folder, and what lies beside them where the options name no other."""
    clicks, found = _table_files(source) if existing(source).is_dir() else (source, TableReaderConfig())
    return clicks, {
        "users": options.users or found.users,
        "items": options.items or found.items,
        "schema": options.schema_file or found.schema_file,
    }


def _table_files(folder: Path) -> tuple[Path, TableReaderConfig]:
    clicks = _table_file(folder, "clicks")
    if clicks is None:
        if _table_file(folder, "users") or _table_file(folder, "items") or not _holds_parts(folder):
            raise MicrecError(
                f"{folder}: no clicks file in it: name one clicks.csv or clicks.parquet, or give its path."
            )
        return folder, TableReaderConfig()
    users, items, schema = _table_file(folder, "users"), _table_file(folder, "items"), folder / "schema.yaml"
    return clicks, TableReaderConfig(users=users, items=items, schema=schema if schema.is_file() else None)


def _table_file(folder: Path, name: str) -> Path | None:
    found = [path for suffix in TABLE_PATTERNS for path in files_like(folder, f"{name}.{suffix}")]
    if _holds_parts(folder / name):
        found.append(folder / name)
    if len(found) > 1:
        raise MicrecError(f"{folder}: {' and '.join(path.name for path in found)} are one table twice: remove one.")
    return found[0] if found else None


def _holds_parts(folder: Path) -> bool:
    return folder.is_dir() and any(kind_of(path) for path in folder.rglob("*"))


def _is_table(source: Path) -> bool:
    if source.is_dir():
        return _holds_parts(source)
    return source.name.lower().endswith(TABLE_PATTERNS)


TABLE = Reader(
    "Plain tables: the clicks as .csv, .tsv or .parquet, a folder of parts, or one with clicks, users and items",
    TableReaderConfig,
    read_table,
    _is_table,
    is_general=True,
    scan=scan_table,
)
READERS: Registry[Reader] = Registry(
    "reader",
    "readers",
    {
        "online-retail": ONLINE_RETAIL,
        "kuairand": KUAIRAND,
        "movielens": MOVIELENS,
        "recbole": RECBOLE,
        "table": TABLE,
    },
)
"""Readers by name; ``auto`` takes the first that recognises the source, ``table`` where no other does."""


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        reader: Name of the reader.
        folder: The dataset folder that was written.
        rows: Rows of the source's log.
        clicks: Clicks kept.
        users: Rows of the user table.
        items: Rows of the item table.
        dropped: What was left out: a reason in words, and how many.
        notes: What was guessed, assumed or looks odd, as sentences.
    """

    reader: str
    folder: Path
    rows: int
    clicks: int
    users: int
    items: int
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()


def convert(
    reader: str,
    source: Path,
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    name: str | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Read ``source``, and write the dataset folder ``out`` with every check.

    Clicks of a reader that has ``scan`` pass in a stream, a few row groups at a time; other readers hold them in
    memory.

    Args:
        reader: A key of ``READERS``, or ``auto``.
        source: File or folder, as the reader wants it.
        out: The folder to write; it appears whole, or nothing changes.
        options: Keys of the reader's options.
        overwrite: Replace an existing dataset.
        name: Name of the dataset; None = as the reader calls it.
        progress: Where to report.

    Raises:
        MicrecError: If the reader or an option is unknown, the source is missing or invalid, or ``out`` is taken.
    """
    key, chosen, checked = choose_reader(reader, source, options or {})
    check_out(out, source, checked)
    progress = progress or NoProgress()
    with new_folder(out, overwrite=overwrite) as partial:
        scratch = partial / SCRATCH
        found = chosen.read(source, checked) if chosen.scan is None else chosen.scan(source, checked, scratch, progress)
        schema = found.schema if name is None else found.schema.model_copy(update={"name": name})
        with _source_readable(found):
            write_tables(partial, schema, found.users, found.items, found.clicks, progress=progress)
        scratch.unlink(missing_ok=True)
        n_users, n_items, dropped = len(found.users), len(found.items), found.dropped
        del found
        n_clicks = count_clicks(partial)
        notes = [str(note) for note in schema.provenance.get("notes", [])]
        notes += notes_on_times(click_times(partial, schema.time_unit), schema.days)
    return Conversion(
        reader=key,
        folder=out,
        rows=int(schema.provenance.get("rows", n_clicks)),
        clicks=n_clicks,
        users=n_users,
        items=n_items,
        dropped=dropped,
        notes=tuple(notes),
    )


def _source_readable(found: DatasetFrames | DatasetScan) -> AbstractContextManager[None]:
    """Speak of the source where rows that are still to be read cannot be."""
    if isinstance(found, DatasetScan):
        return readable_as(found.origin.path, found.origin.kind, found.origin.files)
    return nullcontext()


def check_out(out: Path, source: Path, options: Frozen) -> None:
    """Refuse a destination that is read, cannot be written, or has no room for a hundredth of what is read.

    Raises:
        MicrecError: With the cure.
    """
    files = [value for value in options.model_dump().values() if isinstance(value, Path)]
    inputs = [path for path in (source, *files) if path.exists()]
    refuse_around(out, *inputs)
    is_read_whole = not source.is_dir() or (source / SCHEMA_FILE).is_file() or _is_folder_of_parts(source)
    refuse_inside(out, *(path for path in inputs if path != source or is_read_whole))
    if out.resolve() == source.resolve():
        refuse_inside(out, source)
    needs = max(LEAST_BYTES, bytes_of(*inputs) // LEAST_SHARE)
    check_destination(out, *files, replaced=True, needs=needs, what="the dataset")


def _is_folder_of_parts(source: Path) -> bool:
    return _holds_parts(source) and not any(_table_file(source, name) for name in ("clicks", "users", "items"))


def choose_reader(reader: str, source: Path, options: Mapping[str, Any]) -> tuple[str, Reader, Frozen]:
    """The name of the reader, the reader, and its checked options.

    Raises:
        MicrecError: If the reader or an option is unknown, or no reader knows the source.
    """
    name = detect(source) if reader == AUTO else reader
    if name not in READERS:
        raise MicrecError(f"reader: there is no {name!r}: use one of {', '.join([*READERS, AUTO])}.")
    return name, READERS[name], validate(READERS[name].options, options, where=f"options of the reader {name}")


def detect(source: Path) -> str:
    """The first reader that recognises ``source``.

    Raises:
        MicrecError: If ``source`` is missing or no reader knows it.
    """
    existing(source)
    for name in sorted(READERS, key=lambda one: READERS[one].is_general):
        if READERS[name].recognises(source):
            return name
    known = [f"{name}: {reader.summary}" for name, reader in READERS.items()]
    raise MicrecError("\n  - ".join([f"{source}: no reader knows this layout; there are", *known]))


def conversion_table(conversion: Conversion) -> Table:
    """What was read, dropped and kept, for a terminal."""
    grid = Table(title=escape(f"{conversion.reader} -> {conversion.folder}"), title_justify="left", show_header=False)
    grid.add_column("")
    grid.add_column("", justify="right")
    grid.add_row("rows read", f"{conversion.rows:,}")
    grid.add_section()
    for reason, count in conversion.dropped.items():
        grid.add_row(escape(f"dropped: {reason}"), f"{count:,}")
    grid.add_section()
    for label in ("clicks", "users", "items"):
        grid.add_row(f"kept: {label}", f"{getattr(conversion, label):,}")
    return grid


def readers_table() -> Table:
    """Every reader with its options, for a terminal."""
    grid = Table("reader, option", "default", "")
    for name, reader in READERS.items():
        grid.add_row(name, "", escape(reader.summary))
        for option in explain(reader.options):
            grid.add_row(f"  {option.key}", escape(option.default), escape(f"{option.description} [{option.type}]"))
        grid.add_section()
    return grid
