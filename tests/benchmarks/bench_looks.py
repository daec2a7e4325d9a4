"""False alarms of looking every day, and the power that a report promises, over thousands of simulated tests.

    python tests/benchmarks/bench_looks.py

Users come on one day each; nothing differs between the arms. "calendar" spends the level by days, as former versions
did; "at the end" by the information that the whole log shows; "live" each evening by what is known then, which is what
somebody meets who follows a test; "live, planned" when the number of users was planned.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from abtest.analysis.looks import information_shares
from abtest.stats.power import Baseline, detectable_lift
from abtest.stats.spending import bounds

RAMPS = {
    "equal days": [2000] * 7,
    "ramp": [100, 100, 500, 1000, 2500, 5000, 5000],
    "front-loaded": [5000, 5000, 2500, 1000, 500, 100, 100],
}


class FalseAlarms(NamedTuple):
    """Share of the tests in which some look crossed its bound."""

    calendar: float
    at_the_end: float
    live: float
    live_planned: float


def z_by_day(users: list[int], tests: int, seed: int, *, heavy: bool) -> tuple[NDArray, NDArray]:
    """Z after each day, shape (tests, days), and the variance of the summed difference, shape (days,)."""
    rng = np.random.default_rng(seed)
    sums, squares, counts = np.zeros((2, tests)), np.zeros((2, tests)), 0
    z, information = [], []
    for n in users:
        for arm in range(2):
            for first in range(0, tests, 500):  # in parts, so that memory stays small
                shape = (min(500, tests - first), n)
                values = rng.lognormal(0.0, 1.0, shape) if heavy else rng.poisson(rng.gamma(2.0, 1.0, shape))
                sums[arm, first : first + 500] += values.sum(axis=1)
                squares[arm, first : first + 500] += (values.astype(np.float64) ** 2).sum(axis=1)
        counts += n
        variance = (squares - sums**2 / counts) / (counts - 1)
        z.append((sums[1] - sums[0]) / counts / np.sqrt(variance.sum(axis=0) / counts))
        information.append(counts * float(variance.mean()))
    return np.array(z).T, np.array(information)


def false_alarms(users: list[int], *, tests: int, seed: int, heavy: bool = False) -> FalseAlarms:
    """Every way of spending on the same tests."""
    days, so_far = len(users), np.cumsum(users).tolist()
    z, information = z_by_day(users, tests, seed, heavy=heavy)

    def alarms(shares: list[float]) -> float:
        return float((np.abs(z) > np.array([look.z for look in bounds(shares)])).any(axis=1).mean())

    def live(planned: int | None) -> float:
        stopped = np.zeros(tests, bool)
        for day in range(1, days + 1):
            amounts, counts = information[:day].tolist(), so_far[:day]
            shares = information_shares(amounts, counts, planned_days=days, planned_users=planned)
            stopped |= np.abs(z[:, day - 1]) > bounds(shares)[-1].z
        return float(stopped.mean())

    whole = information_shares(information.tolist(), so_far, planned_days=days)
    return FalseAlarms(alarms([k / days for k in range(1, days + 1)]), alarms(whole), live(None), live(so_far[-1]))


def found_at_the_promised_lift(metrics: int, *, daily: bool, tests: int, seed: int, n: int = 2000) -> float:
    """Share of the tests that find one of several primary metrics at the lift that a report promises to find."""
    rng = np.random.default_rng(seed)
    looks = [k / 7 for k in range(1, 8)] if daily else [1.0]
    lift = detectable_lift(Baseline("x", 2.0, 4.0), n, n, alpha=bounds(looks, alpha=0.05 / metrics)[-1].alpha).lift
    assert lift is not None
    found = 0
    level = bounds(looks)[-1].alpha
    for _ in range(tests):
        control, treatment = rng.gamma(1.0, 2.0, (metrics, n)), rng.gamma(1.0, 2.0, (metrics, n))
        treatment[0] *= 1.0 + lift
        se = np.sqrt((control.var(axis=1, ddof=1) + treatment.var(axis=1, ddof=1)) / n)
        p = 2.0 * ndtr(-np.abs(treatment.mean(axis=1) - control.mean(axis=1)) / se)
        order = np.argsort(p)
        rejected = np.cumprod(p[order] <= level / np.arange(metrics, 0, -1)).astype(bool)  # Holm: until the first fails
        found += bool(rejected[np.flatnonzero(order == 0)[0]])
    return found / tests


def main() -> None:
    tests = 4000
    print(f"{tests:,} tests each; chance alone leaves 4.3 to 5.7 % of a rate of 5 %")
    print(f"{'users a day and arm':34}{'calendar':>10}{'at the end':>12}{'live':>8}{'live, planned':>15}")
    for heavy in (False, True):
        for name, users in RAMPS.items():
            rates = false_alarms(users, tests=tests, seed=1, heavy=heavy)
            label = f"{name}{', log-normal users' if heavy else ''}"
            cells = f"{rates.calendar:10.1%}{rates.at_the_end:12.1%}{rates.live:8.1%}{rates.live_planned:15.1%}"
            print(f"{label:34}{cells}", flush=True)
    for metrics in (1, 2, 3):
        for daily in (False, True):
            rate = found_at_the_promised_lift(metrics, daily=daily, tests=tests, seed=2)
            what = f"{metrics} primary metrics{', daily looks' if daily else ''}"
            print(f"{what}: found in {rate:.1%} at the lift that is promised to be found in 80 %", flush=True)


if __name__ == "__main__":
    main()
