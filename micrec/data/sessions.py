"""Sessions and the co-occurrence of items within them (paper 3.5 and 4.1)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.dataset import Clicks
from micrec.errors import MicrecError

Ints = NDArray[np.int64]


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
        keys: Every ordered pair that ever co-occurred, pruned or not, as ``i * N + j``, ascending, shape (P,). With
            (i, j) it holds (j, i); it excludes negatives.
        n_sessions: Sessions counted.
        n_pairs: Counted co-occurrences, each unordered pair once.
        cut_mass: Share of co-occurrences lost to ``max_length``; in gap mode measured over pairs of clicks.
        dropped_mass: Share of weight lost to ``top_partners``.
    """

    n_items: int
    offsets: Ints
    partners: NDArray[np.int32]
    counts: Ints
    weights: NDArray[np.float32]
    keys: Ints
    n_sessions: int
    n_pairs: int
    cut_mass: float
    dropped_mass: float


def assign_sessions(user_ids: NDArray[np.int32], time_ms: Ints, config: SessionsConfig) -> Ints:
    """Session of every click.

    ``window``: a session ends ``max_s`` after it started, and the next click starts another (paper 4.1: "no more than
    one hour"). ``gap``: it ends when the user does nothing for more than ``max_s``.

    Args:
        user_ids: Dense user ids, shape (n,).
        time_ms: Milliseconds, shape (n,), never falling within a user.
        config: The mode and the length.

    Returns:
        Session numbers, shape (n,), in the order of the input; 0 .. S - 1 by user, then by time.

    Raises:
        ValueError: If time falls within a user.
    """
    rows = np.argsort(user_ids, kind="stable")
    limit_ms = _limit_ms(time_ms, config)
    clock = _clock(user_ids[rows], time_ms[rows], limit_ms)
    starts = np.diff(clock, prepend=-limit_ms - 1) > limit_ms
    if config.mode == "window":
        starts = _window_starts(clock, starts, limit_ms)
    sessions = np.empty(len(rows), dtype=np.int64)
    sessions[rows] = np.cumsum(starts) - 1
    return sessions


def _limit_ms(time_ms: Ints, config: SessionsConfig) -> int:
    """``max_s`` in milliseconds, at most the span of the log: a longer one splits nothing and could overflow."""
    return min(config.max_s * 1000, int(np.ptp(time_ms))) if len(time_ms) else 0


def _clock(groups: NDArray[np.integer], time_ms: Ints, limit_ms: int) -> Ints:
    """One clock for all groups: as ``time_ms``, but every pause that exceeds the limit, and every change of group,
    lasts ``limit_ms + 1``. Two clicks are in one group and within the limit exactly if they are within it here."""
    pause = np.diff(time_ms)
    same = groups[1:] == groups[:-1]
    if (pause[same] < 0).any():
        raise ValueError("time_ms falls within a user: sort the clicks by time.")
    pause = np.where(same, np.minimum(pause, limit_ms + 1), limit_ms + 1)
    return np.concatenate([np.zeros(min(len(time_ms), 1), np.int64), np.cumsum(pause, dtype=np.int64)])


def _window_starts(clock: Ints, after_pause: NDArray[np.bool_], limit_ms: int) -> NDArray[np.bool_]:
    """Greedy windows: a click after a pause starts one; the first click beyond a window's end starts the next.

    Following these jumps one by one is serial, so they are doubled: after round r every start up to 2**r windows
    after a pause is known, and ``jump`` leads 2**r windows ahead. Time O(n log(windows between two pauses)).
    """
    n = len(clock)
    starts = after_pause.copy()
    jump = np.append(np.searchsorted(clock, clock + limit_ms, side="right"), n)  # n = no further window
    jump[np.append(after_pause, False)[jump]] = n  # starts already, with its own chain
    found = np.flatnonzero(starts)
    while True:
        ahead = jump[found]
        ahead = ahead[ahead < n]
        if not len(ahead):
            return starts
        starts[ahead] = True
        found = np.concatenate([found, ahead])
        jump = jump[jump]


