"""The click log as encoded columns in files that are mapped into memory: 16 bytes a click, 22 with dwell and flags.

They lie in the folder ``mapped`` of the dataset folder, are written once, and belong to the bytes of the dataset's
files: when one of them changes, they are written anew.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from micrec.config import Frozen
from micrec.data.array_space import DiskSpace
from micrec.data.dataset import CLICK_ARRAYS, Clicks
from micrec.data.sorting import parts_of, stably_sorted
from micrec.estimates.machine import memory_bytes
from micrec.progress import Progress

MAPPED, MANIFEST = "mapped", "mapped.json"
WHAT = "mapped click log"
MOST_BYTES = 22  # of a click, on the disk
READING_BYTES = 64  # of a click, while a log is read into memory
MEMORY_SHARE = 0.5  # of the machine's memory that such a log may take; a larger one is mapped


class SourceFile(Frozen):
    """A file of the dataset as it was when its clicks were encoded."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str

    def is_same(self, path: Path) -> bool:
        """Whether the file holds the same bytes; they are read only if its size, times or place differ."""
        try:
            if _times(path) == (self.size, self.mtime_ns, self.ctime_ns, self.inode):
                return True
            return path.stat().st_size == self.size and _sha256(path) == self.sha256
        except OSError:
            return False


class MappedManifest(Frozen):
    """What lies in the folder, and what it was made from."""

    format: Literal[1]
    clicks: int
    columns: dict[str, str]  # NumPy types of the columns, by name
    files: dict[str, SourceFile]  # of the dataset folder


def is_mapped(folder: Path) -> bool:
    """Whether a dataset folder has a mapped click log, of today's files or not."""
    return (folder / MAPPED / MANIFEST).is_file()


def outgrows_memory(n_clicks: int) -> bool:
    """Whether a log is mapped without being asked for."""
    return n_clicks * READING_BYTES > MEMORY_SHARE * memory_bytes()


def open_mapped(folder: Path, files: dict[str, Path]) -> Clicks | None:
    """The mapped clicks of a dataset folder; None if there are none, or they are not those of ``files``.

    Args:
        folder: The dataset folder.
        files: All its files, by their names in it.
    """
    mapped = folder / MAPPED
    try:
        found = MappedManifest.model_validate(json.loads((mapped / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return None
    if found.files.keys() != files.keys() or not all(found.files[name].is_same(path) for name, path in files.items()):
        return None
    columns: dict[str, Any] = dict.fromkeys(CLICK_ARRAYS)
    for name, kind in found.columns.items():
        path, dtype = mapped / name, np.dtype(kind)
        if not path.is_file() or path.stat().st_size != found.clicks * dtype.itemsize:
            return None
        columns[name] = np.memmap(path, dtype, "r", shape=(found.clicks,))
    return Clicks(**columns, space=DiskSpace(mapped))


def marks_of(files: dict[str, Path]) -> dict[str, SourceFile]:
    """The files as they are now."""
    return {
        name: SourceFile.model_validate(
            dict(zip(("size", "mtime_ns", "ctime_ns", "inode"), _times(path), strict=True)) | {"sha256": _sha256(path)}
        )
        for name, path in files.items()
    }


def write_columns(folder: Path, chunks: Iterator[Clicks], progress: Progress) -> dict[str, str]:
    """Write clicks, in any order, as one file a column in time order, ties in the order given.

    Args:
        folder: An existing folder.
        chunks: The clicks; each chunk is written before the next is asked for.
        progress: Where to report that they have to be sorted.

    Returns:
        NumPy types of the columns by name; none if there was no click.
    """
    kinds: dict[str, str] = {}
    latest_ms, in_order = None, True
    for clicks in chunks:
        if not len(clicks):
            continue
        time_ms = clicks.time_ms
        in_order &= (latest_ms is None or latest_ms <= time_ms[0]) and not (time_ms[1:] < time_ms[:-1]).any()
        latest_ms = time_ms[-1]
        for name in CLICK_ARRAYS:
            values: NDArray[Any] | None = getattr(clicks, name)
            if values is not None:
                kinds[name] = values.dtype.str
                with (folder / name).open("ab") as file:
                    file.write(np.ascontiguousarray(values).data)
    if not in_order:
        progress.say("the clicks are not in time order: sorting them")
        _sort(folder, kinds)
    return kinds


def write_manifest(folder: Path, kinds: dict[str, str], files: dict[str, SourceFile]) -> None:
    """Write what makes the columns a mapped log."""
    n_clicks = (folder / "time_ms").stat().st_size // np.dtype(kinds["time_ms"]).itemsize
    manifest = MappedManifest(format=1, clicks=n_clicks, columns=kinds, files=files)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _sort(folder: Path, kinds: dict[str, str]) -> None:
    columns = {name: np.memmap(folder / name, np.dtype(kind), "r+") for name, kind in kinds.items()}
    time_ms = columns.pop("time_ms")
    ordered = stably_sorted(time_ms, list(columns.values()), space=DiskSpace(folder))
    for column, values in zip((time_ms, *columns.values()), ordered, strict=True):
        for part in parts_of(len(column)):
            column[part] = values[part]
        column.flush()


def _times(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
