"""What planned looks cost in users: simulated sums, and the size that one look needs by statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from abtest.stats.spending import bounds, bounds_of, correlations, sample_growth

RAMP = tuple(np.cumsum([100, 100, 500, 1000, 2500, 5000, 5000]) / 14_200)


@pytest.mark.parametrize("shares", [tuple(k / 7 for k in range(1, 8)), RAMP, (0.5, 1.0)])
@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_the_grown_test_finds_the_effect_as_often_as_the_fixed_one(shares, alpha):
    drift = NormalIndPower().solve_power(nobs1=1, alpha=alpha, power=0.8) / np.sqrt(2)
    drift *= np.sqrt(sample_growth(shares, alpha=alpha))
    rng = np.random.default_rng(5)
    steps = np.diff([0.0, *shares])
    score = np.cumsum(steps * drift + np.sqrt(steps) * rng.standard_normal((200_000, len(shares))), axis=1)
    z = [look.z for look in bounds(shares, alpha=alpha)]
    found = (score / np.sqrt(shares) > z).any(axis=1).mean()
    assert found == pytest.approx(0.8, abs=0.004)


def test_one_look_costs_nothing():
    assert sample_growth((1.0,)) == 1.0


def test_bounds_by_correlation_are_those_by_information():
    spent_by = [look.spent for look in bounds(RAMP)]
    assert [z for z, _ in bounds_of(spent_by, correlations(RAMP))] == [look.z for look in bounds(RAMP)]
