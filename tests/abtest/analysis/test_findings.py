"""Which slices differ, why a metric moved, how much of a win is luck: against statsmodels, products, and simulation."""

import jsonschema
import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

import abtest
from abtest.report.totals import totals_of
from abtest.schema import results_schema
from abtest.stats.moments import Moments
from abtest.stats.shrinkage import between
from abtest.stats.welch import welch

from .logs import days, users

AB = {"control": "A", "treatment": "B"}


def sliced(n: int = 12_000, *, seed: int = 1, lifts: tuple[float, ...] = (0.0,) * 6) -> pl.DataFrame:
    """Users of some countries, each with its own true lift."""
    rng = np.random.default_rng(seed)
    arm, country = rng.integers(0, 2, n), rng.integers(0, len(lifts), n)
    mean = rng.gamma(2.0, 1.0, n) * (1.0 + np.array(lifts)[country] * arm)
    return pl.DataFrame(
        {
            "user_id": np.arange(n),
            "arm": np.where(arm == 1, "B", "A"),
            "clicks": rng.poisson(mean),
            "country": [f"c{c}" for c in country],
        }
    )


class TestSlices:
    def test_one_test_is_cochrans_q_of_delta_method_lifts(self):
        table = sliced(lifts=(0.1, -0.1, 0.0, 0.3, 0.05, 0.0))
        found = abtest.analyze(table, **AB, slices=["country"]).to_dict()["heterogeneity"]
        (one,) = found
        lifts, noise = [], []
        for country in sorted(table["country"].unique()):
            part = table.filter(pl.col("country") == country)
            a, b = (part.filter(pl.col("arm") == arm)["clicks"].to_numpy() for arm in "AB")
            lifts.append(b.mean() / a.mean() - 1)
            of_b, of_a = b.var(ddof=1) / len(b), a.var(ddof=1) / len(a)
            noise.append(of_b / a.mean() ** 2 + b.mean() ** 2 * of_a / a.mean() ** 4)
        expected = combine_effects(np.array(lifts), np.array(noise))
        assert [part["lift"] for part in one["slices"]] == pytest.approx(lifts, rel=1e-9)
        assert [part["se"] ** 2 for part in one["slices"]] == pytest.approx(noise, rel=1e-9)
        assert one["q"] == pytest.approx(expected.q, rel=1e-9)
        assert one["p"] == pytest.approx(expected.test_homogeneity().pvalue, rel=1e-6)
        assert one["p"] < 1e-2
        assert one["p_adjusted"] == one["p"]
        raw = np.ptp(lifts)
        assert np.ptp([part["shrunken"] for part in one["slices"]]) < raw

    def test_false_alarms_of_the_one_test(self):
        """Twelve equal slices: one test alarms in 5 % of the logs, the smallest of twelve tests in far more."""
        rng = np.random.default_rng(3)
        alarms, naive = [], []
        for _ in range(3000):
            taste = rng.gamma(2.0, 1.0, (2, 12, 200)) * np.array([1.0, 1.05])[:, None, None]
            clicks = rng.poisson(taste)
            mean, noise = clicks.mean(axis=2), clicks.var(axis=2, ddof=1) / 200
            lift = mean[1] / mean[0] - 1
            se = np.sqrt(noise[1] + (1 + lift) ** 2 * noise[0]) / mean[0]
            alarms.append(between(lift, se).p < 0.05)
            naive.append((np.abs(mean[1] - mean[0]) / np.sqrt(noise.sum(axis=0)) > 1.96).any())
        assert 0.04 < np.mean(alarms) < 0.06
        assert np.mean(naive) > 0.4

    def test_small_slices_are_named_and_left_out(self):
        table = sliced(3000, lifts=(0.0, 0.0)).with_columns(
            country=pl.when(pl.col("user_id") < 50).then(pl.lit("rare")).otherwise("country")
        )
        (one,) = abtest.analyze(table, **AB, slices=["country"]).to_dict()["heterogeneity"]
        assert one["left_out"] == ["country=rare"]
        assert len(one["slices"]) == 2

    def test_without_two_slices_there_is_a_reason(self):
        table = sliced(3000).with_columns(country=pl.lit("one"))
        (one,) = abtest.analyze(table, **AB, slices=["country"]).to_dict()["heterogeneity"]
        assert (one["p"], one["slices"]) == (None, [])
        assert "fewer than two slices" in one["reason"]


