"""Start values of item vectors from EASE (Steck 2019), so that training begins where a linear model ends."""

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.data.item_gram import dense_gram, ridge_inverse
from micrec.models.start import StartValues

MOST_ITEMS = 5_000  # of the matrix that is inverted: some seconds
OVERSAMPLES, ROUNDS = 10, 4  # of the randomised SVD


def ease_factors(values: StartValues, dim: int, *, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Item vectors p and q, shape (N, D) each, whose products q_j . p_i are near EASE's weights of j for i.

    Of the matrix without its diagonal the ``dim`` largest singular values are kept, their roots on both sides. The
    matrix is that of the ``MOST_ITEMS`` items with most clicks, of equals those of the lower ids.

    Returns:
        p, q, and which items have them, bool, shape (N,); the others are zero.
    """
    clicks = values.item_clicks.cpu().numpy()
    known = np.sort(np.argsort(-clicks, kind="stable")[: min(MOST_ITEMS, int((clicks > 0).sum()))])
    place = np.full(len(clicks), -1)
    place[known] = np.arange(len(known))
    users, items = values.users.cpu().numpy(), place[values.items.cpu().numpy()]
    pairs = (users[items >= 0], items[items >= 0])
    counted = sp.csr_array((np.ones(len(pairs[0])), pairs), shape=(values.n_users, len(known)))
    counted.data = np.log1p(counted.data)
    weights = _weights(counted, ridge)
    left, right = _halves(weights, min(dim, len(known)))
    p, q = np.zeros((len(clicks), dim), np.float32), np.zeros((len(clicks), dim), np.float32)
    p[known, : right.shape[1]], q[known, : left.shape[1]] = right, left
    return torch.from_numpy(p), torch.from_numpy(q), torch.from_numpy(place >= 0)


def _weights(counted: sp.csr_array, ridge: float) -> NDArray[np.float64]:
    """EASE's B, shape (n, n), with zeros on the diagonal, float64."""
    inverse = ridge_inverse(dense_gram(counted), ridge)
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0.0
    return weights


def _halves(matrix: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """U S^(1/2) and V S^(1/2) of the largest singular values, by subspace iteration (Halko et al. 2011), seeded."""
    matrix = matrix.astype(np.float32)
    wide = min(dim + OVERSAMPLES, len(matrix))
    basis = np.random.default_rng(0).standard_normal((len(matrix), wide)).astype(np.float32)
    for _ in range(ROUNDS):
        basis, _ = scipy.linalg.qr(matrix @ basis, mode="economic", check_finite=False)
        basis, _ = scipy.linalg.qr(matrix.T @ basis, mode="economic", check_finite=False)
    basis, _ = scipy.linalg.qr(matrix @ basis, mode="economic", check_finite=False)
    inner, sizes, right = scipy.linalg.svd(basis.T @ matrix, full_matrices=False, check_finite=False)
    roots = np.sqrt(sizes[:dim])
    return (basis @ inner[:, :dim]) * roots, right[:dim].T * roots
