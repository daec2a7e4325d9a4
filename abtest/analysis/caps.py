"""Caps on extreme users: thresholds over all arms' users together, as thresholds by arm would bias the comparison."""

from collections.abc import Sequence

import polars as pl

from abtest.analysis import expressions
from abtest.analysis.expressions import Expression
from abtest.analysis.metrics import CapConfig, Metric
from micrec.errors import MicrecError

UNCAPPED = "uncapped"  # name of a capped metric's estimate without its cap
NOTHING_BELOW_CAP = (
    "the 99th percentile of all users is 0, as fewer than 1 % of them have any: capped there nothing is left; "
    "a metric of --metrics can cap among those who have any (cap: {upper: 0.99, among: nonzero})"
)


def with_caps(users: pl.LazyFrame, metrics: Sequence[Metric], where: str, notes: list[str]) -> list[Metric]:
    """The metrics with capped expressions in place of those that are to be capped.

    Args:
        users: One row per user.
        metrics: What is measured.
        where: The log, for messages.
        notes: Thresholds are added to them.

    Raises:
        MicrecError: If a cap would make all values equal; all such metrics at once.
    """
    faults: list[str] = []
    capped = [_capped(users, metric, faults, notes) if metric.cap is not None else metric for metric in metrics]
    if faults:
        raise MicrecError.of(where, faults)
    return capped


def _capped(users: pl.LazyFrame, metric: Metric, faults: list[str], notes: list[str]) -> Metric:
    assert metric.cap is not None
    value, per = metric.value, metric.per
    if per is None or metric.cap.side != "denominator":
        value = _clipped(users, metric, value, "" if per is None else ", numerator", faults, notes)
    if per is not None and metric.cap.side != "numerator":
        per = _clipped(users, metric, per, ", denominator", faults, notes)
    return metric._replace(value=value, per=per, uncapped=(metric.value, metric.per))


def _clipped(
    users: pl.LazyFrame, metric: Metric, value: Expression, side: str, faults: list[str], notes: list[str]
) -> Expression:
    """The expression within its quantiles."""
    cap = metric.cap
    assert cap is not None
    column = users.select(value=value.expr)
    counted = column if cap.among == "all" else column.filter(pl.col("value") != 0.0)
    ends = counted.select(
        low=pl.col("value").quantile(cap.lower or 0.0, "lower"),
        high=pl.col("value").quantile(cap.upper or 1.0, "higher"),
    )
    of_all = column.select(
        share=(pl.col("value") != 0.0).mean(), least=pl.col("value").min(), most=pl.col("value").max()
    )
    (low, high), (share, least, most) = (frame.row(0) for frame in pl.collect_all([ends, of_all], engine="streaming"))
    if low is None:  # nobody has any: the test says so itself
        return value
    if low == high and least != most:
        faults.append(_why_empty(metric, cap, side, high, share))
        return value
    text = value.text
    if cap.upper is not None:
        text = f"min({text}, {_number(high)})"
    if cap.lower is not None:
        text = f"max({text}, {_number(low)})"
    among = " who have any" if cap.among == "nonzero" else ""
    told = [f"at {high:g} (quantile {cap.upper:g})"] if cap.upper is not None else []
    told += [f"raised to {low:g} (quantile {cap.lower:g})"] if cap.lower is not None else []
    notes.append(f"{metric.name}{side}: values are capped {' and '.join(told)} of all arms' users{among} together.")
    return expressions.parse(text)


def _number(value: float) -> str:
    """A number of the language, which has no minus before one but a subtraction."""
    return repr(float(value)) if value >= 0 else f"(0 - {-float(value)!r})"


def _why_empty(metric: Metric, cap: CapConfig, side: str, level: float, share: float) -> str:
    head = f"metric {metric.name}{side}: cap: its ends are both {level:g}, so that all users would have the same value"
    if level == 0.0 and share > 0.0:
        quantile = "upper" if cap.upper is not None and cap.upper < 1.0 - share else "upper and lower"
        return (
            f"{head}: only {100 * share:.2g} % of the users have any. Take the quantile among them "
            f"(cap: {{upper: 0.99, among: nonzero}}), or {quantile} above {1.0 - share:.6g}."
        )
    return f"{head}: widen the quantiles."
