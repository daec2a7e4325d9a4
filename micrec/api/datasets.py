"""Datasets from folders, files and frames, and what can be counted and measured in them."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from micrec.api.arguments import Settings, StrPath
from micrec.config import SessionsConfig, SplitConfig
from micrec.data.dataset import Dataset
from micrec.data.describe import DatasetStatistics
from micrec.data.describe import describe as count
from micrec.data.schema import DatasetSchema
from micrec.data.store import dataset_of_frames, read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.frames import Frame, as_frame
from micrec.progress import Progress
from micrec.settings import as_mapping, merge, nested, validate

if TYPE_CHECKING:
    from micrec.signals.headroom_result import Headroom


def load(folder: StrPath, *, mapped: bool | None = None, progress: Progress | None = None) -> Dataset:
    """Read a dataset folder, with every check.

    Args:
        folder: A folder that ``micrec convert`` or ``micrec world`` wrote.
        mapped: Whether the clicks are mapped from encoded columns on disk, as after ``micrec encode``, instead of read
            into memory. None: where the folder has such columns, or the log would take half of the memory.
        progress: Where to report; ``micrec.LineProgress()`` prints.

    Returns:
        The dataset: encoded user and item tables, and the clicks in time order.

    Raises:
        MicrecError: Naming every error found, with file, column, count, first rows, and cure.

    Examples:
        >>> import micrec, simulator
        >>> world = simulator.make_world("tiny", scale=0.1, out="tiny")
        >>> len(micrec.load("tiny").clicks)
        4795
    """
    return read_dataset(Path(folder), mapped=mapped, progress=progress)


def convert(
    clicks: Frame | StrPath,
    out: StrPath | None = None,
    *,
    users: Frame | StrPath | None = None,
    items: Frame | StrPath | None = None,
    reader: str = "auto",
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    timezone: str | None = None,
    settings: Settings | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Turn a click log, in memory or in files, into a dataset.

    Args:
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``: a Polars or pandas frame, columns
            by name as NumPy arrays, or the path of a file or folder in a layout that a reader knows.
        out: Dataset folder to write; None keeps the dataset in memory. Plain tables of paths pass to it in a stream.
        users: ``user_id`` and the user fields, a frame or a path; None makes the table of the ids in the clicks.
        items: ``item_id`` and the item fields, likewise.
        reader: Name of a reader, as ``micrec convert --list`` prints them, for paths; "auto" recognises the layout.
        name: Name of the dataset; by default that of the file, or ``clicks``.
        columns: Their names of columns by ours: ``{"user_id": "CustomerID"}``.
        timezone: Zone of times that name none, and of the days: ``Europe/Oslo``. Default: UTC.
        settings: Further options of the reader, such as ``{"types.genres": "text", "ids": "lower"}``.
        overwrite: Replace a dataset in ``out``.

    Returns:
        The dataset. What was left out and assumed stands in its ``repr``, and in ``schema.provenance``.

    Raises:
        MicrecError: If a table is invalid, all errors at once, an option is unknown, or ``out`` is taken.

    Examples:
        >>> import micrec, numpy as np
        >>> log = {"user_id": [1, 1, 2], "item_id": ["a", "b", "a"], "timestamp": np.array([0, 60, 90]) + 1_600_000_000}
        >>> micrec.convert(log, name="three").to_frame()["item_id"].to_list()
        ['a', 'b', 'a']
    """
    from micrec.data.convert import choose_reader
    from micrec.data.convert import convert as run_conversion

    tables = {key: _table(key, one) for key, one in (("clicks", clicks), ("users", users), ("items", items))}
    own = {"columns": as_mapping("columns", columns) or None, "timezone": timezone}
    options = merge(nested(settings or {}), {key: value for key, value in own.items() if value is not None})
    log = tables["clicks"]
    if not isinstance(log, Path) or any(isinstance(one, pl.DataFrame) for one in tables.values()):
        return _converted_frames(tables, None if out is None else Path(out), reader, name, options, overwrite)
    options = merge(options, {key: str(tables[key]) for key in ("users", "items") if tables[key] is not None})
    if out is not None:
        run_conversion(reader, log, Path(out), options=options, overwrite=overwrite, name=name)
        return read_dataset(Path(out))
    _, chosen, checked = choose_reader(reader, log, options)
    frames = chosen.read(log, checked)
    return dataset_of_frames(_named(frames.schema, name), frames.users, frames.items, frames.clicks)


