"""Samplers against sets, hand-worked probabilities and the chi-square test."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from micrec.config import SessionsConfig
from micrec.data.cooccurrence import count_cooccurrences
from micrec.data.dataset import Clicks
from micrec.sampling import (
    PairSet,
    PopularitySampler,
    SharedTagNeighbours,
    WeightedNeighbours,
    _alias_table,
    draw_negatives,
    draw_uniform_negatives,
)

pairs = st.sets(st.tuples(st.integers(0, 6), st.integers(0, 10)))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fits(drawn, probabilities):
    """Whether draws follow {item: probability}, by a chi-square test at 0.001; no other item may be drawn."""
    counts = Counter(drawn.flatten().tolist())
    assert set(counts) <= {item for item, p in probabilities.items() if p > 0}
    items = [item for item, p in probabilities.items() if p > 0]
    expected = np.array([probabilities[item] for item in items]) * drawn.numel()
    return chisquare([counts[item] for item in items], expected).pvalue > 0.001


class TestPairSet:
    @settings(deadline=None)
    @given(pairs, st.sampled_from([0, 1 << 20]))
    def test_both_backends_agree_with_a_set(self, members, bitmap_bytes):
        rows, cols = torch.tensor(sorted(members), dtype=torch.int64).reshape(-1, 2).T
        found = PairSet.from_pairs(rows.flip(0), cols.flip(0), 7, 11, bitmap_bytes=bitmap_bytes)
        assert (found.bits is None) == (bitmap_bytes == 0)
        grid = found.contains(torch.arange(7)[:, None], torch.arange(11))
        assert grid.tolist() == [[(row, col) in members for col in range(11)] for row in range(7)]
        rows, cols = torch.tensor([6, 0, 0, 3], dtype=torch.int32), torch.tensor([10, 1, 1, 8, 0])
        some = found.grid(rows, cols)
        assert some.tolist() == [[(row, col) in members for col in cols.tolist()] for row in rows.tolist()]

    def test_repeats_and_int32_are_taken(self):
        rows, cols = torch.tensor([2, 2, 0], dtype=torch.int32), torch.tensor([1, 1, 1], dtype=torch.int32)
        found = PairSet.from_pairs(rows, cols, 3, 2).to("cpu")
        assert found.contains(rows, cols).tolist() == [True] * 3
        assert found.contains(rows[:1], torch.tensor([0], dtype=torch.int32)).tolist() == [False]

    def test_large_ids_do_not_overflow(self):
        """The grid of 3e9 cells is beyond int32 and beyond the bitmap."""
        last = torch.tensor([59_999], dtype=torch.int32)
        found = PairSet.from_pairs(last, last, 60_000, 60_000)
        assert found.bits is None
        assert found.contains(last, last).item()
        assert not found.contains(last, last - 1).item()

    @settings(deadline=None)
    @given(pairs, st.sampled_from([0, 1 << 20]))
    def test_a_symmetric_set_holds_both_directions(self, members, bitmap_bytes):
        members = {(row, col) for row, col in members if row < col}
        keys = torch.tensor(sorted(row * 11 + col for row, col in members), dtype=torch.int64)
        found = PairSet.from_keys(keys, 11, 11, symmetric=True, bitmap_bytes=bitmap_bytes)
        expected = [[(row, col) in members or (col, row) in members for col in range(11)] for row in range(11)]
        everything = torch.arange(11)
        assert found.contains(everything[:, None], everything).tolist() == expected
        assert found.grid(everything, everything).tolist() == expected

    @pytest.mark.parametrize(("keys", "cols"), [([3], 3), ([4], 3), ([1], 4)])
    def test_a_symmetric_set_is_square_and_above_the_diagonal(self, keys, cols):
        with pytest.raises(ValueError, match="square, and its keys have row < col"):
            PairSet.from_keys(torch.tensor(keys), 3, cols, symmetric=True)

    @pytest.mark.parametrize("keys", [[1, 0], [1, 1], [-1, 2], [2, 6]])
    def test_unfit_keys_are_refused(self, keys):
        with pytest.raises(ValueError, match=r"distinct, ascending and below n_rows \* n_cols = 6"):
            PairSet.from_keys(torch.tensor(keys), 2, 3)


class TestWeightedNeighbours:
    """Item 0 has partners 1, 2, 3 at weights 1, 2, 5; item 1 none; item 2 only 0; item 3 none."""

    OFFSETS, ITEMS, WEIGHTS = [0, 3, 3, 4, 4], [1, 2, 3, 0], [1.0, 2.0, 5.0, 0.25]

    def test_draws_follow_the_weights(self):
        neighbours = WeightedNeighbours.from_csr(self.OFFSETS, self.ITEMS, self.WEIGHTS)
        drawn = neighbours.draw(torch.tensor([0, 1, 2, 3, 0]), 4000, seeded())
        assert drawn.shape == (5, 4000)
        for row in (0, 4):
            assert fits(drawn[row], {1: 1 / 8, 2: 2 / 8, 3: 5 / 8})
        assert drawn[1].unique().tolist() == [-1]
        assert drawn[2].unique().tolist() == [0]
        assert drawn[3].unique().tolist() == [-1]
        assert not torch.equal(drawn[0], drawn[4])

    def test_no_weights_draw_uniformly(self):
        drawn = WeightedNeighbours.from_csr(self.OFFSETS, self.ITEMS).draw(torch.tensor([0, 3]), 4000, seeded())
        assert fits(drawn[0], {1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
        assert drawn[1].unique().tolist() == [-1]

    def test_the_same_seed_draws_the_same(self):
        neighbours = WeightedNeighbours.from_csr(self.OFFSETS, self.ITEMS, self.WEIGHTS).to("cpu")
        first, again, other = (neighbours.draw(torch.tensor([0]), 50, seeded(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_small_weights_beside_huge_ones_keep_to_their_list(self):
        """The running sum is 1e15 when the second list begins; its draws may not leak into the first."""
        neighbours = WeightedNeighbours.from_csr([0, 1, 3, 3, 3], [3, 0, 2], [1e15, 0.5, 0.5])
        assert set(neighbours.draw(torch.tensor([1]), 200, seeded()).flatten().tolist()) == {0, 2}

    def test_membership_is_the_item_itself_and_its_list(self):
        neighbours = WeightedNeighbours.from_csr(self.OFFSETS, self.ITEMS, self.WEIGHTS)
        assert neighbours.n_items == 4
        assert neighbours.has(torch.arange(4)).tolist() == [True, False, True, False]
        assert neighbours.contains(torch.arange(4)[:, None], torch.arange(4)).int().tolist() == [
            [1, 1, 1, 1],
            [0, 1, 0, 0],
            [1, 0, 1, 0],
            [0, 0, 0, 1],
        ]

    def test_pruned_pairs_still_exclude_negatives(self):
        keys = [1, 2, 3]  # 0 with 1, 2, 3
        neighbours = WeightedNeighbours.from_csr(self.OFFSETS, self.ITEMS, self.WEIGHTS, keys=keys)
        assert neighbours.contains(torch.tensor([1, 3, 1]), torch.tensor([0, 0, 2])).tolist() == [True, True, False]
        assert neighbours.has(torch.tensor([1, 3])).tolist() == [False, False]

    @pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
    def test_weights_must_be_positive(self, weight):
        with pytest.raises(ValueError, match="positive and finite"):
            WeightedNeighbours.from_csr([0, 1], [0], [weight])

    def test_nothing_at_all(self):
        empty = WeightedNeighbours.from_csr([0, 0, 0], [], [])
        assert empty.draw(torch.tensor([0, 1]), 2, seeded()).tolist() == [[-1, -1], [-1, -1]]
        assert empty.draw(torch.tensor([], dtype=torch.int64), 2, seeded()).shape == (0, 2)


class TestSharedTagNeighbours:
    """Tag 0: items 0, 1, 2. Tag 1: items 0, 1. Tag 2: items 0, 3. Tag 3: item 4 alone. Item 5: no tag."""

    TAGGED = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2), (3, 2), (4, 3))

    @pytest.fixture(params=[0, 1 << 20], ids=["search", "bitmap"])
    def neighbours(self, request):
        items, tags = zip(*self.TAGGED, *self.TAGGED[:3], strict=True)  # some pairs twice
        return SharedTagNeighbours.from_pairs(items, tags, 6, 4, bitmap_bytes=request.param).to("cpu")

    def test_draws_are_proportional_to_the_tags_shared(self, neighbours):
        """Item 0 shares two tags with 1, one with 2 and one with 3."""
        drawn = neighbours.draw(torch.arange(6), 4000, seeded())
        assert fits(drawn[0], {1: 2 / 4, 2: 1 / 4, 3: 1 / 4})
        assert fits(drawn[1], {0: 2 / 3, 2: 1 / 3})
        assert fits(drawn[2], {0: 1 / 2, 1: 1 / 2})
        assert [row.unique().tolist() for row in drawn[3:]] == [[0], [-1], [-1]]

    def test_membership_is_one_shared_tag(self, neighbours):
        assert neighbours.n_items == 6
        assert neighbours.has(torch.arange(6)).tolist() == [True] * 4 + [False] * 2
        related = {(0, 1), (0, 2), (0, 3), (1, 2)}
        grid = neighbours.contains(torch.arange(6)[:, None], torch.arange(6))
        assert grid.tolist() == [[i == j or (min(i, j), max(i, j)) in related for j in range(6)] for i in range(6)]

    @settings(deadline=None)
    @given(pairs, st.integers(0, 2**31))
    def test_draws_are_members_and_the_rest_is_not(self, tagged, seed):
        items, tags = np.array(sorted(tagged), dtype=np.int64).reshape(-1, 2).T
        neighbours = SharedTagNeighbours.from_pairs(items, tags, 7, 11)
        by_item = {item: {tag for other, tag in tagged if other == item} for item in range(7)}
        partners = {i: {j for j in range(7) if j != i and by_item[i] & by_item[j]} for i in range(7)}
        grid = neighbours.contains(torch.arange(7)[:, None], torch.arange(7))
        assert grid.tolist() == [[j == i or j in partners[i] for j in range(7)] for i in range(7)]
        drawn = neighbours.draw(torch.arange(7), 20, seeded(seed))
        assert all(set(drawn[i].tolist()) <= (partners[i] or {-1}) for i in range(7))


class TestPopularitySampler:
    @settings(deadline=None)
    @given(st.lists(st.floats(0, 1e6) | st.integers(0, 3).map(float), min_size=1, max_size=30).filter(any))
    def test_the_alias_table_holds_the_exact_probabilities(self, weights):
        weights = torch.tensor(weights, dtype=torch.float64)
        threshold, alias = _alias_table(weights)
        mass = threshold.clone().scatter_add_(0, alias, 1 - threshold) / len(weights)
        assert mass.tolist() == pytest.approx((weights / weights.sum()).tolist(), abs=1e-12)

    def test_the_alias_table_of_every_small_case(self):
        """Ties, zeros and items of exactly the mean weight, in every order."""
        for weights in itertools.product([0.0, 0.5, 1.0, 2.0], repeat=4):
            if any(weights):
                threshold, alias = _alias_table(torch.tensor(weights, dtype=torch.float64))
                mass = threshold.clone().scatter_add_(0, alias, 1 - threshold) / 4
                assert mass.tolist() == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-12), weights

    def test_draws_and_log_q_agree(self):
        weights = torch.tensor([8.0, 0.0, 1.0, 27.0]) ** (1 / 3)  # 2, 0, 1, 3
        sampler = PopularitySampler(weights).to("cpu")
        drawn = sampler.draw((60, 100), seeded())
        assert drawn.shape == (60, 100)
        assert fits(drawn, {0: 2 / 6, 2: 1 / 6, 3: 3 / 6})
        expected = [math.log(2 / 6), -math.inf, math.log(1 / 6), math.log(3 / 6)]
        assert sampler.log_q(torch.arange(4)).tolist() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, math.nan], [math.inf, 1.0]])
    def test_unfit_weights_are_refused(self, weights):
        with pytest.raises(ValueError, match="at least 0 and not all 0"):
            PopularitySampler(torch.tensor(weights))


class TestNegatives:
    def test_without_rejection_all_items_are_equally_likely(self):
        items, valid = draw_uniform_negatives(50, 100, 5, generator=seeded())
        assert items.shape == valid.shape == (50, 100)
        assert valid.all()
        assert fits(items, dict.fromkeys(range(5), 1 / 5))

    @settings(deadline=None)
    @given(pairs, st.integers(0, 2**31), st.integers(0, 3))
    def test_no_valid_negative_is_forbidden(self, clicked, seed, max_rounds):
        users, items = torch.tensor(sorted(clicked), dtype=torch.int64).reshape(-1, 2).T
        forbidden = PairSet.from_pairs(users, items, 7, 11)
        rows = torch.tensor([3, 0, 3, 6])
        drawn, valid = draw_uniform_negatives(
            4, 9, 11, forbidden=forbidden, rows=rows, max_rounds=max_rounds, generator=seeded(seed)
        )
        is_clicked = [[(row, item) in clicked for item in line] for row, line in zip(rows.tolist(), drawn.tolist())]  # noqa: B905
        assert valid.tolist() == [[not clicked for clicked in line] for line in is_clicked]

    def test_rejection_leaves_the_rest_uniform(self):
        """Row 0 may not have items 0 to 5 of 8, row 1 may not have 7; names are row numbers by default."""
        forbidden = PairSet.from_pairs(torch.tensor([0] * 6 + [1]), torch.tensor([0, 1, 2, 3, 4, 5, 7]), 2, 8)
        items, valid = draw_uniform_negatives(2, 4000, 8, forbidden=forbidden, max_rounds=60, generator=seeded())
        assert valid.all()
        assert fits(items[0], {6: 1 / 2, 7: 1 / 2})
        assert fits(items[1], dict.fromkeys(range(7), 1 / 7))

    def test_what_still_collides_is_invalid(self):
        """With 3 of 4 items forbidden and one redraw, (3/4)^2 = 56 % stay invalid; with all forbidden, all do."""
        items, valid = draw_uniform_negatives(
            1, 10_000, 4, forbidden=lambda rows, items: items != 2, max_rounds=1, generator=seeded()
        )
        assert valid.float().mean().item() == pytest.approx(7 / 16, abs=0.02)
        assert (items[valid] == 2).all()
        _, none = draw_uniform_negatives(2, 3, 4, forbidden=lambda rows, items: items >= 0, generator=seeded())
        assert not none.any()

    def test_candidates_may_be_given(self):
        items, _ = draw_uniform_negatives(20, 100, torch.tensor([9, 4, 7]), generator=seeded())
        assert fits(items, {4: 1 / 3, 7: 1 / 3, 9: 1 / 3})

    def test_positives_reject_themselves_and_their_relations(self):
        neighbours = WeightedNeighbours.from_csr([0, 2, 2, 2, 2], [1, 2])
        anchors = torch.tensor([0, 3])
        items, valid = draw_uniform_negatives(
            2, 300, 4, forbidden=neighbours.contains, rows=anchors, max_rounds=50, generator=seeded()
        )
        assert valid.all()
        assert set(items[0].tolist()) == {3}
        assert set(items[1].tolist()) == {0, 1, 2}

    def test_session_positives_and_never_co_occurred_negatives(self):
        """Item 0 meets 1 in two sessions and 2 in one; pruned to one partner it still never gets 2 as a negative."""
        hour_ms = 3_600_001
        clicks = Clicks(
            user_ids=np.zeros(5, dtype=np.int32),
            item_ids=np.array([0, 1, 2, 0, 1], dtype=np.int32),
            time_ms=np.array([0, 1, 2, hour_ms, hour_ms + 1]),
        )
        drawn = []
        for top_partners in (10, 1):
            counts = count_cooccurrences(clicks, 5, SessionsConfig(top_partners=top_partners))
            positives = WeightedNeighbours.from_csr(counts.offsets, counts.partners, counts.weights, keys=counts.keys)
            drawn.append(positives.draw(torch.tensor([0]), 3000, seeded()))
        assert fits(drawn[0], {1: 2 / 3, 2: 1 / 3})
        assert drawn[1].unique().tolist() == [1]
        items, valid = draw_uniform_negatives(
            1, 500, 5, forbidden=positives.contains, rows=torch.tensor([0]), max_rounds=50, generator=seeded()
        )
        assert valid.all()
        assert items.unique().tolist() == [3, 4]

    def test_popular_negatives_can_be_rejected_too(self):
        generator, sampler = seeded(), PopularitySampler(torch.tensor([4.0, 3.0, 1.0]))
        items, valid = draw_negatives(
            lambda count: sampler.draw((count,), generator), 3, 2000, forbidden=lambda _, i: i == 0, max_rounds=40
        )
        assert valid.all()
        assert fits(items, {1: 3 / 4, 2: 1 / 4})

    def test_the_same_seed_draws_the_same(self):
        first, again = (
            draw_uniform_negatives(4, 5, 100, forbidden=lambda _, i: i < 50, generator=seeded(7))[0] for _ in range(2)
        )
        assert torch.equal(first, again)
