"""Counts of more pairs of items than memory holds: sorted runs on the disk, added up a range of items at a time."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.data.array_space import ArraySpace
from micrec.data.packed_pairs import Ints, PairPacking
from micrec.data.threaded import in_order

_MOST_BINS = 1 << 12  # of items, whose beginnings in each run are kept


class ItemRows(NamedTuple):
    """Counts of consecutive items with all others.

    Attributes:
        first: The first of the items.
        sizes: Partners of each item, shape (items,).
        partners: Partners, ascending for each item, shape (m,).
        counts: Counts of item and partner, shape (m,).
    """

    first: int
    sizes: Ints
    partners: NDArray[np.integer]
    counts: NDArray[np.integer]


class SpilledPairs:
    """Takes counts of unordered pairs, run by run; gives them by rows of items.

    A run is added up with the others a range of items at a time. What comes out is put on the disk once more in each
    direction, so that the rows of a range of items are its pairs of either kind, sorted.
    """

    def __init__(self, n_items: int, space: ArraySpace) -> None:
        """Start with no pair.

        Args:
            n_items: N.
            space: Where the runs are put.
        """
        self._packing, self._space = PairPacking(n_items), space
        bin_items = -(-n_items // _MOST_BINS)
        self._bins = np.append(np.arange(0, n_items, bin_items), n_items)  # first item of each, and the end
        self._runs = self._new_runs()

    def add(self, keys: Ints, counts: Ints) -> None:
        """Add one run of ascending, distinct keys of ``PairPacking``, the lower item first."""
        self._runs.add(self._packing.pack(keys, counts))

    def blocks(self, most: int) -> Iterator[Callable[[], ItemRows]]:
        """What makes the rows of the next items, some ``most`` counts at a time; threads may share the blocks."""
        upper, lower = self._both_ways(most)
        for begin, end in ranges_of(upper.sizes + lower.sizes, most):
            yield partial(self._rows, upper, lower, begin, end)

    def _rows(self, upper: "_SortedRuns", lower: "_SortedRuns", begin: int, end: int) -> ItemRows:
        packed = np.concatenate([upper.of(begin, end), lower.of(begin, end)])
        packed.sort()
        keys, counts = self._packing.sums(packed)
        rows, partners = self._packing.items(keys)
        first, stop = int(self._bins[begin]), int(self._bins[end])
        return ItemRows(first, np.bincount(rows - first, minlength=stop - first), partners, counts)

    def _both_ways(self, most: int) -> tuple["_SortedRuns", "_SortedRuns"]:
        """The sums of all runs with the lower item first, and with the higher one first."""
        found = self._runs.done()
        upper, lower = self._new_runs(), self._new_runs()
        for up, down in in_order(partial(self._sums, found), ranges_of(found.sizes, most)):
            upper.add(up)
            lower.add(down)
        return upper.done(), lower.done()

    def _sums(self, runs: "_SortedRuns", bins: tuple[int, int]) -> tuple[Ints, Ints]:
        """The sums of a range of bins, and the same with the items in turned order, each ascending."""
        packed, packing = runs.of(*bins), self._packing
        packed.sort()
        keys, counts = packing.sums(packed)
        first, second = packing.items(keys)
        turned = packing.pack(packing.keys(second, first), counts)
        turned.sort()
        return packing.pack(keys, counts), turned

    def _new_runs(self) -> "_SortedRuns":
        return _SortedRuns(self._packing.lowest(self._bins), self._space)


class _SortedRuns:
    """Ascending runs of numbers in one array of a space, and where each bin of numbers begins in each run.

    Attributes:
        sizes: Numbers of each bin over all runs, shape (bins,).
    """

    def __init__(self, lowest: Ints, space: ArraySpace) -> None:
        """Start with no run; bin b has the numbers from ``lowest[b]`` up to below ``lowest[b + 1]``."""
        self._lowest, self._writer = lowest, space.writer(np.int64)
        self._bounds: list[Ints] = []  # of each run: where each bin begins, and the run ends
        self._n = 0
        self._numbers = np.empty(0, np.int64)
        self.sizes = np.zeros(len(lowest) - 1, np.int64)

    def add(self, numbers: Ints) -> None:
        """Add one run."""
        bounds = np.searchsorted(numbers, self._lowest)
        self.sizes += np.diff(bounds)
        self._bounds.append(bounds + self._n)
        self._writer.append(numbers)
        self._n += len(numbers)

    def done(self) -> "_SortedRuns":
        """After the last run."""
        self._numbers = self._writer.done()
        return self

    def of(self, begin: int, end: int) -> Ints:
        """The numbers of bins ``begin`` to below ``end``, run after run."""
        runs = (slice(int(bounds[begin]), int(bounds[end])) for bounds in self._bounds)
        return np.concatenate([np.empty(0, np.int64), *(self._numbers[run] for run in runs if run.stop > run.start)])


def ranges_of(sizes: NDArray[np.integer], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose sizes sum to at most ``most``; a larger row is a range of its own."""
    ends = np.cumsum(sizes, dtype=np.int64)
    first = 0
    while first < len(sizes):
        done = int(ends[first - 1]) if first else 0
        stop = max(int(np.searchsorted(ends, done + most, side="right")), first + 1)
        yield first, stop
        first = stop
