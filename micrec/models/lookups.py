"""Look-ups in the vectors of a step's distinct items: rows, means over bags, dot products with users.

A step reads the same few thousand vectors a hundred thousand times. The gradients are therefore summed in the order of
the codes (``sum_by_code``), and neither the gathered vectors of the negatives, shape (B, K, D), nor their gradient is
ever written to memory: on a CPU that, and the B tiny matrix products over them, was most of a step.
"""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from micrec.models.padded import PaddedRows
from micrec.models.table import sum_by_code
from micrec.shapes import is_fixed, sums_by_slot


def take_rows(vectors: Tensor, rows: Tensor) -> Tensor:
    """``vectors[rows]``: shape (*rows.shape, D) from (n, D) and int64 rows of any shape."""
    if not vectors.requires_grad:
        return F.embedding(rows, vectors)
    taken: Tensor = _Take.apply(vectors, rows)
    return taken


def mean_rows(vectors: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """Mean of ``vectors[rows[offsets[i] : offsets[i + 1]]]`` for every i, shape (B, D); zeros where a bag is empty.

    Args:
        vectors: Shape (n, D).
        rows: Rows of all bags in a row, shape (nnz,), int64.
        offsets: Where each bag starts and the last one ends, shape (B + 1,), int64.
    """
    if not vectors.requires_grad or torch.compiler.is_compiling():
        return _mean_bag(vectors, rows, offsets)
    pooled: Tensor = _MeanBag.apply(vectors, rows, offsets)
    return pooled


def sum_rows(vectors: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sum of ``weights[k] * vectors[rows[k]]`` over k = ``offsets[i] .. offsets[i + 1] - 1`` for every i, shape (B, D).

    Args:
        vectors: Shape (n, D).
        rows: Rows of all bags in a row, shape (nnz,), int64.
        offsets: Where each bag starts and the last one ends, shape (B + 1,), int64.
        weights: Shape (nnz,); no gradient flows to them.
    """
    if not vectors.requires_grad or torch.compiler.is_compiling():
        return _sum_bag(vectors, rows, offsets, weights)
    pooled: Tensor = _SumBag.apply(vectors, rows, offsets, weights)
    return pooled


def sum_values(vectors: Tensor, counted: Any, weights: Tensor) -> Tensor:
    """``sum_rows`` of the values of a ``Ragged`` with a weight each, (nnz,), or of ``PaddedRows``, (B, T)."""
    if isinstance(counted, PaddedRows):
        return counted.weighted_sum(vectors, weights)
    return sum_rows(vectors, counted.values, counted.offsets, weights)


def row_scores(user_emb: Tensor, vectors: Tensor, rows: Tensor) -> Tensor:
    """Dot products ``user_emb[b] . vectors[rows[b, k]]``, shape (B, K).

    Args:
        user_emb: Shape (B, D), float32.
        vectors: Shape (n, D), float32.
        rows: Rows of ``vectors``, shape (B, K), int64.
    """
    scores: Tensor = _RowScores.apply(user_emb, vectors, rows)
    return scores


def _mean_bag(vectors: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    return F.embedding_bag(rows, vectors, offsets, mode="mean", include_last_offset=True)


def _spread(
    rows: Tensor, values: Tensor, like: torch.Size, picks: Tensor | None = None, shares: Tensor | None = None
) -> Tensor:
    """Values summed into the rows of a zero tensor of shape ``like``; arguments as of ``sum_by_code``."""
    if is_fixed(rows):
        return sums_by_slot(rows, values, like[0], picks, shares)
    distinct, sums = sum_by_code(rows, values, picks, shares)
    return sums.new_zeros(like).index_copy_(0, distinct, sums)


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = vectors.shape
        return F.embedding(rows, vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        return _spread(rows.reshape(-1), grad.reshape(-1, grad.shape[-1]), ctx.shape), None


class _MeanBag(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(rows, offsets)
        ctx.shape = vectors.shape
        return _mean_bag(vectors, rows, offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, offsets = ctx.saved_tensors
        sizes = offsets.diff()  # (B,)
        owners = torch.arange(len(sizes), device=rows.device)
        bags = torch.repeat_interleave(owners, sizes, output_size=len(rows))  # (nnz,)
        shares = grad / sizes.clamp_min(1)[:, None].to(grad.dtype)  # (B, D)
        return _spread(rows, shares, ctx.shape, bags), None, None


def _sum_bag(vectors: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(
        rows, vectors, offsets, mode="sum", per_sample_weights=weights.to(vectors.dtype), include_last_offset=True
    )


class _SumBag(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(rows, offsets, weights)
        ctx.shape = vectors.shape
        return _sum_bag(vectors, rows, offsets, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, offsets, weights = ctx.saved_tensors
        sizes = offsets.diff()  # (B,)
        owners = torch.arange(len(sizes), device=rows.device)
        bags = torch.repeat_interleave(owners, sizes, output_size=len(rows))  # (nnz,)
        return _spread(rows, grad.contiguous(), ctx.shape, bags, weights.to(grad.dtype)), None, None, None


class _RowScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, user_emb: Tensor, vectors: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(user_emb, vectors, rows)
        if is_fixed(rows):
            return torch.einsum("bd,bkd->bk", user_emb, F.embedding(rows, vectors))
        return _sampled_product(user_emb, vectors, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        user_emb, vectors, rows = ctx.saved_tensors
        n_users, n_each = rows.shape
        codes, shares = rows.reshape(-1), grad.reshape(-1)  # (B K,)
        starts = torch.arange(0, n_users * n_each, n_each, device=rows.device)
        user_grad = F.embedding_bag(codes, vectors, starts, mode="sum", per_sample_weights=shares)
        users = torch.arange(n_users, device=rows.device).repeat_interleave(n_each)
        return user_grad, _spread(codes, user_emb, vectors.shape, users, shares), None


def _sampled_product(user_emb: Tensor, vectors: Tensor, rows: Tensor) -> Tensor:
    """``user_emb @ vectors.T`` at K places of each row, shape (B, K), on the CPU."""
    n_users, n_each = rows.shape
    if n_each > len(vectors):  # more places in a row than torch's sparse tensors can name
        return (user_emb @ vectors.T).gather(1, rows)
    starts = torch.arange(0, n_users * n_each + 1, n_each)
    with warnings.catch_warnings():  # torch calls all of sparse CSR a beta, once per process
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        places = torch.sparse_csr_tensor(
            starts,
            rows.reshape(-1),
            user_emb.new_zeros(rows.numel()),
            (n_users, len(vectors)),
            check_invariants=False,  # a row may name an item twice, in any order
        )
        return torch.sparse.sampled_addmm(places, user_emb, vectors.T, beta=0.0).values().view(n_users, n_each)