class TestComponents:
    def test_they_multiply_to_the_whole(self):
        results = abtest.analyze(days(900, lift=0.3), **AB).to_dict()
        jsonschema.validate(results, results_schema())
        assert {one["metric"] for one in results["breakdowns"]} == {"ACC", "ADT"}
        for one in results["breakdowns"]:
            product = np.prod([1 + part["lift"] for part in one["components"]])
            assert product == pytest.approx(1 + one["total"], rel=1e-12)
            effect = next(e for e in results["effects"] if e["metric"] == one["metric"] and e["family"] == "primary")
            users = one["components"][0]
            assert (1 + effect["lift"]) * (1 + users["lift"]) == pytest.approx(1 + one["total"], rel=1e-12)
            assert sum(part["share"] for part in one["components"][1:]) == pytest.approx(1.0)
            assert one["components"][0]["share"] is None
        dwell = next(one for one in results["breakdowns"] if one["metric"] == "ADT")
        names = [part["name"] for part in dwell["components"]]
        assert names == [
            "users, by the planned shares",
            "active days per user",
            "clicks per active day",
            "dwell, s, per click",
        ]

    def test_each_is_a_ratio_test_of_its_own(self):
        table = users(3000, lift=0.2)
        results = abtest.analyze(table, **AB).to_dict()
        acc = next(one for one in results["breakdowns"] if one["metric"] == "ACC")
        shown = {part["name"]: part for part in acc["components"]}
        cells = [
            Moments.of(
                {name: table.filter(pl.col("arm") == arm)[name].to_numpy() for name in ("clicks", "impressions")}
            )
            for arm in "AB"
        ]
        expected = welch(*cells, ("clicks", "impressions"))
        assert shown["clicks per impression"]["p"] == pytest.approx(expected.p, rel=1e-10)
        assert shown["clicks per impression"]["lift_ci"] == pytest.approx(expected.lift_ci, rel=1e-8)

    def test_a_file_names_its_own(self):
        file = {"primary": ["d"], "metrics": {"d": {"value": "dwell_s", "components": ["likes + 1", "clicks + 1"]}}}
        results = abtest.analyze(users(4000, lift=0.2), **AB, metrics=file).to_dict()
        (one,) = results["breakdowns"]
        assert [part["name"] for part in one["components"][1:]] == [
            "likes + 1 per user",
            "clicks + 1 per likes + 1",
            "dwell, s, per clicks + 1",
        ]

    def test_what_did_not_move_is_not_broken_down(self):
        assert abtest.analyze(users(1000), **AB).to_dict()["breakdowns"] == []


class TestWins:
    def test_a_win_is_corrected_and_a_hold_is_not(self):
        won = abtest.analyze(users(3000, lift=0.1), **AB, metrics={"primary": ["ACC"]}).to_dict()
        assert won["verdicts"][0]["decision"] == "ship"
        (one,) = won["corrected_wins"]
        assert 0 < one["corrected"] < one["lift"]
        assert one["bound"] == pytest.approx(stats.norm.isf(0.025))
        held = abtest.analyze(users(1000), **AB).to_dict()
        assert held["corrected_wins"] == []

    def test_holms_bound_counts(self):
        won = abtest.analyze(users(3000, lift=0.12, seed=4), **AB).to_dict()
        shipped = {one["metric"]: one["bound"] for one in won["corrected_wins"]}
        first = min((e for e in won["effects"] if e["family"] == "primary"), key=lambda e: e["p"])
        assert shipped[first["metric"]] == pytest.approx(stats.norm.isf(0.05 / 4))

    def test_corrected_wins_are_right_on_average_and_raw_ones_too_large(self):
        """Experiments with one true lift, some of which ship: the lift that was shipped, raw and corrected."""
        true, raw, corrected, covered = 0.06, [], [], []
        rng = np.random.default_rng(5)
        for _ in range(140):
            clicks = rng.poisson(2.0 * np.where(np.arange(1600) % 2, 1 + true, 1.0))
            log = {"user_id": np.arange(1600), "arm": np.where(np.arange(1600) % 2, "B", "A"), "clicks": clicks}
            results = abtest.analyze(log, **AB, checks=False).to_dict()
            for one in results["corrected_wins"]:
                raw.append(one["lift"])
                corrected.append(one["corrected"])
                low, high = one["corrected_ci"]
                covered.append(low <= true <= high)
        assert len(raw) > 30
        assert np.mean(raw) > true * 1.2
        assert 0.3 < np.mean(np.array(corrected) < true) < 0.7  # median-unbiased
        assert np.mean(covered) > 0.9


class TestHouseholds:
    """Assigned were households: components and totals are of users, and their noise that of households."""

    def test_components_and_totals_of_units(self):
        rng = np.random.default_rng(6)
        house = np.repeat(np.arange(1500), 3)
        shared = rng.gamma(2.0, 1.0, 1500)[house]
        impressions = rng.poisson(6 * shared) + 1
        clicks = rng.binomial(impressions, np.where(house % 2, 0.36, 0.3))
        table = pl.DataFrame(
            {
                "user_id": np.arange(4500),
                "household": house,
                "arm": np.where(house % 2, "B", "A"),
                "clicks": clicks,
                "impressions": impressions,
            }
        )
        file = {"primary": ["ACC"], "secondary": ["CTR"]}
        plain = abtest.analyze(table, **AB, metrics=file, checks=False).to_dict()
        found = abtest.analyze(table, **AB, metrics=file, checks=False, design={"unit": ["household"]}).to_dict()
        (one,), (other,) = found["breakdowns"], plain["breakdowns"]
        product = np.prod([1 + part["lift"] for part in one["components"]])
        assert product == pytest.approx(1 + one["total"], rel=1e-12)
        widths = [np.diff(b["components"][1]["lift_ci"])[0] for b in (one, other)]
        assert widths[0] > 1.3 * widths[1]  # users of a household see alike
        total = next(iter(totals_of(found)))
        a, b = (table.filter(pl.col("arm") == arm)["clicks"] for arm in "AB")
        assert total.treated == pytest.approx(b.sum() - a.mean() * len(b))
        assert total.everybody == pytest.approx((b.mean() - a.mean()) * 4500)
