"""Clusters, Dunnett, futility, posteriors, nulls and margins against implementations that share no code with ours."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import integrate, linalg, optimize, stats
from statsmodels.stats.multitest import multipletests

from abtest.stats import Moments, cuped, post_stratified, welch
from abtest.stats.clusters import SHARED, cluster_moments, working_model
from abtest.stats.contrast import Contrast, NoisePart
from abtest.stats.dunnett import dunnett
from abtest.stats.equivalence import equivalence
from abtest.stats.futility import conditional_power, futility_bounds
from abtest.stats.multiplicity import holm, weighted_holm
from abtest.stats.posterior import NormalPrior, posterior, prior_of
from abtest.stats.spending import bounds, bounds_of, correlations


def clustered(rng: np.random.Generator, clusters: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values, denominators, cluster and arm of users in clusters of unequal size."""
    sizes = rng.integers(2, 30, clusters)
    cluster = np.repeat(np.arange(clusters), sizes)
    arm = (cluster % 2).astype(float)
    shared = rng.normal(0.0, 1.0, clusters)[cluster]
    per = rng.integers(1, 9, len(cluster)).astype(float)
    value = 5.0 + shared + rng.normal(0.0, 2.0, len(cluster)) + 0.4 * arm
    return value, per, cluster, arm


def arm_moments(columns: dict[str, np.ndarray], cluster: np.ndarray, mine: np.ndarray) -> Moments:
    codes = np.unique(cluster[mine], return_inverse=True)[1]
    sums = np.stack([np.bincount(codes, values[mine]) for values in columns.values()], axis=1)
    return cluster_moments(list(columns), sums, np.bincount(codes).astype(float))


def dense_cr2(x: np.ndarray, y: np.ndarray, cluster: np.ndarray) -> tuple[float, float, float]:
    """Slope of the last column, its CR2 standard error and Satterthwaite degrees of freedom, by full matrices.

    Working model: unit variance, and users of a cluster share SHARED over the mean size of the arm's clusters.
    """
    bread = np.linalg.inv(x.T @ x)
    hat = x @ bread @ x.T
    rest = np.eye(len(y)) - hat
    residual = rest @ y
    arm = x[:, -1]
    sizes = {one: (arm == one).sum() / len(np.unique(cluster[arm == one])) for one in np.unique(arm)}
    rho = np.array([SHARED / sizes[one] for one in arm])
    covariance = np.eye(len(y)) + (cluster[:, None] == cluster[None, :]) * rho[:, None]
    rows, total = [], 0.0
    contrast = np.eye(x.shape[1])[-1]
    for one in np.unique(cluster):
        mine = cluster == one
        adjust = linalg.inv(linalg.sqrtm(np.eye(mine.sum()) - hat[np.ix_(mine, mine)])).real
        weight = contrast @ bread @ x[mine].T @ adjust  # (n_g,)
        total += float(weight @ residual[mine]) ** 2
        rows.append(weight @ rest[mine])
    gram = np.array(rows) @ covariance @ np.array(rows).T
    return float((bread @ x.T @ y)[-1]), math.sqrt(total), float(np.trace(gram) ** 2 / (gram**2).sum())


