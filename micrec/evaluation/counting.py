"""How many scores of each row are above, and at or above, its targets: the inner loop of evaluation."""

import numpy as np
import torch
from torch import Tensor

_COMPARED_PER_THREAD = 8  # targets per row up to which a comparison each beats one NumPy sort of the chunk
_COMPARED_ON_GPU = 128
_CACHE_FLOATS = 1 << 20  # scores counted together on a CPU, to stay in cache
_EXACT = 1 << 24  # most columns whose count is exact in float32


def count_above(tile: Tensor, targets: Tensor, above: Tensor, at_least: Tensor) -> None:
    """Add to ``above`` and ``at_least`` how many scores of a row are > and >= each target of that row.

    Args:
        tile: Scores, shape (B, n).
        targets: Scores of the targets, +inf as padding, shape (B, W).
        above: Counts so far, int64, shape (B, W); changed in place.
        at_least: As ``above``.
    """
    n_rows, n = tile.shape
    if tile.device.type == "cpu":
        step, compared = max(1, _CACHE_FLOATS // n_rows), _COMPARED_PER_THREAD * torch.get_num_threads()
    else:
        step, compared = min(n, _EXACT), _COMPARED_ON_GPU
    count = _count_compared if targets.shape[1] <= compared else _count_sorted
    for first in range(0, n, step):
        count(tile[:, first : first + step], targets, above, at_least)


def _count_compared(scores: Tensor, targets: Tensor, above: Tensor, at_least: Tensor) -> None:
    """One pass per target. Comparing into floats is several times faster than into booleans, on a CPU at least."""
    higher = torch.empty(scores.shape, dtype=scores.dtype, device=scores.device)
    for slot in range(targets.shape[1]):
        target = targets[:, slot, None]
        above[:, slot] += torch.gt(scores, target, out=higher).sum(dim=1).long()
        at_least[:, slot] += torch.ge(scores, target, out=higher).sum(dim=1).long()


def _count_sorted(scores: Tensor, targets: Tensor, above: Tensor, at_least: Tensor) -> None:
    """One sort of the chunk, then a binary search per target. NumPy sorts floats with vector instructions."""
    if scores.device.type == "cpu":
        ordered = torch.from_numpy(np.sort(scores.numpy(), axis=1))
    else:
        ordered = scores.sort(dim=1).values
    ordered, targets = ordered.contiguous(), targets.contiguous()  # a sort keeps the order of columns in memory
    above += ordered.shape[1] - torch.searchsorted(ordered, targets, right=True)
    at_least += ordered.shape[1] - torch.searchsorted(ordered, targets)
