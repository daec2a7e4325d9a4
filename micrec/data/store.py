"""The dataset folder: written whole or not at all, read with every error reported at once.

A folder holds ``dataset.yaml`` (:class:`micrec.data.schema.DatasetSchema`), ``users.parquet``, ``items.parquet``, and
``clicks.parquet`` or ``clicks/part-00000.parquet ...``.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

from micrec.data.dataset import CLICK_ARRAYS, Clicks, Dataset
from micrec.data.dataset_card import CARD_FILE, write_card
from micrec.data.encoding import CLICK_COLUMNS, ClickEncoder, TimeUnit, encode_table, to_time_ms
from micrec.data.mapped import (
    MANIFEST,
    MAPPED,
    MOST_BYTES,
    WHAT,
    is_mapped,
    marks_of,
    open_mapped,
    outgrows_memory,
    write_columns,
    write_manifest,
)
from micrec.data.parquet_files import ROWS_PER_GROUP, reason_of, sink_parquet, writable, write_parquet
from micrec.data.schema import DatasetSchema
from micrec.data.sorting import parts_of, stable_order
from micrec.data.validation import Faults, TableSource, check_schema, check_table, id_kind
from micrec.destination import check_room
from micrec.errors import MicrecError
from micrec.folder_lock import locked, waiting_for
from micrec.progress import NoProgress, Progress
from micrec.settings import check, load_yaml

SCHEMA_FILE = "dataset.yaml"
TABLES = {"users": "user_id", "items": "item_id"}
EMPTY_LOG = "clicks: the log is empty: write at least one click"
ROWS_PER_CHUNK = ROWS_PER_GROUP  # clicks decoded at a time: 25 MB of integer ids


def write_dataset(
    folder: Path,
    schema: DatasetSchema,
    users: pl.DataFrame,
    items: pl.DataFrame,
    clicks: pl.DataFrame | Iterable[pl.DataFrame],
    *,
    overwrite: bool = False,
    validate: bool = True,
) -> None:
    """Write a dataset folder; it appears whole, or nothing changes. The same input gives the same bytes.

    Args:
        folder: Where to. Missing parents are made.
        schema: Fields, roles, time unit, provenance.
        users: ``user_id`` (integers or strings) and the user fields, one row per user.
        items: ``item_id`` and the item fields. A multi-valued field is a list column, a vector a list or array.
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``; a frame becomes one file, an
            iterable of frames one file each, and only one frame is in memory at a time.
        overwrite: Replace an existing dataset; it stays in place until the new one is whole.
        validate: Refuse what ``read_dataset`` would refuse. Switch off only for data known to be valid.

    Raises:
        MicrecError: If the folder is taken, the data are invalid (all errors at once), or the disk is.
    """
    with new_folder(folder, overwrite=overwrite) as partial:
        write_tables(partial, schema, users, items, clicks, validate=validate)


def write_tables(
    folder: Path,
    schema: DatasetSchema,
    users: pl.DataFrame,
    items: pl.DataFrame,
    clicks: pl.DataFrame | pl.LazyFrame | Iterable[pl.DataFrame],
    *,
    validate: bool = True,
    progress: Progress | None = None,
) -> None:
    """``write_dataset`` into an existing empty folder, such as one of ``new_folder`` that gets further files.

    A lazy frame of clicks becomes one file, the same bytes as the collected one, and is never held: it is written in a
    stream, read back in chunks where it is to be valid, and ``progress`` counts both.

    Raises:
        MicrecError: If the data are invalid, all errors at once, or the disk is; files may then be left behind.
    """
    faults = Faults()
    encoder = _check_tables(schema, {"users": users, "items": items}, faults) if validate else None
    write_schema(folder, schema)
    write_parquet(folder / "users.parquet", users)
    write_parquet(folder / "items.parquet", items)
    if isinstance(clicks, pl.DataFrame):
        _write_clicks(folder / "clicks.parquet", clicks, TableSource("clicks.parquet"), encoder)
    elif isinstance(clicks, pl.LazyFrame):
        _stream_clicks(folder / "clicks.parquet", clicks, encoder, faults, progress or NoProgress())
    else:
        (folder / "clicks").mkdir()
        for number, frame in enumerate(clicks):
            part = f"part-{number:05d}.parquet"
            _write_clicks(folder / "clicks" / part, frame, TableSource("clicks", part), encoder)
    if encoder is not None:
        encoder.check_times()
        if encoder.n_rows == 0:
            faults.add(EMPTY_LOG)
    faults.raise_any(f"{schema.name}: not a valid dataset, nothing was written")
    with writable(folder / CARD_FILE):
        write_card(folder, schema)


def write_schema(folder: Path, schema: DatasetSchema) -> None:
    """Write ``dataset.yaml`` into an existing folder."""
    text = yaml.safe_dump(schema.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    with writable(folder / SCHEMA_FILE):
        (folder / SCHEMA_FILE).write_text(text, encoding="utf-8")


@contextmanager
def new_folder(
    folder: Path,
    *,
    overwrite: bool = False,
    resume: str | None = None,
    mark: str = SCHEMA_FILE,
    what: str = "dataset folder",
) -> Iterator[Path]:
    """A folder to fill that becomes ``folder`` when the block ends without an exception.

    It is a hidden sibling until then. A kill leaves ``folder`` as it was; the sibling is removed by the next attempt.
    Another process that wants to write the same folder meanwhile is refused.

    Args:
        folder: The dataset folder, or another that is marked as one of its kind.
        overwrite: Replace an existing one.
        resume: Key of what is being written, 16 hexadecimal digits. A sibling of the same key is taken up again with
            all it holds, and it stays when the block fails. None = start anew, leave nothing behind.
        mark: File by which a folder of the kind is known; another folder is never replaced.
        what: The kind, for messages.

    Raises:
        MicrecError: If ``folder`` exists and is not empty, unless ``overwrite`` and it is of the kind; or if another
            process is writing it.
    """
    folder = folder.resolve()
    partial, previous = partial_of(folder, resume), _sibling(folder, "previous")
    if previous.exists() and not folder.exists():
        previous.rename(folder)  # a kill between the two renames below
    _refuse_taken(folder, overwrite, mark, what)
    for former in _partials(folder):
        with locked(former, told=folder):
            if resume is None or former != partial:
                shutil.rmtree(former, ignore_errors=True)
    with writable(folder):
        partial.mkdir(parents=True, exist_ok=True)
    with locked(partial, told=folder):
        try:
            yield partial
            with writable(folder):
                _swap(partial, folder, previous)
        finally:
            if resume is None:
                shutil.rmtree(partial, ignore_errors=True)


def partial_of(folder: Path, resume: str | None) -> Path:
    """Where ``new_folder`` gathers what becomes ``folder``."""
    return _sibling(folder.resolve(), f"partial.{resume}" if resume else "partial")


def _partials(folder: Path) -> list[Path]:
    """What earlier attempts left beside ``folder``."""
    if not folder.parent.is_dir():
        return []
    name = re.compile(rf"\.{re.escape(folder.name)}\.partial(\.[0-9a-f]{{16}})?")
    return [path for path in folder.parent.iterdir() if name.fullmatch(path.name)]


def _sibling(folder: Path, state: str) -> Path:
    """Hidden neighbour of ``folder`` on the same disk, so that a rename is atomic."""
    return folder.with_name(f".{folder.name}.{state}")


def _refuse_taken(folder: Path, overwrite: bool, mark: str, what: str) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / mark).is_file():
        raise MicrecError(f"{folder}: exists and is not a {what}: name another one, it will not be replaced.")
    if not overwrite:
        raise MicrecError(f"{folder}: exists: name another folder, or overwrite it (overwrite=True, --force).")


def _swap(new: Path, folder: Path, previous: Path) -> None:
    """Put ``new`` in the place of ``folder``; if that fails, the old one is put back."""
    if not folder.exists():
        os.replace(new, folder)
        return
    shutil.rmtree(previous, ignore_errors=True)
    os.replace(folder, previous)
    try:
        os.replace(new, folder)
    except BaseException:
        os.replace(previous, folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _write_clicks(path: Path, frame: pl.DataFrame, source: TableSource, encoder: ClickEncoder | None) -> None:
    if encoder is not None:
        encoder.check_columns(source, frame.columns)
        for first_row in range(0, len(frame), ROWS_PER_CHUNK):
            encoder.encode(source._replace(first_row=first_row), frame[first_row : first_row + ROWS_PER_CHUNK])
    write_parquet(path, frame)


def _stream_clicks(
    path: Path, rows: pl.LazyFrame, encoder: ClickEncoder | None, faults: Faults, progress: Progress
) -> None:
    n_rows = int(rows.select(pl.len()).collect(engine="streaming").item())
    progress.start("writing", n_rows, "clicks")
    sink_parquet(path, rows, progress=progress)
    progress.finish()
    if encoder is None:
        return
    progress.start("checking", n_rows, "clicks")
    for source, frame in _chunks(path, TableSource(path.name), encoder, faults):
        encoder.encode(source, frame)
        progress.advance(len(frame))
    progress.finish()


def _check_tables(schema: DatasetSchema, tables: dict[str, pl.DataFrame], faults: Faults) -> ClickEncoder:
    """Check schema and tables; returns the encoder that checks the clicks against them."""
    check_schema(schema, faults)
    for name, table in tables.items():
        check_table(TableSource(f"{name}.parquet"), table, TABLES[name], getattr(schema, name), faults)
    user_ids, item_ids = (_usable_ids(tables.get(name), key) for name, key in TABLES.items())
    return ClickEncoder(user_ids, item_ids, schema.time_unit, faults)


def _usable_ids(table: pl.DataFrame | None, key: str) -> pl.Series | None:
    if table is None or key not in table.columns or id_kind(table[key]) is None:
        return None
    return table[key]


def read_dataset(
    folder: Path,
    *,
    keep_users: NDArray[np.bool_] | None = None,
    mapped: bool | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read, validate and encode a dataset folder.

    With ``keep_users``, over the rows of the user table, only the clicks of those users are kept; all are checked.
    The dense id of a user or item is its row in the Parquet file. Clicks are sorted by time, ties in file order.
    Memory stays near the size of the encoded columns: clicks are decoded in chunks. ``progress`` counts them.

    Args:
        folder: The dataset folder.
        keep_users: Users whose clicks are kept, shape (U,).
        mapped: Whether the clicks are mapped from the folder's encoded columns (``micrec.data.mapped``), which are
            written first where they are missing or of other files. None: where the folder has such columns, or the
            log would take more than half of the memory.
        progress: Where to report.

    Raises:
        MicrecError: Naming every error found, with file, column, count, first rows, and cure.
    """
    if not folder.is_dir():
        raise MicrecError(f"{folder}: there is no such dataset folder: {_cure_of_missing(folder)}.")
    faults = Faults()
    schema = _read_schema(folder / SCHEMA_FILE, faults)
    tables = {name: table for name in TABLES if (table := _read_table(folder / f"{name}.parquet", faults)) is not None}
    files = _click_files(folder, faults)
    clicks = None
    if schema is None:
        for source, path in files:
            next(_chunks(path, source, None, faults), None)
    else:
        encoder = _check_tables(schema, tables, faults)
        log = _Log(files, encoder, faults, progress or NoProgress())
        wanted = mapped
        if mapped is None:
            wanted = is_mapped(folder) or outgrows_memory(sum(_rows_of(path) for _, path in files))
        if wanted and not faults.texts():
            clicks = _mapped_clicks(folder, log, asked=mapped is not None)
            if clicks is not None and keep_users is not None:
                clicks = _in_time_order([one[keep_users[one.user_ids]] for one in _parts(clicks)])
        else:
            clicks = log.read(keep_users)
    faults.raise_any(f"{folder}: not a valid dataset")
    assert schema is not None
    assert clicks is not None
    users, items = (encode_table(tables[name], key, getattr(schema, name)) for name, key in TABLES.items())
    return Dataset(schema=schema, users=users, items=items, clicks=clicks, folder=folder)


