"""Random data beside scipy, statsmodels and tea-tasting, which share no code with ours."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import tt_ind_solve_power

from abtest.stats import (
    Baseline,
    Moments,
    benjamini_hochberg,
    cuped,
    detectable_lift,
    holm,
    mann_whitney,
    non_inferiority,
    poisson_bootstrap,
    power_of,
    quantile_difference,
    srm,
    users_needed,
    welch,
    winsorised,
)
from abtest.stats.tails import chi2_logsf, norm_logsf, t_logsf, t_quantile

SEEDS = range(8)


def experiment(seed):
    rng = np.random.default_rng(seed)
    arms = []
    for n, lift in ((int(rng.integers(20, 400)), 1.0), (int(rng.integers(20, 400)), rng.uniform(0.8, 1.3))):
        pre = rng.gamma(2, 3, n)
        pre_m = rng.poisson(6, n) + 1.0
        m = rng.poisson(pre_m) + 1.0
        arms.append({"y": rng.lognormal(0, 0.7, n) * lift + pre, "m": m, "pre": pre, "pre_m": pre_m})
    return arms


def tea(metric, arms):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tea_tasting = pytest.importorskip("tea_tasting")
        import polars as pl

        rows = pl.concat([pl.DataFrame({**arm, "variant": [at] * len(arm["y"])}) for at, arm in enumerate(arms)])
        return tea_tasting.Experiment(metric=metric(tea_tasting)).analyze(rows)["metric"]


@pytest.mark.parametrize("seed", SEEDS)
def test_welch_as_scipy(seed):
    c, t = experiment(seed)
    want = stats.ttest_ind(t["y"], c["y"], equal_var=False)
    got = welch(Moments.of(c), Moments.of(t), "y", alpha=0.1)
    assert (got.t, got.df, got.p) == pytest.approx((want.statistic, want.df, want.pvalue), rel=1e-9)
    assert got.difference_ci == pytest.approx(tuple(want.confidence_interval(0.9)), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_lift_interval_as_scipy_inverted(seed):
    """Each bound, planted into the control, has scipy's p at alpha."""
    c, t = experiment(seed)
    for bound in welch(Moments.of(c), Moments.of(t), "y").lift_ci:
        assert stats.ttest_ind(t["y"], (1 + bound) * c["y"], equal_var=False).pvalue == pytest.approx(0.05, rel=1e-7)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_means_ratios_and_cuped_as_tea_tasting(seed):
    c, t = experiment(seed)
    ours = Moments.of(c), Moments.of(t)
    pairs = [
        (welch(*ours, "y", lift="log-delta"), tea(lambda tt: tt.Mean("y"), (c, t))),
        (welch(*ours, ("y", "m"), lift="log-delta"), tea(lambda tt: tt.RatioOfMeans("y", "m"), (c, t))),
        (cuped(*ours, "y", ["pre"]).estimate, tea(lambda tt: tt.Mean("y", "pre"), (c, t))),
        (
            cuped(*ours, ("y", "m"), [("pre", "pre_m")]).estimate,
            tea(lambda tt: tt.RatioOfMeans("y", "m", "pre", "pre_m"), (c, t)),
        ),
    ]
    for at, (got, want) in enumerate(pairs):
        assert (got.t, got.p) == pytest.approx((want.statistic, want.pvalue), rel=1e-8)
        interval = (want.effect_size_ci_lower, want.effect_size_ci_upper)
        assert got.difference_ci == pytest.approx(interval, rel=1e-8, abs=1e-10)
        if at < 2:  # adjusted lifts differ by convention: ours is relative to the raw control mean
            interval = (want.rel_effect_size_ci_lower, want.rel_effect_size_ci_upper)
            assert got.lift_ci == pytest.approx(interval, rel=1e-8, abs=1e-10)


