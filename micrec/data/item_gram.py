"""The Gram matrix of items over users, and its inverse with a ridge: what EASE (Steck 2019) is solved from."""

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

BLOCK_ITEMS = 1_024  # rows of the matrix that are worked on together


def dense_gram(clicks: sp.csr_array) -> NDArray[np.float64]:
    """X'X, shape (n, n), of X with a row for each user and a column for each item, shape (U, n)."""
    n, transposed = clicks.shape[1], sp.csr_array(clicks.T)
    gram = np.empty((n, n))
    for first in range(0, n, BLOCK_ITEMS):
        gram[first : first + BLOCK_ITEMS] = (transposed[first : first + BLOCK_ITEMS] @ clicks).toarray()
    return gram


def ridge_inverse(gram: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """(gram + ridge I)^-1, by Cholesky in the place of the symmetric ``gram``, shape (n, n); ``ridge`` > 0."""
    n = len(gram)
    gram[np.diag_indices(n)] += ridge
    factor, fault = scipy.linalg.lapack.dpotrf(gram.T, lower=1, overwrite_a=1)
    assert fault == 0, "a Gram matrix with a ridge is positive definite"
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    for first in range(0, n, BLOCK_ITEMS):  # LAPACK fills the lower triangle alone
        last = min(first + BLOCK_ITEMS, n)
        inverse[first:last, last:] = inverse[last:, first:last].T
        corner = np.tril(inverse[first:last, first:last])
        inverse[first:last, first:last] = corner + np.tril(corner, -1).T
    filled: NDArray[np.float64] = inverse
    return filled
