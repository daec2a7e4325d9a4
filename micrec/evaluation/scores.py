"""Where scores come from: any callable, or a pair of embedding matrices multiplied tile by tile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

ScoreBlock = Callable[[int, int], Tensor]
"""Scores of queries [start, stop) for every item of the catalogue, float32, shape (stop - start, N)."""

_CACHE_FLOATS = 1 << 20  # on a CPU a tile of 4 MiB stays in cache while it is counted
_ROWS = 256  # queries per tile where a row of candidates does not fit one
_ALIGN = 64  # tile sides; at ragged edges some kernels add in another order, and equal embeddings would not tie


class OwnTerms(NamedTuple):
    """What is added to the scores of a query's own items: items ascending and distinct within each query."""

    offsets: Tensor  # (Q + 1,) int64
    items: Tensor  # (m,) int64
    terms: Tensor  # (m,) float32

    def block(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows from 0, items and terms of queries [start, stop)."""
        offsets = self.offsets[start : stop + 1]
        part = slice(int(offsets[0]), int(offsets[-1]))
        rows = torch.repeat_interleave(torch.arange(stop - start, device=offsets.device), offsets.diff())
        return rows, self.items[part], self.terms[part]


@dataclass(frozen=True)
class EmbeddingScores:
    """Dot products of query and item embeddings; ``rank_targets`` never holds more of them than one tile.

    A query of K interests scores an item by the highest of their K dot products.
    """

    user_emb: Tensor  # (Q, D) or (Q, K, D)
    item_emb: Tensor  # (N, D)
    own: OwnTerms | None = None

    def __call__(self, start: int, stop: int) -> Tensor:
        scores = self.user_emb[start:stop] @ self.item_emb.T
        scores = scores if scores.dim() == 2 else scores.amax(dim=1)
        if self.own is not None:
            rows, items, terms = self.own.block(start, stop)
            scores[rows, items] += terms
        return scores


def embedding_scores(user_emb: Tensor, item_emb: Tensor, own: OwnTerms | None = None) -> EmbeddingScores:
    """Scores of a two-tower model.

    Args:
        user_emb: One row per query of the task, shape (Q, D), or K interests per query, shape (Q, K, D).
        item_emb: One row per item of the catalogue, shape (N, D), on the same device.
        own: Terms of the queries' own items, on the same device; None: none.

    Raises:
        ValueError: If the shapes or devices do not fit.
    """
    if user_emb.ndim not in (2, 3) or item_emb.ndim != 2 or user_emb.shape[-1] != item_emb.shape[1]:
        raise ValueError(
            f"user_emb {tuple(user_emb.shape)} and item_emb {tuple(item_emb.shape)} must be (Q, D) or (Q, K, D), "
            "and (N, D)."
        )
    if user_emb.device != item_emb.device:
        raise ValueError(f"user_emb is on {user_emb.device}, item_emb on {item_emb.device}: move one of them.")
    return EmbeddingScores(user_emb.detach().float(), item_emb.detach().float(), own)


class Tiles(Protocol):
    """Scores of a block of at most ``rows`` queries, over the candidates only, in pieces of columns."""

    rows: int

    def score(
        self, start: int, stop: int, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Iterator[tuple[int, Tensor]]]:
        """Scores of the targets at (rows, columns) of the block, and the tiles: first column, scores (B, n).

        A target's score has the same bits here and in its tile. A tile may be overwritten, and lives until the next.
        """


class BlockTiles:
    """Tiles of any ``ScoreBlock``: one of whole rows per block."""

    def __init__(self, score_block: ScoreBlock, n_items: int, candidates: Tensor | None, *, block_bytes: int) -> None:
        self.rows = max(1, min(block_bytes // 4, max(_ALIGN * n_items, _CACHE_FLOATS)) // n_items)
        self._score_block, self._n_items, self._candidates = score_block, n_items, candidates

    def score(
        self, start: int, stop: int, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Iterator[tuple[int, Tensor]]]:
        given = self._score_block(start, stop)
        wanted = (stop - start, self._n_items)
        if given.shape != wanted:
            raise ValueError(f"score_block({start}, {stop}) returned shape {tuple(given.shape)}, not {wanted}.")
        given = given.detach()
        chosen = given.clone() if self._candidates is None else given.index_select(1, self._candidates.to(given.device))
        tile = chosen.float()
        return tile[rows.to(tile.device), columns.to(tile.device)], iter([(0, tile)])


class EmbeddingTiles:
    """Tiles of embedding scores, computed where they are needed and never written to memory as a whole.

    All products of one instance have the same aligned shape (short blocks are padded, the last tile reaches back),
    so that the score of a pair has the same bits wherever it stands, and items with equal embeddings tie exactly.
    """

    def __init__(self, scores: EmbeddingScores, candidates: Tensor | None, *, block_bytes: int) -> None:
        items = scores.item_emb if candidates is None else scores.item_emb[candidates.to(scores.item_emb.device)]
        self.n = len(items)
        floats = max(_ALIGN * _ALIGN, block_bytes // 4)
        self.rows, self.width = _tile_shape(
            self.n, min(floats, _CACHE_FLOATS) if items.device.type == "cpu" else floats
        )
        if self.n < self.width:
            items = torch.nn.functional.pad(items, (0, 0, 0, self.width - self.n))
        queries = scores.user_emb if scores.user_emb.dim() == 3 else scores.user_emb.unsqueeze(1)
        self._user_emb, self._items = queries.transpose(0, 1), items  # (K, Q, D)
        self._users = items.new_zeros(len(self._user_emb), self.rows, items.shape[1])
        self._tile = items.new_empty(self.rows, self.width)
        self._other = torch.empty_like(self._tile) if len(self._user_emb) > 1 else None
        self._own = None if scores.own is None else _OwnColumns(scores.own, len(scores.item_emb), candidates)

    def score(
        self, start: int, stop: int, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Iterator[tuple[int, Tensor]]]:
        rows, columns = rows.to(self._tile.device), columns.to(self._tile.device)
        self._users.zero_()[:, : stop - start] = self._user_emb[:, start:stop]
        own = None if self._own is None else self._own.block(start, stop)
        if self.n > self.width:
            found = self._gather(rows, columns)
            return found if own is None else found + own.at(rows, columns), self._sweep(stop - start, own)
        tile = self._multiply(self._items)[: stop - start, : self.n]
        if own is not None:
            own.add_to(tile, 0)
        return tile[rows, columns], iter([(0, tile)])

    def _multiply(self, items: Tensor) -> Tensor:
        """Scores of all interests, one after the other, into the tile; the highest stays."""
        tile = torch.mm(self._users[0], items.T, out=self._tile)
        if self._other is not None:
            for users in self._users[1:]:
                torch.maximum(tile, torch.mm(users, items.T, out=self._other), out=tile)
        return tile

    def _gather(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Scores at (rows, columns): products with the distinct targets, in tiles of the common shape."""
        distinct, where = torch.unique(columns, return_inverse=True)
        found = self._tile.new_empty(len(columns))
        for first in range(0, len(distinct), self.width):
            wanted = distinct[first : first + self.width]
            tile = self._multiply(self._items[torch.nn.functional.pad(wanted, (0, self.width - len(wanted)))])
            here = (where >= first) & (where < first + self.width)
            found[here] = tile[rows[here], where[here] - first]
        return found

    def _sweep(self, n_rows: int, own: "_OwnBlock | None") -> Iterator[tuple[int, Tensor]]:
        for first in range(0, self.n, self.width):
            start = min(first, self.n - self.width)
            tile = self._multiply(self._items[start : start + self.width])[:n_rows, first - start :]
            if own is not None:
                own.add_to(tile, first)
            yield first, tile


class _OwnBlock(NamedTuple):
    """Terms of a block of queries, ordered by column, over C candidates."""

    n: int  # C
    rows: Tensor
    columns: Tensor
    terms: Tensor

    def add_to(self, tile: Tensor, first: int) -> None:
        """Add the terms of the columns of a tile that begins at ``first``."""
        start, stop = torch.searchsorted(self.columns, self.columns.new_tensor([first, first + tile.shape[1]])).tolist()
        part = slice(start, stop)
        tile[self.rows[part], self.columns[part] - first] += self.terms[part]

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Terms at (row, column), 0 where there is none, in the shape of both."""
        if not len(self.terms):
            return torch.zeros(rows.shape, device=rows.device)
        keys, order = torch.sort(self.rows * self.n + self.columns)
        wanted = rows * self.n + columns
        place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        return torch.where(keys[place] == wanted, self.terms[order[place]], 0.0)


class _OwnColumns:
    """Own terms with the columns of candidates instead of items."""

    def __init__(self, own: OwnTerms, n_items: int, candidates: Tensor | None) -> None:
        device = own.items.device
        chosen = torch.arange(n_items, device=device) if candidates is None else candidates.to(device)
        self._own, self._n = own, len(chosen)
        self._columns = torch.full((n_items,), -1, device=device)
        self._columns[chosen] = torch.arange(len(chosen), device=device)

    def block(self, start: int, stop: int) -> _OwnBlock:
        """Terms of queries [start, stop) for candidates."""
        rows, items, terms = self._own.block(start, stop)
        columns, order = torch.sort(self._columns[items], stable=True)
        known = columns >= 0
        order = order[known]
        return _OwnBlock(self._n, rows[order], columns[known], terms[order])


def _tile_shape(n: int, floats: int) -> tuple[int, int]:
    """Rows and width of a tile of at most ``floats`` scores over n candidates, in multiples of 16 and ``_ALIGN``."""
    whole = -(-n // _ALIGN) * _ALIGN
    if whole * _ALIGN <= floats:  # a tile holds whole rows
        return min(1024, floats // whole // 16 * 16), whole
    rows = min(_ROWS, floats // _ALIGN // _ALIGN * _ALIGN)
    return rows, floats // rows // _ALIGN * _ALIGN
