"""Users who click more readily than others: as different as on KuaiRand, the same in every arm, none less pleased."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.simulator.population.driving import anything, distinct, live, population
from tests.simulator.population.test_rates import MANY, answers_to_reference_slates

KUAIRAND = Path(__file__).parents[4] / "shared" / "data" / "kuairand_pure_0425_0430" / "log_standard_0425_0430.csv.gz"
KINDS = ("position", "cascade", "choice")


def true_sd(log):
    """Sd over users of their true click rate: the covariance of what the same user did on different days, so that
    neither the chance in single clicks nor a day's mood counts. Of rows user, day, looks, clicks."""
    rate = log["clicks"].sum() / log["looks"].sum()
    days = log.group_by("user", "day").agg(
        pl.col("looks").sum().cast(pl.Float64), above=(pl.col("clicks") - rate * pl.col("looks")).sum()
    )
    users = days.group_by("user").agg(
        pairs=pl.col("looks").sum() ** 2 - (pl.col("looks") ** 2).sum(),
        product=pl.col("above").sum() ** 2 - (pl.col("above") ** 2).sum(),
    )
    return float(np.sqrt(max(0.0, users["product"].sum() / users["pairs"].sum())))


def looks_and_clicks(of, days=8):
    counts = [
        {"user": user, "day": day, "looks": done.examined.sum(axis=1), "clicks": done.clicked.sum(axis=1)}
        for day, (_, done, user) in enumerate(answers_to_reference_slates(of, days))
    ]
    return pl.concat([pl.DataFrame(day) for day in counts])


@pytest.mark.skipif(not KUAIRAND.exists(), reason="KuaiRand-Pure is not there")
def test_kuairand_says_186():
    """Main feed (tab 1), repeated rows once."""
    log = pl.read_csv(KUAIRAND).unique(["user_id", "video_id", "time_ms"]).filter(pl.col("tab") == 1)
    rows = log.select(user="user_id", day="date", looks=pl.lit(1), clicks="is_click")
    assert true_sd(rows) == pytest.approx(0.186, abs=0.001)


def ranked(of, visits, rows, now_s, request):
    """The best ten of sixty items by what the user makes of them: a feed made for each, as KuaiRand's is."""
    out = np.flatnonzero(of._world.catalogue.published_s < 0)
    items = distinct(out, visits.key[rows], request, 60)
    utility = of._attraction(np.ascontiguousarray(items.T), of._visiting.situation(rows, now_s)).utility
    return np.take_along_axis(items, np.argsort(-utility, axis=0, kind="stable")[:10].T, axis=1)


def test_default_users_differ_as_on_kuairand():
    """Found: .178 here, .034 without readiness; standard error .003."""
    seen = live(population(world=("users.count=4000", "sessions.per_user=4")), 8, ranked)
    log = seen.group_by("user", "day").agg(looks=pl.col("examined").sum(), clicks=pl.col("clicked").sum())
    assert true_sd(log) == pytest.approx(0.186, abs=0.02)


def test_slates_that_are_alike_for_all_leave_users_as_different():
    """On reference slates, half of them by appeal, readiness has more of the item's own pull beside it."""
    assert true_sd(looks_and_clicks(population(world=MANY))) == pytest.approx(0.163, abs=0.012)


def test_without_readiness_users_differ_by_what_they_are_shown_only():
    assert true_sd(looks_and_clicks(population("utility.click_propensity_sd=0", world=MANY))) < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sd", [0.6, 2.5])
def test_the_click_rate_is_kept(kind, sd):
    of = population(f"examination.kind={kind}", f"utility.click_propensity_sd={sd}", world=MANY)
    frames = answers_to_reference_slates(of)
    clicks = sum(done.clicked.sum() for _, done, _ in frames)
    shown = sum(real.sum() for real, _, _ in frames)
    error = sd * 0.18 * 0.82 / np.sqrt(16_384) + 1.6 * 0.18 / np.sqrt(sum(len(user) for *_, user in frames))
    assert abs(clicks / shown - 0.18) < 4 * error
    assert error < 0.006


