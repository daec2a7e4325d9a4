"""How often items are clicked in one session, and each item's heaviest partners (paper 3.5)."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.array_space import MEMORY
from micrec.data.dataset import Clicks
from micrec.data.histories import Histories, group_by_user
from micrec.data.packed_pairs import Ints, PairPacking
from micrec.data.partner_pruner import CoOccurrence, PartnerPruner, PrunedRows, count_type
from micrec.data.session_entries import (
    PairRun,
    PairsCut,
    SessionEntries,
    entries_of,
    gathered,
    runs_of_pairs,
    session_chunks,
)
from micrec.data.sessions import starts_of
from micrec.data.sorting import offsets_of
from micrec.data.spilled_pairs import ItemRows, SpilledPairs, ranges_of
from micrec.data.tally import KeyTally
from micrec.data.threaded import in_order
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress

RESIDENT_PAIRS = 1 << 22  # clicks or pairs of a log in memory that are worked on at a time
MAPPED_PAIRS = 1 << 16  # of a mapped log: columns of them stay in the processor's cache
CHUNKS_OF_RUN, CHUNKS_OF_ROWS = 32, 4  # that are counted together and put on the disk; that are read from it together
Block = Callable[[], ItemRows]  # makes the rows of some items


def count_cooccurrences(
    clicks: Clicks,
    n_items: int,
    config: SessionsConfig,
    *,
    category: NDArray[np.int32] | None = None,
    chunk_pairs: int | None = None,
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
    added up a range of items at a time, by several threads.

    Args:
        clicks: Train clicks only, in time order. What happens after the split must not be passed in.
        n_items: N; every item id is below it.
        config: Sessions, counting, caps and category boost.
        category: Category code per item, 0 = unknown, shape (N,); None = no boost.
        chunk_pairs: Clicks, or pairs of items, worked on at a time; None = ``RESIDENT_PAIRS``, or ``MAPPED_PAIRS`` of a
            mapped log.
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
    chunk_pairs = chunk_pairs or (MAPPED_PAIRS if space.on_disk else RESIDENT_PAIRS)
    log = group_by_user(clicks, int(clicks.user_ids.max(initial=-1)) + 1, times=True, rows=False)
    starts = starts_of(log, config, space=space)
    n_sessions = int(np.count_nonzero(starts))
    pruner = PartnerPruner(n_items, config, category, space)
    blocks: Iterator[Block]
    if space.on_disk:
        pairs = SpilledPairs(n_items, space)
        cut_mass = _tally_pairs(pairs, log, starts, n_items, config, chunk_pairs, progress)
        del log, starts
        blocks = pairs.blocks(CHUNKS_OF_ROWS * chunk_pairs)
    elif config.mode == "window":
        sessions, cut_mass = _session_items(log, starts, n_items, config, chunk_pairs)
        del log, starts
        blocks = _window_blocks(sessions, chunk_pairs)
        del sessions  # the blocks hold it until the last of them is made
    else:
        tally = KeyTally()
        cut_mass = _tally_pairs(tally, log, starts, n_items, config, chunk_pairs, progress)
        del log, starts
        blocks = _symmetric_blocks(*tally.total(), n_items, chunk_pairs)
    threads = None if space.on_disk else 1  # blocks of a log in memory are large
    progress.start("preparing: items met in one session", n_items, "items")
    for found in in_order(partial(_pruned, pruner), blocks, threads=threads):
        pruner.add(found)
        progress.advance(len(found.sizes))
    progress.finish()
    return pruner.result(n_sessions, cut_mass)


def _pruned(pruner: PartnerPruner, block: Block) -> PrunedRows:
    return pruner.pruned(block())


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
    cut, packing = PairsCut(), PairPacking(n_items)
    spilled = isinstance(tally, SpilledPairs)
    threads = None if spilled else 1

    def runs_of(part: slice) -> tuple[slice, SessionEntries, Iterable[PairRun]]:
        entries = entries_of(log, starts, part, n_items, config)
        runs = runs_of_pairs(entries, packing, config, chunk_pairs)
        return part, entries, list(runs) if spilled else runs

    def found() -> Iterator[PairRun]:
        for part, entries, runs in in_order(runs_of, session_chunks(starts, chunk_pairs), threads=threads):
            cut.add(entries)
            yield from runs
            progress.advance(part.stop - part.start)

    progress.start("preparing: pairs of items", len(starts), "clicks")
    runs = gathered(found(), CHUNKS_OF_RUN * chunk_pairs) if spilled else found()
    for keys, counts in in_order(PairRun.counted, runs, threads=threads):
        tally.add(keys, counts)
    progress.finish()
    return cut.share


def _session_items(
    log: Histories, starts: NDArray[np.bool_], n_items: int, config: SessionsConfig, chunk_clicks: int
) -> tuple[sp.csr_matrix, float]:
    """Clicks on each item in each session, shape (sessions, N), and the share of pairs that ``max_length`` cuts."""
    per_session, dtype = config.count == "session", count_type(config)
    items, values, lengths = MEMORY.writer(np.int32), MEMORY.writer(dtype), MEMORY.writer(np.int64)
    cut = PairsCut()
    for part in session_chunks(starts, chunk_clicks):
        entries = entries_of(log, starts, part, n_items, config)
        cut.add(entries)
        items.append(entries.items)
        values.append(np.ones(len(entries.items), dtype) if per_session else entries.clicks)
        lengths.append(np.bincount(entries.sessions))
    offsets = offsets_of(lengths.done())
    if offsets[-1] < np.iinfo(np.int32).max:
        offsets = offsets.astype(np.int32)  # scipy takes the wider of its two index types for both
    matrix = sp.csr_matrix((values.done(), items.done(), offsets), shape=(len(offsets) - 1, n_items))
    return matrix, cut.share


def _window_blocks(sessions: sp.csr_matrix, block_pairs: int) -> Iterator[Block]:
    """Rows of S' S without its diagonal, some ``block_pairs`` entries at a time."""
    by_item = sessions.T.tocsr()  # (N, sessions)
    if sessions.dtype == np.int32:
        by_item.data = sessions.data  # all ones
    met = by_item @ np.diff(sessions.indptr).astype(np.int64)  # items met, with repeats, at least: shape (N,)
    most = np.minimum(met, sessions.shape[1])
    for first, stop in ranges_of(most, block_pairs):
        yield partial(_product_rows, by_item[first:stop], sessions, first)


