"""Power and smallest lifts under several metrics and looks, against statsmodels; numbers that no plan can have."""

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.power import zt_ind_solve_power
from typer.testing import CliRunner

from abtest.analysis.planning import PowerQuestion, plan_from_numbers
from abtest.cli.main import app
from abtest.stats.spending import bounds
from micrec.errors import MicrecError
from tests.benchmarks.bench_looks import found_at_the_promised_lift

RUN = CliRunner()


def users(question: PowerQuestion, mean: float = 10.0, sd: float = 10.0) -> int:
    return plan_from_numbers(mean, sd, question)[0].data[0]["n_control"]


@pytest.mark.parametrize("primaries", [1, 2, 5])
def test_several_primary_metrics_need_the_users_of_a_stricter_level(primaries):
    """At a lift this small the variance that it brings along hardly counts."""
    expected = zt_ind_solve_power(0.01, alpha=0.05 / primaries, power=0.8)
    assert users(PowerQuestion(lifts=(0.01,), primaries=primaries)) == pytest.approx(expected, rel=0.02)


def test_daily_looks_cost_users_but_less_than_the_last_bound_alone():
    """1.0316: simulated in test_sample_growth.py; the last bound alone, 2.0562, forgets what earlier looks find."""
    expected = 1.0316 * users(PowerQuestion(lifts=(0.01,)))
    assert users(PowerQuestion(lifts=(0.01,), looks=7)) == pytest.approx(expected, rel=1e-3)
    assert expected < zt_ind_solve_power(0.01, alpha=2 * norm.sf(2.0562), power=0.8)


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        (["--users", "1" + "0" * 400], 2, "--users: must be at most 1e+12"),
        (["--users-per-day", "1e-300"], 2, "--users-per-day 1e-300: must be at least 0.001"),
        (["--metrics", "nofile.yaml"], 2, "nofile.yaml: a file of metrics needs a log"),
        (["--sd", "100000"], 0, "more than 1e+12 users would be needed"),
        (["--lift", "200%"], 0, "+200.00 %"),
        (["--lift", "2"], 2, "write --lift 2% or --lift 0.02"),
    ],
)
def test_extreme_plans_are_words(args, code, part):
    from typer.testing import CliRunner

    from abtest.cli.analysis_commands import app

    given = {"--mean": "2", "--sd": "3", "--lift": "0.02"} | {args[0]: args[1]}
    result = CliRunner().invoke(app, ["power", *(text for pair in given.items() for text in pair)])
    assert result.exit_code == code
    assert part in " ".join(result.output.split())


@pytest.mark.parametrize("daily", [False, True])
def test_two_metrics_find_the_promised_lift_four_times_of_five(daily):
    assert found_at_the_promised_lift(2, daily=daily, tests=4000, seed=5, n=400) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("primaries", [1, 2])
@pytest.mark.parametrize("looks", [1, 7])
def test_the_planned_lift_is_found_four_times_of_five_over_all_looks(primaries, looks):
    """Users' values are exponential; of two metrics one differs, and is found at Holm's first step at some look."""
    z = [look.z for look in bounds([(look + 1) / looks for look in range(looks)], alpha=0.05 / primaries)]
    n, tests = 420, 4000
    question = PowerQuestion(users=2 * n, primaries=primaries, looks=looks)
    (lift,) = [row["lift"] for row in plan_from_numbers(2.0, 2.0, question)[1].data]
    rng = np.random.default_rng(7)
    ends = [n * (look + 1) // looks for look in range(looks)]
    found = np.zeros(tests, bool)
    control, treatment = rng.exponential(2.0, (tests, n)), (1.0 + lift) * rng.exponential(2.0, (tests, n))
    for end, bound in zip(ends, z, strict=True):
        c, t = control[:, :end], treatment[:, :end]
        se = np.sqrt((c.var(axis=1, ddof=1) + t.var(axis=1, ddof=1)) / end)
        found |= (t.mean(axis=1) - c.mean(axis=1)) / se > bound
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_only_the_ratio_of_mean_and_spread_counts():
    assert users(PowerQuestion(lifts=(0.02,)), 1e300, 2e300) == users(PowerQuestion(lifts=(0.02,)), 1.0, 2.0)
    assert users(PowerQuestion(lifts=(0.02,)), -1.0, 2.0) == users(PowerQuestion(lifts=(0.02,)), 1.0, 2.0)


@pytest.mark.parametrize(("text", "lift"), [("2%", 0.02), ("0.02", 0.02), ("-5%", -0.05), ("0.5 %", 0.005)])
def test_a_lift_is_a_share_or_per_cent(text, lift):
    done = RUN.invoke(app, ["power", "--mean", "2", "--sd", "3", "--lift", text, "--json"])
    assert done.exit_code == 0
    assert f'"lift": {lift}' in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lift", "2"], "is +200 %: for 2 % write --lift 2%"),
        (["--lift", "x"], "--lift x: must be a number such as 0.02, or 2%"),
        (["--lift", "nan"], "--lift nan: must be a number above -1"),
        (["--lift", "-1"], "--lift -1: must be a number above -1"),
        (["--lift", "1e-308"], "at least 1e-06 from 0"),
        (["--users", "-2"], "--users -2: must be at least 4"),
        (["--users-per-day", "inf"], "--users-per-day inf: must be a number above 0"),
        (["--alpha", "0.7"], "--alpha 0.7: must lie within (0, 0.5)"),
        (["--treatment-share", "1"], "--treatment-share 1: must lie within (0, 1)"),
        (["--metrics", "0"], "--metrics 0: must lie within 1 and 1000"),
        (["--looks", "hourly"], "--looks hourly: must be final or daily"),
        (["--sd", "1e308"], "times --mean 2: no metric of users is like that"),
        (["--sd", "-1"], "--sd -1: must be a number above 0"),
        (["--mean", "inf"], "--mean inf: must be a number other than 0"),
    ],
)
def test_numbers_that_no_plan_can_have_are_refused(options, words):
    done = RUN.invoke(app, ["power", "--mean", "2", "--sd", "3", *options])
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_lift_that_no_users_find_says_so():
    (needed, *_) = plan_from_numbers(1.0, 1e5, PowerQuestion(lifts=(1e-5,)))
    assert any("users do not reach this power" in note for note in needed.notes)


def test_faults_come_all_at_once():
    with pytest.raises(MicrecError, match="3 errors"):
        plan_from_numbers(1.0, 1.0, PowerQuestion(lifts=(0.0,), users=1, treatment_share=2.0))
