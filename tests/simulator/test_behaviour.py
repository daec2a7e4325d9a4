"""Rates out = rates in, whatever the rates depend on."""

import numpy as np
import pytest
from scipy import stats

from simulator.world.behaviour import BehaviourModel, both_tails, follow_correlation
from simulator.world.world_config import BehaviourConfig

N = 2_000_000


def draw(**keys):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**63, N).astype(np.uint64)
    dwell, like, quality = rng.standard_normal((3, N))
    return BehaviourModel(BehaviourConfig(**keys)).draw(bits, dwell, like, quality), (dwell, like, quality)


def within_sampling_error(count, n, rate):
    return stats.binomtest(int(count), int(n), rate).pvalue > 1e-4


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"like_rate": 0.2, "follow_rate": 0.05, "follow_given_like": 0.2},
        {"like_user": 0.0, "like_quality": 0.0, "like_dwell": 0.0},
        {"like_user": 0.9, "like_quality": 0.1, "like_dwell": 0.1, "dwell_quality": 0.9},
        {"follow_given_like": 0.001},
        {"like_quality": -0.5, "dwell_user": -0.5},
    ],
)
def test_rates_out_are_rates_in(keys):
    want = BehaviourConfig(**keys)
    got, _ = draw(**keys)
    assert within_sampling_error(got.like.sum(), N, want.like_rate)
    assert within_sampling_error(got.follow.sum(), N, want.follow_rate)
    assert within_sampling_error(got.follow[got.like].sum(), got.like.sum(), want.follow_given_like)
    log = np.log(got.dwell_s)
    assert abs(log.mean() - want.dwell_log_mean) < 4 * want.dwell_log_sd / np.sqrt(N) + 1e-4  # the cap at an hour
    assert abs(log.std() / want.dwell_log_sd - 1) < 0.005


def test_weights_are_correlations():
    got, (dwell, like, quality) = draw(dwell_user=0.4, dwell_quality=0.5, like_rate=0.4, follow_given_like=0.004)
    log = np.log(got.dwell_s)
    assert np.corrcoef(log, dwell)[0, 1] == pytest.approx(0.4, abs=0.005)
    assert np.corrcoef(log, quality)[0, 1] == pytest.approx(0.5, abs=0.005)
    assert got.like[like > 1].mean() > 1.5 * got.like[like < -1].mean()


def test_like_rises_with_dwell():
    got, _ = draw()
    low, high = np.quantile(got.dwell_s, [0.1, 0.9])
    assert got.like[got.dwell_s > high].mean() > 1.3 * got.like[got.dwell_s < low].mean()


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.3, 0.9])
def test_both_tails_against_scipy(correlation):
    a, b = stats.norm.isf(0.032), stats.norm.isf(0.0026)
    expected = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]]).cdf([-a, -b])
    assert both_tails(0.032, 0.0026, correlation) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_more_follows_of_likes_than_follows_is_refused():
    with pytest.raises(ValueError, match="lower it or raise follow_rate"):
        follow_correlation(0.5, 0.01, 0.5)
