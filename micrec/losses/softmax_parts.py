"""Softmax over the whole catalogue, one part of the rows at a time: the scores (B, N) are never in memory as a whole.

At 512 rows and 4,000 items the scores take 8 MB, and a dozen passes over them cost more than the three matrix products.
A part of the rows fits the cache, and its gradient is computed while it is there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART_NUMBERS = {"cpu": 1 << 18, "cuda": 1 << 26}  # scores of a part: 1 MB on a CPU


def catalogue_softmax(
    user_emb: Tensor,
    item_emb: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    bias: Tensor | None = None,
    drift: Tensor | None = None,
    popularity: Callable[[int, int], Tensor] | None = None,
    own: tuple[Tensor, Tensor, Tensor] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Mean cross-entropy of the items that each row is to find against all items.

    The score of row b and item i is ``user_emb[b] . item_emb[i] + bias[i] + drift * popularity(b, b + 1)[0, i]``, plus
    the term of (b, i) in ``own``; all of it is divided by the temperature.

    Args:
        user_emb: Shape (B, D).
        item_emb: Embeddings of all items, shape (N, D).
        rows: Row of each item to be found, int64, shape (T,), never falling.
        columns: The item, a row of ``item_emb``, int64, shape (T,).
        bias: Shape (N,).
        drift: Weight of the popularity, shape ().
        popularity: Values of rows [start, stop), shape (stop - start, N); constants.
        own: Rows, never falling, columns and terms, shape (m,) each; no (row, column) twice.
        temperature: tau, > 0.

    Returns:
        Loss in nats, shape ().
    """
    empty = user_emb.new_zeros(0)
    own_rows, own_columns, own_terms = own or (empty.long(), empty.long(), empty)
    loss: Tensor = _CatalogueSoftmax.apply(
        user_emb, item_emb, bias, drift, own_terms, rows, columns, own_rows, own_columns, popularity, temperature
    )
    return loss


class _CatalogueSoftmax(torch.autograd.Function):
    """Computes the gradients together with the loss; ``backward`` scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        user_emb: Tensor,
        item_emb: Tensor,
        bias: Tensor | None,
        drift: Tensor | None,
        own_terms: Tensor,
        rows: Tensor,
        columns: Tensor,
        own_rows: Tensor,
        own_columns: Tensor,
        popularity: Callable[[int, int], Tensor] | None,
        temperature: float,
    ) -> Tensor:
        n_rows, n_items = len(user_emb), len(item_emb)
        size = max(1, PART_NUMBERS.get(user_emb.device.type, 1 << 26) // n_items)
        share = 1.0 / (len(rows) * temperature)
        found = torch.bincount(rows, minlength=n_rows).to(user_emb) * share  # (B,)
        starts = torch.arange(0, n_rows + size, size, device=rows.device)
        edges = [torch.searchsorted(where.contiguous(), starts).tolist() for where in (rows, own_rows)]
        scaled, by_dim = user_emb / temperature, item_emb.T
        user_grad, item_grad = torch.empty_like(user_emb), torch.zeros_like(item_emb)
        bias_grad = user_emb.new_zeros(n_items if bias is not None else 0)
        drift_grad, own_grad = user_emb.new_zeros(()), torch.empty_like(own_terms)
        loss = user_emb.new_zeros(())
        for part, start in enumerate(range(0, n_rows, size)):
            stop = min(start + size, n_rows)
            targets, owned = (slice(edge[part], edge[part + 1]) for edge in edges)
            at, own_at = (rows[targets] - start, columns[targets]), (own_rows[owned] - start, own_columns[owned])
            scores = scaled[start:stop] @ by_dim
            if bias is not None:
                scores += bias / temperature
            drifted = None
            if drift is not None and popularity is not None:
                drifted = popularity(start, stop)
                scores.addcmul_(drifted, drift, value=1.0 / temperature)
            scores.index_put_(own_at, own_terms[owned] / temperature, accumulate=True)
            loss -= scores[at].sum()
            highest = scores.amax(dim=1, keepdim=True)
            scores.sub_(highest).exp_()  # in place: the probabilities, and below the gradient
            total = scores.sum(dim=1, keepdim=True)
            loss += ((highest + total.log()).squeeze(1) * found[start:stop]).sum() / share
            scores *= found[start:stop, None] / total
            scores.index_put_(at, scores.new_tensor(-share), accumulate=True)
            user_grad[start:stop] = scores @ item_emb
            item_grad.addmm_(scores.T, user_emb[start:stop])
            own_grad[owned] = scores[own_at]
            if bias is not None:
                bias_grad += scores.sum(dim=0)
            if drifted is not None:
                drift_grad += torch.dot(scores.flatten(), drifted.flatten())
        ctx.has_bias, ctx.has_drift = bias is not None, drift is not None
        ctx.save_for_backward(user_grad, item_grad, bias_grad, drift_grad, own_grad)
        return loss / len(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        user, item, bias, drift, own = (saved * grad for saved in ctx.saved_tensors)
        return (user, item, bias if ctx.has_bias else None, drift if ctx.has_drift else None, own, *[None] * 6)
