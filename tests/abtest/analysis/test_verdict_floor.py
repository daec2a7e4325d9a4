"""A verdict needs enough users and an interval of the lift; what is too little says so and holds."""

import numpy as np
import polars as pl
import pytest

from abtest.analysis.design import LEAST_USERS
from abtest.analysis.expressions import parse
from abtest.analysis.metrics import BUILTIN, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.results import results_of
from tests.abtest.analysis.logs import analysed


def log(control: list[float], treatment: list[float]) -> pl.DataFrame:
    arms = ["A"] * len(control) + ["B"] * len(treatment)
    return pl.DataFrame({"user_id": range(len(arms)), "arm": arms, "clicks": [*control, *treatment]})


def verdict(control: list[float], treatment: list[float]) -> tuple[str, str]:
    (found,) = results_of(analysed(log(control, treatment)))["verdicts"]
    return found["decision"], found["headline"]


def few(n: int, low: float, high: float) -> list[float]:
    return np.linspace(low, high, n).tolist()


@pytest.mark.parametrize(
    ("control", "treatment", "why"),
    [
        ([1.0, 2.0, 3.0], [5.0, 6.0, 9.0], "only 3 users in an arm"),
        (few(LEAST_USERS - 1, 1, 2), few(LEAST_USERS, 3, 4), f"only {LEAST_USERS - 1} users in an arm"),
        ([7.0], [8.0, 9.0], "at least 2 are needed"),
        ([0.0] * 400, few(400, 1, 2), "control mean is 0"),
        ([0.0] * 398 + [1.0, 1.0], [0.0] * 340 + [1.0] * 60, "control mean too close to 0"),
        ([0.0] * 9998 + [1.0] * 2, [0.0] * 9993 + [1.0] * 7, "only 2 and 7 users have a value other than 0"),
        ([0.0] * 2000, [0.0] * 1993 + [50.0] * 7, "only 0 and 7 users"),
        ([1.0] * 997 + [0.0] * 3, [1.0] * 1000, "only 3 and 0 users have a value of 0"),
    ],
)
def test_too_little_to_judge_holds_with_the_reason(control, treatment, why):
    decision, headline = verdict(control, treatment)
    assert decision == "hold"
    assert why in headline


def test_skewed_values_hold_where_the_arms_differ_in_size():
    """Nine users in control for one in the treatment, and a few who buy for thousands."""
    rng = np.random.default_rng(4)
    values = rng.lognormal(0, 2, 2000)
    plan = AnalysisPlan("A", ("B",), weights={"A": 9.0, "B": 1.0})
    (found,) = results_of(analysed(log(values[:1800].tolist(), values[1800:].tolist()), plan))["verdicts"]
    assert found["decision"] == "hold"
    assert "leave the difference a skewness of" in found["headline"]
    assert "normal approximation" not in verdict(values[:1000].tolist(), values[1000:].tolist())[1]


def test_one_enormous_user_does_not_ship():
    """Without the outlier there is no difference; with it the mean of B is 20 times A's, and its spread as large."""
    rng = np.random.default_rng(0)
    control, treatment = rng.poisson(3, 400).astype(float), rng.poisson(3, 400).astype(float)
    treatment[0] = 1e5
    assert verdict(control.tolist(), treatment.tolist())[0] == "hold"


def test_enough_users_and_a_clear_gain_ship():
    assert verdict(few(LEAST_USERS, 1, 2), few(LEAST_USERS, 2, 3))[0] == "ship"


def test_a_platform_that_breaks_stops_although_one_arm_has_no_event():
    """400 buyers of 2,000 against none: the events expected are 200 an arm, so this is judged."""
    assert verdict([1.0] * 400 + [0.0] * 1600, [0.0] * 2000)[0] == "stop"


def test_rare_guardrails_and_slices_are_not_judged_and_ratios_are():
    """Seven of 4,000 users like something: as a mean it is not judged; a ratio has no such rule."""
    n, rng = 4000, np.random.default_rng(3)
    table = pl.DataFrame(
        {
            "user_id": range(n),
            "arm": ["A", "B"] * (n // 2),
            "clicks": rng.poisson(3, n) + 1 * (np.arange(n) % 2),
            "likes": (np.arange(n) % 571 == 0).astype(float),
            "land": ["NO"] * 3800 + ["SE"] * 200,
        }
    )
    like = Metric("like", "", parse("likes"), role="guardrail", margin=0.05)
    rate = Metric("rate", "", parse("likes"), parse("clicks"), role="secondary")
    rare = Metric("rare", "", parse("likes"), role="primary", slice="land=SE")
    plan = AnalysisPlan("A", ("B",), metrics=(BUILTIN["ACC"], like, rate, rare), slices=("land",))
    results = results_of(analysed(table, plan))
    reasons = {effect["metric"]: effect["reason"] for effect in results["effects"] if effect["family"] != "slice"}
    assert "users have a value other than 0" in reasons["like"]
    assert "users have a value other than 0" in reasons["rare"]
    assert reasons["ACC"] is None
    assert "value other than 0" not in str(reasons["rate"])
    apart = {(one["metric"], one["slice"]): one["reason"] for one in results["interactions"]}
    assert apart == {("ACC", "land=NO"): None}
    (found,) = results["verdicts"]
    assert found["decision"] == "hold"
    assert any("Guardrail like" in line and "value other than 0" in line for line in found["reasons"])


def test_a_slice_of_few_events_is_not_told_apart_from_the_rest():
    """Of 400 Swedes 9 and 1 buy: 45 % of the lift of everybody else, but of ten buyers."""
    n = 4000
    swedes = np.arange(n) < 400
    buys = np.where(swedes, np.isin(np.arange(n), [0, 2, 4, 6, 8, 10, 12, 14, 16, 1]), np.arange(n) % 5 == 0)
    table = pl.DataFrame(
        {
            "user_id": range(n),
            "arm": ["A", "B"] * (n // 2),
            "clicks": buys.astype(float),
            "land": np.where(swedes, "SE", "NO"),
        }
    )
    results = results_of(analysed(table, AnalysisPlan("A", ("B",), slices=("land",))))
    (apart,) = results["interactions"]
    assert (apart["p"], apart["slice"]) == (None, "land=NO")
    assert "only 9 and 1 users have a value other than 0, which is 5 expected" in apart["reason"]
