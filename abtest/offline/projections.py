"""Embeddings in the plane: principal components, t-SNE, and one plane turned onto another. All are deterministic."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Method = Literal["pca", "tsne"]
METHODS: tuple[Method, ...] = ("pca", "tsne")

Matrix = NDArray[np.float64]


class Plane(NamedTuple):
    """Points in the plane, centred, shape (n, 2), and how much of the spread they show (None: means nothing here)."""

    points: Matrix
    share: float | None


def plane(embeddings: Matrix, method: Method, *, seed: int = 0) -> Plane:
    """Lay out embeddings (n, D), n >= 3.

    Args:
        embeddings: Rows.
        method: ``pca`` or ``tsne``.
        seed: Random seed of t-SNE, which starts from the principal components.
    """
    return principal(embeddings) if method == "pca" else Plane(neighbour_map(embeddings, seed=seed), None)


def principal(embeddings: Matrix) -> Plane:
    """The first two principal components; of each the largest loading is positive, which fixes its sign."""
    centred = embeddings - embeddings.mean(axis=0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    axes = directions[:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    points = centred @ axes.T
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((values**2).sum())
    return Plane(points, float((values[:2] ** 2).sum()) / total if total > 0 else None)


def neighbour_map(embeddings: Matrix, *, seed: int) -> Matrix:
    """t-SNE (van der Maaten and Hinton 2008) by scikit-learn, perplexity 30 or a third of the points."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(embeddings)
    points = np.asarray(found, dtype=np.float64)
    return points - points.mean(axis=0)


def turned_onto(points: Matrix, reference: Matrix) -> Matrix:
    """``points`` rotated or mirrored, not stretched, to lie as near to ``reference`` as they can; both (n, 2), centred.

    Orthogonal Procrustes (Schoenemann 1966): the axes of a layout mean nothing, so that two may be turned alike.
    """
    left, _, right = np.linalg.svd(points.T @ reference)
    return points @ (left @ right)
