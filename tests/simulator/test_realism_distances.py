"""Distances against SciPy's, and the interval of the classifier's AUC against a bootstrap over users."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, wasserstein_distance

from simulator.realism.classifier import clustered_auc
from simulator.realism.distances import distance, relative_difference

samples = st.lists(st.floats(-100, 100), min_size=2, max_size=30).map(np.array)


@given(samples, samples)
def test_line_distances_are_those_of_scipy(first, second):
    found = distance(first, second)
    assert found.ks == pytest.approx(ks_2samp(first, second, method="asymp").statistic, abs=1e-12)
    assert found.wasserstein == pytest.approx(wasserstein_distance(first, second), abs=1e-9)


def test_a_clock_goes_the_short_way_round():
    """An hour before midnight is two hours from an hour after it."""
    before, after = np.full(5, 23.0), np.full(5, 1.0)
    assert distance(before, after, 24.0).wasserstein == pytest.approx(2.0)
    assert distance(before, after).wasserstein == pytest.approx(22.0)


def test_relative_difference_by_hand():
    assert relative_difference(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == pytest.approx(2 * 2 / 8)
    assert relative_difference(np.zeros(2), np.zeros(2)) == 0.0
    assert relative_difference(np.zeros(1), np.ones(1)) == 2.0


def test_auc_by_counting_pairs_and_its_error_by_bootstrap_of_users():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 5)
    real = rng.normal(size=60)[user] + 0.3 * rng.normal(size=300)
    synthetic = 0.7 + rng.normal(size=60)[user] + 0.3 * rng.normal(size=300)
    pairs = (synthetic[:, None] > real[None, :]).mean()
    found = clustered_auc(real, synthetic, user, user)
    assert found.auc == pytest.approx(pairs)
    repeats = []
    for _ in range(300):
        a, b = (rng.integers(0, 60, 60)[:, None] * 5 + np.arange(5) for _ in range(2))
        repeats.append((synthetic[b.ravel()][:, None] > real[a.ravel()][None, :]).mean())
    assert found.se == pytest.approx(np.std(repeats), rel=0.2)
    alone = clustered_auc(real, synthetic, np.arange(300), np.arange(300))
    assert alone.se < 0.7 * found.se  # rows of one user taken for independent witnesses
