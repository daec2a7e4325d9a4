"""Title vectors that tell which titles share rare words: a factor of the squared-cosine kernel of TF-IDF titles.

With x the unit-length TF-IDF vector of a title, K_ij = (x_i . x_j)^2, and the vectors are the rows of U S^(1/2) of its
largest singular triples, each of length 1: their dot products are near K where K is large. A plain SVD of the titles
keeps what many titles share, such as the words of a category; squaring favours pairs that share most of their words.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

ROUNDS, OVERSAMPLES = 4, 10  # of the subspace iteration


def title_vectors(titles: Sequence[str | None], dim: int) -> NDArray[np.float32]:
    """Vectors of the titles, shape (N, dim), float32, of length 1; zero for a title without a word of two titles.

    Words are what stands between spaces, in lower case; those of a single title tell of no other and are left out. The
    kernel's matrix is sparse: its size follows the pairs of titles that share a word. The iteration is seeded.
    """
    words = _tfidf(titles)
    vectors = np.zeros((len(titles), dim), dtype=np.float32)
    if words is None:
        return vectors
    kernel = (words @ words.T).power(2).tocsr()
    factors = _largest_factors(kernel, min(dim, kernel.shape[0]))
    norms = np.linalg.norm(factors, axis=1, keepdims=True)
    vectors[:, : factors.shape[1]] = np.divide(factors, norms, out=np.zeros_like(factors), where=norms > 1e-6)
    return vectors


def _tfidf(titles: Sequence[str | None]) -> sp.csr_matrix | None:
    """Unit rows of TF-IDF, (N, words); None if no two titles share a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(min_df=2, token_pattern=r"\S+", sublinear_tf=True, dtype=np.float32)
    try:
        return vectorizer.fit_transform([title or "" for title in titles])
    except ValueError as fault:
        if "empty vocabulary" in str(fault) or "no terms remain" in str(fault):
            return None
        raise


def _largest_factors(kernel: sp.csr_matrix, dim: int) -> NDArray[np.float32]:
    """U S^(1/2) of the largest singular values of a symmetric matrix, by subspace iteration (Halko et al. 2011)."""
    wide = min(dim + OVERSAMPLES, kernel.shape[0])
    basis = np.random.default_rng(0).standard_normal((kernel.shape[0], wide)).astype(np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(kernel @ basis)[0]
    values, inner = np.linalg.eigh(basis.T @ (kernel @ basis))
    order = np.argsort(-values)[:dim]
    return ((basis @ inner[:, order]) * np.sqrt(np.maximum(values[order], 0.0))).astype(np.float32)
