"""Exact search against a full sort in Python."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.channels.two_tower.exact_search import ExactSearch


@settings(max_examples=150, deadline=None)
@given(data=st.data(), n=st.integers(0, 12), batch=st.integers(1, 11), k=st.integers(1, 15))
def test_lists_are_those_of_a_full_sort(data, n, batch, k):
    """Vectors of small whole numbers, so that ties abound and products are exact."""
    number = st.integers(-2, 2)
    vectors = np.array(data.draw(st.lists(st.tuples(number, number), min_size=n, max_size=n))).reshape(n, 2)
    queries = np.array(data.draw(st.lists(st.tuples(number, number), min_size=batch, max_size=batch)))
    hidden = np.array(data.draw(st.lists(st.tuples(*[st.integers(-1, n - 1)] * 3), min_size=batch, max_size=batch)))
    ids = np.array(data.draw(st.permutations(range(100, 100 + 3 * n, 3))), np.int64)
    search = ExactSearch(vectors.astype(np.float32), ids)
    lists = search.top(queries.astype(np.float32), k, hidden)
    for row in range(batch):
        pairs = [(-int(queries[row] @ vectors[i]), int(ids[i])) for i in range(n) if i not in hidden[row]]
        expected = sorted(pairs)[:k]
        assert lists.items[row].tolist() == [item for _, item in expected] + [-1] * (k - len(expected))
        assert lists.scores[row].tolist() == [-s for s, _ in expected] + [-np.inf] * (k - len(expected))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), n=st.integers(1, 12), batch=st.integers(1, 11), interests=st.integers(1, 4), k=st.integers(1, 15)
)
def test_of_several_interests_the_best_product_counts(data, n, batch, interests, k):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    vectors, queries = rng.integers(-2, 3, (n, 3)), rng.integers(-2, 3, (batch, interests, 3))
    hidden = rng.integers(-1, n, (batch, 3))
    lists = ExactSearch(vectors.astype(np.float32), np.arange(n)).top(queries.astype(np.float32), k, hidden)
    for row in range(batch):
        shown = [i for i in range(n) if i not in hidden[row]]
        best = {i: max(int(query @ vectors[i]) for query in queries[row]) for i in shown}
        expected = sorted(shown, key=lambda i, best=best: (-best[i], i))[:k]
        assert lists.items[row].tolist() == expected + [-1] * (k - len(expected))
        assert lists.scores[row, : len(expected)].tolist() == [best[i] for i in expected]


def test_blocks_of_queries_do_not_show():
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(50, 8)).astype(np.float32)
    whole = ExactSearch(vectors, np.arange(300))
    blocked = ExactSearch(vectors, np.arange(300))
    blocked._rows = 8
    none = np.empty((50, 0), np.int64)
    for left, right in zip(whole.top(queries, 20, none), blocked.top(queries, 20, none), strict=True):
        np.testing.assert_array_equal(left, right)