@pytest.mark.parametrize("kind", KINDS)
def test_satisfaction_tells_slates_apart_not_users(kind):
    """On reference slates the reluctant are as pleased as the eager, though they click far less."""
    of = population(f"examination.kind={kind}", "satisfaction.visit_weight=0.2", world=MANY)
    ((_, done, users),) = answers_to_reference_slates(of, 1)
    readiness, mood = of._traits.readiness[users], of.satisfaction[users] / 0.2
    clicks = done.clicked.sum(axis=1)
    bands = [(-9.0, -1.0), (-1.0, 0.0), (0.0, 1.0), (1.0, 9.0)]
    inside = [(readiness > low) & (readiness <= high) for low, high in bands]
    assert clicks[inside[3]].mean() > 2.0 * clicks[inside[0]].mean()
    for band in inside:
        assert abs(mood[band].mean()) < 4 * mood[band].std() / np.sqrt(band.sum()) + 0.03
    assert mood.std() == pytest.approx(1.0, abs=0.08)


def test_everybody_is_as_ready_in_every_arm_and_whatever_the_seed():
    of, other = population(), population("seed=1", "utility.click_propensity_sd=0.3", "examination.kind=cascade")
    readiness = of._traits.readiness
    assert (readiness == other._traits.readiness).all()
    assert not (readiness == population(world=("seed=1",))._traits.readiness).any()
    assert (readiness[:1_000] == population(world=("users.count=1000",))._traits.readiness).all()
    assert abs(readiness.mean()) < 4 / np.sqrt(1_500)
    assert readiness.std() == pytest.approx(1.0, abs=4 / np.sqrt(3_000))
    others = [of._traits.activity, *vars(of._traits.habits).values()]
    assert max(abs(np.corrcoef(readiness, np.log(np.abs(x)))[0, 1]) for x in others) < 4 / np.sqrt(1_500)


def test_readiness_moves_clicks_and_nothing_before_them():
    """First requests of the first day: the same visits, looks and slates; who clicks in both lingers and likes alike;
    the more ready click all that they did, the less ready nothing more."""
    columns = ["user", "visit", "place", "item"]
    of, off = population(), population("utility.click_propensity_sd=0")
    log, before = (live(each, 1, anything).filter(pl.col("request") == 0) for each in (of, off))
    assert log.select(columns, "now_s", "examined").equals(before.select(columns, "now_s", "examined"))
    raised = (of._utility_offset >= np.float32(off.intercept))[log["user"].to_numpy()]
    more, less = log["clicked"].to_numpy(), before["clicked"].to_numpy()
    assert (more >= less)[raised].all()
    assert (more <= less)[~raised].all()
    assert (more != less).sum() > 50
    both = more & less
    for column in ("dwell_s", "like", "follow"):
        assert (log[column].to_numpy() == before[column].to_numpy())[both].all()


@pytest.mark.parametrize("kind", KINDS)
def test_switched_off_readiness_is_in_nobody(kind):
    """Bit for bit, whatever the users' own draws say."""
    off = ("utility.click_propensity_sd=0", f"examination.kind={kind}")
    of = population(*off)
    expected = live(of, 3)
    other = population(*off)
    assert (other._utility_offset == np.float32(other.intercept)).all()
    assert (other._reference_utility == other._calibration.worth).all()
    assert live(other, 3).equals(expected)
    assert not live(population(f"examination.kind={kind}"), 3).equals(expected)


FORMER_KEYS = (
    "utility.clickbait=0.7",
    "satisfaction.outage=1",
    "satisfaction.visit_weight=0.2",
    "lifecycle.return_satisfaction=0.3",
)
FORMER = {
    "position": (132_610, 6_929, 184, 1_776_958_355, 89),
    "cascade": (125_890, 6_253, 187, 1_601_813_795, 89),
    "choice": (119_370, 5_325, 139, 1_383_943_441, 92),
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_switched_off_users_are_those_of_before_the_keys(kind):
    """Numbers of the revision before readiness and habit came: impressions, clicks, likes, which, who is gone."""
    off = ("utility.click_propensity_sd=0", "lifecycle.habit=0", f"examination.kind={kind}")
    of = population(*off, *FORMER_KEYS, world=("links.strength=0", "sessions.per_user=10", "links.susceptibility_sd=0"))
    log = live(of, 6)
    clicks = log.filter("clicked")
    which = int((clicks["user"] * clicks["item"]).sum())
    assert (len(log), len(clicks), int(log["like"].sum()), which, int(of.gone.sum())) == FORMER[kind]
