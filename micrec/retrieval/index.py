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

    Wide enough for k: where the cells or links that an approximate index looks at hold fewer than k vectors, the query
    is searched exactly.

    Returns:
        Scores, shape (Q, k), and rows, shape (Q, k); -inf and -1 where k exceeds the vectors there are.
    """
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


def measure_recall(
    index: faiss.Index, kind: IndexKind, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> IndexReport:
    """Compare ``index`` over ``vectors``, shape (M, D), with exact search for some queries, shape (Q, D).

    A vector that scores as high as the k-th best is right, whichever of several equals it is.
    """
    k = min(k, len(vectors))
    exact, _ = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
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
