"""Level spent by information: shares and bounds against sums by hand, and false alarms over simulated tests."""

import numpy as np
import polars as pl
import pytest

from abtest.analysis.looks import information_shares
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.spending import bounds
from micrec.errors import MicrecError
from tests.abtest.analysis.logs import analysed, days
from tests.benchmarks.bench_looks import false_alarms

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
    assert [look.level.information[-1] for look in looks] == pytest.approx([k / 7 for k in range(1, 8)], rel=1e-2)
    assert [look.level.z for look in looks] == pytest.approx(PUBLISHED, rel=1e-2)


def test_a_ramp_spends_by_users_and_not_by_days():
    ramp = [100, 100, 500, 1000, 2500, 5000, 5000]
    looks = clicks_looks(once(ramp))
    shares = np.cumsum(ramp) / sum(ramp)
    assert [look.level.information[-1] for look in looks] == pytest.approx(shares, rel=5e-2)
    assert [look.level.z for look in looks][3:] == pytest.approx([look.z for look in bounds(shares)][3:], rel=1e-2)


def test_users_who_come_again_bring_information_every_day():
    """Everybody is there on the first day: counted by users nothing would be left to spend after it."""
    table = days()
    shares = []
    for day in range(1, 8):
        sums = table.filter(pl.col("day") <= day).group_by("user_id", "arm").agg(pl.col("clicks").sum())
        groups = [sums.filter(arm=arm)["clicks"].to_numpy() for arm in "AB"]
        harmonic = 1 / sum(1 / len(group) for group in groups)
        shares.append(harmonic**2 * sum(group.var(ddof=1) / len(group) for group in groups))
    found = [look.level.information[-1] for look in clicks_looks(table)]
    assert found == pytest.approx(np.array(shares) / shares[-1], rel=0.05)  # with dwell, 10 clicks + 1 a visit
    assert found[0] < 0.2


def test_before_the_end_each_day_to_come_counts_as_the_richest_so_far_or_as_the_planned_users():
    assert information_shares([10, 20, 30], [10, 20, 30], planned_days=6) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert information_shares([10, 50], [10, 50], planned_days=4) == pytest.approx([10 / 130, 50 / 130])
    assert information_shares([10, 50], [10, 50], planned_days=4, planned_users=500) == pytest.approx([0.02, 0.1])
    assert information_shares([10, 50, 60], [1, 2, 3], planned_days=3, planned_users=5000)[-1] == 1.0
    assert information_shares([0, 0], [0, 0], planned_days=3) == [0.0, 0.0]


def test_a_day_that_brings_nothing_is_read_as_the_day_before():
    table = once([1000, 1000, 10, 1000]).filter(pl.col("day") != 3)
    looks = clicks_looks(table, AnalysisPlan("A", ("B",), looks="daily", planned_days=4))
    assert looks[2].level == looks[1].level
    assert looks[3].level.information[-1] == 1.0


def test_planned_users_must_fill_the_arms():
    with pytest.raises(MicrecError, match="planned-users: must be at least 2 per arm, got 3"):
        AnalysisPlan("A", ("B",), looks="daily", planned_users=3)


@pytest.mark.parametrize("users", [[200] * 7, [20, 20, 100, 200, 500, 1000, 1000]], ids=["equal days", "ramp"])
def test_looking_every_day_gives_as_many_false_alarms_as_planned(users):
    """Within three standard errors of 5 %: by the calendar it is 6.6 % on such a ramp."""
    rates = false_alarms(users, tests=4000, seed=3)
    assert abs(rates.at_the_end - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert abs(rates.live_planned - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 4000)
