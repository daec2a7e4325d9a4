"""All of ``ab_cases.json`` where it lies beside the project; its essential numbers stand in ``test_reference``."""

import json
from pathlib import Path

import pytest

from abtest.stats import Moments, benjamini_hochberg, bounds, cuped, holm, srm, welch

CASES = Path(__file__).parents[4] / "shared" / "reference" / "ab_cases.json"
pytestmark = pytest.mark.skipif(not CASES.exists(), reason=f"{CASES.name} is not beside the project")


@pytest.fixture(scope="module")
def cases():
    return json.loads(CASES.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def expected(cases):
    return {case["id"]: case["expected"] for case in cases["cases"]}


@pytest.fixture(scope="module")
def arms(cases):
    return Moments.of(cases["data"]["control"]), Moments.of(cases["data"]["treatment"])


def near(value):
    return pytest.approx(value, rel=1e-9, abs=0)


def test_means(arms, expected):
    got, want = welch(*arms, "clicks"), expected["welch_mean_clicks"]
    scipy = want["scipy.ttest_ind(equal_var=False)"]
    assert (got.t, got.p, got.df) == near((scipy["t"], scipy["p"], scipy["df"]))
    assert got.difference_ci == near(tuple(scipy["ci"]))
    assert got.se == near(want["gbstats.TwoSidedTTest(absolute)"]["se"])
    lifts = expected["relative_lift_ci_clicks"]
    inverted = lifts["fieller_welch_by_scipy_ttest_inversion (recommended, dual to Welch p)"]
    assert got.lift_ci == near(tuple(inverted))
    assert welch(*arms, "clicks", distribution="normal").lift_ci == near(tuple(lifts["fieller_z_closed"]))


def test_cuped_and_ratio(arms, expected):
    got, want = cuped(*arms, "clicks", ["pre_clicks"]), expected["cuped_clicks"]
    assert got.theta == near((want["theta_pooled_total"],))
    tea = want["tea_tasting.Mean(covariate)"]
    assert (got.estimate.t, got.estimate.p) == near((tea["statistic"], tea["pvalue"]))
    ratio, tea = welch(*arms, ("clicks", "imps")), expected["ratio_ctr"]["tea_tasting.RatioOfMeans"]
    assert (ratio.t, ratio.p) == near((tea["statistic"], tea["pvalue"]))


def test_srm(cases, expected):
    inputs = next(case for case in cases["cases"] if case["id"] == "srm")["inputs"]
    for name, counts in inputs.items():
        want = expected["srm"]["scipy_chisquare_and_tea"][name]
        got = srm(dict(zip("ABC", counts, strict=False)))
        assert (got.chi2, got.p) == near((want["chi2"], want["p"]))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("ld_obf", {"spending": "obrien-fleming"}),
        ("ld_pocock", {"spending": "pocock"}),
        *((f"power_rho{rho}", {"spending": "power", "rho": rho}) for rho in (1, 2, 3)),
    ],
)
def test_bounds(expected, name, family):
    want = expected["sequential"]["group_sequential_7_equal_looks_alpha.05_two_sided"][name]
    assert [look.z for look in bounds([k / 7 for k in range(1, 8)], **family)] == near(want)


def test_multiplicity(cases, expected):
    p = next(case for case in cases["cases"] if case["id"] == "multiplicity")["pvals"]
    assert holm(p) == near(expected["multiplicity"]["holm"])
    assert benjamini_hochberg(p) == near(expected["multiplicity"]["fdr_bh"])
