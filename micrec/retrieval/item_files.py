"""Files of items and of item ids, for a bundle: CSV with the options of ``convert``, Parquet, or one id a line."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from micrec.data.column_names import how_to_name, match_column
from micrec.data.ids import Spelling, read_ids
from micrec.data.schema import FieldType
from micrec.data.table_files import TableFiles, holds_decimal_commas, kind_of, open_table, readable_as
from micrec.errors import MicrecError
from micrec.field_encoder import SEPARATOR, FieldEncoder
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.new_items import ITEM_ID

CLICK_COLUMNS = ("user_id", "item_id", "timestamp")
_BETWEEN_VALUES = (SEPARATOR, ";", ",")


class FileOptions(NamedTuple):
    """How files are written, as in ``convert``.

    Attributes:
        separator: Between the cells of a CSV line; None = recognised.
        columns: The files' columns by our names.
        ids: How ids are read: as_written, number (007 is 7) or lower (A7 is a7).
    """

    separator: str | None = None
    columns: Mapping[str, str] | None = None
    ids: Spelling = "as_written"


class ItemFile(NamedTuple):
    """Items as a file has them, ready for ``Retriever.add_items``."""

    frame: pl.DataFrame
    notes: tuple[str, ...]


def read_items(path: Path, bundle: Bundle, options: FileOptions) -> ItemFile:
    """Items with the fields that the bundle's model reads, and its title field; other columns are noted and left out.

    Several values in a cell are parted by the one of ``|``, ``;`` and ``,`` that gives the most known values.

    Raises:
        MicrecError: If the file cannot be read, holds no item, or lacks ``item_id``; or if a column seems to be a field
            that is spelt otherwise.
    """
    if not path.exists():
        raise MicrecError(f"{path}: there is no such file: give a CSV or Parquet file with item_id and item fields.")
    table = open_table(path, separator=options.separator, as_text=True, spelled=[ITEM_ID])
    header = table.rows.collect_schema().names()
    encoder, title = bundle.item_encoder, bundle.manifest.get("title_field")
    wanted = [ITEM_ID, *encoder.fields, *([title] if title else [])]
    theirs = _matched(path, header, wanted, options.columns or {})
    unread = [name for name in header if name not in theirs.values()]
    kept, notes = dict(theirs), list(table.notes)
    if unread and len(theirs) > 1:
        _refuse_slips(path, unread, [name for name in wanted if name not in theirs])
        notes.append(f"{path.name}: not read by the model: {', '.join(unread)}.")
    else:
        kept |= {name: name for name in unread}  # the encoder names them, and what there is
    frame = _ids(_taken(table, kept), path, options.ids, notes)
    if frame.is_empty():
        raise MicrecError(f"{path}: holds no row below its header: write one per item.")
    return ItemFile(_parsed(frame, encoder, table, notes), tuple(notes))


def read_clicks(path: Path, options: FileOptions) -> pl.DataFrame:
    """Clicks of a table with ``user_id, item_id, timestamp``, ready for ``Retriever.add_clicks``.

    Times are whole seconds since 1970, or dates with a time of day as ISO 8601 has them, UTC where they name no zone.

    Raises:
        MicrecError: If the file cannot be read, lacks a column, holds no click, or a time is neither.
    """
    if not path.exists():
        raise MicrecError(f"{path}: there is no such file: give a CSV or Parquet file with {', '.join(CLICK_COLUMNS)}.")
    table = open_table(path, separator=options.separator, as_text=True, spelled=list(CLICK_COLUMNS))
    header, columns = table.rows.collect_schema().names(), options.columns or {}
    theirs = {ours: match_column(columns.get(ours, ours), header) for ours in CLICK_COLUMNS}
    if missing := [ours for ours, found in theirs.items() if found is None]:
        options_of = " ".join(how_to_name(ours, header) for ours in missing)
        there = ", ".join(header)
        raise MicrecError(f"{path}: no column {', '.join(missing)} (there are: {there}): name them with {options_of}.")
    frame = _taken(table, {ours: found for ours, found in theirs.items() if found is not None})
    if frame.is_empty():
        raise MicrecError(f"{path}: holds no row below its header: write one per click.")
    return frame.with_columns(_times(frame["timestamp"], path))


def _times(cells: pl.Series, path: Path) -> pl.Series:
    """Seconds or moments from what the cells hold."""
    if cells.dtype != pl.String:
        return cells
    seconds = cells.str.strip_chars().cast(pl.Int64, strict=False)
    if seconds.null_count() == cells.null_count():
        return seconds
    moments = cells.str.strip_chars().str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
    wrong = cells.filter(moments.is_null() & cells.is_not_null())
    if len(wrong):
        raise MicrecError(
            f"{path}: timestamp: {wrong[0]!r} is no time: write whole seconds since 1970, or 2026-11-29T14:00:00."
        )
    return moments


def read_item_ids(path: Path, options: FileOptions) -> list[str]:
    """Ids of items: the column ``item_id`` of a table, or the lines of a text file, with or without ``item_id`` on top.

    Raises:
        MicrecError: If the file cannot be read, or holds no id.
    """
    if not path.exists():
        raise MicrecError(f"{path}: there is no such file: give one with an item id a line, or a table with item_id.")
    if kind_of(path) == "Parquet" or path.is_dir() or _has_cells(path):
        table = open_table(path, separator=options.separator, as_text=True, spelled=[ITEM_ID])
        header = table.rows.collect_schema().names()
        theirs = _matched(path, header, [ITEM_ID], options.columns or {})
        frame = _ids(_taken(table, theirs), path, options.ids, [])
        found = frame[ITEM_ID].drop_nulls().cast(pl.String).to_list()
    else:
        found = [line.strip() for line in _lines(path) if line.strip()]
        if found and match_column(ITEM_ID, found[:1]):
            found = found[1:]
    if not found:
        raise MicrecError(f"{path}: holds no item id: write one a line.")
    return found


def _has_cells(path: Path) -> bool:
    """Whether a CSV file is a table with a column ``item_id``, and not one id a line."""
    if kind_of(path) is None:
        return False
    if path.name.lower().endswith((".gz", ".zst")):
        return True
    first = next(iter(_lines(path)), "")
    return any(
        match_column(ITEM_ID, cells)
        for cells in (first.split(mark) for mark in (",", ";", "\t", "|"))
        if len(cells) > 1
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as fault:
        raise MicrecError(f"{path}: cannot be read ({fault}): write UTF-8 text, one item id a line.") from fault


def _matched(path: Path, header: Sequence[str], wanted: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The file's columns by our names, for those of ``wanted`` that it has."""
    faults = []
    for ours, column in columns.items():
        if match_column(column, header) is None:
            faults.append(f"--columns {ours}={column}: no column of that name, there are: {', '.join(header)}")
        elif ours not in wanted and len(wanted) > 1:
            faults.append(f"--columns {ours}={column}: no field of the model, there are: {', '.join(wanted)}")
    theirs = {ours: found for ours in wanted if (found := match_column(columns.get(ours, ours), header)) is not None}
    if ITEM_ID not in theirs and not faults:
        option = how_to_name(ITEM_ID, [name for name in header if name not in theirs.values()])
        faults.append(f"no column item_id (there are: {', '.join(header)}): add it, or name it with {option}")
    if faults:
        raise MicrecError.of(str(path), faults)
    return theirs


