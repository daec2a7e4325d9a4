"""What the platform shows decides who comes back: retention follows from satisfaction, and from nothing else."""

import numpy as np
import polars as pl
import pytest

from tests.simulator.population.driving import from_pool, live, population
from tests.simulator.worlds import small_world

WORLD = ("users.count=4000", "users.new_share=0", "sessions.per_user=8")


def pools(world=WORLD):
    """The worst and best fifth of the items, alike in appeal."""
    hidden = small_world(*world)
    out = np.flatnonzero((hidden.catalogue.published_s < 0) & ~hidden.catalogue.clickbait)
    by_appeal = out[np.argsort(hidden.catalogue.appeal[out])]
    strata = [np.sort(part[np.argsort(hidden.quality[part])]) for part in np.array_split(by_appeal, 40)]
    ranked = [part[np.argsort(hidden.quality[part])] for part in strata]
    return np.concatenate([part[:3] for part in ranked]), np.concatenate([part[-3:] for part in ranked])


@pytest.fixture(scope="module")
def fortnights():
    """Two weeks of bad and of good slates, as logs and populations."""
    lived = []
    for pool in pools():
        of = population(world=WORLD)
        lived.append((live(of, 14, from_pool(pool)), of))
    return lived


def visits(log, days):
    return log.filter(pl.col("day").is_in(list(days))).select("day", "visit").n_unique()


def days_of(log):
    """Who came on which day."""
    return log.select("day", "user").unique().sort("day", "user")


def test_good_slates_please(fortnights):
    (bad, after_bad), (good, after_good) = fortnights
    active = np.unique(bad["user"])
    assert after_good.satisfaction[active].mean() > after_bad.satisfaction[active].mean() + 0.2
    assert good.filter("clicked")["dwell_s"].mean() > bad.filter("clicked")["dwell_s"].mean()


def test_good_slates_bring_users_back(fortnights):
    (bad, _), (good, _) = fortnights
    assert visits(good, [0]) == visits(bad, [0])  # decided before anything was shown
    assert visits(good, range(7, 14)) > 1.05 * visits(bad, range(7, 14))


def test_good_slates_keep_users(fortnights):
    (_, after_bad), (_, after_good) = fortnights
    assert after_good.gone.sum() < after_bad.gone.sum()


def test_next_day_return_rises_with_satisfaction(fortnights):
    """Nobody tosses a coin: with the weights of satisfaction at 0, good and bad slates bring back the same users."""
    indifferent = ("lifecycle.return_satisfaction=0", "lifecycle.churn_satisfaction=0")
    came = [days_of(live(population(*indifferent, world=WORLD), 10, from_pool(pool))) for pool in pools()]
    assert came[0].equals(came[1])
    (bad, _), (good, _) = fortnights
    assert not days_of(bad).equals(days_of(good))
    assert visits(good, range(1, 14)) > visits(bad, range(1, 14))


def test_lying_titles_are_clicked_and_regretted():
    world = (*WORLD, "items.clickbait_share=0.2")
    hidden = small_world(*world).catalogue
    out = hidden.published_s < 0
    honest = np.flatnonzero(out & ~hidden.clickbait)
    lying = np.flatnonzero(out & hidden.clickbait)
    logs, daily_user_state = [], []
    for pool in (honest, lying):
        of = population(world=world)
        logs.append(live(of, 10, from_pool(pool)))
        daily_user_state.append(of.satisfaction[np.unique(logs[-1]["user"])].mean())
    honest_rate, lying_rate = (log.filter(pl.col("day") == 0)["clicked"].mean() for log in logs)
    assert lying_rate > 1.3 * honest_rate
    assert daily_user_state[1] < daily_user_state[0] - 0.1
    assert visits(logs[1], range(5, 10)) < visits(logs[0], range(5, 10))


def test_fatigue_is_slept_off():
    of = population("lifecycle.rest_h=6", world=WORLD)
    live(of, 1)
    users = np.flatnonzero(of._carried.fatigue > 0)
    assert len(users) > 500
    visit = of.begin_day(1)
    rows = np.flatnonzero(np.isin(visit.user, users) & (visit.ordinal == 0))
    left = of._visiting.fatigue(rows, visit.start_s[rows])
    hours = (visit.start_s[rows] - of._carried.fatigue_s[visit.user[rows]]) / 3_600
    assert left == pytest.approx(of._carried.fatigue[visit.user[rows]] * 0.5 ** (hours / 6))


def test_who_never_comes_is_neither_pleased_nor_tired():
    of = population(world=WORLD)
    log = live(of, 5)
    absent = np.setdiff1d(np.arange(4_000), np.unique(log["user"]))
    assert len(absent) > 100
    assert (of.satisfaction[absent] == 0).all()
    assert (of._carried.fatigue[absent] == 0).all()
