"""Which clicks of a session make pairs: its distinct items, or its clicks within a time of each other (paper 3.5)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.histories import Histories
from micrec.data.packed_pairs import Ints, PairPacking
from micrec.data.sessions import clock_of, limit_of
from micrec.data.sorting import distinct, parts_of, stable_order
from micrec.data.tally import count_keys, sum_by_key


class SessionEntries(NamedTuple):
    """What is paired: in window mode a session's distinct items by latest click, in gap mode its clicks."""

    sessions: Ints  # (m,) never falling
    items: Ints  # (m,)
    clicks: Ints  # (m,) clicks behind the entry
    first: Ints  # (m,) entry q pairs with entries first[q] .. q - 1; empty in window mode, where all of a session do
    uncut_pairs: int  # co-occurrences there would be without max_length
    cut_pairs: int  # those that max_length takes away


class PairsCut:
    """Pairs that there would be without ``max_length``, and those that it takes away."""

    def __init__(self) -> None:
        self._uncut = self._cut = 0

    def add(self, entries: SessionEntries) -> None:
        """Count the pairs of these sessions."""
        self._uncut += entries.uncut_pairs
        self._cut += entries.cut_pairs

    @property
    def share(self) -> float:
        """The share that is taken away."""
        return self._cut / self._uncut if self._uncut else 0.0


class PairRun(NamedTuple):
    """Keys of pairs in any order, piece by piece, and what each counts; without counts each counts once."""

    keys: list[Ints]
    counts: list[Ints]

    def counted(self) -> tuple[Ints, Ints]:
        """Distinct keys, ascending, and their counts."""
        keys = np.concatenate(self.keys)
        return sum_by_key(keys, np.concatenate(self.counts)) if self.counts else count_keys(keys)


def runs_of_pairs(
    entries: SessionEntries, packing: PairPacking, config: SessionsConfig, chunk_pairs: int
) -> Iterator[PairRun]:
    """The pairs of whole sessions, some ``chunk_pairs`` at a time."""
    once = config.count == "session"
    if config.mode == "window":
        yield from _window_pair_keys(entries, packing, chunk_pairs, once_per_session=once)
    else:
        for keys, counts in _count_gap_pairs(entries, packing, chunk_pairs, once_per_session=once):
            yield PairRun([keys], [counts])


def gathered(runs: Iterator[PairRun], most: int) -> Iterator[PairRun]:
    """Runs put together until they have ``most`` keys."""
    keys: list[Ints] = []
    counts: list[Ints] = []
    n = 0
    for run in runs:
        keys += run.keys
        counts += run.counts
        n += sum(map(len, run.keys))
        if n >= most:
            yield PairRun(keys, counts)
            keys, counts, n = [], [], 0
    if n:
        yield PairRun(keys, counts)


def session_chunks(starts: NDArray[np.bool_], chunk_clicks: int) -> Iterator[slice]:
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


def entries_of(
    log: Histories, starts: NDArray[np.bool_], part: slice, n_items: int, config: SessionsConfig
) -> SessionEntries:
    """Entries of the whole sessions at positions ``part``, which are numbered from 0."""
    assert log.time_ms is not None
    sessions = np.cumsum(starts[part], dtype=np.int64) - 1
    return _entries(sessions, log.items[part].astype(np.int64), log.time_ms[part], n_items, config)


def _entries(sessions: Ints, items: Ints, time_ms: Ints, n_items: int, config: SessionsConfig) -> SessionEntries:
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


def _window_entries(sessions: Ints, items: Ints, clicks: Ints, kept: NDArray[np.bool_]) -> SessionEntries:
    uncut = _window_pairs(sessions, clicks)
    sessions, items, clicks = sessions[kept], items[kept], clicks[kept]
    return SessionEntries(
        sessions, items, clicks, np.empty(0, np.int64), uncut, uncut - _window_pairs(sessions, clicks)
    )


def _gap_entries(
    sessions: Ints, items: Ints, time_ms: Ints, kept: NDArray[np.bool_], config: SessionsConfig
) -> SessionEntries:
    uncut = _gap_pairs(_first_within(sessions, time_ms, config))
    sessions, items, time_ms = sessions[kept], items[kept], time_ms[kept]
    first = _first_within(sessions, time_ms, config)
    return SessionEntries(sessions, items, np.ones_like(items), first, uncut, uncut - _gap_pairs(first))


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


def _window_pair_keys(
    entries: SessionEntries, packing: PairPacking, chunk_pairs: int, *, once_per_session: bool
) -> Iterator[PairRun]:
    """Keys of the pairs of whole sessions, whose items are distinct, and the pairs of clicks behind each.

    Sessions of one size are laid side by side, shape (size, sessions), so that a pair of places is a pair of rows.
    """
    sizes = np.bincount(entries.sessions)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 1]).tolist():
        left, right = np.triu_indices(size, 1)
        firsts = starts[sizes == size]
        for part in parts_of(len(firsts), max(1, chunk_pairs // len(left))):
            places = np.arange(size)[:, None] + firsts[part]
            items = entries.items[places]
            a, b = items[left], items[right]
            keys = packing.keys(np.minimum(a, b), np.maximum(a, b)).ravel()
            clicks = None if once_per_session else entries.clicks[places]
            yield PairRun([keys], [] if clicks is None else [(clicks[left] * clicks[right]).ravel()])


def _count_gap_pairs(
    entries: SessionEntries, packing: PairPacking, chunk_pairs: int, *, once_per_session: bool
) -> Iterator[tuple[Ints, Ints]]:
    """Keys and counts; an entry is a click, so that pairs may repeat within a session and items pair themselves."""
    open_sessions, open_keys = np.empty(0, np.int64), np.empty(0, np.int64)
    for left, right in _pairs(entries.first, chunk_pairs):
        differ = entries.items[left] != entries.items[right]
        left, right = left[differ], right[differ]
        a, b = entries.items[left], entries.items[right]
        keys = packing.keys(np.minimum(a, b), np.maximum(a, b))
        if once_per_session:  # the last session may go on in the next chunk: hold its pairs back
            sessions = np.concatenate([open_sessions, entries.sessions[right]])
            sessions, keys = _once_per_session(sessions, np.concatenate([open_keys, keys]))
            is_open = sessions == sessions.max(initial=-1)
            open_sessions, open_keys, keys = sessions[is_open], keys[is_open], keys[~is_open]
        yield count_keys(keys)
    yield count_keys(open_keys)


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
