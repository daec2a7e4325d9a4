"""How often items are clicked in one session, and each item's heaviest partners (paper 3.5)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.array_space import MEMORY, ArraySpace
from micrec.data.dataset import Clicks
from micrec.data.histories import Histories, group_by_user
from micrec.data.sessions import Ints, clock_of, limit_of, starts_of
from micrec.data.sorting import distinct, offsets_of, parts_of, stable_order
from micrec.data.spilled_pairs import SpilledPairs, ranges_of
from micrec.data.tally import KeyTally, count_keys, sum_by_key
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress


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


def count_cooccurrences(
    clicks: Clicks,
    n_items: int,
    config: SessionsConfig,
    *,
    category: NDArray[np.int32] | None = None,
    chunk_pairs: int = 1 << 22,
    progress: Progress | None = None,
) -> CoOccurrence:
    """Count which items are clicked in one session (paper 3.5), and weigh and prune each item's partners.

    Every unordered pair of distinct items counts once per session, however often each was clicked, or with
    ``count=occurrence`` once per pair of clicks. In gap mode the two clicks must also be within ``max_s`` (in window
    mode they always are).

    In window mode the counts are S' S, where row s of S holds the items of session s: the product is made for a block
    of items at a time, whose partners are pruned at once. Memory beside the result is some 40 bytes a click (16 for S
    and its transpose) and what ``chunk_pairs`` allows. Gap mode merges sorted runs of pairs, and holds several times
    the distinct pairs while it does. Of a mapped log, in both modes, sorted runs of pairs are put on the disk and
    added up a range of items at a time.

    Args:
        clicks: Train clicks only, in time order. What happens after the split must not be passed in.
        n_items: N; every item id is below it.
        config: Sessions, counting, caps and category boost.
        category: Category code per item, 0 = unknown, shape (N,); None = no boost.
        chunk_pairs: Clicks, or pairs of items, held at a time.
        progress: Where to report.

    Raises:
        MicrecError: If only same-category pairs are wanted but there is no category.
    """
    if math.isinf(config.category_boost) and category is None:
        raise MicrecError(
            "sessions.category_boost: .inf keeps same-category pairs only, but the dataset has no category: "
            "name one in roles.category of dataset.yaml, or set a finite boost."
        )
    progress = progress or NoProgress()
    space = clicks.space
    log = group_by_user(clicks, int(clicks.user_ids.max(initial=-1)) + 1, times=True, rows=False)
    starts = starts_of(log, config, space=space)
    n_sessions = int(np.count_nonzero(starts))
    pruner = _PartnerPruner(n_items, config, category, space)
    if space.on_disk:
        pairs = SpilledPairs(n_items, space)
        cut_mass = _tally_pairs(pairs, log, starts, n_items, config, chunk_pairs, progress)
        del log, starts
        blocks = pairs.rows(chunk_pairs)
    elif config.mode == "window":
        sessions, cut_mass = _session_items(log, starts, n_items, config, chunk_pairs)
        del log, starts
        blocks = _window_counts(sessions, chunk_pairs)
        del sessions  # the blocks hold it until the last of them is made
    else:
        tally = KeyTally()
        cut_mass = _tally_pairs(tally, log, starts, n_items, config, chunk_pairs, progress)
        del log, starts
        blocks = _symmetric_counts(*tally.total(), n_items, chunk_pairs)
    progress.start("preparing: items met in one session", n_items, "items")
    for first, counts in blocks:
        pruner.add(first, counts)
        progress.advance(counts.shape[0])
    progress.finish()
    return pruner.result(n_sessions, cut_mass)


def _session_chunks(starts: NDArray[np.bool_], chunk_clicks: int) -> Iterator[slice]:
    """Positions of whole sessions, about ``chunk_clicks`` a time; a longer session is a chunk of its own."""
    first = 0
    while first < len(starts):
        stop = min(first + chunk_clicks, len(starts))
        if stop < len(starts) and not starts[stop]:  # back to the last start, or on to the next one
            found = np.flatnonzero(starts[first + 1 : stop])
            stop = first + 1 + int(found[-1]) if len(found) else _next_start(starts, stop)
        yield slice(first, stop)
        first = stop


def _next_start(starts: NDArray[np.bool_], first: int) -> int:
    """The first start from a position on, or the end."""
    for part in parts_of(len(starts) - first):
        found = np.flatnonzero(starts[first:][part])
        if len(found):
            return first + part.start + int(found[0])
    return len(starts)


def _chunk_entries(
    log: Histories, starts: NDArray[np.bool_], n_items: int, config: SessionsConfig, chunk_clicks: int
) -> Iterator[tuple[slice, "_Entries"]]:
    """Positions and entries of whole sessions, a chunk at a time; the sessions of a chunk are numbered from 0."""
    assert log.time_ms is not None
    for part in _session_chunks(starts, chunk_clicks):
        sessions = np.cumsum(starts[part], dtype=np.int64) - 1
        yield part, _entries(sessions, log.items[part].astype(np.int64), log.time_ms[part], n_items, config)


def _count_type(config: SessionsConfig) -> type[np.integer]:
    """Of clicks on an item in a session, and their products: at most the number of sessions where each counts once."""
    return np.int32 if config.count == "session" else np.int64


def _session_items(
    log: Histories, starts: NDArray[np.bool_], n_items: int, config: SessionsConfig, chunk_clicks: int
) -> tuple[sp.csr_matrix, float]:
    """Clicks on each item in each session, shape (sessions, N), and the share of pairs that ``max_length`` cuts."""
    per_session, dtype = config.count == "session", _count_type(config)
    items, values, lengths = MEMORY.writer(np.int32), MEMORY.writer(dtype), MEMORY.writer(np.int64)
    uncut = cut = 0
    for _, entries in _chunk_entries(log, starts, n_items, config, chunk_clicks):
        uncut, cut = uncut + entries.uncut_pairs, cut + entries.cut_pairs
        items.append(entries.items)
        values.append(np.ones(len(entries.items), dtype) if per_session else entries.clicks)
        lengths.append(np.bincount(entries.sessions))
    offsets = offsets_of(lengths.done())
    if offsets[-1] < np.iinfo(np.int32).max:
        offsets = offsets.astype(np.int32)  # scipy takes the wider of its two index types for both
    matrix = sp.csr_matrix((values.done(), items.done(), offsets), shape=(len(offsets) - 1, n_items))
    return matrix, cut / uncut if uncut else 0.0


def _window_counts(sessions: sp.csr_matrix, block_pairs: int) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Rows of S' S without its diagonal, some ``block_pairs`` entries at a time, with the first item of each block."""
    by_item = sessions.T.tocsr()  # (N, sessions)
    if sessions.dtype == np.int32:
        by_item.data = sessions.data  # all ones
    met = by_item @ np.diff(sessions.indptr).astype(np.int64)  # items met, with repeats, at least: shape (N,)
    most = np.minimum(met, sessions.shape[1])
    for first, stop in ranges_of(most, block_pairs):
        counts = (by_item[first:stop] @ sessions).tocsr()
        yield first, _without_diagonal(counts, first)


