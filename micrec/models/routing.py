"""Behaviour-to-interest dynamic routing: capsules of a user from their clicks (Li et al. 2019, Algorithm 1)."""

import torch
from torch import Tensor


def squash(capsules: Tensor) -> Tensor:
    """Shrink vectors (..., D) to a length of |z|^2 / (1 + |z|^2), below 1, in their direction; zero stays zero."""
    squared = capsules.square().sum(dim=-1, keepdim=True)
    return capsules * (squared / (1.0 + squared) * torch.rsqrt(squared + 1e-9))


def route(clicks: Tensor, mask: Tensor, maps: Tensor, logits: Tensor, allowed: Tensor | None, rounds: int) -> Tensor:
    """Interest capsules u_j = squash(sum over clicks i of w_ij S_j e_i), w_ij = softmax over j of b_ij.

    After each round but the last b_ij grows by u_j . S_j e_i. As in the published code of MIND and ComiRec, the rounds
    only choose the weights: the gradient flows through the last sum. S_j is applied to the weighted sum of the clicks
    and, transposed, to the capsule, which is the same as to every click, and T / K times less work.

    Args:
        clicks: e_i, shape (B, T, D), zero where the mask is False.
        mask: True where a click is, shape (B, T).
        maps: The bilinear maps S_j, shape (K, D, D); (1, D, D) where all interests share one.
        logits: Start values of b_ij, shape (K, T).
        allowed: True where an interest exists, shape (B, K), at least the first; None = everywhere.
        rounds: Iterations, >= 1.

    Returns:
        Shape (B, K, D); what is returned for interests that do not exist has no meaning.
    """
    routing = logits.expand(clicks.shape[0], -1, -1)  # (B, K, T)
    hidden = torch.zeros(1, 1, 1, dtype=torch.bool, device=clicks.device) if allowed is None else ~allowed.unsqueeze(2)
    with torch.no_grad():
        weights = _weights(routing, mask, hidden)
        for _ in range(rounds - 1):
            capsules = squash(_vote(clicks, weights, maps))
            agreement = _apply(capsules, maps.transpose(1, 2)) @ clicks.transpose(1, 2)  # (B, K, T)
            routing = routing + agreement
            weights = _weights(routing, mask, hidden)
    return squash(_vote(clicks, weights, maps))


def _weights(routing: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
    """Share of each click in each interest, shape (B, K, T)."""
    return torch.softmax(routing.masked_fill(hidden, -torch.inf), dim=1) * mask.unsqueeze(1)


def _vote(clicks: Tensor, weights: Tensor, maps: Tensor) -> Tensor:
    return _apply(weights.to(clicks.dtype) @ clicks, maps)


def _apply(vectors: Tensor, maps: Tensor) -> Tensor:
    """``maps[j] @ vectors[:, j]``, shape (B, K, D)."""
    if len(maps) == 1:
        return vectors @ maps[0].T
    return torch.einsum("kij,bkj->bki", maps, vectors)
