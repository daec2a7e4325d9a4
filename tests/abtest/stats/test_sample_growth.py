"""What planned looks cost in users: simulated sums, and the size that one look needs by statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from abtest.stats.spending import Schedule, bounds, bounds_of, correlations, sample_growth

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


EXPECTED = {  # each day to come as rich as the richest so far; a day of many; half of what comes
    "ramp": (RAMP, (1 / 142 * 7, 2 / 142 * 3.5, 27 / 142, 47 / 142, 92 / 142, 1, 1)),
    "front-loaded": ((0.35, 0.7, 0.88, 0.95, 0.98, 0.99, 1.0), (2.45, 2.45, 2.28, 2.0, 1.7, 1.34, 1.0)),
    "too little expected": ((0.1, 0.3, 0.6, 1.0), (0.12, 0.35, 0.7, 1.0)),
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_looks_by_expectations_find_the_effect_as_often_and_are_as_often_wrong(name, alpha):
    """However wrong the expectations: sums of independent steps, with and without a drift."""
    in_hand, expected = EXPECTED[name]
    schedule = Schedule(in_hand, tuple(max(pair) for pair in zip(in_hand, expected, strict=True)))
    z = [look.z for look in schedule.bounds(alpha)]
    drift = NormalIndPower().solve_power(nobs1=1, alpha=alpha, power=0.8) / np.sqrt(2)
    drift *= np.sqrt(schedule.growth(alpha))
    steps = np.diff([0.0, *in_hand])
    noise = np.cumsum(np.sqrt(steps) * np.random.default_rng(6).standard_normal((200_000, len(steps))), axis=1)
    false = (np.abs(noise / np.sqrt(in_hand)) > z).any(axis=1).mean()
    found = ((noise + drift * np.array(in_hand)) / np.sqrt(in_hand) > z).any(axis=1).mean()
    assert false == pytest.approx(alpha, abs=0.002)
    assert found == pytest.approx(0.8, abs=0.004)


def test_one_look_costs_nothing():
    assert sample_growth((1.0,)) == 1.0


def test_bounds_by_correlation_are_those_by_information():
    spent_by = [look.spent for look in bounds(RAMP)]
    assert [z for z, _ in bounds_of(spent_by, correlations(RAMP))] == [look.z for look in bounds(RAMP)]
