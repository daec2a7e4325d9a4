"""Histories as distinct items with counts."""

import torch
from torch import Tensor

from micrec.models.columns import Ragged
from micrec.models.padded import PaddedRows

_INT32_MAX = torch.iinfo(torch.int32).max


def count_items(history: Ragged | PaddedRows, n: int) -> Ragged:
    """Each row's distinct items, ascending, with how much they were clicked as weights, float32.

    Args:
        history: Items below ``n``, in any order and with repeats; a click without a weight counts 1.
        n: Items there are.
    """
    if isinstance(history, PaddedRows):
        return history.counted() if torch.jit.is_tracing() else history.by_id()  # type: ignore[return-value]
    weights = history.weights
    if weights is None:
        weights = torch.ones(len(history.values), device=history.values.device)
    n_rows = len(history.offsets) - 1
    keys = history.rows * n + history.values
    keys = keys.int() if n_rows * n < _INT32_MAX else keys  # sorted in half the time
    if len(keys) == 0 or bool((keys.diff() > 0).all()):  # distinct and in order already
        return Ragged(history.values, history.offsets, weights)
    ordered, order = torch.sort(keys, stable=True)
    distinct, lengths = torch.unique_consecutive(ordered, return_counts=True)
    counts = torch.segment_reduce(weights[order], "sum", lengths=lengths)  # in a fixed order
    offsets = torch.searchsorted(distinct, torch.arange(n_rows + 1, device=keys.device).to(keys) * n)
    return Ragged((distinct % n).long(), offsets, counts)


def weight_of(counted: PaddedRows, rows: Tensor, items: Tensor) -> Tensor:
    """The weight of each item in its row; 0 where the row lacks it.

    Args:
        counted: What ``count_items`` gave of padded rows, shape (B, L).
        rows: Rows, shape (T,).
        items: Items that each is asked for, shape (T,) or (T, K).

    Returns:
        Weights in the shape of ``items``.
    """
    ids, weights = counted.ids[rows], counted.shares[rows]  # (T, L)
    wanted = items.view(len(rows), -1).contiguous()
    place = torch.searchsorted(ids, wanted).clamp_max(ids.shape[1] - 1)
    found = torch.where(ids.gather(1, place) == wanted, weights.gather(1, place), 0.0)
    return found.view(items.shape)


def place_of(counted: Ragged, rows: Tensor, items: Tensor, n: int) -> Tensor:
    """Where each (row, item) stands in ``counted``, in the shape of both; -1 where the row lacks the item.

    Args:
        counted: What ``count_items`` gave.
        rows: Rows, any shape.
        items: Items beside them.
        n: Items there are.

    Returns:
        Places in ``counted.values``, int64.
    """
    if len(counted.values) == 0:
        return torch.full_like(items, -1)
    keys = counted.rows * n + counted.values
    wanted = rows * n + items
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return torch.where(keys[place] == wanted, place, -1)
