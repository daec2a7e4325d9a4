"""Units above the user: clusters against a t-test of their totals, and switchbacks with effects that last."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.formula.api as smf
from scipy import stats

import abtest
from abtest.analysis.daily import measure_days
from abtest.analysis.design import Design
from abtest.analysis.metrics import BUILTIN
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.unit_looks import correlation_of_units
from abtest.analysis.units import PREVIOUS, units_of
from abtest.stats import Moments, welch
from abtest.stats.clusters import cluster_moments
from micrec.errors import MicrecError
from tests.abtest.analysis.design_logs import daily_households, households, switchback, switchback_schedule
from tests.abtest.analysis.logs import AB, analysed, effect, read

HOUSE = replace(AB, design=Design(unit=("household",)))
PERIODS = replace(AB, planned_days=30, checks=False, design=Design(unit=("region", "2h")))


class TestClusters:
    def test_many_households_are_statsmodels_clustered_errors(self):
        log = households(3000, lift=0.1)
        found = effect(analysed(log, HOUSE), "ACC", family="primary").estimate
        table = log.with_columns(treated=(pl.col("arm") == "B").cast(pl.Int64)).to_pandas()
        groups = table["household"].astype("category").cat.codes
        model = smf.ols("clicks ~ treated", table).fit(cov_type="cluster", cov_kwds={"groups": groups})
        assert found.difference == pytest.approx(model.params["treated"])
        assert found.se == pytest.approx(model.bse["treated"], rel=2e-3)
        naive = effect(analysed(log), "ACC", family="primary").estimate
        assert found.se > 1.5 * naive.se

    def test_one_user_a_household_is_the_plain_test_up_to_degrees_of_freedom(self):
        log = households(400).with_columns(household=pl.col("user_id").cast(pl.String))
        for metric in ("ACC", "ADT"):
            plain, clustered = (effect(analysed(log, plan), metric, family="primary") for plan in (AB, HOUSE))
            assert clustered.estimate.t == pytest.approx(plain.estimate.t, rel=1e-9)
            assert clustered.estimate.p == pytest.approx(plain.estimate.p, rel=1e-3)
            assert clustered.estimate.lift_ci == pytest.approx(plain.estimate.lift_ci, rel=1e-3)
            assert clustered.others["cuped"].se == pytest.approx(plain.others["cuped"].se, rel=0.01)

    def test_order_and_fineness_of_the_rows_do_not_matter(self):
        log = households(80, lift=0.2)
        first = log.with_columns(clicks=pl.col("clicks") // 2, dwell_s=pl.col("dwell_s") / 2)
        second = first.with_columns(clicks=log["clicks"] - first["clicks"])
        halves = pl.concat([first, second])
        whole = effect(analysed(log, HOUSE), "ACC", family="primary").estimate
        parts = analysed(halves.sample(fraction=1.0, shuffle=True, seed=2), replace(HOUSE, rows="parts"))
        assert effect(parts, "ACC", family="primary").estimate.p == pytest.approx(whole.p, rel=1e-9)

    def test_sample_ratio_counts_households(self):
        found = analysed(households(100), HOUSE)
        assert found.units == {"A": 50, "B": 50}
        assert found.validity.ratios[0].result.counts == {"A": 50, "B": 50}
        assert sum(found.users.values()) == len(households(100))

    def test_a_slice_is_compared_with_the_rest_of_the_same_households(self):
        """Planted in one slice: the interaction finds it; and equals a paired comparison made by hand."""
        log = households(400, seed=5)
        boost = pl.when((pl.col("arm") == "B") & pl.col("cold")).then(2).otherwise(1)
        found = analysed(log.with_columns(clicks=pl.col("clicks") * boost), HOUSE)
        (test,) = [one.test for one in found.interactions if one.metric.name == "ACC"]
        assert abs(test.change) > 0.5
        assert test.p < 1e-6

    def test_post_stratified_households_of_one_user_are_the_plain_post_stratification(self):
        log = households(900, lift=0.1).with_columns(household=pl.col("user_id").cast(pl.String))
        log = log.with_columns(clicks=pl.when(pl.col("cold")).then(pl.col("clicks") * 3).otherwise(pl.col("clicks")))
        plain, found = (
            effect(analysed(log, plan), "ACC", family="primary").others["post-stratified"] for plan in (AB, HOUSE)
        )
        assert found.difference == pytest.approx(plain.difference, rel=1e-9)
        assert found.control.mean == pytest.approx(plain.control.mean, rel=1e-9)
        assert found.se == pytest.approx(plain.se, rel=2e-3)
        assert found.lift_ci == pytest.approx(plain.lift_ci, rel=5e-3)

    @pytest.mark.parametrize("metric", ["ACC", "CTR"])
    def test_post_stratified_households_are_a_bootstrap_of_households(self, metric):
        log = households(300, seed=3).with_columns(impressions=pl.col("clicks") + 1 + pl.col("user_id") % 4)
        plan = replace(HOUSE, metrics=tuple(BUILTIN[name] for name in ("ACC", "CTR")))
        plan = replace(
            plan, metrics=(plan.metrics[0]._replace(role="primary"), plan.metrics[1]._replace(role="primary"))
        )
        found = effect(analysed(log, plan), metric, family="primary").others["post-stratified"]
        by_unit = log.with_columns(per=pl.lit(1) if metric == "ACC" else pl.col("impressions"))
        by_unit = by_unit.group_by("household", "arm", "cold").agg(pl.col("clicks", "per").sum(), users=pl.len())
        cells = [
            by_unit.filter(arm=arm, cold=cold).select("household", "clicks", "per", "users")
            for arm in "AB"
            for cold in (False, True)
        ]
        rng, drawn = np.random.default_rng(0), []
        names = {arm: by_unit.filter(arm=arm)["household"].unique().sort().to_list() for arm in "AB"}
        tables = [
            dict(zip(cell["household"], cell.select("clicks", "per", "users").to_numpy(), strict=True))
            for cell in cells
        ]
        arrays = [
            np.array([table.get(name, np.zeros(3)) for name in names["AB"[at // 2]]]) for at, table in enumerate(tables)
        ]
        for again in range(1500):
            picks = {arm: rng.integers(0, len(names[arm]), len(names[arm])) for arm in "AB"}
            sums = [
                array[picks["AB"[at // 2]] if again else slice(None)].sum(axis=0) for at, array in enumerate(arrays)
            ]
            share = np.array([sums[0][2] + sums[2][2], sums[1][2] + sums[3][2]])
            share = share / share.sum()
            values = []
            for cold, warm in ((sums[0], sums[1]), (sums[2], sums[3])):
                top = share @ [cold[0] / cold[2], warm[0] / warm[2]]
                values.append(top / (1.0 if metric == "ACC" else share @ [cold[1] / cold[2], warm[1] / warm[2]]))
            drawn.append(values[1] - values[0])
        assert found.difference == pytest.approx(drawn[0], rel=1e-9)
        assert found.se == pytest.approx(np.std(drawn[1:], ddof=1), rel=0.06)

    def test_looks_at_households_by_day(self):
        """Every look is the test of the users so far, and together they spend what one look would."""
        log = daily_households(40, lift=0.5, seed=2)
        found = analysed(log, replace(HOUSE, looks="daily", planned_days=5, checks=False))
        looks = [look for look in found.looks if look.metric.name == "ACC"]
        assert [look.day for look in looks] == [1, 2, 3, 4, 5]
        shares = [look.level.information for look in looks]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert looks[0].level.alpha < looks[1].level.alpha < looks[-1].level.alpha < 0.05
        half = log.filter(pl.col("day") <= 3)
        once = analysed(half, replace(HOUSE, planned_days=3, checks=False))
        assert looks[2].so_far.t == pytest.approx(effect(once, "ACC", family="primary").estimate.t, rel=1e-9)
        assert any(look.crossed for look in looks)

    def test_looks_are_as_alike_as_households_resampled(self):
        """The correlation of two looks that the bounds rest on, against a bootstrap of households."""
        log = daily_households(300, seed=4)
        plan = replace(HOUSE, looks="daily", planned_days=5, checks=False)
        daily = measure_days(read(log, plan), plan.design)
        (metric,) = [one for one in daily.metrics if one.name == "ACC"]
        found = correlation_of_units(daily, ("A", "B"), metric, 2, 5)
        first = pl.col("day").min().over("user_id")
        tables = [
            log.filter(pl.col("day") <= day, first <= day)
            .group_by("household", "arm")
            .agg(pl.col("clicks").sum(), users=pl.col("user_id").n_unique())
            .sort("household")
            for day in (2, 5)
        ]
        rng, means = np.random.default_rng(0), []
        wide = tables[1].join(tables[0], on=["household", "arm"], how="left", suffix="_2").fill_null(0)
        sides = [wide.filter(arm=arm).select("clicks_2", "users_2", "clicks", "users").to_numpy() for arm in "AB"]
        for _ in range(2000):
            sums = [side[rng.integers(0, len(side), len(side))].sum(axis=0) for side in sides]
            means.append([sums[1][k] / sums[1][k + 1] - sums[0][k] / sums[0][k + 1] for k in (0, 2)])
        assert found == pytest.approx(np.corrcoef(np.array(means).T)[0, 1], abs=0.03)

    def test_too_few_households_are_not_judged(self):
        found = effect(analysed(households(6), HOUSE), "ACC", family="primary")
        assert found.significant is None
        assert "3 units in an arm" in found.reason

    def test_a_household_in_two_arms_is_refused(self):
        log = households(40).with_columns(arm=(pl.col("user_id") % 2).replace_strict([0, 1], ["A", "B"]))
        with pytest.raises(MicrecError, match="have rows of more than one arm"):
            read(log, HOUSE)

    def test_a_split_by_hash_of_users_is_no_split_of_households(self):
        with pytest.raises(MicrecError, match="splits users, not units"):
            replace(HOUSE, split_salt="s1")

    def test_a_user_in_two_households_is_refused(self):
        log = pl.concat([households(40), households(40).with_columns(household=pl.lit("h1"), arm=pl.lit("A"))])
        log = log.filter((pl.col("household") != "h1") | (pl.col("arm") == "A"))
        with pytest.raises(MicrecError, match="are in more than one"):
            read(log, replace(HOUSE, rows="parts"))

    @pytest.mark.parametrize(
        ("design", "more", "message"),
        [
            ({"unit": ("nowhere",)}, {}, "no column 'nowhere'"),
            ({"unit": ("household",)}, {"looks": "open"}, "counts? independent users.*looks daily, or once"),
            (
                {"unit": ("household",), "estimator": "poststratified"},
                {"looks": "daily"},
                "use the estimator cuped or welch, or look once",
            ),
            ({"unit": ("household",), "information": "users"}, {"planned_users": 900}, "use variance"),
            ({"unit": ("household",), "crossovers": "drop"}, {}, "crossovers"),
            ({"washout_s": 60.0}, {}, "name their unit"),
            ({"unit": ("household",), "washout_s": 60.0}, {}, "needs periods that are cut from times"),
        ],
    )
    def test_faults(self, design, more, message):
        with pytest.raises(MicrecError, match=message):
            read(households(40), replace(AB, design=Design(**design), **more))

    @pytest.mark.parametrize("clusters", [8, 20])
    def test_false_alarms(self, clusters):
        """5 % up to the noise of 60 logs, where users taken for independent raise 20 % and more."""
        alarms = {"clustered": 0, "as users": 0}
        for seed in range(60):
            log = households(clusters, seed=seed)
            arms = [log.filter(pl.col("arm") == arm) for arm in "AB"]
            by_house = (arm.group_by("household", maintain_order=True) for arm in arms)
            totals = [house.agg(pl.col("clicks").sum(), pl.len()) for house in by_house]
            sides = [
                cluster_moments(["y"], one["clicks"].to_numpy()[:, None].astype(float), one["len"].to_numpy())
                for one in totals
            ]
            alarms["clustered"] += welch(*sides, "y").rejects
            alarms["as users"] += welch(*(Moments.of({"y": arm["clicks"].to_numpy()}) for arm in arms), "y").rejects
        assert alarms["clustered"] <= 9  # P(more at 5 %) is 0.1 %
        assert alarms["as users"] > 2 * alarms["clustered"] + 5


class TestSwitchback:
    def test_is_a_t_test_of_totals_of_periods(self):
        log = switchback(lift=0.2)
        found = effect(analysed(log, PERIODS), "ACC", family="primary").estimate
        totals = log.group_by("region", pl.col("timestamp").dt.truncate("2h"), "arm").len()
        sides = [totals.filter(pl.col("arm") == arm)["len"].to_numpy() for arm in "BA"]
        expected = stats.ttest_ind(*sides, equal_var=False)
        assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))

    def test_effects_that_last_bias_it_and_a_washout_does_not(self):
        """Truth +20 %, 30 of 120 minutes under the arm before; means over five logs."""
        lifts = {0.0: [], 1800.0: []}
        for seed in range(5):
            log = switchback(lift=0.2, carry_min=30.0, days=16, seed=seed)
            for washout, found in lifts.items():
                plan = replace(PERIODS, design=replace(PERIODS.design, washout_s=washout))
                found.append(effect(analysed(log, plan), "ACC", family="primary").others["cuped"].lift)
        assert np.mean(lifts[0.0]) < 0.17
        assert np.mean(lifts[1800.0]) == pytest.approx(0.2, abs=0.02)

    @pytest.mark.parametrize("carry", [0.0, 60.0])
    def test_lasting_effects_show_in_the_periods_after_the_other_arm(self, carry):
        found = analysed(switchback(lift=0.3, carry_min=carry, days=20), PERIODS)
        (test,) = [one for one in found.interactions if one.slice == f"{PREVIOUS}=other"]
        assert (test.test.p < 0.01) == (carry > 0.0)

    def test_place_and_hour_are_covariates_and_take_noise_away(self):
        found = analysed(switchback(days=20), PERIODS)
        assert {"place r1", "starts 02:00"} <= set(found.log.covariates)
        assert effect(found, "ACC", family="primary").variance_reduction > 0.2

    def test_periods_of_a_column_are_those_of_times(self):
        log = switchback()
        named = log.with_columns(period=pl.col("timestamp").dt.truncate("2h").dt.strftime("%m-%d %H"))
        plan = replace(PERIODS, design=Design(unit=("region", "period")))
        by_column = effect(analysed(named, plan), "ACC", family="primary")
        by_time = effect(analysed(log, PERIODS), "ACC", family="primary")
        assert by_column.estimate.p == by_time.estimate.p

    def test_alternating_arms_leave_nothing_after_the_same_arm(self):
        """A schedule that is not random: no period follows one of its own arm, and the report's slice shows it."""
        log = switchback().with_columns(slot=pl.col("timestamp").dt.truncate("2h").dt.hour() // 2)
        log = log.with_columns(arm=pl.when(pl.col("slot") % 2 == 0).then(pl.lit("A")).otherwise(pl.lit("B")))
        counts = read(log, PERIODS).users.group_by(f"slice\x1f{PREVIOUS}").len().collect()
        assert dict(counts.iter_rows())["same"] == 4  # the first of each region

    def test_names(self):
        assert units_of(("region", "hour"), ["region"]).length == "1h"
        assert units_of(("region", "hour"), ["region", "hour"]) == (("region",), "hour", None)
        assert units_of(("region", "30m"), ["region"]).length == "30m"
        assert units_of(("region", "shop"), ["region", "shop"]) == (("region", "shop"), None, None)
        assert units_of(("2h",), []) == ((), "2h", "2h")

    def test_reports_speak_of_periods(self, tmp_path):
        design = {"unit": ["region", "2h"]}
        result = abtest.analyze(switchback(), control="A", treatment="B", planned_days=10, design=design)
        result.save(tmp_path / "report")
        text = (tmp_path / "report" / "report.md").read_text()
        assert "480 periods" in text
        assert "totals per period" in text


def scheduled(tmp_path, table: pl.DataFrame, **design) -> AnalysisPlan:
    """A plan of a switchback with this schedule."""
    table.write_parquet(tmp_path / "schedule.parquet")
    return replace(PERIODS, design=replace(PERIODS.design, schedule=tmp_path / "schedule.parquet", **design))


class TestEmptyPeriods:
    """Periods in which nothing was logged are periods with a total of 0."""

    def test_by_a_schedule_they_are_zeros_of_a_t_test(self, tmp_path):
        log, table = switchback(lift=0.3, rate=0.08, seed=4), switchback_schedule(seed=4)
        found = analysed(log, scheduled(tmp_path, table))
        totals: dict[tuple, int] = {(r, t.replace(tzinfo=None), arm): 0 for r, t, arm in table.iter_rows()}
        for region, moment, arm in log.select("region", "timestamp", "arm").iter_rows():
            start = moment.replace(tzinfo=None, minute=0, second=0, microsecond=0)
            totals[region, start.replace(hour=start.hour // 2 * 2), arm] += 1
        assert len(totals) == 480
        empty = sum(total == 0 for total in totals.values())
        assert empty > 100
        sides = [[n for (_, _, one), n in totals.items() if one == arm] for arm in "BA"]
        expected = stats.ttest_ind(*sides, equal_var=False)
        estimate = effect(found, "ACC", family="primary").estimate
        assert (estimate.t, estimate.p) == pytest.approx((expected.statistic, expected.pvalue))
        assert sum(found.units.values()) == 480
        assert f"{empty:,} periods without rows count with a total of 0 ({empty:,} by the schedule)." in found.log.notes
        assert found.log.rows == len(log)

    def test_without_a_schedule_unknown_arms_are_left_out_and_counted(self):
        log = switchback(rate=0.08, seed=4)
        here = log.select("region", pl.col("timestamp").dt.truncate("2h"), "arm").unique()
        found = analysed(log, PERIODS)
        assert sum(found.units.values()) == len(here)
        (note,) = [note for note in found.log.notes if "no known arm" in note]
        assert note.startswith(f"{480 - len(here):,} periods between the first and the last")
        assert "--schedule" in note

    def test_where_all_places_have_one_arm_at_a_time_it_is_theirs(self):
        log = switchback(rate=0.3, seed=4)
        slot = pl.col("timestamp").dt.epoch("s") // 7200
        log = log.with_columns(arm=pl.when(slot.hash(1) % 2 == 0).then(pl.lit("A")).otherwise(pl.lit("B")))
        found = analysed(log, PERIODS)
        assert sum(found.units.values()) == 480
        here = len(log.select("region", pl.col("timestamp").dt.truncate("2h")).unique())
        assert here < 480
        text = f"{480 - here:,} periods without rows count with a total of 0"
        assert any(note.startswith(text) and "all other places" in note for note in found.log.notes)

    def test_a_period_with_rows_in_its_washout_alone_counts_zero(self):
        log = switchback(rate=0.08, seed=4)
        start = pl.col("timestamp").dt.truncate("2h")
        washed = replace(PERIODS, design=replace(PERIODS.design, washout_s=3600.0))
        late = log.filter((pl.col("timestamp") - start).dt.total_seconds() >= 3600)
        known, alive = (len(one.select("region", start).unique()) for one in (log, late))
        assert alive < known
        found = analysed(log, washed)
        assert sum(found.units.values()) == known
        assert any(f"{known - alive:,} with rows in their washout alone" in note for note in found.log.notes)
        total = read(log, washed).users.select(pl.col("clicks").sum()).collect().item()
        assert total == len(late)

    def test_the_arm_before_an_empty_period_is_that_of_the_schedule(self, tmp_path):
        table = switchback_schedule(seed=4)
        users = read(switchback(rate=0.08, seed=4), scheduled(tmp_path, table)).users.collect()
        arms = table.sort("region", "timestamp").with_columns(before=pl.col("arm").shift(1).over("region"))
        expected = (arms["before"].is_not_null() & (arms["before"] != arms["arm"])).sum()
        assert (users[f"slice\x1f{PREVIOUS}"] == "other").sum() == expected

    def test_clocks_that_change_skip_no_period(self):
        """Two hours are lost and won in a year; every hour of the local day is in the calendar."""
        moments = pl.datetime_range(
            pl.datetime(2026, 3, 28, time_zone="Europe/Oslo"),
            pl.datetime(2026, 3, 30, 23, time_zone="Europe/Oslo"),
            "1h",
            eager=True,
        )
        log = pl.DataFrame({"timestamp": moments, "user_id": range(len(moments)), "event": "click"})
        log = log.with_columns(arm=pl.when(pl.col("user_id") % 3 == 0).then(pl.lit("B")).otherwise(pl.lit("A")))
        plan = replace(PERIODS, timezone="Europe/Oslo", design=Design(unit=("1h",)))
        assert sum(analysed(log, plan).units.values()) == 71

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda table: table.head(400), "periods of the log are not in it"),
            (lambda table: table.with_columns(arm=pl.lit("A")), "were of another arm"),
            (lambda table: table.drop("region"), "no column 'region'"),
            (lambda table: table.with_columns(arm=pl.lit("C")), "an arm other than A, B"),
            (lambda table: pl.concat([table, table.with_columns(arm=pl.lit("B"))]), "several arms"),
            (lambda table: table.head(0), "holds no rows"),
        ],
    )
    def test_faults_of_a_schedule(self, change, message, tmp_path):
        plan = scheduled(tmp_path, change(switchback_schedule()))
        with pytest.raises(MicrecError, match=message):
            read(switchback(), plan)

    def test_a_schedule_of_households_is_refused(self, tmp_path):
        design = Design(unit=("household",), schedule=tmp_path / "s.parquet")
        with pytest.raises(MicrecError, match="schedule: is for switchbacks"):
            read(households(40), replace(AB, design=design))


class TestOddUnits:
    """What real logs hold: users without a unit, units named by numbers."""

    def test_users_without_a_household_are_refused_with_their_number(self):
        log = households(60).with_columns(household=pl.when(pl.col("user_id") % 7 > 0).then(pl.col("household")))
        empty = log["household"].null_count()
        with pytest.raises(MicrecError, match=f"household: is empty in {empty:,} rows: every row needs its unit"):
            read(log, HOUSE)

    def test_the_column_of_the_unit_is_no_unused_number(self):
        log = households(60).with_columns(household=pl.col("household").str.slice(1).cast(pl.Int64), age=pl.lit(3))
        result = abtest.analyze(log, control="A", treatment="B", design={"unit": "household"}, checks=False)
        assert "Not used: age; judge them with --metrics." in result.to_dict()["notes"]

    def test_a_covariate_that_does_not_vary_is_told(self):
        log = households(60).with_columns(pre_one=pl.lit(1.0))
        result = abtest.analyze(log, control="A", treatment="B", checks=False)
        assert "pre_one has one value for all users: it adjusts nothing." in result.to_dict()["notes"]
