"""When a result may be called significant."""

import numpy as np
import pytest
from scipy import stats

from abtest.stats import (
    Moments,
    anytime_difference,
    bounds,
    daily_srm,
    fixed_horizon,
    group_sequential,
    information_fraction,
    srm_by,
    welch,
)
from abtest.stats.spending import stagewise_p


def arms(n, lift=0.3):
    rng = np.random.default_rng(0)
    return Moments.of({"x": rng.gamma(2, 1, n)}), Moments.of({"x": rng.gamma(2, 1, n) * (1 + lift)})


def test_a_fixed_test_waits_for_its_end():
    estimate = welch(*arms(200), "x")
    assert estimate.p < 0.001
    early = fixed_horizon(estimate, planned_n=1000)
    assert (early.ended, early.significant) == (False, None)
    assert early.reason == "the planned end (400 of 1,000 users) is not reached: a fixed test is read once, at its end"
    assert fixed_horizon(estimate, planned_n=400).significant is True
    assert fixed_horizon(estimate, ended=False).significant is None
    assert fixed_horizon(estimate, ended=True).significant is True
    with pytest.raises(ValueError, match="needs its planned end"):
        fixed_horizon(estimate)


def test_repeated_intervals_and_stagewise_p():
    data = [arms(n, 0.2) for n in (100, 200, 300)]
    looks = group_sequential(data, "x", planned_n=(300, 300), final=True)
    for look, (c, t) in zip(looks, data, strict=True):
        assert look.estimate == welch(c, t, "x", alpha=look.look.alpha)
        low, high = look.estimate.lift_ci
        assert look.crossed == (not low <= 0 <= high)
        assert look.crossed == (look.stagewise_p < look.look.spent)
    assert looks[-1].look.spent == 0.05


def test_a_look_without_news_spends_nothing():
    data = [arms(100), arms(100), arms(200)]
    first, second, third = group_sequential(data, "x", planned_n=(200, 200))
    assert (second.look.spent, second.crossed) == (first.look.spent, False)
    assert second.estimate.p is None
    assert third.look == bounds([0.5, 1.0])[1]


def test_final_look_spends_the_rest_however_many_came():
    short = group_sequential([arms(50), arms(80)], "x", planned_n=(100, 100), final=True)
    assert short[-1].look.spent == 0.05
    over = group_sequential([arms(50), arms(130), arms(150)], "x", planned_n=(100, 100), final=True)
    assert over[-1].look.information == 1.5
    assert over[-1].look.spent == 0.05


def test_looks_are_as_alike_as_the_users_there_make_them():
    """80 users where 100 were planned: the last bound by the correlation sqrt(50 / 80) of two looks, by quadrature."""
    first, last = (
        found.look for found in group_sequential([arms(50), arms(80)], "x", planned_n=(100, 100), final=True)
    )
    assert first.z == pytest.approx(bounds([0.5])[0].z, rel=1e-12)
    law = stats.multivariate_normal(cov=[[1.0, np.sqrt(50 / 80)], [np.sqrt(50 / 80), 1.0]])
    stays = law.cdf([first.z, last.z])  # no upper bound is crossed
    assert 1.0 - stays == pytest.approx(0.025, abs=1e-6)


def test_a_last_look_without_new_users_spends_the_rest():
    again = group_sequential([arms(50), arms(80), arms(80)], "x", planned_n=(100, 100), final=True)
    assert again[-1].look.spent == 0.05
    assert 1.9 < again[-1].look.z < again[-2].look.z


def test_stagewise_p_at_the_bound_is_the_level_spent():
    looks = bounds([0.3, 0.6, 1.0], alpha=0.1, spending="pocock")
    for k in (1, 2, 3):
        assert stagewise_p(looks[:k], looks[k - 1].z) == pytest.approx(looks[k - 1].spent, rel=1e-9)


def test_information_fraction():
    assert information_fraction(500, 500, 1000, 1000) == pytest.approx(0.5)
    assert information_fraction(900, 100, 1000, 1000) == pytest.approx(0.18)
    assert information_fraction(0, 100, 1000, 1000) == 0.0
    assert information_fraction(2000, 2000, 1000, 1000) == 1.0


@pytest.mark.parametrize("information", [[], [0.0, 1.0], [0.5, 0.5], [0.6, 0.3], [0.5, 1.2], [float("nan")]])
def test_bad_information(information):
    with pytest.raises(ValueError, match=r"information must rise within \(0, 1\]"):
        bounds(information)


def test_anytime_level_serves_the_lift():
    """The z test at the sequence's nominal level has the sequence as its interval."""
    data = arms(300)
    estimate = welch(*data, "x")
    sequence = anytime_difference(estimate, n_star=600)
    again = welch(*data, "x", alpha=sequence.alpha, distribution="normal")
    assert again.difference_ci == pytest.approx(sequence.interval, rel=1e-9)
    assert sequence.interval[0] < estimate.difference_ci[0]


def test_daily_srm_never_forgets():
    days = [{"A": 500, "B": 500}, {"A": 900, "B": 500}, {"A": 100, "B": 500}]
    looks = daily_srm(days)
    assert [look.alarm for look in looks] == [False, True, True]
    assert looks[2].p == looks[1].p
    assert looks[2].counts == {"A": 1500, "B": 1500}
    by = srm_by({"cold": {"A": 50, "B": 52}, "warm": {"A": 400}})
    assert (by["cold"].alarm, by["warm"].alarm, by["warm"].counts["B"]) == (False, True, 0)
