"""How much of a part is judged, how much of that can be hit at all, and the highest HIT@N that any model can reach.

HIT@N means little without these. The same model has .10 where a tenth of the clicks goes to items that nobody clicked
before, and .60 where all can be hit.

==================  ================================================================================================
judged_share        judged click lines over all click lines of the part; the others are by users without train clicks
hittable_share      lines that a list can hold over judged lines: their item is a candidate that no filter removes
repeat_share        lines whose item the user had clicked in the train part over judged lines
hit_ceiling@N       the highest hit@N that lists of N items can have: of every query the N hittable targets with most
                    lines, over judged lines
hit_chance@N        hit@N of lists drawn at random, in expectation
==================  ================================================================================================

A query with more than N targets lowers the ceiling, as a list of N holds N of them. The ceiling is one of lists: tied
targets that share a mean or optimistic rank (``evaluation.ties``) may together take more places than there are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.evaluation.task import EvalTask


class Reach(NamedTuple):
    """What is judged and what can be hit, for one task and all its models alike; lines are click lines.

    Attributes:
        lines: Lines of the part.
        judged: Lines of the users who are evaluated.
        judged_users: These users.
        skipped_users: Users left out because they have no train clicks.
        unknown: Judged lines whose item is no candidate.
        removed: Judged lines whose item ``evaluation.seen: filter`` takes out of the user's list.
        repeats: Judged lines whose item the user had clicked in the train part.
        candidates: Items ranked.
        filtered: Whether seen items are filtered.
        ceiling: Highest HIT@N by N.
        chance: Expected HIT@N of random lists by N.
    """

    lines: int
    judged: int
    judged_users: int
    skipped_users: int
    unknown: int
    removed: int
    repeats: int
    candidates: int
    filtered: bool
    ceiling: dict[int, float]
    chance: dict[int, float]

    @property
    def skipped(self) -> int:
        """Lines that are not judged."""
        return self.lines - self.judged

    @property
    def hittable(self) -> int:
        """Judged lines that a list can hold."""
        return self.judged - self.unknown - self.removed

    def shares(self) -> dict[str, float]:
        """The module's table."""
        return {
            "judged_share": self.judged / self.lines,
            "hittable_share": self.hittable / self.judged,
            "repeat_share": self.repeats / self.judged,
            **{f"hit_ceiling@{n}": value for n, value in self.ceiling.items()},
            **{f"hit_chance@{n}": value for n, value in self.chance.items()},
        }

    def as_dict(self) -> dict[str, Any]:
        """Counts and shares as plain data."""
        counts = {name: value for name, value in self._asdict().items() if name not in ("ceiling", "chance")}
        return {**counts, "skipped": self.skipped, "hittable": self.hittable, **self.shares()}


def reach(task: EvalTask, cutoffs: Sequence[int]) -> Reach:
    """Count what a task judges and what its lists can hold."""
    lines, known = task.target_counts, task.candidates[task.target_items]
    judged = int(lines.sum())
    return Reach(
        lines=judged + task.skipped_lines,
        judged=judged,
        judged_users=len(np.unique(task.user_ids)),
        skipped_users=task.skipped_users,
        unknown=task.unknown_targets,
        removed=int(lines[known & ~task.hittable].sum()),
        repeats=int(lines[task.target_repeats].sum()),
        candidates=int(task.candidates.sum()),
        filtered=task.seen is not None,
        ceiling=_ceilings(task, cutoffs),
        chance=_chances(task, cutoffs),
    )


def _ceilings(task: EvalTask, cutoffs: Sequence[int]) -> dict[int, float]:
    query, lines = task.target_queries[task.hittable], task.target_counts[task.hittable]
    order = np.lexsort((-lines, query))  # of each query the targets with most lines first
    query, lines = query[order], lines[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    return {n: float(lines[place < n].sum() / task.target_counts.sum()) for n in cutoffs}


def _chances(task: EvalTask, cutoffs: Sequence[int]) -> dict[int, float]:
    """A random list of N out of the C items that may be in it holds a given one with probability N / C."""
    available = (int(task.candidates.sum()) - _removed_items(task))[task.target_queries[task.hittable]]
    lines, total = task.target_counts[task.hittable], task.target_counts.sum()
    return {n: float((lines * np.minimum(1.0, n / available)).sum() / total) for n in cutoffs}


def _removed_items(task: EvalTask) -> NDArray[np.int64]:
    """Candidates that the filter takes out of each query's list, shape (Q,)."""
    if task.seen is None:
        return np.zeros(len(task), dtype=np.int64)
    n_items, n_users = len(task.candidates), len(task.seen.offsets) - 1
    users = np.repeat(np.arange(n_users), np.diff(task.seen.offsets))
    kept = task.candidates[task.seen.items]
    pairs = np.unique(users[kept] * n_items + task.seen.items[kept])
    return np.bincount(pairs // n_items, minlength=n_users)[task.user_ids]
