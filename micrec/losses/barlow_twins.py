"""Barlow Twins: two views of the same items agree in every number, and the numbers tell different things."""

import torch
from torch import Tensor

EPS = 1e-5  # added to the variances, as batch normalisation does


def barlow_twins(first: Tensor, second: Tensor, *, redundancy: float, real: Tensor | None = None) -> Tensor:
    """Sum of (1 - C_ii)^2, plus ``redundancy`` times the sum of C_ij^2 over i != j (Zbontar et al. 2021, Eq. 1).

    C is the correlation of number i of one view with number j of the other, over the rows. There are no negatives.

    Args:
        first: One view, shape (A, D).
        second: The other view of the same rows, shape (A, D).
        redundancy: Weight of the second sum, the paper's lambda, >= 0; .005 there.
        real: True where a row counts, bool, shape (A,); None: everywhere.

    Returns:
        Loss without unit, shape (), float32 or wider; 0 for fewer than two rows, where nothing varies.

    Raises:
        ValueError: If the shapes differ.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"first {tuple(first.shape)} and second {tuple(second.shape)} must have the same shape (A, D): pass two "
            "views of the same rows."
        )
    if len(first) < 2:
        return (first.sum() + second.sum()) * 0.0
    if real is not None:
        count = real.sum()
        correlation = _standardised_real(first, real).T @ _standardised_real(second, real) / count.clamp_min(1)
        return torch.where(count < 2, 0.0, _distance(correlation, redundancy))
    return _distance(_standardised(first).T @ _standardised(second) / len(first), redundancy)


def _distance(correlation: Tensor, redundancy: float) -> Tensor:
    """Of a correlation matrix, shape (D, D), from what it should be."""
    diagonal = torch.diagonal(correlation)
    beside = correlation.square().sum() - diagonal.square().sum()
    return (1.0 - diagonal).square().sum() + redundancy * beside


def _standardised(view: Tensor) -> Tensor:
    view = view.to(torch.promote_types(view.dtype, torch.float32))
    centred = view - view.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + EPS).rsqrt()


def _standardised_real(view: Tensor, real: Tensor) -> Tensor:
    """The same by the rows that count; the others are 0."""
    view = view.to(torch.promote_types(view.dtype, torch.float32))
    shown, count = real[:, None], real.sum().clamp_min(1)
    centred = (view - (view * shown).sum(dim=0) / count) * shown
    return centred * (centred.square().sum(dim=0) / count + EPS).rsqrt()