def dataset_of_frames(schema: DatasetSchema, users: pl.DataFrame, items: pl.DataFrame, clicks: pl.DataFrame) -> Dataset:
    """A dataset in memory, validated and encoded as if it had been written to a folder and read back.

    Args:
        schema: Fields, roles, time unit, provenance.
        users: ``user_id`` and the user fields, one row per user.
        items: ``item_id`` and the item fields, one row per item.
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``.

    Raises:
        MicrecError: Naming every error found, with table, column, count, first rows, and cure.
    """
    faults = Faults()
    tables = {"users": users, "items": items}
    encoder = _check_tables(schema, tables, faults)
    source = TableSource("clicks")
    encoder.check_columns(source, clicks.columns)
    starts = range(0, len(clicks), ROWS_PER_CHUNK)
    found = [encoder.encode(source._replace(first_row=row), clicks[row : row + ROWS_PER_CHUNK]) for row in starts]
    encoder.check_times()
    if clicks.is_empty():
        faults.add(EMPTY_LOG)
    faults.raise_any(f"{schema.name}: not a valid dataset")
    encoded_users, encoded_items = (
        encode_table(tables[name], key, getattr(schema, name)) for name, key in TABLES.items()
    )
    return Dataset(schema, encoded_users, encoded_items, _in_time_order([one for one in found if one is not None]))


