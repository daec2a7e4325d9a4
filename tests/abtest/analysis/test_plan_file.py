"""Plan files: written, read back, obeyed, and what contradicts them refused."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import abtest
from abtest.analysis.design import Design
from abtest.analysis.plan_file import PlanFile, PlannedMetric, load_plan, plan_settings, plan_text, write_plan
from abtest.cli.main import app
from abtest.stats.multiplicity import weighted_holm
from micrec.errors import MicrecError
from tests.abtest.analysis.design_logs import switchback, two_armed
from tests.abtest.analysis.logs import AB, analysed, days, effect, users

GUARD = {"metric": "ALR", "worse": 0.05, "better": 0.2}


def plan_of(tmp_path: Path, **keys: object) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"control": "A", "treatments": ["B"], **keys}))
    return path


def told(log: pl.DataFrame, plan: Path, **more: object) -> dict:
    return abtest.analyze(log, plan=plan, **more).to_dict()


class TestFile:
    def test_what_is_written_is_read_back(self, tmp_path):
        plan = PlanFile(
            question="Is B better?",
            treatments=["B", "C"],
            combined={"both": ["B", "C"]},
            primary=["ACC", PlannedMetric(metric="ADT", null_lift=0.01)],
            guardrails=[PlannedMetric(**GUARD)],
            estimator="cuped",
            looks="daily",
            planned_users=4000,
        )
        write_plan(tmp_path / "plan.yaml", plan, command="micrec plan")
        assert load_plan(tmp_path / "plan.yaml") == plan

    def test_every_key_has_its_meaning_above_it(self):
        lines = plan_text(PlanFile()).splitlines()
        for name, field in PlanFile.model_fields.items():
            at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
            assert lines[at - 1] == f"# {field.description}"

    def test_a_plan_is_not_overwritten(self, tmp_path):
        write_plan(tmp_path / "plan.yaml", PlanFile())
        with pytest.raises(MicrecError, match="a plan is fixed"):
            write_plan(tmp_path / "plan.yaml", PlanFile())

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"primry": ["ACC"]}, "did you mean primary"),
            ({"primary": ["NOPE"]}, "no metric 'NOPE'"),
            ({"primary": [{"metric": "ACC", "level": 0.04}, "ADT"]}, "give every metric a level or none"),
            ({"primary": [{"metric": "ACC", "worse": 0.1}]}, "margins of guardrails"),
            ({"guardrails": [{"metric": "ALR", "null_lift": 0.1}]}, "a guardrail has margins"),
            ({"alpha": 0.7}, "alpha"),
            ({"primary": ["ACC"], "guardrails": ["ACC"]}, "appears twice"),
        ],
    )
    def test_faults_are_named(self, tmp_path, keys, message):
        with pytest.raises(MicrecError, match=message):
            load_plan(plan_of(tmp_path, **keys))

    def test_every_key_reaches_the_analysis(self, tmp_path):
        """Nothing that a plan says is dropped on the way: each key is a setting, or is checked against the options."""
        settings = plan_settings(PlanFile(), "plan")
        renamed = {"treatments": "treatment", "combined": "combine", "washout_s": "washout"}
        handled = {"primary", "guardrails", "secondary", "question", "triggered"}  # metrics; text; checked
        assert {renamed.get(key, key) for key in PlanFile.model_fields} - handled == set(settings)


class TestObeyed:
    def test_contradictions_are_refused_all_at_once(self, tmp_path):
        plan = plan_of(tmp_path, primary=["ACC"], estimator="cuped")
        with pytest.raises(MicrecError) as fault:
            told(users(), plan, alpha=0.1, planned_days=14, looks="open", design={"estimator": "poststratified"})
        text = str(fault.value)
        words = ("--alpha 0.1: the plan says 0.05", "--planned-days", "--looks", "--estimator")
        assert all(word in text for word in words)

    def test_what_was_not_planned_is_exploratory_and_decides_nothing(self, tmp_path):
        plan = plan_of(tmp_path, primary=["ADT"])
        log = users(4000, lift=0.3, seed=3, country=["NO", "SE"] * 2000)
        found = told(log, plan, metrics={"primary": ["ACC"]}, slices=["country"])
        by = {(one["metric"], one["slice"], one["family"]): one for one in found["effects"]}
        assert by["ACC", "all", "secondary"]["exploratory"] is True
        assert by["ADT", "country=NO", "slice"]["exploratory"] is True
        assert "exploratory" not in by["ADT", "all", "primary"]
        assert "exploratory" not in by["ADT", "cold", "slice"]
        alone = told(log, plan)
        assert found["verdicts"][0]["decision"] == alone["verdicts"][0]["decision"]

    @pytest.mark.parametrize(
        ("metrics", "message"),
        [
            ({"primary": ["ALR"]}, "ALR: its role is primary, in the plan guardrail"),
            ({"primary": ["ADT"], "secondary": ["ACC"]}, "ACC: its role is secondary, in the plan primary"),
            ({"primary": ["ADT"], "metrics": {"ADT": {"value": "dwell_s / 2"}}}, "ADT: its definition"),
            ({"primary": ["ACC"]}, "ACC: its good direction is up, in the plan down"),
        ],
    )
    def test_a_metrics_file_must_not_contradict_it(self, tmp_path, metrics, message):
        plan = plan_of(tmp_path, primary=["ADT", {"metric": "ACC", "direction": "down"}], guardrails=["ALR"])
        with pytest.raises(MicrecError) as fault:
            told(users(), plan, metrics=metrics)
        assert message in str(fault.value)

    @pytest.mark.parametrize(
        ("option", "planned"),
        [
            ({"alpha": 0.1}, {}),
            ({"looks": "daily"}, {}),
            ({"planned_days": 3}, {}),
            ({"planned_users": 10}, {}),
            ({"min_users": 20}, {}),
            ({"timezone": "Europe/Oslo"}, {}),
            ({"covariates": ["pre_x"]}, {}),
            ({"weights": {"A": 0.9, "B": 0.1}}, {}),
            ({"treatment": "C"}, {}),
            ({"control": "B"}, {}),
            ({"design": {"estimator": "cuped"}}, {}),
            ({"design": {"least_users": 2}}, {"least_users": 50}),
            ({"design": {"crossovers": "drop"}}, {}),
            ({"design": {"unit": "household"}}, {}),
            ({"design": {"washout": "10m"}}, {"unit": ["region", "2h"]}),
            ({"design": {"information": "users"}}, {}),
            ({"design": {"planned_lift": 0.1}}, {}),
            ({"design": {"combine": {"both": ["B", "C"]}}}, {}),
            ({"design": {"prior": "0,0.1"}}, {"prior": "0,0.02"}),
            ({"design": {"equivalence": 0.1}}, {"equivalence": 0.05}),
        ],
    )
    def test_each_key_is_held_to(self, tmp_path, option, planned):
        plan = plan_of(tmp_path, primary=["ACC"], **planned)
        with pytest.raises(MicrecError, match=r"plan\.yaml: --[a-z-]+ .*: the plan says"):
            abtest.analyze(users(), **{"control": "A", "treatment": "B", "checks": False, "plan": plan} | option)

    def test_a_missing_column_is_refused(self, tmp_path):
        plan = plan_of(tmp_path, primary=["ACC"], guardrails=[GUARD], slices=["country"])
        with pytest.raises(MicrecError, match="no column 'country'"):
            told(users(), plan)

    def test_fewer_users_than_planned_are_not_judged(self, tmp_path):
        plan = plan_of(tmp_path, primary=["ACC"], planned_users=5000)
        found = told(users(4000, lift=0.5), plan)
        assert found["verdicts"][0]["decision"] == "hold"
        assert "4,000 of the 5,000 planned users" in found["verdicts"][0]["headline"]
        assert told(users(5000, lift=0.5), plan)["verdicts"][0]["decision"] == "ship"

    def test_least_users_holds_a_verdict(self, tmp_path):
        plan = plan_of(tmp_path, primary=["ACC"], least_users=1500)
        assert told(users(2000, lift=0.9), plan)["verdicts"][0]["decision"] == "hold"

    def test_exposures_must_be_planned(self, tmp_path):
        with pytest.raises(MicrecError, match="the plan judges exposed users"):
            told(users(), plan_of(tmp_path, primary=["ACC"], triggered=True))
        with pytest.raises(MicrecError, match="the plan judges everybody"):
            told(users(), plan_of(tmp_path, primary=["ACC"]), design={"exposures": tmp_path / "e.csv"})

    def test_readings_may_be_added_and_are_exploratory(self, tmp_path):
        plan = plan_of(tmp_path, primary=["ACC"])
        found = told(users(), plan, design={"prior": "0,0.05", "equivalence": 0.3})
        assert found["scenario"]["exploratory_readings"] == ["the Bayesian reading", "the equivalence reading"]
        assert len(found["bayes"]) == len(found["equivalence"]) == 1

    def test_the_report_shows_the_plan(self, tmp_path):
        plan = plan_of(tmp_path, primary=["ACC"], question="Is B better?")
        abtest.analyze(users(), plan=plan, metrics={"primary": ["ADT"]}).save(tmp_path / "report")
        text = (tmp_path / "report" / "report.md").read_text()
        assert "Is B better?" in text
        assert "Not planned, and so exploratory: ADT." in text


METRICS = {"visits": {"value": "where(clicks > 0, 1, 0)", "direction": "up"}}
KEYS = [  # a key of the plan, and what does the same as an option
    ({"alpha": 0.2}, {"alpha": 0.2}),
    ({"weights": {"A": 0.3, "B": 0.7}}, {"weights": {"A": 0.3, "B": 0.7}}),
    ({"covariates": ["impressions"]}, {"covariates": ["impressions"]}),
    ({"slices": ["country"]}, {"slices": ["country"]}),
    ({"min_users": 999}, {"min_users": 999}),
    ({"secondary": ["ALR"]}, {"metrics": {"primary": ["ACC"], "secondary": ["ALR"]}}),
    ({"primary": ["visits"], "metrics": METRICS}, {"metrics": {"primary": ["visits"], "metrics": METRICS}}),
    ({"guardrails": ["ALR"]}, {"metrics": {"primary": ["ACC"], "guardrails": ["ALR"]}}),
    ({"estimator": "cuped"}, {"design": {"estimator": "cuped"}}),
    ({"least_users": 400}, {"design": {"least_users": 400}}),
    ({"unit": ["household"]}, {"design": {"unit": "household"}}),
    ({"prior": "0,0.1"}, {"design": {"prior": "0,0.1"}}),
    ({"equivalence": 0.2}, {"design": {"equivalence": 0.2}}),
]
DAYS = [
    ({"looks": "daily"}, {"looks": "daily"}),
    ({"looks": "open"}, {"looks": "open"}),
    ({"planned_days": 12}, {"planned_days": 12}),
    ({"timezone": "Asia/Tokyo", "looks": "daily"}, {"timezone": "Asia/Tokyo", "looks": "daily"}),
    ({"looks": "daily", "planned_lift": 0.3}, {"looks": "daily", "design": {"planned_lift": 0.3}}),
    ({"looks": "daily", "planned_users": 900}, {"looks": "daily", "planned_users": 900}),
    (
        {"looks": "daily", "planned_users": 900, "information": "users"},
        {"looks": "daily", "planned_users": 900, "design": {"information": "users"}},
    ),
]


def numbers(results: dict) -> str:
    """What an analysis found, without what it was asked."""
    left_out = ("scenario", "runtime_s", "command", "rule")
    return json.dumps({key: value for key, value in results.items() if key not in left_out}, default=str)


class TestKeys:
    @pytest.mark.parametrize(("keys", "options"), KEYS + DAYS, ids=lambda one: "-".join(one))
    def test_a_key_does_what_its_option_does_and_does_something(self, tmp_path, keys, options):
        if (keys, options) in DAYS:
            log = days(300, 5)
        else:
            house = pl.col("user_id") // 4 * 2 + pl.col("user_id") % 2
            log = users(600, country=["NO", "SE"] * 300).with_columns(household=house)
        given = {"control": "A", "treatment": "B", "checks": False, "metrics": {"primary": ["ACC"]}}
        plain = abtest.analyze(log, **given).to_dict()
        by_option = abtest.analyze(log, **{**given, **options}).to_dict()
        by_plan = told(log, plan_of(tmp_path, **{"primary": ["ACC"], **keys}), checks=False)
        assert numbers(by_plan) == numbers(by_option)
        same = numbers(by_option) == numbers(plain)
        assert not same or keys.get("timezone") or keys.get("planned_users") == 900  # of which everybody came on day 1

    def test_switchbacks_crossovers_and_combined_arms(self, tmp_path):
        log, given = switchback(days=4), {"control": "A", "treatment": "B", "checks": False}
        by_plan = told(log, plan_of(tmp_path, primary=["ACC"], unit=["region", "2h"], washout_s=600.0), checks=False)
        design = {"unit": ["region", "2h"], "washout": "10m"}
        by_option = abtest.analyze(log, **given, design=design, metrics={"primary": ["ACC"]}).to_dict()
        assert numbers(by_plan) == numbers(by_option)
        for choice in ("drop", "first"):
            by_plan = told(two_armed(), plan_of(tmp_path, primary=["ACC"], crossovers=choice), checks=False)
            more = {"design": {"crossovers": choice}, "metrics": {"primary": ["ACC"]}}
            assert numbers(by_plan) == numbers(abtest.analyze(two_armed(), **given, **more).to_dict())
        three = users(900).with_columns(arm=(pl.col("user_id") % 3).replace_strict([0, 1, 2], ["A", "B", "C"]))
        plan = plan_of(tmp_path, treatments=["B", "C"], primary=["ACC"], combined={"both": ["B", "C"]})
        assert told(three, plan)["combined"][0]["arm"] == "both"


class TestRules:
    def test_levels_split_alpha_by_weighted_holm(self, tmp_path):
        keys = [{"metric": "ACC", "level": 0.01}, {"metric": "ADT", "level": 0.04}]
        found = told(users(), plan_of(tmp_path, primary=keys))
        mine = [one for one in found["effects"] if one["family"] == "primary"]
        expected = weighted_holm([one["p"] for one in mine], [0.01, 0.04])
        assert [one["p_adjusted"] for one in mine] == pytest.approx(expected)

    def test_a_null_must_be_exceeded(self, tmp_path):
        """A lift that is better than nothing and not shown to be better than 10 % does not ship."""
        log = users(8000, lift=0.12, seed=1)
        assert told(log, plan_of(tmp_path, primary=["ACC"]))["verdicts"][0]["decision"] == "ship"
        keys = [{"metric": "ACC", "null_lift": 0.1}]
        found = told(log, plan_of(tmp_path, primary=keys))
        (mine,) = [one for one in found["effects"] if one["family"] == "primary"]
        assert mine["null"] == 0.1
        assert found["verdicts"][0]["decision"] == "hold"
        low, high = mine["lift_ci"]
        assert low <= 0.1 <= high

    def test_a_guardrail_has_two_sides(self, tmp_path):
        log = users(8000, lift=0.3, seed=4)
        inside = told(log, plan_of(tmp_path, primary=["ADT"], guardrails=[{**GUARD, "better": 0.9}]))
        beyond = told(log, plan_of(tmp_path, primary=["ADT"], guardrails=[{**GUARD, "better": 0.1}]))
        assert inside["verdicts"][0]["decision"] == "ship"
        assert beyond["verdicts"][0]["decision"] == "stop"
        assert "outside its margins of 5 % worse and 10 % better" in " ".join(beyond["verdicts"][0]["reasons"])

    def test_direction_of_the_plan_decides(self, tmp_path):
        log = users(8000, lift=0.3, seed=4)
        keys = [{"metric": "ACC", "direction": "down"}]
        assert told(log, plan_of(tmp_path, primary=keys))["verdicts"][0]["decision"] == "stop"


class TestEstimator:
    def test_cuped_is_judged_and_the_raw_test_stands_beside(self):
        raw = effect(analysed(users()), "ACC", family="primary")
        adjusted = effect(analysed(users(), replace(AB, design=Design(estimator="cuped"))), "ACC", family="primary")
        assert adjusted.estimate.p == raw.others["cuped"].p
        assert adjusted.others["welch"].p == raw.estimate.p
        assert "cuped" not in adjusted.others

    def test_poststratified_is_judged(self):
        raw = effect(analysed(users()), "ACC", family="primary")
        found = effect(
            analysed(users(), replace(AB, design=Design(estimator="poststratified"))), "ACC", family="primary"
        )
        assert found.estimate.p == raw.others["post-stratified"].p

    def test_strata_are_the_first_slice_where_there_is_no_cold(self):
        log = users(country=["NO", "SE"] * 1000).drop("cold")
        plan = replace(AB, slices=("country",), design=Design(estimator="poststratified"))
        found = effect(analysed(log, plan), "ACC", family="primary")
        assert "post-stratified over 2 strata" in found.estimate.method

    @pytest.mark.parametrize(("estimator", "message"), [("cuped", "no covariates"), ("poststratified", "no strata")])
    def test_what_an_estimator_needs_must_be_there(self, estimator, message):
        log = users().drop("pre_clicks", "cold")
        with pytest.raises(MicrecError, match=message):
            analysed(log, replace(AB, design=Design(estimator=estimator)))

    @pytest.mark.parametrize("estimator", ["cuped", "poststratified"])
    def test_looks_and_power_follow(self, estimator):
        log = days(900, lift=0.1).with_columns(pre_clicks=pl.col("user_id") % 7)
        plan = replace(AB, looks="daily", design=Design(estimator=estimator))
        found, raw = analysed(log, plan), analysed(log, replace(AB, looks="daily"))
        last = [look for look in found.looks if look.metric.name == "ACC"][-1]
        mine = effect(found, "ACC", family="primary").estimate
        assert last.so_far.t == pytest.approx(mine.t, rel=1e-9)
        assert found.power[0].mde < raw.power[0].mde * 1.02
        assert 0.0 < found.looks[0].level.information < found.looks[3].level.information


class TestCommand:
    def run(self, *args: str):
        return CliRunner().invoke(app, list(args), catch_exceptions=False)

    def test_template_without_options(self, tmp_path):
        done = self.run("plan", "--out", str(tmp_path / "p.yaml"))
        assert done.exit_code == 0, done.output
        assert load_plan(tmp_path / "p.yaml") == PlanFile()

    def test_options_become_keys(self, tmp_path):
        args = ["--control", "A", "--treatment", "B", "--primary", "ACC null_lift=1%"]
        args += ["--guardrail", "ALR worse=5% better=0.2"]
        args += ["--weights", "A=0.9,B=0.1", "--estimator", "cuped", "--slices", "country,cold", "--looks", "daily"]
        done = self.run("plan", "--out", str(tmp_path / "p.yaml"), *args)
        assert done.exit_code == 0, done.output
        plan = load_plan(tmp_path / "p.yaml")
        assert plan.primary == [PlannedMetric(metric="ACC", null_lift=0.01)]
        assert plan.guardrails == [PlannedMetric(**GUARD)]
        assert (plan.weights, plan.slices, plan.looks) == ({"A": 0.9, "B": 0.1}, ["country", "cold"], "daily")

    def test_a_log_gives_the_users_that_a_cuped_lift_needs(self, tmp_path):
        users(4000).write_parquet(tmp_path / "old.parquet")
        found = {}
        for estimator in ("welch", "cuped", "poststratified"):
            out = tmp_path / f"{estimator}.yaml"
            args = ["--lift", "3%", "--primary", "ACC", "--estimator", estimator, "--out", str(out)]
            done = self.run("plan", str(tmp_path / "old.parquet"), *args)
            assert done.exit_code == 0, done.output
            found[estimator] = load_plan(out).planned_users
        whole = abtest.power(users(4000), lifts=[0.03], primaries=1).to_frame()
        row = whole.filter(pl.col("metric") == "ACC")
        assert found["welch"] == row["n_control"].item() + row["n_treatment"].item()
        row = whole.filter(pl.col("metric") == "ACC, with CUPED")
        assert found["cuped"] == row["n_control"].item() + row["n_treatment"].item()
        assert found["cuped"] < found["poststratified"] <= found["welch"] * 1.01

    def test_mistakes_exit_with_2(self, tmp_path):
        done = self.run("plan", "--primary", "ACC worse", "--out", str(tmp_path / "p.yaml"))
        assert done.exit_code == 2
        assert not (tmp_path / "p.yaml").exists()
        users().write_parquet(tmp_path / "old.parquet")
        old = [str(tmp_path / "old.parquet"), "--out", str(tmp_path / "p.yaml")]
        assert self.run("plan", *old).exit_code == 2
        assert "give --planned-users" in self.run("plan", *old, "--lift", "2%", "--unit", "country").output

    def test_analyze_refuses_what_contradicts_its_plan(self, tmp_path):
        users().write_parquet(tmp_path / "log.parquet")
        plan = str(plan_of(tmp_path, primary=["ACC"]))
        log = str(tmp_path / "log.parquet")
        assert self.run("analyze", log, "--plan", plan, "-q").exit_code == 0
        assert self.run("analyze", log, "--plan", plan, "--alpha", "0.05", "-q").exit_code == 0
        done = self.run("analyze", log, "--plan", plan, "--alpha", "0.1", "--weights", "A=1,B=3")
        assert done.exit_code == 2
        assert "2 errors" in done.output
