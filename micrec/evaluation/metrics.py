"""HIT@N and its relatives from the ranks of the targets; slices; numerators per user for significance tests.

Every metric is in [0, 1]. A target's rank is 1 + candidates above it + a share of its ties: none (optimistic), half
(mean) or all of them (pessimistic). A target that is no candidate, or that ``evaluation.seen: filter`` takes out of the
user's list, has no rank and is always a miss.

===============  ======================================================================================
hit@N            share of the part's click lines whose item is in the user's top N (the paper's HIT@N)
hit_pairs@N      the same over distinct (query, item) pairs: a repeated click counts once
user_hit@N       share of users with at least one target in the top N
recall@N         mean over users of the share of the user's distinct targets in the top N
ndcg@N           mean over queries of DCG@N / ideal DCG@N, binary gain, discount 1 / log2(1 + rank)
mrr              mean over queries of 1 / rank of the best target, not truncated
coverage@N       distinct items in any query's top N over the number of candidates; gini@N and others stand beside
                 it, see ``micrec.evaluation.coverage``
===============  ======================================================================================

With frozen histories a query is a user. With rolling histories it is a click, so that hit_pairs equals hit, and a
user's targets are all their clicks. ``hit@N_optimistic`` and ``hit@N_pessimistic`` appear where ties make them differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.config import EvalConfig
from micrec.evaluation.coverage import CoverageCounter, tail_items
from micrec.evaluation.ranking import Progress, ScoreBlock, TargetRanks, rank_targets
from micrec.evaluation.reach import Reach, reach
from micrec.evaluation.task import EvalTask
from micrec.rank_metrics import RANK_METRICS
from micrec.registry import loaded

_TIE_SHARE = {"optimistic": 0.0, "mean": 0.5, "pessimistic": 1.0}


class SliceMetrics(NamedTuple):
    """Metrics over some of the targets; empty where there are none."""

    users: int
    lines: int
    pairs: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class EvalResult:
    """What one model scores on one task.

    Attributes:
        metrics: Every metric under its full name, as in the module's table.
        slices: The same over part of the targets: ``head`` and ``tail`` items, ``cold_items`` with few train clicks
            (in the tail, mostly) and ``new_items`` without any, ``repeats`` and ``discoveries`` (the user had, had not
            clicked the item in the train part), ``cold_users``, ``warm_users`` and ``new_users`` (0 train clicks; they
            are cold too).
        users: Users evaluated; queries, lines and pairs (targets) likewise.
        unknown_lines: Lines whose item is no candidate.
        reach: How many lines of the part are judged and can be hit, and the highest HIT of any model.
        candidates: Items ranked: the denominator of coverage.
        cutoffs: The N of the columns of ``user_hits``.
        user_ids: Evaluated users (V,), ascending; the unit of significance tests.
        user_hits: Lines of each user in the top N, shape (V, cutoffs): the numerators of hit@N.
        user_lines: Lines of each user, shape (V,): the denominators.
        seconds: Wall time of a training, or of a baseline's fit and ranking; None: not measured.
        settings: What a baseline chose on the validation slice, by name.
    """

    metrics: dict[str, float]
    slices: dict[str, SliceMetrics]
    users: int
    queries: int
    lines: int
    pairs: int
    unknown_lines: int
    reach: Reach
    candidates: int
    cutoffs: tuple[int, ...]
    user_ids: NDArray[np.int32]
    user_hits: NDArray[np.int64]
    user_lines: NDArray[np.int64]
    seconds: float | None = None
    settings: Mapping[str, float | str] = field(default_factory=dict)


def evaluate(
    score_block: ScoreBlock,
    task: EvalTask,
    config: EvalConfig,
    *,
    coverage: bool = True,
    block_bytes: int = 256 << 20,
    progress: Progress | None = None,
) -> EvalResult:
    """Rank every target in the full catalogue and turn the ranks into metrics.

    Coverage needs the top-N lists, which cost more than all the rest: leave it out where only hits matter.
    See ``rank_targets`` for the arguments and errors.
    """
    counter = CoverageCounter(config.cutoffs) if coverage else None
    ranks = rank_targets(score_block, task, block_bytes=block_bytes, coverage=counter, progress=progress)
    result = hit_metrics(ranks, task, config)
    if counter is not None:
        tail = tail_items(task.train_clicks, config.tail_fraction)[task.candidates]
        result.metrics.update(counter.diversity(task.train_clicks[task.candidates], tail))
    return result


def hit_metrics(ranks: TargetRanks, task: EvalTask, config: EvalConfig) -> EvalResult:
    """All metrics but coverage, over all targets and by slice."""
    targets = _targets(ranks, task, _TIE_SHARE[config.ties])
    metrics = _metrics(targets, config.cutoffs) | _tie_bounds(ranks, task, config.cutoffs)
    slices = {name: _slice(targets, mask, config.cutoffs) for name, mask in _slice_masks(task, config).items()}
    user_ids = np.unique(task.user_ids)
    hits = targets.rank[:, None] <= np.asarray(config.cutoffs)  # (T, cutoffs)
    return EvalResult(
        metrics=metrics,
        slices=slices,
        users=len(user_ids),
        queries=len(task),
        lines=int(task.target_counts.sum()),
        pairs=len(task.target_items),
        unknown_lines=task.unknown_targets,
        reach=reach(task, config.cutoffs),
        candidates=int(task.candidates.sum()),
        cutoffs=tuple(config.cutoffs),
        user_ids=user_ids,
        user_hits=np.stack([_sums(targets.user, hit * targets.lines) for hit in hits.T], axis=1).astype(np.int64),
        user_lines=_sums(targets.user, targets.lines).astype(np.int64),
    )


class RankedTargets(NamedTuple):
    """Targets with their ranks; queries and users are numbered from 0 without gaps.

    Attributes:
        rank: Rank of each target among the candidates, from 1; inf = never found; shape (T,).
        lines: Click lines of each target, shape (T,).
        query: Number of its query, shape (T,).
        user: Number of its user, shape (T,).
    """

    rank: NDArray[np.float64]
    lines: NDArray[np.int64]
    query: NDArray[np.int64]
    user: NDArray[np.int64]

    def found(self, n: int) -> NDArray[np.float64]:
        """Targets of each user in the top N, shape (V,)."""
        return _sums(self.user, self.rank <= n)


def _targets(ranks: TargetRanks, task: EvalTask, tie_share: float) -> RankedTargets:
    rank = 1 + ranks.greater + tie_share * ranks.equal
    rank[~task.hittable] = np.inf
    query = task.target_queries
    users = np.unique(task.user_ids, return_inverse=True)[1]
    return RankedTargets(rank=rank, lines=task.target_counts, query=query, user=users[query])


def _metrics(targets: RankedTargets, cutoffs: tuple[int, ...]) -> dict[str, float]:
    functions = {name: loaded(function) for name, function in RANK_METRICS.items()}
    metrics = {"mrr": float(_best(targets.query, 1.0 / targets.rank).mean())}
    for n in cutoffs:
        metrics |= {f"{name}@{n}": float(function(targets, n)) for name, function in functions.items()}
    return metrics


def hit(targets: RankedTargets, n: int) -> float:
    """Share of the click lines whose item is in the user's top N."""
    return float(((targets.rank <= n) * targets.lines).sum() / targets.lines.sum())


