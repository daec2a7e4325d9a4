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

    def add(self, lists: "TopLists", n_candidates: int) -> None:
        """Count finished lists of at least max(cutoffs) items, or of all C candidates."""
        items, values = lists.sorted()
        if self._shown is None:
            self._shown = torch.zeros(len(self.cutoffs), n_candidates, dtype=torch.bool, device=items.device)
        kept = values > -torch.inf
        for shown, cutoff in zip(self._shown, self.cutoffs, strict=True):
            shown[items[:, :cutoff][kept[:, :cutoff]]] = True

    def metrics(self) -> dict[str, float]:
        """``coverage@N``: distinct items in any query's top N over the number of candidates, in [0, 1]."""
        if self._shown is None:
            raise ValueError("no lists were counted: call add() before metrics().")
        shares = self._shown.double().mean(dim=1).tolist()
        return {f"coverage@{cutoff}": share for cutoff, share in zip(self.cutoffs, shares, strict=True)}


class TopLists:
    """The k best columns of each row of a block of scores that comes in tiles, from left to right.

    After the first tile only scores above the row's k-th best so far are looked at, so the cost per score is that of
    one comparison.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self._items: Tensor | None = None  # (B, <= k)
        self._values: Tensor | None = None

    def add(self, first: int, tile: Tensor) -> None:
        """Look at the columns ``first``, ``first + 1``, ... of all rows: ``tile``, shape (B, n)."""
        if self._items is None or self._values is None:
            best = _largest(tile, min(self.k, tile.shape[1]))
            self._items, self._values = best + first, tile.gather(1, best)
            return
        floor = self._values.amin(dim=1, keepdim=True) if self._items.shape[1] == self.k else -torch.inf
        items, values = _pad(tile, _above(tile, floor))
        items, values = torch.cat([self._items, items + first], dim=1), torch.cat([self._values, values], dim=1)
        best = _largest(values, min(self.k, values.shape[1]))
        self._items, self._values = items.gather(1, best), values.gather(1, best)

    def sorted(self) -> tuple[Tensor, Tensor]:
        """Columns and scores, best first, each of shape (B, min(k, C))."""
        if self._items is None or self._values is None:
            raise ValueError("no scores yet: call add() first.")
        if _numpy_is_faster(self._values):
            order = torch.from_numpy(np.argsort(-self._values.numpy(), axis=1))
        else:
            order = self._values.argsort(dim=1, descending=True)
        return self._items.gather(1, order), self._values.gather(1, order)


def _above(tile: Tensor, floor: Tensor | float) -> Tensor:
    """Flat positions of the scores above the floor of their row, ascending."""
    if not _numpy_is_faster(tile):
        return (tile > floor).flatten().nonzero().flatten()
    limit = floor.numpy() if isinstance(floor, Tensor) else floor
    return torch.from_numpy(np.flatnonzero(tile.numpy() > limit))


def _pad(tile: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and scores at flat positions, ragged by row, as (B, longest row); padded with column 0 and -inf."""
    n_rows, n = tile.shape
    rows, columns = positions // n, positions % n
    counts = torch.bincount(rows, minlength=n_rows)
    slots = torch.arange(len(rows), device=tile.device) - (counts.cumsum(0) - counts)[rows]
    shape = (n_rows, int(counts.max()))
    items = torch.zeros(shape, dtype=torch.int64, device=tile.device)
    values = torch.full(shape, -torch.inf, dtype=tile.dtype, device=tile.device)
    items[rows, slots], values[rows, slots] = columns, tile[rows, columns]
    return items, values


def _largest(scores: Tensor, k: int) -> Tensor:
    """Columns of the k highest scores of each row in any order, shape (B, k)."""
    n_rows, n = scores.shape
    if not _numpy_is_faster(scores) or n >= 64 * k:
        return scores.topk(k, dim=1, sorted=False).indices
    step = max(1, _CACHE_FLOATS // n)
    parts = [
        np.argpartition(scores[row : row + step].numpy(), n - k, axis=1)[:, n - k :] for row in range(0, n_rows, step)
    ]
    return torch.from_numpy(np.concatenate(parts))


def _numpy_is_faster(scores: Tensor) -> bool:
    """NumPy sorts, partitions and finds with vector instructions on one thread; torch does without on all of them."""
    return scores.device.type == "cpu" and torch.get_num_threads() <= 4
