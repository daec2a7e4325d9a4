"""Counts of more pairs of items than memory holds: sorted runs on the disk, added up a range of items at a time."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.data.array_space import ArraySpace
from micrec.data.sorting import counts_of, offsets_of, parts_of, stably_sorted
from micrec.data.tally import Ints, sum_by_key

_MOST_BINS = 1 << 16  # of items, whose beginnings in each run are kept


class SpilledPairs:
    """Takes counts of unordered pairs, ``i * N + j`` with i < j, run by run; gives them by rows of items."""

    def __init__(self, n_items: int, space: ArraySpace) -> None:
        """Start with no pair.

        Args:
            n_items: N.
            space: Where the runs are put.
        """
        self._n_items, self._space = n_items, space
        self._keys, self._counts = space.writer(np.int64), space.writer(np.int32)  # of a run there are no more clicks
        bin_items = -(-n_items // _MOST_BINS)
        self._bins = np.append(np.arange(0, n_items, bin_items), n_items)  # first item of each, and the end
        self._bounds: list[Ints] = []  # of each run: where the pairs of each bin begin, and the run ends
        self._size = 0

    def add(self, keys: Ints, counts: Ints) -> None:
        """Add one run of ascending, distinct keys."""
        self._keys.append(keys)
        self._counts.append(counts)
        self._bounds.append(self._size + np.searchsorted(keys, self._bins * self._n_items))
        self._size += len(keys)

    def rows(self, most: int) -> Iterator[tuple[int, sp.csr_matrix]]:
        """Counts of items with all others, columns ascending, some ``most`` at a time, with the first item of each."""
        upper = self._upper(most)
        lower = self._mirrored(upper)
        sizes: Ints = np.diff(upper.indptr) + np.diff(lower.indptr)
        for first, stop in ranges_of(sizes, most):
            yield first, (upper[first:stop] + lower[first:stop]).tocsr()

    def _upper(self, most: int) -> sp.csr_matrix:
        """Row i has the partners above i; its arrays are those of the space."""
        keys, counts, n = self._keys.done(), self._counts.done(), self._n_items
        columns, sums = self._space.writer(np.int32), self._space.writer(np.int64)
        sizes = np.zeros(n, np.int64)
        of_bin = np.zeros(len(self._bins) - 1, np.int64)
        for bounds in self._bounds:
            of_bin += np.diff(bounds)
        for begin, end in ranges_of(of_bin, most):
            first, stop = int(self._bins[begin]), int(self._bins[end])
            runs = [slice(int(bounds[begin]), int(bounds[end])) for bounds in self._bounds]
            found, total = sum_by_key(
                np.concatenate([keys[:0], *(keys[run] for run in runs)]),
                np.concatenate([counts[:0], *(counts[run] for run in runs)]).astype(np.int64),
            )
            rows = found // n
            columns.append(found - rows * n)
            sums.append(total)
            sizes[first:stop] = np.bincount(rows - first, minlength=stop - first)
        return _matrix(sizes, columns.done(), sums.done())

    def _mirrored(self, upper: sp.csr_matrix) -> sp.csr_matrix:
        """The transpose."""
        rows = self._space.empty(upper.nnz, np.int32)
        for part in parts_of(upper.nnz):
            places = np.arange(part.start, part.stop)
            rows[part] = np.searchsorted(upper.indptr, places.astype(upper.indptr.dtype), side="right") - 1
        columns, rows, counts = stably_sorted(upper.indices, [rows, upper.data], space=self._space)
        return _matrix(counts_of(columns, self._n_items), rows, counts)


def ranges_of(sizes: NDArray[np.integer], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose sizes sum to at most ``most``; a larger row is a range of its own."""
    ends = np.cumsum(sizes, dtype=np.int64)
    first = 0
    while first < len(sizes):
        done = int(ends[first - 1]) if first else 0
        stop = max(int(np.searchsorted(ends, done + most, side="right")), first + 1)
        yield first, stop
        first = stop


def _matrix(sizes: Ints, columns: NDArray[np.int32], counts: Ints) -> sp.csr_matrix:
    """Without a copy: both indices have one type."""
    offsets = offsets_of(sizes)
    if offsets[-1] < np.iinfo(np.int32).max:
        offsets = offsets.astype(np.int32)
    return sp.csr_matrix((counts, columns, offsets), shape=(len(sizes), len(sizes)), copy=False)
