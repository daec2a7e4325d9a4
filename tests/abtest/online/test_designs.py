"""Scores of designs against worlds whose truth is known, what assignment does on the platform, and the command."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.online.design_run import experiment_sums
from abtest.online.design_scores import (
    Score,
    days_for,
    measure,
    measured,
    reason,
    recommend,
    score,
    smallest_lift,
    sound,
    true_lift,
)
from abtest.online.designs import BY_HOUR, USER, design_scenario, designs_of
from abtest.online.measures import MEASURES
from abtest.online.simulate import EXPERIMENT, Simulation
from abtest.online.unit_sums import UNITS_FILE, unit_sums
from micrec.errors import MicrecError
from simulator.platform.arms import arm_of_period, assign_units, clusters_of, item_arms
from tests.abtest.online.tiny_runs import run, scenario_file, tiny

ALPHA = 0.05
WASHED = f"{BY_HOUR}, washed out"


def sums(rng, users, lift, *, unit="user", clusters=None, cluster_sd=0.0):
    """Visits and clicks of users (or of periods) under a known lift."""
    if unit == "period":
        user, period = np.arange(users) % 50, np.arange(users)
        treated = period % 2 == 1
    else:
        user, period = np.arange(users), np.zeros(users, int)
        of = clusters if clusters is not None else user
        treated = rng.permutation(of.max() + 1)[of] % 2 == 1
    visits = 1 + rng.poisson(3.0, users)
    level = 2.0 * (1.0 + (0.0 if clusters is None else cluster_sd * rng.standard_normal(clusters.max() + 1)[clusters]))
    clicks = rng.poisson(np.maximum(level, 0.1) * (1.0 + lift * treated) * visits)
    arm = np.where(treated, "treatment", "control")
    return pl.DataFrame({"user_id": user, "arm": arm, "period": period, "clicks": clicks, "visits": visits})


@pytest.mark.parametrize("unit", ["user", "cluster", "period"])
def test_intervals_of_every_unit_hold_a_known_lift(unit):
    rng, hits, runs = np.random.default_rng(0), 0, 300
    clusters = np.arange(400) % 20 if unit == "cluster" else np.arange(400)
    for _ in range(runs):
        made = sums(rng, 400, 0.2, unit=unit, clusters=clusters if unit == "cluster" else None, cluster_sd=0.1)
        low, high = measure(made, unit, clusters, "treatment", alpha=ALPHA).lift_ci
        hits += low <= 0.2 <= high
    assert 0.91 * runs <= hits <= 0.985 * runs


def test_users_of_clusters_taken_as_independent_would_promise_too_much():
    rng, clusters = np.random.default_rng(1), np.arange(400) % 10
    hits = {"user": 0, "cluster": 0}
    for _ in range(200):
        made = sums(rng, 400, 0.0, clusters=clusters, cluster_sd=0.3)
        for unit in hits:
            low, high = measure(made, unit, clusters, "treatment", alpha=ALPHA).lift_ci
            hits[unit] += low <= 0.0 <= high
    assert hits["cluster"] > 180
    assert hits["user"] < 150


def test_score_of_hand_made_experiments():
    """Errors of +1, +3 points: bias 2, luck 1, so off by sqrt(4 - 1 + noise^2)."""
    rng = np.random.default_rng(2)
    estimate = measure(sums(rng, 400, 0.2), "user", np.arange(400), "treatment", alpha=ALPHA)
    one = measured(estimate, 0.0)
    runs = [one._replace(lift=0.01, se=0.02, ci=(-0.03, 0.05)), one._replace(lift=0.03, se=0.02, ci=(0.01, 0.05))]
    found = score("a", runs, alpha=ALPHA, days=4, wanted=0.5 * smallest_lift(0.02, one.df, ALPHA))
    assert found.bias == pytest.approx(0.02)
    assert found.covered == 1
    assert found.rmse == pytest.approx(np.sqrt(0.0004 - 0.0001 + 0.0004))
    assert found.days == 16  # half the lift takes four times as long
    assert score("a", [], alpha=ALPHA, days=4, wanted=None) is None


def test_smallest_lift_is_that_of_a_z_test_with_many_users():
    assert smallest_lift(0.01, 1e9, 0.05) == pytest.approx(0.01 * (1.95996 + 0.84162), rel=1e-4)


def test_days_do_not_average_out_what_is_the_units_own():
    rng = np.random.default_rng(3)
    own = np.repeat(rng.normal(10.0, 1.0, (4000, 1)), 4, axis=1)
    luck = rng.normal(0.0, 2.0, (4000, 4))
    assert days_for(4, 0.6, [own + luck]) == pytest.approx(20, abs=4)  # 1 + 4/n = .6 (1 + 4/4)
    assert days_for(4, 0.4, [own + luck]) is None
    assert days_for(4, 0.25, []) == 16


def made(name, rmse, covered=20, bias=0.0):
    return Score(name, 20, 100, bias, (bias - 0.01, bias + 0.01), covered, 0.02, 0.05, rmse, 7)


def test_the_least_wrong_of_the_designs_that_can_be_believed_is_recommended():
    scores = [made(USER, 0.05), made("a", 0.03), made("b", 0.01, covered=5)]
    best = recommend(scores, ALPHA)
    assert best.name == "a"
    assert not sound(scores[2], ALPHA)
    assert "a: one experiment is off by 3.0 points" in reason(best, scores, ALPHA)
    assert "Not to be believed: b" in reason(best, scores, ALPHA)
    assert "too near" in reason(scores[1], [made(USER, 0.031), scores[1]], ALPHA)
    assert recommend([made("c", 0.1, covered=0)], ALPHA).name == "c"


class TestAssignment:
    def test_two_arms_share_every_pair_of_periods(self):
        keys = tiny("platform.assignment={unit: time, period_h: 1}").platform_config(0)
        arm = arm_of_period(np.arange(200), keys).reshape(100, 2)
        assert (arm.sum(axis=1) == 1).all()
        assert 25 < arm[:, 0].sum() < 75
        weighted = tiny("platform.assignment={unit: time}", "arms.treatment.weight=3").platform_config(0)
        assert 0.6 < arm_of_period(np.arange(2000), weighted).mean() < 0.9

    def test_clusters_have_one_arm(self):
        keys = tiny("platform.assignment={unit: cluster, cluster_fields: [region]}").platform_config(0)
        table = pl.DataFrame({"user_id": range(60), "region": [f"r{n % 12}" for n in range(60)]})
        arm = assign_units(np.arange(60), np.zeros(60), table, keys)
        by_region = (
            pl.DataFrame({"region": table["region"], "arm": arm}).group_by("region").agg(pl.col("arm").n_unique())
        )
        assert (by_region["arm"] == 1).all()
        assert set(arm.tolist()) == {0, 1}
        with pytest.raises(MicrecError, match="no city"):
            clusters_of(table, ["city"])

    def test_a_switchback_serves_everybody_with_one_arm_at_a_time(self):
        found = run("platform.assignment={unit: time, period_h: 24}")
        arms = found.table("requests").group_by("day").agg(pl.col("arm").n_unique(), first=pl.col("arm").first())
        assert (arms["arm"] == 1).all()
        assert arms["first"].n_unique() == 2

    def test_with_a_diverted_catalogue_no_item_is_shown_in_two_arms(self):
        shown = run("platform.catalogue=diverted").table("impressions")
        per_item = shown.group_by("item_id").agg(pl.col("arm").n_unique())
        assert (per_item["arm"] == 1).all()
        assert shown["arm"].n_unique() == 2
        keys = tiny("platform.catalogue=diverted").platform_config(0)
        assert 30 < item_arms(120, keys).sum() < 90
        assert item_arms(120, tiny().platform_config(0)) is None


class TestDesigns:
    def test_each_is_a_variant_and_the_truth_is_simulated_once(self):
        scenario = tiny()
        designs = designs_of(scenario, ["region"])
        study, _ = design_scenario(scenario, designs, replications=2)
        assert list(study.named_variants()) == [name for name, one in designs.items() if one.read_from is None]
        assert [name for name in study.named_variants() if study.variant(name).truth.worlds] == [USER]
        holdout = study.variant("holdout").arms
        assert holdout["control"].weight / holdout["treatment"].weight == pytest.approx(1 / 9)

    def test_washing_out_takes_away_what_a_period_leaves_to_the_next(self, tmp_path):
        """In the first quarter of each period users still behave as in the one before."""
        design, rng = designs_of(tiny(), ["region"])[WASHED], np.random.default_rng(3)
        late = sums(rng, 4_000, 0.2, unit="period").with_columns(early=pl.lit(False))
        early = sums(rng, 4_000, 0.0, unit="period").with_columns(early=pl.lit(True))
        folder = tmp_path / Simulation(design.simulated, 0, EXPERIMENT).path / MEASURES
        folder.mkdir(parents=True)
        pl.concat([late, early]).write_parquet(folder / UNITS_FILE)
        both, clusters = (design, designs_of(tiny(), ["region"])[BY_HOUR]), np.zeros(50, np.int64)
        read = [experiment_sums(tmp_path, one, 0) for one in both]
        washed, whole = (measure(one, "period", clusters, "treatment", alpha=ALPHA) for one in read)
        assert washed.lift_ci[0] < 0.2 < washed.lift_ci[1]
        assert whole.lift_ci[1] < 0.2

    def test_visits_of_the_first_quarter_of_a_period_are_known(self, tmp_path):
        """Periods of two hours: visits at 0:29 and 2:29 began early, those at 0:31 and 3:59 did not."""
        asked_s = [60.0 * minutes for minutes in (29, 31, 149, 239)]
        visits = {"day": [0] * 4, "visit": range(4)}
        users = {"user_id": [7] * 4, "arm": ["control"] * 4}
        pl.DataFrame({**visits, **users, "asked_s": asked_s}).write_parquet(tmp_path / "requests-000.parquet")
        pl.DataFrame({name: values[:1] for name, values in visits.items()}).write_parquet(
            tmp_path / "behaviours-000.parquet"
        )
        found = unit_sums([tmp_path], 2.0)
        assert found.select("period", "early", "clicks", "visits").rows() == [
            (0, False, 0, 1),
            (0, True, 1, 1),
            (1, False, 0, 1),
            (1, True, 0, 1),
        ]

    def test_several_treatments_are_refused(self):
        scenario = tiny("arms.third={label: C}")
        with pytest.raises(MicrecError, match="one treatment"):
            design_scenario(scenario, designs_of(scenario, ["region"]), replications=2)

    def test_truth_is_the_ratio_of_two_worlds(self):
        worlds = [pl.DataFrame({"clicks": [2, c], "visits": [1, 1]}) for c in (2, 4)]
        assert true_lift(*worlds) == pytest.approx(0.5)

    def test_the_command_scores_recommends_and_tests(self, tmp_path):
        out = tmp_path / "advice"
        words = ["design", str(scenario_file()), "--out", str(out), "--replications", "2", "--fresh", "2"]
        words += [
            "--only",
            BY_HOUR,
            "--only",
            WASHED,
            "--set",
            "arms.treatment.pipeline.slate_size=6",
            "--workers",
            "1",
        ]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert "Recommended: " in done.output
        assert "fresh worlds" in done.output
        found = json.loads((out / "design.json").read_text(encoding="utf-8"))
        assert [one["name"] for one in found["scores"]] == [USER, BY_HOUR, WASHED]
        whole, washed = found["scores"][1:]
        assert washed["units"] == whole["units"]
        assert washed["se"] > whole["se"]  # fewer visits
        assert len(found["truth"]) == 2
        assert found["fresh"][0]["runs"] == 2
        again = CliRunner().invoke(app, words)
        assert again.exit_code == 2
        assert "--force" in again.output

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (("offline_ab",), "simulates no platform"),
            (("interference", "--only", "by moon"), "no design by moon"),
            (("interference", "--replications", "1"), "must be >= 2"),
            (("interference", "--clusters", "city"), "city"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, words, text, tmp_path):
        done = CliRunner().invoke(app, ["design", *words, "--out", str(tmp_path / "out"), "--workers", "1"])
        assert done.exit_code == 2
        assert text in done.output
