"""Propagation over the graph of users and the items that they clicked, without weights or non-linearities."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class ClickGraph:
    """Distinct (user, item) pairs of the training clicks, both ways, weighted 1 / sqrt(d_u d_i) by the degrees.

    Attributes:
        user_offsets: User u has entries user_offsets[u] .. user_offsets[u + 1] of ``user_items``, shape (U + 1,).
        user_items: Their items, shape (P,).
        user_weights: Weights of these entries, shape (P,).
        item_offsets, item_users, item_weights: The same pairs by item.
    """

    user_offsets: Tensor
    user_items: Tensor
    user_weights: Tensor
    item_offsets: Tensor
    item_users: Tensor
    item_weights: Tensor

    @classmethod
    def of(cls, users: Tensor, items: Tensor, n_users: int, n_items: int) -> "ClickGraph":
        """The graph of clicks, shape (n,) each, in any order and with repeats."""
        keys = torch.unique(users.long() * n_items + items)
        users, items = keys // n_items, keys % n_items
        of_user, of_item = torch.bincount(users, minlength=n_users), torch.bincount(items, minlength=n_items)
        weights = (of_user[users] * of_item[items]).float().rsqrt()
        by_item = torch.argsort(items, stable=True)
        return cls(_offsets(of_user), items, weights, _offsets(of_item), users[by_item], weights[by_item])

    @property
    def item_degrees(self) -> Tensor:
        """Users of each item, shape (N,)."""
        return self.item_offsets.diff()

    def to_users(self, items: Tensor) -> Tensor:
        """What the users receive of item vectors (N, D), shape (U, D)."""
        return _weighted_sums(items, self.user_items, self.user_offsets, self.user_weights)

    def to_items(self, users: Tensor) -> Tensor:
        """What the items receive of user vectors (U, D), shape (N, D)."""
        return _weighted_sums(users, self.item_users, self.item_offsets, self.item_weights)


def spread_items(items: Tensor, users: Tensor | None, graph: ClickGraph, layers: int) -> tuple[Tensor, Tensor]:
    """Sums of an item's layers 1 .. K and 1 .. K - 1, shape (N, D) each, by LightGCN's rule.

    Layer 0 of items and users is what is given. Layer k + 1 of a user is the weighted sum of layer k of their items,
    and that of an item of its users.

    Args:
        items: Shape (N, D).
        users: Shape (U, D); None: zero.
        graph: The edges.
        layers: K, at least 1.
    """
    found: tuple[Tensor, Tensor] = _SpreadItems.apply(items, users, graph, layers)
    return found


class _SpreadItems(torch.autograd.Function):
    """The graph's matrix A is symmetric, so that gradients are spread as the vectors are.

    Where users start at zero, half of the vectors are: items have even layers only, users odd ones. None stands for
    zeros.
    """

    @staticmethod
    def forward(ctx: Any, items: Tensor, users: Tensor | None, graph: ClickGraph, layers: int) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers, ctx.has_users = graph, layers, users is not None
        whole, short = torch.zeros_like(items), torch.zeros_like(items)
        state: _State = (items, users)
        for layer in range(1, layers + 1):
            state = _spread(graph, state, to_users=layer < layers)
            short = whole
            whole = whole if state[0] is None else whole + state[0]
        return whole, short.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, whole: Tensor, short: Tensor) -> tuple[Tensor | None, ...]:
        """Horner's rule: with the gradient g_k of layer k, A g_1 + A^2 g_2 + ... = A (g_1 + A (g_2 + ...))."""
        state: _State = (None, None)
        for layer in range(ctx.layers, 0, -1):
            items, users = state
            if ctx.has_users or layer % 2 == 0:
                received = whole if layer == ctx.layers else whole + short
                items = received if items is None else items + received
            state = _spread(ctx.graph, (items, users), to_users=layer > 1 or ctx.has_users)
        return state[0], state[1], None, None


_State = tuple[Tensor | None, Tensor | None]  # vectors of the items and of the users


def _spread(graph: ClickGraph, state: _State, *, to_users: bool) -> _State:
    """One layer further; of the users only where they are asked for."""
    items, users = state
    return (
        None if users is None else graph.to_items(users),
        graph.to_users(items) if to_users and items is not None else None,
    )


def _weighted_sums(vectors: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(
        rows, vectors, offsets, mode="sum", per_sample_weights=weights.to(vectors.dtype), include_last_offset=True
    )


def _offsets(counts: Tensor) -> Tensor:
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets
