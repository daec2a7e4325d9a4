"""Margins of guardrails under repeated looks: by the interval that holds at all of them, and the verdict says so."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from abtest.analysis.expressions import parse
from abtest.analysis.metrics import BUILTIN, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.results import results_of
from tests.abtest.analysis.logs import analysed

PUBLISHED = [5.8153, 4.0333, 3.2351, 2.7672, 2.4554, 2.2294, 2.0562]  # O'Brien-Fleming spending, seven equal looks


def log(days: int, loss: float = 0.0) -> pl.DataFrame:
    """A thousand users a day who come once, with 0 to 4 clicks and likes each; those of B are fewer by ``loss``."""
    n = 1000 * days
    at = np.arange(n)
    b, values = at % 2 == 1, at // 2 % 5
    return pl.DataFrame(
        {
            "user_id": at,
            "arm": np.where(b, "B", "A"),
            "day": 1 + at // 1000,
            "clicks": values,
            "likes": values * np.where(b, 1.0 - loss, 1.0),
        }
    )


def judged(table: pl.DataFrame, looks: str, margin: float = 0.06) -> tuple[dict, dict]:
    """The guardrail's effect and the verdict."""
    likes = Metric("like", "", parse("likes"), role="guardrail", margin=margin)
    plan = AnalysisPlan("A", ("B",), metrics=(BUILTIN["ACC"], likes), looks=looks, planned_days=7)
    results = results_of(analysed(table, plan))
    (effect,) = [e for e in results["effects"] if e["family"] == "guardrail"]
    return effect, results["verdicts"][0]


@pytest.mark.parametrize("day", [2, 3, 5, 7])
def test_the_interval_of_a_margin_is_that_of_the_look(day):
    table = log(day, loss=0.01)
    arms = [table.filter(arm=arm)["likes"].to_numpy() for arm in "AB"]
    level = 1 - 2 * stats.norm.sf(PUBLISHED[day - 1])
    expected = stats.ttest_ind(arms[1], arms[0], equal_var=False).confidence_interval(level)
    effect, _ = judged(table, "daily")
    assert effect["difference_ci"] == pytest.approx(expected, rel=0.02)


def test_what_one_look_calls_safe_several_may_not():
    """Three days: 95 % of one look is +-5.1 %, within the margin of 6 %; repeated it is +-8.4 %."""
    table = log(3)
    effect, verdict = judged(table, "daily")
    assert effect["guardrail"] == "unsure"
    (reason,) = [line for line in verdict["reasons"] if line.startswith("Guardrail")]
    assert "not shown to lie within its margin of 6 % by the repeated interval, which holds at all looks" in reason
    assert judged(table.with_columns(day=pl.col("day") + 4 * (pl.col("day") == 3)), "final")[0]["guardrail"] == "safe"
    assert judged(log(7), "daily")[0]["guardrail"] == "safe"


@pytest.mark.parametrize(
    ("looks", "says"),
    [
        ("final", "worse than its margin of 6 % allows."),
        ("daily", "worse than its margin of 6 % allows by the repeated interval, which holds at all looks together."),
        ("open", "worse than its margin of 6 % allows by the anytime interval, which holds however often it is read."),
    ],
)
def test_a_broken_margin_stops_and_says_by_which_interval(looks, says):
    effect, verdict = judged(log(7, loss=0.2), looks)
    assert (effect["guardrail"], verdict["decision"]) == ("harmed", "stop")
    assert any(line.startswith("Guardrail like -20.00 %") and line.endswith(says) for line in verdict["reasons"])


def test_a_margin_is_not_read_before_the_end_of_a_test_that_is_read_once():
    effect, verdict = judged(log(3, loss=0.2), "final")
    assert (effect["guardrail"], verdict["decision"]) == ("unsure", "hold")
    assert any("this is day 3 of 7" in line for line in verdict["reasons"] if line.startswith("Guardrail"))
