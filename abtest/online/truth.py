"""The true effect of a treatment: the same users with the same noise, all under control and all under treatment.

The lift is that of the metric over all users of the experiment. Its standard error is the Monte-Carlo error of this
one pair of worlds: paired by user, so that what both worlds share cancels (linearised, as the delta method has it).
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.analysis.effects import Question
from abtest.analysis.measure import values
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import UserLog, log_of, slice_column, slice_name

AFTER = "\x1ftreatment"  # marks a column of the treatment's world


class TrueLift(NamedTuple):
    """What a treatment does to a metric.

    Attributes:
        lift: True relative effect.
        se: Its Monte-Carlo error.
    """

    lift: float
    se: float


def true_lifts(control: pl.DataFrame, treatment: pl.DataFrame, plan: AnalysisPlan) -> dict[Question, TrueLift]:
    """True lifts of every metric the log has, of everybody and by slice.

    Args:
        control: User-days of the all-control world, see ``measures.user_days``.
        treatment: The same of the world where everybody is in the plan's only treatment.
        plan: Metrics and names of the arms.
    """
    (arm,) = plan.treatments
    shift = 1 + int(pl.concat([control["user_id"], treatment["user_id"]]).to_numpy().max(initial=0))
    rows = pl.concat(
        [
            control.with_columns(arm=pl.lit(plan.control)),
            treatment.with_columns(arm=pl.lit(arm), user_id=pl.col("user_id") + shift),
        ]
    )
    log = log_of(rows, plan)
    pairs = _pairs(log, plan.control, shift)
    found: dict[Question, TrueLift] = {}
    for metric in log.metrics:
        for name, chosen in _slices(log, pairs).items():
            if metric.slice in (ALL, name) and (lift := _lift(metric, pairs.filter(chosen))) is not None:
                found[metric.name, name, arm] = lift
    return found


def _pairs(log: UserLog, control: str, shift: int) -> pl.DataFrame:
    """One row per user of either world: values in both, 0 where they did not come; slices are of before both."""
    columns = values(log.metrics)
    slices = [slice_column(name) for name in log.slices]
    table = log.users.select("user_id", "arm", *slices, **columns).collect()
    first = table.filter(pl.col("arm") == control).drop("arm")
    second = table.filter(pl.col("arm") != control).with_columns(user_id=pl.col("user_id") - shift)
    second = second.select("user_id", *slices, **{f"{text}{AFTER}": pl.col(text) for text in columns})
    pairs = first.join(second, on="user_id", how="full", coalesce=True, suffix=AFTER).sort("user_id")
    both = [name for text in columns for name in (text, f"{text}{AFTER}")]
    return pairs.with_columns(
        *(pl.coalesce(name, f"{name}{AFTER}") for name in slices), *(pl.col(name).fill_null(0) for name in both)
    )


def _slices(log: UserLog, pairs: pl.DataFrame) -> dict[str, pl.Series]:
    found = {ALL: pl.Series([True] * len(pairs), dtype=pl.Boolean)}
    for column, labels in log.slices.items():
        for label in labels:
            found[slice_name(column, label)] = pairs[slice_column(column)] == label
    return found


def _lift(metric: Metric, pairs: pl.DataFrame) -> TrueLift | None:
    """None where control has nothing to be relative to, or there are no two users."""
    before, after = _column(pairs, metric.value.text)
    per_before = per_after = np.ones(len(before))
    if metric.per is not None:
        per_before, per_after = _column(pairs, metric.per.text)
    if len(before) < 2 or not before.sum() or not per_before.sum() or not per_after.sum():
        return None
    low, high = before.sum() / per_before.sum(), after.sum() / per_after.sum()
    ratio = high / low
    spread = (after - high * per_after) / per_after.mean() - ratio * (before - low * per_before) / per_before.mean()
    return TrueLift(float((high - low) / abs(low)), float(spread.std(ddof=1) / abs(low) / np.sqrt(len(before))))


def _column(pairs: pl.DataFrame, text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = (pairs[text], pairs[f"{text}{AFTER}"])
    first, second = (column.cast(pl.Float64).to_numpy() for column in columns)
    return first, second
