"""Indexes by inner product (flat, IVF, IVF-PQ and HNSW by FAISS, and a tree), and their recall against exact search."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.retrieval.tree import TreeIndex

IndexKind = Literal["flat", "ivf", "ivfpq", "hnsw", "tree"]
INDEX_KINDS: tuple[IndexKind, ...] = ("flat", "ivf", "ivfpq", "hnsw", "tree")
Index = faiss.Index | TreeIndex

POINTS_PER_CELL = 39  # FAISS wants at least as many to place the centre of an IVF cell
MOST_POINTS_PER_CELL, CELL_ROUNDS = 64, 10  # of k-means; FAISS's 256 and 25 take far longer, for .004 of recall at most
SEARCHED_CELLS = 8  # one cell in so many is searched, or more for a long list
CODE_NUMBERS, CODE_BITS = 2, 8  # of ivfpq: numbers of a vector that one code stands for, and its bits
LINKS, BUILD_WIDTH, SEARCH_WIDTH = 32, 200, 256  # of HNSW
DEPTHS = (10, 50, 100, 500)  # list lengths at which recall is measured
LEAST_QUERIES, MOST_PRODUCTS = 100, 100_000_000  # of a measurement of recall, as far as there are queries
ROUNDING = 1e-6  # of the product of two lengths: what an inner product in float32 may be off by
_BLOCK_FLOATS = 1 << 22  # vectors gathered together, in float64


class DepthRecall(NamedTuple):
    """How well an index agreed with exact search for lists of k, searched as widely as serving searches for them."""

    k: int
    recall: float  # mean share of the exact top k that the index found
    width: int | None  # cells searched (ivf), entries kept (hnsw), nodes of a level (tree); None: all (flat)


class IndexReport(NamedTuple):
    """How well an index agreed with exact search when it was built."""

    kind: IndexKind
    items: int
    queries: int
    cells: int | None  # of ivf and ivfpq
    depths: tuple[DepthRecall, ...]  # ascending; a list as long as the index returns every item and is left out

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return {**self._asdict(), "depths": [depth._asdict() for depth in self.depths]}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "IndexReport":
        """What ``as_dict`` gave, also after JSON.

        Raises:
            ValueError: If an entry is missing, of the wrong type or out of range.
        """
        stored = present_form(stored)
        items, kind = _count(stored, "items"), stored.get("kind")
        if kind not in INDEX_KINDS:
            raise ValueError(f"kind must be one of {', '.join(INDEX_KINDS)}, got {kind!r}")
        asked = stored.get("depths")
        if not isinstance(asked, list | tuple) or not all(isinstance(one, Mapping) for one in asked):
            raise ValueError(f"depths must be a list of mappings, got {asked!r}")
        depths = [
            DepthRecall(_count(one, "k"), _share(one, "recall"), _count(one, "width", optional=True)) for one in asked
        ]
        queries, cells = _count(stored, "queries"), _count(stored, "cells", optional=True)
        return cls(kind, items, queries, cells, tuple(one for one in depths if one.k < items))


def present_form(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored report as today's; bundles of earlier versions knew the recall at one depth."""
    if "depths" in stored or "recall" not in stored:
        return dict(stored)
    depth = {"k": stored.get("k"), "recall": stored["recall"], "width": None}
    kept = {name: stored.get(name) for name in ("kind", "items", "queries")}
    return {**kept, "cells": None, "depths": [depth]}


def _count(stored: Mapping[str, Any], key: str, *, optional: bool = False) -> Any:
    value = stored.get(key)
    if not (optional and value is None) and (type(value) is not int or value < 0):
        raise ValueError(f"{key} must be a count, got {value!r}")
    return value


def _share(stored: Mapping[str, Any], key: str) -> float:
    value = stored.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{key} must be a share, got {value!r}")
    return float(value)


