"""Quantiles of the users' distribution, which a mean hides, and checks that assume less than Welch's test."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.analysis.column_types import as_number
from abtest.analysis.expressions import Expression, parse
from abtest.analysis.measure import values
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.source import no_column
from abtest.analysis.userlog import UserLog
from abtest.stats.bootstrap import poisson_bootstrap
from abtest.stats.estimate import Estimate, Interval
from abtest.stats.quantiles import quantile_difference
from abtest.stats.ranks import mann_whitney
from micrec.errors import MicrecError

QUANTILES = (0.5, 0.9)
MOST_USERS = 1_000_000  # whose values are resampled and ranked
MOST_ROWS = 20_000_000  # of a log, whose quantiles are compared
_DWELL = "dwell_s"


class QuantileCheck(NamedTuple):
    """One quantile of one metric: P50 and P90 of dwell."""

    metric: Metric
    arm: str
    quantile: float
    estimate: Estimate


class Check(NamedTuple):
    """One metric of one treatment by a method that assumes less.

    Attributes:
        metric: What was measured.
        arm: The treatment.
        test: Name of the method.
        statistic: What it found, in words.
        lift_ci: Interval of the lift, where it gives one: at the plan's level, for this look alone.
        p: Two-sided, where it gives one.
        reason: Why neither is there.
    """

    metric: Metric
    arm: str
    test: str
    statistic: str
    lift_ci: Interval | None
    p: float | None
    reason: str | None


def distribution_checks(
    log: UserLog, plan: AnalysisPlan, alphas: Mapping[str, float]
) -> tuple[list[QuantileCheck], list[Check]]:
    """Quantiles of dwell, and bootstrap and ranks of every primary mean; one column is in memory at a time.

    Bootstrap and ranks look at a random sample of the users where there are more than MOST_USERS, and say so.
    """
    quantiles = [check for metric in log.metrics for check in asked_quantiles(log, metric, plan, alphas)]
    checks: list[Check] = []
    if not plan.checks or plan.design.unit:  # they take users for independent
        return quantiles, checks
    chosen = [metric for metric in log.metrics if metric.role == "primary" and metric.slice == ALL and not metric.per]
    for metric in chosen:
        column = _by_arm(log, metric, plan.arms)
        for arm in plan.treatments:
            control, treatment, alpha = column[plan.control], column[arm], alphas[arm]
            rng = np.random.default_rng([plan.seed, len(checks)])
            if metric.value.plain == _DWELL and not metric.quantiles:
                quantiles += [
                    QuantileCheck(metric, arm, q, quantile_difference(control, treatment, q, alpha=alpha))
                    for q in QUANTILES
                ]
            control, treatment, words = _sample(control, treatment, plan.seed)
            found = [
                _bootstrap(metric, arm, control, treatment, plan.alpha, rng),
                _ranks(metric, arm, control, treatment),
            ]
            checks += [check._replace(statistic=check.statistic + words) for check in found]
    return quantiles, checks


def asked_quantiles(
    log: UserLog, metric: Metric, plan: AnalysisPlan, alphas: Mapping[str, float]
) -> list[QuantileCheck]:
    """Quantiles that a file of metrics asks for: of a metric's values by user, or of rows with users as clusters."""
    if not metric.quantiles:
        return []
    users: dict[str, NDArray[Any]] = {}
    if metric.quantiles_of is None:
        column = _by_arm(log, metric, plan.arms)
    else:
        column, users = row_values(log, metric.quantiles_of, plan.arms)
    return [
        QuantileCheck(
            metric,
            arm,
            q,
            quantile_difference(
                column[plan.control],
                column[arm],
                q,
                control_users=users.get(plan.control),
                treatment_users=users.get(arm),
                alpha=alphas[arm],
            ),
        )
        for arm in plan.treatments
        for q in metric.quantiles
    ]


def row_values(
    log: UserLog, value: Expression, arms: Sequence[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Values of the log's rows, and the user of each, by arm; rows without a value are passed over.

    Of more than ``MOST_ROWS`` rows those of a share of the users are taken, by a hash of their ids.
    """
    if log.fine_rows is None:
        raise MicrecError("quantiles_of: compares rows, and the log has one row per user: leave it out.")
    schema = log.fine_rows.collect_schema()
    missing = [name for name in value.columns if name not in schema]
    if missing:
        raise MicrecError(f"quantiles_of: {no_column(missing[0], schema.names())}")
    number = parse(value.text, lambda name: as_number(name, schema[name])).expr
    rows = log.fine_rows
    if (shares := -(-log.rows // MOST_ROWS)) > 1:
        rows = rows.filter(pl.col("user_id").hash(0) % shares == 0)
    coded = pl.col("arm").cast(pl.String).cast(pl.Enum(arms)).to_physical()
    table = rows.select(arm=coded, user=pl.col("user_id").hash(0), value=number.fill_nan(None))
    found = table.drop_nulls().collect(engine="streaming")
    by_arm = [found.filter(pl.col("arm") == place) for place in range(len(arms))]
    values_ = {arm: part["value"].to_numpy() for arm, part in zip(arms, by_arm, strict=True)}
    return values_, {arm: part["user"].to_numpy() for arm, part in zip(arms, by_arm, strict=True)}


def _by_arm(log: UserLog, metric: Metric, arms: Sequence[str]) -> dict[str, NDArray[Any]]:
    expr = values([metric])[metric.value.text]
    number = pl.col("arm").cast(pl.String).cast(pl.Enum(arms)).to_physical()
    table = log.users.select(arm=number, value=expr).collect(engine="streaming")
    of_row, column = table["arm"].to_numpy(), table["value"].to_numpy()
    return {arm: column[of_row == place] for place, arm in enumerate(arms)}


def _sample(control: NDArray[Any], treatment: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any], str]:
    """At most about MOST_USERS of both arms, and how many in words; all of them if they are fewer."""
    share = MOST_USERS / max(len(control) + len(treatment), 1)
    if share >= 1.0:
        return control, treatment, ""
    rng = np.random.default_rng([seed, MOST_USERS])
    control, treatment = (values[rng.random(len(values), np.float32) < share] for values in (control, treatment))
    return control, treatment, f" (of {len(control) + len(treatment):,} users, drawn at random)"


def _bootstrap(
    metric: Metric, arm: str, control: NDArray[Any], treatment: NDArray[Any], alpha: float, rng: np.random.Generator
) -> Check:
    """At the plan's level: resamples have no tails for the level of an early look."""
    replicates = max(1000, round(50 / alpha))  # some 25 beyond each end of the interval
    found = poisson_bootstrap(control, treatment, rng=rng, replicates=replicates, alpha=alpha)
    words = f"{found.replicates:,} resamples"
    return Check(metric, arm, "Poisson bootstrap", words, found.lift_ci, None, found.reason)


def _ranks(metric: Metric, arm: str, control: NDArray[Any], treatment: NDArray[Any]) -> Check:
    found = mann_whitney(control, treatment)
    words = "undefined" if found.superiority is None else f"a treatment user is above {100 * found.superiority:.1f} %"
    return Check(metric, arm, "Mann-Whitney", words, None, found.p, found.reason)
