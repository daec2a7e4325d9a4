"""When a t-test may be believed: skewness against scipy, the rules by hand, and false alarms over simulated tests."""

import numpy as np
import pytest
from scipy.stats import skew

from abtest.stats.normality import DistributionShape, why_not_normal
from tests.benchmarks.bench_rare import events, skewed


def shape(values: np.ndarray, pivot: float = 0.0, scale: float = 1.0) -> DistributionShape:
    z = (values - pivot) / scale
    binary = bool(np.isin(values, [0, 1]).all())
    return DistributionShape(len(values), int((values != 0).sum()), binary, (z.sum(), (z**2).sum(), (z**3).sum()))


def conversions(n: int, count: int) -> DistributionShape:
    return shape(np.repeat([0.0, 1.0], [n - count, count]))


@pytest.mark.parametrize(("pivot", "scale"), [(0.0, 1.0), (1e6, 10.0)])
def test_skewness_is_scipys_in_any_unit_and_over_groups(pivot, scale):
    x = pivot + scale * np.random.default_rng(0).lognormal(0, 1, 1000)
    parts = [shape(part, pivot + scale, scale) for part in np.split(x, [10, 300])]
    assert parts[0].plus(parts[1]).plus(parts[2]).skewness == pytest.approx(skew(x), rel=1e-6)


def test_what_does_not_vary_has_no_skewness():
    assert shape(np.full(50, 3.0)).skewness == 0.0
    assert why_not_normal(shape(np.full(50, 3.0)), shape(np.full(500, 3.0))) is None


@pytest.mark.parametrize(
    ("control", "treatment", "says"),
    [
        ((10_000, 2), (10_000, 7), "only 2 and 7 users have a value other than 0, which is 4.5 expected in an arm"),
        ((10_000, 10), (10_000, 9), "9.5 expected"),
        ((10_000, 10), (10_000, 10), None),
        ((10_000, 400), (10_000, 0), None),  # 200 are expected: that one arm has none is the finding
        ((500, 497), (500, 491), "only 3 and 9 users have a value of 0, which is 6 expected"),
        ((90_000, 60), (10_000, 20), "8 expected"),
        ((90_000, 100), (10_000, 20), None),
    ],
)
def test_events_are_those_expected_where_nothing_differs(control, treatment, says):
    found = why_not_normal(conversions(*control), conversions(*treatment))
    assert (found is None) if says is None else says in found


def test_equal_arms_cancel_skewness_and_unequal_ones_do_not():
    x = np.random.default_rng(1).lognormal(0, 2, 2000)
    assert why_not_normal(shape(x[:1000]), shape(x[1000:])) is None
    expected = skew(x) * 1600 / np.sqrt(1800 * 200 * 2000)  # third cumulant of the difference of two means, by hand
    assert f"a skewness of {expected:.2f}" in str(why_not_normal(shape(x[:1800]), shape(x[1800:])))


def test_values_between_0_and_1_have_no_non_events():
    shares = np.random.default_rng(2).uniform(0.1, 1.0, 400)
    assert why_not_normal(shape(shares[:200]), shape(shares[200:])) is None


def test_without_the_floor_a_small_arm_looks_worse_far_too_often():
    """One side of 2.5 % becomes 36 and 12 %; what the floor lets through has at most 7 % on both sides together."""
    few = events(1, 0.1, tests=5000, seed=1)
    assert few.worse > 0.3
    assert few.judged == 0.0
    long_tails = skewed(2.0, 100, 0.1, tests=500, seed=2)
    assert long_tails.worse > 0.08
    assert long_tails.judged < 0.02
    assert events(15, 0.1, tests=20_000, seed=3).of_those < 0.07
    assert events(15, 0.5, tests=20_000, seed=4).of_those == pytest.approx(0.05, abs=0.006)
