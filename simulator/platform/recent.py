"""The feature store: the latest clicks of every user, and the latest follows, up to the second."""

import numpy as np
from numpy.typing import NDArray

from simulator.ports import HISTORY


class RecentItems:
    """Latest clicked or followed items of each user, newest first.

    Args:
        users: Users 0 … ``users`` - 1.
    """

    def __init__(self, users: int) -> None:
        self._items = np.full((users, HISTORY), -1, np.int32)

    def of(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Latest items of users (B,), shape (B, H), -1 as padding."""
        return self._items[users].astype(np.int64)

    def fill(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Take in items (n,) in time order, of any users, from an empty store."""
        if not len(users):
            return
        order = np.argsort(users, kind="stable")
        user = users[order]
        last = np.append(np.flatnonzero(np.diff(user)), len(user) - 1)  # of each user's clicks
        per_user = np.diff(last, prepend=-1)
        from_end = np.repeat(last, per_user) - np.arange(len(user))
        keep = from_end < HISTORY
        self._items[user[keep], from_end[keep]] = items[order[keep]]

    def take(self, users: NDArray[np.int64], slates: NDArray[np.int64], chosen: NDArray[np.bool_]) -> None:
        """Take in the ``chosen`` items of one slate each of distinct users (B,), from the top, shape (B, K)."""
        for place in np.flatnonzero(chosen.any(axis=0)):
            rows = np.flatnonzero(chosen[:, place])
            who = users[rows]
            self._items[who, 1:] = self._items[who, :-1]
            self._items[who, 0] = slates[rows, place]

    def put_back(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Give users (B,) the latest items (B, H) that ``of`` returned before."""
        self._items[users] = items

    @property
    def state(self) -> NDArray[np.int32]:
        """All of it, shape (U, H)."""
        return self._items

    def restore(self, state: NDArray[np.int32]) -> None:
        """Take up from a :attr:`state`.

        Raises:
            ValueError: If it is of another number of users.
        """
        if state.shape != self._items.shape:
            raise ValueError(f"latest items of {len(state)} users, not {len(self._items)}.")
        self._items = state.astype(np.int32)
