"""Team draft against the paper's loop, and what makes it fair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.draws import mixed
from simulator.interleaving import DraftPair, credited, drafted, offered_bits, team_draft
from simulator.merge import merge
from simulator.ports import Candidates


def lists(rows, width):
    """Candidates with the items of ``rows``, best first."""
    items = np.full((len(rows), width), -1)
    for row, own in enumerate(rows):
        items[row, : len(own)] = own
    scores = np.where(items >= 0, -np.arange(width, dtype=np.float32), -np.inf)
    return Candidates(items, scores.astype(np.float32))


def paper_draft(first, second, coin):
    """Algorithm 2 of Radlinski, Kurup and Joachims (2008), word by word; ``coin(n)`` is that of the n-th place."""
    shown, teams = [], ([], [])
    while any(item not in shown for item in first) and any(item not in shown for item in second):
        if len(teams[0]) < len(teams[1]) or (len(teams[0]) == len(teams[1]) and not coin(len(shown))):
            pick, team = next(item for item in first if item not in shown), 0
        else:
            pick, team = next(item for item in second if item not in shown), 1
        shown.append(pick)
        teams[team].append(pick)
    return shown, teams


def a_list(draw_from):
    return st.lists(st.integers(0, draw_from), unique=True, min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(a_list(9), a_list(9)), min_size=1, max_size=5), st.integers(0, 2**32))
def test_is_the_papers_algorithm(pairs, key):
    keys = mixed(np.arange(len(pairs), dtype=np.uint64), np.asarray(key))
    draft = team_draft(lists([one for one, _ in pairs], 8), lists([other for _, other in pairs], 8), keys)
    for row, (one, other) in enumerate(pairs):

        def coin(place, row=row):
            return bool(mixed(mixed(keys[row : row + 1], np.asarray(3)), np.asarray(place))[0] >> np.uint64(63))

        shown, teams = paper_draft(one, other, coin)
        n = len(shown)
        assert draft.lists.items[row, :n].tolist() == shown
        assert (draft.lists.items[row, n:] == -1).all()
        assert [item for item, second in zip(shown, draft.second[row, :n], strict=True) if second] == teams[1]


def test_a_list_against_itself_is_a_tie():
    """Both teams get every place as often, so credit has no side to lean to."""
    keys = mixed(np.arange(4000, dtype=np.uint64), np.asarray(1))
    same = lists([list(range(10))] * 4000, 10)
    draft = team_draft(same, same, keys)
    assert (draft.lists.items == np.arange(10)).all()
    share = draft.second.mean(axis=0)
    assert np.abs(share - 0.5).max() < 4 * 0.5 / np.sqrt(4000)
    assert (draft.second.sum(axis=1) == 5).all()


def test_a_channel_that_did_not_answer_leaves_its_place_to_the_other():
    keys = np.arange(2, dtype=np.uint64)
    draft = team_draft(lists([[], [1, 2]], 2), lists([[5, 6], [5, 6]], 2), keys)
    assert draft.lists.items[0].tolist()[:2] == [5, 6]
    assert draft.second[0, :2].all()
    assert set(draft.lists.items[1].tolist()) <= {1, 2, 5, 6}
    assert drafted([None, None], DraftPair(0, 1), keys)[1] is None


def test_credit_and_offers_after_merging():
    """Credit follows the picks; what both offered keeps both bits, and a third channel keeps its own."""
    keys = np.arange(200, dtype=np.uint64)
    own = [lists([[3, 1, 2]] * 200, 3), lists([[9, 1]] * 200, 2), lists([[3, 4, 5]] * 200, 3)]
    pair = DraftPair(0, 2)
    joined, draft = drafted(own, pair, keys)
    merged = merge(joined, "quota", [4, 2, 4], 8)
    channel = credited(merged.channel, merged.place, draft, pair)
    bits = offered_bits(merged.items, merged.offered_by, own, pair)
    for item, holders in {1: {0, 1}, 2: {0}, 3: {0, 2}, 4: {2}, 5: {2}, 9: {1}}.items():
        at = merged.items == item
        assert at.any()
        assert set(np.unique(bits[at])) == {sum(1 << one for one in holders)}
        assert set(np.unique(channel[at])) <= holders
    assert set(np.unique(channel[merged.items == 3])) == {0, 2}  # the coin decides


@pytest.mark.parametrize("size", [1, 7])
def test_more_items_of_the_better_list_come_early(size):
    """Within each round both teams pick once, so no prefix favours one by more than one item."""
    keys = mixed(np.arange(50, dtype=np.uint64), np.asarray(2))
    draft = team_draft(lists([list(range(size))] * 50, size), lists([list(range(100, 100 + size))] * 50, size), keys)
    lead = np.cumsum(np.where(draft.second, 1, -1) * (draft.lists.items >= 0), axis=1)
    assert np.abs(lead).max() <= 1
