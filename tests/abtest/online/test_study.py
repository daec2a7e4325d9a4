"""Summaries of hand-made replications, against scipy and counting by hand; worlds compared with worlds."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats

from abtest.online.experiment import Replication
from abtest.online.online_scenario import OnlineScenario
from abtest.online.recalls import recall_section, recalls_of
from abtest.online.study import (
    coverage_band,
    expected_coverage,
    slope,
    study_data,
    study_section,
    summarise,
    trend,
)
from abtest.online.study_reports import DOSE_RESPONSE, MISSPECIFIED, ONLINE_AB
from abtest.online.truth import TrueLift
from abtest.online.world_comparison import fault_costs, fault_section, spillovers
from abtest.scenario_files import load_scenario
from abtest.stats.mean_interval import mean_interval
from simulator.platform.arms import assign

SCENARIOS = Path(__file__).parents[3] / "scenarios"
ACC = ("ACC", "all", "MicRec")


def effect(lift, ci, *, significant=False, question=ACC):
    return SimpleNamespace(
        question=question,
        arm=question[2],
        family="primary",
        significant=significant,
        estimate=SimpleNamespace(lift=lift, lift_ci=ci),
    )


def replication(number, truth, estimate=None, ci=None, *, variant="main", question=ACC, significant=False, **more):
    effects = [] if estimate is None else [effect(estimate, ci, significant=significant, question=question)]
    known = {} if truth is None else {question: TrueLift(truth, 0.01)}
    fields = {
        "scenario": None,
        "facts": {},
        "root": Path(),
        "analysis": SimpleNamespace(effects=effects, levels={}),
        **more,
    }
    return Replication(variant=variant, number=number, truth=known, **fields)


def test_coverage_bias_and_intervals_are_those_of_the_replications():
    truths, estimates = [0.02, 0.03, 0.01, 0.02], [0.05, 0.02, 0.00, 0.03]
    cis = [(0.03, 0.07), (0.01, 0.04), (-0.02, 0.02), (0.0, 0.02)]  # the first misses; the last holds it at its end
    runs = [
        replication(k, *three, significant=k < 2) for k, three in enumerate(zip(truths, estimates, cis, strict=True))
    ]
    (one,) = summarise(runs, 0.05)
    assert (one.runs, one.covered, one.judged, one.significant) == (4, 3, 4, 2)
    assert one.truth == pytest.approx(0.02)
    assert one.estimate == pytest.approx(0.025)
    assert one.bias == pytest.approx(0.005)
    differences = [e - t for e, t in zip(estimates, truths, strict=True)]
    assert one.bias_ci == pytest.approx(stats.ttest_1samp(differences, 0).confidence_interval(0.95))
    assert one.truth_ci == pytest.approx(stats.ttest_1samp(truths, 0).confidence_interval(0.95))


def test_one_replication_has_the_interval_of_its_monte_carlo_error():
    (one,) = summarise([replication(0, 0.05, 0.06, (0.0, 0.1))], 0.1)
    assert one.truth_ci == pytest.approx(stats.norm(0.05, 0.01).interval(0.9))
    assert one.bias_ci is None


def test_what_is_undefined_counts_neither_for_nor_against():
    runs = [replication(0, None, 0.06, (0.0, 0.1)), replication(1, 0.05, 0.07, None), replication(2, 0.05)]
    (one,) = summarise(runs, 0.05)
    assert (one.judged, one.covered, one.band) == (0, 0, None)
    assert one.bias == pytest.approx(0.02)
    assert mean_interval([1.0], 0.05) is None


def test_the_band_holds_99_per_cent_of_sound_studies():
    low, high = coverage_band([0.95] * 100)
    sound = stats.binom(100, 0.95)
    assert (low, high) == tuple(sound.ppf([0.005, 0.995]).astype(int))
    chances = [0.9, 0.99, 0.6, 0.97] * 10  # not alike: against a simulation
    counts = (np.random.default_rng(0).random((200_000, 40)) < chances).sum(axis=1)
    assert coverage_band(chances) == tuple(np.quantile(counts, [0.005, 0.995], method="inverted_cdf").astype(int))


def test_too_few_intervals_with_the_truth_are_told():
    runs = [replication(k, 0.0, 0.1, (0.05, 0.15) if k < 20 else (-0.1, 0.2)) for k in range(100)]
    (one,) = summarise(runs, 0.05)
    assert 95.0 < one.expected < 98.0  # intervals of an error of .026 and .077, beside .01 that is known
    section = study_section(ONLINE_AB, [one], 0.05)
    (cell,) = [row[-2] for table in section.tables for row in table.rows]
    low, high = one.band
    assert cell == f"80 of 100 [{low} to {high}, {one.expected:.1f} expected], TOO FEW"


@pytest.mark.parametrize("alike", [1.0, 0.5, 0.0])
def test_coverage_of_the_users_own_truth_is_what_is_expected(alike):
    """Assignments of one set of users whose two outcomes are known, alike, somewhat, or not at all; SciPy's Welch."""
    rng = np.random.default_rng(7)
    n, rounds = 400, 4_000
    control = rng.normal(10.0, 3.0, n)
    treatment = 0.5 + alike * control + np.sqrt(1 - alike**2) * rng.normal(0.0, 3.0, n) + (1 - alike) * 10
    truth, se = (treatment - control).mean(), (treatment - control).std(ddof=1) / np.sqrt(n)
    order = rng.permuted(np.tile(np.arange(n), (rounds, 1)), axis=1)
    shown = treatment[order[:, : n // 2]], control[order[:, n // 2 :]]
    ci = stats.ttest_ind(*shown, axis=1, equal_var=False).confidence_interval(0.95)
    covered = ((ci.low <= truth) & (truth <= ci.high)).sum()
    chances = [expected_coverage(half, 0.05, se) for half in (ci.high - ci.low) / 2]
    error = np.sqrt(np.mean(chances) * (1 - np.mean(chances)) / rounds)
    assert covered / rounds == pytest.approx(np.mean(chances), abs=3 * error + 0.002)  # t for normal: .002 at most
    assert (np.mean(chances) > 0.955) == (alike < 1)


LIFTS = {"dose 0": [0.00, 0.10, 0.04], "dose 0.5": [0.02, 0.13, 0.03], "dose 1": [0.05, 0.14, 0.06]}


def doses(lifts):
    return [replication(k, lift, variant=name) for name, own in lifts.items() for k, lift in enumerate(own)]


def test_the_trend_of_several_replications_is_the_mean_of_their_slopes():
    """Each replication is one observation, however many doses it has."""
    own = [stats.linregress([0, 0.5, 1], [lifts[k] for lifts in LIFTS.values()]).slope for k in range(3)]
    low, high = stats.ttest_1samp(own, 0).confidence_interval(0.95)
    expected = f"{100 * np.mean(own):+.2f} points per unit of dose [{100 * low:+.2f}, {100 * high:+.2f}]"
    text = trend(summarise(doses(LIFTS), 0.05), "ACC", "", 0.05)
    assert expected in text
    assert "over 3 replications" in text


def test_the_trend_of_one_replication_is_a_regression_and_says_what_it_leaves_out():
    lifts = {name: own[:1] for name, own in LIFTS.items()}
    fit = sm.OLS([own[0] for own in lifts.values()], sm.add_constant([0, 0.5, 1])).fit()
    low, high = 100 * fit.conf_int(0.05)[1]
    text = trend(summarise(doses(lifts), 0.05), "ACC", "", 0.05)
    assert f"{100 * fit.params[1]:+.2f} points per unit of dose [{low:+.2f}, {high:+.2f}]" in text
    assert "another world or training" in text


def test_noise_between_replications_is_in_the_intervals():
    """Worlds in which the dose does nothing, but each training tilts its own world's line: 95 % of intervals hold 0."""
    rng = np.random.default_rng(3)
    held = pointwise = 0
    for _ in range(400):
        tilt, level = rng.normal(0, 0.05, 5), rng.normal(0, 0.02, 5)
        own = summarise(
            doses({f"dose {d}": (level + d * tilt + rng.normal(0, 0.005, 5)).tolist() for d in (0, 0.5, 1)}), 0.05
        )
        _, (low, high), runs = slope(own, 0.05)
        assert runs == 5
        held += low <= 0 <= high
        pointwise += own[2].truth_ci[0] <= 0 <= own[2].truth_ci[1]
    band = stats.binom(400, 0.95).ppf([0.005, 0.995])
    assert band[0] <= held <= band[1]
    assert band[0] <= pointwise <= band[1]


def test_user_models_that_disagree_are_said_to():
    runs = [replication(0, lift, variant=name) for name, lift in (("a", 0.1), ("b", -0.1), ("c", 0.001))]
    text = study_section(MISSPECIFIED, summarise(runs, 0.05), 0.05).text
    assert any("disagree: 1 find a gain, 1 a loss, 1 neither" in line for line in text)


def test_each_treatment_has_its_own_line_over_the_doses():
    arms = ("MicRec", "session")
    runs = [
        replication(0, d * (1 + k), variant=f"dose {d:g}", question=("ACC", "all", arm))
        for d in (0.0, 0.5, 1.0)
        for k, arm in enumerate(arms)
    ]
    summaries = summarise(runs, 0.05)
    figure = study_section(DOSE_RESPONSE, summaries, 0.05).blocks[0]
    assert [(line.name, list(line.y)) for line in figure.series] == [
        ("MicRec", [0, 0.5, 1.0]),
        ("session", [0, 1.0, 2.0]),
    ]
    assert study_data(summaries)[0]["metric"] == "ACC"


@pytest.fixture
def worlds(tmp_path):
    """Two variants of one replication, in which users 0 … 99 click as told."""
    scenario, _ = load_scenario(SCENARIOS / "faults.yaml", ["keep_logs=true"])
    assert isinstance(scenario, OnlineScenario)

    def write(variant, part, clicks):
        folder = tmp_path / variant / part / "measures"
        folder.mkdir(parents=True)
        days(clicks).write_parquet(folder / "days.parquet")

    def read(variant):
        more = {"scenario": scenario, "root": tmp_path / variant}
        return replication(0, 0.0, 0.0, (-1.0, 1.0), variant=variant, **more)

    return scenario, write, read


def days(clicks):
    """One day of every user."""
    n = len(clicks)
    return pl.DataFrame(
        {
            "user_id": range(n),
            "arm": ["ICAN"] * n,
            "day": [1] * n,
            "requests": [3] * n,
            "impressions": [30] * n,
            "clicks": clicks,
            "dwell_s": [10.0 * c for c in clicks],
            "likes": [0] * n,
            "follows": [0] * n,
            "cold": [False] * n,
            "active": [True] * n,
        },
        schema_overrides={"clicks": pl.Int64, "day": pl.Int32},
    )


def test_a_fault_that_halves_the_clicks_costs_half(worlds):
    _, write, read = worlds
    write("none", "control", [4] * 100)
    write("outage", "control", [2] * 100)
    found = {one.metric: one for one in fault_costs([read("none"), read("outage")], 0.05)}
    assert found["ACC"].lift == found["ADT"].lift == pytest.approx(-0.5)
    assert found["ACC"].ci == pytest.approx((-0.5, -0.5))
    assert fault_section([read("none"), read("outage")], 0.05).title == "What a fault costs"


def test_spillover_is_what_the_experiment_changes_of_an_arms_own_users(worlds):
    scenario, write, read = worlds
    treated = assign(pl.Series(range(100)).to_numpy(), scenario.platform_config(0)) == 1
    write("main", "control", [4] * 100)
    write("main", "treatment", [6] * 100)
    write("main", "experiment", [6 if mine else 5 for mine in treated])
    found = {one.name: one.lift for one in spillovers([read("main")], 0.05) if one.metric == "ACC"}
    assert found == {"main, ICAN": pytest.approx(0.25), "main, MicRec": pytest.approx(0.0)}


def test_link_recall_is_read_from_the_world_where_everybody_is_in_the_arm(worlds):
    scenario, _, _ = worlds
    facts = {
        part: {
            "link_recall": [{"arm": arm, "channel": "matching", "recall": recall, "chance": 0.05}],
            "causes": [{"arm": arm, "cause": "link", "len": 1}, {"arm": arm, "cause": "taste", "len": 3}],
            "channels": [{"arm": arm, "channel": "matching", "clicks": 4}],
        }
        for part, arm, recall in (("control", "control", 0.1), ("treatment", "treatment", 0.2))
    }
    runs = [replication(k, 0.0, variant="strength 1", scenario=scenario, facts=facts) for k in range(2)]
    found = recalls_of(runs)
    assert [(one.arm, one.recalls, one.link_clicks, one.own_clicks) for one in found] == [
        ("ICAN", (0.1, 0.1), 0.25, 1.0),
        ("MicRec", (0.2, 0.2), 0.25, 1.0),
    ]
    (table,) = recall_section(found, 0.05, doses=True).tables
    assert [row[5] for row in table.rows] == ["2.00", "4.00"]
