"""Clicks of users as sparse rows of items, for the baselines that read whole histories."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.data.dataset import Clicks
from micrec.evaluation.task import EvalTask, expand_ranges


def user_items(train: Clicks, n_items: int) -> sp.csr_array:
    """Clicks of users (U) on items (N), float32."""
    shape = (int(train.user_ids.max(initial=-1)) + 1, n_items)
    return sp.csr_array((np.ones(len(train), np.float32), (train.user_ids, train.item_ids)), shape=shape)


def query_items(
    task: EvalTask, start: int, stop: int, *, weights: NDArray[np.float32] | None = None, latest: int | None = None
) -> sp.csr_array:
    """What queries [start, stop) have clicked before they ask, shape (B, N), float32.

    Args:
        task: The queries with their histories.
        start: First query.
        stop: The query after the last.
        weights: Weight of each position of the histories, shape (n,); None: a click counts 1.
        latest: Clicks of a history that count, the latest ones; None: all.
    """
    begin, end = task.begin[start:stop], task.end[start:stop]
    if latest is not None:
        begin = np.maximum(begin, end - latest)
    rows, positions = expand_ranges(begin, end)
    values = np.ones(len(rows), np.float32) if weights is None else weights[positions]
    shape = (stop - start, len(task.candidates))
    return sp.csr_array((values, (rows, task.histories.items[positions])), shape=shape)  # repeats are added up


def in_time(train: Clicks, task: EvalTask, half_life_days: float) -> NDArray[np.float32]:
    """Weight of each click of the histories: half for every ``half_life_days`` before the last training click.

    Clicks after the training period, in rolling histories, are fresh.
    """
    rows = task.histories.rows
    old = np.minimum(rows, len(train) - 1)
    age_days = np.where(rows < len(train), (train.time_ms[-1] - train.time_ms[old]) / 86_400_000, 0.0)
    return (0.5 ** (age_days / half_life_days)).astype(np.float32)
