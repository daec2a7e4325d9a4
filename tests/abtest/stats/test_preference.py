"""Users that interleaving and A/B tests need: by formula, by simulated tests of that size, and the ratio's interval."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import NormalIndPower

from abtest.stats.preference import adjusted, interleaved, split_test, users_ratio

ALPHA, POWER = 0.05, 0.8


def users(rng, n, *, lift=0.1, noise=2.0):
    """Clicks under control and under treatment, and the credit under interleaving, of the same users."""
    own = rng.gamma(1.0, 3.0, n)
    before = own + noise * rng.standard_normal(n)
    after = own + lift + noise * rng.standard_normal(n)
    return before, after, lift + 0.5 * rng.standard_normal(n)


def test_users_of_the_split_test_are_those_of_statsmodels():
    before, after, _ = users(np.random.default_rng(0), 50_000, lift=0.3)
    found = split_test(before, after, alpha=ALPHA, power=POWER)
    size = (after.mean() - before.mean()) / np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / 2)
    per_arm = NormalIndPower().solve_power(size, power=POWER, alpha=ALPHA)
    assert found.users == pytest.approx(2 * per_arm, rel=1e-3)


def test_that_many_users_find_it_as_often_as_promised():
    """800 interleaving experiments of the size that is named: 80 % of them are significant."""
    rng = np.random.default_rng(1)
    _, _, many = users(rng, 400_000, lift=0.1)
    needed = interleaved(many, alpha=ALPHA, power=POWER).users
    runs = np.stack([users(rng, needed, lift=0.1)[2] for _ in range(800)])
    found = np.mean(np.abs(stats.ttest_1samp(runs, 0.0, axis=1).statistic) > stats.norm.ppf(1 - ALPHA / 2))
    assert found == pytest.approx(POWER, abs=4 * np.sqrt(POWER * 0.2 / 800))


def test_interval_of_the_ratio_holds_it():
    """150 worlds of 1,500 users: the 90 % interval holds the ratio of the whole population about 135 times."""
    rng = np.random.default_rng(2)
    true = users_ratio(*users(rng, 400_000, lift=0.6), alpha=0.1, rng=rng, resamples=2).ratio
    hits = 0
    for _ in range(150):
        low, high = users_ratio(*users(rng, 1500, lift=0.6), alpha=0.1, rng=rng, resamples=200).ci
        hits += low <= true <= high
    assert stats.binom.ppf(0.001, 150, 0.9) <= hits <= 150


def test_no_difference_in_the_split_test_has_no_upper_end():
    rng = np.random.default_rng(3)
    before = rng.standard_normal(500)
    found = users_ratio(before, before + 0.0, 1.0 + rng.standard_normal(500), alpha=ALPHA, rng=rng)
    assert found.ratio is None
    assert found.ci[1] == np.inf


def test_no_preference_is_worth_nothing():
    rng = np.random.default_rng(4)
    before, after, _ = users(rng, 300)
    assert users_ratio(before, after, np.zeros(300), alpha=ALPHA, rng=rng).ratio == 0.0
    assert interleaved(np.zeros(300), alpha=ALPHA, power=POWER).users is None


def test_scale_and_order_do_not_matter():
    """Clicks counted in tens, and the arms exchanged, need the same users."""
    before, after, credit = users(np.random.default_rng(5), 2000)
    same = users_ratio(before, after, credit, alpha=ALPHA, rng=np.random.default_rng(1))
    turned = users_ratio(10 * after, 10 * before, -credit, alpha=ALPHA, rng=np.random.default_rng(1))
    assert turned.ratio == pytest.approx(same.ratio)
    assert turned.ci == pytest.approx(same.ci)


def test_covariate_takes_its_share_of_the_noise():
    rng = np.random.default_rng(6)
    earlier = rng.standard_normal(20_000)
    values = 5.0 + 2.0 * earlier + rng.standard_normal(20_000)
    left = adjusted(values, earlier)
    assert left.mean() == pytest.approx(values.mean())
    assert left.var() == pytest.approx(1.0, rel=0.05)
    assert adjusted(values, np.ones(20_000)) is values


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="same two or more"):
        users_ratio(np.ones(3), np.ones(3), np.ones(2), alpha=ALPHA, rng=np.random.default_rng(0))
