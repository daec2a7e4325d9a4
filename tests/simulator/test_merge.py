"""Merging against a slow merge of one request at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.merge import merge
from simulator.ports import Candidates


def lists_of(rows, width):
    """Candidates of hand-written rows of items, scores falling from 1."""
    items, scores = np.full((len(rows), width), -1), np.full((len(rows), width), -np.inf, np.float32)
    for row, listed in enumerate(rows):
        items[row, : len(listed)] = listed
        scores[row, : len(listed)] = 1.0 / (1.0 + np.arange(len(listed)))
    return Candidates(items, scores)


def slow_order(lists, method, quotas):
    """(channel, place) of every entry in the order in which it is looked at."""
    width = max(len(listed) for listed in lists if listed is not None)
    turns = []
    for place in range(width):
        channels = list(range(len(lists)))
        turns += [(s, place) for s in (channels if place % 2 == 0 else reversed(channels))]
    turns = [(s, place) for s, place in turns if lists[s] is not None and place < len(lists[s])]
    if method == "snake":
        return turns
    first = [
        (s, p) for s, listed in enumerate(lists) if listed is not None for p in range(len(listed)) if p < quotas[s]
    ]
    return first + [entry for entry in turns if entry not in first]


def slow_merge(lists, method, quotas, size):
    """(item, channel, offered_by) of one request."""
    offered = {}
    for s, listed in enumerate(lists):
        for item in listed or ():
            offered[item] = offered.get(item, 0) | 1 << s
    if method == "score":
        sums, first = {}, {}
        for s, listed in enumerate(lists):
            scores = [1.0 / (1.0 + place) for place in range(len(listed or ()))]
            for item, score in zip(listed or (), scores, strict=True):
                scaled = (score - scores[-1]) / (scores[0] - scores[-1]) if len(scores) > 1 else 1.0
                sums[item] = sums.get(item, 0) + round(scaled * 2**20)
                first.setdefault(item, s)
        best = sorted(sums, key=lambda item: (-sums[item], item))[:size]
        return [(item, first[item], offered[item]) for item in best], {item: sums[item] / 2**20 for item in sums}
    merged, seen = [], set()
    for s, place in slow_order(lists, method, quotas):
        item = lists[s][place]
        if item not in seen and len(merged) < size:
            seen.add(item)
            merged.append((item, s, offered[item]))
    return merged, None


CHANNEL = st.none() | st.integers(0, 6)
DISTINCT = st.lists(st.integers(0, 15), max_size=6, unique=True)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), method=st.sampled_from(["quota", "snake", "score"]), size=st.integers(1, 14))
def test_as_one_request_at_a_time(data, method, size):
    n_channels, batch = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    down = data.draw(st.lists(st.booleans(), min_size=n_channels, max_size=n_channels).filter(lambda d: not all(d)))
    quotas = data.draw(st.lists(st.integers(0, 5), min_size=n_channels, max_size=n_channels))
    rows = [[None if off else data.draw(DISTINCT) for off in down] for _ in range(batch)]
    lists = [None if off else lists_of([row[s] for row in rows], 6) for s, off in enumerate(down)]
    merged = merge(lists, method, quotas, size)
    assert merged.items.shape == merged.channel.shape == merged.offered_by.shape == merged.scores.shape == (batch, size)
    assert (merged.channel.dtype, merged.offered_by.dtype) == (np.int8, np.uint32)
    for row in range(batch):
        expected, sums = slow_merge(rows[row], method, quotas, size) if any(rows[row]) else ([], None)
        n = len(expected)
        found = list(
            zip(merged.items[row].tolist(), merged.channel[row].tolist(), merged.offered_by[row].tolist(), strict=True)
        )
        assert found == expected + [(-1, -1, 0)] * (size - n)
        assert (merged.scores[row, n:] == -np.inf).all()
        for (item, s, _), score in zip(expected, merged.scores[row], strict=False):
            right = sums[item] if sums else 1.0 / (1.0 + rows[row][s].index(item))
            assert score == pytest.approx(right, abs=1e-5)


def test_scores_are_summed_in_steps_of_a_millionth():
    """A fifth plus nothing is a step less than twice a tenth, as each score is rounded: item 4 is ahead of item 2."""
    merged = merge([lists_of([[0, 1, 2, 4, 3, 5]], 6), lists_of([[0, 1, 3, 4, 5, 2]], 6)], "score", None, 4)
    assert merged.items.tolist() == [[0, 1, 3, 4]]


def test_a_worked_example():
    """Two channels that share item 2, quotas 2 and 1, and one place left for the snake."""
    first, second = lists_of([[1, 2, 3, 4]], 4), lists_of([[2, 5, 6]], 4)
    merged = merge([first, None, second], "quota", [2, 9, 1], 4)
    assert merged.items.tolist() == [[1, 2, 5, 3]]
    assert merged.channel.tolist() == [[0, 0, 2, 0]]
    assert merged.offered_by.tolist() == [[1, 5, 4, 1]]


@pytest.mark.parametrize(
    ("lists", "method", "quotas", "match"),
    [
        ([None, None], "snake", None, "0 of them answered"),
        ([lists_of([[1]], 1)] * 33, "snake", None, "give 1 to 32"),
        ([lists_of([[1]], 1)], "quota", None, "one per channel"),
        ([lists_of([[1]], 1)], "quota", [1, 2], "one per channel"),
        ([lists_of([[1]], 1)], "zigzag", None, "no way of merging 'zigzag'"),
    ],
)
def test_what_does_not_fit_is_refused(lists, method, quotas, match):
    with pytest.raises(ValueError, match=match):
        merge(lists, method, quotas, 3)
