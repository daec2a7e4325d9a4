"""Which of a user's interests meets the item that was clicked (MIND, Li et al. 2019; ComiRec, Cen et al. 2020)."""

import math

import torch
from torch import Tensor


def label_attention(interests: Tensor, target: Tensor, *, power: float, allowed: Tensor | None = None) -> Tensor:
    """One user vector per row: the interests, weighted by how well they fit the clicked item.

    MIND's label-aware attention, V softmax(pow(V^T e, p)), with the sign of a score kept: sign(s) |s|^p, so that an
    interest that points away from the item never gains by an even p. An infinite power takes the best interest alone,
    which is how ComiRec trains, and is the score that all models with interests are served by.

    Args:
        interests: K vectors per row, shape (B, K, D).
        target: The clicked items, shape (B, D).
        power: p, >= 1, infinity included; no unit.
        allowed: True where an interest exists, bool, shape (B, K), at least one per row; None = everywhere.

    Returns:
        Shape (B, D).

    Raises:
        ValueError: If the shapes disagree or ``power`` is below 1.
    """
    if interests.ndim != 3 or interests.shape[::2] != target.shape:
        raise ValueError(
            f"interests {tuple(interests.shape)} and target {tuple(target.shape)} must have shapes (B, K, D) and "
            "(B, D): pass one clicked item per row."
        )
    if not power >= 1:
        raise ValueError(f"power must be at least 1, got {power}.")
    scores = torch.bmm(interests, target.unsqueeze(2)).squeeze(2)  # (B, K)
    if math.isinf(power):
        return _pick(interests, _hidden(scores, allowed).argmax(dim=1))
    weights = torch.softmax(_hidden(_signed_power(scores, power), allowed), dim=1)
    return torch.bmm(weights.unsqueeze(1), interests).squeeze(1)


def _pick(interests: Tensor, best: Tensor) -> Tensor:
    """Interest ``best[b]`` of each row, shape (B, D)."""
    column = best.view(-1, 1, 1).expand(-1, 1, interests.shape[2])
    return interests.gather(1, column).squeeze(1)


def _signed_power(scores: Tensor, power: float) -> Tensor:
    return scores if power == 1 else scores * scores.abs() ** (power - 1)


def _hidden(scores: Tensor, allowed: Tensor | None) -> Tensor:
    return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)
