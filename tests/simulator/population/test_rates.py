"""Rates out = rates in: clicks on reference slates, behaviours after the clicks."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from micrec.errors import MicrecError
from simulator.population.attraction import VARIANTS
from simulator.population.pilot import reference_slates
from tests.simulator.population.driving import anything, live, population

KINDS = ("position", "cascade", "choice")
MANY = ("users.count=20000", "sessions.per_user=6", "days=20", "window_days=20")


def answers_to_reference_slates(of, days=4):
    """First requests of users who bring nothing along: which places are filled, responses, users; day by day."""
    frames = []
    for day in range(days):
        visits = of.begin_day(day)
        rows = np.flatnonzero(visits.ordinal == 0)
        now_s = visits.start_s[rows]
        slates = reference_slates(of._world, of._keys, of._visiting.topic[:, rows], now_s, visits.key[rows])
        done = of.respond(rows, slates.T, now_s, np.zeros(len(rows), int))
        frames.append((slates.T >= 0, done, visits.user[rows]))
        of.end_day(day)
        of._carried.item[:], of._carried.fatigue[:] = -1, 0.0
    return frames


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_click_rate_on_reference_slates(kind, variant):
    rate = 0.12 if variant == "taste" else 0.18
    of = population(
        f"examination.kind={kind}", f"utility.variant={variant}", f"click_rate={rate}", world=MANY
    )  # fmt: skip
    frames = answers_to_reference_slates(of)
    per_slate = np.concatenate([done.clicked.sum(axis=1) - rate * real.sum(axis=1) for real, done, _ in frames])
    shown = np.mean(np.concatenate([real.sum(axis=1) for real, _, _ in frames]))
    pilot = 1.0 / 16_384 + 1.0 / len(per_slate)
    assert len(per_slate) > 15_000
    assert abs(per_slate.mean()) / shown < 4 * per_slate.std() * np.sqrt(pilot) / shown


@pytest.mark.parametrize("kind", KINDS)
def test_behaviour_rates_on_slates(kind):
    """Whatever is clicked, where behaviours do not depend on the item."""
    rates = ("like_quality=0", "dwell_quality=0", "like_rate=0.1", "follow_rate=0.02", "follow_given_like=0.08")
    world = (*MANY, *(f"behaviour.{rate}" for rate in rates))
    clicks = live(population(f"examination.kind={kind}", world=world), 5).filter("clicked")
    n, likes = len(clicks), int(clicks["like"].sum())
    assert n > 25_000
    per_user = clicks.group_by("user").agg(pl.len(), pl.col("like").sum(), pl.col("dwell_s").log().sum())

    def off_by(column, rate):
        """Difference from the rate in standard errors; users are the units, as they have habits."""
        rest = per_user[column].to_numpy() - rate * per_user["len"].to_numpy()
        return rest.sum() / np.sqrt((rest**2).sum())

    assert abs(off_by("like", 0.1)) < 4
    assert abs(off_by("dwell_s", 3.3)) < 4
    assert np.log(clicks["dwell_s"]).std() == pytest.approx(1.07, rel=0.03)
    assert stats.binomtest(int(clicks["follow"].sum()), n, 0.02).pvalue > 1e-4
    assert stats.binomtest(int(clicks.filter("like")["follow"].sum()), likes, 0.08).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_default_behaviours_are_near_the_measured_rates(kind):
    """Quality matters now, and slates hold other items than the history's clicks; the rates stay close."""
    clicks = live(population(f"examination.kind={kind}", world=MANY), 5).filter("clicked")
    assert clicks["like"].mean() == pytest.approx(0.032, rel=0.2)
    assert np.log(clicks["dwell_s"]).mean() == pytest.approx(3.3, abs=0.15)
    assert clicks["follow"].mean() == pytest.approx(0.0026, rel=0.5)


def test_nothing_follows_what_was_not_clicked():
    seen = live(population(), 3)
    idle = seen.filter(~pl.col("clicked"))
    assert idle["dwell_s"].max() == 0
    assert not idle["like"].any()
    assert not idle["follow"].any()
    assert (idle["cause"] == 255).all()
    done = seen.filter("clicked")
    assert done["examined"].all()
    assert done["dwell_s"].min() > 0
    assert done["cause"].max() <= 5
    busy = seen.group_by("day", "visit", "request").agg(pl.col("busy_s").first(), pl.col("dwell_s").sum())
    assert (busy["busy_s"] - busy["dwell_s"]).min() > -1e-2
    assert (busy["busy_s"] - busy["dwell_s"]).mean() == pytest.approx(8.0, rel=0.1)


def test_mean_requests_of_a_visit():
    """Geometric, where neither mood nor fatigue matters and no visit is cut after an hour."""
    calm = ("lifecycle.stay_satisfaction=0", "lifecycle.stay_fatigue=0", "lifecycle.requests=4", "click_rate=0.02")
    world = (*MANY, "sessions.patience_sd=0", "sessions.browse_s=0.1", "behaviour.dwell_log_mean=0")
    first = live(population(*calm, world=world), 4, anything).filter(pl.col("place") == 0)
    requests = first.group_by("day", "visit").len()["len"].to_numpy()
    assert abs(requests.mean() - 4.0) < 4 * np.sqrt(12.0 / len(requests))
    assert np.mean(requests == 1) == pytest.approx(0.25, abs=0.02)


def test_a_visit_ends_within_the_hour():
    seen = live(population("lifecycle.requests=100", "lifecycle.stay_fatigue=0"), 2)
    length = seen.group_by("day", "visit").agg(pl.col("now_s").max() - pl.col("now_s").min())["now_s"]
    assert 3_000 < length.max() <= 3_590


def test_a_rate_out_of_reach_is_refused():
    with pytest.raises(MicrecError, match=r"click_rate: 0\.9 cannot be reached.*examination\.decay"):
        population("click_rate=0.9")
    with pytest.raises(MicrecError, match="choice and slates of 10"):
        population("click_rate=0.2", "examination.kind=choice", "examination.again=0.1")