def describe(
    data: Dataset | StrPath,
    *,
    test_fraction: float | None = None,
    test_days: int | None = None,
    progress: Progress | None = None,
) -> DatasetStatistics:
    """Count a dataset as Table 1 of the paper does, and say how its clicks are spread.

    Args:
        data: The dataset, or its folder.
        test_fraction: Last share of the clicks that is the test period; default 0.2.
        test_days: Last whole days that are the test period, instead of a share.
        progress: Where to report.

    Returns:
        The figures as attributes; ``to_frame()`` and ``to_dict()`` have them all.

    Raises:
        MicrecError: If the dataset cannot be read, or the split leaves a part empty.

    Examples:
        >>> import micrec, simulator
        >>> figures = micrec.describe(simulator.make_world("tiny", scale=0.1).dataset, test_days=1)
        >>> figures.clicks, figures.test
        (4795, 431)
    """
    given = {"test_fraction": test_fraction, "test_days": test_days}
    split = validate(SplitConfig, {key: value for key, value in given.items() if value is not None}, where="split")
    return count(dataset_of(data, progress), split, SessionsConfig(), progress=progress)


def headroom(
    data: Dataset | StrPath,
    *,
    test_fraction: float | None = None,
    test_days: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> "Headroom":
    """Measure, before any training, how well titles, tags, fields and sessions of a log predict later clicks.

    Args:
        data: The dataset, or its folder.
        test_fraction: Last share of the clicks that is to be predicted; default 0.2.
        test_days: Last whole days that are, instead of a share.
        seed: Of the sample of users and of the items that later clicks are compared with.
        progress: Where to report.

    Returns:
        For each signal an AUC with its interval over users, by how often the items had been clicked.

    Raises:
        MicrecError: If the dataset cannot be read, a part of the split is empty, or no user of the test has earlier
            clicks.

    Examples:
        >>> import micrec, simulator
        >>> found = micrec.headroom(simulator.make_world("tiny", scale=0.1).dataset)
        >>> [signal.name for signal in found.signals][:2]
        ['titles', 'tags']
    """
    from micrec.signals.headroom_result import measure

    given = {"test_fraction": test_fraction, "test_days": test_days}
    split = validate(SplitConfig, {key: value for key, value in given.items() if value is not None}, where="split")
    return measure(dataset_of(data, progress), split, SessionsConfig(), seed=seed, progress=progress)


def dataset_of(data: Dataset | StrPath, progress: Progress | None = None) -> Dataset:
    """The dataset itself, or that of a folder.

    Raises:
        MicrecError: If it is neither a dataset nor a path, or the folder cannot be read.
    """
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, str | PathLike):
        raise MicrecError(
            f"data: is a {type(data).__name__}: give a dataset, as convert and load return, or its folder."
        )
    return load(data, progress=progress)


def _converted_frames(
    tables: Mapping[str, Path | pl.DataFrame | None],
    out: Path | None,
    reader: str,
    name: str | None,
    options: Mapping[str, Any],
    overwrite: bool,
) -> Dataset:
    """What the reader of plain tables makes of tables some of which are in memory."""
    from micrec.data.convert import TableReaderConfig, read_tables
    from micrec.destination import check_destination

    if reader not in ("auto", "table"):
        raise MicrecError(f"reader: {reader!r} reads files: give paths, or leave the reader out for frames.")
    if out is not None:
        read = [one for one in tables.values() if isinstance(one, Path)]
        check_destination(out, *read, replaced=True, what="the dataset")
    plain = validate(TableReaderConfig, options, where="settings")
    log = tables["clicks"]
    assert log is not None
    frames = read_tables(log, plain, users=tables["users"], items=tables["items"], schema=plain.schema_file)
    schema = _named(frames.schema, name)
    if out is None:
        return dataset_of_frames(schema, frames.users, frames.items, frames.clicks)
    write_dataset(out, schema, frames.users, frames.items, frames.clicks, overwrite=overwrite)
    return read_dataset(out)


def _named(schema: DatasetSchema, name: str | None) -> DatasetSchema:
    return schema if name is None else schema.model_copy(update={"name": name})


def _table(name: str, given: Frame | StrPath | None) -> Path | pl.DataFrame | None:
    return Path(given) if isinstance(given, str | PathLike) else None if given is None else as_frame(given, name)
