"""Each item's heaviest partners, of counts that come by rows of items (paper 3.5, N18)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.array_space import MEMORY, ArraySpace
from micrec.data.packed_pairs import Ints
from micrec.data.sorting import offsets_of
from micrec.data.spilled_pairs import ItemRows


@dataclass(frozen=True)
class CoOccurrence:
    """How often two items were clicked in one session, and each item's heaviest partners.

    The partners of item i are ``partners[offsets[i] : offsets[i + 1]]``, ascending by id. An item has none if it was
    never clicked together with another or, under an infinite category boost, only with other categories.

    Attributes:
        n_items: N.
        offsets: Shape (N + 1,).
        partners: Partner ids, shape (nnz,).
        counts: Co-occurrences of item and partner, shape (nnz,), at least 1.
        weights: ``counts``, times the category boost where both items have the same known category, shape (nnz,).
        keys: Every unordered pair that ever co-occurred, pruned or not, as ``i * N + j`` with i < j, ascending, shape
            (P,). These exclude each other as negatives.
        n_sessions: Sessions counted.
        n_pairs: Counted co-occurrences, each unordered pair once.
        cut_mass: Share of co-occurrences lost to ``max_length``; in gap mode measured over pairs of clicks.
        dropped_mass: Share of weight lost to ``top_partners``.
    """

    n_items: int
    offsets: Ints
    partners: NDArray[np.int32]
    counts: NDArray[np.integer]
    weights: NDArray[np.float32]
    keys: Ints
    n_sessions: int
    n_pairs: int
    cut_mass: float
    dropped_mass: float


class PrunedRows(NamedTuple):
    """What is kept of the rows of consecutive items.

    Attributes:
        keys: Of all their pairs, the lower item first: ``i * N + j``, ascending.
        n_pairs: Co-occurrences of these pairs.
        sizes: Partners kept of each item, shape (items,).
        partners: Shape (m,).
        counts: Shape (m,).
        weights: Shape (m,).
        mass: Weight of all partners.
        dropped_mass: Weight of those not kept.
    """

    keys: Ints
    n_pairs: int
    sizes: Ints
    partners: NDArray[np.int32]
    counts: NDArray[np.integer]
    weights: NDArray[np.float32]
    mass: float
    dropped_mass: float


def count_type(config: SessionsConfig) -> type[np.integer]:
    """Of clicks on an item in a session, and their products: at most the number of sessions where each counts once."""
    return np.int32 if config.count == "session" else np.int64


class PartnerPruner:
    """Weighs the pairs of whole rows (N18), keeps the heaviest partners of each item, and every pair's key."""

    def __init__(
        self, n_items: int, config: SessionsConfig, category: NDArray[np.int32] | None, space: ArraySpace
    ) -> None:
        self._n_items, self._category = n_items, category
        self._boost, self._top = config.category_boost, config.top_partners
        self._lengths = MEMORY.writer(np.int64)
        self._partners = space.writer(np.int32)
        self._counts = space.writer(count_type(config) if config.mode == "window" else np.int64)
        self._weights = space.writer(np.float32)
        self._keys = space.writer(np.int64)
        self._mass = self._dropped = 0.0
        self._n_pairs = 0

    def pruned(self, block: ItemRows) -> "PrunedRows":
        """The heaviest partners of the items of a block; changes nothing, so that threads may share the blocks."""
        first, n_rows = block.first, len(block.sizes)
        rows = np.repeat(np.arange(n_rows, dtype=np.int32), block.sizes)
        partners, counts = block.partners.astype(np.int32, copy=False), block.counts
        upper = np.flatnonzero(partners > rows + np.int32(first))
        keys = rows[upper].astype(np.int64)
        keys += first
        keys *= self._n_items
        keys += partners[upper]
        n_pairs = int(counts[upper].sum(dtype=np.int64))
        weights = counts.astype(np.float32)
        if self._category is not None:
            own = np.repeat(self._category[first : first + n_rows], block.sizes)
            same = (own == self._category[partners]) & (own != 0)
            if math.isinf(self._boost):
                rows, partners, counts, weights = rows[same], partners[same], counts[same], weights[same]
            else:
                weights[same] *= np.float32(self._boost)
        sizes = np.bincount(rows, minlength=n_rows)
        mass = float(weights.sum(dtype=np.float64))
        if sizes.max(initial=0) <= self._top:
            return PrunedRows(keys, n_pairs, sizes, partners, counts, weights, mass, 0.0)
        kept = _heaviest(rows, offsets_of(sizes), weights, self._top)
        dropped = float(weights[~kept].sum(dtype=np.float64))
        sizes = np.bincount(rows[kept], minlength=n_rows)
        return PrunedRows(keys, n_pairs, sizes, partners[kept], counts[kept], weights[kept], mass, dropped)

    def add(self, found: "PrunedRows") -> None:
        """Take the rows of the next items."""
        self._keys.append(found.keys)
        self._n_pairs += found.n_pairs
        self._mass += found.mass
        self._dropped += found.dropped_mass
        self._lengths.append(found.sizes)
        self._partners.append(found.partners)
        self._counts.append(found.counts)
        self._weights.append(found.weights)

    def result(self, n_sessions: int, cut_mass: float) -> CoOccurrence:
        """All rows together."""
        return CoOccurrence(
            n_items=self._n_items,
            offsets=offsets_of(self._lengths.done()),
            partners=self._partners.done(),
            counts=self._counts.done(),
            weights=self._weights.done(),
            keys=self._keys.done(),
            n_sessions=n_sessions,
            n_pairs=self._n_pairs,
            cut_mass=cut_mass,
            dropped_mass=self._dropped / self._mass if self._mass else 0.0,
        )


def _heaviest(rows: NDArray[np.integer], offsets: Ints, weights: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """Which entries are among the k heaviest of their row, the earlier entry first among equals.

    ``rows`` never falls and row i owns entries offsets[i] .. offsets[i + 1]. The bits of a positive float32 ascend
    with its value, so that one sort of integers (row, weight) finds the k-th weight of every row.
    """
    long = np.flatnonzero(np.diff(offsets) > k)
    kept = np.ones(len(rows), dtype=np.bool_)
    if not len(long):
        return kept
    of_long = np.zeros(len(offsets) - 1, dtype=np.bool_)
    of_long[long] = True
    entries = np.flatnonzero(of_long[rows])
    rows, weights = rows[entries], weights[entries]
    sizes = np.diff(offsets)[long]
    packed = np.sort((rows.astype(np.int64) << 32) | weights.view(np.uint32))
    kth_bits = np.zeros(len(offsets) - 1, dtype=np.uint32)
    kth_bits[long] = packed[np.cumsum(sizes) - k] & 0xFFFFFFFF
    kth = kth_bits.view(np.float32)[rows]
    above = weights > kth
    room = k - np.bincount(rows[above], minlength=len(offsets) - 1)  # left for entries at the k-th weight, per row
    level = np.flatnonzero(weights == kth)
    firsts = np.flatnonzero(np.diff(rows[level], prepend=-1))
    rank = np.arange(len(level)) - np.repeat(firsts, np.diff(np.append(firsts, len(level))))  # 0 = first of its row
    above[level[rank < room[rows[level]]]] = True
    kept[entries] = above
    return kept
