"""Click histories and lists of values as padded matrices.

An exported tower reads them, of any batch and any length: the same sums as over ragged rows
(:class:`micrec.models.columns.Ragged`), which no exchange format knows, consist of gathers, products and sums alone.
A GPU trains on them, as their shapes are known beforehand (``micrec.shapes``).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from micrec.losses.augment import drop_padded

NO_ID = 2**62  # of a hidden place in rows that are ordered by id


class PaddedRows(NamedTuple):
    """B rows of at most T values, in the place of a ``Ragged``.

    Attributes:
        values: Rows of the table that is read, shape (B, T), int64; anything below the table's length where hidden.
        mask: True where a value is, shape (B, T).
        ids: What tells values apart, shape (B, T), int64.
        weights: What each value counts, shape (B, T); None: all alike.
    """

    values: Tensor
    mask: Tensor
    ids: Tensor
    weights: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """Values of each row, shape (B,), int64."""
        return self.mask.sum(dim=1)

    @property
    def shares(self) -> Tensor:
        """What each value counts, 0 where hidden, shape (B, T), float32."""
        shown = self.mask.float()
        return shown if self.weights is None else shown * self.weights

    def row_sums(self, numbers: Tensor) -> Tensor:
        """Sum of each row, shape (B,), of numbers (B, T) that are 0 where hidden."""
        return numbers.sum(dim=1)

    def of_rows(self, numbers: Tensor) -> Tensor:
        """The number of its row beside each value: (B,) to (B, 1)."""
        return numbers.unsqueeze(1)

    def weighted_sum(self, vectors: Tensor, shares: Tensor) -> Tensor:
        """Sum of ``shares`` (B, T) times the vectors (n, ...) of the values, shape (B, ...)."""
        if not torch.jit.is_tracing():
            flat = vectors.flatten(1)
            sums = F.embedding_bag(self.values, flat, mode="sum", per_sample_weights=shares.to(flat.dtype))
            return sums.unflatten(1, vectors.shape[1:]) if vectors.dim() > 2 else sums
        for _ in range(vectors.dim() - 1):
            shares = shares.unsqueeze(-1)
        return (vectors[self.values] * shares).sum(dim=1)

    def mean(self, vectors: Tensor) -> Tensor:
        """Mean of the vectors (n, ...) of the values, shape (B, ...), by weight; zeros where a row is empty."""
        totals = self.shares.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return self.weighted_sum(vectors, self.shares / totals)

    def sequence(self, vectors: Tensor) -> Tensor:
        """The vectors of the values, shape (B, T, ...), zeros where hidden."""
        shown = self.mask
        for _ in range(vectors.dim() - 1):
            shown = shown.unsqueeze(-1)
        if torch.jit.is_tracing():
            return vectors[self.values] * shown
        return F.embedding(self.values, vectors.flatten(1)).unflatten(-1, vectors.shape[1:]) * shown

    def take(self, rows: Tensor) -> "PaddedRows":
        """The given rows, shape (k,); repeats allowed."""
        weights = None if self.weights is None else self.weights[rows]
        return PaddedRows(self.values[rows], self.mask[rows], self.ids[rows], weights)

    def keep(self, kept: Tensor) -> "PaddedRows":
        """The values where ``kept``, bool, shape (B, T), is True, in their order at the right end of the rows."""
        shown = self.mask & kept
        order = shown.int().argsort(dim=1, stable=True)  # hidden ones first
        weights = None if self.weights is None else self.weights.gather(1, order)
        return PaddedRows(self.values.gather(1, order), shown.gather(1, order), self.ids.gather(1, order), weights)

    def without_some(self, ratio: float, generator: torch.Generator) -> Tensor:
        """Which values stay in a category-level dropout, bool, shape (B, T); see ``micrec.losses.augment``."""
        return drop_padded(self.mask, ratio, generator=generator)

    def by_id(self) -> "PaddedRows":
        """The distinct ids of each row, ascending, with how much the row holds of each as weight; hidden ones last."""
        ids, order = self.ids.masked_fill(~self.mask, NO_ID).sort(dim=1, stable=True)
        is_new = torch.ones_like(self.mask)
        is_new[:, 1:] = ids[:, 1:] != ids[:, :-1]
        rank = is_new.cumsum(dim=1) - 1  # of the distinct id among those of its row
        values, shares = self.values.gather(1, order), self.shares.gather(1, order)
        counts = torch.zeros_like(shares).scatter_add_(1, rank, shares)
        distinct = torch.full_like(ids, NO_ID).scatter_(1, rank, ids)
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        first = torch.zeros_like(ids).scatter_reduce_(1, rank, places, "amin", include_self=False)
        return PaddedRows(values.gather(1, first), distinct < NO_ID, distinct, counts)

    def counted(self) -> "PaddedRows":
        """The first place of each distinct id of a row, with how much the row holds of it as weight."""
        alike = (self.ids.unsqueeze(2) == self.ids.unsqueeze(1)) & self.mask.unsqueeze(1)  # (B, T, T)
        counts = (alike.float() * self.shares.unsqueeze(1)).sum(dim=2)
        place = torch.arange(self.mask.shape[1], device=self.mask.device)
        first = self.mask & ~(alike & (place[:, None] > place)).any(dim=2)
        return PaddedRows(self.values, first, self.ids, torch.where(first, counts, torch.zeros_like(counts)))
