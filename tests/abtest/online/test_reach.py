"""The smallest lift that a test will find, in its first primary metric and by its estimator."""

import numpy as np
import polars as pl
import pytest

from abtest.online.experiment import plan_of
from abtest.online.possible import reach_of
from tests.abtest.online.tiny_runs import tiny

USERS = 20_000


@pytest.fixture(scope="module")
def control():
    """A user-day each; clicks before explain half of the variance of those in the test, and impressions are 20."""
    rng = np.random.default_rng(0)
    before = rng.normal(10.0, 1.0, USERS)
    clicks = before + rng.normal(0.0, 1.0, USERS)
    columns = {
        "user_id": np.arange(USERS),
        "arm": "A",
        "day": 1,
        "clicks": clicks,
        "pre_clicks": before,
        "active": True,
    }
    zeros = dict.fromkeys(("dwell_s", "likes", "follows", "link_clicks"), 0.0)
    return pl.DataFrame({**columns, **zeros, "dwell_s": 2.0 * clicks, "requests": 2, "impressions": 20, "cold": False})


def mde(control, *sets):
    scenario = tiny("possible.users=20000", f"world.users.count={USERS}", "days=1", *sets)
    return reach_of(scenario, control, None, plan_of(scenario, ("treatment",), "")).mde


def test_cuped_finds_lifts_smaller_by_what_the_past_explains(control):
    plain, adjusted = (mde(control, f"estimator={name}") for name in ("welch", "cuped"))
    assert adjusted / plain == pytest.approx(np.sqrt(0.5), rel=0.02)


def test_it_is_that_of_the_power_formula(control):
    """(z of the level + z of the power) times the error of the difference, relative to the mean."""
    spread = control["clicks"].std() / control["clicks"].mean()
    error = spread * np.sqrt(4.0 / USERS)
    assert mde(control, "primary=[ACC]") == pytest.approx((1.960 + 0.842) * error, rel=0.01)
    assert mde(control) == pytest.approx((2.241 + 0.842) * error, rel=0.01)  # two primary metrics share the level


def test_it_is_told_in_the_first_primary_metric(control):
    noisier = control.with_columns(dwell_s=pl.col("clicks") + 5.0 * (pl.col("user_id") % 2))
    assert mde(noisier, "primary=[ADT]") > 1.3 * mde(noisier, "primary=[ACC]")
