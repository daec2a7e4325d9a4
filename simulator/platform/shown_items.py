"""What each visit under way has been shown, so that no item comes twice.

A visit has a small table of flags, one for each class of items modulo its width; an item whose flag is down has not
been shown, and only the few whose flag is up are looked up in the visit's list.
"""

import numpy as np
from numpy.typing import NDArray

_WIDTH = 1_024  # more would find fewer look-alikes, and less of the flags would stay in the cache


class VisitImpressions:
    """Items shown by visit; a visit takes a slot when it begins and frees it when it ends."""

    def __init__(self) -> None:
        self._flags = np.zeros((0, _WIDTH), bool)
        self._items = np.zeros((0, 0), np.int64)
        self._count = np.zeros(0, np.int64)
        self._free: list[int] = []
        self._slot: dict[int, int] = {}

    def slots(self, visits: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slot of each visit (B,), new ones included."""
        return np.array(
            [self._slot.get(visit, -1) if visit in self._slot else self._begin(visit) for visit in visits.tolist()]
        )

    def mask(self, slots: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of ``items`` (B, C) the visits of ``slots`` (B,) have been shown; padding has not."""
        found = self._flags[slots[:, None], items & (_WIDTH - 1)] & (items >= 0)
        row, column = np.nonzero(found)
        if len(row):
            seen = self._items[slots[row]]
            found[row, column] = (seen == items[row, column][:, None]).any(axis=1)
        return found

    def add(self, slots: NDArray[np.int64], slates: NDArray[np.int64]) -> None:
        """The visits of distinct ``slots`` (B,) see ``slates`` (B, K), padding at the end of a row."""
        most = int(self._count[slots].max(initial=0)) + slates.shape[1]
        if most > self._items.shape[1]:
            wider = np.full((len(self._items), max(most, 2 * self._items.shape[1])), -1)
            wider[:, : self._items.shape[1]] = self._items
            self._items = wider
        row, place = np.nonzero(slates >= 0)
        item, slot = slates[row, place], slots[row]
        self._items[slot, self._count[slot] + place] = item
        self._flags[slot, item & (_WIDTH - 1)] = True
        self._count[slots] += (slates >= 0).sum(axis=1)

    def end(self, visits: NDArray[np.int64]) -> None:
        """Forget visits."""
        slots = [self._slot.pop(visit) for visit in visits.tolist() if visit in self._slot]
        self._flags[slots] = False
        self._items[slots] = -1
        self._count[slots] = 0
        self._free += slots

    def remember(self, visits: NDArray[np.int64]) -> list[NDArray[np.int64] | None]:
        """What each visit (B,) has been shown, None if it has no slot; for ``put_back``."""
        slots = [self._slot.get(visit) for visit in visits.tolist()]
        return [None if slot is None else self._items[slot, : self._count[slot]].copy() for slot in slots]

    def put_back(self, visits: NDArray[np.int64], remembered: list[NDArray[np.int64] | None]) -> None:
        """Let the visits (B,) have been shown what they had been when it was remembered."""
        self.end(visits)
        for visit, items in zip(visits.tolist(), remembered, strict=True):
            if items is not None:
                slots = self.slots(np.array([visit]))
                self.add(slots, items[None, :])

    def _begin(self, visit: int) -> int:
        if not self._free:
            more = max(16, len(self._count))
            self._free = list(range(len(self._count) + more - 1, len(self._count) - 1, -1))
            self._flags = np.concatenate([self._flags, np.zeros((more, _WIDTH), bool)])
            self._items = np.concatenate([self._items, np.full((more, self._items.shape[1]), -1)])
            self._count = np.concatenate([self._count, np.zeros(more, np.int64)])
        self._slot[visit] = slot = self._free.pop()
        return slot