class TestClusters:
    @pytest.mark.parametrize("seed", range(5))
    def test_noise_is_cr2_of_full_matrices(self, seed):
        value, _, cluster, arm = clustered(np.random.default_rng(seed))
        control, treatment = (arm_moments({"y": value}, cluster, arm == one) for one in (0.0, 1.0))
        found = welch(control, treatment, "y")
        slope, se, dof = dense_cr2(np.column_stack([np.ones(len(arm)), arm]), value, cluster)
        assert found.difference == pytest.approx(slope, rel=1e-10)
        assert found.se == pytest.approx(se, rel=1e-9)
        assert found.df == pytest.approx(dof, rel=1e-7)
        assert (found.control.n, found.treatment.n) == (5, 4)

    @pytest.mark.parametrize("seed", range(3))
    def test_degrees_of_freedom_of_one_arm(self, seed):
        """Of an arm against a constant: a regression on the intercept alone."""
        sizes = np.random.default_rng(seed).integers(1, 40, 7)
        cluster = np.repeat(np.arange(7), sizes)
        users = len(cluster)
        dof, variance = working_model(sizes / users, float(users))
        value = np.random.default_rng(seed).normal(size=users)
        assert dof == pytest.approx(dense_cr2(np.ones((users, 1)), value, cluster)[2], rel=1e-9)
        flat = working_model(np.full(7, 1.0 / 7.0), 70.0)
        assert flat == pytest.approx((6.0, (1.0 + SHARED) / 70.0), rel=1e-12)
        assert variance > 1.0 / users

    def test_equal_sizes_are_a_t_test_of_cluster_means(self):
        rng = np.random.default_rng(3)
        cluster = np.repeat(np.arange(12), 5)
        arm, value = cluster % 2, rng.gamma(2.0, 1.0, 60) + np.repeat(rng.normal(size=12), 5)
        found = welch(*(arm_moments({"y": value}, cluster, arm == one) for one in (0, 1)), "y")
        means = value.reshape(12, 5).mean(axis=1)
        expected = stats.ttest_ind(means[1::2], means[::2])
        assert (found.t, found.df, found.p) == pytest.approx((expected.statistic, expected.df, expected.pvalue))

    @pytest.mark.parametrize("covariates", [1, 3])
    def test_equal_sizes_adjusted_are_the_analysis_of_covariance_of_cluster_means(self, covariates):
        rng = np.random.default_rng(covariates)
        cluster = np.repeat(np.arange(10), 4)
        arm, before = cluster % 2, rng.normal(size=(40, covariates))
        value = 3.0 + before @ np.arange(1.0, covariates + 1.0) + np.repeat(rng.normal(size=10), 4) + 0.8 * arm
        columns = {"y": value} | {f"x{at}": before[:, at] for at in range(covariates)}
        sides = [arm_moments(columns, cluster, arm == one) for one in (0, 1)]
        found = cuped(*sides, "y", [f"x{at}" for at in range(covariates)]).estimate
        by_cluster = [column.reshape(10, 4).mean(axis=1) for column in (value, *before.T)]
        design = sm.add_constant(np.column_stack([np.arange(10) % 2, *by_cluster[1:]]))
        expected = sm.OLS(by_cluster[0], design).fit()
        assert found.df == pytest.approx(10 - 2 - covariates)
        assert (found.difference, found.se, found.p) == pytest.approx(
            (expected.params[1], expected.bse[1], expected.pvalues[1])
        )

    def test_covariates_that_leave_no_degree_of_freedom_are_refused_with_the_cure(self):
        rng = np.random.default_rng(1)
        columns = {"y": rng.normal(size=24)} | {f"x{at}": rng.normal(size=24) for at in range(4)}
        cluster = np.repeat(np.arange(6), 4)
        sides = [arm_moments(columns, cluster, cluster % 2 == one) for one in (0, 1)]
        found = cuped(*sides, "y", [f"x{at}" for at in range(4)]).estimate
        assert found.p is None
        assert "6 units are too few to adjust for x0, x1, x2, x3: use welch, or fewer covariates" in found.reason

    def test_false_alarms_with_eight_clusters(self):
        """With Welch's degrees of freedom they are 4.1 %, with G - 2 5.6 %; 4,000 draws: 0.35 points of noise."""
        rng = np.random.default_rng(11)
        alarms = 0
        for _ in range(4000):
            sizes = np.round(30.0 * rng.lognormal(0.0, 0.3, 8))
            sums = (sizes * (5.0 + 0.3 * rng.normal(size=8)) + np.sqrt(sizes) * rng.normal(size=8))[:, None]
            arms = [cluster_moments(["y"], sums[part], sizes[part]) for part in (slice(4), slice(4, 8))]
            alarms += welch(*arms, "y").p < 0.05
        assert 0.0435 < alarms / 4000 < 0.06

    def test_many_clusters_are_statsmodels_clustered_errors(self):
        rng = np.random.default_rng(5)
        sizes = rng.integers(1, 6, 4000)
        cluster = np.repeat(np.arange(4000), sizes)
        arm = (cluster % 2).astype(float)
        value = rng.normal(size=4000)[cluster] + rng.normal(size=len(cluster))
        model = sm.OLS(value, sm.add_constant(arm)).fit(cov_type="cluster", cov_kwds={"groups": cluster})
        found = welch(*(arm_moments({"y": value}, cluster, arm == one) for one in (0.0, 1.0)), "y")
        assert found.se == pytest.approx(model.bse[1], rel=2e-4)

    def test_ratios_and_covariates_go_through_the_same_moments(self):
        """A ratio and CUPED on clusters are those of the cluster sums, linearised by hand."""
        value, per, cluster, arm = clustered(np.random.default_rng(8), 30)
        pre = value + np.random.default_rng(9).normal(size=len(value))
        columns = {"y": value, "m": per, "x": pre}
        control, treatment = (arm_moments(columns, cluster, arm == one) for one in (0.0, 1.0))
        ratio = welch(control, treatment, ("y", "m"))
        noise = 0.0
        for one in (0.0, 1.0):
            mine = arm == one
            r = value[mine].sum() / per[mine].sum()
            shares = np.bincount(cluster[mine])[np.unique(cluster[mine])] / mine.sum()
            e = np.bincount(cluster[mine], value[mine] - r * per[mine])[np.unique(cluster[mine])]
            noise += (e**2 / (1 - shares)).sum() / per[mine].sum() ** 2
        assert ratio.se == pytest.approx(math.sqrt(noise), rel=1e-9)
        assert cuped(control, treatment, "y", ["x"]).estimate.se < welch(control, treatment, "y").se


