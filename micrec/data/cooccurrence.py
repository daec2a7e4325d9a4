"""How often items are clicked in one session, and each item's heaviest partners (paper 3.5)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.dataset import Clicks
from micrec.data.sessions import Ints, clock_of, limit_of, session_starts
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
    of items at a time, whose partners are pruned at once. Memory beside the result is some 33 bytes a click (16 for S
    and its transpose) and what ``chunk_pairs`` allows. Gap mode merges sorted runs of pairs, and holds several times
    the distinct pairs while it does.

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
    rows, starts = session_starts(clicks.user_ids, clicks.time_ms, config)
    n_sessions = int(np.count_nonzero(starts))
    pruner = _PartnerPruner(n_items, config, category)
    if config.mode == "window":
        sessions, cut_mass = _session_items(clicks, rows, starts, n_items, config, chunk_pairs)
        del rows, starts
        blocks = _window_counts(sessions, chunk_pairs)
        del sessions  # the blocks hold it until the last of them is made
    else:
        tally, cut_mass = _tally_gap_pairs(clicks, rows, starts, n_items, config, chunk_pairs)
        del rows, starts
        blocks = _symmetric_counts(*tally.total(), n_items, chunk_pairs)
    progress.start("preparing: items met in one session", n_items, "items")
    for first, counts in blocks:
        pruner.add(first, counts)
        progress.advance(counts.shape[0])
    progress.finish()
    return pruner.result(n_sessions, cut_mass)


def _session_chunks(starts: NDArray[np.bool_], chunk_clicks: int) -> Iterator[slice]:
    """Positions of whole sessions, about ``chunk_clicks`` a time; a longer session is a chunk of its own."""
    bounds = np.append(np.flatnonzero(starts), len(starts))
    first = 0
    while first < len(bounds) - 1:
        end = int(np.searchsorted(bounds, bounds[first] + chunk_clicks, side="right")) - 1
        end = max(end, first + 1)
        yield slice(int(bounds[first]), int(bounds[end]))
        first = end


def _chunk_entries(
    clicks: Clicks, rows: Ints, starts: NDArray[np.bool_], n_items: int, config: SessionsConfig, chunk_clicks: int
) -> Iterator["_Entries"]:
    """Entries of whole sessions, a chunk at a time; the sessions of a chunk are numbered from 0."""
    for part in _session_chunks(starts, chunk_clicks):
        sessions = np.cumsum(starts[part], dtype=np.int64) - 1
        items, time_ms = clicks.item_ids[rows[part]].astype(np.int64), clicks.time_ms[rows[part]]
        yield _entries(sessions, items, time_ms, n_items, config)


def _session_items(
    clicks: Clicks, rows: Ints, starts: NDArray[np.bool_], n_items: int, config: SessionsConfig, chunk_clicks: int
) -> tuple[sp.csr_matrix, float]:
    """Clicks on each item in each session, shape (sessions, N), and the share of pairs that ``max_length`` cuts."""
    per_session = config.count == "session"
    dtype = np.int32 if per_session else np.int64
    items, values, lengths = [np.empty(0, np.int32)], [np.empty(0, dtype)], [np.zeros(1, np.int64)]
    uncut = cut = 0
    for entries in _chunk_entries(clicks, rows, starts, n_items, config, chunk_clicks):
        uncut, cut = uncut + entries.uncut_pairs, cut + entries.cut_pairs
        items.append(entries.items.astype(np.int32))
        values.append(np.ones(len(entries.items), dtype) if per_session else entries.clicks.astype(dtype))
        lengths.append(np.bincount(entries.sessions))
    offsets = np.cumsum(np.concatenate(lengths))
    if offsets[-1] < np.iinfo(np.int32).max:
        offsets = offsets.astype(np.int32)  # scipy takes the wider of its two index types for both
    entries_by_session = (_joined(values, dtype), _joined(items, np.int32), offsets)
    matrix = sp.csr_matrix(entries_by_session, shape=(len(offsets) - 1, n_items))
    return matrix, cut / uncut if uncut else 0.0


def _window_counts(sessions: sp.csr_matrix, block_pairs: int) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Rows of S' S without its diagonal, some ``block_pairs`` entries at a time, with the first item of each block."""
    by_item = sessions.T.tocsr()  # (N, sessions)
    if sessions.dtype == np.int32:
        by_item.data = sessions.data  # all ones
    met = by_item @ np.diff(sessions.indptr).astype(np.int64)  # items met, with repeats, at least: shape (N,)
    most = np.minimum(met, sessions.shape[1])
    for first, stop in _blocks(most, block_pairs):
        counts = (by_item[first:stop] @ sessions).tocsr()
        yield first, _without_diagonal(counts, first)


