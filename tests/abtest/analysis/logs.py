"""Small logs whose answers are known."""

from typing import Any

import numpy as np
import polars as pl

from abtest.analysis.analysis import Analysis, analyse
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import UserLog, log_of

AB = AnalysisPlan("A", ("B",), planned_days=7)


def users(n: int = 2000, *, lift: float = 0.0, seed: int = 1, **columns: Any) -> pl.DataFrame:
    """One row per user, two arms in turn; clicks of B are ``1 + lift`` times as many on average."""
    rng = np.random.default_rng(seed)
    arm = np.arange(n) % 2
    taste = rng.gamma(2.0, 1.0, n)
    clicks = rng.poisson(taste * np.where(arm == 1, 1.0 + lift, 1.0))
    table = {
        "user_id": np.arange(n),
        "arm": np.where(arm == 1, "B", "A"),
        "clicks": clicks,
        "dwell_s": clicks * rng.lognormal(3.0, 0.5, n),
        "likes": rng.binomial(clicks, 0.2),
        "follows": rng.binomial(clicks, 0.1),
        "impressions": clicks + rng.poisson(3.0, n),
        "cold": np.arange(n) % 10 < 2,
        "pre_clicks": rng.poisson(taste),
    }
    return pl.DataFrame({**table, **columns})


def days(n: int = 600, length: int = 7, *, lift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """One row per user and day of activity; two arms in turn, everybody there on day 1."""
    rng = np.random.default_rng(seed)
    taste = rng.gamma(2.0, 1.0, n)
    parts = []
    for day in range(1, length + 1):
        here = np.flatnonzero((rng.random(n) < 0.5) | (day == 1))
        arm = here % 2
        clicks = rng.poisson(taste[here] * np.where(arm == 1, 1.0 + lift, 1.0))
        part = {"user_id": here, "arm": np.where(arm == 1, "B", "A"), "day": np.full(len(here), day), "clicks": clicks}
        parts.append(pl.DataFrame({**part, "dwell_s": clicks * 10.0 + 1.0, "cold": here % 10 < 2}))
    return pl.concat(parts)


def read(table: pl.DataFrame, plan: AnalysisPlan = AB) -> UserLog:
    return log_of(table, plan)


def analysed(table: pl.DataFrame, plan: AnalysisPlan = AB, **more: Any) -> Analysis:
    return analyse(log_of(table, plan), plan, **more)


def effect(analysis: Analysis, metric: str, where: str = "all", family: str | None = None) -> Any:
    """The one effect of a metric in a slice."""
    (found,) = [
        e
        for e in analysis.effects
        if e.metric.name == metric and e.slice == where and (family is None or e.family == family)
    ]
    return found
