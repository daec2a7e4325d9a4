"""Intervals over seeds and users at once, against numbers worked by hand, scipy, and draws whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from abtest.stats.crossed_lift import MeasuredLift, crossed_intervals, measured_lift


def test_the_lift_and_its_error_over_users_are_those_of_a_ratio():
    """The error of a ratio of sums, by the jackknife, which shares no formula with the linearised one."""
    rng = np.random.default_rng(0)
    control, treatment = rng.poisson(4.0, 400).astype(float), rng.poisson(5.0, 400).astype(float)
    found = measured_lift([0.4, 0.42], [0.5, 0.53], control, treatment)
    assert found.lift == pytest.approx(1.03 / 0.82 - 1)
    assert found.by_seed == pytest.approx((0.25, 0.53 / 0.42 - 1))
    ratio = treatment.sum() / control.sum()
    again = measured_lift([control.sum()] * 2, [treatment.sum()] * 2, control, treatment)
    left_out = (treatment.sum() - treatment) / (control.sum() - control)
    jackknife = math.sqrt(399 / 400 * ((left_out - left_out.mean()) ** 2).sum())
    assert again.lift == pytest.approx(ratio - 1)
    assert again.users_se == pytest.approx(jackknife, rel=0.01)


def test_without_noise_of_users_it_is_the_pooled_t_interval_of_the_seeds():
    """Two groups of seeds with one variance: the interval of each mean as scipy's t has it."""
    groups = [(0.10, 0.14, 0.12), (0.01, -0.03, 0.05)]
    lifts = [MeasuredLift(float(np.mean(group)), group, 0.0, 1000) for group in groups]
    pooled = sum((len(group) - 1) * np.var(group, ddof=1) for group in groups) / 4
    for group, found in zip(groups, crossed_intervals(lifts, alpha=0.05), strict=True):
        expected = stats.t.interval(0.95, 4, loc=np.mean(group), scale=math.sqrt(pooled / 3))
        assert found.lift_ci == pytest.approx(expected)
        assert found.df == pytest.approx(4)


def test_without_noise_of_seeds_it_is_the_interval_over_users():
    (found,) = crossed_intervals([MeasuredLift(0.1, (0.1, 0.1), 0.02, 50)], alpha=0.1)
    assert found.lift_ci == pytest.approx(stats.t.interval(0.9, 49, loc=0.1, scale=0.02))


def test_it_holds_the_truth_as_often_as_it_says():
    """Seeds and users both drawn anew, 2,000 times; half the noise each."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(500):
        lifts = []
        for _square in range(4):
            seeds = rng.normal(0.0, 0.03, 3)  # of each training
            users = rng.normal(0.0, 0.017)  # of this sample of users
            by_seed = tuple(0.1 + users + seeds)
            lifts.append(MeasuredLift(float(np.mean(by_seed)), by_seed, 0.017, 400))
        held += sum(one.lift_ci[0] <= 0.1 <= one.lift_ci[1] for one in crossed_intervals(lifts, alpha=0.05))
    low, high = stats.binom.interval(0.999, 2000, 0.95)
    assert low - 20 <= held <= high  # squares of one map share their pooled variance: a little more spread


def test_a_control_without_hits_has_no_lift():
    (found,) = crossed_intervals([measured_lift([0.0, 0.0], [0.1, 0.1], [0, 0], [1, 2])], alpha=0.05)
    assert (found.lift, found.lift_ci) == (None, None)


def test_equal_models_have_no_interval_to_judge_by():
    one = measured_lift([0.2, 0.2], [0.2, 0.2], [1, 2, 3], [1, 2, 3])
    (found,) = crossed_intervals([one], alpha=0.05)
    assert (found.lift, found.lift_ci) == (0.0, None)
