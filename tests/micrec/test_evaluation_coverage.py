"""What the top-N lists show, against loops over the lists, and Gini by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.evaluation.coverage import CoverageCounter, TopLists, gini, popularity_percentiles, tail_items


def reference_gini(counts) -> float:
    """Mean absolute difference of distinct items over twice the mean: no sort, no ranks."""
    n = len(counts)
    gaps = [abs(a - b) for i, a in enumerate(counts) for j, b in enumerate(counts) if i != j]
    return float(sum(gaps) / (n * (n - 1)) / (2 * sum(counts) / n))


def reference_percentile(clicks, item) -> float:
    """Share of the other items with fewer clicks, those with as many half."""
    others = [other for place, other in enumerate(clicks) if place != item]
    return sum((c < clicks[item]) + 0.5 * (c == clicks[item]) for c in others) / len(others)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 6), st.sampled_from([(1, 3), (5, 2, 50), (2,)]))
def test_figures_equal_loops_over_the_lists(seed, n_items, n_queries, cutoffs):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.arange(n_queries * n_items)).reshape(n_queries, n_items).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf  # filtered
    clicks = rng.integers(0, 5, n_items)
    tail = rng.random(n_items) < 0.5

    counter = CoverageCounter(cutoffs)
    for rows in np.array_split(np.arange(n_queries), 2):
        if len(rows):
            lists = TopLists(max(cutoffs))
            lists.add(0, torch.from_numpy(scores[rows]))
            counter.add(lists, n_items)
    found = counter.diversity(clicks, tail)

    for n in cutoffs:
        places = [
            item
            for row in scores.tolist()
            for item in sorted(range(n_items), key=lambda i: -row[i])[:n]
            if row[item] > -np.inf
        ]
        counts = [places.count(item) for item in range(n_items)]
        assert counter.exposure()[n].tolist() == counts
        assert found[f"coverage@{n}"] == pytest.approx(len(set(places)) / n_items)
        if not places:
            assert f"gini@{n}" not in found
            continue
        assert found[f"gini@{n}"] == pytest.approx(reference_gini(counts))
        percentiles = [reference_percentile(clicks.tolist(), item) for item in places]
        assert found[f"popularity_percentile@{n}"] == pytest.approx(np.mean(percentiles))
        if tail.any():
            assert found[f"tail_exposure@{n}"] == pytest.approx(np.mean([tail[item] for item in places]))
            reached = len({item for item in places if tail[item]}) / tail.sum()
            assert found[f"tail_coverage@{n}"] == pytest.approx(reached)
        else:
            assert f"tail_exposure@{n}" not in found


def test_gini_by_hand():
    assert gini(np.array([3, 3, 3])) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 7])) == pytest.approx(1.0)
    assert gini(np.array([0, 1])) == pytest.approx(1.0)
    assert gini(np.array([1, 3])) == pytest.approx(0.5)  # |1 - 3| / (2 * 2)


def test_random_lists_have_the_middle_percentile():
    clicks = np.array([9, 4, 4, 4, 0, 100])
    assert popularity_percentiles(clicks).mean() == pytest.approx(0.5)
    assert popularity_percentiles(clicks)[[4, 5]].tolist() == [0.0, 1.0]
    assert popularity_percentiles(np.array([3])).tolist() == [0.5]


def test_tail_leaves_out_what_was_never_clicked():
    assert tail_items(np.array([5, 0, 1, 1, 9]), 0.5).tolist() == [False, False, True, True, False]
