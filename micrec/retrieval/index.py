"""FAISS indexes by inner product: flat, IVF, HNSW, and how often they find what exact search finds."""

from typing import Any, Literal, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

IndexKind = Literal["flat", "ivf", "hnsw"]
INDEX_KINDS: tuple[IndexKind, ...] = ("flat", "ivf", "hnsw")

POINTS_PER_CELL = 39  # FAISS wants at least as many to place the centre of an IVF cell
SEARCHED_CELLS = 8  # one cell in so many is searched, or more for a long list
LINKS, BUILD_WIDTH, SEARCH_WIDTH = 32, 200, 256  # of HNSW
ROUNDING = 1e-5  # relative: the same product comes out a little different in another order of summation


class IndexReport(NamedTuple):
    """How well an index agreed with exact search when it was built."""

    kind: IndexKind
    items: int
    k: int
    queries: int
    recall: float  # mean share of the exact top k that the index found


def build_index(vectors: NDArray[np.float32], kind: IndexKind) -> faiss.Index:
    """An index over item vectors, shape (M, D); a result's row is the row of ``vectors``.

    - flat: every vector is compared; exact.
    - ivf: vectors in 4 sqrt(M) cells around centres by k-means, of which one in eight is searched.
    - hnsw: a graph of 32 links per vector. Built by inner product, not by distance, which would rank otherwise.
      Several threads build it, so that two builds may differ in a few links.

    Raises:
        ValueError: If there is no vector.
    """
    n, dim = vectors.shape
    if n == 0:
        raise ValueError("the index needs at least one vector.")
    metric = faiss.METRIC_INNER_PRODUCT
    index: Any
    if kind == "flat":
        index = faiss.IndexFlatIP(dim)
    elif kind == "ivf":
        cells = max(1, min(int(4 * np.sqrt(n)), n // POINTS_PER_CELL))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, metric)
        index.cp.min_points_per_centroid = 1  # no warning about a catalogue too small for one full cell
        index.train(vectors)
        index.nprobe = -(-cells // SEARCHED_CELLS)
    else:
        index = faiss.IndexHNSWFlat(dim, LINKS, metric)
        index.hnsw.efConstruction = BUILD_WIDTH
        index.hnsw.efSearch = SEARCH_WIDTH
    index.add(vectors)
    return index


def search(index: faiss.Index, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k vectors of highest inner product with each query, shape (Q, D), best first.

    A query of K interests, shape (Q, K, D), scores a vector by the highest of its K products. What is among its k best
    is among the k best of one of its interests, so the K lists are searched and merged, and nothing is lost. Wide
    enough for k: where the cells or links that an approximate index looks at hold fewer than k vectors, the query is
    searched exactly.

    Returns:
        Scores, shape (Q, k), and rows, shape (Q, k); -inf and -1 where k exceeds the vectors there are.
    """
    if queries.ndim == 3:
        scores, rows = search(index, queries.reshape(-1, queries.shape[2]), k)  # (Q * K, k)
        return merge_lists(scores.reshape(len(queries), -1), rows.reshape(len(queries), -1), k)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    found = min(k, index.ntotal)
    if len(queries) == 0 or found == 0:
        return scores, rows
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    scores[:, :found], rows[:, :found] = index.search(queries, found, params=_width(index, found))
    short = (rows[:, :found] < 0).any(axis=1)
    if short.any():
        scores[short, :found], rows[short, :found] = _search_exactly(index, queries[short], found)
    return scores, rows


def merge_lists(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best of several lists per query, shape (Q, n) with n >= k, each row once with its highest score.

    Best first, ties by row; rows of -1 are padding, and stay behind all others.
    """
    scores = np.where(rows < 0, -np.inf, scores)
    order = np.lexsort((-scores, rows), axis=1)  # by row, its best score first
    scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, dtype=bool)
    again[:, 1:] = rows[:, 1:] == rows[:, :-1]
    gone = again | (rows < 0)
    scores, rows = np.where(gone, np.float32(-np.inf), scores), np.where(gone, -1, rows)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)


def measure_recall(
    index: faiss.Index, kind: IndexKind, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> IndexReport:
    """Compare ``index`` over ``vectors``, shape (M, D), with exact search for some queries, (Q, D) or (Q, K, D).

    A vector that scores as high as the k-th best is right, whichever of several equals it is.
    """
    k = min(k, len(vectors))
    flat = queries.reshape(-1, queries.shape[-1])
    exact, rows = faiss.knn(flat, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    if queries.ndim == 3:
        exact, _ = merge_lists(exact.reshape(len(queries), -1), rows.reshape(len(queries), -1), k)
    least = exact[:, -1:]  # (Q, 1)
    found, _ = search(index, queries, k)
    recall = float((found >= least - ROUNDING * np.abs(least)).mean()) if len(queries) else 1.0
    return IndexReport(kind, len(vectors), k, len(queries), recall)


def _width(index: faiss.Index, k: int) -> Any:
    """How much of an approximate index is searched for a list of k."""
    if isinstance(index, faiss.IndexHNSW):
        return _parameters("SearchParametersHNSW", efSearch=max(index.hnsw.efSearch, 2 * k))
    if isinstance(index, faiss.IndexIVF):
        enough = -(-4 * k * index.nlist // index.ntotal)  # cells that hold 4 k vectors, were all of one size
        return _parameters("SearchParametersIVF", nprobe=min(index.nlist, max(index.nprobe, enough)))
    return None


def _search_exactly(index: Any, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if isinstance(index, faiss.IndexHNSW):
        index, parameters = faiss.downcast_index(index.storage), None
    else:
        parameters = _parameters("SearchParametersIVF", nprobe=index.nlist)
    scores, rows = index.search(queries, k, params=parameters)
    return scores, rows


def _parameters(name: str, **values: int) -> Any:
    return getattr(faiss, name)(**values)  # the stubs of FAISS know neither all names nor the keywords
