"""Title vectors that tell which titles share rare words: unit vectors whose products are near a kernel of the titles.

With x the unit-length TF-IDF vector of a title, K_ij = (x_i . x_j)^2; squaring favours pairs that share most of their
words over the words that many titles share. The vectors t of N titles start at the largest factors of K, each divided
by its length, and are moved along the gradient of sum over i, j of (t_i . t_j - K_ij)^2 on the unit sphere.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.data.title_vocabulary import TitleWords

ROUNDS, OVERSAMPLES = 4, 10  # of the subspace iteration
STEPS, RATE = 60, 0.02  # of the descent, Adam with a rate that falls to zero
MOST_KEPT = 1 << 26  # bytes of the latest result
RIDGE = 1e-3  # share of the mean eigenvalue that is added where a new title is placed

_LATEST: dict[bytes, NDArray[np.float32]] = {}  # by what it was made of


def title_vectors(titles: Sequence[str | None], dim: int) -> NDArray[np.float32]:
    """Vectors of the titles, shape (N, dim), float32, of length 1; zero for a title without a word of two titles.

    The kernel's matrix is sparse: its size follows the pairs of titles that share a word. All of it is seeded.
    """
    words = TitleWords.of(titles)
    return kernel_vectors(words.rows(*words.codes(titles)), dim)


def kernel_vectors(rows: sp.csr_matrix, dim: int) -> NDArray[np.float32]:
    """The same from the titles' TF-IDF rows (N, words).

    The latest result is kept where it is small: the search for the number of epochs, the training that follows it and
    further seeds ask for the same.
    """
    digest = hashlib.blake2b(repr((rows.shape, dim)).encode())
    for part in (rows.data, rows.indices, rows.indptr):
        digest.update(part.tobytes())
    found = _LATEST.get(digest.digest())
    if found is None:
        found = _kernel_vectors(rows, dim)
        _LATEST.clear()
        if found.nbytes <= MOST_KEPT:
            _LATEST[digest.digest()] = found
    return found.copy()


def _kernel_vectors(rows: sp.csr_matrix, dim: int) -> NDArray[np.float32]:
    vectors = np.zeros((rows.shape[0], dim), dtype=np.float32)
    if not rows.nnz:
        return vectors
    kernel = (rows @ rows.T).power(2).tocsr()
    factors = _largest_factors(kernel, min(dim, kernel.shape[0]))
    vectors[:, : factors.shape[1]] = factors
    return _descend(_unit(vectors), kernel)


def placed_vectors(new: sp.csr_matrix, known: sp.csr_matrix, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of titles that came later, shape (m, dim), of length 1 or zero, among those that are known.

    They are the least-squares solution of t . t_j = (x . x_j)^2 for all known j, divided by its length.

    Args:
        new: TF-IDF rows of the new titles, (m, words).
        known: Those of the known ones, (N, words).
        vectors: What ``kernel_vectors`` made of these, (N, dim).
    """
    gram = vectors.T.astype(np.float64) @ vectors
    gram[np.diag_indices_from(gram)] += RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    wanted = (new @ known.T).power(2) @ vectors  # (m, dim)
    return _unit(np.linalg.solve(gram, wanted.T).T.astype(np.float32))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)


def _descend(vectors: NDArray[np.float32], kernel: sp.csr_matrix) -> NDArray[np.float32]:
    """Unit vectors nearer to the kernel in squared error; zero rows stay zero. A step costs N dim^2 products."""
    start = vectors
    mean, square = np.zeros_like(vectors), np.zeros_like(vectors)
    for step in range(1, STEPS + 1):
        gradient = vectors @ (vectors.T @ vectors) - kernel @ vectors
        gradient -= (gradient * vectors).sum(axis=1, keepdims=True) * vectors  # along the sphere
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        pace = RATE * (1 - (step - 1) / STEPS) / (1 - 0.9**step)
        moved = vectors - pace * mean / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        vectors = np.where(np.any(vectors, axis=1, keepdims=True), _unit(moved), vectors).astype(np.float32)
    return vectors if _error(vectors, kernel) < _error(start, kernel) else start


def _error(vectors: NDArray[np.float32], kernel: sp.csr_matrix) -> float:
    """Squared error of all pairs, up to what the vectors do not change."""
    gram = vectors.T.astype(np.float64) @ vectors
    return float((gram**2).sum() - 2 * (vectors * (kernel @ vectors)).sum())


def _largest_factors(kernel: sp.csr_matrix, dim: int) -> NDArray[np.float32]:
    """U S^(1/2) of the largest singular values of a symmetric matrix, by subspace iteration (Halko et al. 2011)."""
    wide = min(dim + OVERSAMPLES, kernel.shape[0])
    basis = np.random.default_rng(0).standard_normal((kernel.shape[0], wide)).astype(np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(kernel @ basis)[0]
    values, inner = np.linalg.eigh(basis.T @ (kernel @ basis))
    order = np.argsort(-values)[:dim]
    return ((basis @ inner[:, order]) * np.sqrt(np.maximum(values[order], 0.0))).astype(np.float32)
