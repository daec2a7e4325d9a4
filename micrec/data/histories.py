"""Click histories by offset: one flat array of items, contiguous by user, in time order."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.data import sorting
from micrec.data.dataset import Clicks
from micrec.data.sorting import counts_of, distinct, offsets_of, stable_order, stably_sorted


class Histories(NamedTuple):
    """All clicks grouped by user; within a user in time order, ties as in the file.

    A history is a range of positions: the latest L clicks of user u before position p are
    ``items[max(offsets[u], p - L) : p]``, oldest first. Nothing of shape (n, L) is ever stored.
    """

    items: NDArray[np.int32]  # (n,) dense item ids
    users: NDArray[np.int32]  # (n,) dense user ids, never falling
    rows: NDArray[np.int64]  # (n,) row of each position in the click log
    offsets: NDArray[np.int64]  # (U + 1,) user u owns positions offsets[u] .. offsets[u + 1]
    time_ms: NDArray[np.int64] | None = None  # (n,) moment of each position, where it was asked for

    def blocks(self, most: int | None = None) -> Iterator[slice]:
        """The positions in slices of whole users, of at most ``most`` clicks (or ``BLOCK_ROWS``) or of one user."""
        for users in user_ranges(self.offsets, most):
            yield slice(int(self.offsets[users.start]), int(self.offsets[users.stop]))


def user_ranges(offsets: NDArray[np.int64], most: int | None = None) -> Iterator[slice]:
    """Consecutive users with at most ``most`` clicks together (or ``BLOCK_ROWS``), or one user.

    Args:
        offsets: User u owns positions offsets[u] .. offsets[u + 1], shape (U + 1,).
        most: Clicks of a range.
    """
    first, n_users, most = 0, len(offsets) - 1, most or sorting.BLOCK_ROWS
    while first < n_users:
        stop = int(np.searchsorted(offsets, offsets[first] + most, side="right")) - 1
        stop = min(max(stop, first + 1), n_users)
        yield slice(first, stop)
        first = stop


def group_by_user(clicks: Clicks, n_users: int, *, times: bool = False, rows: bool = True) -> Histories:
    """Group time-ordered clicks by user; a stable sort, so the order within a user is the log's.

    Args:
        clicks: In time order; the result is put into their ``space``.
        n_users: U; every user id is below it.
        times: Whether the moments are wanted too.
        rows: Whether the rows of the log are; else there are none.
    """
    offsets = offsets_of(counts_of(clicks.user_ids, n_users))
    columns: list[NDArray | None] = [clicks.item_ids, *([clicks.time_ms] if times else []), *([None] if rows else [])]
    if clicks.space.on_disk:  # a user's rows lie anywhere in the log: all columns are carried along
        users, items, *rest = stably_sorted(clicks.user_ids, columns, space=clicks.space)
    else:
        order = stable_order(clicks.user_ids)
        users = clicks.user_ids[order]
        items, *rest = (order if column is None else column[order] for column in columns)
    time_ms = rest[0] if times else None
    return Histories(items, users, rest[-1] if rows else np.empty(0, np.int64), offsets, time_ms)


def distinct_pairs(histories: Histories, n_items: int) -> Iterator[NDArray[np.int64]]:
    """Distinct ``user * N + item``, ascending, in parts of whole users."""
    for part in histories.blocks():
        keys = histories.users[part].astype(np.int64) * n_items + histories.items[part]
        yield distinct(keys)
