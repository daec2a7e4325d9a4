"""Lists of candidates for a whole batch at once: sums by item, best first, exact and the same in any batch.

Scores are summed as whole numbers of 2^-20, so that a sum does not depend on its order, equal items tie exactly, and
ties go to the lower item id. Shape letters: B requests, L entries before summing, K list length, H hidden items.
"""

import numpy as np
from numpy.typing import NDArray

from simulator.ports import Candidates

Ids = NDArray[np.int64]

UNIT = float(1 << 20)  # scores are multiples of 1 / UNIT
MOST = 1 << 31  # of a sum of fixed-point scores; what is hidden gets this much on top
NOWHERE = 1 << 40  # a place beyond every list
_LOW = (1 << 32) - 1


class Lookup:
    """Row of each item id in a table of distinct ids below 2^31; -1 for others, padding included."""

    def __init__(self, ids: Ids) -> None:
        self._last = int(ids.max(initial=-1)) + 1
        self._rows = np.full(self._last + 1, -1, np.int64)  # the last entry is for everything unknown
        self._rows[ids] = np.arange(len(ids))

    def rows(self, items: Ids) -> Ids:
        """Rows of items of any shape."""
        return self._rows[np.minimum(items.astype(np.int64, copy=False).view(np.uint64), np.uint64(self._last))]


def sum_by_item(items: Ids, scores: NDArray[np.floating], k: int, hidden: Ids | None = None) -> Candidates:
    """The ``k`` items of the highest summed scores of each row.

    Args:
        items: Items, repeats allowed, -1 as padding anywhere, shape (B, L).
        scores: Score of each entry, at least 0; those of a row sum to less than 2048. Shape (B, L).
        k: K.
        hidden: Items that must not be in the lists, -1 as padding, shape (B, H).

    Returns:
        Lists of shape (B, K); items whose sum is below 2^-21 are left out.
    """
    entries = (items << 32) | (scores * UNIT + 0.5).astype(np.int64)
    if hidden is not None:
        entries = np.concatenate([entries, (hidden << 32) | MOST], axis=1)
    entries.sort(axis=1)
    item = entries >> 32
    entries &= _LOW
    upto = np.cumsum(entries, axis=1, out=entries)
    is_last = np.ones(item.shape, np.bool_)  # entry of its item in the row
    np.not_equal(item[:, 1:], item[:, :-1], out=is_last[:, :-1])
    ends = np.maximum.accumulate(np.where(is_last, upto, 0), axis=1)
    sums = upto
    sums[:, 1:] -= ends[:, :-1]
    counts = is_last & (item >= 0) & (sums > 0) & (sums < MOST)
    return _unpack(_largest(np.where(counts, (sums << 32) | (_LOW - item), -1), k), k)


def best_items(items: Ids, scores: NDArray[np.floating], k: int) -> tuple[Ids, NDArray[np.float32]]:
    """The ``k`` items of the highest scores, best first, ties by id: one list, without padding.

    Args:
        items: Distinct items, shape (n,).
        scores: Their scores, shape (n,).
        k: Most items returned.
    """
    single = scores.astype(np.float32)
    order = np.lexsort((items, -single))[:k]
    return items[order], single[order]


def shared_list(items: Ids, scores: NDArray[np.float32], k: int, hidden: Ids) -> Candidates:
    """The same list for every request, less what is hidden from it.

    Args:
        items: Distinct items, best first, shape (n,).
        scores: Their scores, shape (n,).
        k: K.
        hidden: Items that must not be in the lists, -1 as padding, shape (B, H).
    """
    batch, width = hidden.shape
    all_items = np.append(items, np.full(k + width, -1))
    all_scores = np.append(scores, np.full(k + width, -np.inf, np.float32)).astype(np.float32)
    place = Lookup(items).rows(hidden)
    gone = np.sort(np.where(place < 0, NOWHERE, place), axis=1)
    gone[:, 1:][gone[:, 1:] == gone[:, :-1]] = NOWHERE  # hidden twice
    gone.sort(axis=1)
    first_moved = gone - np.arange(width)  # the place from which on the list moves up by one more
    flat = (first_moved + np.arange(batch)[:, None] * k)[first_moved < k]
    moves = np.bincount(flat, minlength=batch * k).reshape(batch, k).cumsum(axis=1)
    at = moves + np.arange(k)
    return Candidates(all_items[at], all_scores[at])


def no_candidates(batch: int, k: int) -> Candidates:
    """Empty lists."""
    return Candidates(np.full((batch, k), -1), np.full((batch, k), -np.inf, np.float32))


def _largest(keys: Ids, k: int) -> Ids:
    """The up to ``k`` largest of each row, falling."""
    if keys.shape[1] > 2 * k:
        keys = np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:]
    keys.sort(axis=1)
    return keys[:, ::-1][:, :k]


def _unpack(keys: Ids, k: int) -> Candidates:
    """Lists from keys ``sum << 32 | (2^32 - 1 - item)``; a negative key is padding."""
    lists = no_candidates(len(keys), k)
    found = keys >= 0
    width = keys.shape[1]
    lists.items[:, :width] = np.where(found, _LOW - (keys & _LOW), -1)
    lists.scores[:, :width] = np.where(found, (keys >> 32) / UNIT, -np.inf)
    return lists
