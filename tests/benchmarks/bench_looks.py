"""False alarms of looking every day, and the power that a report promises, over thousands of simulated tests.

    python tests/benchmarks/bench_looks.py

Nothing differs between the arms. Users come on one day each, or all on the first and again on every other, as much as
they did before or not. "Calendar" spends the level by days and takes the looks for as alike as days are, as former
versions did. "Each evening" is what somebody meets who follows a test: the bound of a look is made of what is known on
its day. "At the end" reads all looks off the whole log. "Planned" when the number of users was planned.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from abtest.analysis.daily_looks import schedules
from abtest.stats.power import Baseline, detectable_lift
from abtest.stats.spending import bounds

RAMPS = {
    "equal days": [2000] * 7,
    "ramp": [100, 100, 500, 1000, 2500, 5000, 5000],
    "front-loaded": [5000, 5000, 2500, 1000, 500, 100, 100],
    "one large day": [300, 300, 300, 6000, 300, 300, 300],
    "campaign at the end": [1000, 1000, 1000, 1000, 1000, 1000, 20000],
}


class FalseAlarms(NamedTuple):
    """Share of the tests in which some look crossed its bound."""

    calendar: float
    at_the_end: float
    live: float
    live_planned: float


def z_by_day(users: list[int], tests: int, seed: int, *, heavy: bool) -> tuple[NDArray, NDArray]:
    """Z after each day, shape (tests, days), and the information in hand, shape (days,), of users who come once."""
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
        information.append(float(counts))
    return np.array(z).T, np.array(information)


def z_of_the_same_users(n: int, days: int, tests: int, seed: int, *, faithful: float) -> tuple[NDArray, NDArray]:
    """The same for users who all come every day; ``faithful`` is the share of the variance of a day that is theirs."""
    rng = np.random.default_rng(seed)
    z = np.zeros((tests, days))
    for test in range(tests):
        taste = rng.normal(0.0, np.sqrt(faithful), (2, n, 1))
        so_far = np.cumsum(taste + rng.normal(0.0, np.sqrt(1.0 - faithful), (2, n, days)), axis=2)
        noise = np.sqrt(so_far.var(axis=1, ddof=1).sum(axis=0) / n)
        z[test] = (so_far[1].mean(axis=0) - so_far[0].mean(axis=0)) / noise
    k = np.arange(1, days + 1)
    return z, k / (k * faithful + 1.0 - faithful)


def false_alarms(users: list[int], *, tests: int, seed: int, heavy: bool = False) -> FalseAlarms:
    """Every way of spending on the same tests of users who come once."""
    z, information = z_by_day(users, tests, seed, heavy=heavy)
    return alarms_of(z, information, np.cumsum(users).tolist())


def alarms_of(z: NDArray, information: NDArray, users: list[int]) -> FalseAlarms:
    """Every way of spending on the same tests.

    Args:
        z: Z after each day, shape (tests, days).
        information: In hand after each day, shape (days,).
        users: After each day.
    """
    days = len(users)

    def crossed(found: list[float]) -> float:
        return float((np.abs(z) > np.array(found)).any(axis=1).mean())

    def live(planned: int | None) -> float:
        found = []
        for day in range(1, days + 1):  # nothing of a later day is there yet
            schedule = schedules(information[:day], users[:day], planned_days=days, planned_users=planned)[-1]
            found.append(schedule.bounds()[-1].z)
        return crossed(found)

    whole = schedules(information, users, planned_days=days)[-1]
    calendar = crossed([look.z for look in bounds([k / days for k in range(1, days + 1)])])
    return FalseAlarms(calendar, crossed([look.z for look in whole.bounds()]), live(None), live(users[-1]))


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


def _print(label: str, rates: FalseAlarms) -> None:
    cells = f"{rates.calendar:10.1%}{rates.at_the_end:12.1%}{rates.live:14.1%}{rates.live_planned:9.1%}"
    print(f"{label:40}{cells}", flush=True)


def main() -> None:
    tests = 4000
    print(f"{tests:,} tests each; chance alone leaves 4.3 to 5.7 % of a rate of 5 %")
    print(f"{'users a day and arm':40}{'calendar':>10}{'at the end':>12}{'each evening':>14}{'planned':>9}")
    for heavy in (False, True):
        for name, users in RAMPS.items():
            label = f"{name}{', log-normal users' if heavy else ''}"
            _print(label, false_alarms(users, tests=tests, seed=1, heavy=heavy))
    for faithful in (0.0, 0.3, 0.9):
        z, information = z_of_the_same_users(200, 7, tests, 1, faithful=faithful)
        label = f"the same users every day, {100 * faithful:.0f} % theirs"
        _print(label, alarms_of(z, information, [400] * 7))
    for metrics in (1, 2, 3):
        for daily in (False, True):
            rate = found_at_the_promised_lift(metrics, daily=daily, tests=tests, seed=2)
            what = f"{metrics} primary metrics{', daily looks' if daily else ''}"
            print(f"{what}: found in {rate:.1%} at the lift that is promised to be found in 80 %", flush=True)


if __name__ == "__main__":
    main()
