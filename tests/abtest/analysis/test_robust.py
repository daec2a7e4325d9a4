"""Checks of large logs look at a sample, and say so."""

import numpy as np
import polars as pl
import pytest

from abtest.analysis import robust
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.results import results_of
from abtest.analysis.robust import distribution_checks
from abtest.analysis.userlog import log_of
from abtest.report.pages.experiment_tables import check_table
from abtest.stats.groups import CellMoments

from .logs import analysed, days

USERS = 30_000
PLAN = AnalysisPlan("A", ("B",))


def checks():
    rng = np.random.default_rng(7)
    arm = rng.integers(0, 2, USERS)
    dwell_s = rng.lognormal(2.0, 1.0, USERS) * (1.0 + 0.3 * arm)
    table = {"user_id": np.arange(USERS), "arm": np.where(arm == 1, "B", "A"), "dwell_s": dwell_s}
    return distribution_checks(log_of(pl.DataFrame(table), PLAN), PLAN, {"B": 0.05})


def test_more_users_than_are_checked(monkeypatch):
    """A third of the users: the count is told, the interval is wider by sqrt(3), and quantiles still see everybody."""
    quantiles, (bootstrap, ranks) = checks()
    assert bootstrap.statistic == "1,000 resamples"
    monkeypatch.setattr(robust, "MOST_USERS", USERS // 3)
    same_quantiles, (sampled, sampled_ranks) = checks()
    assert [check.estimate for check in same_quantiles] == [check.estimate for check in quantiles]
    words, _, rest = sampled.statistic.partition(" (of ")
    assert words == "1,000 resamples"
    assert rest.endswith(" users, drawn at random)")
    assert int(rest.split()[0].replace(",", "")) == pytest.approx(USERS / 3, rel=0.05)
    widths = [high - low for low, high in (bootstrap.lift_ci, sampled.lift_ci)]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(3.0), rel=0.15)
    assert ranks.p < sampled_ranks.p < 1e-10


def test_every_user_is_as_likely(monkeypatch):
    monkeypatch.setattr(robust, "MOST_USERS", 4_000)
    values = np.arange(20_000.0)
    control, treatment, _ = robust._sample(values, values, seed=3)
    for drawn in (control, treatment):
        assert np.all(np.diff(drawn) > 0)
        assert len(drawn) == pytest.approx(2_000, abs=5 * np.sqrt(2_000 * 0.9))
        assert drawn.mean() == pytest.approx(10_000, abs=5 * 20_000 / np.sqrt(12 * 2_000))
    assert not np.array_equal(control[:100], treatment[:100])


def test_keys_of_a_fixed_vocabulary():
    """The same cells as of text; words that no row has make none."""
    words, value = ["b", "a", "b", "c"], np.array([1.0, 2.0, 4.0, 8.0])
    text = pl.DataFrame({"arm": words, "x": value})
    fixed = text.with_columns(pl.col("arm").cast(pl.Enum(["c", "unused", "b", "a"])))
    found = CellMoments.of(fixed, ["x"]).to_dict()
    assert found == CellMoments.of(text, ["x"]).to_dict()
    assert [cell["at"] for cell in found["cells"]] == [["a"], ["b"], ["c"]]


def test_the_bootstrap_of_an_early_look_is_that_of_this_look_alone():
    """Day two of seven is judged at 5.5e-5, where 1,000 resamples have no tail: theirs is a plain 95 % interval.

    By the delta method, from the users' means and spreads.
    """
    table = days(length=2, n=2000)
    results = results_of(analysed(table, AnalysisPlan("A", ("B",), looks="daily", planned_days=7)))
    (check,) = [c for c in results["checks"] if c["metric"] == "ACC" and c["test"] == "Poisson bootstrap"]
    sums = table.group_by("user_id", "arm").agg(pl.col("clicks").sum())
    control, treatment = (sums.filter(arm=arm)["clicks"].to_numpy() for arm in "AB")
    ratio = treatment.mean() / control.mean()
    noise = [arm.var(ddof=1) / len(arm) / arm.mean() ** 2 for arm in (control, treatment)]
    half = 1.96 * ratio * np.sqrt(sum(noise))
    assert check["lift_ci"] == pytest.approx([ratio - 1 - half, ratio - 1 + half], abs=0.2 * half)
    (effect,) = [e for e in results["effects"] if e["metric"] == "ACC" and e["family"] == "primary"]
    assert effect["lift_ci"][1] - effect["lift_ci"][0] > 1.8 * 2 * half
    assert check_table(results).header[2] == "95 % interval of the lift, this look alone"
