"""Spread, shrinkage and selection against statsmodels, integration, and simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from statsmodels.stats.meta_analysis import combine_effects

from abtest.stats.posterior import normal_posterior
from abtest.stats.selection import after_selection
from abtest.stats.shrinkage import between, shrunken


@pytest.mark.parametrize("seed", range(6))
def test_spread_is_that_of_meta_analysis(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 12))
    se = rng.uniform(0.005, 0.03, k)
    y = rng.normal(0.01, 0.03 * (seed % 3), k) + rng.normal(0, se)
    found = between(y, se)
    expected = combine_effects(y, se**2)
    assert found.q == pytest.approx(expected.q, rel=1e-10)
    assert found.p == pytest.approx(expected.test_homogeneity().pvalue, rel=1e-9)

    def weighted(tau2):  # Paule and Mandel's equation, solved by scipy
        mean = np.average(y, weights=1 / (se**2 + tau2))
        return np.sum((y - mean) ** 2 / (se**2 + tau2)) - (k - 1)

    tau2 = optimize.brentq(weighted, 0, 1, xtol=1e-16) if weighted(0.0) > 0 else 0.0
    weights = 1 / (se**2 + tau2)
    assert found.sd**2 == pytest.approx(tau2, rel=1e-8, abs=1e-15)
    assert found.mean == pytest.approx(np.average(y, weights=weights), rel=1e-8)
    assert found.mean_se == pytest.approx(weights.sum() ** -0.5, rel=1e-8)


def test_one_test_of_many_slices_keeps_its_level():
    """Cochran's Q with the noise of 5 slices: 5 % false alarms."""
    rng = np.random.default_rng(1)
    se = np.array([0.01, 0.02, 0.01, 0.05, 0.03])
    alarms = [between(rng.normal(0.02, se), se).p < 0.05 for _ in range(2500)]
    assert 0.04 < np.mean(alarms) < 0.06


def test_shrunken_effects_against_integration():
    """The posterior of one effect, by two nested integrals that share no code with ours."""
    y, s = np.array([0.05, -0.01, 0.02]), np.array([0.01, 0.02, 0.015])
    s0 = np.sqrt(3 / (1 / s**2).sum())

    def weight(tau):
        v = s**2 + tau**2
        mu_var = 1 / (1 / v).sum()
        mu = (y / v).sum() * mu_var
        density = np.prod(stats.norm.pdf(y, mu, np.sqrt(v))) * np.sqrt(mu_var)
        mean = mu + tau**2 / v[0] * (y[0] - mu)
        return density * s0 / (s0 + tau) ** 2, mean

    total = integrate.quad(lambda t: weight(t)[0], 0, 5, limit=500, points=[0.01, 0.1])[0]
    mean = integrate.quad(lambda t: np.prod(weight(t)), 0, 5, limit=500, points=[0.01, 0.1])[0] / total
    assert shrunken(y, s)[0].effect == pytest.approx(mean, rel=2e-3)


def test_shrinkage_has_the_coverage_it_promises():
    """Spreads drawn from the prior, then a fixed one; raw intervals of the largest slice miss, shrunken ones do not."""
    rng = np.random.default_rng(2)
    covered, largest, raw_largest = [], [], []
    for _ in range(900):
        k = int(rng.integers(3, 9))
        se = rng.uniform(0.5, 2.0, k)
        u = rng.random()
        tau = np.sqrt(k / (1 / se**2).sum()) * u / (1 - u)
        theta = rng.normal(3.0, tau, k)
        y = rng.normal(theta, se)
        found = shrunken(y, se)
        inside = [one.interval[0] <= true <= one.interval[1] for one, true in zip(found, theta, strict=True)]
        covered += inside
        top = int(np.argmax(y / se))
        largest.append(inside[top])
        raw_largest.append(abs(y[top] - theta[top]) <= 1.96 * se[top])
    assert 0.94 < np.mean(covered) < 0.96
    assert 0.935 < np.mean(largest) < 0.965
    assert np.mean(raw_largest) < np.mean(largest) - 0.01


def test_shrinkage_law():
    """All alike: all shrink to the mean; far apart: none does; a rescaled problem gives rescaled answers."""
    alike = shrunken([1.0, 1.01, 0.99], [0.5, 0.5, 0.5])
    assert max(one.effect for one in alike) - min(one.effect for one in alike) < 0.01
    apart = shrunken([1.0, 100.0, -100.0], [0.5, 0.5, 0.5])
    assert [one.effect for one in apart] == pytest.approx([1.0, 100.0, -100.0], abs=0.1)
    scaled = shrunken([0.01, 0.0101, 0.0099], [0.005] * 3)
    assert [one.effect for one in scaled] == pytest.approx([one.effect / 100 for one in alike])


def test_posterior_with_a_normal_prior():
    mean, sd, _ = normal_posterior(0.04, 0.02, 0.0, 0.01)
    assert mean == pytest.approx(0.04 * 0.01**2 / (0.01**2 + 0.02**2))
    assert sd == pytest.approx((1 / 0.01**2 + 1 / 0.02**2) ** -0.5)
    assert normal_posterior(0.04, 0.02, 0.01, 0.0) == (0.01, 0.0, 0.0)
    assert normal_posterior(0.04, 0.02, 0.01, math.inf) == (0.04, 0.02, 1.0)


class TestSelection:
    @pytest.mark.parametrize("true", [0.0, 1.0, 2.5])
    def test_among_the_winners_the_corrected_interval_holds(self, true):
        """Raw intervals cover far less than 95 % of the true effects among what was significant."""
        rng = np.random.default_rng(3)
        z = rng.normal(true, 1.0, 40_000)
        won = z[np.abs(z) > 1.96][:3000]
        found = [after_selection(float(one), 1.96) for one in won]
        held = np.mean([one.interval[0] <= true <= one.interval[1] for one in found])
        assert 0.94 < held < 0.96
        assert 0.46 < np.mean([one.z < true for one in found]) < 0.54
        if true == 1.0:
            assert np.mean(np.abs(won - true) <= 1.96) < 0.9

    def test_against_numerical_conditioning(self):
        """The truncated normal of scipy, solved by brute force."""
        z, bound = 2.3, 1.96

        def above(effect):
            return stats.norm.sf(z - effect) / (stats.norm.sf(bound - effect) + stats.norm.cdf(-bound - effect))

        found = after_selection(z, bound)
        assert [above(found.interval[0]), above(found.z), above(found.interval[1])] == pytest.approx(
            [0.025, 0.5, 0.975]
        )

    def test_far_out_nothing_is_corrected(self):
        found = after_selection(9.0, 1.96)
        assert found.z == pytest.approx(9.0, abs=1e-6)
        assert found.interval == pytest.approx((9 - 1.959964, 9 + 1.959964), abs=1e-5)
        assert after_selection(-3.0, 1.96).z == -after_selection(3.0, 1.96).z
        assert np.isfinite(after_selection(40.0, 2.0).z)

    def test_what_was_not_selected_is_refused(self):
        with pytest.raises(ValueError, match="at least the bound"):
            after_selection(1.0, 1.96)
