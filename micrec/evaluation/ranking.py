"""Exact ranks in the full catalogue by counting, streamed: no (Q, N) matrix and no top-N lists.

The rank of a target is 1 + the number of candidates that score above it, so one comparison per score gives every
HIT@N, MRR and NDCG at once.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.errors import MicrecError
from micrec.evaluation.counting import count_above
from micrec.evaluation.coverage import CoverageCounter, TopLists
from micrec.evaluation.scores import BlockTiles, EmbeddingScores, EmbeddingTiles, ScoreBlock, Tiles
from micrec.evaluation.task import EvalTask, expand_ranges
from micrec.sharded.rank_group import RankGroup, present

Progress = Callable[[int, int], None]

_BLOCK_TARGETS = 1 << 18  # targets of a block, padded to the longest query


class TargetRanks(NamedTuple):
    """How many candidates stand above and beside each target of a task; the target itself is never counted.

    Targets that are no candidates have every candidate above them.
    """

    greater: NDArray[np.int64]  # (T,) candidates with a strictly higher score
    equal: NDArray[np.int64]  # (T,) other candidates with the very same score


@torch.no_grad()
def rank_targets(
    score_block: ScoreBlock,
    task: EvalTask,
    *,
    block_bytes: int = 256 << 20,
    coverage: CoverageCounter | None = None,
    progress: Progress | None = None,
) -> TargetRanks:
    """Count the candidates that score above, and beside, every target.

    Embedding scores are computed, counted and forgotten in tiles that fit the cache. Other callables are asked for
    whole rows. If seen items are filtered they are no candidates for that user; the target itself always is one.

    Of several processes each takes every W-th block of queries, and all get the counts of all; the scores of their
    blocks must be at hand in every process.

    Args:
        score_block: ``embedding_scores(...)``, or a callable that gives the scores of queries [start, stop), (B, N).
        task: Queries and targets.
        block_bytes: Most bytes of scores held at once, but always one row; on a CPU 4 MiB serve better than more.
        coverage: Collects the top-N lists on the way.
        progress: Called after each block with the queries done and the queries in all.

    Raises:
        MicrecError: If a score is NaN or infinite.
        ValueError: If a block has the wrong shape.
    """
    candidate_ids = np.flatnonzero(task.candidates)
    tiles = _tiles(score_block, task, candidate_ids, block_bytes)
    columns = np.full(len(task.candidates), -1, dtype=np.int64)  # item id -> column among the candidates
    columns[candidate_ids] = np.arange(len(candidate_ids))
    greater = np.full(len(task.target_items), len(candidate_ids), dtype=np.int64)
    equal = np.zeros(len(task.target_items), dtype=np.int64)
    done = np.zeros(len(task.target_items), dtype=bool)
    group = present()
    for start, stop in islice(_blocks(task, tiles.rows), group.rank, None, group.size):
        block = _block(task, columns, start, stop)
        clicked = _clicked_pairs(task, columns, len(candidate_ids), start, stop) if coverage is not None else None
        above, at_least = _count_block(tiles, block, candidate_ids, coverage, clicked)
        greater[block.targets] = above
        equal[block.targets] = at_least - above - ~block.hidden
        if progress is not None:
            progress(stop, len(task))
        done[task.target_offsets[start] : task.target_offsets[stop]] = True
    if coverage is not None:
        coverage.add_up(group, len(candidate_ids))
    return TargetRanks(*(_all_counts(counts, done, group) for counts in (greater, equal)))


def _all_counts(counts: NDArray[np.int64], done: NDArray[np.bool_], group: RankGroup) -> NDArray[np.int64]:
    """The counts of all processes, of which each knows those that it has done."""
    return counts if group.alone else group.add_up(torch.from_numpy(np.where(done, counts, 0))).numpy()


def _tiles(score_block: ScoreBlock, task: EvalTask, candidate_ids: NDArray[np.int64], block_bytes: int) -> Tiles:
    n_items = len(task.candidates)
    chosen = None if len(candidate_ids) == n_items else torch.from_numpy(candidate_ids)
    if not isinstance(score_block, EmbeddingScores):
        return BlockTiles(score_block, n_items, chosen, block_bytes=block_bytes)
    given, needed = (len(score_block.user_emb), len(score_block.item_emb)), (len(task), n_items)
    if given != needed:
        raise ValueError(f"user_emb and item_emb have {given} rows, the task has {needed} queries and items.")
    return EmbeddingTiles(score_block, chosen, block_bytes=block_bytes)


def _blocks(task: EvalTask, most_rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of queries, short where queries have very many targets."""
    sizes = np.diff(task.target_offsets)
    start = 0
    while start < len(task):
        longest = int(sizes[start : start + most_rows].max())
        stop = min(len(task), start + min(most_rows, max(1, _BLOCK_TARGETS // longest)))
        yield start, stop
        start = stop


class _Block(NamedTuple):
    """The known targets and hidden items of queries [start, stop), in coordinates of the block."""

    start: int
    stop: int
    user_ids: NDArray[np.int32]  # (stop - start,)
    targets: NDArray[np.int64]  # (t,) position in the task's targets
    rows: NDArray[np.int64]  # (t,)
    slots: NDArray[np.int64]  # (t,) place among the targets of the row
    columns: NDArray[np.int64]  # (t,) column among the candidates
    hidden: NDArray[np.bool_]  # (t,) the target is itself a seen item
    seen_rows: NDArray[np.int64]  # (s,) filtered items, ordered by column, -1 = no candidate
    seen_columns: NDArray[np.int64]  # (s,)


def _block(task: EvalTask, columns: NDArray[np.int64], start: int, stop: int) -> _Block:
    begin, end = task.target_offsets[start:stop], task.target_offsets[start + 1 : stop + 1]
    rows, targets = expand_ranges(begin, end)
    slots, target_columns = targets - begin[rows], columns[task.target_items[targets]]
    known = target_columns >= 0
    rows, targets, slots, target_columns = rows[known], targets[known], slots[known], target_columns[known]
    users = task.user_ids[start:stop]
    seen_rows = seen_columns = np.empty(0, dtype=np.int64)
    if task.seen is not None:
        seen_rows, positions = expand_ranges(task.seen.offsets[users], task.seen.offsets[users + 1])
        seen_columns = columns[task.seen.items[positions]]
        order = np.argsort(seen_columns, kind="stable")
        seen_rows, seen_columns = seen_rows[order], seen_columns[order]
    n = len(columns)
    hidden = np.isin(rows * n + target_columns, seen_rows * n + seen_columns)
    return _Block(start, stop, users, targets, rows, slots, target_columns, hidden, seen_rows, seen_columns)


def _clicked_pairs(task: EvalTask, columns: NDArray[np.int64], n_candidates: int, start: int, stop: int) -> Tensor:
    """The candidates among the train clicks of queries [start, stop), as ascending ``row * C + column``."""
    begin = task.begin[start:stop]
    rows, positions = expand_ranges(begin, np.minimum(task.end[start:stop], begin + task.user_train_clicks[start:stop]))
    at = columns[task.histories.items[positions]]
    return torch.from_numpy(np.sort(rows[at >= 0] * n_candidates + at[at >= 0]))


def _count_block(
    tiles: Tiles,
    block: _Block,
    candidate_ids: NDArray[np.int64],
    coverage: CoverageCounter | None,
    clicked: Tensor | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Candidates above, and at or above, each known target of the block, shapes (t,)."""
    rows, slots = torch.from_numpy(block.rows), torch.from_numpy(block.slots)
    scores, parts = tiles.score(block.start, block.stop, rows, torch.from_numpy(block.columns))
    rows, slots = rows.to(scores.device), slots.to(scores.device)
    width = int(block.slots.max()) + 1 if len(slots) else 0
    targets = scores.new_full((block.stop - block.start, width), torch.inf)  # no score reaches the padding
    targets[rows, slots] = scores
    above = torch.zeros(targets.shape, dtype=torch.int64, device=scores.device)
    at_least = torch.zeros_like(above)
    lists = TopLists(max(coverage.cutoffs)) if coverage is not None else None
    for first, tile in parts:
        _check_finite(tile, first, block, candidate_ids)
        _hide(tile, first, block)
        if lists is not None:
            lists.add(first, tile)
        count_above(tile, targets, above, at_least)
    if lists is not None and coverage is not None:
        coverage.add(lists, len(candidate_ids), clicked)
    return above[rows, slots].cpu().numpy(), at_least[rows, slots].cpu().numpy()


def _hide(tile: Tensor, first: int, block: _Block) -> None:
    """Set the seen items of a tile to -inf."""
    start, stop = np.searchsorted(block.seen_columns, [first, first + tile.shape[1]])
    if start < stop:
        rows = torch.from_numpy(block.seen_rows[start:stop]).to(tile.device)
        tile[rows, torch.from_numpy(block.seen_columns[start:stop] - first).to(tile.device)] = -torch.inf


def _check_finite(tile: Tensor, first: int, block: _Block, candidate_ids: NDArray[np.int64]) -> None:
    if torch.isfinite(tile.sum()):  # one cheap pass; a sum that overflows is looked at again
        return
    faults = (~torch.isfinite(tile)).nonzero()
    if len(faults):
        row, column = faults[0].tolist()
        raise MicrecError(
            f"evaluation: the score of query {block.start + row} (user {block.user_ids[row]}) for item "
            f"{candidate_ids[first + column]} is {float(tile[row, column])} (dense ids): scores must be finite. "
            "The model has diverged: lower optim.learning_rate, or evaluate an earlier checkpoint."
        )
