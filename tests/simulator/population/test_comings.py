"""Who comes when: the calendar's hours and weekdays, cold users, churn, and visits that satisfaction brings forward."""

import numpy as np
import pytest
from scipy import stats

from simulator.population.population import Population
from tests.simulator.population.driving import keys, population
from tests.simulator.worlds import small_config, small_world

DAY_S = 86_400
STEADY = ("users.count=8000", "users.new_share=0", "users.churn_per_day=0")


def all_visits(of, days):
    """The visits of days on which nothing is shown."""
    visits = []
    for day in range(days):
        visits.append(of.begin_day(day))
        of.end_day(day)
    return visits


def test_hours_follow_the_calendar():
    """Kolmogorov-Smirnov against the hourly rates of the file, read by hand."""
    rare = ("users.count=16000", "users.activity_sd=0", "sessions.per_user=2")  # so that the two hours hardly matter
    days = all_visits(population(world=(*STEADY, *rare)), 14)
    seconds = np.concatenate([visits.start_s % DAY_S for visits in days])
    hourly = np.array(small_config().sessions.hourly)
    from_four = np.concatenate([hourly[4:], hourly[:4]])
    share = np.append(0.0, np.cumsum(from_four) / from_four.sum())
    assert len(seconds) > 20_000
    assert stats.kstest(seconds, lambda s: np.interp(s, np.arange(25) * 3_600.0, share)).pvalue > 1e-3


def test_weekdays_follow_the_calendar():
    weekly = np.array([1.0, 0.5, 1.0, 1.0, 1.5, 2.0, 1.0])  # the log starts on a Monday
    of = population(world=(*STEADY, f"sessions.weekly={weekly.tolist()}", "users.activity_sd=0"))
    counts = np.array([len(visits.user) for visits in all_visits(of, 14)])
    expected = np.tile(weekly, 2) / (2 * weekly.sum()) * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_visits_are_sorted_apart_and_keyed():
    for visits in all_visits(population(world=("sessions.per_user=30",)), 3):
        assert (np.diff(visits.start_s) >= 0).all()
        assert len(np.unique(visits.key)) == len(visits.key)
        order = np.lexsort((visits.start_s, visits.user))
        user, start_s, ordinal = visits.user[order], visits.start_s[order], visits.ordinal[order]
        same = np.diff(user) == 0
        assert same.sum() > 100
        assert np.diff(start_s)[same].min() > 7_259
        assert (np.diff(ordinal)[same] == 1).all()
        assert (ordinal[1:][~same] == 0).all()


def test_cold_users_come_first_when_they_arrive():
    of = population(world=("users.churn_per_day=0", "users.new_share=0.4", "users.count=6000"))
    cold = of.arrived_s > 0
    assert stats.binomtest(int(cold.sum()), 6_000, 0.4).pvalue > 1e-3
    days = all_visits(of, 14)
    user = np.concatenate([visits.user for visits in days])
    start_s = np.concatenate([visits.start_s for visits in days])
    first = np.full(6_000, np.inf)
    np.minimum.at(first, user, start_s)
    assert first[cold] == pytest.approx(of.arrived_s[cold], abs=1e-3)
    assert (of.arrived_s[~cold] == 0).all()
    by_day = np.bincount((of.arrived_s[cold] // DAY_S).astype(int), minlength=14)
    assert by_day.min() > 100
    of = population(world=("users.new_share=0.4",))
    assert (of.users_on(3) == np.flatnonzero(of.arrived_s < 4 * DAY_S)).all()


def test_who_is_gone_never_comes_again():
    of = population(world=("users.churn_per_day=0.1", "users.new_share=0", "users.count=4000"))
    gone = np.zeros(4_000, bool)
    for day in range(6):
        visits = of.begin_day(day)
        assert not gone[visits.user].any()
        of.end_day(day)
        assert (of.gone >= gone).all()
        gone = of.gone.copy()
        assert not np.isin(of.users_on(day + 1), np.flatnonzero(gone)).any()
    assert stats.binomtest(int(gone.sum()), 4_000, 1 - 0.9**6).pvalue > 1e-3  # nobody is pleased or displeased


def test_the_history_before_the_first_day_goes_on():
    """Whoever left for good in the world's own history is not there; nobody else is missing."""
    world = small_world("users.churn_per_day=0.2")
    of = Population.build(world, keys(), first_day=7)
    clicks = world.history(0, 1_500).clicks
    day = (clicks["timestamp"].to_numpy() - world.start_s) // DAY_S
    later = np.unique(clicks["user_id"].to_numpy()[day >= 7])
    assert not of.gone[later].any()
    assert 0.3 < of.gone.mean() < 0.9
    visits = of.begin_day(7)
    assert (visits.start_s >= 7 * DAY_S).all()
    assert not of.gone[visits.user].any()
    assert not Population.build(world, keys()).gone.any()


@pytest.mark.parametrize("happy", [-2.0, 1.0, 3.0])
def test_satisfaction_moves_visits_and_makes_no_other_ones(happy):
    """With the same noise the k-th visit of a happier user is never later."""
    of = population("lifecycle.habit=0", "lifecycle.return_satisfaction=0.3", world=("sessions.per_user=10",))
    rows = of.users_on(0)
    low = of._comings.visits(0, rows, np.full(len(rows), happy - 1.0), np.zeros(len(rows)))
    high = of._comings.visits(0, rows, np.full(len(rows), happy), np.zeros(len(rows)))
    assert len(high.user) > len(low.user)
    earlier = {(u, k): s for u, k, s in zip(high.user, high.ordinal, high.start_s, strict=True)}
    keyed = {(u, k): key for u, k, key in zip(high.user, high.ordinal, high.key, strict=True)}
    for user, ordinal, start_s, key in zip(low.user, low.ordinal, low.start_s, low.key, strict=True):
        assert earlier[user, ordinal] <= start_s
        assert keyed[user, ordinal] == key
    ratio = len(high.user) / len(low.user)
    assert ratio == pytest.approx(np.exp(0.3), rel=0.12)  # a little less, as visits lie two hours apart