def hit_pairs(targets: RankedTargets, n: int) -> float:
    """Share of the targets in the top N."""
    return float((targets.rank <= n).mean())


def user_hit(targets: RankedTargets, n: int) -> float:
    """Share of users with a target in the top N."""
    return float((targets.found(n) > 0).mean())


def recall(targets: RankedTargets, n: int) -> float:
    """Mean over users of the share of their targets in the top N."""
    return float((targets.found(n) / _sums(targets.user)).mean())


def ndcg(targets: RankedTargets, n: int) -> float:
    """Mean over queries of DCG over the ideal DCG.

    Tied targets may share an optimistic rank, so that a query's DCG can exceed the ideal one: capped at 1.
    """
    gains = np.where(targets.rank <= n, 1.0 / np.log2(1.0 + targets.rank), 0.0)
    sizes = _sums(targets.query).astype(np.int64)
    depth = np.minimum(sizes, n)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(2.0 + np.arange(depth.max())))])
    return float(np.minimum(_sums(targets.query, gains) / ideal[depth], 1.0).mean())


def _tie_bounds(ranks: TargetRanks, task: EvalTask, cutoffs: tuple[int, ...]) -> dict[str, float]:
    """hit@N with every tie lost and every tie won, for the N where that makes a difference."""
    bounds: dict[str, float] = {}
    best, worst = (_targets(ranks, task, _TIE_SHARE[policy]) for policy in ("optimistic", "pessimistic"))
    lines = task.target_counts
    for n in cutoffs:
        high, low = (float(lines[targets.rank <= n].sum() / lines.sum()) for targets in (best, worst))
        if high > low:
            bounds |= {f"hit@{n}_optimistic": high, f"hit@{n}_pessimistic": low}
    return bounds


def _slice_masks(task: EvalTask, config: EvalConfig) -> dict[str, NDArray[np.bool_]]:
    """Which targets belong to which slice, each (T,) bool."""
    tail = tail_items(task.train_clicks, config.tail_fraction)
    item_clicks = task.train_clicks[task.target_items]
    is_new, is_tail = item_clicks == 0, tail[task.target_items]
    clicks = np.repeat(task.user_train_clicks, np.diff(task.target_offsets))
    return {
        "head": ~is_tail & ~is_new,
        "tail": is_tail,
        "cold_items": ~is_new & (item_clicks <= config.cold_clicks),
        "new_items": is_new,
        "repeats": task.target_repeats,
        "discoveries": ~task.target_repeats,
        "cold_users": clicks <= config.cold_clicks,
        "warm_users": clicks > config.cold_clicks,
        "new_users": clicks == 0,
    }


def _slice(targets: RankedTargets, mask: NDArray[np.bool_], cutoffs: tuple[int, ...]) -> SliceMetrics:
    if not mask.any():
        return SliceMetrics(users=0, lines=0, pairs=0, metrics={})
    chosen = RankedTargets(
        rank=targets.rank[mask],
        lines=targets.lines[mask],
        query=np.unique(targets.query[mask], return_inverse=True)[1],
        user=np.unique(targets.user[mask], return_inverse=True)[1],
    )
    users, lines = int(chosen.user.max()) + 1, int(chosen.lines.sum())
    return SliceMetrics(users=users, lines=lines, pairs=len(chosen.rank), metrics=_metrics(chosen, cutoffs))


def _sums(groups: NDArray[np.int64], values: NDArray | None = None) -> NDArray[np.float64]:
    """Sum of ``values``, or count, per group 0 .. max; exact for whole numbers below 2**53."""
    return np.bincount(groups, weights=values).astype(np.float64)


def _best(groups: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    best = np.zeros(int(groups.max()) + 1)
    np.maximum.at(best, groups, values)
    return best
