"""The tests against scipy and statsmodels, the laws they must obey, and their coverage by simulation."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

from abtest.stats.seed_and_user_tests import (
    PairedTest,
    fieller,
    holm,
    paired_seeds,
    paired_users,
    two_sided_p,
    welch_seeds,
)

# Clicks of 16 control and 18 treatment users; the figures below were computed with scipy by inverting ttest_ind.
CLICKS_C = [0, 1, 2, 0, 3, 5, 1, 0, 2, 4, 1, 7, 0, 2, 3, 1]
CLICKS_T = [1, 2, 2, 0, 4, 6, 3, 1, 2, 5, 2, 9, 1, 3, 3, 0, 4, 2]

values = st.lists(st.floats(0.05, 0.95, allow_nan=False), min_size=3, max_size=8)


def arms(seed: int, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    control = rng.normal(0.2, 0.01, n)
    return control, control + rng.normal(0.006, 0.004, n)


def true_treatment() -> float:
    """E[clip(rate + bonus, 0, 1)] by quadrature, where E[rate] is 0.25."""
    rate = np.linspace(0, 1, 4001)
    weight = stats.beta.pdf(rate, 1.0, 3.0)
    bonus = stats.norm.ppf((np.arange(2000) + 0.5) / 2000, 0.01, 0.1)
    inner = np.array([np.clip(r + bonus, 0, 1).mean() for r in rate])
    return float(np.trapezoid(inner * weight, rate))


class TestAgainstScipy:
    @pytest.mark.parametrize("seed", range(5))
    def test_paired(self, seed):
        control, treatment = arms(seed)
        ours, theirs = paired_seeds(control, treatment, alpha=0.1), stats.ttest_rel(treatment, control)
        assert (ours.t, ours.p, ours.df) == pytest.approx((theirs.statistic, theirs.pvalue, theirs.df), rel=1e-9)
        assert ours.difference_ci == pytest.approx(tuple(theirs.confidence_interval(0.9)), rel=1e-9)

    @pytest.mark.parametrize("seed", range(5))
    def test_welch(self, seed):
        control, treatment = arms(seed)[0], arms(seed + 100, n=7)[1]
        ours, theirs = welch_seeds(control, treatment), stats.ttest_ind(treatment, control, equal_var=False)
        assert (ours.t, ours.p, ours.df) == pytest.approx((theirs.statistic, theirs.pvalue, theirs.df), rel=1e-9)
        assert ours.difference_ci == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-9)

    def test_the_welch_fieller_interval_inverts_the_welch_test(self):
        low, high = welch_seeds(CLICKS_C, CLICKS_T).lift_ci
        assert (low, high) == pytest.approx((-0.2672509856471552, 2.111716099758229), rel=1e-9)
        for bound in (low, high):
            p = stats.ttest_ind(CLICKS_T, (1 + bound) * np.array(CLICKS_C), equal_var=False).pvalue
            assert p == pytest.approx(0.05, rel=1e-6)

    def test_the_paired_fieller_interval_inverts_the_paired_test(self):
        control, treatment = arms(3)

        def excess(lift):
            return stats.ttest_1samp(treatment - (1 + lift) * control, 0.0).pvalue - 0.05

        result = paired_seeds(control, treatment)
        expected = [optimize.brentq(excess, result.lift, result.lift + step) for step in (-0.5, 0.5)]
        assert result.lift_ci == pytest.approx(expected, rel=1e-6)

    def test_users_agree_with_the_delta_method_where_users_are_many(self):
        """Linearised residuals in plain loops, the first order of what ``paired_users`` inverts."""
        rng = np.random.default_rng(0)
        clicks = rng.integers(1, 30, 4000).astype(float)
        control, treatment = rng.binomial(clicks.astype(int), 0.2), rng.binomial(clicks.astype(int), 0.21)
        result = paired_users(control, treatment, clicks)
        mean_c, ratio, n = control.mean(), treatment.sum() / control.sum(), len(clicks)
        residuals = [(t - ratio * c) / mean_c for c, t in zip(control, treatment, strict=True)]
        half = 1.96 * math.sqrt(sum(r * r for r in residuals) / (n - 1) / n)
        assert result.lift == pytest.approx(ratio - 1)
        assert result.lift_ci == pytest.approx((ratio - 1 - half, ratio - 1 + half), rel=0.02)
        assert result.control == pytest.approx(control.sum() / clicks.sum())
        difference = (treatment.sum() - control.sum()) / clicks.sum()
        residuals = (treatment - control - difference * clicks) / clicks.mean()
        half = 1.96 * residuals.std(ddof=1) / math.sqrt(n)
        assert result.difference_ci == pytest.approx((difference - half, difference + half), rel=0.02)

    def test_users_with_one_click_each_are_a_paired_t(self):
        rng = np.random.default_rng(1)
        control, treatment = rng.random(50), rng.random(50) + 0.3
        theirs = stats.ttest_rel(treatment, control)
        ours = paired_users(control, treatment, np.ones(50))
        assert (ours.t, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue))
        assert ours.difference_ci == pytest.approx(tuple(theirs.confidence_interval()))


class TestTail:
    @pytest.mark.parametrize(("t", "df"), [(2.5, 4), (50.0, 1_500), (40.0, 1e6), (1e3, 300), (37.5, 4.6e7), (1e80, 4)])
    def test_log_p_against_arbitrary_precision(self, t, df):
        with mpmath.workdps(60):
            x = mpmath.mpf(df) / (df + mpmath.mpf(t) ** 2)
            exact = mpmath.log10(mpmath.betainc(mpmath.mpf(df) / 2, 0.5, 0, x, regularized=True))
        p, log10_p = two_sided_p(t, df)
        assert log10_p == pytest.approx(float(exact), rel=1e-9)
        assert p > 0.0
        assert two_sided_p(-t, df) == (p, log10_p)

    def test_no_difference_at_all(self):
        assert two_sided_p(0.0, 4) == (1.0, 0.0)


class TestLaws:
    @given(values, st.randoms(use_true_random=False))
    def test_the_lift_interval_excludes_zero_exactly_when_p_is_below_alpha(self, control, random):
        treatment = [value * random.uniform(0.9, 1.3) for value in control]
        for result in (
            paired_seeds(control, treatment),
            welch_seeds(control, treatment),
            paired_users(control, treatment, [random.randint(1, 5) for _ in control]),
        ):
            if result.lift_ci is None:
                assert result.reason
                continue
            assume(abs(result.p - 0.05) > 1e-6)
            low, high = result.lift_ci
            assert low - 1e-12 <= result.lift <= high + 1e-12
            assert (low > 0 or high < 0) == (result.p < 0.05)
            if result.difference_ci is not None:
                assert (result.difference_ci[0] > 0 or result.difference_ci[1] < 0) == (result.p < 0.05)

    @given(values, st.floats(0.01, 1000.0), st.permutations(range(8)))
    def test_neither_the_unit_nor_the_order_matters(self, control, scale, order):
        control = np.array(control)
        treatment = control * np.linspace(1.0, 1.2, len(control))
        place = [index for index in order if index < len(control)]
        for compare in (paired_seeds, welch_seeds):
            plain, other = compare(control, treatment), compare(scale * control[place], scale * treatment[place])
            assert other.p == pytest.approx(plain.p, rel=1e-6)
            assert other.lift == pytest.approx(plain.lift)
            assert (other.lift_ci is None) == (plain.lift_ci is None)
            if plain.lift_ci:
                assert other.lift_ci == pytest.approx(plain.lift_ci, rel=1e-5, abs=1e-9)

    def test_swapping_the_arms_turns_the_sign(self):
        control, treatment = arms(0)
        for compare in (paired_seeds, welch_seeds):
            there, back = compare(control, treatment), compare(treatment, control)
            assert back.p == pytest.approx(there.p)
            assert back.difference_ci == pytest.approx(tuple(-bound for bound in reversed(there.difference_ci)))
            inverse = tuple(1 / (1 + bound) - 1 for bound in reversed(there.lift_ci))
            assert back.lift_ci == pytest.approx(inverse, rel=1e-6)

    def test_more_confidence_wider_intervals(self):
        control, treatment = arms(1)
        for compare in (paired_seeds, welch_seeds):
            narrow, wide = (
                compare(control, treatment, alpha=0.2).lift_ci,
                compare(control, treatment, alpha=0.01).lift_ci,
            )
            assert wide[0] < narrow[0] < narrow[1] < wide[1]

    def test_a_negative_control_mean_keeps_the_sign_of_the_gain(self):
        result = paired_seeds([-2.0, -2.2, -1.9], [-1.0, -1.3, -0.9])
        assert result.lift == pytest.approx(0.475, abs=0.01)
        assert 0 < result.lift_ci[0] < result.lift < result.lift_ci[1]


class TestUndefined:
    """What cannot be judged is None with a reason, never p = 0 or p = 1."""

    def check(self, result: PairedTest, reason: str) -> None:
        assert (result.p, result.difference_ci, result.lift_ci) == (None, None, None)
        assert reason in result.reason

    def test_one_seed(self):
        for compare in (paired_seeds, welch_seeds):
            result = compare([0.2], [0.3])
            self.check(result, "1 seed: at least 2 seeds are needed")
            assert result.lift == pytest.approx(0.5)

    def test_no_seed(self):
        self.check(paired_seeds([], []), "0 seed")

    def test_equal_arms(self):
        self.check(paired_seeds([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), "the arms are equal for every seed")

    def test_a_constant_gain_is_not_significance_by_rounding(self):
        control = np.array([0.1, 0.2, 0.3])
        self.check(paired_seeds(control, control + 0.1), "the difference is the same for every seed")
        self.check(welch_seeds([0.1, 0.1], [0.3, 0.3]), "neither arm varies")

    def test_not_a_number(self):
        for compare in (paired_seeds, welch_seeds):
            self.check(compare([0.1, math.nan], [0.1, 0.2]), "undefined for at least one seed")

    def test_a_control_of_zero_has_a_difference_but_no_lift(self):
        result = paired_users([0.0, 0.0, 0.0], [1.0, 0.0, 2.0], [2, 1, 2])
        assert (result.lift, result.lift_ci) == (None, None)
        assert result.p is not None
        assert "control mean is 0" in result.reason

    @pytest.mark.parametrize("compare", [paired_seeds, welch_seeds])
    def test_a_control_within_noise_of_zero_has_no_bounded_interval(self, compare):
        result = compare([-1.0, 1.5, 0.2], [3.0, 3.5, 4.5])
        assert result.lift_ci is None
        assert result.difference_ci is not None
        assert "unbounded" in result.reason

    def test_arms_of_unequal_length_are_a_bug(self):
        with pytest.raises(ValueError, match="same seeds"):
            paired_seeds([1.0, 2.0], [1.0, 2.0, 3.0])


class TestHolm:
    @pytest.mark.parametrize(
        "p_values", [[0.3], [0.04, 0.01, 0.03, 0.005], [0.02] * 3 + [0.9], [1e-30, 0.5, 1.0, 0.26]]
    )
    def test_against_statsmodels(self, p_values):
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))

    def test_undefined_tests_do_not_count(self):
        assert holm([0.01, None, 0.03]) == pytest.approx([0.02, None, 0.03])
        assert holm([None]) == [None]


class TestCoverage:
    """Seeded simulations; a band of 4 standard errors of a binomial share around the promise."""

    REPEATS = 2000
    BAND = 4 * math.sqrt(0.05 * 0.95 / REPEATS)

    def test_five_seeds(self):
        """Seeds shared by both arms move both; a true lift of 4 %, then one of 0 for the error rate."""
        rng = np.random.default_rng(7)
        missed = {"paired": 0, "welch": 0}
        false = 0
        for _ in range(self.REPEATS):
            shared, own = rng.normal(0, 0.01, 5), rng.normal(0, 0.004, (3, 5))
            control, treatment = 0.2 + shared + own[0], 0.208 + shared + own[1]
            low, high = paired_seeds(control, treatment).lift_ci
            missed["paired"] += not low <= 0.04 <= high
            false += paired_seeds(control, 0.2 + shared + own[2]).p < 0.05
            independent = 0.208 + rng.normal(0, 0.01, 5) + own[1]
            low, high = welch_seeds(control, independent).lift_ci
            missed["welch"] += not low <= 0.04 <= high
        assert missed["paired"] / self.REPEATS == pytest.approx(0.05, abs=self.BAND)
        assert false / self.REPEATS == pytest.approx(0.05, abs=self.BAND)
        assert missed["welch"] / self.REPEATS <= 0.05 + self.BAND  # Welch at n = 5 errs to the safe side

    def test_users_whose_clicks_are_not_independent(self):
        """Users differ in taste and in clicks: rows as units would miss far more often than users as units."""
        rng = np.random.default_rng(11)
        truth = true_treatment() / 0.25 - 1
        missed = rows_missed = 0
        for _ in range(self.REPEATS):
            clicks = rng.geometric(0.1, 300)
            rate = rng.beta(1.0, 3.0, 300)
            bonus = rng.normal(0.01, 0.1, 300)
            control = rng.binomial(clicks, rate)
            treatment = rng.binomial(clicks, np.clip(rate + bonus, 0, 1))
            low, high = paired_users(control, treatment, clicks).lift_ci
            missed += not low <= truth <= high
            difference, n = (treatment.sum() - control.sum()) / clicks.sum(), clicks.sum()
            half = 1.96 * math.sqrt((control.sum() / n * (1 - control.sum() / n)) * 2 / n)
            rows_missed += not difference - half <= 0.25 * truth <= difference + half
        assert missed / self.REPEATS == pytest.approx(0.05, abs=self.BAND + 0.01)
        assert rows_missed > 1.5 * missed


def test_fieller_of_a_constant_denominator_is_a_t_interval():
    sample = np.array([1.0, 2.0, 4.0, 7.0])
    expected = stats.ttest_1samp(sample, 0).confidence_interval()
    assert fieller(sample, np.ones(4), alpha=0.05) == pytest.approx(tuple(expected))
