"""Do tests on clusters, switchbacks and several arms hold their level, and does a CUPED plan have its power?

PYTHONPATH=. python tests/benchmarks/bench_designs.py [clusters|switchback|power|arms|futility] [replications]
"""

import sys
from collections.abc import Callable

import numpy as np

from abtest.stats.clusters import cluster_moments
from abtest.stats.cuped import cuped
from abtest.stats.dunnett import dunnett
from abtest.stats.estimate import Estimate
from abtest.stats.futility import futility_bounds
from abtest.stats.moments import Moments
from abtest.stats.multiplicity import holm
from abtest.stats.power import Baseline, users_needed
from abtest.stats.spending import bounds
from abtest.stats.welch import welch

Floats = np.ndarray


def clusters(replications: int) -> None:
    """False alarms and coverage of a lift of 20 %, by clusters, spread of their sizes and what users share."""
    rng = np.random.default_rng(1)
    print(f"{replications:,} replications; users in a cluster: 30 in the middle, log-normal with sd s; shared share r")
    print(f"{'clusters':>8} {'s':>5} {'r':>5} {'false alarms':>13} {'coverage':>9} {'as users':>9}")
    for count in (8, 20, 100):
        for spread in (0.0, 0.3, 0.6):
            for shared in (0.02, 0.1, 0.5):
                null = [_cluster_test(rng, count, spread, shared, 0.0) for _ in range(replications)]
                lifted = [_cluster_test(rng, count, spread, shared, 0.2)[0] for _ in range(replications)]
                alarms = np.mean([one.rejects for one, _ in null])
                naive = np.mean([plain.rejects for _, plain in null])
                held = np.mean([one.lift_ci is not None and one.lift_ci[0] <= 0.2 <= one.lift_ci[1] for one in lifted])
                print(f"{count:>8} {spread:>5} {shared:>5} {alarms:>13.2%} {held:>9.2%} {naive:>9.2%}")


