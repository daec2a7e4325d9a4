"""Coverage@N: how much of the catalogue the top-N lists of all queries show together (paper 5.6)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_CACHE_FLOATS = 1 << 20  # scores partitioned together on a CPU


class CoverageCounter:
    """Collects the distinct items of the top-N lists, block by block.

    A list never exceeds N items: which of those that tie at place N are in it is arbitrary, but the same in every run.
    Filtered items (score -inf) never count, even where a list is shorter than N.
    """

    def __init__(self, cutoffs: Sequence[int]) -> None:
        self.cutoffs = tuple(cutoffs)
        self._shown: Tensor | None = None  # (cutoffs, C) bool

    def add(self, scores: Tensor) -> None:
        """Count the lists of ``scores``, shape (B, C): whole rows over the C candidates."""
        if self._shown is None:
            self._shown = torch.zeros(len(self.cutoffs), scores.shape[1], dtype=torch.bool, device=scores.device)
        items = top_items(scores, min(max(self.cutoffs), scores.shape[1]))
        kept = scores.gather(1, items) > -torch.inf
        for shown, cutoff in zip(self._shown, self.cutoffs, strict=True):
            shown[items[:, :cutoff][kept[:, :cutoff]]] = True

    def metrics(self) -> dict[str, float]:
        """``coverage@N``: distinct items in any query's top N over the number of candidates, in [0, 1]."""
        if self._shown is None:
            raise ValueError("no lists were counted: call add() before metrics().")
        shares = self._shown.double().mean(dim=1).tolist()
        return {f"coverage@{cutoff}": share for cutoff, share in zip(self.cutoffs, shares, strict=True)}


def top_items(scores: Tensor, k: int) -> Tensor:
    """Columns of the k highest scores of each row, best first: int64, shape (B, k) for scores of shape (B, C)."""
    n_rows, n = scores.shape
    if scores.device.type != "cpu" or n >= 64 * k:
        return scores.topk(k, dim=1).indices
    step = max(1, _CACHE_FLOATS // n)
    return torch.cat([_top_by_partition(scores[first : first + step], k) for first in range(0, n_rows, step)])


def _top_by_partition(scores: Tensor, k: int) -> Tensor:
    """NumPy partitions with vector instructions: several times faster than ``topk`` where k is no tiny part of n."""
    array = scores.numpy()
    chosen = np.argpartition(array, array.shape[1] - k, axis=1)[:, array.shape[1] - k :]
    order = np.argsort(-np.take_along_axis(array, chosen, axis=1), axis=1)
    return torch.from_numpy(np.take_along_axis(chosen, order, axis=1))
