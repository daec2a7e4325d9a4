"""Similarities of all items in sparse rows, a block at a time, of which the strongest stay."""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

_BLOCK = 1_024


def strongest(
    left: sp.csr_array,
    right: sp.csr_array,
    most: int,
    *,
    shape: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> sp.csr_array:
    """The ``most`` highest values of each row of ``left @ right``, of equals those of the lower columns.

    Args:
        left: Shape (N, K).
        right: Shape (K, N).
        most: Values kept per row.
        shape: What becomes of a value, such as its square; it must not change their order.

    Returns:
        Float32, shape (N, N), without zeros.
    """
    return sp.csr_array(sp.vstack(list(_blocks(left, right, most, shape)), format="csr"))


def _blocks(left: sp.csr_array, right: sp.csr_array, most: int, shape: Callable | None) -> Iterator[sp.csr_array]:
    for first in range(0, left.shape[0], _BLOCK):
        block = sp.csr_array(left[first : first + _BLOCK] @ right)
        block.eliminate_zeros()
        block.sort_indices()
        kept = _kept(block, most)
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))[kept]
        values = block.data[kept].astype(np.float32)
        yield sp.csr_array((shape(values) if shape else values, (rows, block.indices[kept])), shape=block.shape)


def _kept(block: sp.csr_array, most: int) -> NDArray[np.int64]:
    """Positions of the values that stay."""
    parts = []
    for begin, end in zip(block.indptr[:-1], block.indptr[1:], strict=True):
        if end - begin <= most:
            parts.append(np.arange(begin, end))
            continue
        row = block.data[begin:end]
        least = np.partition(row, len(row) - most)[len(row) - most]
        above = np.flatnonzero(row > least)
        level = np.flatnonzero(row == least)[: most - len(above)]
        parts.append(begin + np.sort(np.concatenate([above, level])))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
