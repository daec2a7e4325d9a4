"""Where arrays as long as the click log are put: in memory, or in unnamed files that are mapped into it.

Pages of a mapped file belong to the kernel's cache. It writes them out and takes them back when memory is short, so
that a process needs memory for what it works on, not for the whole log.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from micrec.errors import MicrecError


class ArrayWriter(Protocol):
    """An array that grows at its end until ``done``."""

    def append(self, values: NDArray[Any]) -> None:
        """Add values, shape (k,), cast to the type of the array."""

    def done(self) -> NDArray[Any]:
        """All values, shape (n,)."""


class ArraySpace(Protocol):
    """Makes one-dimensional arrays of any length."""

    @property
    def on_disk(self) -> bool:
        """Whether the arrays may be larger than memory."""

    def empty(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        """An array to fill, shape (size,)."""

    def writer(self, dtype: DTypeLike) -> ArrayWriter:
        """An array of a length that is not known yet."""


class MemorySpace:
    """Arrays in memory."""

    on_disk = False

    def empty(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        return np.empty(size, dtype)

    def writer(self, dtype: DTypeLike) -> ArrayWriter:
        return _MemoryWriter(np.dtype(dtype))


MEMORY = MemorySpace()


class _MemoryWriter:
    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._parts: list[NDArray[Any]] = []

    def append(self, values: NDArray[Any]) -> None:
        self._parts.append(values.astype(self._dtype, copy=False))

    def done(self) -> NDArray[Any]:
        """Takes the parts apart, so that hardly anything is in memory twice."""
        whole = np.empty(sum(map(len, self._parts)), self._dtype)
        stop = len(whole)
        while self._parts:
            part = self._parts.pop()
            whole[stop - len(part) : stop] = part
            stop -= len(part)
        return whole


class DiskSpace:
    """Arrays in unnamed files of a folder: they are gone with the last use of the array, whatever ends it.

    Args:
        folder: An existing folder on a disk with room; where it cannot be written, the system's temporary folder is
            used.
    """

    on_disk = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())

    def empty(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        """An array to fill, shape (size,); its room on the disk is taken at once.

        Raises:
            MicrecError: If the disk has no room.
        """
        dtype = np.dtype(dtype)
        if size == 0:
            return np.empty(0, dtype)
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                if hasattr(os, "posix_fallocate"):  # a hole that the disk cannot fill would end the process later
                    os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
                return np.memmap(file, dtype, "r+", shape=(size,))
        except OSError as fault:
            raise self._full(fault) from fault

    def writer(self, dtype: DTypeLike) -> ArrayWriter:
        return _DiskWriter(self, np.dtype(dtype))

    def _full(self, fault: OSError) -> MicrecError:
        return MicrecError(
            f"{self._folder}: cannot hold arrays of the log ({fault.strerror or fault}): free some space on its disk."
        )


class _DiskWriter:
    def __init__(self, space: DiskSpace, dtype: np.dtype[Any]) -> None:
        self._space, self._dtype, self._size = space, dtype, 0
        self._file = tempfile.TemporaryFile(dir=space._folder)  # noqa: SIM115 (open until done)

    def append(self, values: NDArray[Any]) -> None:
        try:
            self._file.write(np.ascontiguousarray(values, self._dtype).data)
        except OSError as fault:
            raise self._space._full(fault) from fault
        self._size += len(values)

    def done(self) -> NDArray[Any]:
        try:
            with self._file as file:
                file.flush()
                return (
                    np.memmap(file, self._dtype, "r+", shape=(self._size,)) if self._size else np.empty(0, self._dtype)
                )
        except OSError as fault:
            raise self._space._full(fault) from fault
