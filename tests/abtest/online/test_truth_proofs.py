"""The truth proved: its error against a bootstrap over users, and a handicap whose sign is known before it is run."""

import numpy as np
import polars as pl
import pytest

from abtest.analysis.analysis import analyse
from abtest.analysis.userlog import log_of
from abtest.online.experiment import plan_of
from abtest.online.truth import true_lifts
from tests.abtest.online.tiny_runs import run

SIZE = ("world.users.count=600", "days=1", "platform.warmup_days=1")
# Slates of three items in the order of merging: nobody can like them better than ten that were ranked.
HANDICAP = (
    *SIZE,
    "arms.treatment.label=handicapped",
    "arms.treatment.pipeline={slate_size: 3, ranking: {faults: [{from_day: 0, to_day: 9, down: true}]}}",
)
SLOW = (  # the same slates, which come after most users have lost patience
    *SIZE,
    "arms.treatment.label=slow",
    "arms.treatment.pipeline={ranking: {latency: {kind: constant, mean_ms: 20000}, deadline_ms: 60000, servers: 1000}}",
)


def worlds(sets):
    """User-days with everybody under control, and everybody under treatment."""
    return tuple(run(*sets, part=arm).days for arm in ("control", "treatment"))


def plan(sets):
    return plan_of(run(*sets).scenario, ("treatment",), "")


def per_user(days, column):
    """Sum of a column by user, shape (U,), 0 for users who did not come."""
    users = run(*SIZE).scenario.world_config(0).users.count
    sums = np.zeros(users)
    np.add.at(sums, days["user_id"].to_numpy(), days[column].to_numpy())
    return sums


@pytest.mark.parametrize(
    ("metric", "value", "per"), [("ACC", "clicks", None), ("ADT", "dwell_s", None), ("CTR", "clicks", "impressions")]
)
def test_the_error_of_the_truth_is_that_of_a_bootstrap_over_users(metric, value, per):
    """Users are drawn anew, each with both outcomes; the bootstrap shares no code with the delta method."""
    control, treatment = worlds(HANDICAP)
    found = true_lifts(control, treatment, plan(HANDICAP))[metric, "all", "handicapped"]
    before, after = per_user(control, value), per_user(treatment, value)
    per_before, per_after = ((per_user(one, per) if per else np.ones(len(before))) for one in (control, treatment))
    there = np.isin(np.arange(len(before)), np.concatenate([control["user_id"], treatment["user_id"]]))
    draws = np.random.default_rng(1).multinomial(there.sum(), np.full(there.sum(), 1 / there.sum()), size=1_000)
    sums = [draws @ column[there] for column in (before, per_before, after, per_after)]
    lifts = (sums[2] / sums[3]) / (sums[0] / sums[1]) - 1
    assert found.lift == pytest.approx((after.sum() / per_after.sum()) / (before.sum() / per_before.sum()) - 1)
    assert found.se == pytest.approx(lifts.std(), rel=0.12)
    assert found.se > 0


def test_common_noise_makes_the_truth_surer_than_the_experiment():
    """What both worlds share cancels: the truth's error is below that of two samples of users."""
    control, treatment = worlds(HANDICAP)
    found = true_lifts(control, treatment, plan(HANDICAP))["ACC", "all", "handicapped"]
    clicks = [per_user(one, "clicks") for one in (control, treatment)]
    apart = (
        np.sqrt(clicks[1].var() + (1 + found.lift) ** 2 * clicks[0].var()) / clicks[0].mean() / np.sqrt(len(clicks[0]))
    )
    assert found.se < 0.95 * apart


@pytest.mark.parametrize("sets", [HANDICAP, SLOW], ids=["worse slates", "slower slates"])
def test_a_handicap_is_found_by_truth_and_by_test(sets):
    (arm,) = plan(sets).treatments
    truth = true_lifts(*worlds(sets), plan(sets))["ACC", "all", arm]
    effects = analyse(log_of(run(*sets).days, plan(sets)), plan(sets)).effects
    effect = next(one for one in effects if one.question == ("ACC", "all", arm))
    assert truth.lift + 5 * truth.se < 0
    assert effect.significant
    assert effect.estimate.lift_ci[1] < 0
    low, high = effect.estimate.lift_ci
    wide = (high - low) / 2
    assert low - wide <= truth.lift <= high + wide  # by far within chance of one another


def test_the_same_arm_under_another_name_has_exactly_no_effect():
    same = (*SIZE, "arms.treatment.label=same")
    truths = true_lifts(*worlds(same), plan(same))
    assert len(truths) >= 5
    assert set(truths.values()) == {(0.0, 0.0)}
    before, after = (one.drop("arm") for one in worlds(same))
    assert before.equals(after)
    assert isinstance(before, pl.DataFrame)
