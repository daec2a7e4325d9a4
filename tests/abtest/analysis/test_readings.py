"""Several arms, chances before the end, and Bayesian and equivalence readings."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import abtest
from abtest.analysis.design import Design
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.stated_prior import ALL_METRICS, past_lifts, stated_prior
from abtest.stats.posterior import prior_of
from micrec.errors import MicrecError
from tests.abtest.analysis.logs import AB, analysed, days, effect, users

THREE = AnalysisPlan("A", ("B", "C"), checks=False, design=Design(combined={"B+C": ("B", "C")}))


def three_arms(*, lifts: tuple[float, float] = (0.0, 0.0), n: int = 3000, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % 3
    clicks = rng.poisson(rng.gamma(2.0, 1.0, n) * np.array([1.0, 1.0 + lifts[0], 1.0 + lifts[1]])[arm])
    return pl.DataFrame({"user_id": np.arange(n), "arm": np.array(list("ABC"))[arm], "clicks": clicks})


class TestArms:
    def test_every_pair_is_welchs_test_with_holm_over_all(self):
        log = three_arms(lifts=(0.1, 0.2))
        pairs = analysed(log, THREE).pairs
        assert [(one.base, one.arm) for one in pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
        values = {arm: log.filter(pl.col("arm") == arm)["clicks"].to_numpy() for arm in "ABC"}
        p = [stats.ttest_ind(values[one.arm], values[one.base], equal_var=False).pvalue for one in pairs]
        assert [one.estimate.p for one in pairs] == pytest.approx(p)
        assert [one.p_holm for one in pairs] == pytest.approx(list(multipletests(p, method="holm")[1]))

    def test_dunnett_stands_beside_for_treatments_against_control(self):
        log = three_arms(seed=4)
        pairs = analysed(log, THREE).pairs
        values = [log.filter(pl.col("arm") == arm)["clicks"].to_numpy() for arm in "ABC"]
        expected = stats.dunnett(*values[1:], control=values[0], rng=np.random.default_rng(0)).pvalue
        assert [one.p_dunnett for one in pairs[:2]] == pytest.approx(list(expected), rel=0.05)  # it pools the variance
        assert pairs[2].p_dunnett is None

    def test_arms_together_are_the_log_with_one_name(self):
        log = three_arms(lifts=(0.1, 0.2))
        (together,) = analysed(log, THREE).combined
        renamed = log.with_columns(arm=pl.when(pl.col("arm") == "A").then(pl.lit("A")).otherwise(pl.lit("B")))
        alone = effect(analysed(renamed, replace(AB, weights={"A": 1, "B": 2})), "ACC", family="primary").estimate
        assert together.estimate.p == pytest.approx(alone.p, rel=1e-12)
        assert together.estimate.treatment.n == alone.treatment.n

    def test_units_above_the_user_work_alike(self):
        log = three_arms(lifts=(0.1, 0.2)).with_columns(shop=pl.col("arm") + (pl.col("user_id") % 40).cast(pl.String))
        plan = replace(THREE, design=replace(THREE.design, unit=("shop",)))
        found = analysed(log, plan)
        assert len(found.pairs) == 3
        assert found.combined[0].estimate.treatment.n == 80

    @pytest.mark.parametrize("combined", [{"A": ("B", "C")}, {"x": ("B",)}, {"x": ("B", "D")}])
    def test_faults(self, combined):
        with pytest.raises(MicrecError, match="combine"):
            replace(THREE, design=Design(combined=combined))


class TestMidTest:
    def test_a_hopeless_test_may_stop_and_a_good_one_goes_on(self):
        plan = replace(AB, looks="daily", checks=False, design=Design(planned_lift=0.25))
        bad = analysed(days(1500, 4, lift=-0.2), plan).mid_test
        good = analysed(days(1500, 4, lift=0.25), plan).mid_test
        assert all(one.futile and one.z < one.futility < one.bound for one in bad)
        assert max(one.power_current for one in bad) < 1e-9
        assert not any(one.futile for one in good)
        assert all(one.power_planned > 0.9 for one in good)

    def test_it_is_told_in_the_verdict_and_gone_at_the_end(self):
        design = {"planned_lift": 0.25}
        given = {"control": "A", "treatment": "B", "looks": "daily", "checks": False, "design": design}
        early = abtest.analyze(days(1500, 4, lift=-0.02), **given).to_dict()
        assert "chance to find the planned lift of 25 %" in " ".join(early["verdicts"][0]["reasons"])
        assert "mid_test" not in abtest.analyze(days(600, 7), **given).to_dict()

    def test_without_a_planned_lift_there_is_no_bound(self):
        (one, *_) = analysed(days(600, 4), replace(AB, looks="daily", checks=False)).mid_test
        assert (one.power_planned, one.futility, one.futile) == (None, None, False)

    def test_information_by_users_is_their_share(self):
        plan = replace(AB, looks="daily", planned_users=2000, checks=False, design=Design(information="users"))
        looks = analysed(days(600, 4), plan).looks
        assert looks[0].level.information == pytest.approx(0.3)

    def test_an_open_test_says_what_it_is_tuned_for(self, tmp_path):
        result = abtest.analyze(days(600, 4), control="A", treatment="B", looks="open", checks=False)
        assert result.to_dict()["scenario"]["tuned_for"] == {"B": 600.0 * 7}
        result.save(tmp_path / "report")
        assert "tuned to be narrowest at 4,200 users" in (tmp_path / "report" / "report.md").read_text()


class TestReadings:
    def test_equivalence_agrees_with_the_interval(self):
        mine = effect(analysed(users()), "ACC", family="primary").estimate.lift_ci
        edge = max(abs(mine[0]), abs(mine[1]))
        for margin, holds in ((edge + 1e-6, True), (edge - 1e-6, False)):
            found = analysed(users(), replace(AB, design=Design(equivalence=margin)))
            assert found.equivalence[0].test.holds is holds

    def test_a_prior_shrinks_and_a_flat_one_does_not(self):
        raw = effect(analysed(users(lift=0.1)), "ACC", family="primary").estimate
        flat = analysed(users(lift=0.1), replace(AB, design=Design(prior=stated_prior("flat")))).bayes[0].found
        tight = analysed(users(lift=0.1), replace(AB, design=Design(prior=stated_prior("0,0.01")))).bayes[0].found
        assert flat.mean == raw.lift
        assert flat.sd == pytest.approx(raw.lift_se)
        assert 0 < tight.mean < 0.3 * raw.lift
        assert tight.loss_if_kept < flat.loss_if_kept

    def test_verdicts_do_not_read_them(self):
        plain = abtest.analyze(users(lift=0.1), control="A", treatment="B", checks=False).to_dict()
        more = {"prior": "-0.5,0.001", "equivalence": 0.5}
        found = abtest.analyze(users(lift=0.1), control="A", treatment="B", checks=False, design=more).to_dict()
        assert found["verdicts"] == plain["verdicts"]
        assert found["effects"] == plain["effects"]

    def test_a_comparison_that_is_not_valid_has_no_posterior(self):
        log = users().filter((pl.col("arm") == "A") | (pl.col("user_id") % 4 == 1))
        found = analysed(log, replace(AB, design=Design(prior=stated_prior("flat"), equivalence=0.1)))
        assert found.bayes[0].found is None
        assert "mismatch" in found.bayes[0].reason
        assert found.equivalence[0].test is None

    def test_a_folder_of_past_results_is_a_prior(self, tmp_path):
        for seed, lift in enumerate((0.0, 0.05, 0.1, -0.05)):
            log = users(3000, lift=lift, seed=seed)
            abtest.analyze(log, control="A", treatment="B", checks=False).save(tmp_path / f"test{seed}")
        known = past_lifts(tmp_path)
        assert len(known["ACC"]) == len(known["ADT"]) == 4
        prior = stated_prior(str(tmp_path))
        assert prior["ACC"] == prior_of(*zip(*known["ACC"], strict=True), source=f"past results in {tmp_path}")
        assert prior[ALL_METRICS].tests == 8
        raw = json.loads((tmp_path / "test1" / "results.json").read_text())["effects"][0]
        assert known["ACC"][1][0] == raw["lift"]

    @pytest.mark.parametrize("text", ["nonsense", "0", "0,-1", "0,0", "nan,1", "1,2,3"])
    def test_what_is_no_prior_is_refused(self, text):
        with pytest.raises(MicrecError, match="--prior"):
            stated_prior(text)

    def test_too_few_past_tests_are_no_prior(self, tmp_path):
        with pytest.raises(MicrecError, match="at least 3"):
            stated_prior(str(tmp_path))

    def test_every_form_of_the_report_has_them(self, tmp_path, capsys):
        from abtest.report.pages.experiment_terminal import print_analysis

        more = {"prior": "0,0.02", "equivalence": 0.01, "combine": {"B+C": ("B", "C")}}
        result = abtest.analyze(three_arms(), control="A", treatment=["B", "C"], checks=False, design=more)
        result.save(tmp_path / "report")
        print_analysis(result.to_dict())
        for text in ((tmp_path / "report" / "report.md").read_text(), capsys.readouterr().out):
            for words in ("Every pair of arms", "Arms together", "Posterior of the lift", "no difference that matters"):
                assert words in text