def build_index(vectors: NDArray[np.float32], kind: IndexKind) -> Index:
    """An index over item vectors, shape (M, D); a result's row is the row of ``vectors``.

    - flat: every vector is compared; exact.
    - ivf: vectors in 4 sqrt(M) cells around centres by k-means, of which one in eight is searched.
    - ivfpq: the same cells, in which a code of eight bits stands for two numbers of a vector (product quantisation,
      Jégou et al. 2011): an eighth of the memory, and scores that are near. For catalogues of millions.
    - hnsw: a graph of 32 links per vector. Built by inner product, not by distance, which would rank otherwise.
      Several threads build it, so that two builds may differ in a few links.
    - tree: a balanced binary tree, of which a beam search looks into some leaves, see ``micrec.retrieval.tree``.

    Raises:
        ValueError: If there is no vector.
    """
    n, dim = vectors.shape
    if n == 0:
        raise ValueError("the index needs at least one vector.")
    if kind == "tree":
        return TreeIndex.of(vectors)
    metric = faiss.METRIC_INNER_PRODUCT
    index: Any
    if kind == "flat":
        index = faiss.IndexFlatIP(dim)
    elif kind in ("ivf", "ivfpq"):
        cells = max(1, min(int(4 * np.sqrt(n)), n // POINTS_PER_CELL))
        if kind == "ivfpq":
            vectors = _widened(vectors, dim + dim % CODE_NUMBERS)
            index = _coded(vectors.shape[1], cells, metric)
        else:
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, metric)
        index.cp.max_points_per_centroid, index.cp.niter = MOST_POINTS_PER_CELL, CELL_ROUNDS
        index.cp.min_points_per_centroid = 1  # no warning about a catalogue too small for one full cell
        least = 1 << CODE_BITS if kind == "ivfpq" else 0  # codes are centres, of which there are not more than vectors
        index.train(vectors if n >= least else np.resize(vectors, (least, vectors.shape[1])))
        index.nprobe = -(-cells // SEARCHED_CELLS)
    else:
        index = faiss.IndexHNSWFlat(dim, LINKS, metric)
        index.hnsw.efConstruction = BUILD_WIDTH
        index.hnsw.efSearch = SEARCH_WIDTH
    index.add(vectors)
    return index


def search(index: Index, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k vectors of highest inner product with each query, shape (Q, D), best first.

    A query of K interests, shape (Q, K, D), scores a vector by the highest of its K products. What is among its k best
    is among the k best of one of its interests, so the K lists are searched and merged, and nothing is lost. Wide
    enough for k: where the cells or links that an approximate index looks at hold fewer than k vectors, the query is
    searched exactly.

    Returns:
        Scores, shape (Q, k), and rows, shape (Q, k); -inf and -1 where k exceeds the vectors there are.

    Raises:
        ValueError: If the queries are of another width than the vectors.
    """
    if queries.ndim == 3:
        scores, rows = search(index, queries.reshape(-1, queries.shape[2]), k)  # (Q * K, k)
        return merge_lists(scores.reshape(len(queries), -1), rows.reshape(len(queries), -1), k)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    found = min(k, index.ntotal)
    if len(queries) == 0 or found == 0:
        return scores, rows
    queries = _as_wide(np.ascontiguousarray(queries, dtype=np.float32), index)
    ask: Any = index.search
    scores[:, :found], rows[:, :found] = ask(queries, found, params=_width(index, found))
    short = (rows[:, :found] < 0).any(axis=1)
    if short.any():
        scores[short, :found], rows[short, :found] = _search_exactly(index, queries[short], found)
    return scores, rows


def _coded(dim: int, cells: int, metric: int) -> Any:
    """An untrained index of codes; what is stored can be asked for by its row."""
    index: Any = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, cells, dim // CODE_NUMBERS, CODE_BITS, metric)
    index.pq.cp.min_points_per_centroid = 1
    index.set_direct_map_type(faiss.DirectMap.Array)  # type: ignore[attr-defined]
    return index


def _widened(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Vectors (n, D) with zeros behind, up to ``dim`` numbers: no product changes."""
    missing = dim - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors


def _as_wide(vectors: NDArray[np.float32], index: Index) -> NDArray[np.float32]:
    """Vectors (n, D) as an index takes them, which for codes may be wider by a zero."""
    if not fits_width(index, vectors.shape[1]):
        raise ValueError(f"vectors of {vectors.shape[1]} numbers do not fit an index of {index.d}.")
    return _widened(vectors, index.d)


def fits_width(index: Index, dim: int) -> bool:
    """Whether the index holds vectors of ``dim`` numbers."""
    return index.d == dim + (dim % CODE_NUMBERS if index_kind(index) == "ivfpq" else 0)


def vectors_at(index: Index, rows: NDArray[np.int64], dim: int) -> NDArray[np.float32] | None:
    """What an index of codes makes of some rows, shape (m, D), by which it scores them; None: it keeps the vectors."""
    if index_kind(index) != "ivfpq":
        return None
    reconstruct: Any = index.reconstruct_batch  # type: ignore[union-attr]
    found: NDArray[np.float32] = reconstruct(rows)[:, :dim] if len(rows) else np.empty((0, dim), np.float32)
    return found


def stored_vectors(index: Index) -> NDArray[np.float32]:
    """All vectors of an index in the order of its rows, shape (M, D); of ivf and tree a copy, else what it holds.

    Of ivfpq what its codes stand for, which is near; ``exact_vectors`` has the vectors themselves.
    """
    if isinstance(index, TreeIndex):
        return index.reconstruct()
    if isinstance(index, faiss.IndexHNSW):
        index = faiss.downcast_index(index.storage)
    if isinstance(index, faiss.IndexFlat):
        flat: NDArray[np.float32] = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
        return flat.reshape(index.ntotal, index.d)
    if isinstance(index, faiss.IndexIVF):
        index = faiss.clone_index(index)
        index.make_direct_map()  # type: ignore[attr-defined]
    vectors: NDArray[np.float32] = index.reconstruct_n(0, index.ntotal)
    return vectors


def extended(index: Index, vectors: NDArray[np.float32]) -> Index:
    """Another index with more vectors, shape (m, D), behind those it has; a tree is built anew.

    Raises:
        ValueError: If they are of another width.
    """
    if isinstance(index, TreeIndex):
        return TreeIndex.of(np.concatenate([index.reconstruct(), vectors]))
    longer = faiss.clone_index(index)
    longer.add(_as_wide(vectors, index))
    return longer


def index_tensors(index: Index) -> dict[str, Tensor]:
    """An index as named tensors, for ``index_from``."""
    if isinstance(index, TreeIndex):
        return {f"tree.{name}": tensor for name, tensor in index.tensors().items()}
    return {"index": torch.from_numpy(faiss.serialize_index(index))}


def index_from(tensors: Mapping[str, Tensor]) -> Index:
    """What ``index_tensors`` gave, among other tensors.

    Raises:
        ValueError, KeyError, RuntimeError: If it is damaged.
    """
    if "index" in tensors:
        found: faiss.Index = faiss.deserialize_index(tensors["index"].numpy())
        return found
    parts = {name: tensor for name, tensor in tensors.items() if name.startswith("tree.")}
    return TreeIndex.from_tensors({name.removeprefix("tree."): tensor for name, tensor in parts.items()})


def index_kind(index: Index) -> IndexKind:
    """Which kind ``build_index`` was asked for."""
    if isinstance(index, TreeIndex):
        return "tree"
    if isinstance(index, faiss.IndexIVFPQ):
        return "ivfpq"
    return "hnsw" if isinstance(index, faiss.IndexHNSW) else "ivf" if isinstance(index, faiss.IndexIVF) else "flat"


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
    index: Index,
    kind: IndexKind,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    depths: Sequence[int] = DEPTHS,
) -> IndexReport:
    """Compare ``index`` over ``vectors``, shape (M, D), with exact search for some queries, (Q, D) or (Q, K, D).

    Each depth is asked for as serving asks, through ``search``, so that an approximate index looks at as much for a
    short list as it does in service. A vector that scores as high as the k-th best is right, whichever of several
    equals it is. Depths of M and more are left out: every item is returned there. Without a query nothing is measured.
    Of large catalogues fewer queries are taken, 100 at least, spread over those that are given: exact search of a
    thousand reads a million vectors of 64 numbers a thousand times.
    """
    few = max(LEAST_QUERIES, MOST_PRODUCTS // max(1, len(vectors)))
    if len(queries) > few:
        queries = queries[np.linspace(0, len(queries) - 1, few).astype(np.int64)]
    depths = sorted({k for k in depths if k < len(vectors)}) if len(queries) else []
    found: list[DepthRecall] = []
    if depths:
        exact = _exact_rows(vectors, queries, depths[-1])
        for width, same in groupby(depths, key=lambda k: search_width(index, k)):
            alike = list(same)  # they look at the same vectors: a shorter list is the beginning of a longer one
            _, rows = search(index, queries, alike[-1])
            found += [DepthRecall(k, _recall(vectors, queries, exact[:, :k], rows[:, :k]), width) for k in alike]
    cells = index.nlist if isinstance(index, faiss.IndexIVF) else None
    return IndexReport(kind, len(vectors), len(queries), cells, tuple(found))


def search_width(index: Index, k: int) -> int | None:
    """How wide ``search`` searches for a list of k: cells (ivf), entries that it keeps (hnsw), nodes of a level (tree).

    None: it compares all.
    """
    if isinstance(index, TreeIndex):
        return index.beam(k)
    if isinstance(index, faiss.IndexHNSW):
        return max(int(index.hnsw.efSearch), 2 * k)
    if isinstance(index, faiss.IndexIVF):
        enough = -(-4 * k * index.nlist // index.ntotal)  # cells that hold 4 k vectors, were all of one size
        return min(int(index.nlist), max(int(index.nprobe), enough))
    return None


def _exact_rows(vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the k highest products with each query, shape (Q, k), best first."""
    flat = np.ascontiguousarray(queries.reshape(-1, queries.shape[-1]), dtype=np.float32)
    scores, rows = faiss.knn(flat, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    if queries.ndim == 3:
        _, rows = merge_lists(scores.reshape(len(queries), -1), rows.reshape(len(queries), -1), k)
    return rows


def _recall(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], exact: NDArray[np.int64], found: NDArray[np.int64]
) -> float:
    """Mean share of ``found``, shape (Q, k), that score as high as the lowest of ``exact``; -1 is a miss."""
    step = max(1, _BLOCK_FLOATS // (found.shape[1] * vectors.shape[1]))
    right = 0
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        least = _products(vectors, queries[block], exact[block])[0].min(axis=1, keepdims=True)  # (b, 1)
        scores, error = _products(vectors, queries[block], found[block])
        right += int(((scores >= least - error) & (found[block] >= 0)).sum())
    return right / found.size


def _products(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of ``rows``, shape (Q, k), in float64, and how far float32 may be from them."""
    chosen = vectors[rows].astype(np.float64)  # (Q, k, D)
    asked = queries.astype(np.float64).reshape(len(queries), -1, queries.shape[-1])  # (Q, interests, D)
    scores = np.einsum("qkd,qid->qki", chosen, asked).max(axis=2)
    longest = np.linalg.norm(asked, axis=2).max(axis=1, keepdims=True)
    return scores, ROUNDING * np.linalg.norm(chosen, axis=2) * longest


def _width(index: Index, k: int) -> Any:
    """How much of an approximate index is searched for a list of k, as the index takes it."""
    width = search_width(index, k)
    if isinstance(index, TreeIndex):
        return width
    if isinstance(index, faiss.IndexHNSW):
        return _parameters("SearchParametersHNSW", efSearch=width)
    return None if width is None else _parameters("SearchParametersIVF", nprobe=width)


def _search_exactly(index: Any, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if isinstance(index, TreeIndex):
        parameters: Any = 1 << index.depth  # all leaves
    elif isinstance(index, faiss.IndexHNSW):
        index, parameters = faiss.downcast_index(index.storage), None
    else:
        parameters = _parameters("SearchParametersIVF", nprobe=index.nlist)
    scores, rows = index.search(queries, k, params=parameters)
    return scores, rows


def _parameters(name: str, **values: int | None) -> Any:
    return getattr(faiss, name)(**values)  # the stubs of FAISS know neither all names nor the keywords
