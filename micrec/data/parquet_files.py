"""Writing Parquet files of a dataset: from frames in memory, or in a stream from tables that are larger than memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import polars as pl

from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress

ROWS_PER_GROUP = 1 << 20
_FULL_OR_CLOSED = ("No space left", "Permission denied", "Read-only file system", "quota exceeded", "File too large")


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into an error for people that names ``path``."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise _cannot_be_written(path, fault) from fault


def reason_of(fault: BaseException) -> str:
    """What went wrong, in one line."""
    text = getattr(fault, "strerror", None) or str(fault).strip() or type(fault).__name__
    return text.splitlines()[0]


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame; the same frame gives the same bytes.

    Raises:
        MicrecError: If the disk is full or closed.
    """
    with writable(path):
        frame.rechunk().write_parquet(path, compression="zstd", row_group_size=ROWS_PER_GROUP)


def sink_parquet(
    path: Path,
    rows: pl.LazyFrame,
    *,
    compression: Literal["zstd", "lz4"] = "zstd",
    progress: Progress | None = None,
) -> None:
    """Write a table without ever holding it; the same bytes as ``write_parquet`` of the collected table.

    Args:
        path: The file.
        rows: The table.
        compression: As Parquet calls it.
        progress: Told the rows as they pass, in a task that has been started.

    Raises:
        MicrecError: If the disk is full or closed. What is wrong with the source of ``rows`` stays a Polars error.
    """
    progress, lock = progress or NoProgress(), threading.Lock()

    def counted(batch: pl.DataFrame) -> pl.DataFrame:
        with lock:
            progress.advance(len(batch))
        return batch

    passing = rows.map_batches(counted, streamable=True, schema=rows.collect_schema())
    try:
        passing.sink_parquet(path, compression=compression, row_group_size=ROWS_PER_GROUP)
    except (pl.exceptions.PolarsError, OSError) as fault:
        if any(word in str(fault) for word in _FULL_OR_CLOSED):
            raise _cannot_be_written(path, fault) from fault
        raise


def _cannot_be_written(path: Path, fault: BaseException) -> MicrecError:
    return MicrecError(
        f"{path.name}: cannot be written ({reason_of(fault)}): check the free space and permissions of its folder."
    )