def _refuse_slips(path: Path, unread: Sequence[str], missing: Sequence[str]) -> None:
    meant = {name: difflib.get_close_matches(name, missing, n=1, cutoff=0.75) for name in unread}
    faults = [
        f"column {name}: did you mean {close[0]}? Name it with --columns {close[0]}={name}"
        for name, close in meant.items()
        if close
    ]
    if faults:
        raise MicrecError.of(str(path), faults)


def _taken(table: TableFiles, theirs: Mapping[str, str]) -> pl.DataFrame:
    with readable_as(table.path, table.kind, table.files):
        return table.rows.select(pl.col(name).alias(ours) for ours, name in theirs.items()).collect()


def _ids(frame: pl.DataFrame, path: Path, spelling: Spelling, notes: list[str]) -> pl.DataFrame:
    found = read_ids(frame.lazy(), ITEM_ID, spelling=spelling, warn_of_case=False)
    if found.faults:
        raise MicrecError.of(str(path), list(found.faults))
    notes += [f"{path.name}: {note}" for note in found.notes]
    return frame.with_columns(found.value.alias(ITEM_ID))


def _parsed(frame: pl.DataFrame, encoder: FieldEncoder, table: TableFiles, notes: list[str]) -> pl.DataFrame:
    """Text cells of several values as lists, and numbers with a decimal comma with a point."""
    for spec in encoder.specs:
        if spec.own_id or spec.name not in frame.columns or frame.schema[spec.name] != pl.String:
            continue
        cells = frame[spec.name]
        if spec.multi_valued:
            frame = frame.with_columns(_split(cells, encoder.labels[spec.name]))
        elif spec.type is FieldType.NUMERIC and not table.has_commas_between and holds_decimal_commas(cells):
            notes.append(f"{table.path.name}: {spec.name}: 1,5 is read as 1.5.")
            frame = frame.with_columns(cells.str.replace(",", ".", literal=True))
    return frame


def _split(cells: pl.Series, labels: Sequence[str]) -> pl.Series:
    known = pl.Series(labels, dtype=pl.String).implode()
    best, most = None, -1
    for mark in _BETWEEN_VALUES:
        lists = cells.str.split(mark).list.eval(pl.element().str.strip_chars())
        count = int(lists.explode().is_in(known).sum() or 0)
        if count > most:
            best, most = lists, count
    assert best is not None
    return best
