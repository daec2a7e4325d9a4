"""Slates against a slate made one item at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.rerank import RerankKeys, rerank


def slow_slate(items, scores, groups, size, keys):
    """Columns of one slate."""
    left = [column for column, item in enumerate(items) if item >= 0]
    low, high = min((scores[c] for c in left), default=0), max((scores[c] for c in left), default=0)
    slate = []
    while left and len(slate) < size:
        best, best_gain = None, None
        candidates = left
        if keys.method == "window":
            run = [groups[c] for c in slate[-(keys.window - 1) :]] if keys.window > 1 else []
            candidates = [c for c in left if run.count(groups[c]) < keys.most] or left
        for column in candidates:
            gain = scores[column]
            if keys.method == "mmr":
                scaled = (gain - low) / (high - low) if high > low else 1.0
                same = any(groups[column] == groups[c] for c in slate)
                gain = keys.relevance * scaled - (1.0 - keys.relevance) * same
            if best_gain is None or gain > best_gain:
                best, best_gain = column, gain
        slate.append(best)
        left.remove(best)
    return slate + [-1] * (size - len(slate))


CANDIDATE = st.tuples(st.integers(-1, 9), st.integers(0, 8).map(lambda n: n / 8), st.integers(0, 2))


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.lists(CANDIDATE, min_size=7, max_size=7), min_size=1, max_size=3),
    size=st.integers(1, 9),
    method=st.sampled_from(["none", "mmr", "window"]),
    relevance=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    window=st.integers(1, 4),
    most=st.integers(1, 3),
)
def test_as_one_item_at_a_time(rows, size, method, relevance, window, most):
    keys = RerankKeys(method=method, relevance=relevance, window=window, most=most)
    items, scores, groups = (np.array([[one[part] for one in row] for row in rows]) for part in range(3))
    found = rerank(items, scores.astype(np.float32), groups, size, keys)
    expected = [slow_slate(i, s, g, size, keys) for i, s, g in zip(items, scores, groups, strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("method", "expected"), [("none", [0, 1, 2, 3]), ("mmr", [0, 3, 1, 2]), ("window", [0, 1, 3, 2])]
)
def test_a_worked_example(method, expected):
    """Three good items of one group and a poorer one of another."""
    scores = np.array([[0.9, 0.8, 0.7, 0.5]], np.float32)
    found = rerank(
        np.array([[10, 11, 12, 13]]), scores, np.array([[1, 1, 1, 2]]), 4, RerankKeys(method=method, relevance=0.4)
    )
    assert found[0].tolist() == expected
