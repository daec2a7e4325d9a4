"""From ranked candidates to the places of a slate: the best ones, diversified by a field, with some exploration."""

import numpy as np
from numpy.typing import NDArray

from simulator.draws import halves, mixed
from simulator.platform.last_place import explored_among

PADDING = -2  # in place of an item's value
_EXPLORE = np.asarray(2)


def best_columns(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` highest scores of each row, best first, ties by column, shape (B, k)."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def spread_out(values: NDArray[np.int32], at_most: int) -> NDArray[np.int64]:
    """An order of each row's items, shape (B, L): those beyond ``at_most`` of one value come after all others.

    Args:
        values: Value of each item, best item first; -1 = none, of which there may be any number; PADDING stays last.
            Shape (B, L).
        at_most: Items of one value that stay where they are.
    """
    earlier = np.tril(np.ones((values.shape[1], values.shape[1]), bool), -1)
    same = (values[:, :, None] == values[:, None, :]) & earlier
    excess = (same.sum(axis=2) >= at_most) & (values >= 0)
    return np.argsort(np.where(values == PADDING, 2, excess), axis=1, kind="stable")


def explore(
    ranking: NDArray[np.int64],
    chance: NDArray[np.float32],
    rate: float,
    k: int,
    n: NDArray[np.int64],
    keys: NDArray[np.uint64],
    among: int | None = None,
) -> None:
    """With chance ``rate`` swap place k - 1 with one drawn evenly from those after it, in place.

    Args:
        ranking: Columns, best first, shape (B, C).
        chance: Chance of each place's item, shape (B, k); that of the last place is set.
        rate: How often.
        k: Places of the slate.
        n: Items in each row, shape (B,).
        keys: Key of each row.
        among: How many of those after it are drawn from; None: all.
    """
    whether, which = halves(mixed(keys, _EXPLORE))
    rest = explored_among(n, k, among)
    row = np.flatnonzero((whether < rate) & (rest > 0))
    chance[:, k - 1] = np.where(rest > 0, 1.0 - rate, 1.0)
    chance[row, k - 1] = rate / rest[row]
    place = k + (which[row] * rest[row]).astype(np.int64)
    ranking[row, k - 1], ranking[row, place] = ranking[row, place], ranking[row, k - 1].copy()