def _symmetric_counts(keys: Ints, counts: Ints, n_items: int, block_pairs: int) -> Iterator[tuple[int, sp.csr_matrix]]:
    """The same from unordered pairs, ``keys`` ascending."""
    upper = sp.csr_matrix((counts, (keys // n_items, keys % n_items)), shape=(n_items, n_items))
    lower = upper.T.tocsr()
    for first, stop in _blocks(np.diff(upper.indptr) + np.diff(lower.indptr), block_pairs):
        yield first, (upper[first:stop] + lower[first:stop]).tocsr()


def _blocks(sizes: NDArray[np.integer], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose sizes sum to at most ``most``; a larger row is a range of its own."""
    ends = np.cumsum(sizes, dtype=np.int64)
    first = 0
    while first < len(sizes):
        done = int(ends[first - 1]) if first else 0
        stop = max(int(np.searchsorted(ends, done + most, side="right")), first + 1)
        yield first, stop
        first = stop


def _without_diagonal(counts: sp.csr_matrix, first: int) -> sp.csr_matrix:
    """The rows from ``first`` on without an item's count of itself; columns ascend."""
    counts.sort_indices()
    rows = np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))
    others = counts.indices != rows + first
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[others], minlength=counts.shape[0]))])
    return sp.csr_matrix((counts.data[others], counts.indices[others], indptr), shape=counts.shape)


def _joined(parts: list[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """The parts in one array; takes ``parts`` apart, so that hardly anything is in memory twice."""
    whole = np.empty(sum(len(part) for part in parts), dtype)
    stop = len(whole)
    while parts:
        part = parts.pop()
        whole[stop - len(part) : stop] = part
        stop -= len(part)
    return whole


class _PartnerPruner:
    """Weighs the pairs of whole rows (N18), keeps the heaviest partners of each item, and every pair's key."""

    def __init__(self, n_items: int, config: SessionsConfig, category: NDArray[np.int32] | None) -> None:
        self._n_items, self._category = n_items, category
        self._boost, self._top = config.category_boost, config.top_partners
        self._lengths: list[Ints] = []
        self._partners: list[NDArray[np.int32]] = []
        self._counts: list[NDArray[np.integer]] = []
        self._weights: list[NDArray[np.float32]] = []
        self._keys: list[Ints] = []
        self._mass = self._dropped = 0.0
        self._n_pairs = 0
        self._counts_fit = True

    def add(self, first: int, block: sp.csr_matrix) -> None:
        """Take the counts of items ``first``, ``first + 1``, ... with all others, columns ascending."""
        n_rows = block.shape[0]
        rows = np.repeat(np.arange(n_rows), np.diff(block.indptr))
        partners, counts = block.indices.astype(np.int32, copy=False), block.data
        upper = partners > rows + first
        self._keys.append((rows[upper] + first) * self._n_items + partners[upper])
        self._n_pairs += int(counts[upper].sum(dtype=np.int64))
        self._counts_fit &= counts.dtype == np.int32
        weights = counts.astype(np.float32)
        if self._category is not None:
            own = self._category[first : first + n_rows][rows]
            same = (own == self._category[partners]) & (own != 0)
            if math.isinf(self._boost):
                rows, partners, counts, weights = rows[same], partners[same], counts[same], weights[same]
            else:
                weights[same] *= np.float32(self._boost)
        kept = _heaviest(rows, np.searchsorted(rows, np.arange(n_rows + 1)), weights, self._top)
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
            offsets=np.concatenate([[0], np.cumsum(_joined(self._lengths, np.int64))]),
            partners=_joined(self._partners, np.int32),
            counts=_joined(self._counts, np.int32 if self._counts_fit else np.int64),
            weights=_joined(self._weights, np.float32),
            keys=_joined(self._keys, np.int64),
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
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order], append=-1))  # last click of each item in each session
    sizes = np.diff(ends, prepend=-1)
    by_latest = np.argsort(order[ends])
    latest = order[ends][by_latest]
    from_end = np.searchsorted(sessions[latest], sessions[latest], side="right") - np.arange(len(latest))
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


