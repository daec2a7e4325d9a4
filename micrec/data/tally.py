"""How often integers occur that come a chunk at a time."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from micrec.data.sorting import stable_order

Ints: TypeAlias = NDArray[np.int64]


class KeyTally:
    """Counts of keys as a stack of sorted runs, each at least twice as long as the next.

    So every key is merged a logarithmic number of times, and the runs hold at most twice the distinct keys.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Ints, Ints]] = []

    def add(self, keys: Ints, counts: Ints) -> None:
        """Add one run of ascending, distinct keys."""
        self._runs.append((keys, counts))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._merge_last_two()

    def total(self) -> tuple[Ints, Ints]:
        """Distinct keys, ascending, and the sum of the counts of each."""
        while len(self._runs) > 1:
            self._merge_last_two()
        return self._runs[0] if self._runs else (np.empty(0, np.int64), np.empty(0, np.int64))

    def _merge_last_two(self) -> None:
        (keys_a, counts_a), (keys_b, counts_b) = self._runs.pop(), self._runs.pop()
        keys, counts = np.concatenate([keys_a, keys_b]), np.concatenate([counts_a, counts_b])
        self._runs.append(sum_by_key(keys, counts))


def sum_by_key(keys: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Distinct keys, ascending, with the sum of their counts."""
    order = stable_order(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sums = np.add.reduceat(counts[order], starts) if len(starts) else np.empty(0, np.int64)
    return keys[starts], sums


def count_keys(keys: Ints) -> tuple[Ints, Ints]:
    """Distinct keys, ascending, none below 0, and how often each occurs."""
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))
