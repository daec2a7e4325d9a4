"""From a log to findings: numbers against scipy, and nothing called significant that may not be."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.results import results_of
from micrec.errors import MicrecError

from .logs import AB, analysed, days, effect, users

DAILY = AnalysisPlan("A", ("B",), looks="daily", planned_days=7)


def arms(table: pl.DataFrame, column: str) -> list[np.ndarray]:
    return [table.filter(pl.col("arm") == arm)[column].to_numpy() for arm in "AB"]


@pytest.mark.parametrize(("metric", "column"), [("ACC", "clicks"), ("ADT", "dwell_s"), ("ALR", "likes")])
def test_means_are_welch_s(metric, column):
    table = users(lift=0.1)
    control, treatment = arms(table, column)
    found = effect(analysed(table), metric, family=None if metric == "ALR" else "primary").estimate
    assert found.p == pytest.approx(stats.ttest_ind(treatment, control, equal_var=False).pvalue, rel=1e-9)
    assert found.lift == pytest.approx(treatment.mean() / control.mean() - 1)


def test_a_cold_metric_is_the_mean_of_cold_users():
    table = users()
    control, treatment = arms(table.filter(pl.col("cold")), "clicks")
    found = effect(analysed(table), "ACC-c", "cold").estimate
    assert found.p == pytest.approx(stats.ttest_ind(treatment, control, equal_var=False).pvalue, rel=1e-9)


def test_user_days_give_the_numbers_of_user_totals():
    """A t-test over days as rows, or over daily averages, is not on offer."""
    table = days(lift=0.1)
    totals = table.group_by("user_id").agg(pl.col("arm").first(), pl.col("clicks").sum())
    control, treatment = arms(totals, "clicks")
    found = effect(analysed(table), "ACC", family="primary").estimate
    assert found.p == pytest.approx(stats.ttest_ind(treatment, control, equal_var=False).pvalue, rel=1e-9)
    assert found.control.n + found.treatment.n == 600


def test_a_clear_gain_ships_and_a_clear_loss_stops():
    better, worse = results_of(analysed(users(8000, lift=0.2))), results_of(analysed(users(8000, lift=-0.2)))
    assert better["verdicts"][0]["decision"] == "ship"
    assert worse["verdicts"][0]["decision"] == "stop"


def test_a_sample_ratio_mismatch_comes_before_any_effect():
    table = users(8000, lift=0.2)
    table = table.filter((pl.col("arm") == "A") | (pl.col("user_id") % 8 != 1))
    analysis = analysed(table)
    results = results_of(analysis)
    assert results["valid"] is False
    assert "Sample-ratio mismatch" in results["alarms"][0]
    assert {e["valid"] for e in results["effects"]} == {False}
    assert {e["significant"] for e in results["effects"]} == {None}
    assert results["verdicts"][0]["decision"] == "hold"


def test_planned_shares_are_no_mismatch():
    table = users(8000).filter((pl.col("arm") == "A") | (pl.col("user_id") % 4 == 1))
    assert not analysed(table, AnalysisPlan("A", ("B",), weights={"A": 2.0, "B": 1.0})).validity.alarms


def test_a_cold_flag_that_follows_the_arm_spoils_its_slice_alone():
    table = users(4000, cold=[(i % 10 < 5) if i % 2 else (i % 10 < 1) for i in range(4000)])
    analysis = analysed(table)
    assert "all" not in analysis.validity.faults
    assert not effect(analysis, "ACC-c", "cold").valid
    assert "Whether a user is cold seems to depend on the arm" in effect(analysis, "ACC-c", "cold").reason
    assert effect(analysis, "ACC", family="primary").valid


def test_a_covariate_that_differs_before_exposure_is_an_alarm():
    table = users(4000).with_columns(pre_clicks=pl.col("pre_clicks") + (pl.col("arm") == "B"))
    assert any("Unbalanced before exposure: pre_clicks" in line for line in analysed(table).validity.alarms)


def test_a_fixed_test_is_not_read_before_its_end():
    analysis = analysed(days(length=4, lift=1.0), AB)
    found = effect(analysis, "ACC", family="primary")
    assert found.estimate.p < 1e-6
    assert found.significant is None
    assert "day 4 of 7" in found.reason
    assert results_of(analysis)["verdicts"][0]["decision"] == "hold"


def test_a_planned_look_may_stop_early_and_its_interval_agrees():
    found = effect(analysed(days(length=4, lift=1.0), DAILY), "ACC", family="primary")
    assert found.significant is True
    assert found.estimate.lift_ci[0] > 0


@pytest.mark.parametrize("looks", ["daily", "open"])
@pytest.mark.parametrize("seed", range(6))
def test_adjusted_p_and_interval_agree_at_every_look(looks, seed):
    plan = AnalysisPlan("A", ("B",), looks=looks, planned_days=7)
    for found in analysed(days(length=5, lift=0.12, seed=seed), plan).effects:
        if found.significant and found.family == "primary":
            assert not found.estimate.lift_ci[0] <= 0 <= found.estimate.lift_ci[1]


def test_looks_count_the_users_seen_so_far():
    table = days(length=3).filter((pl.col("user_id") < 200) | (pl.col("day") > 1))
    looks = [look for look in analysed(table, DAILY).looks if look.metric.name == "ACC"]
    seen = [table.filter(pl.col("day") <= d)["user_id"].n_unique() for d in (1, 2, 3)]
    assert [look.so_far.control.n + look.so_far.treatment.n for look in looks] == seen


def test_a_log_beyond_the_plan_or_without_days_is_refused():
    with pytest.raises(MicrecError, match="the log spans 7 days in UTC, the plan 3: give --planned-days 7"):
        analysed(days(), AnalysisPlan("A", ("B",), planned_days=3))
    with pytest.raises(MicrecError, match="the log has no days"):
        analysed(users(), DAILY)


def test_a_lift_that_fades_is_seen():
    table = days(4000)
    early = (pl.col("day") <= 2) & (pl.col("arm") == "B")
    table = table.with_columns(clicks=pl.col("clicks") * pl.when(early).then(2).otherwise(1))
    (acc,) = [one for one in analysed(table).novelty if one.metric.name == "ACC"]
    assert acc.early.lift > 0.8
    assert acc.test.change < -0.8
    assert acc.test.p < 1e-6


def test_slices_that_differ_are_told_apart():
    table = users(8000)
    hit = pl.col("cold") & (pl.col("arm") == "B")
    table = table.with_columns(clicks=pl.col("clicks") * pl.when(hit).then(2).otherwise(1))
    (acc,) = [one for one in analysed(table).interactions if one.metric.name == "ACC"]
    assert acc.slice == "cold"
    assert acc.test.change == pytest.approx(1.0, abs=0.2)
    assert acc.p_adjusted < 1e-6


def test_a_small_slice_is_shown_and_not_judged():
    found = effect(analysed(users(400, lift=2.0)), "ACC", "cold", "slice")
    assert found.estimate.p is not None
    assert found.significant is None
    assert "below 100 nothing is judged" in found.reason


@pytest.mark.parametrize(
    ("table", "metric", "part"),
    [
        (users(200, follows=0), "AFR", "no noise"),
        (users(200).with_columns(clicks=(pl.col("clicks") + 1) * (pl.col("arm") == "B")), "ACC", "control mean is 0"),
        (users(3), "ACC", "1 user"),
        (users(200, cold=False), "ACC-c", "0 users"),
        (users(200, impressions=0), "CTR", "sums to 0"),
    ],
    ids=["all zero", "zero control", "one user", "empty slice", "no denominator"],
)
def test_what_is_undefined_is_null_with_a_reason(table, metric, part):
    analysis = analysed(table)
    found = next(e for e in analysis.effects if e.metric.name == metric)
    assert found.estimate.lift_ci is None
    assert part in found.reason
    assert results_of(analysis)["verdicts"]


def test_several_treatments_share_one_family():
    table = users(3000).with_columns(arm=pl.Series(np.array(["A", "B", "C"])[np.arange(3000) % 3]))
    analysis = analysed(table, AnalysisPlan("A", ("B", "C")))
    family = [e for e in analysis.effects if e.family == "primary"]
    ordered = sorted(family, key=lambda e: e.estimate.p)
    assert len(family) == 4
    assert ordered[0].p_adjusted == pytest.approx(min(1.0, 4 * ordered[0].estimate.p))


def test_truth_stands_beside_the_estimate():
    analysis = analysed(users(), truth={("ACC", "all", "B"): (0.1, 0.01)})
    assert effect(analysis, "ACC", family="primary").truth == (0.1, 0.01)
    assert effect(analysis, "ADT", family="primary").truth is None