def test_several_covariates_as_least_squares():
    c, t = experiment(3)
    y = np.concatenate([c["y"], t["y"]])
    x = np.column_stack([np.ones(len(y)), *(np.concatenate([c[k], t[k]]) for k in ("pre", "pre_m"))])
    want = np.linalg.lstsq(x, y, rcond=None)[0][1:]
    got = cuped(Moments.of(c), Moments.of(t), "y", ["pre", "pre_m"])
    assert got.theta == pytest.approx(tuple(want), rel=1e-8)
    residual = [arm["y"] - want[0] * arm["pre"] - want[1] * arm["pre_m"] for arm in (c, t)]
    assert got.estimate.p == pytest.approx(stats.ttest_ind(*residual, equal_var=False).pvalue, rel=1e-8)
    assert 0 < got.variance_reduction < 1


def test_tails_as_scipy():
    t, df = np.meshgrid([-3.0, 0.0, 0.5, 4.0, 12.0], [1.0, 2.5, 30.0, 1e5])
    assert np.exp(t_logsf(t, df)) == pytest.approx(stats.t.sf(t, df), rel=1e-11)
    assert norm_logsf(50.0) == pytest.approx(stats.norm.logsf(50.0), rel=1e-13)
    assert chi2_logsf(300.0, 3.0) == pytest.approx(stats.chi2.logsf(300.0, 3), rel=1e-11)
    assert chi2_logsf(1e5, 4.0) == pytest.approx(-5e4 + np.log(1 + 5e4), rel=1e-12)  # (1 + x/2) exp(-x/2)
    for p in (1e-12, 0.025, 0.5, 0.999):
        assert t_quantile(p, 7.3) == pytest.approx(stats.t.ppf(p, 7.3), rel=1e-9, abs=1e-12)
    assert float(t_logsf(-t_quantile(1e-40, 20), 20)) == pytest.approx(np.log(1e-40), rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_srm_and_multiplicity(seed):
    rng = np.random.default_rng(seed)
    counts = {arm: int(n) for arm, n in zip("ABC", rng.integers(900, 1100, 3), strict=True)}
    weights = dict(zip("ABC", rng.uniform(0.9, 1.1, 3), strict=True))
    expected = np.array(list(weights.values())) / sum(weights.values()) * sum(counts.values())
    assert srm(counts, weights).p == pytest.approx(stats.chisquare(list(counts.values()), expected).pvalue, rel=1e-10)
    p = list(rng.random(9) ** 3)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], rel=1e-12)


