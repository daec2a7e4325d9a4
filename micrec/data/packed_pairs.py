"""Two items and a count in one number of 63 bits, so that counts of pairs are sorted and moved as plain integers."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]


class PairPacking:
    """How the numbers are made up: first item, second item, count, from the highest bits to the lowest.

    A key is what stands above the count. Numbers of one key may be several; their counts belong together.

    Attributes:
        item_bits: Bits of an item.
        count_bits: Bits of a count; a larger count becomes several numbers.
    """

    def __init__(self, n_items: int) -> None:
        self.item_bits = max(n_items - 1, 1).bit_length()
        self.count_bits = 63 - 2 * self.item_bits

    def keys(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> Ints:
        """The keys of pairs of items, shapes (n,)."""
        found = first.astype(np.int64)
        found <<= self.item_bits
        found |= second
        return found

    def items(self, keys: Ints) -> tuple[Ints, Ints]:
        """First and second item of each key."""
        return keys >> self.item_bits, keys & ((1 << self.item_bits) - 1)

    def pack(self, keys: Ints, counts: Ints) -> Ints:
        """Numbers of keys and their counts, at least 1; ascending if the keys are ascending and distinct."""
        most = (1 << self.count_bits) - 1
        if len(counts) and counts.max() > most:
            several = -(-counts // most)
            rest = counts - (several - 1) * most
            keys, starts = np.repeat(keys, several), np.cumsum(several) - several
            counts = np.full(len(keys), most)
            counts[starts] = rest
        packed = keys << self.count_bits
        packed |= counts
        return packed

    def sums(self, packed: Ints) -> tuple[Ints, Ints]:
        """Distinct keys, ascending, and the sum of the counts of each, of numbers that ascend."""
        keys, counts = packed >> self.count_bits, packed & ((1 << self.count_bits) - 1)
        starts = np.flatnonzero(keys[1:] != keys[:-1])
        if len(starts) + 1 >= len(keys):
            return keys, counts
        starts = np.concatenate([np.zeros(1, np.int64), starts + 1])
        return keys[starts], np.add.reduceat(counts, starts)

    def lowest(self, first: Ints) -> Ints:
        """The lowest numbers of first items."""
        return first << (self.item_bits + self.count_bits)
