"""Every number that a named package printed for the small experiment, to nine digits."""

import pytest

from abtest.stats import (
    anytime,
    anytime_srm,
    benjamini_hochberg,
    bounds,
    cuped,
    holm,
    post_stratified,
    srm,
    welch,
)
from abtest.stats.confidence_sequence import mixture_precision, multiplier
from tests.abtest.stats.reference import CONTROL, TREATMENT, arms, strata


def near(value, rel=1e-9):
    return pytest.approx(value, rel=rel, abs=0)


def test_welch_as_scipy_and_four_others():
    got = welch(*arms(), "clicks")
    assert (got.control.n, got.treatment.n) == (16, 18)
    assert got.t == near(1.0702386622091893)
    assert got.df == near(31.99727102283729)
    assert got.p == near(0.29251898503688933)
    assert got.se == near(0.7267330224945219)
    assert got.difference_ci == near((-0.702533899023311, 2.258089454578866))


def test_z_as_statsmodels():
    assert welch(*arms(), "clicks", distribution="normal").p == near(0.2845118958257089)


@pytest.mark.parametrize(
    ("lift", "distribution", "interval"),
    [
        ("welch-fieller", "t", (-0.2672509856471552, 2.111716099758229)),  # scipy's ttest_ind inverted
        ("welch-fieller", "normal", (-0.24632379753548472, 1.9017330928619618)),  # closed form
        ("delta", "t", (-0.49922284319801435, 1.277000620975792)),  # gbstats
        ("delta", "normal", (-0.4656610120082343, 1.243438789786012)),
        ("log-delta", "t", (-0.2692638581713013, 1.6398206346432729)),  # tea-tasting
        ("log-delta", "normal", (-0.24931703114092785, 1.5696764489153492)),  # tea-tasting
    ],
)
def test_lift_intervals(lift, distribution, interval):
    got = welch(*arms(), "clicks", lift=lift, distribution=distribution)
    assert got.lift == near(0.38888888888888884)
    assert got.lift_ci == near(interval)


def test_cuped_as_tea_tasting_and_gbstats():
    got = cuped(*arms(), "clicks", ["pre_clicks"])
    assert got.theta == near((1.154428904428904,))
    assert got.estimate.difference == near(0.39296814296814286)
    assert got.estimate.se == near(0.2339434373640542)
    assert got.estimate.p == near(0.10401277555667858)
    assert got.estimate.difference_ci == near((-0.08601422085785526, 0.8719505067941401))
    assert got.estimate.lift == near(0.19648407148407143)  # gbstats: relative to the raw control mean
    z = cuped(*arms(), "clicks", ["pre_clicks"], distribution="normal")
    assert z.estimate.lift_ci == near((-0.03203840583978775, 0.5731605686234945))


def test_ratio_as_tea_tasting_and_gbstats():
    got = welch(*arms(), ("clicks", "imps"))
    assert (got.control.mean, got.treatment.mean) == near((0.1103448275862069, 0.14124293785310732))
    assert got.se == near(0.018566034422014956)
    assert got.p == near(0.10620803396038492)
    assert got.difference_ci == near((-0.006977264294611096, 0.06877348482841195))
    delta = welch(*arms(), ("clicks", "imps"), lift="delta")
    assert delta.lift_ci == near((-0.12057064845089199, 0.6805988970384627))
    log = welch(*arms(), ("clicks", "imps"), lift="log-delta")
    assert log.lift_ci == near((-0.06561048504545608, 0.7534830305445923))


def test_cuped_ratio_as_tea_tasting():
    assert cuped(*arms(), ("clicks", "imps"), [("pre_clicks", "pre_imps")]).estimate.p == near(0.08105, 1e-4)


def test_cold_slice_and_post_stratification():
    control, treatment = strata(CONTROL), strata(TREATMENT)
    cold = welch(control[1], treatment[1], "clicks")
    assert (cold.t, cold.df, cold.p) == near((0.71213, 8.8744, 0.49468), 1e-4)
    assert (cold.lift, *cold.lift_ci) == near((0.458, -0.924, 9.854), 1e-3)
    both = post_stratified(control, treatment, "clicks")
    assert (both.difference, both.se) == near((0.494748, 0.578331), 1e-5)  # gbstats