def _symmetric_blocks(keys: Ints, counts: Ints, n_items: int, block_pairs: int) -> Iterator[Block]:
    """The same from unordered pairs, ``keys`` of ``PairPacking`` ascending."""
    upper = sp.csr_matrix((counts, PairPacking(n_items).items(keys)), shape=(n_items, n_items))
    lower = upper.T.tocsr()
    for first, stop in ranges_of(np.diff(upper.indptr) + np.diff(lower.indptr), block_pairs):
        yield partial(_sum_rows, upper[first:stop], lower[first:stop], first)


def _sum_rows(upper: sp.csr_matrix, lower: sp.csr_matrix, first: int) -> ItemRows:
    both = (upper + lower).tocsr()
    return ItemRows(first, np.diff(both.indptr), both.indices, both.data)


def _product_rows(by_item: sp.csr_matrix, sessions: sp.csr_matrix, first: int) -> ItemRows:
    """The rows from ``first`` on without an item's count of itself."""
    counts = (by_item @ sessions).tocsr()
    counts.sort_indices()
    rows = np.repeat(np.arange(counts.shape[0], dtype=np.int32), np.diff(counts.indptr))
    others = counts.indices != rows + first
    sizes = np.bincount(rows[others], minlength=counts.shape[0])
    return ItemRows(first, sizes, counts.indices[others], counts.data[others])
