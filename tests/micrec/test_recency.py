"""Clicks that fade and popularity that drifts, by loops over the clicks; histories as counts."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.data.recency import DAY_MS, DriftingPopularity, days_of, faded
from micrec.models.columns import Ragged
from micrec.models.counted import count_items, place_of
from micrec.models.layers import AttentionPool, mean_pool


def popularity_by_hand(clicks, item, day, n_items, half_life):
    """log of the item's share over the mean, from every click on an earlier day."""

    def clicks_of(wanted):
        return sum(0.5 ** ((day - then) / half_life) for i, then in clicks if then < day and wanted in (i, None))

    return math.log(n_items * (clicks_of(item) + 0.3) / (clicks_of(None) + 0.3 * n_items))


@settings(max_examples=40, deadline=None)
@given(
    clicks=st.lists(st.tuples(st.integers(0, 4), st.integers(100, 130)), max_size=40),
    half_life=st.sampled_from([0.5, 7.0, 90.0]),
    tabulate=st.booleans(),
)
def test_popularity_is_that_of_the_clicks_of_earlier_days(clicks, half_life, tabulate):
    items, days = [i for i, _ in clicks], [d for _, d in clicks]
    popularity = DriftingPopularity(items, days, 6, half_life, tabulate=tabulate)
    asked = torch.tensor([99, 100, 115, 131, 160])
    grid = popularity.grid(asked)
    some = popularity.grid(asked, torch.tensor([3, 1, 3]))
    pairs = popularity.pairs(asked[:, None].expand(-1, 6), torch.arange(6).expand(5, -1))
    for row, day in enumerate(asked.tolist()):
        for item in range(6):
            expected = popularity_by_hand(clicks, item, day, 6, half_life)
            assert grid[row, item].item() == pytest.approx(expected, abs=2e-5)
            assert pairs[row, item].item() == pytest.approx(expected, abs=2e-5)
    assert torch.equal(some, grid[:, [3, 1, 3]])


def test_a_click_counts_half_after_its_half_life_and_before_as_after():
    ages = torch.tensor([0, 3 * DAY_MS, -3 * DAY_MS, 6 * DAY_MS])
    assert faded(ages, 3.0).tolist() == pytest.approx([1.0, 0.5, 0.5, 0.25])
    assert days_of(np.array([0, DAY_MS - 1, DAY_MS, -1])).tolist() == [0, 0, 1, -1]


rows_of_clicks = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.125, 1.0, width=32)), max_size=8), max_size=4
)


def ragged(rows, weighted):
    values = torch.tensor([item for row in rows for item, _ in row], dtype=torch.int64)
    weights = torch.tensor([weight for row in rows for _, weight in row], dtype=torch.float32)
    offsets = torch.tensor(np.cumsum([0, *map(len, rows)]))
    return Ragged(values, offsets, weights if weighted else None)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_clicks, weighted=st.booleans())
def test_histories_are_counted_by_item(rows, weighted):
    counted = count_items(ragged(rows, weighted), 6)
    assert counted.weights is not None
    for row, clicks in enumerate(rows):
        expected = defaultdict(float)
        for item, weight in clicks:
            expected[item] += weight if weighted else 1.0
        part = slice(int(counted.offsets[row]), int(counted.offsets[row + 1]))
        assert counted.values[part].tolist() == sorted(expected)
        assert counted.weights[part].tolist() == pytest.approx([expected[item] for item in sorted(expected)], rel=1e-5)
        places = place_of(counted, torch.full((6,), row), torch.arange(6), 6).tolist()
        found = {item: places[item] for item in range(6) if places[item] >= 0}
        assert sorted(found) == sorted(expected)
        assert [counted.values[place] for place in found.values()] == sorted(expected)
    again = count_items(counted, 6)
    assert torch.equal(again.values, counted.values)
    assert torch.equal(again.weights, counted.weights)


def test_pooled_clicks_count_in_proportion_to_their_weights():
    history = ragged([[(0, 1.0), (2, 0.25), (0, 0.5)], [], [(1, 0.1)]], True)
    vectors = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = torch.stack([(1.5 * vectors[0] + 0.25 * vectors[2]) / 1.75, torch.zeros(2, 4), vectors[1]])
    pooled = mean_pool(history, vectors)
    torch.testing.assert_close(pooled, expected)
    factors = torch.arange(24.0).view(3, 2, 4)
    grads = [torch.autograd.grad((factors * out).sum(), vectors, retain_graph=True)[0] for out in (pooled, expected)]
    torch.testing.assert_close(*grads)


def test_attention_of_equal_scores_is_the_weighted_mean():
    pool = AttentionPool(4)
    torch.nn.init.zeros_(pool.score.weight)
    history = ragged([[(0, 1.0), (2, 0.25)]], True)
    vectors = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pool(history, vectors), (vectors[:1] + 0.25 * vectors[2:]) / 1.25)


def test_the_latest_values_keep_their_weights():
    latest = ragged([[(0, 0.1), (1, 0.2), (2, 0.3)], [(4, 0.5)]], True).latest(2)
    assert latest.values.tolist() == [1, 2, 4]
    assert latest.weights.tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert latest.offsets.tolist() == [0, 2, 3]
