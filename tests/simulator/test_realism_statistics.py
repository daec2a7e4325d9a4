"""Statistics of logs worked out by hand."""

import numpy as np
import pytest

from micrec.data.dataset import Clicks
from micrec.errors import MicrecError
from simulator.realism import catalogue_statistics, response_statistics, visit_statistics
from simulator.realism.fixed_statistics import statistics
from simulator.realism.log import DAY_S, HOUR_S, sorted_log
from simulator.realism.statistics import Missing

MONDAY_S = 4 * DAY_S  # 1970-01-05


def a_log(rows, **columns):
    """A log of (user, item, seconds after a Monday midnight)."""
    rows = sorted(rows, key=lambda row: row[2])
    user, item, second = (np.array(column) for column in zip(*rows, strict=True))
    clicks = Clicks(user.astype(np.int32), item.astype(np.int32), ((MONDAY_S + second) * 1000).astype(np.int64))
    return sorted_log("hand", clicks, int(item.max()) + 1, **columns)


LOG = a_log(
    [
        (0, 0, 10 * HOUR_S),
        (0, 1, 10 * HOUR_S + 30),
        (0, 0, 10 * HOUR_S + 90),
        (0, 0, DAY_S + 12 * HOUR_S),
        (1, 2, 20 * HOUR_S),
        (1, 1, 8 * DAY_S),
    ],
    category=np.array([1, 1, 2], np.int32),
)


def test_visits_by_hand():
    assert LOG.session_clicks.tolist() == [3, 1, 1, 1]
    assert visit_statistics.within_gaps_s(LOG).tolist() == [30, 60]
    assert visit_statistics.between_gaps_h(LOG) == pytest.approx([26 - 90 / 3600, 172])
    assert visit_statistics.sessions_per_user(LOG).tolist() == [2, 2]
    assert visit_statistics.clicks_per_user(LOG).tolist() == [4, 2]
    assert visit_statistics.hour_of_day(LOG).tolist() == [10, 12, 20, 0]


def test_return_curve_by_hand():
    """User 0 returns after 1 day, user 1 after 8; the log lasts 9 days."""
    assert visit_statistics.return_curve(LOG).tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0.5]


def test_return_curve_leaves_out_days_beyond_the_log():
    short = a_log([(0, 0, 0), (0, 0, DAY_S), (1, 0, DAY_S)])
    curve = visit_statistics.return_curve(short)
    assert curve[0] == 1.0  # user 1, first seen on the last day, is not counted
    assert np.isnan(curve[1:]).all()


def test_repeats_and_popularity_by_hand():
    assert catalogue_statistics.repeat_share(LOG).tolist() == [pytest.approx(2 / 6)]
    assert catalogue_statistics.repeat_within_session(LOG).tolist() == [pytest.approx(1 / 2)]
    assert catalogue_statistics.clicks_per_item(LOG) == pytest.approx(np.array([3, 2, 1]) / 2)
    assert catalogue_statistics.item_gini(LOG)[0] == pytest.approx((2 * (1 * 1 + 2 * 2 + 3 * 3) - 4 * 6) / (3 * 6))


def test_category_loyalty_by_counting_pairs():
    rng = np.random.default_rng(1)
    rows = [
        (int(u), int(rng.integers(0, 12)), int(rng.integers(0, 9)) * 7_200 + i) for u in range(25) for i in range(12)
    ]
    category = (np.arange(12) % 3 + 1).astype(np.int32)
    log = a_log(rows, category=category)
    shares, weights = [], []
    for user in range(25):
        own = np.flatnonzero(log.user == user)
        pairs = [(i, j) for i in own for j in own if i < j and log.session[i] != log.session[j]]
        same = [category[log.item[i]] == category[log.item[j]] for i, j in pairs]
        shares.append(np.mean(same))
        weights.append(len(own))
    assert catalogue_statistics.category_loyalty(log)[0] == pytest.approx(np.average(shares, weights=weights))


def test_spread_between_users_is_free_of_noise():
    """Likes by a coin per click, and by a coin per user."""
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(4_000), 5)
    noise = (rng.random(20_000) < 0.5).astype(float)
    habit = (rng.random(4_000) < 0.5).astype(float)[user]
    assert response_statistics.pair_mean(user, noise - 0.5) == pytest.approx(0.0, abs=0.01)
    assert response_statistics.pair_mean(user, habit - 0.5) == pytest.approx(0.25, abs=0.01)
    assert np.isnan(response_statistics.pair_mean(np.arange(3), np.ones(3)))


def test_what_a_log_lacks_is_missing():
    """Not 0."""
    for statistic in statistics():
        if statistic.group == "behaviour":
            with pytest.raises(Missing, match=r"no (dwell|like|follow)"):
                statistic.values(LOG)


def test_without_names_groups_and_statistics():
    names = {s.name for s in statistics(("sessions", "gini"))}
    assert "clicks_per_session" not in names
    assert "gini" not in names
    assert "zipf_slope" in names
    with pytest.raises(MicrecError, match="--without sesions: no such statistic: choose from the groups sessions"):
        statistics(("sesions",))
