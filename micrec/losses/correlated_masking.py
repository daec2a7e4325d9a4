"""Correlated feature masking (CFM): hide fields that tell the same thing together (Yao et al., CIKM 2021, sec. 3.2).

If random fields are hidden, two views of an item may share halves of a strongly dependent pair, which makes matching
them too easy. CFM draws a seed field and hides it with the fields of highest mutual information; the other view hides
the rest.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.data.dataset import Column

NUMERIC_BINS = 10


def mutual_information(codes_a: NDArray, codes_b: NDArray, weights: NDArray | None = None) -> float:
    """Mutual information of two categorical fields in the sample (Yao et al., Eq. 4).

    Args:
        codes_a: Code of each item in one field, integers >= 0, shape (n,). Missing (0) is a value like any other.
        codes_b: Code of each item in the other field, shape (n,).
        weights: Weight of each item, >= 0, shape (n,), such as its clicks; None = all equal.

    Returns:
        Sum over value pairs of P(a, b) log(P(a, b) / (P(a) P(b))), in nats, >= 0. A field with itself: its entropy.

    Raises:
        ValueError: If shapes differ, or the weights are negative, not finite, or all zero.
    """
    if codes_a.ndim != 1 or codes_a.shape != codes_b.shape:
        raise ValueError(f"codes_a {codes_a.shape} and codes_b {codes_b.shape} must have the same shape (n,).")
    shares = _shares(len(codes_a), weights)
    return _mutual_information(_Marginal.of(codes_a, shares), _Marginal.of(codes_b, shares), shares)


def field_mutual_information(codes: NDArray, weights: NDArray | None = None) -> NDArray[np.float64]:
    """Mutual information of every pair of fields, computed once before training.

    Args:
        codes: One code per item and field, integers >= 0, shape (n, F); see ``field_codes``.
        weights: As in ``mutual_information``, shape (n,).

    Returns:
        Symmetric matrix in nats, shape (F, F), with the fields' entropies on the diagonal.

    Raises:
        ValueError: As ``mutual_information``.
    """
    if codes.ndim != 2:
        raise ValueError(f"codes {codes.shape} must have shape (n, F): one code per item and field.")
    shares = _shares(len(codes), weights)
    fields = [_Marginal.of(column, shares) for column in codes.T]
    information = np.zeros((len(fields), len(fields)))
    for i, j in combinations_with_replacement(range(len(fields)), 2):
        information[i, j] = information[j, i] = _mutual_information(fields[i], fields[j], shares)
    return information


def correlated_masks(
    information: Tensor, *, generator: torch.Generator, num_masked: int | None = None
) -> tuple[Tensor, Tensor]:
    """Which fields each of two complementary views keeps; call it once per batch, so that the seed field changes.

    The first view hides a seed field, drawn uniformly, and the fields that share most information with it; the second
    view hides all others. Equal information goes to the earlier field.

    Args:
        information: Mutual information of the fields, shape (F, F).
        generator: Source of the seed field.
        num_masked: Fields hidden in the first view, seed included, in [1, F - 1]; None = floor(F / 2). The paper's
            text hides the seed and floor(F / 2) more, which is floor(F / 2) + 1.

    Returns:
        Fields kept by the first and by the second view, bool, shape (F,) each, on the generator's device; their union
        is all fields, their intersection none.

    Raises:
        ValueError: If ``information`` is not square, has fewer than two fields, or ``num_masked`` is out of range.
    """
    n_fields = len(information)
    if information.shape != (n_fields, n_fields) or n_fields < 2:
        raise ValueError(
            f"information {tuple(information.shape)} must have shape (F, F) with F >= 2: one field cannot be split "
            "between two views, use element dropout."
        )
    num_masked = n_fields // 2 if num_masked is None else num_masked
    if not 1 <= num_masked < n_fields:
        raise ValueError(f"num_masked must be in [1, {n_fields - 1}], got {num_masked}: both views keep a field.")
    device = generator.device
    seed = torch.randint(n_fields, (1,), generator=generator, device=device)
    with_seed = information.to(device)[seed].squeeze(0).index_fill(0, seed, torch.inf)  # (F,), the seed first of all
    masked = with_seed.argsort(descending=True, stable=True)[:num_masked]
    keep = torch.ones(n_fields, dtype=torch.bool, device=device).index_fill(0, masked, False)
    return keep, ~keep


def field_codes(columns: Sequence[Column]) -> NDArray[np.int64]:
    """One code per item and field, for ``field_mutual_information``; 0 = missing.

    A multi-valued field counts by its first value, as sources list the most telling tag first; a numeric field by its
    quantile bin, ``NUMERIC_BINS`` of them.

    Args:
        columns: Encoded fields of the same n items.

    Returns:
        Codes, shape (n, F), in the order of ``columns``.
    """
    return np.stack([_one_code(column) for column in columns], axis=1)


class _Marginal(NamedTuple):
    """A field with its codes renumbered 0 .. V - 1 and the probability of each."""

    codes: NDArray[np.int64]  # (n,)
    probability: NDArray[np.float64]  # (V,)

    @classmethod
    def of(cls, codes: NDArray, shares: NDArray[np.float64]) -> "_Marginal":
        values, dense = np.unique(codes, return_inverse=True)
        probability: NDArray[np.float64] = np.bincount(dense, weights=shares, minlength=len(values)).astype(np.float64)
        return cls(dense, probability)


def _mutual_information(a: _Marginal, b: _Marginal, shares: NDArray[np.float64]) -> float:
    keys, pair = np.unique(a.codes * len(b.probability) + b.codes, return_inverse=True)  # observed pairs only
    joint = np.bincount(pair, weights=shares, minlength=len(keys))
    keys, joint = keys[joint > 0], joint[joint > 0]
    row, column = np.divmod(keys, len(b.probability))
    independent = a.probability[row] * b.probability[column]
    return max(float(np.sum(joint * np.log(joint / independent))), 0.0)


def _shares(n: int, weights: NDArray | None) -> NDArray[np.float64]:
    """Weights scaled to sum 1, shape (n,)."""
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(f"weights {weights.shape} must have shape ({n},): one weight per item.")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise ValueError("weights must be finite and >= 0, with at least one > 0.")
    return weights / weights.sum()


def _one_code(column: Column) -> NDArray[np.int64]:
    if column.codes is not None:
        return column.codes.astype(np.int64)
    if column.numbers is not None:
        return _quantile_bin(column.numbers)
    assert column.values is not None
    assert column.offsets is not None
    starts, filled = column.offsets[:-1], np.diff(column.offsets) > 0
    first = np.zeros(len(starts), dtype=np.int64)
    first[filled] = column.values[starts[filled]]
    return first


def _quantile_bin(numbers: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bins 1 .. NUMERIC_BINS of about equal size, equal numbers in the same bin; 0 = NaN."""
    known = ~np.isnan(numbers)
    bins = np.zeros(len(numbers), dtype=np.int64)
    if known.any():
        edges = np.quantile(numbers[known], np.linspace(0, 1, NUMERIC_BINS + 1)[1:-1])
        bins[known] = 1 + np.searchsorted(edges, numbers[known], side="right")
    return bins