def count_clicks(folder: Path) -> int:
    """Clicks of a valid dataset folder, by the footers of its files."""
    return sum(_rows_of(path) for _, path in _click_files(folder, Faults()))


def click_times(folder: Path, unit: TimeUnit) -> Iterator[NDArray[np.int64]]:
    """Times of the clicks of a valid dataset folder in milliseconds, in the order of its files, in arrays (n,)."""
    for _, path in _click_files(folder, Faults()):
        times = pl.scan_parquet(path, glob=False, hive_partitioning=False).select("timestamp")
        for part in parts_of(_rows_of(path), ROWS_PER_CHUNK):
            values = times.slice(part.start, part.stop - part.start).collect()["timestamp"]
            yield to_time_ms(values, unit).to_numpy()


def _cure_of_missing(folder: Path) -> str:
    previous = _sibling(folder.resolve(), "previous")
    if previous.is_dir():
        return f"overwriting it was interrupted; rename {previous} back, or overwrite it again"
    return "check the path, or make one with micrec convert"


def _read_schema(path: Path, faults: Faults) -> DatasetSchema | None:
    if not path.is_file():
        faults.add(f"{path.name}: the file is missing: write one with the name and the fields of the dataset")
        return None
    try:
        data = load_yaml(path)
    except MicrecError as fault:
        faults.add(str(fault))
        return None
    if not data:
        faults.add(f"{path.name}: the file is empty: write the name and the fields of the dataset")
        return None
    schema, texts = check(DatasetSchema, data)
    for text in texts:
        faults.add(f"{path.name}: {text}")
    return schema


