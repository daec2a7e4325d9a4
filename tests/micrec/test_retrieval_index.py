"""FAISS indexes against a full sort of the inner products."""

import json

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

import micrec.retrieval.index as index_module
from micrec.retrieval import INDEX_KINDS, DepthRecall, IndexReport, build_index, measure_recall, search


class TestIndex:
    def vectors(self, n: int = 2000) -> NDArray[np.float32]:
        """Directions at random and lengths that differ a hundredfold: no distance ranks like the inner product."""
        rng = np.random.default_rng(0)
        lengths = np.exp(rng.normal(0, 1.5, (n, 1)))
        return (rng.normal(size=(n, 16)) * lengths).astype(np.float32)

    def queries(self, n: int = 50) -> NDArray[np.float32]:
        return np.random.default_rng(1).normal(size=(n, 16)).astype(np.float32)

    @pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("ivf", 0.4), ("hnsw", 0.95), ("tree", 0.6)])
    def test_it_ranks_by_inner_product(self, kind, least):
        vectors, queries = self.vectors(), self.queries()
        index = build_index(vectors, kind)
        assert kind == "tree" or index.metric_type == faiss.METRIC_INNER_PRODUCT
        scores, rows = search(index, queries, 20)
        products = queries.astype(np.float64) @ vectors.T.astype(np.float64)
        np.testing.assert_allclose(scores, np.take_along_axis(products, rows, axis=1), rtol=1e-3, atol=1e-4)
        assert (np.diff(scores, axis=1) <= 0).all()
        best = np.argsort(-products, axis=1)[:, :20]
        recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(rows.tolist(), best.tolist(), strict=True)])
        assert recall >= least  # for IVF the worst case: noise has no cells
        report = measure_recall(index, kind, vectors, queries, [20])
        assert (report.kind, report.items, report.queries) == (kind, 2000, 50)
        assert [(depth.k, depth.recall) for depth in report.depths] == [(20, pytest.approx(recall))]

    @pytest.mark.parametrize("dim", [16, 17])
    def test_codes_score_nearly_as_vectors_and_take_an_eighth(self, dim):
        """Vectors in clusters, as towers give; an odd width gets a zero behind it."""
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(40, dim))
        vectors = (centres[rng.integers(0, 40, 8000)] + 0.2 * rng.normal(size=(8000, dim))).astype(np.float32)
        queries = (centres[rng.integers(0, 40, 30)]).astype(np.float32)
        index, plain = build_index(vectors, "ivfpq"), build_index(vectors, "ivf")
        assert index_module.index_kind(index) == "ivfpq"
        assert index_module.fits_width(index, dim)
        assert index.code_size == (dim + 1) // 2  # bytes; the vectors themselves take 4 * dim
        (depth,) = measure_recall(index, "ivfpq", vectors, queries, [100]).depths
        (best,) = measure_recall(plain, "ivf", vectors, queries, [100]).depths
        assert 0.7 < depth.recall <= best.recall
        scores, rows = search(index, queries, 10)
        again = np.einsum("qkd,qd->qk", vectors[rows], queries)
        assert np.abs(scores - again).max() < 0.05 * np.abs(again).max()
        own = index_module.vectors_at(index, rows[0], dim)
        np.testing.assert_allclose(own @ queries[0], scores[0], rtol=1e-4)  # own items are scored alike

    def test_codes_of_more_vectors_and_after_writing(self):
        vectors, queries = self.vectors(), self.queries(5)
        index = index_module.extended(build_index(vectors[:1500], "ivfpq"), vectors[1500:])
        assert index.ntotal == 2000
        read = index_module.index_from(index_module.index_tensors(index))
        np.testing.assert_array_equal(search(read, queries, 20)[1], search(index, queries, 20)[1])
        np.testing.assert_array_equal(
            index_module.vectors_at(read, np.arange(1490, 1510), 16),
            index_module.vectors_at(index, np.arange(1490, 1510), 16),
        )

    def test_of_equals_any_is_right(self):
        """Ten copies of one vector: which five of them are found says nothing of the index."""
        vectors = np.ones((10, 4), dtype=np.float32)
        index = build_index(vectors, "flat")
        assert measure_recall(index, "flat", vectors, vectors[:3], [5]).depths[0].recall == 1.0

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

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_recall_at_every_depth_is_that_of_the_lists_that_are_served(self, kind):
        """Against a full sort in float64, and through ``search``, which every request goes through."""
        vectors, queries = self.vectors(3000), self.queries(40)
        index = build_index(vectors, kind)
        best = np.argsort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)), axis=1)

        report = measure_recall(index, kind, vectors, queries)

        assert [depth.k for depth in report.depths] == [10, 50, 100, 500]
        for k, recall, _ in report.depths:
            served = search(index, queries, k)[1]
            pairs = zip(served.tolist(), best[:, :k].tolist(), strict=True)
            assert recall == pytest.approx(np.mean([len(set(ours) & set(exact)) / k for ours, exact in pairs]))

    def test_of_a_large_catalogue_fewer_queries_are_measured(self, monkeypatch):
        """As many as keep the number of products, but 100, spread over all that are given."""
        monkeypatch.setattr(index_module, "MOST_PRODUCTS", 200 * 300)
        vectors, queries = self.vectors(300), self.queries(400)
        index = build_index(vectors, "ivf")
        assert measure_recall(index, "ivf", vectors, queries[:150]).queries == 150
        report = measure_recall(index, "ivf", vectors, queries)
        assert report.queries == 200
        taken = queries[np.linspace(0, 399, 200).astype(int)]
        assert report.depths == measure_recall(index, "ivf", vectors, taken).depths
        monkeypatch.setattr(index_module, "MOST_PRODUCTS", 1)
        assert measure_recall(index, "ivf", vectors, queries).queries == 100

    def test_the_recall_of_a_short_list_is_not_that_of_a_long_one(self):
        """The longest list is searched most widely, so that its recall says nothing of a list of ten."""
        vectors, queries = self.vectors(3000), self.queries(40)
        index = build_index(vectors, "ivf")
        found = {depth.k: depth for depth in measure_recall(index, "ivf", vectors, queries).depths}
        assert index.nlist == 3000 // 39
        assert [found[k].width for k in (10, 50, 100, 500)] == [10, 10, 11, 51]  # an eighth, or cells of 4 k vectors
        assert found[10].recall < found[500].recall - 0.1

    @pytest.mark.parametrize("kind", ["ivf", "hnsw"])
    @pytest.mark.parametrize("k", [10, 300])
    def test_the_width_that_is_told_is_the_width_that_is_searched(self, kind, k):
        """FAISS alone, told to look at so much, gives the very lists that serving gives."""
        vectors, queries = self.vectors(3000), self.queries(20)
        index = build_index(vectors, kind)
        (depth,) = measure_recall(index, kind, vectors, queries, [k]).depths
        if kind == "ivf":
            index.nprobe = depth.width
        else:
            index.hnsw.efSearch = depth.width
        alone = index.search(queries, k)[1]
        served = search(index, queries, k)[1]
        full = (alone >= 0).all(axis=1)  # where it finds too few, serving searches exactly
        assert full.sum() >= 10
        np.testing.assert_array_equal(alone[full], served[full])

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_depths_at_which_every_item_is_returned_are_left_out(self, kind):
        vectors, queries = self.vectors(37), self.queries(5)
        report = measure_recall(build_index(vectors, kind), kind, vectors, queries, [500, 10, 37, 36])
        assert [depth.k for depth in report.depths] == [10, 36]
        assert measure_recall(build_index(vectors[:1], kind), kind, vectors[:1], queries).depths == ()

    def test_without_a_query_nothing_is_measured(self):
        vectors = self.vectors(100)
        report = measure_recall(build_index(vectors, "flat"), "flat", vectors, self.queries(0))
        assert (report.queries, report.depths) == (0, ())

    @pytest.mark.parametrize("offset", [0.0, 1e3])
    def test_a_wrong_vector_of_nearly_the_same_score_is_wrong(self, offset):
        """Scores of 1000 and a little: only what float32 cannot tell apart is the same."""
        vectors = np.column_stack([np.full(20, offset), np.arange(20)]).astype(np.float32)
        queries = np.array([[1.0, 0.0003]], dtype=np.float32)
        low = build_index(vectors - np.float32([0, 1]) * np.arange(20)[:, None] * 2, "flat")  # the order reversed
        (depth,) = measure_recall(low, "flat", vectors, queries, [4]).depths
        assert depth.recall == 0.0

    def test_a_report_survives_its_manifest(self):
        report = IndexReport("ivf", 900, 50, 23, (DepthRecall(10, 0.5, 3), DepthRecall(50, 1.0, 9)))
        assert IndexReport.of(json.loads(json.dumps(report.as_dict()))) == report

    def test_a_report_of_one_depth_is_still_read(self):
        old = {"kind": "ivf", "items": 900, "k": 500, "queries": 50, "recall": 0.948}
        assert IndexReport.of(old) == ("ivf", 900, 50, None, ((500, 0.948, None),))
        assert IndexReport.of({**old, "items": 37, "k": 37, "recall": 1.0}).depths == ()

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "annoy"},
            {"items": "9"},
            {"queries": -1},
            {"cells": 2.5},
            {"depths": [{"k": 10, "recall": 2}]},
            {"depths": [{"k": True, "recall": 0.5, "width": 1}]},
            {"depths": 3},
            {"depths": None},
        ],
    )
    def test_a_broken_report_is_refused(self, change):
        stored = IndexReport("ivf", 900, 50, 23, (DepthRecall(10, 0.5, 3),)).as_dict()
        with pytest.raises((ValueError, KeyError, TypeError)):
            IndexReport.of(stored | change)

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_vectors_of_another_width_are_refused(self, kind):
        """Not filled up with zeros, which would rank by half of the numbers."""
        index = build_index(self.vectors(300), kind)
        with pytest.raises(ValueError, match="vectors of 8 numbers do not fit an index of 16"):
            search(index, self.queries(2)[:, :8], 5)
        if kind != "tree":
            with pytest.raises(ValueError, match="vectors of 8 numbers do not fit an index of 16"):
                index_module.extended(index, self.queries(2)[:, :8])

    def test_an_empty_catalogue_is_refused(self):
        with pytest.raises(ValueError, match="at least one vector"):
            build_index(self.vectors(0), "flat")
