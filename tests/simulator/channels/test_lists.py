"""Lists against plain dictionaries."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.channels.lists import UNIT, Lookup, best_items, shared_list, sum_by_item

ITEM = st.integers(-1, 12)


def slow_sums(items, scores, k, hidden):
    """One request by dictionary, in whole numbers of 2^-20."""
    sums: dict[int, int] = {}
    for item, score in zip(items, scores, strict=True):
        if item >= 0:
            sums[item] = sums.get(item, 0) + int(score * UNIT + 0.5)
    kept = [(-total, item) for item, total in sums.items() if item not in hidden and total > 0]
    return [(item, -total / UNIT) for total, item in sorted(kept)][:k]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.lists(ITEM, min_size=6, max_size=6),
            st.lists(st.integers(0, 40).map(lambda n: n / 8), min_size=6, max_size=6),
            st.lists(ITEM, min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    k=st.integers(1, 9),
)
def test_sums_are_those_of_a_dictionary(rows, k):
    items, scores, hidden = (np.array(part) for part in zip(*rows, strict=True))
    lists = sum_by_item(items, scores, k, hidden)
    for row, (its, sco, hid) in enumerate(rows):
        expected = slow_sums(its, sco, k, hid)
        n = len(expected)
        assert lists.items[row, :n].tolist() == [item for item, _ in expected]
        assert lists.scores[row, :n].tolist() == [np.float32(score) for _, score in expected]
        assert (lists.items[row, n:] == -1).all()
        assert (lists.scores[row, n:] == -np.inf).all()


def test_equal_sums_go_by_item_id():
    lists = sum_by_item(np.array([[9, 4, 7, 4]]), np.array([[1.0, 0.25, 1.0, 0.75]]), 3)
    assert lists.items.tolist() == [[4, 7, 9]]


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(0, 8),
    k=st.integers(1, 12),
    hidden=st.lists(st.lists(st.integers(-1, 20), min_size=4, max_size=4), min_size=1, max_size=3),
)
def test_a_shared_list_leaves_out_what_is_hidden(n, k, hidden):
    items = np.random.default_rng(n).permutation(15)[:n]
    scores = -np.arange(n, dtype=np.float32)
    lists = shared_list(items, scores, k, np.array(hidden))
    for row, hid in enumerate(hidden):
        kept = [(item, score) for item, score in zip(items.tolist(), scores, strict=True) if item not in hid][:k]
        assert lists.items[row].tolist() == [item for item, _ in kept] + [-1] * (k - len(kept))
        assert lists.scores[row, : len(kept)].tolist() == [score for _, score in kept]


def test_best_items_break_ties_by_id():
    items, scores = best_items(np.array([5, 3, 8, 1]), np.array([2.0, 2.0, 9.0, 0.5]), 3)
    assert items.tolist() == [8, 3, 5]
    assert scores.tolist() == [9.0, 2.0, 2.0]


def test_lookup_knows_only_its_ids():
    lookup = Lookup(np.array([7, 2, 9]))
    assert lookup.rows(np.array([[2, 7, 9], [-1, 3, 10**9]])).tolist() == [[1, 0, 2], [-1, -1, -1]]
    assert Lookup(np.array([], np.int64)).rows(np.array([0, -1])).tolist() == [-1, -1]
