"""FAISS indexes against a full sort of the inner products."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

import micrec.retrieval.index as index_module
from micrec.retrieval import INDEX_KINDS, build_index, measure_recall, search


class TestIndex:
    def vectors(self, n: int = 2000) -> NDArray[np.float32]:
        """Directions at random and lengths that differ a hundredfold: no distance ranks like the inner product."""
        rng = np.random.default_rng(0)
        lengths = np.exp(rng.normal(0, 1.5, (n, 1)))
        return (rng.normal(size=(n, 16)) * lengths).astype(np.float32)

    def queries(self, n: int = 50) -> NDArray[np.float32]:
        return np.random.default_rng(1).normal(size=(n, 16)).astype(np.float32)

    @pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("ivf", 0.4), ("hnsw", 0.95)])
    def test_it_ranks_by_inner_product(self, kind, least):
        vectors, queries = self.vectors(), self.queries()
        index = build_index(vectors, kind)
        assert index.metric_type == faiss.METRIC_INNER_PRODUCT
        scores, rows = search(index, queries, 20)
        products = queries.astype(np.float64) @ vectors.T.astype(np.float64)
        np.testing.assert_allclose(scores, np.take_along_axis(products, rows, axis=1), rtol=1e-3, atol=1e-4)
        assert (np.diff(scores, axis=1) <= 0).all()
        best = np.argsort(-products, axis=1)[:, :20]
        recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(rows.tolist(), best.tolist(), strict=True)])
        assert recall >= least  # for IVF the worst case: noise has no cells
        assert measure_recall(index, kind, vectors, queries, 20) == (kind, 2000, 20, 50, pytest.approx(recall))

    def test_of_equals_any_is_right(self):
        """Ten copies of one vector: which five of them are found says nothing of the index."""
        vectors = np.ones((10, 4), dtype=np.float32)
        index = build_index(vectors, "flat")
        assert measure_recall(index, "flat", vectors, vectors[:3], 5).recall == 1.0

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_longer_lists_than_there_are_vectors_are_padded(self, kind):
        scores, rows = search(build_index(self.vectors(3), kind), self.queries(2), 5)
        assert [sorted(row) for row in rows.tolist()] == [[-1, -1, 0, 1, 2]] * 2
        assert np.isneginf(scores[:, 3:]).all()
        assert search(build_index(self.vectors(3), kind), self.queries(0), 5)[1].shape == (0, 5)

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_the_search_widens_with_the_list(self, kind):
        """However long the list, it is full."""
        index = build_index(self.vectors(500), kind)
        for k in (100, 300, 500):
            assert (search(index, self.queries(10), k)[1] >= 0).all()

    def test_a_short_answer_is_replaced_by_the_exact_one(self, monkeypatch):
        """One cell of many cannot hold half of the vectors."""
        vectors, queries = self.vectors(400), self.queries(5)
        monkeypatch.setattr(index_module, "_width", lambda *_: faiss.SearchParametersIVF(nprobe=1))
        _, rows = search(build_index(vectors, "ivf"), queries, 200)
        best = np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1)[:, :200]
        assert [set(row) for row in rows.tolist()] == [set(row) for row in best.tolist()]

    def test_a_graph_that_leads_nowhere_is_left_for_an_exact_search(self):
        vectors, queries = self.vectors(50), self.queries(5)
        index = build_index(vectors, "hnsw")
        _, rows = index_module._search_exactly(index, queries, 50)
        np.testing.assert_array_equal(rows, np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1))

    def test_an_empty_catalogue_is_refused(self):
        with pytest.raises(ValueError, match="at least one vector"):
            build_index(self.vectors(0), "flat")
