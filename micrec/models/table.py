"""Embedding tables: plain and pooled lookups, dense or row-sparse gradients."""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from micrec.shapes import is_fixed, sums_by_slot


class EmbeddingTable(nn.Module):
    """A table of ``size`` embeddings of width ``dim``; row 0 stands for unknown or missing.

    Attributes:
        weight: The table, shape (size, dim).
        sparse: Whether the gradient of ``weight`` holds only the rows that were read (sparse COO).
        before_read: Called in training mode with the codes about to be read, shape (n,), repeats allowed. A
            row-sparse optimiser hangs itself in here to bring those rows up to date first. It belongs to one
            optimiser, so copies and pickles of the table leave it out.

    Under torch.compile, compile what comes after the lookup: the hook and the gradient break the graph.
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
        if torch.jit.is_tracing():  # for export: an operation of our own would fix the number of rows
            return F.embedding(codes, self.weight)
        weight, flat, sparse = self._source(codes.reshape(-1))
        rows: Tensor = _Lookup.apply(weight, flat, sparse)
        return rows.view(*codes.shape, self.weight.shape[1])

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
        weight, values, sparse = self._source(values)
        n = len(offsets) - 1
        owners = torch.arange(n, device=offsets.device)
        bags = torch.repeat_interleave(owners, offsets.diff(), output_size=len(values))  # (nnz,)
        shares = None if weights is None else weights.detach().to(self.weight.dtype)
        if mode == "mean":
            shares = _shares(
                values.new_ones(len(values), dtype=self.weight.dtype) if shares is None else shares, bags, n
            )
        pooled: Tensor = _Bag.apply(weight, values, offsets, bags, shares, sparse)
        return pooled

    @property
    def numbers(self) -> int:
        """Numbers of the whole table, size * D."""
        return self.weight.numel()

    @torch.no_grad()
    def put(self, codes: Tensor, vectors: Tensor) -> None:
        """Set the rows of ``codes``, shape (n,), outside training; vectors of shape (n, D)."""
        self.weight[codes] = vectors.to(self.weight)

    def extra_repr(self) -> str:
        """Size, width and kind of gradient, for ``print(model)``."""
        return f"{len(self.weight)}, {self.weight.shape[1]}, sparse={self.sparse}"

    def _source(self, codes: Tensor) -> tuple[Tensor, Tensor, bool]:
        """A table that holds the vectors of codes (m,), where it has them, (m,), and whether its gradient is sparse."""
        self._announce(codes)
        return self.weight, codes, self.sparse

    def _announce(self, codes: Tensor) -> None:
        if self.training and self.before_read is not None:
            self.before_read(codes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "before_read": None}


def sum_by_code(
    codes: Tensor, values: Tensor, picks: Tensor | None = None, shares: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum values that share a code, in a fixed order; several times faster than index_add_ or coalesce on a CPU.

    Args:
        codes: Code of each summand, shape (m,), int64.
        values: The summands, shape (m, D); with ``picks``, summand i is row ``picks[i]`` of ``values``.
        picks: Rows of ``values``, shape (m,), int64.
        shares: Factor of each summand, shape (m,); without it 1.

    Returns:
        Distinct codes (n,) and their sums (n, D); the arguments themselves if there is nothing to sum.
    """
    ordered, order = torch.sort(codes.int(), stable=True)  # half the bytes of int64
    distinct, counts = torch.unique_consecutive(ordered, return_counts=True)
    if len(distinct) == len(codes) and picks is None and shares is None:
        return codes, values
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=codes.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    sums = F.embedding_bag(
        order if picks is None else picks[order],
        values,
        offsets,
        mode="sum",
        per_sample_weights=None if shares is None else shares[order],
        include_last_offset=True,
    )
    return distinct.long(), sums


class _Lookup(torch.autograd.Function):
    """``weight[codes]``."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, codes: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.shape, ctx.sparse = weight.shape, sparse
        return F.embedding(codes, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (codes,) = ctx.saved_tensors
        return _summed_grad(codes, grad.contiguous(), None, None, ctx.shape, ctx.sparse), None, None


class _Bag(torch.autograd.Function):
    """Weighted sums over bags; the gradient never takes the shape (nnz, D)."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, values: Tensor, offsets: Tensor, bags: Tensor, shares: Tensor | None, sparse: bool
    ) -> Tensor:
        ctx.save_for_backward(values, bags, shares)
        ctx.shape, ctx.sparse = weight.shape, sparse
        return F.embedding_bag(values, weight, offsets, mode="sum", per_sample_weights=shares, include_last_offset=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, bags, shares = ctx.saved_tensors
        grad = _summed_grad(values, grad.contiguous(), bags, shares, ctx.shape, ctx.sparse)
        return grad, None, None, None, None, None


def _summed_grad(
    codes: Tensor, values: Tensor, picks: Tensor | None, shares: Tensor | None, shape: torch.Size, sparse: bool
) -> Tensor:
    """Gradient of the table, from summands as of ``sum_by_code``; a fixed sparse one names rows as often as read."""
    if is_fixed(codes):
        if not sparse:
            return sums_by_slot(codes, values, shape[0], picks, shares)
        summands = values if picks is None else values.index_select(0, picks)
        summands = summands if shares is None else summands * shares[:, None]
        return torch.sparse_coo_tensor(codes[None], summands, shape, check_invariants=False, is_coalesced=False)
    rows, sums = sum_by_code(codes, values, picks, shares)
    return table_grad(codes, rows, sums, shape, sparse)


def table_grad(codes: Tensor, rows: Tensor, sums: Tensor, shape: torch.Size, sparse: bool) -> Tensor:
    """Gradient of the table from what ``sum_by_code`` made of ``codes``."""
    if not sparse:
        return sums.new_zeros(shape).index_copy_(0, rows, sums)
    ascending = rows is not codes
    return torch.sparse_coo_tensor(rows[None], sums, shape, check_invariants=False, is_coalesced=ascending)


def _shares(weights: Tensor, bags: Tensor, n: int) -> Tensor:
    """Share of each value in the mean of its bag, shape (nnz,)."""
    totals = weights.new_zeros(n).index_add_(0, bags, weights)
    return weights / totals.clamp_min(torch.finfo(weights.dtype).tiny)[bags]