def count_cooccurrences(
    clicks: Clicks,
    n_items: int,
    config: SessionsConfig,
    *,
    category: NDArray[np.int32] | None = None,
    chunk_pairs: int = 1 << 22,
) -> CoOccurrence:
    """Count which items are clicked in one session (paper 3.5), and weigh and prune each item's partners.

    Every unordered pair of distinct items counts once per session, however often each was clicked, or with
    ``count=occurrence`` once per pair of clicks. In gap mode the two clicks must also be within ``max_s`` (in window
    mode they always are). Sessions are counted in chunks; beside arrays as long as the log, memory is bounded by
    ``chunk_pairs`` and the number of distinct pairs.

    Args:
        clicks: Train clicks only, in time order. What happens after the split must not be passed in.
        n_items: N; every item id is below it.
        config: Sessions, counting, caps and category boost.
        category: Category code per item, 0 = unknown, shape (N,); None = no boost.
        chunk_pairs: Pairs held at a time before they are merged.

    Raises:
        MicrecError: If only same-category pairs are wanted but there is no category.
    """
    if math.isinf(config.category_boost) and category is None:
        raise MicrecError(
            "sessions.category_boost: .inf keeps same-category pairs only, but the dataset has no category: "
            "name one in roles.category of dataset.yaml, or set a finite boost."
        )
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, config)
    rows = np.argsort(sessions, kind="stable")
    sessions = sessions[rows]
    tally = _PairTally()
    uncut = cut = 0
    for part in _session_chunks(sessions, chunk_pairs):
        items, time_ms = clicks.item_ids[rows[part]].astype(np.int64), clicks.time_ms[rows[part]]
        entries = _entries(sessions[part], items, time_ms, n_items, config)
        uncut, cut = uncut + entries.uncut_pairs, cut + entries.cut_pairs
        for keys, counts in _count_pairs(entries, n_items, config, chunk_pairs):
            tally.add(keys, counts)
    keys, counts = tally.total()
    n_sessions = int(sessions[-1]) + 1 if len(sessions) else 0
    return _neighbours(keys, counts, n_items, config, category, n_sessions, cut / uncut if uncut else 0.0)


def _session_chunks(sessions: Ints, chunk_clicks: int) -> Iterator[slice]:
    """Rows of whole sessions, about ``chunk_clicks`` a time; a longer session is a chunk of its own."""
    starts = np.append(np.flatnonzero(np.diff(sessions, prepend=-1)), len(sessions))
    first = 0
    while first < len(starts) - 1:
        end = int(np.searchsorted(starts, starts[first] + chunk_clicks, side="right")) - 1
        end = max(end, first + 1)
        yield slice(int(starts[first]), int(starts[end]))
        first = end


class _Entries(NamedTuple):
    """What is paired: in window mode a session's distinct items by latest click, in gap mode its clicks."""

    sessions: Ints  # (m,) never falling
    items: Ints  # (m,)
    clicks: Ints  # (m,) clicks behind the entry
    first: Ints  # (m,) entry q pairs with entries first[q] .. q - 1
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
    first = np.searchsorted(sessions, sessions, side="left")
    return _Entries(sessions, items, clicks, first, uncut, uncut - _window_pairs(sessions, clicks))


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
    limit_ms = _limit_ms(time_ms, config)
    clock = _clock(sessions, time_ms, limit_ms)
    return np.searchsorted(clock, clock - limit_ms, side="left")


def _count_pairs(
    entries: _Entries, n_items: int, config: SessionsConfig, chunk_pairs: int
) -> Iterator[tuple[Ints, Ints]]:
    count = _count_window_pairs if config.mode == "window" else _count_gap_pairs
    return count(entries, n_items, chunk_pairs, once_per_session=config.count == "session")


def _count_window_pairs(
    entries: _Entries, n_items: int, chunk_pairs: int, *, once_per_session: bool
) -> Iterator[tuple[Ints, Ints]]:
    """Distinct pairs as keys ``min * N + max``, ascending, with counts; a later chunk may hold the same pair again."""
    for left, right in _pairs(entries.first, chunk_pairs):
        keys = _pair_keys(entries.items[left], entries.items[right], n_items)
        if once_per_session:
            yield np.unique(keys, return_counts=True)
        else:
            yield _sum_by_key(keys, entries.clicks[left] * entries.clicks[right])


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


def _neighbours(
    keys: Ints,
    counts: Ints,
    n_items: int,
    config: SessionsConfig,
    category: NDArray[np.int32] | None,
    n_sessions: int,
    cut_mass: float,
) -> CoOccurrence:
    """Make the pairs symmetric, weigh them (N18) and keep the heaviest partners of each item."""
    n_pairs = int(counts.sum())
    keys = np.concatenate([keys, keys % n_items * n_items + keys // n_items])
    order = np.argsort(keys)
    keys, counts = keys[order], np.concatenate([counts, counts])[order]
    items, partners = keys // n_items, keys % n_items
    weights = counts.astype(np.float32)
    if category is not None:
        same = (category[items] == category[partners]) & (category[items] != 0)
        if math.isinf(config.category_boost):
            items, partners, counts, weights = items[same], partners[same], counts[same], weights[same]
        else:
            weights[same] *= np.float32(config.category_boost)
    kept = _heaviest(items, np.searchsorted(items, np.arange(n_items + 1)), weights, config.top_partners)
    mass = weights.sum(dtype=np.float64)
    return CoOccurrence(
        n_items=n_items,
        offsets=np.searchsorted(items[kept], np.arange(n_items + 1)),
        partners=partners[kept].astype(np.int32),
        counts=counts[kept],
        weights=weights[kept],
        keys=keys,
        n_sessions=n_sessions,
        n_pairs=n_pairs,
        cut_mass=cut_mass,
        dropped_mass=float(weights[~kept].sum(dtype=np.float64) / mass) if mass else 0.0,
    )


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
