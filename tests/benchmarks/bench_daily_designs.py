"""False alarms and power of tests that are read every day, with CUPED, with strata, and with units above the user.

PYTHONPATH=. python tests/benchmarks/bench_daily_designs.py [replications] [case ...]

Whole logs go the way of ``micrec analyze --looks daily``: rows to users, looks, levels. A test raises an alarm if any
of its looks crosses its bound; seen every evening or at the end, the looks are the same. Seven days, one metric.
"""

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from abtest.analysis.daily import measure_days
from abtest.analysis.daily_looks import looks_of
from abtest.analysis.design import Design
from abtest.analysis.effects import effects_of
from abtest.analysis.measure import measure
from abtest.analysis.metrics import BUILTIN
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.source import LogSource
from abtest.analysis.userlog import log_of
from tests.abtest.analysis.design_logs import daily_households

DAYS = 7
CLICKS = BUILTIN["ACC"]._replace(role="primary")
PLAN = AnalysisPlan(
    "A",
    ("B",),
    metrics=(CLICKS,),
    looks="daily",
    planned_days=DAYS,
    rows="days",
    checks=False,
    covariates=("pre_clicks",),
)


def users(seed: int, lift: float, *, again: float, n: int = 700) -> pl.DataFrame:
    """Users who come on a day of their own, and with probability ``again`` on every later one; half know their past."""
    rng = np.random.default_rng(seed)
    first, taste, arm = rng.integers(1, DAYS + 1, n), rng.gamma(2.0, 1.0, n), rng.integers(0, 2, n)
    before, cold = rng.poisson(4.0 * taste), rng.random(n) < 0.3
    taste = np.where(cold, 0.5 * taste, taste)
    rows = []
    for day in range(1, DAYS + 1):
        here = np.flatnonzero((first == day) | ((first < day) & (rng.random(n) < again)))
        clicks = rng.poisson(2.0 * taste[here] * (1.0 + lift * arm[here]))
        rows.append(
            pl.DataFrame(
                {
                    "user_id": here,
                    "arm": np.where(arm[here] == 1, "B", "A"),
                    "day": np.full(len(here), day),
                    "clicks": clicks,
                    "pre_clicks": before[here],
                    "cold": cold[here],
                }
            )
        )
    return pl.concat(rows)


def daily(log: pl.DataFrame, plan: AnalysisPlan) -> bool:
    """Whether any look of this log crosses its bound."""
    read = log_of(log, plan, LogSource("simulated", ""))
    found = measure_days(read, plan.design, "cold" if "cold" in read.slices else None)
    assert found is not None
    assert read.days is not None
    return any(look.crossed for look in looks_of(found, plan, read.days))


def once(log: pl.DataFrame, plan: AnalysisPlan) -> bool:
    """Whether one look at the end does."""
    read = log_of(log, plan, LogSource("simulated", ""))
    found = effects_of(measure(read, plan.arms), read.metrics, plan, {"B": plan.alpha})
    p = next(one for one in found if one.family == "primary").estimate.p
    return p is not None and p < plan.alpha


def rates(
    replications: int, make: Callable[[int, float], pl.DataFrame], design: Design, lift: float, *, looks: bool = True
) -> str:
    """False alarms and power, in per cent."""
    plan = replace(PLAN, looks="daily" if looks else "final", design=design)
    read = daily if looks else once
    alarms = np.mean([read(make(seed, 0.0), plan) for seed in range(replications)])
    print(f"  false alarms {alarms:.2%} of {replications:,}", flush=True)
    found = np.mean([read(make(seed, lift), plan) for seed in range(replications // 4)])
    return f"false alarms {alarms:.2%}, found a lift of {lift:.0%} in {found:.1%}"


CASES: dict[str, Callable[[int], str]] = {}
for _again in (0.0, 0.5):
    for _estimator in ("welch", "cuped", "poststratified"):
        CASES[f"users, back on {_again:.0%} of days, {_estimator}"] = lambda n, again=_again, estimator=_estimator: (
            rates(n, lambda seed, lift: users(seed, lift, again=again), Design(estimator=estimator), 0.2)
        )
for _clusters, _lift in ((8, 0.8), (20, 0.5), (100, 0.2)):
    for _estimator in ("welch", "cuped", "poststratified"):
        CASES[f"{_clusters} clusters, {_estimator}"] = lambda n, count=_clusters, lift=_lift, estimator=_estimator: (
            rates(
                n,
                lambda seed, size: daily_households(count, days=DAYS, lift=size, per=12.0, seed=seed),
                Design(estimator=estimator, unit=("household",)),
                lift,
                looks=estimator != "poststratified",
            )
        )


def main(replications: int, wanted: list[str]) -> None:
    noise = 21.8 / replications**0.5
    print(f"{replications:,} replications of false alarms: a standard error of {noise:.2f} points of 5 %")
    for name in wanted or CASES:
        how = "once" if "clusters, post" in name else "every day"
        print(f"{name}, read {how}: {CASES[name](replications)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000, sys.argv[2:])
