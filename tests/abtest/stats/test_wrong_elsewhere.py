"""Wrong or misleading numbers that well-known packages print, each beside what is right."""

import math

import numpy as np
import pytest
from scipy import stats

from abtest.stats import CellMoments, Moments, anytime_srm, cuped, format_p, srm, welch
from abtest.stats.tails import two_sided_log10_p
from micrec.errors import MicrecError
from tests.abtest.stats.reference import CONTROL, TREATMENT, arms


def of(values):
    return Moments.of({"x": values})


def test_units_do_not_matter():
    """Ambrosia 0.5.3: clicks times 10 turn the interval / 10 from [-0.68, 2.23] into [-46.5, 48.0]."""
    one = welch(of(CONTROL["clicks"]), of(TREATMENT["clicks"]), "x")
    ten = welch(of(10 * np.array(CONTROL["clicks"])), of(10 * np.array(TREATMENT["clicks"])), "x")
    assert (ten.t, ten.df, ten.p, *ten.lift_ci) == pytest.approx((one.t, one.df, one.p, *one.lift_ci), rel=1e-12)
    assert np.array(ten.difference_ci) / 10 == pytest.approx(one.difference_ci, rel=1e-12)


def test_unequal_split():
    """Ambrosia 0.5.3 takes the mean group size: on 9,000 / 1,000 its interval has half the width."""
    rng = np.random.default_rng(0)
    c, t = rng.normal(2, 1, 9000), rng.normal(2.06, 1, 1000)
    got = welch(of(c), of(t), "x", lift="delta")
    se = math.sqrt(t.var(ddof=1) / 1000 / c.mean() ** 2 + t.mean() ** 2 * c.var(ddof=1) / 9000 / c.mean() ** 4)
    half = stats.t.isf(0.025, got.df) * se
    assert got.lift_ci == pytest.approx((got.lift - half, got.lift + half), rel=1e-9)


def test_p_never_underflows():
    """gbstats prints 0 from t = 8.3 on, spotify-confidence for an SRM of 2.01M : 1.99M, scipy's t.logsf -inf at 40."""
    n = 500_000
    moments = [Moments(("x",), n, np.array([mean]), np.array([[n - 1.0]])) for mean in (1.0, 1.0 + 33 * 0.002)]
    got = welch(*moments, "x")
    assert got.t == pytest.approx(33, rel=1e-9)
    assert got.log10_p == pytest.approx(math.log10(2) + stats.norm.logsf(33) / math.log(10), rel=1e-3)
    assert got.p == pytest.approx(2 * stats.t.sf(got.t, got.df), rel=1e-9)
    assert srm({"A": 2_010_000, "B": 1_990_000}).p == pytest.approx(1.5239706048320995e-23, rel=1e-9)
    assert two_sided_log10_p(40, math.inf) == pytest.approx(-349.1359764636819, rel=1e-12)
    assert two_sided_log10_p(40, 1e6) == pytest.approx(-349.136, rel=2e-3)
    assert [two_sided_log10_p(t, 1e6) for t in (10, 15)] == pytest.approx(
        [-22.81591613287702, -50.12864515562802], rel=1e-12
    )
    far = welch(of([1.0, 1.0 + 1e-9] * 1000), of([2.0, 2.0 + 1e-9] * 1000), "x")
    assert far.p > 0
    assert far.log10_p < -300
    assert format_p(far.log10_p) == "< 1e-300"


@pytest.mark.parametrize("split", [1, 2, 3])
def test_large_mean_small_variance(split):
    """gbstats' sums of squares give [1e9+1 .. 1e9+4] the variance 0."""
    values = [1e9 + 1, 1e9 + 2, 1e9 + 3, 1e9 + 4]
    assert of(values).var_of("x") == pytest.approx(5 / 3, rel=1e-9)
    cells = CellMoments(["x"])
    for part in (values[:split], values[split:]):
        cells.add({"x": part, "arm": ["A"] * len(part)})
    assert cells.total().var_of("x") == pytest.approx(5 / 3, rel=1e-9)


def test_zero_weight_arms_do_not_count():
    """gbstats counts them in the degrees of freedom: .00674 instead of .00157."""
    counts, weights = {"A": 50500, "B": 49500, "C": 0}, {"A": 0.5, "B": 0.5, "C": 0}
    assert srm(counts, weights).p == pytest.approx(0.001565402258002549, rel=1e-9)
    stray = srm({**counts, "C": 7}, weights)
    assert (stray.p, stray.alarm, stray.reason) == (None, True, "users in an arm of weight 0: 7 in C")


