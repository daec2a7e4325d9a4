"""The k highest inner products with each query, exactly, the same in any batch, ties by id.

At 20,000 items of width 64 on one core this answers several times as many queries as FAISS's flat index with k = 500:
one matrix product, a score that k of each row reach, by partition, and a sort of what reaches it.
"""

import numpy as np
from numpy.typing import NDArray

from simulator.ports import Candidates

PAD = 8  # queries are multiplied in whole multiples: BLAS sums smaller products in another order
MOST_IN_SET = 8  # larger sets make it more likely that several of the best share one
_LEAST = np.finfo(np.float32).min
SCORES = 1 << 21  # held at a time, 8 MB, if not for PAD rows


OwnRows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Queries, rows and terms of the pairs whose scores are raised or lowered."""


class ExactSearch:
    """Search among vectors (M, D) of items with distinct ids (M,)."""

    def __init__(self, vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        self._by_column = np.ascontiguousarray(vectors.T)  # (D, M)
        self._ids = ids
        self._rows = max(PAD, SCORES // max(len(ids), 1) // PAD * PAD)

    def top(
        self, queries: NDArray[np.float32], k: int, hidden: NDArray[np.int64], own: OwnRows | None = None
    ) -> Candidates:
        """The ``k`` best for each query.

        Args:
            queries: Shape (B, D), or (B, K, D): of K interests the highest product counts.
            k: K.
            hidden: Rows of ``vectors`` that must not be found, -1 as padding, shape (B, H).
            own: What is added to the scores of some pairs: queries, never falling, rows of ``vectors``, and terms,
                shape (m,) each; no pair twice.
        """
        batch = len(queries)
        padded = np.concatenate([queries, np.zeros((-batch % PAD, *queries.shape[1:]), np.float32)])
        lists = Candidates(np.full((batch, k), -1), np.full((batch, k), -np.inf, np.float32))
        for start in range(0, batch, self._rows):
            block = slice(start, min(start + self._rows, batch))
            scores = self._scores(padded[start : start + self._rows])[: block.stop - start]
            if own is not None:
                part = slice(*np.searchsorted(own[0], [block.start, block.stop]))
                scores[own[0][part] - start, own[1][part]] += own[2][part]
            row, column = np.nonzero(hidden[block] >= 0)
            scores[row, hidden[block][row, column]] = -np.inf
            self._fill(scores, k, lists.items[block], lists.scores[block])
        return lists

    def _scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of all items, shape (b, M)."""
        if queries.ndim == 2:
            return queries @ self._by_column
        best = np.ascontiguousarray(queries[:, 0]) @ self._by_column
        for interest in range(1, queries.shape[1]):
            np.maximum(best, np.ascontiguousarray(queries[:, interest]) @ self._by_column, out=best)
        return best

    def _fill(self, scores: NDArray[np.float32], k: int, items: NDArray[np.int64], best: NDArray[np.float32]) -> None:
        """Write the lists of one block of scores, shape (b, M)."""
        n = scores.shape[1]
        reached = scores > -np.inf if k >= n else scores >= np.maximum(_reached(scores, k), _LEAST)
        flat = np.flatnonzero(reached)
        row = flat // max(n, 1)
        counts = np.bincount(row, minlength=len(scores))
        place = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = np.full((len(scores), int(counts.max(initial=0))), np.iinfo(np.int64).max)
        keys[row, place] = (_falling(scores.ravel()[flat]) << 32) | self._ids[flat - row * n]
        keys.sort(axis=1)
        keys = keys[:, :k]
        found = keys != np.iinfo(np.int64).max
        width = keys.shape[1]
        items[:, :width] = np.where(found, keys & 0xFFFFFFFF, -1)
        best[:, :width] = np.where(found, _unfalling(keys >> 32), -np.inf)


def _reached(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """What k of each row reach, and few more, shape (b, 1): the k-th highest of the maxima of disjoint sets."""
    size = min(MOST_IN_SET, scores.shape[1] // (2 * k))
    if size > 1:
        sets = scores.shape[1] // size
        scores = scores[:, : size * sets].reshape(len(scores), size, sets).max(axis=1)
    n = scores.shape[1]
    return np.partition(scores, n - k, axis=1)[:, n - k, None]


def _falling(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Integers of 32 bits that fall as finite scores rise."""
    bits = (scores + np.float32(0)).view(np.int32)  # -0 becomes 0
    return ~np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)


def _unfalling(order: NDArray[np.int64]) -> NDArray[np.float32]:
    """The scores that ``_falling`` turned into integers."""
    bits = (~order).astype(np.int32)
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).view(np.float32)
