"""A verdict needs enough users and an interval of the lift; what is too little says so and holds."""

import numpy as np
import polars as pl
import pytest

from abtest.analysis.effects import LEAST_USERS
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
    ],
)
def test_too_little_to_judge_holds_with_the_reason(control, treatment, why):
    decision, headline = verdict(control, treatment)
    assert decision == "hold"
    assert why in headline


def test_one_enormous_user_does_not_ship():
    """Without the outlier there is no difference; with it the mean of B is 20 times A's, and its spread as large."""
    rng = np.random.default_rng(0)
    control, treatment = rng.poisson(3, 400).astype(float), rng.poisson(3, 400).astype(float)
    treatment[0] = 1e5
    assert verdict(control.tolist(), treatment.tolist())[0] == "hold"


def test_enough_users_and_a_clear_gain_ship():
    assert verdict(few(LEAST_USERS, 1, 2), few(LEAST_USERS, 2, 3))[0] == "ship"