def _read_table(path: Path, faults: Faults) -> pl.DataFrame | None:
    with _readable(path.name, faults):
        return pl.read_parquet(path, glob=False, hive_partitioning=False)
    return None


@contextmanager
def _readable(name: str, faults: Faults) -> Iterator[None]:
    """Turn a missing, cut or foreign file into a fault."""
    try:
        yield
    except FileNotFoundError:
        faults.add(f"{name}: the file is missing: put it into the folder")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as fault:
        faults.add(f"{name}: no readable Parquet file, perhaps cut short ({reason_of(fault)}): write or fetch it again")


def _click_files(folder: Path, faults: Faults) -> list[tuple[TableSource, Path]]:
    """``clicks.parquet``, or the parts of ``clicks/`` by name."""
    single, parts = folder / "clicks.parquet", sorted((folder / "clicks").glob("*.parquet"))
    if single.exists() and parts:
        faults.add("clicks.parquet: there are parts in clicks/ too: remove one of the two")
    if single.exists():
        return [(TableSource(single.name), single)]
    if not parts:
        faults.add("clicks.parquet: the file is missing, and so are clicks/part-*.parquet: put the clicks there")
    for path in parts:
        if not path.name.startswith("part-"):
            faults.add(f"clicks/{path.name}: the files of a log are named part-*.parquet: rename or remove it")
    return [(TableSource("clicks", path.name), path) for path in parts]


def _chunks(
    path: Path, source: TableSource, encoder: ClickEncoder | None, faults: Faults
) -> Iterator[tuple[TableSource, pl.DataFrame]]:
    """Decode a file of clicks a few row groups at a time, only the columns in use; at least one chunk if readable."""
    with _readable(f"{source.file}/{source.part}" if source.part else source.file, faults):
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        columns = scan.collect_schema().names()
        if encoder is not None:
            encoder.check_columns(source, columns)
        scan = scan.select(name for name in CLICK_COLUMNS if name in columns)
        n_rows = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(pl.len()).collect().item()
        for first_row in range(0, max(n_rows, 1), ROWS_PER_CHUNK):
            yield source._replace(first_row=first_row), scan.slice(first_row, ROWS_PER_CHUNK).collect()


