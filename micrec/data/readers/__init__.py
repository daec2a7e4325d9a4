"""Readers that turn public click logs into dataset folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from micrec.config import Frozen
from micrec.data.schema import DatasetSchema
from micrec.data.table_files import TableFiles
from micrec.progress import Progress


class DatasetFrames(NamedTuple):
    """What every reader returns: a dataset with outside ids, ready for ``micrec.data.store.write_dataset``.

    Attributes:
        schema: Fields, roles and provenance; ``provenance["dropped"]`` repeats ``dropped``.
        users: ``user_id`` and the user fields, one row per user.
        items: ``item_id`` and the item fields, one row per item.
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``.
        dropped: What the reader left out: a reason in words, and how many rows (or columns) it took.
    """

    schema: DatasetSchema
    users: pl.DataFrame
    items: pl.DataFrame
    clicks: pl.DataFrame
    dropped: dict[str, int]


class DatasetScan(NamedTuple):
    """``DatasetFrames`` whose clicks are read in a stream, so that they need not fit in memory.

    Attributes:
        schema: As of ``DatasetFrames``.
        users: Likewise.
        items: Likewise.
        clicks: The clicks; collecting them gives those of ``DatasetFrames``.
        dropped: As of ``DatasetFrames``.
        origin: What the clicks are read from, for errors.
    """

    schema: DatasetSchema
    users: pl.DataFrame
    items: pl.DataFrame
    clicks: pl.LazyFrame
    dropped: dict[str, int]
    origin: TableFiles

    def collected(self) -> DatasetFrames:
        """The same in memory."""
        return DatasetFrames(self.schema, self.users, self.items, self.clicks.collect(), self.dropped)


class Reader(NamedTuple):
    """A kind of source.

    Attributes:
        summary: What it reads.
        options: Its options.
        read: From the source and the options to frames.
        recognises: Whether a source is of this kind, by names and headers alone; it may exist or not.
        is_general: Whether ``auto`` tries it after all the others, because it takes what they would recognise too.
        scan: As ``read``, without holding the clicks: from the source, the options, a file that it may write and read
            until the clicks have been read, and where to report.
    """

    summary: str
    options: type[Frozen]
    read: Callable[[Path, Any], DatasetFrames]
    recognises: Callable[[Path], bool]
    is_general: bool = False
    scan: Callable[[Path, Any, Path, Progress], DatasetScan] | None = None