class TestDunnett:
    @pytest.mark.parametrize("seed", range(3))
    def test_is_scipys_for_a_pooled_variance(self, seed):
        rng = np.random.default_rng(seed)
        arms = [rng.normal(0.3 * k, 1.0, size) for k, size in enumerate((14, 9, 11, 20))]
        df = sum(map(len, arms)) - 4
        pooled = sum(((arm - arm.mean()) ** 2).sum() for arm in arms) / df
        t = [(a.mean() - arms[0].mean()) / math.sqrt(pooled * (1 / len(a) + 1 / 14)) for a in arms[1:]]
        shares = [(1 / 14) / (1 / len(a) + 1 / 14) for a in arms[1:]]
        expected = stats.dunnett(*arms[1:], control=arms[0], rng=np.random.default_rng(0)).pvalue
        assert dunnett(t, shares, df) == pytest.approx(list(expected), abs=2e-4)

    @pytest.mark.parametrize(("k", "df", "critical"), [(2, 20, 2.38), (3, 20, 2.54), (2, 60, 2.27), (3, 120, 2.38)])
    def test_critical_values_of_the_published_table(self, k, df, critical):
        """Dunnett 1964, table II: two-sided 5 %, equal arms."""
        found = optimize.brentq(lambda c: dunnett([c] * k, [0.5] * k, df)[0] - 0.05, 1.0, 5.0)
        assert found == pytest.approx(critical, abs=0.0051)

    def test_far_out_it_is_never_0_and_an_undefined_t_has_no_p(self):
        p = dunnett([40.0, None], [0.5, 0.5], math.inf)
        assert p[1] is None
        assert 0.0 < p[0] < 1e-200


class TestWeightedHolm:
    def test_equal_weights_are_holm(self):
        p = [0.01, 0.04, None, 0.03, 0.5]
        assert weighted_holm(p, [2.0] * 5) == pytest.approx(holm(p))
        known = [0.01, 0.04, 0.03, 0.5]
        assert weighted_holm(known, [1.0] * 4) == pytest.approx(list(multipletests(known, method="holm")[1]))

    def test_each_p_meets_its_share_first(self):
        """0.03 against 0.04 of 0.05 passes; then 0.04 may use all of it."""
        assert weighted_holm([0.03, 0.04], [0.8, 0.2]) == pytest.approx([0.0375, 0.04])
        assert weighted_holm([0.03, 0.04], [0.2, 0.8]) == pytest.approx([0.05, 0.05])