def _symmetric_counts(keys: Ints, counts: Ints, n_items: int, block_pairs: int) -> Iterator[tuple[int, sp.csr_matrix]]:
    """The same from unordered pairs, ``keys`` ascending."""
    upper = sp.csr_matrix((counts, (keys // n_items, keys % n_items)), shape=(n_items, n_items))
    lower = upper.T.tocsr()
    for first, stop in ranges_of(np.diff(upper.indptr) + np.diff(lower.indptr), block_pairs):
        yield first, (upper[first:stop] + lower[first:stop]).tocsr()


def _without_diagonal(counts: sp.csr_matrix, first: int) -> sp.csr_matrix:
    """The rows from ``first`` on without an item's count of itself; columns ascend."""
    counts.sort_indices()
    rows = np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))
    others = counts.indices != rows + first
    indptr = offsets_of(np.bincount(rows[others], minlength=counts.shape[0]))
    return sp.csr_matrix((counts.data[others], counts.indices[others], indptr), shape=counts.shape)


class _PartnerPruner:
    """Weighs the pairs of whole rows (N18), keeps the heaviest partners of each item, and every pair's key."""

    def __init__(
        self, n_items: int, config: SessionsConfig, category: NDArray[np.int32] | None, space: ArraySpace
    ) -> None:
        self._n_items, self._category = n_items, category
        self._boost, self._top = config.category_boost, config.top_partners
        self._lengths = MEMORY.writer(np.int64)
        self._partners = space.writer(np.int32)
        self._counts = space.writer(_count_type(config) if config.mode == "window" else np.int64)
        self._weights = space.writer(np.float32)
        self._keys = space.writer(np.int64)
        self._mass = self._dropped = 0.0
        self._n_pairs = 0

    def add(self, first: int, block: sp.csr_matrix) -> None:
        """Take the counts of items ``first``, ``first + 1``, ... with all others, columns ascending."""
        n_rows = block.shape[0]
        rows = np.repeat(np.arange(n_rows), np.diff(block.indptr))
        partners, counts = block.indices.astype(np.int32, copy=False), block.data
        upper = partners > rows + first
        self._keys.append((rows[upper] + first) * self._n_items + partners[upper])
        self._n_pairs += int(counts[upper].sum(dtype=np.int64))
        weights = counts.astype(np.float32)
        if self._category is not None:
            own = self._category[first : first + n_rows][rows]
            same = (own == self._category[partners]) & (own != 0)
            if math.isinf(self._boost):
                rows, partners, counts, weights = rows[same], partners[same], counts[same], weights[same]
            else:
                weights[same] *= np.float32(self._boost)
        kept = _heaviest(rows, offsets_of(np.bincount(rows, minlength=n_rows)), weights, self._top)
        self._mass += float(weights.sum(dtype=np.float64))
        self._dropped += float(weights[~kept].sum(dtype=np.float64))
        self._lengths.append(np.bincount(rows[kept], minlength=n_rows))
        self._partners.append(partners[kept])
        self._counts.append(counts[kept])
        self._weights.append(weights[kept])

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


class _Entries(NamedTuple):
    """What is paired: in window mode a session's distinct items by latest click, in gap mode its clicks."""

    sessions: Ints  # (m,) never falling
    items: Ints  # (m,)
    clicks: Ints  # (m,) clicks behind the entry
    first: Ints  # (m,) entry q pairs with entries first[q] .. q - 1; empty in window mode, where all of a session do
    uncut_pairs: int  # co-occurrences there would be without max_length
    cut_pairs: int  # those that max_length takes away


def _entries(sessions: Ints, items: Ints, time_ms: Ints, n_items: int, config: SessionsConfig) -> _Entries:
    """Entries of whole sessions, cut to the ``max_length`` latest distinct items of each."""
    keys = (sessions - sessions[0]) * n_items + items
    if config.mode == "window" and config.count == "session" and np.bincount(sessions).max() <= config.max_length:
        found = distinct(keys)  # nothing is cut, so that the order within a session does not matter
        owners, once = found // n_items, np.ones(len(found), np.int64)
        return _window_entries(owners, found - owners * n_items, once, once.astype(np.bool_))
    order = stable_order(keys)
    ends = np.flatnonzero(np.diff(keys[order], append=-1))  # last click of each item in each session
    sizes = np.diff(ends, prepend=-1)
    by_latest = stable_order(order[ends])
    latest = order[ends][by_latest]
    from_end = np.cumsum(np.bincount(sessions[latest]))[sessions[latest]] - np.arange(len(latest))
    kept = from_end <= config.max_length
    if config.mode == "window":
        clicks = sizes[by_latest] if config.count == "occurrence" else np.ones_like(latest)
        return _window_entries(sessions[latest], items[latest], clicks, kept)
    kept_groups = np.empty_like(kept)
    kept_groups[by_latest] = kept
    kept_clicks = np.empty(len(items), dtype=np.bool_)
    kept_clicks[order] = np.repeat(kept_groups, sizes)
    return _gap_entries(sessions, items, time_ms, kept_clicks, config)


def _window_entries(sessions: Ints, items: Ints, clicks: Ints, kept: NDArray[np.bool_]) -> _Entries:
    uncut = _window_pairs(sessions, clicks)
    sessions, items, clicks = sessions[kept], items[kept], clicks[kept]
    return _Entries(sessions, items, clicks, np.empty(0, np.int64), uncut, uncut - _window_pairs(sessions, clicks))


def _gap_entries(
    sessions: Ints, items: Ints, time_ms: Ints, kept: NDArray[np.bool_], config: SessionsConfig
) -> _Entries:
    uncut = _gap_pairs(_first_within(sessions, time_ms, config))
    sessions, items, time_ms = sessions[kept], items[kept], time_ms[kept]
    first = _first_within(sessions, time_ms, config)
    return _Entries(sessions, items, np.ones_like(items), first, uncut, uncut - _gap_pairs(first))


def _window_pairs(sessions: Ints, clicks: Ints) -> int:
    """Sum over sessions of clicks[p] * clicks[q] over p < q."""
    if not len(sessions):
        return 0
    starts = np.flatnonzero(np.diff(sessions, prepend=-1))
    return int((np.add.reduceat(clicks, starts) ** 2).sum() - (clicks**2).sum()) // 2


def _gap_pairs(first: Ints) -> int:
    return int((np.arange(len(first)) - first).sum())


def _first_within(sessions: Ints, time_ms: Ints, config: SessionsConfig) -> Ints:
    """First click of the same session at most ``max_s`` before each click, shape (m,)."""
    limit_ms = limit_of(time_ms, config)
    clock = clock_of(sessions, time_ms, limit_ms)
    return np.searchsorted(clock, clock - limit_ms, side="left")


def _tally_pairs(
    tally: KeyTally | SpilledPairs,
    log: Histories,
    starts: NDArray[np.bool_],
    n_items: int,
    config: SessionsConfig,
    chunk_pairs: int,
    progress: Progress,
) -> float:
    """Count pairs of a session, in gap mode those within ``max_s``; the share of them that ``max_length`` cuts."""
    uncut = cut = 0
    progress.start("preparing: pairs of items", len(starts), "clicks")
    for part, entries in _chunk_entries(log, starts, n_items, config, chunk_pairs):
        uncut, cut = uncut + entries.uncut_pairs, cut + entries.cut_pairs
        if config.mode == "window":
            found = _count_window_pairs(entries, n_items, chunk_pairs, once_per_session=config.count == "session")
        else:
            found = _count_gap_pairs(entries, n_items, chunk_pairs, once_per_session=config.count == "session")
        for keys, counts in found:
            tally.add(keys, counts)
        progress.advance(part.stop - part.start)
    progress.finish()
    return cut / uncut if uncut else 0.0


def _count_window_pairs(
    entries: _Entries, n_items: int, chunk_pairs: int, *, once_per_session: bool
) -> Iterator[tuple[Ints, Ints]]:
    """Keys and counts of the pairs of whole sessions, whose items are distinct."""
    sizes = np.bincount(entries.sessions)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    for left, right in _pairs(first, chunk_pairs):
        keys = _pair_keys(entries.items[left], entries.items[right], n_items)
        yield count_keys(keys) if once_per_session else sum_by_key(keys, entries.clicks[left] * entries.clicks[right])


def _count_gap_pairs(
    entries: _Entries, n_items: int, chunk_pairs: int, *, once_per_session: bool
) -> Iterator[tuple[Ints, Ints]]:
    """As for windows, but an entry is a click, so that pairs may repeat within a session and items pair themselves."""
    open_sessions, open_keys = np.empty(0, np.int64), np.empty(0, np.int64)
    for left, right in _pairs(entries.first, chunk_pairs):
        differ = entries.items[left] != entries.items[right]
        left, right = left[differ], right[differ]
        keys = _pair_keys(entries.items[left], entries.items[right], n_items)
        if once_per_session:  # the last session may go on in the next chunk: hold its pairs back
            sessions = np.concatenate([open_sessions, entries.sessions[right]])
            sessions, keys = _once_per_session(sessions, np.concatenate([open_keys, keys]))
            is_open = sessions == sessions.max(initial=-1)
            open_sessions, open_keys, keys = sessions[is_open], keys[is_open], keys[~is_open]
        yield np.unique(keys, return_counts=True)
    yield np.unique(open_keys, return_counts=True)


def _pair_keys(a: Ints, b: Ints, n_items: int) -> Ints:
    return np.minimum(a, b) * n_items + np.maximum(a, b)


def _pairs(first: Ints, chunk_pairs: int) -> Iterator[tuple[Ints, Ints]]:
    """All pairs (p, q) with first[q] <= p < q, about ``chunk_pairs`` a time, ascending by q."""
    sizes = np.arange(len(first)) - first
    ends = np.cumsum(sizes)
    start, done = 0, 0
    while start < len(first):
        stop = max(int(np.searchsorted(ends, done + chunk_pairs, side="right")), start + 1)
        size = sizes[start:stop]
        total = int(ends[stop - 1]) - done
        right = np.repeat(np.arange(start, stop), size)
        begin = ends[start:stop] - size - done  # where the pairs of each q begin in this chunk
        left = np.arange(total) - np.repeat(begin - first[start:stop], size)
        yield left, right
        start, done = stop, done + total


def _once_per_session(sessions: Ints, keys: Ints) -> tuple[Ints, Ints]:
    """Distinct (session, key) pairs of pairs whose sessions never fall."""
    order = np.argsort(keys, kind="stable")  # within a key the sessions still ascend
    sessions, keys = sessions[order], keys[order]
    new = np.ones(len(keys), dtype=np.bool_)
    new[1:] = (keys[1:] != keys[:-1]) | (sessions[1:] != sessions[:-1])
    return sessions[new], keys[new]


def _heaviest(rows: Ints, offsets: Ints, weights: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
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
    packed = np.sort((rows << 32) | weights.view(np.uint32))
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
