"""A/A calibration: sound on independent users, an alarm where the unit of the test is not that of the assignment."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from abtest.analysis.analysis import analyse
from abtest.analysis.userlog import log_of
from abtest.online import aa_study
from abtest.online.aa_study import aa_section, daily_false_alarms, false_alarms
from abtest.online.experiment import plan_of
from abtest.online.measures import DAYS_FILE
from abtest.online.simulate import EXPERIMENT, simulate, simulations_of
from abtest.scenario_files import load_scenario
from tests.abtest.online.test_study import SCENARIOS, days

SMALL = [
    *("world.users.count=1000", "world.items.count=300", "days=3", "history_days=2", "platform.warmup_days=0"),
    *("splits=200", "world.tags.count=40", "world.items.providers=40"),
]


def small_scenario():
    return load_scenario(SCENARIOS / "aa.yaml", SMALL)[0]


def plan():
    scenario = small_scenario()
    return plan_of(scenario, (scenario.treatments[0],), "")


def heavy_clicks(n):
    return np.random.default_rng(5).negative_binomial(1, 0.2, n).tolist()


class Households:
    """Assigns two neighbours together, whom the test takes for independent users."""

    def __init__(self, seed, purpose):
        self._draws = _DRAWS(seed, purpose)

    def uniform(self, ids):
        return self._draws.uniform(ids // 2)


_DRAWS = aa_study.Draws


def test_independent_users_are_sound():
    clicks = heavy_clicks(600)
    table = days(clicks).with_columns(arm=pl.Series(["A", "also A"] * (len(clicks) // 2)))
    found = {one.metric: one for one in false_alarms(table, plan(), splits=300, seed=3)}
    one = found["ACC"]
    assert one.sound
    assert one.splits == 300
    assert one.band == tuple(stats.binom(300, 0.05).ppf([0.005, 0.995]).astype(int))
    assert one.covered == one.splits - one.alarms  # the interval excludes 0 exactly where p < alpha
    assert aa_section([one], 0.05).tables[0].rows[0][-1] == "sound"


def test_an_error_of_the_unit_is_found(monkeypatch):
    monkeypatch.setattr(aa_study, "Draws", Households)
    clicks = np.repeat(heavy_clicks(300), 2).tolist()  # each household is of one mind
    table = days(clicks).with_columns(arm=pl.Series(["A", "also A"] * (len(clicks) // 2)))
    (one,) = [one for one in false_alarms(table, plan(), splits=300, seed=3) if one.metric == "ACC"]
    assert not one.sound
    assert one.alarms > one.band[1]
    section = aa_section([one], 0.05)
    assert "ACC" in section.text[0]
    assert section.tables[0].rows[0][-1] == "NOT SOUND"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """User-days of the whole platform, channels without a neural model."""
    scenario, root = small_scenario(), tmp_path_factory.mktemp("aa")
    (simulation,) = simulations_of(scenario)
    simulate(scenario, root, simulation)
    assert simulation.part == EXPERIMENT
    return pl.read_parquet(root / simulation.path / "measures" / DAYS_FILE)


def test_daily_looks_raise_no_more_alarms_than_one_look_may(simulated):
    """200 assignments, each read after every day; without bounds for that the share of false alarms would grow."""
    found = {one.metric: one for one in daily_false_alarms(simulated, plan(), splits=200, seed=1)}
    assert set(found) == {"ACC", "ADT"}
    for one in found.values():
        assert (one.splits, one.looks, one.most) == (200, 3, stats.binom(200, 0.05).ppf(0.995))
        assert one.sound
        assert one.alarms < one.naive
        assert one.naive > 12  # about 5 % at each of three looks that differ


def test_the_looks_that_are_counted_are_those_of_a_report(simulated, monkeypatch):
    seen = []
    original = aa_study._looks
    monkeypatch.setattr(aa_study, "_looks", lambda days, chosen: seen.append((days, chosen)) or original(days, chosen))
    found = {one.metric: one for one in daily_false_alarms(simulated, plan(), splits=4, seed=1)}
    crossed = dict.fromkeys(found, 0)
    for days_, chosen in seen:
        report = analyse(log_of(days_, replace(chosen, checks=False)), replace(chosen, checks=False))
        for metric in crossed:
            crossed[metric] += any(look.crossed for look in report.looks if look.metric.name == metric)
            effect = next(e for e in report.effects if e.question[:2] == (metric, "all"))
            last = [look for look in report.looks if look.metric.name == metric][-1]
            assert effect.estimate.lift == pytest.approx(last.so_far.lift)
    assert crossed == {metric: one.alarms for metric, one in found.items()}


def test_an_error_of_the_unit_is_found_in_daily_looks_too(simulated, monkeypatch):
    monkeypatch.setattr(aa_study, "Draws", Households)
    pairs = simulated.with_columns(user_id=2 * pl.col("user_id"))
    twins = pl.concat([pairs, pairs.with_columns(user_id=pl.col("user_id") + 1)])
    found = daily_false_alarms(twins, plan(), splits=150, seed=3)
    assert not any(one.sound for one in found)
    table = aa_section([], 0.05, found).tables[1]
    assert {row[-1] for row in table.rows} == {"NOT SOUND"}


def test_identical_arms_on_a_simulated_log_raise_as_many_alarms_as_they_may(simulated):
    """200 assignments of its users, read once."""
    table = simulated
    assert table["user_id"].n_unique() > 400
    found = {one.metric: one for one in false_alarms(table, plan(), splits=200, seed=1)}
    for metric in ("ACC", "ADT", "CTR"):
        one = found[metric]
        low, high = stats.binom(200, 0.05).ppf([0.0005, 0.9995])  # five metrics, splits of one log
        assert one.splits == 200
        assert low <= one.alarms <= high, metric
        assert one.uniform_p > 0.001, metric


@pytest.mark.parametrize(("alarms", "sound"), [(0, False), (10, True), (40, False)])
def test_too_few_alarms_are_as_wrong_as_too_many(alarms, sound):
    assert aa_study.FalseAlarms("ACC", 200, alarms, (3, 19), 0.5, 190).sound is sound
