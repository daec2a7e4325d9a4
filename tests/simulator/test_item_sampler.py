"""Draws from the catalogue against the weights written out."""

import numpy as np
import pytest

from simulator.world.item_sampler import Segments, WeightedItemSampler

HOUR = 3_600.0
SEGMENT = np.array([0, 0, 0, 1, 1, 2], np.int32)
APPEAL = np.array([1.0, 2.0, 5.0, 3.0, 1.0, 1.0])
PUBLISHED = np.array([-10.0, -48.0, 3.0, -1.0, 0.5, 50.0]) * HOUR
EVERGREEN = np.array([True, False, False, False, True, True])


def shelf() -> WeightedItemSampler:
    whole = np.zeros(6, np.int32)
    return WeightedItemSampler.build(
        [Segments(SEGMENT, 3, EVERGREEN), Segments(whole, 1, EVERGREEN)],
        APPEAL,
        PUBLISHED,
        half_life_s=24 * HOUR,
        bucket_s=HOUR,
        buckets=100,
    )


def expected_shares(members, hour) -> np.ndarray:
    weights = np.zeros(6)
    for item in members:
        age = hour * HOUR - PUBLISHED[item]
        if age >= 0:
            weights[item] = APPEAL[item] * (1.0 if EVERGREEN[item] else 0.5 ** (age / (24 * HOUR)))
    return weights / weights.sum()


@pytest.mark.parametrize(("segment", "members"), [(0, [0, 1, 2]), (1, [3, 4]), (3, range(6))])
@pytest.mark.parametrize("hour", [0, 2, 3, 60, 99])
def test_shares_are_those_of_the_weights(segment, members, hour):
    n = 100_000
    even = (np.arange(n) + 0.5) / n  # an even grid: shares are exact to 1/n per item
    items = shelf().pick(np.full(n, segment), np.full(n, hour), even)
    np.testing.assert_allclose(np.bincount(items, minlength=6) / n, expected_shares(members, hour), atol=2e-4)


def test_nothing_out_yet_is_minus_one():
    picked = shelf().pick(np.array([2, 2]), np.array([49, 50]), np.array([0.3, 0.3]))
    np.testing.assert_array_equal(picked, [-1, 5])


def test_later_items_do_not_move_earlier_draws():
    longer = WeightedItemSampler.build(
        [Segments(np.append(SEGMENT, 0).astype(np.int32), 3, np.append(EVERGREEN, False)),
         Segments(np.zeros(7, np.int32), 1, np.append(EVERGREEN, False))],
        np.append(APPEAL, 9.0),
        np.append(PUBLISHED, 200 * HOUR),
        half_life_s=24 * HOUR,
        bucket_s=HOUR,
        buckets=300,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    segment, hour, uniform = rng.choice([0, 1, 3], 5_000), rng.integers(0, 100, 5_000), rng.random(5_000)
    np.testing.assert_array_equal(longer.pick(segment, hour, uniform), shelf().pick(segment, hour, uniform))


def test_a_half_life_too_short_to_tell_weights_apart_is_refused():
    with pytest.raises(ValueError, match="raise it or shorten the log"):
        WeightedItemSampler.build(
            [Segments(SEGMENT, 3, EVERGREEN)], APPEAL, PUBLISHED, half_life_s=0.1, bucket_s=HOUR, buckets=3
        )


def test_every_item_of_a_large_catalogue_is_reached():
    """Rounding leaves no item out, though each has a millionth of the weight and other segments lie below."""
    n, many = 1_000_000, 20_000
    segment = (np.arange(n) % many).astype(np.int32)
    shelf = WeightedItemSampler.build(
        [Segments(segment, many, np.ones(n, bool)), Segments(np.zeros(n, np.int32), 1, np.ones(n, bool))],
        np.ones(n),
        -np.arange(n, dtype=np.float64),
        half_life_s=1e9,
        bucket_s=HOUR,
        buckets=1,
    )
    even = (np.arange(n) + 0.5) / n
    items = shelf.pick(np.full(n, many), np.zeros(n, np.int64), even)
    np.testing.assert_array_equal(np.sort(items), np.arange(n))
