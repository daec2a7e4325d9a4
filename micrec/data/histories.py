"""Click histories by offset: one flat array of items, contiguous by user, in time order."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.data.dataset import Clicks


class Histories(NamedTuple):
    """All clicks grouped by user; within a user in time order, ties as in the file.

    A history is a range of positions: the latest L clicks of user u before position p are
    ``items[max(offsets[u], p - L) : p]``, oldest first. Nothing of shape (n, L) is ever stored.
    """

    items: NDArray[np.int32]  # (n,) dense item ids
    users: NDArray[np.int32]  # (n,) dense user ids, never falling
    rows: NDArray[np.int64]  # (n,) row of each position in the click log
    offsets: NDArray[np.int64]  # (U + 1,) user u owns positions offsets[u] .. offsets[u + 1]


def group_by_user(clicks: Clicks, n_users: int, *, rows: NDArray[np.int64] | None = None) -> Histories:
    """Group time-ordered clicks by user; a stable sort, so the order within a user is the log's.

    Args:
        clicks: In time order.
        n_users: U; every user id is below it.
        rows: The rows by user, where they are known already.
    """
    if rows is None:
        rows = np.argsort(clicks.user_ids, kind="stable").astype(np.int64)
    users = clicks.user_ids[rows]
    offsets = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=n_users), out=offsets[1:])
    return Histories(items=clicks.item_ids[rows], users=users, rows=rows, offsets=offsets)