SRM = [
    ([50252, 49748], 0.11098353945523155, 1.0, 1.0),
    ([50500, 49500], 0.001565402258002549, 0.21475377610298757, 0.03520426223275151),
    ([33600, 33100, 33300], 0.1495686192226351, 1.0, 1.0),
    ([2010000, 1990000], 1.5239706048320995e-23, 3.87118544352944e-20, 4.374366302166438e-21),
]


@pytest.mark.parametrize(("users", "p", "p_100", "p_10000"), SRM)
def test_srm_as_scipy_and_savvi(users, p, p_100, p_10000):
    counts = dict(zip("ABC", users, strict=False))
    assert srm(counts).p == near(p)
    rel = 1e-8 if users[0] > 1e6 else 1e-9  # savvi's own log-gammas lose digits at 4M users; mpmath agrees with ours
    assert anytime_srm(counts).p == near(p_100, rel)
    assert anytime_srm(counts, concentration=1e4).p == near(p_10000, rel)


def test_anytime_srm_to_twelve_digits():
    """mpmath with 40 digits."""
    assert anytime_srm({"A": 2010000, "B": 1990000}).p == near(3.871185425117566531e-20, 1e-11)
    assert anytime_srm({"A": 50500, "B": 49500}, concentration=1e4).p == near(0.03520426222779923334, 1e-11)


def test_confidence_sequence_as_gbstats_and_confseq():
    assert mixture_precision(5000) == near(0.03984006677137368)
    widths = {1000: 0.10637547006557505, 5000: 0.042924337188268456, 100000: 0.010552070034257914}
    for n, width in widths.items():
        assert multiplier(n, n_star=5000) / n**0.5 == near(width)
    se = (9.0 / 10000 + 9.5 / 10000) ** 0.5
    got = anytime(2.1 - 2.0, se, 20000, n_star=20000)
    assert got.interval == near((-0.030549274943342808, 0.23054927494334299))
    assert got.p == near(0.27111716981801043)
    assert anytime(0.05, 0.02203548274942031, 20000, n_star=20000).p == near(0.30385627001354415)


SEVEN = {
    ("obrien-fleming", 1): [5.815327423, 4.033349373, 3.235101618, 2.767194491, 2.455375060, 2.229419570, 2.056178621],
    ("pocock", 1): [2.5434746662, 2.5202473675, 2.4942704957, 2.4732951022, 2.4566206292, 2.4431631377, 2.4320976725],
    ("power", 1): [2.6901095272, 2.6151788070, 2.5409446829, 2.4750299873, 2.4164569351, 2.3637884759, 2.3158649600],
    ("power", 2): [3.2848385736, 2.9340297723, 2.7141319922, 2.5406309148, 2.3931919462, 2.2628672847, 2.1447315069],
    ("power", 3): [3.7981627584, 3.2737906972, 2.9410398908, 2.6788821582, 2.4546118192, 2.2539988523, 2.0692858955],
}


@pytest.mark.parametrize(("family", "z"), SEVEN.items(), ids=str)
def test_seven_equal_looks(family, z):
    spending, rho = family
    got = [look.z for look in bounds([k / 7 for k in range(1, 8)], spending=spending, rho=rho)]
    assert got == near(z)


def test_five_published_obrien_fleming_bounds():
    got = [look.z for look in bounds([k / 5 for k in range(1, 6)])]
    assert got == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)


def test_multiplicity():
    p = [0.0001, 0.004, 0.0095, 0.012, 0.02, 0.03, 0.05, 0.2, 0.45, 0.9]
    assert holm(p) == near([0.001, 0.036, 0.076, 0.084, 0.12, 0.15, 0.2, 0.6, 0.9, 0.9])
    assert benjamini_hochberg(p) == near([0.001, 0.02, 0.03, 0.03, 0.04, 0.05, 0.5 / 7, 0.25, 0.5, 0.9])
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