class TestFutility:
    def test_bounds_are_gsdesigns(self):
        """R: gsDesign(k = 3, test.type = 4, alpha = .025, beta = .1), its defaults; as in its manual."""
        share = [1 / 3, 2 / 3, 1.0]

        def hwang(t, level, gamma):
            return level * (1 - math.exp(-gamma * t)) / (1 - math.exp(-gamma))

        upper = [z for z, _ in bounds_of([2 * hwang(t, 0.025, -4) for t in share], correlations(share))]
        assert upper == pytest.approx([3.0107, 2.5465, 1.9992], abs=5e-5)
        drift = math.sqrt(1.06988) * (stats.norm.ppf(0.975) + stats.norm.ppf(0.9))
        lower = futility_bounds(share, upper, drift=drift, beta=0.1, spent_by=[hwang(t, 0.1, -2) for t in share])
        assert lower == pytest.approx([-0.2387, 0.9410, 1.9992], abs=2e-4)

    def test_stops_overlook_the_planned_effect_as_often_as_they_may(self):
        share = [0.25, 0.5, 0.75, 1.0]
        upper = [look.z for look in bounds(share)]
        lower = futility_bounds(share, upper, drift=3.0, beta=0.15)[:-1]
        rng = np.random.default_rng(2)
        path = np.cumsum(rng.normal(0.25 * 3.0, 0.5, (200_000, 4)), axis=1) / np.sqrt(share)
        done, stopped = np.zeros(len(path), bool), 0
        for look, low in enumerate(lower):
            stopped += int((~done & (path[:, look] < low)).sum())
            done |= (path[:, look] < low) | (path[:, look] > upper[look])
        from abtest.stats.spending import spent

        assert stopped / len(path) == pytest.approx(spent(0.75, 0.15), abs=0.002)

    def test_conditional_power_by_simulation_of_the_rest(self):
        rng = np.random.default_rng(0)
        z, t, drift, bound = 1.2, 0.4, 2.9, 2.0
        rest = rng.normal(0.0, math.sqrt(1 - t), 400_000)
        found = conditional_power(z, t, bound=bound, drift=drift)
        so_far = z * math.sqrt(t)
        assert found.planned == pytest.approx((so_far + drift * (1 - t) + rest > bound).mean(), abs=0.003)
        trend = z / math.sqrt(t)
        assert found.current == pytest.approx((so_far + trend * (1 - t) + rest > bound).mean(), abs=0.003)
        drifts = trend + rng.normal(0.0, 1.0 / math.sqrt(t), len(rest))
        assert found.predictive == pytest.approx((so_far + drifts * (1 - t) + rest > bound).mean(), abs=0.003)


class TestPosterior:
    def test_flat_prior_is_the_one_sided_p(self):
        found = posterior(0.02, 0.01, NormalPrior())
        assert found.beats_control == pytest.approx(stats.norm.sf(0.0, 0.02, 0.01))
        assert found.interval == pytest.approx(stats.norm.interval(0.95, 0.02, 0.01))

    def test_is_bayes_rule_on_a_grid_and_losses_are_integrals(self):
        """gbstats: prior precision weighting, chance to win, expected loss; here as integrals."""
        lift, se, prior = 0.03, 0.02, NormalPrior(0.01, 0.015)
        grid = np.linspace(-0.3, 0.3, 600_001)
        density = stats.norm.pdf(lift, grid, se) * stats.norm.pdf(grid, prior.mean, prior.sd)
        density /= integrate.trapezoid(density, grid)
        found = posterior(lift, se, prior, good="down", margin=0.01)
        assert found.mean == pytest.approx(integrate.trapezoid(grid * density, grid), rel=1e-6)
        assert found.beats_control == pytest.approx(integrate.trapezoid(density * (grid < 0), grid), rel=1e-4)
        assert found.within_margin == pytest.approx(integrate.trapezoid(density * (grid < 0.01), grid), rel=1e-4)
        loss = integrate.trapezoid(np.maximum(grid, 0.0) * density, grid)
        assert found.loss_if_shipped == pytest.approx(loss, rel=1e-6)
        kept = integrate.trapezoid(np.maximum(-grid, 0.0) * density, grid)
        assert found.loss_if_kept == pytest.approx(kept, rel=1e-4)

    def test_the_intervals_of_a_true_prior_hold_the_lift(self):
        """Lifts drawn from the prior lie within 95 % intervals in 95 % of the tests."""
        rng = np.random.default_rng(4)
        lifts = rng.normal(0.005, 0.01, 4000)
        seen = rng.normal(lifts, 0.02)
        held = [
            low < lift < high
            for lift, s in zip(lifts, seen, strict=True)
            for low, high in [posterior(s, 0.02, NormalPrior(0.005, 0.01)).interval]
        ]
        assert np.mean(held) == pytest.approx(0.95, abs=0.012)

    def test_prior_takes_the_noise_off_the_spread(self):
        rng = np.random.default_rng(6)
        ses = rng.uniform(0.005, 0.02, 3000)
        found = prior_of(list(rng.normal(0.004, 0.01, 3000) + rng.normal(0.0, ses)), list(ses))
        assert (found.mean, found.sd) == pytest.approx((0.004, 0.01), abs=0.0008)
        nothing = prior_of(list(rng.normal(0.0, ses)), list(ses))
        assert nothing.sd < 0.004