@pytest.mark.parametrize("missing", [[], [0], [1, 4], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("undefined", [None, math.nan])
@pytest.mark.parametrize(("adjust", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_undefined_p_values_do_not_count(missing, undefined, adjust, method):
    """The others are adjusted as if those had not been asked, wherever they stand."""
    p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.011]
    known = [at for at in range(len(p)) if at not in missing]
    found = adjust([undefined if at in missing else p[at] for at in range(len(p))])
    assert all(found[at] is None for at in missing)
    expected = multipletests([p[at] for at in known], method=method)[1] if known else []
    assert [found[at] for at in known] == pytest.approx(list(expected), rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_mann_whitney_as_scipy(seed):
    rng = np.random.default_rng(seed)
    for c, t in (
        (rng.poisson(2, 300), rng.poisson(2.3, 200)),
        (rng.normal(0, 1, 300), rng.normal(0.2, 1, 200)),
        (rng.normal(0, 1, 6), rng.normal(0.2, 1, 9)),
    ):
        want = stats.mannwhitneyu(t, c)
        got = mann_whitney(c, t)
        assert (got.u, got.p) == pytest.approx((want.statistic, want.pvalue), rel=1e-9)


def test_power_as_statsmodels():
    base = Baseline("x", 2.0, 9.0)
    for n, lift in ((400, 0.1), (6000, 0.05)):
        want = tt_ind_solve_power(effect_size=lift * 2 / 3, nobs1=n, alpha=0.05)
        assert power_of(base, lift, n, n, effect="shifted") == pytest.approx(want, rel=1e-6)
    want = tt_ind_solve_power(effect_size=0.1 * 2 / 3, power=0.9, alpha=0.05)
    plan = users_needed(base, 0.1, power=0.9, effect="shifted", users_per_day=500)
    assert plan.n_control == plan.n_treatment == int(np.ceil(want))
    assert plan.days == int(np.ceil(2 * plan.n_control / 500))


@pytest.mark.parametrize("unexplained", [1.0, 0.4])
@pytest.mark.parametrize("arms", [(150, 150), (5000, 800)])
def test_power_lift_and_users_invert_each_other(arms, unexplained):
    base = Baseline("x", -3.0, 16.0, unexplained)
    for effect in ("scaled", "shifted"):
        plan = detectable_lift(base, *arms, effect=effect)
        assert power_of(base, plan.lift, *arms, effect=effect) == pytest.approx(0.8, abs=1e-6)
        share = arms[1] / sum(arms)
        back = users_needed(base, plan.lift, treatment_share=share, effect=effect)
        assert abs(back.n_control - arms[0]) <= 1
        assert abs(back.n_treatment - arms[1]) <= 1


def test_power_is_what_simulation_finds():
    rng = np.random.default_rng(0)
    base = Baseline("x", 2.0, 2.0)
    reps, n, lift = 4000, 300, 0.15
    c, t = rng.gamma(2, 1, (reps, n)), rng.gamma(2, 1, (reps, n)) * (1 + lift)
    found = (stats.ttest_ind(t, c, axis=1, equal_var=False).pvalue < 0.05).mean()
    assert power_of(base, lift, n, n) == pytest.approx(found, abs=0.03)


def test_non_inferiority_as_scipy():
    c, t = experiment(5)
    m = Moments.of(c), Moments.of(t)
    got = non_inferiority(*m, "y", 0.05)
    want = stats.ttest_ind(t["y"], 0.95 * c["y"], equal_var=False, alternative="greater").pvalue
    assert got.p == pytest.approx(want, rel=1e-9)
    assert got.holds == (got.bound > -0.05) == (want < 0.025)
    down = non_inferiority(*m, "y", 0.5, relative=False, good="down")
    want = stats.ttest_ind(t["y"] - 0.5, c["y"], equal_var=False, alternative="less").pvalue
    assert down.p == pytest.approx(want, rel=1e-9)
    assert down.holds == (down.bound > -0.5)


def test_bootstrap_agrees_with_welch():
    rng = np.random.default_rng(4)
    for c, t in (
        (rng.poisson(3, 20_000), rng.poisson(3.1, 20_000)),  # from the histogram
        (rng.lognormal(0, 1, 20_000), rng.lognormal(0.03, 1, 20_000)),  # from groups of users
        (rng.gamma(2, 1, 500), rng.gamma(2, 1.1, 400)),  # user by user
    ):
        formula = welch(Moments.of({"x": c}), Moments.of({"x": t}), "x")
        got = poisson_bootstrap(c, t, rng=rng)
        assert got.difference == pytest.approx(formula.difference, rel=1e-9)
        assert got.se == pytest.approx(formula.se, rel=0.08)
        width = formula.lift_ci[1] - formula.lift_ci[0]
        assert got.lift_ci == pytest.approx(formula.lift_ci, abs=0.12 * width)


def test_winsorised_uses_one_threshold():
    c, t = np.arange(100.0), np.concatenate([np.arange(99.0), [1e6]])
    got = winsorised(c, t, quantile=0.95)
    cap = np.quantile(np.concatenate([c, t]), 0.95)
    want = stats.ttest_ind(np.minimum(t, cap), np.minimum(c, cap), equal_var=False)
    assert (got.cap, got.estimate.p) == pytest.approx((cap, want.pvalue), rel=1e-9)
    assert got.capped_treatment == int((t > cap).sum())
    assert got.plain.treatment.mean == pytest.approx(t.mean())


def test_quantiles_of_ties_and_of_too_few_are_undefined():
    rng = np.random.default_rng(0)
    assert "ties" in quantile_difference([0.0] * 50, rng.normal(size=50), 0.5).reason
    assert "too few users for P99" in quantile_difference(rng.normal(size=30), rng.normal(size=30), 0.99).reason
