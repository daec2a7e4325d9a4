"""Embedding tables: plain and pooled lookups, dense or row-sparse gradients."""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EmbeddingTable(nn.Module):
    """A table of ``size`` embeddings of width ``dim``; row 0 stands for unknown or missing.

    Attributes:
        weight: The table, shape (size, dim).
        sparse: Whether the gradient of ``weight`` holds only the rows that were read (COO, rows may repeat).
        before_read: Called in training mode with the codes about to be read, shape (n,), repeats allowed. A
            row-sparse optimiser hangs itself in here to bring those rows up to date first. It belongs to one
            optimiser, so copies and pickles of the table leave it out. Under torch.compile it breaks the graph:
            compile what comes after the lookup.
    """

    before_read: Callable[[Tensor], None] | None

    def __init__(
        self, size: int, dim: int, *, init_scale: float = 0.05, sparse: bool = False, generator: torch.Generator
    ) -> None:
        """Start uniform in +-``init_scale``, drawn from ``generator``, on its device."""
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"a table needs at least one row and one column, got size {size}, dim {dim}.")
        drawn = torch.empty(size, dim, device=generator.device).uniform_(-init_scale, init_scale, generator=generator)
        self.weight = nn.Parameter(drawn)
        self.sparse = sparse
        self.before_read = None

    def forward(self, codes: Tensor) -> Tensor:
        """Rows of ``codes``, any shape (...), int64; the result has shape (..., D)."""
        self._announce(codes)
        return F.embedding(codes, self.weight, sparse=self.sparse)

    def bag(
        self,
        values: Tensor,
        offsets: Tensor,
        *,
        weights: Tensor | None = None,
        mode: Literal["mean", "sum"] = "mean",
    ) -> Tensor:
        """Pool the rows of each of n bags; an empty bag gives the zero vector.

        Args:
            values: Codes of all bags in a row, shape (nnz,), int64.
            offsets: Bag i holds ``values[offsets[i] : offsets[i + 1]]``, shape (n + 1,), int64.
            weights: Non-negative weight of each value, shape (nnz,), for example 1 = keep, 0 = drop. The mean divides
                by the sum of weights of the bag; a bag of weight 0 counts as empty. No gradient flows to them.
            mode: Mean or sum over the bag.

        Returns:
            Pooled embeddings, shape (n, D).
        """
        self._announce(values)
        if weights is not None:
            weights = weights.detach().to(self.weight.dtype)
            weights = _shares(weights, offsets) if mode == "mean" else weights
        return F.embedding_bag(
            values,
            self.weight,
            offsets,
            mode="sum" if weights is not None else mode,
            sparse=self.sparse,
            per_sample_weights=weights,
            include_last_offset=True,
        )

    def extra_repr(self) -> str:
        """Size, width and kind of gradient, for ``print(model)``."""
        return f"{len(self.weight)}, {self.weight.shape[1]}, sparse={self.sparse}"

    def _announce(self, codes: Tensor) -> None:
        if self.training and self.before_read is not None:
            self.before_read(codes.reshape(-1))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "before_read": None}


def _shares(weights: Tensor, offsets: Tensor) -> Tensor:
    """Weights (nnz,) divided by the sum of their bag; 0 where that is 0."""
    lengths = offsets.diff()
    bags = torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)  # (nnz,)
    totals = weights.new_zeros(len(lengths)).index_add_(0, bags, weights)
    return weights / totals.clamp_min(torch.finfo(weights.dtype).tiny)[bags]
