"""Level spent by information: shares and bounds against sums by hand, and false alarms over simulated tests."""

import numpy as np
import polars as pl
import pytest

from abtest.analysis.daily_looks import expected_information, schedules
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.spending import Schedule
from micrec.errors import MicrecError
from tests.abtest.analysis.logs import analysed, days
from tests.benchmarks.bench_looks import RAMPS, alarms_of, false_alarms, z_of_the_same_users

DAILY = AnalysisPlan("A", ("B",), looks="daily", planned_days=7)
PUBLISHED = [5.8153, 4.0333, 3.2351, 2.7672, 2.4554, 2.2294, 2.0562]  # O'Brien-Fleming spending, seven equal looks


def clicks_looks(table: pl.DataFrame, plan: AnalysisPlan = DAILY) -> list:
    return [look for look in analysed(table, plan).looks if look.metric.name == "ACC"]


def once(users_a_day: list[int]) -> pl.DataFrame:
    """Users who come on one day each, with as many clicks of each kind a day, so that spreads are the same."""
    parts, first = [], 0
    for day, count in enumerate(users_a_day, start=1):
        ids = np.arange(first, first + count)
        clicks = np.arange(count) // 2 % 5
        arm = np.where(np.arange(count) % 2, "B", "A")
        parts.append(pl.DataFrame({"user_id": ids, "arm": arm, "day": np.full(count, day), "clicks": clicks}))
        first += count
    return pl.concat(parts)


def test_equal_days_have_the_published_bounds():
    looks = clicks_looks(once([1000] * 7))
    assert [look.level.information for look in looks] == pytest.approx([k / 7 for k in range(1, 8)], rel=1e-2)
    assert [look.level.z for look in looks] == pytest.approx(PUBLISHED, rel=1e-2)


def test_a_ramp_spends_by_users_and_not_by_days():
    """Each day to come is expected to bring as many as the richest so far: 700 / (700 + 4 x 500) on day three."""
    looks = clicks_looks(once([100, 100, 500, 1000, 2500, 5000, 5000]))
    expected = [1 / 7, 2 / 7, 7 / 27, 17 / 47, 42 / 92, 92 / 142, 1]
    assert [look.level.information for look in looks] == pytest.approx(expected, rel=5e-2)


@pytest.mark.parametrize("table", [once([500, 500, 250, 100, 50, 10, 10]), once([50, 500, 10, 900]), days()])
def test_no_later_day_changes_a_look(table):
    """Who reads on day three and who reads the whole log find the same bound for day three."""
    whole = clicks_looks(table, AnalysisPlan("A", ("B",), looks="daily", planned_days=9))
    for day in range(1, table["day"].max() + 1):
        until = table.filter(pl.col("day") <= day)
        live = clicks_looks(until, AnalysisPlan("A", ("B",), looks="daily", planned_days=9))[-1]
        assert live.level.z == pytest.approx(whole[day - 1].level.z, rel=1e-9)
        assert live.level.information == pytest.approx(whole[day - 1].level.information, rel=1e-12)


def test_users_who_come_again_bring_what_is_new_in_their_sums():
    """Everybody is there on the first day. Correlations of the daily differences from plain arrays of users."""
    table = days()
    wide = table.pivot("day", index=("user_id", "arm"), values="clicks").fill_null(0).sort("user_id")
    so_far = {arm: np.cumsum(wide.filter(arm=arm).select(map(str, range(1, 8))).to_numpy(), axis=1) for arm in "AB"}
    covariance = sum(np.cov(sums.T) / len(sums) for sums in so_far.values())
    alike = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    in_hand = np.cumprod([1.0, *(1.0 / np.diag(alike, 1) ** 2)])
    gains = np.diff(in_hand, prepend=0.0)
    whole = [in_hand[k] + (6 - k) * gains[: k + 1].max() for k in range(7)]
    found = [look.level.information for look in clicks_looks(table.drop("dwell_s"))]
    assert found == pytest.approx(in_hand / whole, rel=1e-6)


