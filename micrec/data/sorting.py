"""Stable sorting of integers, and of arrays that are longer than memory."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micrec.data.array_space import MEMORY, ArraySpace
from micrec.data.threaded import in_order

BLOCK_ROWS = 1 << 20  # numbers held at a time where more are sorted, counted or searched
_BINS = 1 << 16  # of the keys, from which ranges of about BLOCK_ROWS numbers are put together


def parts_of(size: int, most: int | None = None) -> Iterator[slice]:
    """0 .. size in consecutive slices of at most ``most``, or ``BLOCK_ROWS``."""
    step = most or BLOCK_ROWS
    return (slice(first, min(first + step, size)) for first in range(0, size, step))


def counts_of(values: NDArray[np.integer], size: int) -> NDArray[np.int64]:
    """How often each of 0 .. size - 1 occurs in ``values`` (n,), as ``np.bincount``, which would copy them all."""
    counts = np.zeros(size, np.int64)
    for part in parts_of(len(values)):
        counts += np.bincount(values[part], minlength=size)
    return counts


def offsets_of(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where lists of these sizes begin in one array, and where the last one ends, shape (n + 1,)."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The distinct ones of ``values`` (n,), ascending: ``np.unique`` by one sort, which is sooner than its hashing."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return ordered[is_new]


def stable_order(keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """``np.argsort(keys, kind="stable")``, several times sooner: key and place are sorted as one number of 63 bits."""
    low = int(keys.min()) if len(keys) else 0
    bits = max(len(keys) - 1, 1).bit_length()
    if len(keys) and (int(keys.max()) - low).bit_length() + bits > 63:
        return np.argsort(keys, kind="stable")
    packed = keys.astype(np.int64)
    packed -= low
    packed <<= bits
    packed |= np.arange(len(keys))
    packed.sort()
    packed &= (1 << bits) - 1
    return packed


def stably_sorted(
    keys: NDArray[np.integer],
    others: Sequence[NDArray[Any] | None],
    *,
    space: ArraySpace = MEMORY,
    block_rows: int | None = None,
) -> list[NDArray[Any]]:
    """``keys`` in ascending order, equal ones in the order given, and other columns in the same order.

    More than ``block_rows`` are first spread to ranges of keys, then sorted range by range: every number is read and
    written twice, and memory beside the result holds ``block_rows`` for each thread, or the numbers of one bin of keys.

    Args:
        keys: Integers, shape (n,).
        others: Columns of shape (n,); None stands for the row numbers, int64.
        space: Where the results are put.
        block_rows: Numbers held at a time; None = ``BLOCK_ROWS``.

    Returns:
        The keys, then the other columns.
    """
    n, block_rows = len(keys), block_rows or BLOCK_ROWS
    columns: list[NDArray[Any] | None] = [keys, *others]
    outs = [space.empty(n, np.int64 if column is None else column.dtype) for column in columns]
    if n <= block_rows:
        _reorder(stable_order(keys), columns, outs, slice(0, n))
        return outs
    low, shift, range_of_bin, starts = _ranges(keys, block_rows)
    filled = starts[:-1].copy()

    def spread(part: slice) -> tuple[NDArray[np.int64], list[NDArray[Any]]]:
        """How many rows of a block go to each range, and its columns in the order of the ranges."""
        target = range_of_bin[(keys[part].astype(np.int64) - low) >> shift]
        order = stable_order(target)
        taken = [order + part.start if column is None else column[part][order] for column in columns]
        return np.bincount(target, minlength=len(filled)), taken

    for sizes, taken in in_order(spread, parts_of(n, block_rows)):
        stops = np.cumsum(sizes)
        for values, out in zip(taken, outs, strict=True):
            for at in np.flatnonzero(sizes):
                out[filled[at] : filled[at] + sizes[at]] = values[stops[at] - sizes[at] : stops[at]]
        filled += sizes

    def finish(part: slice) -> None:
        _reorder(stable_order(outs[0][part]), [out[part] for out in outs], outs, part)

    for _ in in_order(finish, (slice(first, stop) for first, stop in pairwise(starts.tolist()))):
        pass
    return outs


def _reorder(
    order: NDArray[np.int64], columns: Sequence[NDArray[Any] | None], outs: list[NDArray[Any]], part: slice
) -> None:
    for column, out in zip(columns, outs, strict=True):
        out[part] = order if column is None else column[order]


def _ranges(keys: NDArray[np.integer], block_rows: int) -> tuple[int, int, NDArray[np.int64], NDArray[np.int64]]:
    """Ranges of keys with about ``block_rows`` numbers each.

    Returns:
        Lowest key; bits by which a key above it is shifted to its bin; range of each bin; places at which the ranges
        start, and the last one stops.
    """
    low, high = int(keys.min()), int(keys.max())
    shift = max(0, (high - low).bit_length() - _BINS.bit_length() + 1)
    counts = np.zeros(((high - low) >> shift) + 1, np.int64)
    for part in parts_of(len(keys), block_rows):
        counts += np.bincount((keys[part].astype(np.int64) - low) >> shift, minlength=len(counts))
    ends = np.cumsum(counts)
    range_of_bin = np.empty(len(counts), np.int64)
    starts, first = [0], 0
    while first < len(counts):
        stop = max(int(np.searchsorted(ends, starts[-1] + block_rows, side="right")), first + 1)
        range_of_bin[first:stop] = len(starts) - 1
        starts.append(int(ends[stop - 1]))
        first = stop
    return low, shift, range_of_bin, np.array(starts)