def _tally_gap_pairs(
    clicks: Clicks, rows: Ints, starts: NDArray[np.bool_], n_items: int, config: SessionsConfig, chunk_pairs: int
) -> tuple["_PairTally", float]:
    """Pairs within ``max_s`` of each other, and the share of them that ``max_length`` cuts."""
    tally = _PairTally()
    uncut = cut = 0
    for entries in _chunk_entries(clicks, rows, starts, n_items, config, chunk_pairs):
        uncut, cut = uncut + entries.uncut_pairs, cut + entries.cut_pairs
        for keys, counts in _count_gap_pairs(entries, n_items, chunk_pairs, once_per_session=config.count == "session"):
            tally.add(keys, counts)
    return tally, cut / uncut if uncut else 0.0


def _count_gap_pairs(
    entries: _Entries, n_items: int, chunk_pairs: int, *, once_per_session: bool
) -> Iterator[tuple[Ints, Ints]]:
    """As for windows, but an entry is a click, so that pairs may repeat within a session and items pair themselves."""
    open_sessions, open_keys = np.empty(0, np.int64), np.empty(0, np.int64)
    for left, right in _pairs(entries.first, chunk_pairs):
        distinct = entries.items[left] != entries.items[right]
        left, right = left[distinct], right[distinct]
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


def _sum_by_key(keys: Ints, counts: Ints, kind: Literal["quicksort", "stable"] = "quicksort") -> tuple[Ints, Ints]:
    """Distinct keys, ascending, with the sum of their counts."""
    order = np.argsort(keys, kind=kind)
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sums = np.add.reduceat(counts[order], starts) if len(starts) else np.empty(0, np.int64)
    return keys[starts], sums


class _PairTally:
    """Counts of pairs as a stack of sorted runs, each at least twice as long as the next.

    So every pair is merged a logarithmic number of times, and the runs hold at most twice the distinct pairs.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Ints, Ints]] = []

    def add(self, keys: Ints, counts: Ints) -> None:
        """Add one run of ascending, distinct keys."""
        self._runs.append((keys, counts))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._merge_last_two()

    def total(self) -> tuple[Ints, Ints]:
        while len(self._runs) > 1:
            self._merge_last_two()
        return self._runs[0] if self._runs else (np.empty(0, np.int64), np.empty(0, np.int64))

    def _merge_last_two(self) -> None:
        (keys_a, counts_a), (keys_b, counts_b) = self._runs.pop(), self._runs.pop()
        keys, counts = np.concatenate([keys_a, keys_b]), np.concatenate([counts_a, counts_b])
        self._runs.append(_sum_by_key(keys, counts, kind="stable"))  # merges two runs in linear time


def _heaviest(rows: Ints, offsets: Ints, weights: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """Which entries are among the k heaviest of their row, the earlier entry first among equals.

    ``rows`` never falls and row i owns entries offsets[i] .. offsets[i + 1]. The bits of a positive float32 ascend
    with its value, so that one sort of integers (row, weight) finds the k-th weight of every row.
    """
    packed = np.sort((rows << 32) | weights.view(np.uint32))
    filled = np.flatnonzero(np.diff(offsets))
    kth_bits = np.zeros(len(offsets) - 1, dtype=np.uint32)
    kth_bits[filled] = packed[np.maximum(offsets[filled + 1] - k, offsets[filled])] & 0xFFFFFFFF
    kth = kth_bits.view(np.float32)[rows]
    kept = weights > kth
    room = k - np.bincount(rows[kept], minlength=len(offsets) - 1)  # left for entries at the k-th weight, per row
    level = np.flatnonzero(weights == kth)
    rank = np.arange(len(level)) - np.searchsorted(rows[level], rows[level])  # 0 = first of its row
    kept[level[rank < room[rows[level]]]] = True
    return kept