def test_before_the_end_each_day_to_come_counts_as_the_richest_so_far_or_as_the_planned_users():
    assert expected_information([10, 20, 30], planned_days=6) == 60
    assert expected_information([10, 50], planned_days=4) == 130
    assert expected_information([10, 50], planned_days=4, user_growth=10) == 500
    assert expected_information([10, 50], planned_days=4, user_growth=1.1) == 130
    assert expected_information([10, 50, 60], planned_days=3, user_growth=1000) == 60
    assert schedules([0, 0], [0, 0], planned_days=3) == [None, None]


def test_a_day_that_brings_nothing_is_read_as_the_day_before():
    table = once([1000, 1000, 10, 1000]).filter(pl.col("day") != 3)
    looks = clicks_looks(table, AnalysisPlan("A", ("B",), looks="daily", planned_days=4))
    assert looks[2].level == looks[1].level
    assert looks[3].level.information == 1.0


def test_a_last_day_that_brings_nothing_spends_what_is_left_on_the_day_before():
    """Day three holds no click: its Z is that of day two, which is now the last look, with two looks at 1/2 and 1."""
    table = once([1000, 1000])
    idle = table.head(20).with_columns(pl.lit(3, pl.Int64).alias("day"), pl.lit(0, pl.Int64).alias("clicks"))
    looks = clicks_looks(pl.concat([table, idle]), AnalysisPlan("A", ("B",), looks="daily", planned_days=3))
    assert [look.level.information for look in looks] == pytest.approx([1 / 3, 2 / 3, 1], rel=1e-2)
    assert looks[2].level.z < looks[1].level.z
    assert looks[2].level.z == pytest.approx(1.9600, abs=2e-3)  # 2e-4 of the level was spent at the first look


@pytest.mark.parametrize("name", RAMPS)
def test_bounds_spend_their_level_on_random_walks(name):
    """400,000 walks of independent steps: the first crossings at each look are what was spent there, 5 % in all."""
    so_far = np.cumsum(RAMPS[name])
    schedule = schedules(so_far.tolist(), so_far.tolist(), planned_days=7)[-1]
    looks = schedule.bounds()
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((400_000, 7)) * np.sqrt(RAMPS[name])
    z = np.cumsum(steps, axis=1) / np.sqrt(so_far)
    above, below = z > [look.z for look in looks], z < [-look.z for look in looks]
    for crossed in (above, below):
        spent = [crossed[:, : k + 1].any(axis=1).mean() for k in range(7)]
        assert spent == pytest.approx([look.spent / 2 for look in looks], abs=4 * np.sqrt(0.025 / 400_000))
    assert looks[-1].spent == 0.05


def test_a_look_may_spend_although_earlier_ones_spent_ahead():
    """On day three of the ramp the share expected falls from 2/7 to 7/27: a large effect must still stop the test."""
    so_far = np.cumsum(RAMPS["ramp"]).tolist()
    (third,) = [schedule.bounds()[-1] for schedule in schedules(so_far[:3], so_far[:3], planned_days=7)[-1:]]
    assert 4.0 < third.z < 5.5
    with pytest.raises(ValueError, match="information must rise"):
        Schedule((2.0, 1.0), (3.0, 3.0)).bounds()


def test_planned_users_must_fill_the_arms():
    with pytest.raises(MicrecError, match="planned-users: must be at least 2 per arm, got 3"):
        AnalysisPlan("A", ("B",), looks="daily", planned_users=3)


SMALL = {
    "equal": [200] * 7,
    "ramp": [20, 20, 100, 200, 500, 1000, 1000],
    "front-loaded": [1000, 1000, 500, 200, 100, 20, 20],
}


@pytest.mark.parametrize("name", SMALL)
def test_looking_every_day_gives_as_many_false_alarms_as_planned(name):
    """Within three standard errors of 5 %: by the calendar it is 6.6 % on such a ramp."""
    rates = false_alarms(SMALL[name], tests=4000, seed=3)
    for rate in (rates.at_the_end, rates.live, rates.live_planned):
        assert abs(rate - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 4000)


def test_the_same_users_every_day_raise_no_more_false_alarms():
    z, information = z_of_the_same_users(100, 7, 4000, 4, faithful=0.5)
    rates = alarms_of(z, information, [200] * 7)
    assert abs(rates.live - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 4000)