class TestNullsAndMargins:
    def arms(self, seed: int = 0) -> tuple[Moments, Moments]:
        rng = np.random.default_rng(seed)
        return Moments.of({"y": rng.gamma(2.0, 2.0, 300)}), Moments.of({"y": rng.gamma(2.0, 2.2, 350)})

    def test_a_null_lift_is_the_test_of_scaled_controls(self):
        """T against (1 + null) C, both as samples, by scipy."""
        rng = np.random.default_rng(0)
        c, t = rng.gamma(2.0, 2.0, 300), rng.gamma(2.0, 2.2, 350)
        found = welch(Moments.of({"y": c}), Moments.of({"y": t}), "y", null=0.03)
        expected = stats.ttest_ind(t, 1.03 * c, equal_var=False)
        assert (found.t, found.df, found.p) == pytest.approx((expected.statistic, expected.df, expected.pvalue))

    @pytest.mark.parametrize("seed", range(6))
    def test_the_interval_excludes_the_null_exactly_where_p_rejects(self, seed):
        control, treatment = self.arms(seed)
        for null in (-0.05, 0.0, 0.02, 0.1, 0.25):
            found = welch(control, treatment, "y", null=null)
            low, high = found.lift_ci
            assert found.rejects == (not low <= null <= high)

    @pytest.mark.parametrize("seed", range(3))
    def test_so_it_is_for_covariates_strata_and_ratios(self, seed):
        rng = np.random.default_rng(seed)
        arms = []
        for lift in (1.0, 1.05):
            x = rng.gamma(2.0, 2.0, 400)
            arms.append({"y": rng.poisson(lift * x).astype(float), "x": x, "m": x + rng.random(400), "s": x > 4.0})
        c, t = (Moments.of({name: one[name] for name in "yxm"}) for one in arms)
        strata = [{key: Moments.of({"y": one["y"][one["s"] == key]}) for key in (False, True)} for one in arms]
        for null in (-0.03, 0.02, 0.05, 0.2):
            tests = [cuped(c, t, "y", ["x"], null=null).estimate, post_stratified(*strata, "y", null=null)]
            tests.append(welch(c, t, ("y", "m"), null=null))
            for found in tests:
                low, high = found.lift_ci
                assert found.rejects == (not low <= null <= high)

    def test_equivalence_holds_where_the_interval_lies_within(self):
        control, treatment = self.arms()
        found = welch(control, treatment, "y")
        low, high = found.lift_ci
        assert equivalence(found.contrast, low - 1e-6, high + 1e-6).holds
        assert not equivalence(found.contrast, min(low + 1e-6, -1e-9), high + 1.0).holds or low > 0
        assert not equivalence(found.contrast, -1.0, high - 1e-6).holds

    def test_equivalence_is_two_scipy_tests(self):
        rng = np.random.default_rng(1)
        c, t = rng.gamma(4.0, 2.0, 900), rng.gamma(4.0, 2.0, 800)
        found = equivalence(welch(Moments.of({"y": c}), Moments.of({"y": t}), "y").contrast, -0.1, 0.08)
        lower = stats.ttest_ind(t, 0.9 * c, equal_var=False, alternative="greater").pvalue
        upper = stats.ttest_ind(t, 1.08 * c, equal_var=False, alternative="less").pvalue
        assert (found.p_low, found.p_high) == pytest.approx((lower, upper))

    def test_an_arm_that_does_not_vary_has_no_p(self):
        still = Contrast(0.0, 1.0, (NoisePart(0.0, 0.0, 0.0, 5.0),))
        assert equivalence(still, -0.1, 0.1).p is None