def _cluster_test(
    rng: np.random.Generator, count: int, spread: float, shared: float, lift: float
) -> tuple[Estimate, Estimate]:
    """By cluster, and as if users were independent."""
    arms, users = [], []
    for arm in range(2):
        scale = 1.0 + lift * arm
        sizes = np.maximum(np.round(30.0 * rng.lognormal(0.0, spread, count // 2)), 2.0)
        taste = 5.0 + np.sqrt(shared) * rng.normal(size=count // 2)
        sums = scale * (sizes * taste + np.sqrt((1.0 - shared) * sizes) * rng.normal(size=count // 2))
        within = scale**2 * (1.0 - shared) * rng.chisquare(sizes - 1.0)  # normal users: their squares, by cluster
        arms.append(cluster_moments(["y"], sums[:, None], sizes))
        mean = sums.sum() / sizes.sum()
        squares = within.sum() + (sizes * (sums / sizes - mean) ** 2).sum()
        users.append(Moments(("y",), int(sizes.sum()), np.array([mean]), np.array([[squares]])))
    return welch(arms[0], arms[1], "y"), welch(users[0], users[1], "y")


def switchback(replications: int) -> None:
    """False alarms, coverage and bias with effects that last into the next period, with and without a washout."""
    rng = np.random.default_rng(2)
    print(f"{replications:,} replications; 4 regions, 168 periods of 120 minutes; lift 10 %, lasting for m minutes")
    print(f"{'m':>4} {'washout':>8} {'estimator':>10} {'false alarms':>13} {'coverage':>9} {'mean':>8} {'se':>8}")
    for carry in (0, 20, 40):
        for washout in sorted({0, carry}):
            for name, test in (("welch", _plain), ("cuped", _with_places)):
                null = [test(*_periods(rng, 0.0, carry, washout)) for _ in range(replications)]
                lifted = [test(*_periods(rng, 0.1, carry, washout)) for _ in range(replications)]
                alarms = np.mean([one.rejects for one in null])
                held = np.mean([one.lift_ci[0] <= 0.1 <= one.lift_ci[1] for one in lifted])
                mean, se = np.mean([one.lift for one in lifted]), np.mean([one.lift_se for one in lifted])
                print(f"{carry:>4} {washout:>8} {name:>10} {alarms:>13.2%} {held:>9.2%} {mean:>+8.4f} {se:>8.4f}")


def _periods(rng: np.random.Generator, lift: float, carry: int, washout: int) -> tuple[Floats, Floats, Floats]:
    """Totals, arms and regions of periods; demand follows the hour and drifts, so that neighbours go together."""
    regions, periods = 4, 168
    arm = rng.integers(0, 2, (regions, periods))
    before = np.concatenate([arm[:, :1], arm[:, :-1]], axis=1)
    drift = np.zeros((regions, periods))
    for period in range(1, periods):
        drift[:, period] = 0.7 * drift[:, period - 1] + rng.normal(0.0, 0.08, regions)
    daily = 1.3 + np.sin(np.arange(periods) * np.pi / 6.0)
    rate = 0.5 * np.array([0.6, 0.8, 1.1, 1.5])[:, None] * daily * np.exp(drift)
    own, old = 120 - max(carry, washout), max(carry - washout, 0)
    total = rng.poisson(rate * own * (1.0 + lift * arm)) + rng.poisson(rate * old * (1.0 + lift * before))
    region = np.repeat(np.arange(regions), periods)
    return total.ravel().astype(float), arm.ravel(), region


def _plain(total: Floats, arm: Floats, region: Floats) -> Estimate:
    return welch(Moments.of({"y": total[arm == 0]}), Moments.of({"y": total[arm == 1]}), "y")


def _with_places(total: Floats, arm: Floats, region: Floats) -> Estimate:
    """Regions and hours as covariates, as analyze makes them."""
    hour = np.tile(np.arange(168) % 12, 4)
    columns = {"y": total}
    columns |= {f"place {one}": (region == one).astype(float) for one in range(1, 4)}
    columns |= {f"starts {one}": (hour == one).astype(float) for one in range(1, 12)}
    sides = [Moments.of({name: values[arm == one] for name, values in columns.items()}) for one in (0, 1)]
    return cuped(sides[0], sides[1], "y", [name for name in columns if name != "y"]).estimate


def power(replications: int) -> None:
    """Power of tests whose users were planned for a CUPED estimate, at the planned lift."""
    rng = np.random.default_rng(3)
    print(f"{replications:,} replications; planned power .80 of CUPED")
    for lift, likeness in ((0.02, 0.5), (0.05, 0.8), (0.1, 0.3)):
        taste = rng.gamma(2.0, 1.0, 200_000)
        past, before = _clicks(rng, taste, likeness)
        moments = Moments.of({"y": past, "x": before})
        left = 1.0 - np.corrcoef(past, before)[0, 1] ** 2
        base = Baseline("y", moments.mean_of("y"), moments.var_of("y"), left)
        plan = users_needed(base, lift)
        found = np.mean([_found(rng, plan.n_control, lift, likeness) for _ in range(replications)])
        print(f"lift {lift:.0%}, {left:.0%} of the variance left, {2 * plan.n_control:,} users: power {found:.3f}")


def _clicks(rng: np.random.Generator, taste: Floats, likeness: float, lift: float = 0.0) -> tuple[Floats, Floats]:
    busy = 1.0 / (1.0 - likeness)
    return rng.poisson(busy * taste * (1.0 + lift)).astype(float), rng.poisson(busy * taste).astype(float)


def _found(rng: np.random.Generator, n: int, lift: float, likeness: float) -> bool:
    arms = []
    for effect in (0.0, lift):
        value, before = _clicks(rng, rng.gamma(2.0, 1.0, n), likeness, effect)
        arms.append(Moments.of({"y": value, "x": before}))
    return bool(cuped(arms[0], arms[1], "y", ["x"]).estimate.rejects)


def arms(replications: int) -> None:
    """Chance of any false alarm with three treatments and one control, unadjusted, by Holm and by Dunnett."""
    rng = np.random.default_rng(4)
    n = 200
    counts = {"unadjusted": 0, "Holm": 0, "Dunnett": 0}
    for _ in range(replications):
        sides = [Moments.of({"y": rng.gamma(2.0, 1.0, n)}) for _ in range(4)]
        found = [welch(sides[0], one, "y") for one in sides[1:]]
        shares = [sides[0].var_of("y") / n / one.se**2 for one in found]
        counts["unadjusted"] += any(one.rejects for one in found)
        counts["Holm"] += min(holm([one.p for one in found])) < 0.05
        counts["Dunnett"] += min(dunnett([one.t for one in found], shares, min(one.df for one in found))) < 0.05
    for name, count in counts.items():
        print(f"{name}: any false alarm in {count / replications:.2%} of {replications:,} tests of 3 treatments")


def futility(replications: int) -> None:
    """False alarms and power of five looks with a futility bound that is obeyed, and that is not."""
    rng = np.random.default_rng(5)
    share = np.arange(1, 6) / 5.0
    upper = np.array([look.z for look in bounds(list(share))])
    drift = 1.959964 + 0.841621
    low = np.array(futility_bounds(list(share), list(upper), drift=drift))
    for obeyed in (True, False):
        for name, mean in (("no effect", 0.0), ("planned effect", drift)):
            steps = rng.normal(mean / 5.0, np.sqrt(0.2), (replications, 5))
            path = np.cumsum(steps, axis=1) / np.sqrt(share)
            stopped = (path < low) & (np.arange(5) < 4) & obeyed
            over = np.cumsum(stopped, axis=1)[:, :-1].astype(bool)
            alive = np.concatenate([np.ones((replications, 1), bool), ~over], axis=1)
            better = ((path > upper) & alive).any(axis=1).mean()
            early = stopped.any(axis=1).mean()
            print(f"bound {'obeyed' if obeyed else 'ignored'}, {name}: found better {better:.2%}, futile {early:.2%}")


QUESTIONS: dict[str, tuple[Callable[[int], None], int]] = {
    "clusters": (clusters, 1500),
    "switchback": (switchback, 500),
    "power": (power, 1000),
    "arms": (arms, 2_000),
    "futility": (futility, 400_000),
}

if __name__ == "__main__":
    names = [sys.argv[1]] if len(sys.argv) > 1 else list(QUESTIONS)
    for name in names:
        question, usual = QUESTIONS[name]
        question(int(sys.argv[2]) if len(sys.argv) > 2 else usual)
