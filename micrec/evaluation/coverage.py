"""Coverage of the catalogue by the top-N lists of all queries (paper 5.6), and how evenly they show it.

=========================  =========================================================================================
coverage@N                 distinct items in any query's top N over the number of candidates
gini@N                     Gini coefficient of how often each candidate is in a top N: 0 = all alike, 1 = one item only
popularity_percentile@N    mean over all places of all top-N lists of the item's percentile by training clicks among
                           the candidates, ties at their mean; 0.5 = lists drawn at random, 1 = the most clicked item
tail_exposure@N            share of those places that tail items hold (``evaluation.tail_fraction``)
tail_coverage@N            distinct tail items in any top N over the number of tail items
seen_places@N              share of those places that hold an item the user had clicked in the train part
=========================  =========================================================================================

All are in [0, 1]. What was not shown at all, or has no tail, leaves its figures out.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.sharded.rank_group import RankGroup

_CACHE_FLOATS = 1 << 20  # scores partitioned together on a CPU
_MASK_BYTES = 1 << 26  # most bytes of a truth value per query of a block and candidate


class CoverageCounter:
    """Counts how often each candidate is in the top-N lists, block by block.

    A list never exceeds N items: which of those that tie at place N are in it is arbitrary, but the same in every run.
    Filtered items (score -inf) never count, even where a list is shorter than N.
    """

    def __init__(self, cutoffs: Sequence[int]) -> None:
        self.cutoffs = tuple(cutoffs)
        self._between: Tensor | None = None  # (cutoffs, C) places held between the next lower cutoff and this one
        self._ascending = sorted(set(self.cutoffs))
        self._seen_places: dict[int, int] = {}

    def add(self, lists: "TopLists", n_candidates: int, clicked: Tensor | None = None) -> None:
        """Count finished lists of at least max(cutoffs) items, or of all C candidates.

        Args:
            lists: The lists of a block of queries.
            n_candidates: C.
            clicked: What the query's user had clicked in the train part, as ``row * C + column``, ascending; with None
                such places are not counted.
        """
        items, values = lists.sorted()
        if self._between is None:
            shape = (len(self._ascending), n_candidates)
            self._between = torch.zeros(shape, dtype=torch.int64, device=items.device)
        kept = values > -torch.inf
        lower = 0
        for counts, cutoff in zip(self._between, self._ascending, strict=True):
            shown = items[:, lower:cutoff][kept[:, lower:cutoff]]
            counts.index_add_(0, shown, torch.ones_like(shown))
            lower = cutoff
        if clicked is not None:
            seen = _among(items, n_candidates, clicked.to(items.device)) & kept
            for cutoff in self._ascending:
                self._seen_places[cutoff] = self._seen_places.get(cutoff, 0) + int(seen[:, :cutoff].sum())

    def add_up(self, group: RankGroup, n_candidates: int) -> None:
        """Count the lists of all processes; all take part."""
        if group.alone:
            return
        nothing = torch.zeros(len(self._ascending), n_candidates, dtype=torch.int64)
        self._between = group.add_up(nothing if self._between is None else self._between.cpu())
        seen = group.add_up(torch.tensor([self._seen_places.get(cutoff, 0) for cutoff in self._ascending]))
        self._seen_places = dict(zip(self._ascending, seen.tolist(), strict=True))

    def exposure(self) -> dict[int, NDArray[np.int64]]:
        """For every cutoff N how many queries have each candidate in their top N, shape (C,)."""
        if self._between is None:
            raise ValueError("no lists were counted: call add() before metrics().")
        counts = self._between.cumsum(dim=0).cpu().numpy()
        return {cutoff: counts[self._ascending.index(cutoff)] for cutoff in self.cutoffs}

    def metrics(self) -> dict[str, float]:
        """``coverage@N`` for every cutoff."""
        return {f"coverage@{cutoff}": float((shown > 0).mean()) for cutoff, shown in self.exposure().items()}

    def diversity(self, train_clicks: NDArray[np.int64], tail: NDArray[np.bool_]) -> dict[str, float]:
        """All figures of the module's table; ``train_clicks`` and ``tail`` are of the candidates, shape (C,)."""
        figures = self.metrics()
        percentile = popularity_percentiles(train_clicks)
        for cutoff, shown in self.exposure().items():
            places = shown.sum()
            if not places:
                continue
            figures[f"gini@{cutoff}"] = gini(shown)
            figures[f"popularity_percentile@{cutoff}"] = float(shown @ percentile / places)
            if cutoff in self._seen_places:
                figures[f"seen_places@{cutoff}"] = self._seen_places[cutoff] / int(places)
            if tail.any():
                figures[f"tail_exposure@{cutoff}"] = float(shown[tail].sum() / places)
                figures[f"tail_coverage@{cutoff}"] = float((shown[tail] > 0).mean())
        return figures


def _among(items: Tensor, n_candidates: int, pairs: Tensor) -> Tensor:
    """Whether each (row, column) of ``items``, shape (B, k), is among ascending ``row * C + column``."""
    if len(pairs) == 0:
        return torch.zeros_like(items, dtype=torch.bool)
    keys = torch.arange(len(items), device=items.device).unsqueeze(1) * n_candidates + items
    if len(items) * n_candidates <= _MASK_BYTES:  # a lookup is several times faster than a search
        mask = torch.zeros(len(items) * n_candidates, dtype=torch.bool, device=items.device)
        mask[pairs] = True
        return mask[keys]
    place = torch.searchsorted(pairs, keys).clamp_max(len(pairs) - 1)
    return pairs[place] == keys


def gini(counts: NDArray[np.int64]) -> float:
    """Gini coefficient of counts (C,), half the mean absolute difference over the mean, scaled to reach 1.

    The plain coefficient of C counts is at most 1 - 1 / C; multiplied by C / (C - 1) it is 1 where one item has all.
    """
    n, total = len(counts), float(counts.sum(dtype=np.float64))
    if n < 2 or total == 0:
        return 0.0
    ordered = np.sort(counts).astype(np.float64)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (total * (n - 1)))


def popularity_percentiles(train_clicks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Place of each item by clicks, 0 (fewest) to 1 (most), ties at their mean, shape (C,); a single item's is 0.5."""
    if len(train_clicks) < 2:
        return np.full(len(train_clicks), 0.5)
    level, sizes = np.unique(train_clicks, return_inverse=True, return_counts=True)[1:]
    below = np.cumsum(sizes) - sizes
    mean_place = below + (sizes - 1) / 2  # 0 .. C - 1
    return np.asarray(mean_place[level] / (len(train_clicks) - 1))


def tail_items(train_clicks: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """The least clicked share of the items that have training clicks, ties by item id; bool, shape (N,)."""
    known = np.flatnonzero(train_clicks > 0)
    by_clicks = known[np.argsort(train_clicks[known], kind="stable")]
    tail = np.zeros(len(train_clicks), dtype=bool)
    tail[by_clicks[: int(len(known) * fraction + 1e-9)]] = True
    return tail


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
