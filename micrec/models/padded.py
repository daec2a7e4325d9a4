"""Click histories and lists of values as padded matrices: what an exported tower reads, of any batch and any length.

Training reads ragged rows (:class:`micrec.models.columns.Ragged`), whose operations no exchange format knows. The same
sums over padded rows consist of gathers, products and sums alone. Nothing here is used in training.
"""

from typing import NamedTuple

import torch
from torch import Tensor


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
        return vectors[self.values] * shown

    def counted(self) -> "PaddedRows":
        """The first place of each distinct id of a row, with how much the row holds of it as weight."""
        alike = (self.ids.unsqueeze(2) == self.ids.unsqueeze(1)) & self.mask.unsqueeze(1)  # (B, T, T)
        counts = (alike.float() * self.shares.unsqueeze(1)).sum(dim=2)
        place = torch.arange(self.mask.shape[1], device=self.mask.device)
        first = self.mask & ~(alike & (place[:, None] > place)).any(dim=2)
        return PaddedRows(self.values, first, self.ids, torch.where(first, counts, torch.zeros_like(counts)))