def test_anytime_p_is_at_most_one():
    """savvi returns 8.9."""
    assert anytime_srm({"A": 50252, "B": 49748}).p == 1.0


def test_zero_control_has_no_lift_but_a_difference():
    """gbstats returns lift 0, interval (0, 0) and p = 1."""
    got = welch(of([0.0, 0, 0, 0]), of([1.0, 2, 3, 4]), "x")
    assert (got.lift, got.lift_ci) == (None, None)
    assert got.reason == "control mean is 0: a relative lift is undefined"
    assert got.p == pytest.approx(stats.ttest_ind([1, 2, 3, 4], [0, 0, 0, 0], equal_var=False).pvalue, rel=1e-9)


def test_control_within_noise_of_zero_is_unbounded():
    got = welch(of([-1.0, 1.2, -0.9, 1.1]), of([1.0, 2, 3, 4]), "x")
    assert got.lift_ci is None
    assert got.reason == "control mean too close to 0, relative interval unbounded"
    assert got.lift is not None


def test_missing_values_are_refused():
    """tea-tasting 1.14 leaves a null out of the mean but counts it in n (p .595, scipy .618); gbstats gives nan."""
    rows = {"x": [1.0, 2, 3, 4, 5, 2, 3, 4, 5, math.nan], "arm": ["A"] * 5 + ["B"] * 5}
    with pytest.raises(MicrecError, match="x: 1 values are missing or not finite, first in row 9"):
        CellMoments.of(rows, ["x"])
    right = welch(of([1.0, 2, 3, 4, 5]), of([2.0, 3, 4, 5]), "x")
    assert right.p == pytest.approx(0.6176652970841959, rel=1e-9)
    assert welch(of([1.0, 2, 3]), of([2.0, math.nan]), "x").reason == "x of treatment is not finite"


@pytest.mark.parametrize(("n", "reason"), [(0, "treatment has 0 users"), (1, "treatment has 1 user:")])
def test_tiny_arms_say_so(n, reason):
    """tea-tasting: TypeError: int() argument must be ..., not 'NoneType'."""
    got = welch(of([1.0, 2, 3]), of([2.0] * n), "x")
    assert got.reason is not None
    assert got.reason.startswith(reason)
    assert (got.p, got.se, got.difference_ci, got.lift_ci) == (None, None, None, None)


def test_negative_control():
    """tea-tasting prints -50 % for a rise from -4 to -2 (gbstats until #6658)."""
    rng = np.random.default_rng(1)
    c, t = rng.normal(-4, 1, 300), rng.normal(-2, 1, 300)
    got = welch(of(c), of(t), "x")
    assert got.lift == pytest.approx((t.mean() - c.mean()) / abs(c.mean()))
    assert 0 < got.lift_ci[0] < got.lift < got.lift_ci[1]
    mirrored = welch(of(-c), of(-t), "x")
    assert got.lift_ci == pytest.approx((-mirrored.lift_ci[1], -mirrored.lift_ci[0]), rel=1e-9)


def test_constant_arms_have_no_p():
    got = welch(of([2.0] * 9), of([2.5] * 9), "x")
    assert (got.p, got.se, got.difference) == (None, 0.0, 0.5)
    assert got.reason == "neither arm varies: there is no noise to judge by"
    same_ratio = Moments.of({"k": [0.1, 0.2, 0.7], "m": [1, 2, 7]})
    assert welch(same_ratio, same_ratio, ("k", "m")).p is None


def test_cuped_lift_knows_numerator_and_denominator_move_together():
    """tea-tasting's log-delta ignores it: at lift 50 %, rho .9 its intervals hold the truth 99.9 % of the time."""
    rng = np.random.default_rng(2)
    held, reps = 0, 1500
    for _ in range(reps):
        x = rng.normal(10, 3, (2, 500))
        y = (x * 0.9 + rng.normal(1, 3 * 0.436 * 0.9 / 0.9, (2, 500))) * np.array([[1.0], [1.5]])
        c, t = (Moments.of({"y": y[arm], "x": x[arm]}) for arm in (0, 1))
        low, high = cuped(c, t, "y", ["x"]).estimate.lift_ci
        held += low <= 0.5 <= high
    assert 0.93 <= held / reps <= 0.97


def test_the_ratio_uses_its_denominator():
    """cluster-experiments' README example prints converted / visits as mean 1.0."""
    got = welch(*arms(), ("clicks", "imps"))
    assert got.control.mean == pytest.approx(32 / 290, rel=1e-12)
