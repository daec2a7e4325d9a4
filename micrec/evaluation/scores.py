"""Where scores come from: any callable, or a pair of embedding matrices multiplied tile by tile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

ScoreBlock = Callable[[int, int], Tensor]
"""Scores of queries [start, stop) for every item of the catalogue, float32, shape (stop - start, N)."""

_CACHE_FLOATS = 1 << 20  # on a CPU a tile of 4 MiB stays in cache while it is counted
_ROWS = 256  # queries per tile where a row of candidates does not fit one
_ALIGN = 64  # tile sides; at ragged edges some kernels add in another order, and equal embeddings would not tie


@dataclass(frozen=True)
class EmbeddingScores:
    """Dot products of query and item embeddings; ``rank_targets`` never holds more of them than one tile.

    A query of K interests scores an item by the highest of their K dot products.
    """

    user_emb: Tensor  # (Q, D) or (Q, K, D)
    item_emb: Tensor  # (N, D)

    def __call__(self, start: int, stop: int) -> Tensor:
        scores = self.user_emb[start:stop] @ self.item_emb.T
        return scores if scores.dim() == 2 else scores.amax(dim=1)


def embedding_scores(user_emb: Tensor, item_emb: Tensor) -> EmbeddingScores:
    """Scores of a two-tower model.

    Args:
        user_emb: One row per query of the task, shape (Q, D), or K interests per query, shape (Q, K, D).
        item_emb: One row per item of the catalogue, shape (N, D), on the same device.

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
    return EmbeddingScores(user_emb.detach().float(), item_emb.detach().float())


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

    def score(
        self, start: int, stop: int, rows: Tensor, columns: Tensor
    ) -> tuple[Tensor, Iterator[tuple[int, Tensor]]]:
        rows, columns = rows.to(self._tile.device), columns.to(self._tile.device)
        self._users.zero_()[:, : stop - start] = self._user_emb[:, start:stop]
        if self.n > self.width:
            return self._gather(rows, columns), self._sweep(stop - start)
        tile = self._multiply(self._items)[: stop - start, : self.n]
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

    def _sweep(self, n_rows: int) -> Iterator[tuple[int, Tensor]]:
        for first in range(0, self.n, self.width):
            start = min(first, self.n - self.width)
            tile = self._multiply(self._items[start : start + self.width])
            yield first, tile[:n_rows, first - start :]


def _tile_shape(n: int, floats: int) -> tuple[int, int]:
    """Rows and width of a tile of at most ``floats`` scores over n candidates, in multiples of 16 and ``_ALIGN``."""
    whole = -(-n // _ALIGN) * _ALIGN
    if whole * _ALIGN <= floats:  # a tile holds whole rows
        return min(1024, floats // whole // 16 * 16), whole
    rows = min(_ROWS, floats // _ALIGN // _ALIGN * _ALIGN)
    return rows, floats // rows // _ALIGN * _ALIGN