class _Log(NamedTuple):
    """The files of a click log, and who encodes them."""

    files: list[tuple[TableSource, Path]]
    encoder: ClickEncoder
    faults: Faults
    progress: Progress

    def encoded(self) -> Iterator[Clicks]:
        """The clicks in chunks, in the order of the files; what is wrong with them is among the faults afterwards."""
        any_readable = False
        self.progress.start("reading", sum(_rows_of(path) for _, path in self.files), "clicks")
        for file, path in self.files:
            for source, frame in _chunks(path, file, self.encoder, self.faults):
                any_readable = True
                clicks = self.encoder.encode(source, frame)
                if clicks is not None:
                    yield clicks
                self.progress.advance(len(frame))
        self.progress.finish()
        self.encoder.check_times()
        if any_readable and self.encoder.n_rows == 0:
            self.faults.add(EMPTY_LOG)

    def read(self, keep_users: NDArray[np.bool_] | None) -> Clicks | None:
        """All clicks in memory, in time order."""
        chunks = [one if keep_users is None else one[keep_users[one.user_ids]] for one in self.encoded()]
        return _in_time_order(chunks) if chunks else None


def _mapped_clicks(folder: Path, log: _Log, *, asked: bool) -> Clicks | None:
    """The clicks mapped from encoded columns, which are written where they are not those of the folder's files.

    Two processes do not write the same columns: the second waits, and takes those of the first. In a folder that cannot
    be written, clicks whose mapping nobody ``asked`` for are read into memory.
    """
    paths = [folder / SCHEMA_FILE, *(folder / f"{name}.parquet" for name in TABLES), *(path for _, path in log.files)]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    found = open_mapped(folder, files)
    if found is not None:
        return found
    if not asked and not os.access(folder, os.W_OK):
        log.progress.say(f"{folder}: cannot be written: its clicks are read into memory")
        return log.read(None)
    with waiting_for(folder):
        found = open_mapped(folder, files)
        if found is not None:
            return found
        n_clicks = sum(_rows_of(path) for _, path in log.files)
        check_room(folder / MAPPED, 2 * n_clicks * MOST_BYTES, WHAT)
        marks = marks_of(files)
        try:
            with new_folder(folder / MAPPED, overwrite=True, mark=MANIFEST, what=WHAT) as partial:
                with writable(folder / MAPPED):
                    kinds = write_columns(partial, log.encoded(), log.progress)
                if log.faults.texts():
                    raise _Invalid
                if not all(marks[name].is_same(path) for name, path in files.items()):
                    raise MicrecError(f"{folder}: its files changed while they were read: try again.")
                with writable(folder / MAPPED):
                    write_manifest(partial, kinds, marks)
        except _Invalid:
            return None
        return open_mapped(folder, files)


class _Invalid(Exception):
    """The log has faults: what was written of it is removed."""


def _parts(clicks: Clicks) -> Iterator[Clicks]:
    return (clicks[part] for part in parts_of(len(clicks)))


def _rows_of(path: Path) -> int:
    """Rows by the file's own footer; 0 where it cannot be read, which is reported when its rows are read."""
    try:
        return int(pl.scan_parquet(path, glob=False, hive_partitioning=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return 0


def _in_time_order(chunks: list[Clicks]) -> Clicks:
    """Join chunks and sort them by time, stably; takes ``chunks`` apart, so that one column at a time is doubled."""
    columns = {name: [getattr(chunk, name) for chunk in chunks] for name in CLICK_ARRAYS}
    chunks.clear()
    joined: dict[str, Any] = {}
    for name in list(columns):
        parts = columns.pop(name)
        joined[name] = None if any(part is None for part in parts) else np.concatenate(parts)
        del parts
    time_ms = joined["time_ms"]
    if (time_ms[1:] < time_ms[:-1]).any():
        order = stable_order(time_ms)
        for name, values in joined.items():
            joined[name] = None if values is None else values[order]
    return Clicks(**joined)
