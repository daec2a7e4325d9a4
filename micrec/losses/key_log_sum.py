"""Log-sum-exp of each query's products with many constant keys, without keeping the products."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART_NUMBERS = {"cpu": 1 << 18, "cuda": 1 << 26}  # products of a part: 1 MB on a CPU


def key_log_sum(queries: Tensor, keys: Tensor, hidden: Tensor) -> Tensor:
    """log of the sum over keys j of exp(``queries[i] . keys[j]``), of those that are not hidden.

    The gradient with respect to the queries is computed at once, one part of them at a time, while the products are in
    the cache; none flows to the keys.

    Args:
        queries: Divided by the temperature, shape (A, W), float32 or wider.
        keys: Shape (Q, W).
        hidden: True where a key does not count for a query, bool, shape (A, Q).

    Returns:
        Shape (A,); a very negative, finite number and no gradient where every key is hidden.
    """
    found: Tensor = _KeyLogSum.apply(queries, keys, hidden)
    return found


class _KeyLogSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, hidden: Tensor) -> Tensor:
        size = max(1, PART_NUMBERS.get(queries.device.type, 1 << 26) // max(1, len(keys)))
        lowest = torch.finfo(queries.dtype).min
        sums, gradient = queries.new_empty(len(queries)), torch.empty_like(queries)
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            products = (queries[part] @ keys.T).masked_fill_(hidden[part], lowest)
            highest = products.amax(dim=1, keepdim=True)
            products.sub_(highest).exp_().masked_fill_(hidden[part], 0.0)
            total = products.sum(dim=1, keepdim=True)
            nothing = total == 0
            sums[part] = torch.where(nothing, lowest, highest + total.log()).squeeze(1)
            gradient[part] = (products @ keys) / total.masked_fill_(nothing, 1.0)
        ctx.save_for_backward(gradient)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return grad[:, None] * gradient, None, None
